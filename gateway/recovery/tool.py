"""The `terse_retrieve` tool, and what every API has to say about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

NAME = "terse_retrieve"
DESCRIPTION = (
    "Long texts in this conversation were shortened: words, lines or passages may be missing. When "
    "your answer depends on something that seems to be left out, call this with what you are looking "
    "for; you get the original passages. Do not mention this tool to the user."
)
PARAMETERS: Mapping[str, Any] = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "What to look for, in a few words."}},
    "required": ["query"],
}
# The same in every request: it stands in front of all that the upstream caches.
DEFINITION: Mapping[str, Any] = {
    "type": "function",
    "function": {"name": NAME, "description": DESCRIPTION, "parameters": PARAMETERS},
}


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


@dataclass(frozen=True, slots=True)
class Round:
    """What the model said in one round."""

    calls: Sequence[Call] = ()  # of our tool
    others: bool = False  # it calls tools of the client's, too
    said: Any = ""  # what goes back to it as its own words
    shown: Sequence[Any] = ()  # the parts of its answer that the client gets


class Editor(Protocol):
    """Takes the events of one streamed round as they come and gives those that the client gets.

    The end of the round is held back: whether it is the end of the answer is decided when it has come.
    """

    usage: dict[str, Any] | None

    def take(self, event: bytes) -> Iterator[bytes]:
        """What the client gets of one event: the same bytes where nothing had to be changed."""

    def round(self) -> Round | None:
        """What was said, once no more events come; None when the upstream did not come to an end."""

    def following(self) -> Editor:
        """The editor of the next round of the same answer."""

    def ending(self, total: dict[str, Any] | None, wants_usage: bool) -> Iterator[bytes]:
        """What ends the answer, as far as the upstream came to it, with the usage of all rounds."""


class Dialect(Protocol):
    """How one API offers tools, calls them, and takes their answers."""

    texts: str  # the field of a request that holds the conversation

    def offered(self, raw: Mapping[str, Any], sent: dict[str, Any]) -> dict[str, Any] | None:
        """`sent`, the shortened form of `raw`, with the tool; None when the client leaves no room for it."""

    def next_round(
        self, raw: Mapping[str, Any], done: Round, answers: Sequence[str], *, last: bool
    ) -> dict[str, Any]:
        """The request that goes on after the tool was called. In the last round it cannot be called again."""

    def read(self, value: dict[str, Any]) -> Round:
        """A plain reply. Raises LookupError, TypeError or AttributeError when it is none."""

    def finished(
        self, value: dict[str, Any], done: Round, shown: Sequence[Any], total: dict[str, Any] | None
    ) -> dict[str, Any]:
        """The last plain reply without our calls, after what earlier rounds have `shown`."""

    def editor(self) -> Editor:
        """For a streamed reply."""


def name_of(tool: object) -> str:
    """The name of a tool or of a call, in any API; empty where there is none."""
    if not isinstance(tool, dict):
        return ""
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else tool.get("name")
    return name if isinstance(name, str) else ""


def client_tools(raw: Mapping[str, Any]) -> list[Any] | None:
    """The client's tools; None where there is one of our tool's name, or something that is no list."""
    tools = raw.get("tools") or []
    if not isinstance(tools, list) or any(name_of(tool) == NAME for tool in tools):
        return None
    return tools
