"""What the upstream receives and the client gets back, to the byte, over real sockets."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

import orjson
import pytest

from tests.support import chat_bodies
from tests.support.fake_upstream import FakeUpstream, Script
from tests.support.live_gateway import LiveGateway, live_gateway

OFF = """
upstreams: {up: {base_url: "%(url)s", api_key: sk-upstream}}
models:
  renamed: {upstream: up, model: gpt-4o-mini-2024}
  "*": {upstream: up}
policies: {default: {mode: "off"}}
"""
UNKNOWN_FIELDS = {
    "tools": [chat_bodies.WEATHER_TOOL],
    "n": 2,
    "logprobs": True,
    "seed": 2**53 + 1,
    "temperature": 1e-7,
    "x_new_field": {"deep": [1, None, "Ω \u2028"]},
}


@pytest.fixture(scope="module")
def off(shared_upstream: FakeUpstream) -> Iterator[LiveGateway]:
    with live_gateway(shared_upstream, OFF) as gateway:
        yield gateway


def test_off_sends_the_clients_bytes(off: LiveGateway, upstream: FakeUpstream) -> None:
    sent = chat_bodies.body(chat_bodies.rag(**UNKNOWN_FIELDS))
    with off.client() as client:
        reply = client.post("/v1/chat/completions", content=sent)
    assert upstream.seen[-1].body == sent
    assert reply.headers["x-terse-compression"] == "off"
    assert len(reply.json()["choices"]) == 2


@pytest.mark.parametrize("surface", ["chat/completions", "completions", "responses", "embeddings"])
def test_every_surface_goes_to_its_path(off: LiveGateway, upstream: FakeUpstream, surface: str) -> None:
    sent = b'{ "model":"m",\n "messages":[], "input": "a\\u00e9b", "prompt": "x" }'
    with off.client() as client:
        reply = client.post("/v1/" + surface, content=sent)
    assert reply.status_code == 200
    assert upstream.seen[-1].path == "/v1/" + surface
    assert upstream.seen[-1].body == sent


def test_skipped_sends_the_clients_bytes(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    sent = chat_bodies.body(chat_bodies.chat())
    with gateway.client() as client:
        reply = client.post("/v1/chat/completions", content=sent)
    assert upstream.seen[-1].body == sent
    assert reply.headers["x-terse-compression"] == "skipped"
    assert reply.headers["x-terse-skip-reason"] == "below-trigger"


def test_applied_changes_the_text_alone(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    asked = chat_bodies.rag(**UNKNOWN_FIELDS)
    with gateway.client() as client:
        reply = client.post("/v1/chat/completions", content=chat_bodies.body(asked))
    got = upstream.seen[-1].json
    assert reply.headers["x-terse-compression"] == "applied"
    assert int(reply.headers["x-terse-tokens-saved"]) > 500
    assert {k: v for k, v in got.items() if k != "messages"} == {
        k: v for k, v in asked.items() if k != "messages"
    }
    assert got["messages"][0] == asked["messages"][0]
    shortened = got["messages"][1]["content"]
    assert len(shortened) < len(asked["messages"][1]["content"])
    assert shortened.endswith("When is the delivery due?")


def test_lone_surrogates_and_special_tokens_pass(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    text = chat_bodies.long_text(60).replace("blue", "<|endoftext|> [SEP] \\ud83d blue")
    sent = b'{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "' + text.encode() + b'"}]}'
    with gateway.client() as client:
        reply = client.post("/v1/chat/completions", content=sent)
    assert reply.status_code == 200
    assert upstream.seen[-1].body == sent


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_body_goes_on_as_it_came(
    off: LiveGateway, upstream: FakeUpstream, encoding: str
) -> None:
    plain = chat_bodies.body(chat_bodies.chat())
    sent = gzip.compress(plain) if encoding == "gzip" else zlib.compress(plain)
    with off.client() as client:
        reply = client.post("/v1/chat/completions", content=sent, headers={"content-encoding": encoding})
    assert reply.status_code == 200
    assert upstream.seen[-1].body == sent
    assert upstream.seen[-1].headers["content-encoding"] == encoding
    assert int(reply.headers["x-terse-tokens-before"]) > 0


def test_a_compressed_body_that_is_shortened_goes_on_plain(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    sent = gzip.compress(chat_bodies.body(chat_bodies.rag()))
    with gateway.client() as client:
        reply = client.post("/v1/chat/completions", content=sent, headers={"content-encoding": "gzip"})
    assert reply.headers["x-terse-compression"] == "applied"
    assert "content-encoding" not in upstream.seen[-1].headers
    assert upstream.seen[-1].json["model"] == "gpt-4o-mini"
    assert int(upstream.seen[-1].headers["content-length"]) == len(upstream.seen[-1].body)


def test_rename_changes_one_field(off: LiveGateway, upstream: FakeUpstream) -> None:
    told = b"""{"messages": [{"role": "user", "content": "the \\"model\\": \\"renamed\\""}],"""
    sent = told + b"""  "model" :\t"renamed", "n": 1}"""
    with off.client() as client:
        client.post("/v1/chat/completions", content=sent)
    assert upstream.seen[-1].body == sent.replace(b'\t"renamed"', b'\t"gpt-4o-mini-2024"')


def test_headers_that_cross(off: LiveGateway, upstream: FakeUpstream) -> None:
    extra = {
        "x-terse-compress": "off",
        "x-request-id": "mine-1",
        "cookie": "a=b",
        "x-api-key": "secret",
        "openai-organization": "org-1",
        "user-agent": "my agent/1",
        "accept-encoding": "br, gzip;q=0.5, zstd",
        "x-forwarded-for": "10.0.0.1",
    }
    with off.client(**extra) as client:
        reply = client.post("/v1/chat/completions", content=chat_bodies.body(chat_bodies.chat()))
    got = upstream.seen[-1].headers
    assert got["authorization"] == "Bearer sk-upstream"
    assert got["openai-organization"] == "org-1"
    assert got["user-agent"] == "my agent/1"
    assert got["accept-encoding"] == "gzip;q=0.5"
    assert not {"cookie", "x-api-key", "x-request-id", "x-forwarded-for"} & set(got)
    assert not [name for name in got if name.startswith("x-terse")]
    assert reply.headers["x-request-id"] == "mine-1"
    assert reply.headers["llm_provider-x-request-id"] == "req_upstream"
    assert reply.headers["openai-processing-ms"] == "7"


def test_a_gzip_reply_reaches_the_client_as_it_is(off: LiveGateway, upstream: FakeUpstream) -> None:
    value = {"choices": [], "usage": {"prompt_tokens": 1234, "completion_tokens": 5}}
    packed = gzip.compress(orjson.dumps(value))
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    upstream.then(Script(headers=headers, body=packed))
    with (
        off.client() as client,
        client.stream("POST", "/v1/chat/completions", json=chat_bodies.chat()) as reply,
    ):
        raw = b"".join(reply.iter_raw())
    assert raw == packed
    assert reply.headers["content-encoding"] == "gzip"
    assert reply.headers["content-length"] == str(len(packed))
    assert float(reply.headers["x-terse-cost-usd"]) == pytest.approx(1234 * 0.15e-6 + 5 * 0.6e-6)


def test_upstream_errors_keep_status_and_body(off: LiveGateway, upstream: FakeUpstream) -> None:
    body = b'{"error": {"message": "no such thing", "type": "invalid_request_error", "code": null}}'
    upstream.then(Script(status=422, headers={"content-type": "application/json", "x-why": "w"}, body=body))
    with off.client() as client:
        reply = client.post("/v1/chat/completions", json=chat_bodies.chat())
    assert (reply.status_code, reply.content, reply.headers["x-why"]) == (422, body, "w")
    assert float(reply.headers["x-terse-cost-usd"]) == 0


def test_stream_bytes_are_unchanged(off: LiveGateway, upstream: FakeUpstream) -> None:
    chunks = [b'data: {"choices":[{"del', b'ta":{}}]}\r\n\r\n: ping\n\n', b"data: [DONE]\n\n"]
    upstream.then(Script(headers={"content-type": "text/event-stream"}, chunks=chunks, pause=0.01))
    with off.client() as client:
        reply = client.post("/v1/chat/completions", json=chat_bodies.chat(stream=True))
    assert reply.content == b"".join(chunks)
    assert reply.headers["x-accel-buffering"] == "no"
    assert reply.headers["x-terse-compression"] == "off"
    assert "content-length" not in reply.headers


def test_without_a_key_of_ours_the_clients_goes_on(upstream: FakeUpstream) -> None:
    yaml = 'upstreams: {up: {base_url: "%(url)s"}}\nmodels: {"*": {upstream: up}}\n'
    with live_gateway(upstream, yaml) as gateway, gateway.client() as client:
        client.post("/v1/chat/completions", json=chat_bodies.chat())
    assert upstream.seen[-1].headers["authorization"] == "Bearer any"


def test_a_teams_key_never_goes_on(upstream: FakeUpstream) -> None:
    yaml = 'upstreams: {up: {base_url: "%(url)s"}}\nmodels: {"*": {upstream: up}}\nteams: {search: {}}\n'
    with live_gateway(upstream, yaml) as gateway, gateway.client() as client:
        reply = client.post("/v1/chat/completions", json=chat_bodies.chat())
    assert reply.status_code == 401
    assert upstream.seen == []


@pytest.mark.parametrize("size", [2**18, 2**18 + 1, 3_000_000])
def test_a_large_body_arrives_to_the_byte(off: LiveGateway, upstream: FakeUpstream, size: int) -> None:
    text = ("Wörter, die lang sind, und 🙂 " * (size // 20))[:size]
    for model, sent_on in (("any", "any"), ("renamed", "gpt-4o-mini-2024")):
        raw = {"messages": [{"role": "user", "content": text}], "model": model, "n": 1.0}
        sent = orjson.dumps(raw)
        with off.client() as client:
            reply = client.post("/v1/chat/completions", content=sent)
        assert reply.status_code == 200
        assert upstream.seen[-1].body == sent.replace(b'"%b"' % model.encode(), b'"%b"' % sent_on.encode())
        assert upstream.seen[-1].headers["content-length"] == str(len(upstream.seen[-1].body))
