"""A provider on a real socket: answers in OpenAI's and Anthropic's shapes, and misbehaves on demand."""

from __future__ import annotations

import asyncio
import json
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from tests.support.live_server import LoopThread, free_port

ANSWER = "Hello there, how can I help you today?"


@dataclass(frozen=True)
class Seen:
    """One request as it arrived, to the byte."""

    method: str
    path: str
    headers: Mapping[str, str]  # lower-case names
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Script:
    """What to do with one request instead of answering well.

    With `chunks` the body is streamed, `pause` seconds between two of them; after `break_after` of them the
    connection is cut. `before` seconds pass before the status line.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    chunks: Sequence[bytes] = ()
    pause: float = 0.0
    before: float = 0.0
    break_after: int | None = None
    hang: bool = False  # never answers; ends when the client leaves
    gate: threading.Event | None = None  # waits for it after the first chunk


class FakeUpstream:
    """`url` is its address; `seen` what it got; `left` counts the clients that left before the end."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1"
        self.root = f"http://127.0.0.1:{port}"
        self.seen: list[Seen] = []
        self.left = threading.Semaphore(0)
        self.answer_text = ANSWER
        # Instead of the counted one, or made from the request's body.
        self.usage: dict[str, Any] | Callable[[dict[str, Any]], dict[str, Any]] | None = None
        self._scripts: list[Script] = []
        self._came = threading.Event()

    def then(self, *scripts: Script) -> None:
        """The next requests meet these scripts, in order; afterwards it answers well again."""
        self._scripts.extend(scripts)

    def reset(self) -> None:
        """Forgets what it saw and what it should do."""
        self.seen.clear()
        self._came.clear()
        self._scripts.clear()
        self.answer_text, self.usage = ANSWER, None
        while self.left.acquire(blocking=False):
            pass

    def arrived(self, timeout: float = 5.0) -> bool:
        """Whether a request arrived within `timeout` seconds since the last reset."""
        return self._came.wait(timeout)

    def client_left(self, timeout: float = 5.0) -> bool:
        """Whether a client hung up on an unfinished answer within `timeout` seconds."""
        return self.left.acquire(timeout=timeout)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.content.read()  # of any size; `request.read` stops at 1 MB
        headers = {name.lower(): value for name, value in request.headers.items()}
        self._came.set()
        self.seen.append(Seen(request.method, request.path_qs, headers, body))
        try:
            if self._scripts:
                return await self._play(self._scripts.pop(0), request)
            return await self._answer(request, body)
        except (asyncio.CancelledError, ConnectionResetError):
            self.left.release()
            raise

    async def _play(self, script: Script, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(script.before)
        if script.hang:
            await asyncio.Event().wait()
        if script.break_after == 0:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if not script.chunks:
            return web.Response(status=script.status, headers=script.headers, body=script.body)
        response = web.StreamResponse(status=script.status, headers=script.headers)
        await response.prepare(request)
        for number, chunk in enumerate(script.chunks, 1):
            await response.write(chunk)
            if script.gate is not None and number == 1:
                await asyncio.to_thread(script.gate.wait, 10)
            if script.break_after == number:
                assert request.transport is not None
                request.transport.close()
                return response
            await asyncio.sleep(script.pause)
        await response.write_eof()
        return response

    async def _answer(self, request: web.Request, body: bytes) -> web.StreamResponse:
        path = request.path.removeprefix("/v1")
        if path == "/models":
            return _json({"object": "list", "data": [{"id": "gpt-4o-mini", "object": "model"}]})
        if request.headers.get("content-encoding") in ("gzip", "deflate"):
            body = zlib.decompress(body, 47)
        asked = json.loads(body)  # takes lone surrogates, too
        stream = bool(asked.get("stream"))
        builder = _SHAPES[path]
        usage = self.usage(asked) if callable(self.usage) else self.usage
        events, whole = builder(asked, self.answer_text, usage)
        if not stream:
            return _json(whole)
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for event in events:
            await response.write(event)
        await response.write_eof()
        return response


def _json(value: Any) -> web.Response:
    headers = {"x-request-id": "req_upstream", "openai-processing-ms": "7"}
    return web.Response(body=orjson.dumps(value), content_type="application/json", headers=headers)


def _data(value: Any) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def _named(value: dict[str, Any]) -> bytes:
    return b"event: " + value["type"].encode() + b"\n" + _data(value)


def _words(asked: Mapping[str, Any]) -> int:
    return len(json.dumps(asked).split())


_Reply = tuple[list[bytes], dict[str, Any]]


def _chat(asked: dict[str, Any], text: str, usage: dict[str, Any] | None) -> _Reply:
    counted = usage or {"prompt_tokens": _words(asked), "completion_tokens": 10}
    counted.setdefault("total_tokens", counted["prompt_tokens"] + counted["completion_tokens"])
    base = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": asked["model"]}
    message: dict[str, Any] = {"role": "assistant", "content": text}
    finish = "stop"
    if asked.get("tools"):
        name = _tool_name(asked["tools"][0])
        call = {
            "id": "call_1",
            "type": "function",
            "function": {"name": name, "arguments": '{"city":"Paris"}'},
        }
        message, finish = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": finish}
        for index in range(int(asked.get("n") or 1))
    ]
    whole = {**base, "object": "chat.completion", "choices": choices, "usage": counted}
    events = [_data(_chunk(base, {"role": "assistant", "content": ""}))]
    if asked.get("tools"):
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}
        events.append(_data(_chunk(base, {"tool_calls": [call]})))
        for part in ('{"city":', '"Paris"}'):
            events.append(
                _data(_chunk(base, {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}))
            )
    else:
        events += [_data(_chunk(base, {"content": word + " "})) for word in text.split()]
    events.append(_data(_chunk(base, {}, finish)))
    if (asked.get("stream_options") or {}).get("include_usage"):
        events.append(_data({**base, "object": "chat.completion.chunk", "choices": [], "usage": counted}))
    return [*events, b"data: [DONE]\n\n"], whole


def _tool_name(tool: dict[str, Any]) -> str:
    return str(tool["function"]["name"])


def _chunk(base: dict[str, Any], delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {**base, "object": "chat.completion.chunk", "choices": [choice]}


def _completion(asked: dict[str, Any], text: str, usage: dict[str, Any] | None) -> _Reply:
    counted = usage or {"prompt_tokens": _words(asked), "completion_tokens": 10, "total_tokens": 20}
    base = {"id": "cmpl-1", "object": "text_completion", "created": 1_700_000_000, "model": asked["model"]}
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": "stop"}
    events = [
        _data({**base, "choices": [{**choice, "text": w + " ", "finish_reason": None}]}) for w in text.split()
    ]
    return [*events, b"data: [DONE]\n\n"], {**base, "choices": [choice], "usage": counted}


def _embeddings(asked: dict[str, Any], text: str, usage: dict[str, Any] | None) -> _Reply:
    counted = usage or {"prompt_tokens": _words(asked), "total_tokens": _words(asked)}
    data = [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2, 0.3]}]
    return [], {"object": "list", "data": data, "model": asked["model"], "usage": counted}


def _responses(asked: dict[str, Any], text: str, usage: dict[str, Any] | None) -> _Reply:
    counted = usage or {
        "input_tokens": _words(asked),
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 10,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": _words(asked) + 10,
    }
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    whole: dict[str, Any] = {
        "id": "resp_1", "object": "response", "created_at": 1_700_000_000, "status": "completed",
        "model": asked["model"], "output": [item], "usage": counted, "parallel_tool_calls": True,
        "tool_choice": "auto", "tools": [], "error": None, "incomplete_details": None, "instructions": None,
        "metadata": {}, "temperature": 1.0, "top_p": 1.0,
    }  # fmt: skip
    started = {**whole, "status": "in_progress", "output": [], "usage": None}
    place = {"output_index": 0, "item_id": "msg_1", "content_index": 0}
    empty = {**item, "status": "in_progress", "content": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": started},
        {"type": "response.output_item.added", "output_index": 0, "item": empty},
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        *(
            {"type": "response.output_text.delta", **place, "delta": w + " ", "logprobs": []}
            for w in text.split()
        ),
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]
    return [_named({**event, "sequence_number": n}) for n, event in enumerate(events)], whole


def _messages(asked: dict[str, Any], text: str, usage: dict[str, Any] | None) -> _Reply:
    counted = usage or {"input_tokens": _words(asked), "output_tokens": 10}
    block: dict[str, Any] = {"type": "text", "text": text}
    stop = "end_turn"
    if asked.get("tools"):
        block = {
            "type": "tool_use",
            "id": "toolu_1",
            "name": asked["tools"][0]["name"],
            "input": {"city": "Paris"},
        }
        stop = "tool_use"
    whole = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"], "content": [block],
        "stop_reason": stop, "stop_sequence": None, "usage": counted,
    }  # fmt: skip
    started = {**whole, "content": [], "stop_reason": None, "usage": {**counted, "output_tokens": 1}}
    if stop == "tool_use":
        opened = {**block, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": p} for p in ('{"city":', ' "Paris"}')]
    else:
        opened = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": w + " "} for w in text.split()]
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": started},
        {"type": "content_block_start", "index": 0, "content_block": opened},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": counted},
        {"type": "message_stop"},
    ]
    return [_named(event) for event in events], whole


def _count_tokens(asked: dict[str, Any], text: str, usage: dict[str, Any] | None) -> _Reply:
    return [], {"input_tokens": _words(asked)}


_SHAPES = {
    "/chat/completions": _chat,
    "/completions": _completion,
    "/embeddings": _embeddings,
    "/responses": _responses,
    "/messages": _messages,
    "/messages/count_tokens": _count_tokens,
}


@contextmanager
def fake_upstream() -> Iterator[FakeUpstream]:
    """Runs one on a free port until the block ends."""
    upstream = FakeUpstream(free_port())
    thread = LoopThread("fake-upstream")

    async def start() -> web.ServerRunner:
        # Handlers are cancelled when the client leaves, and bodies arrive as they were sent, still encoded.
        server = web.Server(upstream.handle, handler_cancellation=True, auto_decompress=False)  # type: ignore[arg-type]
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        port = int(upstream.root.rsplit(":", 1)[1])
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return runner

    runner = thread.call(start())
    try:
        yield upstream
    finally:
        thread.call(runner.cleanup())
        thread.close()
