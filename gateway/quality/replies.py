"""What a model said, read out of its reply: text and tool calls, plain or streamed, on every surface."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.chat.event_stream import EventSplitter, data_of
from gateway.shapes import Surface


@dataclass(frozen=True, slots=True)
class Said:
    """The first choice of a reply. `calls` are (tool, arguments as canonical JSON)."""

    text: str
    calls: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class _Call:
    """A tool call while its parts come in."""

    name: str = ""
    arguments: str = ""


def read_reply(surface: Surface, body: bytes, *, stream: bool) -> Said | None:
    """What was said; None when the bytes hold no reply of this surface."""
    values = list(_events(body)) if stream else [_loaded(body)]
    found = [value for value in values if isinstance(value, dict)]
    if not found or any("error" in value and value["error"] for value in found):
        return None
    try:
        return _READERS[surface](found)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError):
        return None


def canonical(arguments: object) -> str:
    """Arguments as JSON with sorted keys, so that spacing and order are no difference."""
    if isinstance(arguments, str):
        value = _loaded(arguments.encode("utf-8", "surrogatepass"))
        if value is None:
            return arguments.strip()
        arguments = value
    return orjson.dumps(arguments, option=orjson.OPT_SORT_KEYS).decode()


def _loaded(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _events(body: bytes) -> Iterator[Any]:
    for event in EventSplitter().feed(body + b"\n\n"):
        data = data_of(event)
        if data and data != b"[DONE]":
            yield _loaded(data)


def _chat(values: list[dict[str, Any]]) -> Said | None:
    text: list[str] = []
    calls: dict[int, _Call] = {}
    seen = False
    for value in values:
        for choice in value.get("choices") or ():
            if choice.get("index", 0) != 0:
                continue
            message = choice.get("message") or choice.get("delta")
            seen = seen or message is not None
            if message:
                text.append(_text_of(message.get("content")))
                _add_calls(calls, message.get("tool_calls") or ())
    if not seen:
        return None
    ordered = [calls[index] for index in sorted(calls)]
    return Said("".join(text), tuple((call.name, canonical(call.arguments)) for call in ordered))


def _add_calls(calls: dict[int, _Call], parts: Any) -> None:
    for position, part in enumerate(parts):
        call = calls.setdefault(part.get("index", position), _Call())
        function = part.get("function") or {}
        call.name += function.get("name") or ""
        call.arguments += function.get("arguments") or ""


def _text_of(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return content or ""


def _completions(values: list[dict[str, Any]]) -> Said | None:
    parts = [
        choice.get("text") or ""
        for value in values
        for choice in value.get("choices") or ()
        if choice.get("index", 0) == 0 and "text" in choice
    ]
    return Said("".join(parts)) if parts else None


def _responses(values: list[dict[str, Any]]) -> Said | None:
    whole = next(
        (value["response"] for value in reversed(values) if value.get("type") == "response.completed"), None
    )
    whole = whole or next((value for value in values if "output" in value), None)
    if whole is None:
        return None
    text, calls = [], []
    for item in whole["output"]:
        if item.get("type") == "message":
            text.append(_text_of(item.get("content")))
        elif item.get("type") in ("function_call", "custom_tool_call"):
            calls.append((item["name"], canonical(item.get("arguments") or item.get("input") or "")))
    return Said("".join(text), tuple(calls))


def _messages(values: list[dict[str, Any]]) -> Said | None:
    blocks: dict[int, dict[str, Any]] = {}
    for value in values:
        kind = value.get("type")
        if kind == "message":
            blocks.update(enumerate(value["content"]))
        elif kind == "content_block_start":
            blocks[value["index"]] = dict(value["content_block"])
        elif kind == "content_block_delta":
            _add_delta(blocks[value["index"]], value["delta"])
    if not blocks:
        return None
    ordered = [blocks[index] for index in sorted(blocks)]
    text = "".join(block.get("text") or "" for block in ordered if block.get("type") == "text")
    calls = tuple((block["name"], _input_of(block)) for block in ordered if block.get("type") == "tool_use")
    return Said(text, calls)


def _add_delta(block: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for name, value in (("text", delta.get("text")), ("partial", delta.get("partial_json"))):
        if value:
            block[name] = (block.get(name) or "") + value


def _input_of(block: Mapping[str, Any]) -> str:
    return canonical(block.get("partial") or block.get("input") or {})


_READERS = {"chat": _chat, "completions": _completions, "responses": _responses, "messages": _messages}
