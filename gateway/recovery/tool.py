"""The `terse_retrieve` tool as the model sees it, and how a request is given it. Chat completions only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.shapes import Compressed, ParsedRequest
from policies.shapes import Policy

NAME = "terse_retrieve"

# The same in every request: it stands in front of all that the upstream caches.
DEFINITION: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": NAME,
        "description": (
            "Long texts in this conversation were shortened: words, lines or passages may be missing. When "
            "your answer depends on something that seems to be left out, call this with what you are looking "
            "for; you get the original passages. Do not mention this tool to the user."
        ),
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string", "description": "What to look for, in a few words."}},
            "required": ["query"],
        },
    },
}


@dataclass(frozen=True, slots=True)
class Offer:
    """A request as it goes upstream with the tool, and the originals that the tool can read."""

    raw: dict[str, Any]
    originals: tuple[str, ...]
    wants_usage: bool  # the client asked for a usage chunk in its stream


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the tool by the model."""

    id: str
    arguments: str

    @property
    def query(self) -> str:
        """What it looks for; empty when the arguments are none."""
        try:
            value = orjson.loads(self.arguments)
        except orjson.JSONDecodeError:
            return ""
        query = value.get("query") if isinstance(value, dict) else None
        return query if isinstance(query, str) else ""


def offer(request: ParsedRequest, compressed: Compressed, policy: Policy) -> Offer | None:
    """The request with the tool; None when there is nothing to recover, or the client leaves no room for it.

    Left alone: other surfaces, several choices at once, and a `tool_choice` other than "auto".
    """
    raw = request.raw
    if not policy.recovery or compressed.status != "applied" or request.path != "/v1/chat/completions":
        return None
    if (raw.get("n") or 1) != 1 or raw.get("tool_choice") not in (None, "auto"):
        return None
    tools = raw.get("tools") or []
    if not isinstance(tools, list) or any(name_of(tool) == NAME for tool in tools) or raw.get("functions"):
        return None
    try:
        sent = orjson.loads(compressed.body)
    except orjson.JSONDecodeError:  # an escaped lone surrogate: passed on, never written anew
        return None
    originals = tuple(dict.fromkeys(_changed(raw.get("messages"), sent.get("messages"))))
    if not originals:
        return None
    sent["tools"] = [*tools, DEFINITION]
    sent["tool_choice"] = "auto"  # the default, which some servers (llama-cpp-python) want to hear
    wants_usage = bool((raw.get("stream_options") or {}).get("include_usage"))
    if request.stream:  # every round is paid for
        sent["stream_options"] = {**(raw.get("stream_options") or {}), "include_usage": True}
    return Offer(sent, originals, wants_usage)


def name_of(tool: object) -> str:
    """The name of a tool or of a call; empty where there is none."""
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else ""


def next_round(
    raw: dict[str, Any], text: str, calls: Sequence[Call], answers: Sequence[str], *, last: bool
) -> dict[str, Any]:
    """The request that goes on after the tool was called. In the last round it cannot be called again."""
    said = [
        {"id": call.id, "type": "function", "function": {"name": NAME, "arguments": call.arguments or "{}"}}
        for call in calls
    ]
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": answer}
        for call, answer in zip(calls, answers, strict=True)
    ]
    # Not null, which OpenAI takes and llama-cpp-python refuses.
    message = {"role": "assistant", "content": text, "tool_calls": said}
    again = {**raw, "messages": [*raw["messages"], message, *results]}
    if last:
        others = [tool for tool in raw["tools"] if name_of(tool) != NAME]
        # Upstreams want to know the tools that a conversation has called; with others there are some.
        again.update({"tools": others} if others else {"tool_choice": "none"})
    return again


def _changed(original: Any, sent: Any) -> Iterator[str]:
    """The strings of the first that are not the same in the second."""
    if isinstance(original, str):
        if original != sent:
            yield original
    elif isinstance(original, list) and isinstance(sent, list):
        for before, after in zip(original, sent, strict=False):
            yield from _changed(before, after)
    elif isinstance(original, dict) and isinstance(sent, dict):
        for key, before in original.items():
            yield from _changed(before, sent.get(key))
