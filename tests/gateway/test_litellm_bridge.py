"""Other providers through litellm, against a fake Anthropic on a real socket."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import orjson
import pytest

from gateway.config import Secret, UpstreamConfig
from gateway.errors import BadRequest, UpstreamBroke, UpstreamTimeout, UpstreamUnreachable
from gateway.shapes import Surface
from gateway.upstream.base import UpstreamCall, UpstreamReply
from gateway.upstream.litellm_bridge import LitellmUpstream, load_litellm, map_litellm_error
from tests.support import chat_bodies
from tests.support.fake_upstream import ANSWER, FakeUpstream, Script
from tests.support.live_server import free_port

# What litellm and its dependencies warn about is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")
MODEL = "claude-test"
PATHS: dict[Surface, str] = {
    "chat": "/chat/completions",
    "responses": "/responses",
    "completions": "/completions",
}


@pytest.fixture(scope="module", autouse=True)
def no_warnings_at_import() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asyncio.run(load_litellm())
        yield


@pytest.fixture(autouse=True)
async def closed_connections() -> AsyncIterator[None]:
    yield
    await bridge_to("").close()


def bridge_to(url: str) -> LitellmUpstream:
    config = UpstreamConfig(
        "claude", base_url=url, litellm="anthropic", api_key=Secret("sk-ant"), read_timeout=5
    )
    return LitellmUpstream(config)


async def ask(url: str, surface: Surface, request: dict[str, Any]) -> UpstreamReply:
    body = orjson.dumps(request)
    call = UpstreamCall(surface, PATHS[surface], body, MODEL, bool(request.get("stream")))
    return await bridge_to(url).send(call)


async def test_chat_both_ways(upstream: FakeUpstream) -> None:
    reply = await ask(
        upstream.url, "chat", chat_bodies.conversation([("system", "Be brief."), ("user", "Hi")])
    )
    answer = orjson.loads(await reply.body.read())
    got = upstream.seen[-1]
    assert answer["choices"][0]["message"]["content"] == ANSWER
    assert answer["usage"]["completion_tokens"] == 10
    assert (got.path, got.headers["x-api-key"]) == ("/v1/messages", "sk-ant")
    assert got.json["model"] == MODEL
    assert "Be brief." in str(got.json["system"])


async def test_tool_calls_both_ways(upstream: FakeUpstream) -> None:
    reply = await ask(upstream.url, "chat", chat_bodies.chat(tools=[chat_bodies.WEATHER_TOOL]))
    call = orjson.loads(await reply.body.read())["choices"][0]["message"]["tool_calls"][0]["function"]
    assert (call["name"], orjson.loads(call["arguments"])) == ("get_weather", {"city": "Paris"})
    assert upstream.seen[-1].json["tools"][0]["input_schema"]["required"] == ["city"]


async def test_streams_come_as_they_are_made(upstream: FakeUpstream) -> None:
    request = chat_bodies.chat(stream=True, stream_options={"include_usage": True})
    reply = await ask(upstream.url, "chat", request)
    chunks = [chunk async for chunk in reply.body]
    values = [orjson.loads(chunk[6:]) for chunk in chunks[:-1]]
    text = "".join(v["choices"][0]["delta"].get("content") or "" for v in values if v["choices"])
    assert reply.event_stream
    assert text.strip() == ANSWER
    assert any((v.get("usage") or {}).get("completion_tokens") == 10 for v in values)
    assert chunks[-1] == b"data: [DONE]\n\n"


async def test_responses_surface(upstream: FakeUpstream) -> None:
    reply = await ask(upstream.url, "responses", {"model": MODEL, "input": "hi"})
    assert orjson.loads(await reply.body.read())["output"][0]["content"][0]["text"] == ANSWER


async def test_a_providers_error_is_a_reply(upstream: FakeUpstream) -> None:
    body = b'{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}'
    upstream.then(Script(status=429, headers={"content-type": "application/json"}, body=body))
    reply = await ask(upstream.url, "chat", chat_bodies.chat())
    assert reply.status == 429
    assert "slow down" in orjson.loads(await reply.body.read())["error"]["message"]
    assert len(upstream.seen) == 1  # retries are the gateway's, not litellm's


@pytest.mark.parametrize(
    "field", ["api_base", "base_url", "api_key", "custom_llm_provider", "extra_headers", "mock_response"]
)
async def test_clients_cannot_steer_the_operators_key(upstream: FakeUpstream, field: str) -> None:
    with pytest.raises(BadRequest, match=field):
        await ask(upstream.url, "chat", chat_bodies.chat(**{field: "http://elsewhere"}))
    assert upstream.seen == []


async def test_no_provider_there() -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    try:
        reply = await ask(url, "chat", chat_bodies.chat())
    except UpstreamUnreachable:
        return
    assert reply.status >= 500


async def test_a_closed_stream_ends_the_call(upstream: FakeUpstream) -> None:
    start = {"id": "m", "type": "message", "role": "assistant", "model": MODEL, "content": [], "usage": {}}
    first = (
        b"event: message_start\ndata: " + orjson.dumps({"type": "message_start", "message": start}) + b"\n\n"
    )
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}}
    more = b"event: content_block_delta\ndata: " + orjson.dumps(delta) + b"\n\n"
    headers = {"content-type": "text/event-stream"}
    upstream.then(Script(headers=headers, chunks=[first, *[more] * 500], pause=0.02))
    reply = await ask(upstream.url, "chat", chat_bodies.chat(stream=True))
    assert await anext(aiter(reply.body))
    await reply.body.close()
    assert await asyncio.to_thread(upstream.client_left)


def test_every_error_of_litellm_is_mapped() -> None:
    import litellm

    kinds = [k for k in vars(litellm.exceptions).values() if isinstance(k, type) and issubclass(k, Exception)]
    assert len(kinds) > 15
    for kind in kinds:
        error = kind.__new__(kind)
        error.message = "m"
        status = getattr(kind, "status_code", None)
        if issubclass(kind, openai.APIStatusError):
            error.status_code = status or 418  # type: ignore[attr-defined]
        mapped = map_litellm_error(error, "p")
        if issubclass(kind, openai.APITimeoutError):
            assert isinstance(mapped, UpstreamTimeout)
        elif issubclass(kind, openai.APIConnectionError):
            assert isinstance(mapped, UpstreamUnreachable)
        elif issubclass(kind, openai.APIStatusError):
            assert mapped.status == (status or 418)
        else:
            assert isinstance(mapped, UpstreamBroke)


def test_the_gateway_starts_without_litellm() -> None:
    code = "import sys, gateway.app; sys.exit('litellm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
