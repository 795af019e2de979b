"""The built-in upstream: answers without any provider and says what it received, always the same way."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from compressor.text.tokens import counter_for
from gateway.chat.event_stream import DONE, write_event
from gateway.chat.lenient_json import speakable, write_json
from gateway.chat.request import read_object
from gateway.upstream.base import ReadyBody, UpstreamCall, UpstreamReply

_QUOTED_CHARACTERS = 600
_CREATED = 1_767_225_600  # 2026-01-01: fixed, so that equal requests get equal answers
_EVENT_STREAM = [("content-type", "text/event-stream; charset=utf-8")]
_JSON = [("content-type", "application/json")]
_COUNTED_HERE = 20_000  # characters; a longer text is counted on a thread (about 5 ms of tiktoken)
_EMBEDDING_SIZE = 8


class OfflineUpstream:
    """Stands where a provider would, until a key is configured."""

    async def send(self, call: UpstreamCall) -> UpstreamReply:
        """Always answers 200."""
        asked = read_object(call.body)
        text = speakable("\n".join(_texts(asked)))
        count = counter_for(call.model).count
        received = count(text) if len(text) < _COUNTED_HERE else await asyncio.to_thread(count, text)
        if call.path.endswith("/count_tokens"):
            return UpstreamReply(200, _JSON, ReadyBody([orjson.dumps({"input_tokens": received})]))
        said = _answer_text(text, received)
        answer = _Answer(call.model, hashlib.sha256(call.body).hexdigest()[:24], said, received, count(said))
        if call.surface == "embeddings":
            return UpstreamReply(200, _JSON, ReadyBody([orjson.dumps(answer.embeddings(asked))]))
        whole, events = _SHAPES[call.surface](answer)
        if call.stream:
            options = asked.get("stream_options")
            include = isinstance(options, dict) and bool(options.get("include_usage"))
            return UpstreamReply(200, _EVENT_STREAM, ReadyBody(list(events(include))))
        return UpstreamReply(200, _JSON, ReadyBody([orjson.dumps(whole())]))

    async def close(self) -> None:
        """Nothing is open."""


def _answer_text(text: str, tokens: int) -> str:
    quoted = text if len(text) <= _QUOTED_CHARACTERS else text[:_QUOTED_CHARACTERS] + " […]"
    return (
        "This is the offline upstream of Terse: no provider's key is configured. "
        f"I received {tokens} tokens. They begin:\n\n{quoted}"
    )


def _texts(asked: Mapping[str, Any]) -> Iterator[str]:
    """Every text that a model would read, in order."""
    for key in ("instructions", "system", "messages", "prompt", "input"):
        yield from _strings(asked.get(key))


def _strings(value: Any) -> Iterator[str]:
    waiting = [value]  # a list of its own: JSON may nest deeper than Python calls
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            waiting += reversed(value)
        elif isinstance(value, dict):
            waiting += [value.get(key) for key in ("output", "content", "text")]


class _Answer:
    """One answer, in the shape of each surface."""

    def __init__(self, model: str, digest: str, text: str, received: int, said: int) -> None:
        self.model = model
        self.digest = digest
        self.text = text
        self.received = received
        self.said = said
        # Words with the blanks after them, as a provider would stream them.
        self.pieces = [piece for line in text.splitlines(keepends=True) for piece in line.split(" ")]
        self.pieces = [p if p.endswith("\n") else p + " " for p in self.pieces[:-1]] + self.pieces[-1:]

    def usage(self) -> dict[str, int]:
        """The usage block of chat and completions."""
        return {
            "prompt_tokens": self.received,
            "completion_tokens": self.said,
            "total_tokens": self.received + self.said,
        }

    def embeddings(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """One small vector an input, made from its hash."""
        given = asked.get("input")
        inputs = given if isinstance(given, list) and given and isinstance(given[0], str) else [given]
        data = [
            {"object": "embedding", "index": index, "embedding": _vector(value)}
            for index, value in enumerate(inputs)
        ]
        usage = {"prompt_tokens": self.received, "total_tokens": self.received}
        return {"object": "list", "data": data, "model": self.model, "usage": usage}


def _vector(value: Any) -> list[float]:
    digest = hashlib.sha256(write_json(value)).digest()
    return [byte / 255 for byte in digest[:_EMBEDDING_SIZE]]


def _chat(answer: _Answer) -> tuple[Any, Any]:
    base = {"id": f"chatcmpl-{answer.digest}", "created": _CREATED, "model": answer.model}

    def whole() -> dict[str, Any]:
        message = {"role": "assistant", "content": answer.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return {**base, "object": "chat.completion", "choices": [choice], "usage": answer.usage()}

    def events(include_usage: bool) -> Iterator[bytes]:
        def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return write_event({**base, "object": "chat.completion.chunk", "choices": [choice]})

        yield chunk({"role": "assistant", "content": ""})
        for piece in answer.pieces:
            yield chunk({"content": piece})
        yield chunk({}, "stop")
        if include_usage:
            chunk_object = "chat.completion.chunk"
            yield write_event({**base, "object": chunk_object, "choices": [], "usage": answer.usage()})
        yield DONE

    return whole, events


def _completions(answer: _Answer) -> tuple[Any, Any]:
    base = {
        "id": f"cmpl-{answer.digest}",
        "object": "text_completion",
        "created": _CREATED,
        "model": answer.model,
    }

    def choice(text: str, finish: str | None) -> dict[str, Any]:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}

    def whole() -> dict[str, Any]:
        return {**base, "choices": [choice(answer.text, "stop")], "usage": answer.usage()}

    def events(include_usage: bool) -> Iterator[bytes]:
        for piece in answer.pieces:
            yield write_event({**base, "choices": [choice(piece, None)]})
        yield write_event({**base, "choices": [choice("", "stop")]})
        if include_usage:
            yield write_event({**base, "choices": [], "usage": answer.usage()})
        yield DONE

    return whole, events


def _responses(answer: _Answer) -> tuple[Any, Any]:
    part = {"type": "output_text", "text": answer.text, "annotations": []}
    item_id = f"msg_{answer.digest}"
    item = {"id": item_id, "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    usage = {
        "input_tokens": answer.received,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": answer.said,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": answer.received + answer.said,
    }
    done = {
        "id": f"resp_{answer.digest}",
        "object": "response",
        "created_at": _CREATED,
        "status": "completed",
        "model": answer.model,
        "output": [item],
        "usage": usage,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
    }

    def whole() -> dict[str, Any]:
        return done

    def events(_include_usage: bool) -> Iterator[bytes]:
        place = {"item_id": item_id, "output_index": 0, "content_index": 0}
        begun = {**done, "status": "in_progress", "output": [], "usage": None}
        empty_item = {**item, "status": "in_progress", "content": []}
        deltas = [
            {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
            for piece in answer.pieces
        ]
        listed: list[dict[str, Any]] = [
            {"type": "response.created", "response": begun},
            {"type": "response.in_progress", "response": begun},
            {"type": "response.output_item.added", "output_index": 0, "item": empty_item},
            {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
            *deltas,
            {"type": "response.output_text.done", **place, "text": answer.text, "logprobs": []},
            {"type": "response.content_part.done", **place, "part": part},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": done},
        ]
        for number, event in enumerate(listed):
            yield write_event({**event, "sequence_number": number}, event["type"])

    return whole, events


def _messages(answer: _Answer) -> tuple[Any, Any]:
    def message(content: list[Any], stop: str | None, output_tokens: int) -> dict[str, Any]:
        return {
            "id": f"msg_{answer.digest}",
            "type": "message",
            "role": "assistant",
            "model": answer.model,
            "content": content,
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": {"input_tokens": answer.received, "output_tokens": output_tokens},
        }

    def whole() -> dict[str, Any]:
        return message([{"type": "text", "text": answer.text}], "end_turn", answer.said)

    def events(_include_usage: bool) -> Iterator[bytes]:
        opened = {"type": "text", "text": ""}
        ended = {"stop_reason": "end_turn", "stop_sequence": None}
        deltas = [
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": piece},
            }
            for piece in answer.pieces
        ]
        listed: list[dict[str, Any]] = [
            {"type": "message_start", "message": message([], None, 1)},
            {"type": "content_block_start", "index": 0, "content_block": opened},
            *deltas,
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": ended, "usage": {"output_tokens": answer.said}},
            {"type": "message_stop"},
        ]
        for event in listed:
            yield write_event(event, event["type"])

    return whole, events


_SHAPES = {"chat": _chat, "completions": _completions, "responses": _responses, "messages": _messages}
