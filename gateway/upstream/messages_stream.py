"""A stream of chat completion chunks, as Anthropic's stream of message events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import orjson

from gateway.chat.event_stream import EventSplitter, data_of, write_event
from gateway.errors import UpstreamBroke
from gateway.upstream.base import ReplyBody

STOP_REASONS: Mapping[str | None, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


def usage_of(usage: Mapping[str, Any]) -> dict[str, int]:
    """Anthropic's usage block; there `input_tokens` leaves cached ones out."""
    cached = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
    return {
        "input_tokens": int(usage.get("prompt_tokens") or 0) - cached,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": int(usage.get("completion_tokens") or 0),
    }


class MessagesStream:
    """A reply body that translates while it passes; each chunk goes on as soon as it came."""

    def __init__(self, chunks: ReplyBody, model: str) -> None:
        self._chunks = chunks
        self._splitter = EventSplitter()
        self._model = model
        self._started = False
        self._index = -1  # of the content block that is open
        self._open = ""  # its type, or its tool call's number
        self._stop = "end_turn"
        self._usage: Mapping[str, Any] = {}

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            events = b"".join(part for event in self._splitter.feed(chunk) for part in self._translate(event))
            if events:
                yield events
        yield b"".join(self._end())

    async def read(self) -> bytes:
        """The whole translated stream."""
        return b"".join([chunk async for chunk in self])

    async def close(self) -> None:
        """Closes the stream within."""
        await self._chunks.close()

    def _translate(self, event: bytes) -> Iterator[bytes]:
        data = data_of(event)
        if not data or data == b"[DONE]":
            return
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise UpstreamBroke("the upstream's stream is no JSON") from error
        if "error" in chunk:
            inner = chunk["error"]
            message = inner.get("message") if isinstance(inner, dict) else str(inner)
            raise UpstreamBroke(message or "the upstream broke off its reply")
        if not self._started:
            yield self._start(chunk)
        self._usage = chunk.get("usage") or self._usage
        for choice in (chunk.get("choices") or ())[:1]:
            yield from self._delta(choice.get("delta") or {})
            if choice.get("finish_reason"):
                self._stop = STOP_REASONS.get(choice["finish_reason"], "end_turn")

    def _start(self, chunk: Mapping[str, Any]) -> bytes:
        self._started = True
        message: dict[str, Any] = {
            "id": str(chunk.get("id", "")).replace("chatcmpl-", "msg_"),
            "type": "message",
            "role": "assistant",
            "model": chunk.get("model") or self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_of({}),
        }
        return _event("message_start", message=message)

    def _delta(self, delta: Mapping[str, Any]) -> Iterator[bytes]:
        if delta.get("reasoning_content"):
            yield from self._block("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            yield self._change({"type": "thinking_delta", "thinking": delta["reasoning_content"]})
        text = delta.get("content") or delta.get("refusal")
        if text:
            yield from self._block("text", {"type": "text", "text": ""})
            yield self._change({"type": "text_delta", "text": text})
        for call in delta.get("tool_calls") or ():
            function = call.get("function") or {}
            opened = {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": {}}
            yield from self._block(f"tool {call.get('index', 0)}", opened)
            if function.get("arguments"):
                yield self._change({"type": "input_json_delta", "partial_json": function["arguments"]})

    def _block(self, kind: str, opened: Mapping[str, Any]) -> Iterator[bytes]:
        """Opens a content block of this kind unless the open one is."""
        if self._open == kind:
            return
        yield from self._close_block()
        self._open, self._index = kind, self._index + 1
        yield _event("content_block_start", index=self._index, content_block=opened)

    def _close_block(self) -> Iterator[bytes]:
        if self._open:
            yield _event("content_block_stop", index=self._index)
            self._open = ""

    def _change(self, delta: Mapping[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def _end(self) -> Iterator[bytes]:
        if not self._started:
            yield self._start({})
        yield from self._close_block()
        ended = {"stop_reason": self._stop, "stop_sequence": None}
        yield _event("message_delta", delta=ended, usage=usage_of(self._usage))
        yield _event("message_stop")


def _event(kind: str, **fields: Any) -> bytes:
    return write_event({"type": kind, **fields}, kind)
