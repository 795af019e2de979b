"""Streams, clients that leave, and upstreams that break: over real sockets, because only those show it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import httpx
import orjson
import pytest

from tests.support import chat_bodies
from tests.support.fake_upstream import FakeUpstream, Script
from tests.support.live_gateway import MODELS, LiveGateway, live_gateway
from tests.support.live_server import free_port

SSE = {"content-type": "text/event-stream"}
FIRST = b'data: {"choices":[{"index":0,"delta":{"content":"one "}}]}\n\n'
NO_RETRIES = MODELS.replace("api_key: sk-upstream", "api_key: sk-upstream, retries: 0, read_timeout: 0.5")


def raw_request(gateway: LiveGateway, path: str, body: bytes) -> socket.socket:
    """A connection on which one request was sent and nothing was read."""
    host, port = gateway.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def test_the_first_byte_comes_before_the_last(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    gate = threading.Event()
    upstream.then(Script(headers=SSE, chunks=[FIRST, b"data: [DONE]\n\n"], gate=gate))
    request = chat_bodies.chat(stream=True)
    with gateway.client() as client, client.stream("POST", "/v1/chat/completions", json=request) as reply:
        assert reply.headers["x-terse-tokens-before"]
        chunks = reply.iter_raw()
        assert next(chunks) == FIRST  # while the upstream waits for us
        gate.set()
        assert b"".join(chunks) == b"data: [DONE]\n\n"


def test_client_that_leaves_while_waiting_ends_the_upstream_call(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    upstream.then(Script(hang=True))
    connection = raw_request(gateway, "/v1/chat/completions", chat_bodies.body(chat_bodies.chat()))
    assert upstream.arrived()
    left_at = time.monotonic()
    connection.close()
    assert upstream.client_left()
    assert time.monotonic() - left_at < 1


def test_client_that_leaves_a_stream_ends_the_upstream_call(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    upstream.then(Script(headers=SSE, chunks=[FIRST] * 1000, pause=0.02))
    body = chat_bodies.body(chat_bodies.chat(stream=True))
    connection = raw_request(gateway, "/v1/chat/completions", body)
    assert b"200 OK" in connection.recv(4096)
    left_at = time.monotonic()
    connection.close()
    assert upstream.client_left()
    assert time.monotonic() - left_at < 1


def test_a_stream_that_breaks_ends_with_an_error_event(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.then(Script(headers=SSE, chunks=[FIRST, b'data: {"cho'], pause=0.02, break_after=2))
    with gateway.client() as client:
        reply = client.post("/v1/chat/completions", json=chat_bodies.chat(stream=True))
    assert reply.content.startswith(FIRST + b'data: {"cho\n\n')
    error = orjson.loads(reply.content.rsplit(b"data: ", 1)[1])["error"]
    assert (error["code"], error["type"]) == ("upstream_broke", "upstream_error")


@pytest.mark.parametrize(
    ("path", "request_body", "shape"),
    [
        ("/v1/messages", {"max_tokens": 5}, ("error", "api_error")),
        ("/v1/responses", {"input": "hi"}, ("error", None)),
    ],
)
def test_the_error_event_has_the_surfaces_shape(
    upstream: FakeUpstream, path: str, request_body: dict[str, object], shape: tuple[str, str | None]
) -> None:
    yaml = MODELS.replace("api_key:", "anthropic: true, api_key:") if path == "/v1/messages" else MODELS
    upstream.then(Script(headers=SSE, chunks=[b"event: ping\ndata: {}\n\n", b" "], break_after=1))
    with live_gateway(upstream, yaml) as gateway, gateway.client() as client:
        reply = client.post(path, json={**chat_bodies.chat(stream=True), **request_body})
    name, data = reply.content.rsplit(b"event: ", 1)[1].split(b"\n", 1)
    event = orjson.loads(data.removeprefix(b"data: "))
    assert name == b"error"
    assert (event["type"], event.get("error", {}).get("type")) == shape


def test_retries_before_the_first_byte(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    busy = Script(status=503, headers={"retry-after": "0"}, body=b"busy")
    upstream.then(busy, Script(break_after=0))
    with gateway.client() as client:
        reply = client.post("/v1/chat/completions", json=chat_bodies.chat())
    assert reply.status_code == 200
    assert len(upstream.seen) == 3


def test_a_stream_that_breaks_before_its_first_byte_is_tried_again(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    upstream.then(Script(headers=SSE, chunks=[b""], break_after=1))
    with gateway.client() as client:
        reply = client.post("/v1/chat/completions", json=chat_bodies.chat(stream=True))
    assert reply.content.endswith(b"data: [DONE]\n\n")
    assert len(upstream.seen) == 2


def test_nothing_is_tried_again_after_the_first_byte(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.then(Script(headers=SSE, chunks=[FIRST, FIRST], pause=0.02, break_after=1))
    with gateway.client() as client:
        client.post("/v1/chat/completions", json=chat_bodies.chat(stream=True))
    assert len(upstream.seen) == 1


def test_the_last_failure_is_passed_on(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.then(*[Script(status=429, headers={"retry-after": "0.01"}, body=b'{"error":{}}')] * 3)
    with gateway.client() as client:
        reply = client.post("/v1/chat/completions", json=chat_bodies.chat())
    assert (reply.status_code, reply.content, reply.headers["retry-after"]) == (429, b'{"error":{}}', "0.01")
    assert len(upstream.seen) == 3


def test_a_long_retry_after_is_not_waited_for(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.then(Script(status=429, headers={"retry-after": "60"}, body=b"{}"))
    with gateway.client() as client:
        reply = client.post("/v1/chat/completions", json=chat_bodies.chat())
    assert (reply.status_code, reply.headers["retry-after"], len(upstream.seen)) == (429, "60", 1)


def test_fallbacks_take_over(upstream: FakeUpstream) -> None:
    yaml = f"""
upstreams:
  dead: {{base_url: "http://127.0.0.1:{free_port()}/v1", retries: 0}}
  up: {{base_url: "%(url)s"}}
models:
  first: {{upstream: dead, fallbacks: [second]}}
  second: {{upstream: up, model: second-at-home}}
"""
    with live_gateway(upstream, yaml) as gateway, gateway.client() as client:
        reply = client.post("/v1/chat/completions", json=chat_bodies.chat(model="first"))
    assert reply.status_code == 200
    assert upstream.seen[-1].json["model"] == "second-at-home"


def test_an_upstream_that_is_not_there(upstream: FakeUpstream) -> None:
    yaml = f'upstreams: {{up: {{base_url: "http://127.0.0.1:{free_port()}/v1", retries: 0}}}}\n'
    yaml += 'models: {"*": {upstream: up}}\n'
    with live_gateway(upstream, yaml) as gateway, gateway.client() as client:
        chat = client.post("/v1/chat/completions", json=chat_bodies.chat())
        messages = client.post("/v1/messages", json={**chat_bodies.chat(), "max_tokens": 5})
    assert chat.status_code == messages.status_code == 502
    assert chat.json()["error"]["code"] == "upstream_unreachable"
    assert messages.json()["error"]["type"] == "api_error"
    assert str(free_port())[:3] not in chat.json()["error"]["message"]


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        (Script(hang=True), 504, "upstream_timeout"),
        (Script(break_after=0), 502, "upstream_broke"),
        (
            Script(
                headers={"content-type": "application/json", "content-length": "99"},
                chunks=[b"{"],
                break_after=1,
            ),
            502,
            "upstream_broke",
        ),
    ],
)
def test_upstreams_that_fail(upstream: FakeUpstream, script: Script, status: int, code: str) -> None:
    upstream.then(script)
    with live_gateway(upstream, NO_RETRIES) as gateway, gateway.client() as client:
        reply = client.post("/v1/chat/completions", json=chat_bodies.chat())
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b'{"model": "gpt-4o-mini",\n "messages": [}', 400, "line 2"),
        (b'{"model": "gpt-4o-mini", "messages": "hi"}', 400, "messages: expected a list, got a string"),
        (b'{"model": "gpt-4o-mini", "messages": [3]}', 400, "messages[0]: expected an object, got a number"),
        (b'{"model": 4, "messages": []}', 400, "model: expected the name of a model"),
        (b'{"model": "gpt-4o-mini", "messages": [], "stream": "yes"}', 400, "stream: expected true or false"),
        (b'["model"]', 400, "expected a JSON object, got a list"),
        (b'{"model": "\xff"}', 400, "not UTF-8: byte 11"),
        (b"", 400, "not JSON"),
        (b'{"model": "no-such", "messages": []}', 404, "does not exist"),
        (b"[" * 100_000, 400, "not JSON"),
    ],
)
def test_bad_requests_say_what_and_where(
    gateway: LiveGateway, upstream: FakeUpstream, body: bytes, status: int, said: str
) -> None:
    with gateway.client() as client:
        reply = client.post("/v1/chat/completions", content=body)
    assert reply.status_code == status
    assert said in reply.json()["error"]["message"]
    assert upstream.seen == []


def test_unusual_but_good_requests_pass(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    many = [("user" if n % 2 else "assistant", f"turn {n}") for n in range(3000)]
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:,x"}}]
    requests = [
        chat_bodies.chat(messages=[]),
        chat_bodies.chat(""),
        chat_bodies.chat(parts),
        chat_bodies.chat(None),
        chat_bodies.conversation(many),
    ]
    with gateway.client() as client:
        for request in requests:
            sent = chat_bodies.body(request)
            assert client.post("/v1/chat/completions", content=sent).status_code == 200
            if len(sent) < 1000:
                assert upstream.seen[-1].body == sent


def test_a_body_that_is_too_large(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    huge = 200 * 1024 * 1024
    host, port = gateway.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {huge}\r\n\r\n"
    connection.sendall(head.encode() + b"{" * 1000)
    assert b"413" in connection.recv(4096).split(b"\r\n")[0]
    connection.close()


def test_unknown_paths_and_methods(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        nothing, wrong = client.get("/v1/nothing"), client.get("/v1/chat/completions")
    assert (nothing.status_code, nothing.json()["error"]["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")


def test_many_requests_at_once_do_not_mix(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    async def ask_all() -> list[str]:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as client:

            async def ask(number: int) -> str:
                request = chat_bodies.chat(f"number {number}", model="gpt-4o-mini", seed=number)
                reply = await client.post(
                    "/v1/chat/completions", json=request, headers={"x-request-id": f"id-{number}"}
                )
                assert reply.status_code == 200
                return reply.headers["x-request-id"]

            return list(await asyncio.gather(*(ask(number) for number in range(100))))

    assert asyncio.run(ask_all()) == [f"id-{number}" for number in range(100)]
    assert sorted(seen.json["seed"] for seen in upstream.seen) == list(range(100))
