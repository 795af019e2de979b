"""The tool in Anthropic's API. https://docs.anthropic.com/en/docs/agents-and-tools/tool-use"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from gateway.chat.event_stream import data_of, write_event
from gateway.recovery.tool import DESCRIPTION, NAME, PARAMETERS, Call, Round, client_tools

DEFINITION: Mapping[str, Any] = {"name": NAME, "description": DESCRIPTION, "input_schema": PARAMETERS}


class MessagesDialect:
    """Left alone: a `tool_choice` other than auto."""

    texts = "messages"

    def offered(self, raw: Mapping[str, Any], sent: dict[str, Any]) -> dict[str, Any] | None:
        tools = client_tools(raw)
        choice = raw.get("tool_choice")
        if tools is None or (choice is not None and _kind(choice) != "auto"):
            return None
        sent["tools"] = [*tools, DEFINITION]
        return sent

    def next_round(
        self, raw: Mapping[str, Any], done: Round, answers: Sequence[str], *, last: bool
    ) -> dict[str, Any]:
        results = [
            {"type": "tool_result", "tool_use_id": call.id, "content": answer}
            for call, answer in zip(done.calls, answers, strict=True)
        ]
        more = [{"role": "assistant", "content": list(done.said)}, {"role": "user", "content": results}]
        again = {**raw, "messages": [*raw["messages"], *more]}
        # The tool itself must stay: a conversation that has called it is refused without.
        return {**again, "tool_choice": {"type": "none"}} if last else again

    def read(self, value: dict[str, Any]) -> Round:
        return _round(value["content"])

    def finished(
        self, value: dict[str, Any], done: Round, shown: Sequence[Any], total: dict[str, Any] | None
    ) -> dict[str, Any]:
        value["content"] = [*shown, *done.shown]
        if done.calls and not done.others:
            value["stop_reason"] = "end_turn"
        if total is not None:
            value["usage"] = total
        return value

    def editor(self) -> MessagesEditor:
        return MessagesEditor()


class MessagesEditor:
    """The end of a round is `message_delta` and `message_stop`."""

    def __init__(self, shown: int | None = None) -> None:
        """`shown`: content blocks that the client has from earlier rounds; None in the first one."""
        self.usage: dict[str, Any] | None = None
        self._later = shown is not None
        self._blocks: dict[int, dict[str, Any]] = {}
        self._places: dict[int, int] = {}  # index of a block -> its index in the client's answer
        self._shown = shown or 0
        self._delta: dict[str, Any] | None = None
        self._stop: bytes | None = None

    def take(self, event: bytes) -> Iterator[bytes]:
        data = data_of(event)
        try:
            value = orjson.loads(data) if data else None
        except orjson.JSONDecodeError:
            value = None
        kind = _kind(value)
        if not isinstance(value, dict):
            yield event + b"\n\n"
        elif kind == "message_start":
            self._note(value["message"].get("usage"))
            if not self._later:
                yield event + b"\n\n"
        elif kind in ("content_block_start", "content_block_delta", "content_block_stop"):
            yield from self._block(event, value)
        elif kind == "message_delta":
            self._note(value.get("usage"))
            self._delta = value
        elif kind == "message_stop":
            self._stop = event + b"\n\n"
        else:
            yield event + b"\n\n"  # a ping, an error, something new

    def round(self) -> Round | None:
        blocks = [_whole(block) for _, block in sorted(self._blocks.items())]
        return _round(blocks) if self._delta is not None and self._stop is not None else None

    def following(self) -> MessagesEditor:
        return MessagesEditor(self._shown)

    def ending(self, total: dict[str, Any] | None, wants_usage: bool) -> Iterator[bytes]:
        if self._delta is not None:
            done = _round([_whole(block) for _, block in sorted(self._blocks.items())])
            if done.calls and not done.others:
                self._delta["delta"]["stop_reason"] = "end_turn"
            if total is not None:
                self._delta["usage"] = total
            yield write_event(self._delta, "message_delta")
        if self._stop is not None:
            yield self._stop

    def _note(self, usage: object) -> None:
        """Input comes first and output last; a later figure replaces an earlier one."""
        if isinstance(usage, dict):
            given = {key: value for key, value in usage.items() if value is not None}
            self.usage = {**(self.usage or {}), **given}

    def _block(self, event: bytes, value: dict[str, Any]) -> Iterator[bytes]:
        index = value["index"]
        if value["type"] == "content_block_start":
            block = self._blocks[index] = dict(value["content_block"])
            if not _is_ours(block):
                self._places[index] = self._shown
                self._shown += 1
        elif value["type"] == "content_block_delta" and index in self._blocks:
            _add(self._blocks[index], value["delta"])
        place = self._places.get(index)
        if place == index:
            yield event + b"\n\n"
        elif place is not None:
            yield write_event({**value, "index": place}, value["type"])


def _round(blocks: Sequence[Any]) -> Round:
    ours = [block for block in blocks if _is_ours(block)]
    calls = [Call(str(block["id"]), orjson.dumps(block.get("input")).decode()) for block in ours]
    others = any(_kind(block) == "tool_use" for block in blocks if not _is_ours(block))
    return Round(calls, others, list(blocks), [block for block in blocks if not _is_ours(block)])


def _is_ours(block: object) -> bool:
    return isinstance(block, dict) and block.get("type") == "tool_use" and block.get("name") == NAME


def _kind(value: object) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    return kind if isinstance(kind, str) else ""


_GROWING = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


def _add(block: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """A block as it grows; a call's arguments wait under a name of ours until they are whole."""
    kind = _kind(delta)
    if kind in _GROWING:
        name = _GROWING[kind]
        block[name] = (block.get(name) or "") + delta[name]
    elif kind == "input_json_delta":
        block["partial_json"] = block.get("partial_json", "") + delta["partial_json"]
    elif kind == "citations_delta":
        block["citations"] = [*(block.get("citations") or ()), delta["citation"]]


def _whole(block: dict[str, Any]) -> dict[str, Any]:
    if "partial_json" not in block:
        return block
    whole = {name: value for name, value in block.items() if name != "partial_json"}
    try:
        whole["input"] = orjson.loads(block["partial_json"] or "{}")
    except orjson.JSONDecodeError:
        whole["input"] = {}
    return whole
