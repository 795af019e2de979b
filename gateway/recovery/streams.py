"""Edits one streamed round of a chat completion: calls of our tool are taken out, the rest goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from gateway.chat.event_stream import data_of, write_event
from gateway.recovery.tool import NAME, Call


class StreamEditor:
    """Takes the events of one round as they come and gives those that the client gets.

    The end of the round (finish reason, usage, `[DONE]`) is kept in `finish`, `usage` and `done`: whether it
    is the end of the answer is decided when it has come.
    """

    def __init__(self, first_id: str = "") -> None:
        """`first_id` is the completion's id in the first round; later rounds take it on."""
        self.id = first_id
        self.text = ""
        self.calls: list[Call] = []
        self.others = False  # tools of the client's are called as well
        self.finish: dict[str, Any] | None = None
        self.usage: dict[str, Any] | None = None
        self.done = False
        self._later = bool(first_id)
        self._ours: dict[int, dict[str, str]] = {}
        self._places: dict[int, int] = {}  # index of a client's call -> its index without ours

    def take(self, event: bytes) -> Iterator[bytes]:
        """What the client gets of one event: the same bytes where nothing had to be changed."""
        data = data_of(event)
        if data == b"[DONE]":
            self.done = True
            return
        try:
            value = orjson.loads(data) if data else None
        except orjson.JSONDecodeError:
            value = None
        if not isinstance(value, dict) or not isinstance(value.get("choices"), list):
            yield event + b"\n\n"  # a comment, an error, something new
            return
        if isinstance(value.get("usage"), dict):
            self.usage = value.pop("usage")
            changed = True
        else:
            changed = False
        yield from self._choices(event, value, changed)

    def close(self) -> None:
        """No more events come: the calls are whole."""
        self.calls = [Call(part["id"], part["arguments"]) for _, part in sorted(self._ours.items())]

    def _choices(self, event: bytes, value: dict[str, Any], changed: bool) -> Iterator[bytes]:
        choices = value["choices"]
        if not choices:
            return  # the usage chunk; the sum of all rounds goes out at the end
        choice = choices[0]
        delta = choice.get("delta") or {}
        if isinstance(delta.get("content"), str):
            self.text += delta["content"]
        changed |= self._take_calls(delta)
        if self._later:
            changed |= delta.pop("role", None) is not None
            value["id"] = self.id
            changed = True
        self.id = self.id or str(value.get("id") or "")
        if choice.get("finish_reason"):
            self.finish = value
            return
        if not changed:
            yield event + b"\n\n"
        elif any(delta.values()):
            yield write_event(value)

    def _take_calls(self, delta: dict[str, Any]) -> bool:
        """Takes our calls out of a delta; whether it changed."""
        parts = delta.get("tool_calls")
        if not isinstance(parts, list):
            return False
        kept = []
        for part in parts:
            index = part.get("index", 0)
            function = part.get("function") or {}
            if index not in self._ours and index not in self._places:
                if function.get("name") == NAME:
                    self._ours[index] = {"id": str(part.get("id") or ""), "arguments": ""}
                else:
                    self._places[index] = len(self._places)
                    self.others = True
            if index in self._ours:
                self._ours[index]["arguments"] += function.get("arguments") or ""
            else:
                kept.append({**part, "index": self._places[index]})
        if kept == parts:
            return False
        if kept:
            delta["tool_calls"] = kept
        else:
            del delta["tool_calls"]
        return True
