"""The tool in chat completions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from gateway.chat.event_stream import DONE, data_of, write_event
from gateway.recovery.tool import DEFINITION, NAME, Call, Round, client_tools, name_of


class ChatDialect:
    """Left alone: several choices at once, a `tool_choice` other than "auto", and the old `functions`."""

    texts = "messages"

    def offered(self, raw: Mapping[str, Any], sent: dict[str, Any]) -> dict[str, Any] | None:
        tools = client_tools(raw)
        if tools is None or raw.get("functions"):
            return None
        if (raw.get("n") or 1) != 1 or raw.get("tool_choice") not in (None, "auto"):
            return None
        sent["tools"] = [*tools, DEFINITION]
        sent["tool_choice"] = "auto"  # the default, which some servers (llama-cpp-python) want to hear
        if raw.get("stream"):  # every round is paid for
            options = raw.get("stream_options") or {}
            if not isinstance(options, dict):
                return None  # the upstream's to refuse
            sent["stream_options"] = {**options, "include_usage": True}
        return sent

    def next_round(
        self, raw: Mapping[str, Any], done: Round, answers: Sequence[str], *, last: bool
    ) -> dict[str, Any]:
        calls = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": NAME, "arguments": call.arguments or "{}"},
            }
            for call in done.calls
        ]
        results = [
            {"role": "tool", "tool_call_id": call.id, "content": answer}
            for call, answer in zip(done.calls, answers, strict=True)
        ]
        # Text, not null, which OpenAI takes and llama-cpp-python refuses.
        message = {"role": "assistant", "content": done.said, "tool_calls": calls}
        again = {**raw, "messages": [*raw["messages"], message, *results]}
        if last:
            others = [tool for tool in raw["tools"] if name_of(tool) != NAME]
            # Upstreams want to know the tools that a conversation has called; with others there are some.
            again.update({"tools": others} if others else {"tool_choice": "none"})
        return again

    def read(self, value: dict[str, Any]) -> Round:
        message = value["choices"][0]["message"]
        parts = message.get("tool_calls") or []
        ours = [
            Call(str(part.get("id") or ""), part["function"].get("arguments") or "")
            for part in parts
            if name_of(part) == NAME
        ]
        text = message.get("content") or ""
        return Round(ours, len(ours) < len(parts), text, (text,) if text else ())

    def finished(
        self, value: dict[str, Any], done: Round, shown: Sequence[Any], total: dict[str, Any] | None
    ) -> dict[str, Any]:
        message = value["choices"][0]["message"]
        if done.calls:
            message["tool_calls"] = [part for part in message["tool_calls"] if name_of(part) != NAME]
            if not done.others:
                del message["tool_calls"]
                value["choices"][0]["finish_reason"] = "stop"
        if shown or (done.calls and not done.others):
            message["content"] = "".join(shown) + (message.get("content") or "")
        if total is not None:
            value["usage"] = total
        return value

    def editor(self) -> ChatEditor:
        return ChatEditor()


class ChatEditor:
    """The end of a round is its finish reason, usage and `[DONE]`."""

    def __init__(self, first_id: str = "") -> None:
        """`first_id` is the completion's id in the first round; later rounds take it on."""
        self.id = first_id
        self.text = ""
        self.usage: dict[str, Any] | None = None
        self._finish: dict[str, Any] | None = None
        self._done = False
        self._later = bool(first_id)
        self._ours: dict[int, dict[str, str]] = {}
        self._places: dict[int, int] = {}  # index of a client's call -> its index without ours

    def take(self, event: bytes) -> Iterator[bytes]:
        data = data_of(event)
        if data == b"[DONE]":
            self._done = True
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

    def round(self) -> Round | None:
        calls = tuple(Call(part["id"], part["arguments"]) for _, part in sorted(self._ours.items()))
        done = Round(calls, bool(self._places), self.text, (self.text,) if self.text else ())
        return None if self._finish is None else done

    def following(self) -> ChatEditor:
        return ChatEditor(self.id)

    def ending(self, total: dict[str, Any] | None, wants_usage: bool) -> Iterator[bytes]:
        finish = self._finish
        if finish is not None:
            if self._ours and not self._places:
                finish["choices"][0]["finish_reason"] = "stop"
            # Without a usage chunk of its own the figures ride here, so that the books have them.
            if total is not None and not wants_usage:
                finish["usage"] = total
            yield write_event(finish)
            if total is not None and wants_usage:
                yield write_event({**finish, "choices": [], "usage": total})
        if self._done:
            yield DONE

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
            self._finish = value
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
