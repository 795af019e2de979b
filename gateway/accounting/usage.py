"""Reads the usage out of a reply as it passes, plain or streamed, whichever shape the upstream gave it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from compressor.text.tokens import TokenCounter
from gateway.chat.event_stream import EventSplitter, data_of
from gateway.shapes import Surface, Usage

# A plain reply above this is not kept whole: usage stands at its end, or near its start.
_MOST_KEPT = 16 * 1024 * 1024
_TAIL = 64 * 1024
_USAGE_OBJECT = re.compile(rb'"usage(?:Metadata)?"\s*:\s*(?=\{)')


class UsageWatch:
    """Feed it the reply's bytes, in chunks as they come; ask for the result when they have ended, or broken
    off.

    Never raises, never changes a byte. Where the upstream says nothing, the input is what we counted and the
    output is counted from what it said, `estimated`.
    """

    __slots__ = ("_counter", "_input_tokens", "_kept", "_output", "_size", "_splitter", "_surface", "_usage")

    def __init__(
        self,
        surface: Surface,
        *,
        stream: bool,
        input_tokens: int = 0,
        counter: TokenCounter | None = None,
    ) -> None:
        """`input_tokens` as we counted them (`Compressed.tokens_after`); `counter` counts output, None:
        roughly.
        """
        self._surface = surface
        self._splitter = EventSplitter() if stream else None
        self._input_tokens = input_tokens
        self._counter = counter
        self._usage: dict[str, Any] = {}
        self._output: list[bytes] = []  # events with text, only read when no usage comes
        self._kept: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes of the reply."""
        self._size += len(chunk)
        if self._splitter is None:
            self._kept.append(chunk)
            if self._size > _MOST_KEPT:
                self._kept = [b"".join(self._kept)[-_TAIL:]]
            return
        for event in self._splitter.feed(chunk):
            if b'"usage' in event:
                self._note(data_of(event))
            if self._size <= _MOST_KEPT:
                self._output.append(event)

    def result(self) -> Usage:
        """What was used."""
        if self._splitter is None:
            return self._plain_result()
        if self._usage:
            usage = read_usage(self._usage, self._surface)
            # A stream that broke off has told its input (Anthropic does so at once), but not all of its
            # output.
            if usage.input_tokens and (usage.output_tokens or not self._output):
                return usage
        return self._estimate(texts_of_events(self._output))

    def _note(self, data: bytes) -> None:
        """Later figures replace earlier ones, key by key: Anthropic tells input first and output last."""
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError:
            return
        for found in usages_in(value):
            self._usage.update({key: each for key, each in found.items() if each is not None})

    def _plain_result(self) -> Usage:
        body = b"".join(self._kept)
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            found = _cut_out(body)
            return read_usage(found, self._surface) if found else self._estimate([])
        for found in usages_in(value):
            return read_usage(found, self._surface)
        return self._estimate(texts_of_reply(value))

    def _estimate(self, texts: Iterator[str] | list[str]) -> Usage:
        text = "".join(texts)
        output = self._counter.count(text) if self._counter else (len(text) + 3) // 4
        return Usage(input_tokens=self._input_tokens, output_tokens=output, estimated=True)


def read_usage(usage: Mapping[str, Any], surface: Surface) -> Usage:
    """Our account of an upstream's `usage` object.

    `input_tokens` has all input tokens, cached ones included, whatever the upstream means by its figures:
    OpenAI and DeepSeek include them, Anthropic counts cache reads and writes apart, Gemini (`usageMetadata`)
    counts thoughts apart.
    """
    if "promptTokenCount" in usage:
        thoughts = _number(usage, "thoughtsTokenCount")
        return Usage(
            input_tokens=_number(usage, "promptTokenCount"),
            cached_input_tokens=_number(usage, "cachedContentTokenCount"),
            output_tokens=_number(usage, "candidatesTokenCount") + thoughts,
            reasoning_tokens=thoughts,
            cache_reported="cachedContentTokenCount" in usage,
        )
    if "prompt_tokens" in usage:
        return _openai_chat(usage)
    read, written = _number(usage, "cache_read_input_tokens"), _number(usage, "cache_creation_input_tokens")
    apart = (
        surface == "messages" or "cache_read_input_tokens" in usage or "cache_creation_input_tokens" in usage
    )
    details = _mapping(usage, "input_tokens_details")
    return Usage(
        input_tokens=_number(usage, "input_tokens") + (read + written if apart else 0),
        cached_input_tokens=read if apart else _number(details, "cached_tokens"),
        cache_write_tokens=written,
        output_tokens=_number(usage, "output_tokens"),
        reasoning_tokens=_number(_mapping(usage, "output_tokens_details"), "reasoning_tokens"),
        cache_reported="cache_read_input_tokens" in usage or "cached_tokens" in details,
    )


def _openai_chat(usage: Mapping[str, Any]) -> Usage:
    details = _mapping(usage, "prompt_tokens_details")
    cached = _number(details, "cached_tokens") or _number(usage, "prompt_cache_hit_tokens")
    cached = cached or _number(usage, "cache_read_input_tokens")
    prompt, output = _number(usage, "prompt_tokens"), _number(usage, "completion_tokens")
    reasoning = _number(_mapping(usage, "completion_tokens_details"), "reasoning_tokens")
    total = _number(usage, "total_tokens")
    # xAI leaves reasoning out of completion_tokens; its total shows it.
    if reasoning and total == prompt + output + reasoning:
        output += reasoning
    told = (
        "cached_tokens" in details or "prompt_cache_hit_tokens" in usage or "cache_read_input_tokens" in usage
    )
    return Usage(
        input_tokens=prompt,
        cached_input_tokens=min(cached, prompt),
        cache_write_tokens=min(_number(usage, "cache_creation_input_tokens"), max(0, prompt - cached)),
        output_tokens=output,
        reasoning_tokens=reasoning,
        cache_reported=told,
    )


def usages_in(value: Any) -> Iterator[dict[str, Any]]:
    """The usage objects of a reply or of one event of a stream."""
    if not isinstance(value, dict):
        return
    for holder in (value, value.get("response"), value.get("message"), value.get("x_groq")):
        if isinstance(holder, dict):
            for name in ("usage", "usageMetadata"):
                if isinstance(holder.get(name), dict):
                    yield holder[name]


def texts_of_reply(value: Any) -> list[str]:
    """What the model said in a plain reply, for counting: texts, reasoning and arguments of tool calls."""
    if not isinstance(value, dict):
        return []
    parts = [value.get("choices"), value.get("output"), value.get("content")]
    return [text for part in parts for text in _said(part)]


def texts_of_events(events: list[bytes]) -> Iterator[str]:
    """What the model said in the events of a stream, for counting."""
    for event in events:
        try:
            value = orjson.loads(data_of(event))
        except orjson.JSONDecodeError:
            continue
        if not isinstance(value, dict):
            continue
        kind = str(value.get("type") or "")
        if kind.startswith("response."):
            if kind.endswith(".delta") and isinstance(value.get("delta"), str):
                yield value["delta"]
        else:
            yield from _said(value.get("choices") if "choices" in value else value.get("delta"))


_SPOKEN = {
    "text",
    "content",
    "reasoning_content",
    "reasoning",
    "arguments",
    "refusal",
    "thinking",
    "partial_json",
}


def _said(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _said(item)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, str):
                if key in _SPOKEN:
                    yield inner
            elif key != "logprobs":
                yield from _said(inner)


def _cut_out(body: bytes) -> dict[str, Any]:
    """The last usage object in bytes that are no whole JSON document."""
    for found in reversed(list(_USAGE_OBJECT.finditer(body[-_TAIL:]))):
        rest = body[-_TAIL:][found.end() :]
        depth = 0
        for position, byte in enumerate(rest[:4096]):
            depth += (byte == 0x7B) - (byte == 0x7D)
            if depth == 0:
                try:
                    value = orjson.loads(rest[: position + 1])
                except orjson.JSONDecodeError:
                    break
                return value if isinstance(value, dict) else {}
    return {}


def _number(holder: Mapping[str, Any], name: str) -> int:
    value = holder.get(name)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**53:
        return int(value)
    return 0


def _mapping(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = holder.get(name)
    return value if isinstance(value, dict) else {}
