"""What every upstream offers: the pass-through, the bridge to other providers, and the offline one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.shapes import Surface


@dataclass(frozen=True, slots=True)
class UpstreamCall:
    """One attempt: what goes to one upstream. `headers` hold no key of ours and nothing hop-by-hop."""

    surface: Surface
    path: str  # below the base URL: "/chat/completions"
    body: bytes
    model: str  # as this upstream calls it; `body` says the same
    stream: bool
    headers: Sequence[tuple[str, str]] = ()  # lower-case names
    client_key: str = ""  # the client's own key, sent on where the upstream has none; empty: never


class ReplyBody(Protocol):
    """The body of a reply, taken once: whole, or chunk by chunk as it comes."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Raises UpstreamBroke or UpstreamTimeout in the middle."""

    async def read(self) -> bytes:
        """All of it. Raises as the iteration does."""

    async def close(self) -> None:
        """Gives the connection back, or cuts it when the body was not read to its end. Never raises."""


@dataclass(frozen=True, slots=True)
class UpstreamReply:
    """Status, headers (lower-case names, nothing hop-by-hop) and body of one reply."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: ReplyBody

    def header(self, name: str) -> str:
        """The first header of this (lower-case) name, or ""."""
        for key, value in self.headers:
            if key == name:
                return value
        return ""

    @property
    def event_stream(self) -> bool:
        """Whether the body is server-sent events."""
        return self.header("content-type").startswith("text/event-stream")


class Upstream(Protocol):
    """Sends one call, once. Retries and fallbacks are the caller's."""

    async def send(self, call: UpstreamCall) -> UpstreamReply:
        """Raises UpstreamUnreachable, UpstreamTimeout, UpstreamBroke; the upstream's own error is a reply."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ReadyBody:
    """A body that is already here, in one part or several."""

    parts: Sequence[bytes] = ()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            yield part

    async def read(self) -> bytes:
        """The parts joined."""
        return b"".join(self.parts)

    async def close(self) -> None:
        """Nothing to give back."""
