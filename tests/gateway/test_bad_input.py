"""Odd and broken requests over real sockets: a clear error or a faithful pass-through, never a 500."""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.settings import Settings
from tests.support.chat_bodies import long_text
from tests.support.fake_upstream import FakeUpstream
from tests.support.live_gateway import LiveGateway, live_gateway
from tests.support.waiting import recent, until

OFFLINE = """
upstreams: {off: {offline: true}}
models: {"*": {upstream: off}}
policies: {default: {trigger_tokens: 256}}
"""
LONG = long_text(60)
SURROGATE = "a \ud800 b "


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def offline(shared_upstream: FakeUpstream, data: Path) -> Iterator[LiveGateway]:
    with live_gateway(shared_upstream, OFFLINE, settings=Settings(data_dir=str(data))) as gateway:
        yield gateway


def post(gateway: LiveGateway, body: bytes, path: str = "/v1/chat/completions", **headers: str) -> Any:
    with gateway.client() as client:
        return client.post(path, content=body, headers={k.replace("_", "-"): v for k, v in headers.items()})


def chat(content: Any, **more: Any) -> bytes:
    raw = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": content}], **more}
    return json.dumps(raw).encode()


@pytest.mark.parametrize("content", [SURROGATE, SURROGATE + LONG, LONG + SURROGATE + LONG])
@pytest.mark.parametrize("stream", [True, False])
def test_unpaired_surrogates_reach_the_offline_upstream(
    offline: LiveGateway, content: str, stream: bool
) -> None:
    for path, body in (
        ("/v1/chat/completions", chat(content, stream=stream)),
        ("/v1/completions", json.dumps({"model": "m", "prompt": content, "stream": stream}).encode()),
        ("/v1/responses", json.dumps({"model": "m", "input": content, "stream": stream}).encode()),
        ("/v1/embeddings", json.dumps({"model": "m", "input": content}).encode()),
        ("/v1/messages", chat(content, max_tokens=5, stream=stream)),
    ):
        reply = post(offline, body, path)
        assert reply.status_code == 200, (path, reply.text)


def test_unpaired_surrogates_are_translated(shared_upstream: FakeUpstream) -> None:
    with live_gateway(shared_upstream) as gateway:
        reply = post(gateway, chat(SURROGATE, max_tokens=5), "/v1/messages")
        assert reply.status_code == 200
        assert json.loads(shared_upstream.seen[-1].body)["messages"][0]["content"] == SURROGATE
        reply = post(gateway, chat(SURROGATE, max_tokens=5), "/v1/messages/count_tokens")
        assert reply.json()["input_tokens"] > 0
        reply = post(gateway, chat(SURROGATE + LONG), "/v1/compress")
        assert reply.status_code == 200
        assert json.loads(reply.text)["messages"][0]["content"] == SURROGATE + LONG


@pytest.mark.parametrize("name", ["a\ud800", "a\nb", "a\0b", "m" * 513])
def test_a_model_by_no_name_is_refused_and_costs_nobody_the_books(
    offline: LiveGateway, data: Path, name: str
) -> None:
    """An unpaired surrogate cannot be written: the receipts booked along with this one were lost."""
    reply = post(offline, json.dumps({"model": name, "messages": []}).encode())
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "model"
    good = post(offline, chat("Hello"), x_request_id=f"beside-{len(name)}-{ord(name[1])}")
    assert good.status_code == 200
    until(lambda: any(entry["request_id"] == good.headers["x-request-id"] for entry in recent(data)))


@pytest.mark.parametrize("options", [5, "x", [1], {"include_usage": "yes"}, None])
def test_stream_options_of_any_type(offline: LiveGateway, options: Any) -> None:
    assert post(offline, chat("hi", stream=True, stream_options=options)).status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_requests_that_are_not_shortened(
    offline: LiveGateway, shared_upstream: FakeUpstream, encoding: str
) -> None:
    """Upstreams that read the body get it unpacked; those that pass it on, as it came."""
    plain = chat("Hello", max_tokens=5)
    packed = gzip.compress(plain) if encoding == "gzip" else zlib.compress(plain)
    for path in ("/v1/chat/completions", "/v1/messages"):
        assert post(offline, packed, path, content_encoding=encoding).status_code == 200
    with live_gateway(shared_upstream) as gateway:
        assert post(gateway, packed, content_encoding=encoding).status_code == 200
        assert shared_upstream.seen[-1].body == packed
        assert post(gateway, packed, "/v1/messages", content_encoding=encoding).status_code == 200
        assert json.loads(shared_upstream.seen[-1].body)["messages"][0]["content"] == "Hello"
        assert "content-encoding" not in shared_upstream.seen[-1].headers


def test_gzip_in_several_members(offline: LiveGateway) -> None:
    plain = chat(LONG)
    members = b"".join(gzip.compress(plain[n : n + 700]) for n in range(0, len(plain), 700))
    reply = post(offline, members, content_encoding="gzip")
    assert (reply.status_code, reply.headers["x-terse-compression"]) == (200, "applied")
    for broken in (members + b"junk", members[:-3], gzip.compress(b"a" * 10) + members[:5]):
        assert post(offline, broken, content_encoding="gzip").status_code == 400
    bomb = gzip.compress(b" " * 20_000_000) * 2
    assert post(offline, bomb, content_encoding="gzip").status_code == 413


@pytest.mark.parametrize(
    "raw",
    [
        {"messages": [{"role": "user", "content": {"a": 1}}]},
        {"messages": [{"role": "user", "content": [5, {"type": []}, {"type": "tool_result", "content": 5}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": 5}]}]},
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": 5, "input": 7}]}]},
        {"messages": [], "system": 5},
        {"messages": [], "system": [5]},
        {"messages": [], "tools": 5},
        {"messages": [], "tools": [5]},
        {"messages": [], "tools": [{"name": 5}], "tool_choice": 5},
    ],
)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_what_cannot_be_translated_is_the_clients_mistake(
    shared_upstream: FakeUpstream, raw: dict[str, Any], path: str
) -> None:
    with live_gateway(shared_upstream) as gateway:
        reply = post(gateway, json.dumps({"model": "gpt-4o-mini", "max_tokens": 5, **raw}).encode(), path)
    assert reply.status_code in (200, 400)
    if reply.status_code == 400:
        assert reply.json()["error"]["type"] == "invalid_request_error"


def test_a_body_that_is_no_http_ends_without_a_500(offline: LiveGateway) -> None:
    url = httpx.URL(offline.url)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    for broken in (b"zz\r\nxx", b"5\r\nhel", b"-1\r\n"):
        with socket.create_connection((url.host, url.port or 80), timeout=10) as client:
            client.sendall(head + broken)
            client.shutdown(socket.SHUT_WR)
            answer = client.recv(65536)
        assert b" 500 " not in answer.split(b"\r\n")[0]
    assert post(offline, chat("Hello")).status_code == 200


def test_pipelined_requests_are_answered_in_order(offline: LiveGateway) -> None:
    url = httpx.URL(offline.url)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
    texts = ["first", "second " + LONG, "third"]
    with socket.create_connection((url.host, url.port or 80), timeout=20) as client:
        client.sendall(b"".join(head % len(chat(text)) + chat(text) for text in texts))
        answers = b""
        while answers.count(b"chat.completion") < 3:
            answers += client.recv(65536)
    assert [answers.find(text[:6].encode()) for text in texts] == sorted(
        answers.find(text[:6].encode()) for text in texts
    )
    assert b"first" in answers
