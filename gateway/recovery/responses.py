"""The tool in OpenAI's Responses API. https://platform.openai.com/docs/api-reference/responses"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from gateway.chat.event_stream import data_of, write_event
from gateway.recovery.tool import DESCRIPTION, NAME, PARAMETERS, Call, Round, client_tools, name_of

DEFINITION: Mapping[str, Any] = {
    "type": "function",
    "name": NAME,
    "description": DESCRIPTION,
    "parameters": PARAMETERS,
    "strict": False,
}
_CALLS = ("function_call", "custom_tool_call", "local_shell_call", "computer_call")
_ENDS = ("response.completed", "response.incomplete", "response.failed")


class ResponsesDialect:
    """Left alone: a `tool_choice` other than "auto", and what runs in the background."""

    texts = "input"

    def offered(self, raw: Mapping[str, Any], sent: dict[str, Any]) -> dict[str, Any] | None:
        tools = client_tools(raw)
        if tools is None or raw.get("tool_choice") not in (None, "auto") or raw.get("background"):
            return None
        sent["tools"] = [*tools, DEFINITION]
        return sent

    def next_round(
        self, raw: Mapping[str, Any], done: Round, answers: Sequence[str], *, last: bool
    ) -> dict[str, Any]:
        given = raw["input"]
        items = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
        results = [
            {"type": "function_call_output", "call_id": call.id, "output": answer}
            for call, answer in zip(done.calls, answers, strict=True)
        ]
        again = {**raw, "input": [*items, *done.said, *results]}
        return {**again, "tool_choice": "none"} if last else again

    def read(self, value: dict[str, Any]) -> Round:
        return _round(value["output"])

    def finished(
        self, value: dict[str, Any], done: Round, shown: Sequence[Any], total: dict[str, Any] | None
    ) -> dict[str, Any]:
        return _finished(value, [*shown, *done.shown], total)

    def editor(self) -> ResponsesEditor:
        return ResponsesEditor()


class ResponsesEditor:
    """The end of a round is `response.completed` (or `incomplete`, or `failed`)."""

    def __init__(self, shown: Sequence[Any] = (), number: int = 0, *, later: bool = False) -> None:
        """`shown`: items that the client has from earlier rounds; `number` of the next event."""
        self.usage: dict[str, Any] | None = None
        self._shown = list(shown)
        self._number = number
        self._later = later
        self._places: dict[int, int] = {}  # index of an item -> its index in the client's answer
        self._hidden: set[int] = set()
        self._next = len(self._shown)
        self._end: dict[str, Any] | None = None

    def take(self, event: bytes) -> Iterator[bytes]:
        data = data_of(event)
        try:
            value = orjson.loads(data) if data else None
        except orjson.JSONDecodeError:
            value = None
        if not isinstance(value, dict) or not isinstance(value.get("type"), str):
            yield event + b"\n\n"
            return
        kind, index = value["type"], value.get("output_index")
        if kind in _ENDS:
            self._end = value
            self.usage = value["response"].get("usage")
            return
        if self._later and kind in ("response.created", "response.in_progress", "response.queued"):
            return
        if kind == "response.output_item.added" and isinstance(index, int):
            if _is_ours(value.get("item")):
                self._hidden.add(index)
            else:
                self._places[index] = self._next
                self._next += 1
        if index in self._hidden:
            return
        if isinstance(value.get("response"), dict) and value["response"].get("tools"):
            value = {**value, "response": _without_tool(value["response"])}
            event = b""
        yield self._written(event, value, index)

    def round(self) -> Round | None:
        return None if self._end is None else _round(self._end["response"].get("output") or [])

    def following(self) -> ResponsesEditor:
        done = self.round()
        shown = [*self._shown, *(done.shown if done else ())]
        return ResponsesEditor(shown, self._number, later=True)

    def ending(self, total: dict[str, Any] | None, wants_usage: bool) -> Iterator[bytes]:
        done = self.round()
        if self._end is not None and done is not None:
            response = _finished(self._end["response"], [*self._shown, *done.shown], total)
            value = {**self._end, "response": response}
            yield write_event(self._numbered(value), self._end["type"])

    def _written(self, event: bytes, value: dict[str, Any], index: Any) -> bytes:
        """The event as the client counts: the same bytes where that is as the upstream counts."""
        place = self._places.get(index, index)
        numbered = self._numbered(value)
        if event and place == index and numbered == value:
            return event + b"\n\n"
        return write_event(numbered if place == index else {**numbered, "output_index": place}, value["type"])

    def _numbered(self, value: dict[str, Any]) -> dict[str, Any]:
        if "sequence_number" not in value:
            return value
        self._number += 1
        return {**value, "sequence_number": self._number - 1}


def _round(items: Sequence[Any]) -> Round:
    calls = [Call(str(item["call_id"]), item.get("arguments") or "") for item in items if _is_ours(item)]
    shown = [item for item in items if not _is_ours(item)]
    others = any(isinstance(item, dict) and item.get("type") in _CALLS for item in shown)
    return Round(calls, others, list(items), shown)


def _is_ours(item: object) -> bool:
    return isinstance(item, dict) and item.get("type") == "function_call" and item.get("name") == NAME


def _without_tool(response: dict[str, Any]) -> dict[str, Any]:
    """The API gives back the tools of the request."""
    if not isinstance(response.get("tools"), list):
        return response
    return {**response, "tools": [tool for tool in response["tools"] if name_of(tool) != NAME]}


def _finished(
    response: dict[str, Any], output: Sequence[Any], total: dict[str, Any] | None
) -> dict[str, Any]:
    response = _without_tool({**response, "output": list(output)})
    if total is not None:
        response["usage"] = total
    return response
