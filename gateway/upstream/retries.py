"""Which failures are tried again, how long to wait, and when the next model takes over.

Only before the first byte of an answer: afterwards the client has seen something.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from gateway.errors import GatewayError
from gateway.upstream.base import ReplyBody, UpstreamReply

# What OpenAI's and Anthropic's own clients retry: timeouts, conflicts, rates, trouble (529: overloaded).
_RETRIED_STATUS = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
_FIRST_WAIT = 0.25  # seconds; doubles with each attempt, as the official clients' backoff (0.5 s) but sooner
_LONGEST_WAIT = 8.0  # seconds; an upstream that asks for more is not waited for


@dataclass(frozen=True, slots=True)
class Target:
    """How one target is tried: `send` once per attempt, `retries` times more at most."""

    send: Callable[[], Awaitable[UpstreamReply]]
    retries: int


@dataclass(frozen=True, slots=True)
class Attempted:
    """The reply that goes to the client, which target gave it, and how many attempts it took."""

    reply: UpstreamReply
    target: int
    attempts: int


def may_retry(status: int) -> bool:
    """Whether a reply of this status is worth another attempt."""
    return status in _RETRIED_STATUS


def wait_before(attempt: int, retry_after: str, draw: Callable[[], float] = random.random) -> float | None:
    """Seconds to wait before attempt number `attempt` (1 is the first repetition); None: give up.

    `retry_after` is the upstream's header, in seconds or as an HTTP date; it is honoured up to 8 s.
    """
    asked = _seconds(retry_after)
    if asked is not None:
        return asked if asked <= _LONGEST_WAIT else None
    longest = min(_FIRST_WAIT * 2.0 ** (attempt - 1), _LONGEST_WAIT)
    return longest * (0.5 + draw() / 2)


def _seconds(retry_after: str) -> float | None:
    if not retry_after:
        return None
    try:
        return max(float(retry_after), 0.0)
    except ValueError:
        pass
    try:
        return max((parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return None


async def attempt_all(targets: Sequence[Target]) -> Attempted:
    """Tries the targets in order, each with its retries. The last failure is given or raised as it came."""
    made = 0
    for index, target in enumerate(targets):
        outcome, attempts = await _attempt(target)
        made += attempts
        if isinstance(outcome, UpstreamReply):
            if index == len(targets) - 1 or not may_retry(outcome.status):
                return Attempted(outcome, index, made)
            await outcome.body.close()
        elif index == len(targets) - 1:
            raise outcome
    raise ValueError("there is no target to try")


async def _attempt(target: Target) -> tuple[UpstreamReply | GatewayError, int]:
    """The first reply that needs no other attempt, or the last failure; and the number of attempts."""
    number = 0
    while True:
        number += 1
        outcome: UpstreamReply | GatewayError
        try:
            outcome = await with_first_byte(await target.send())
        except GatewayError as error:
            outcome = error
        if isinstance(outcome, UpstreamReply) and not may_retry(outcome.status):
            return outcome, number
        wait = wait_before(number, _retry_after(outcome)) if number <= target.retries else None
        if wait is None:
            return outcome, number
        if isinstance(outcome, UpstreamReply):
            await outcome.body.close()
        await asyncio.sleep(wait)


async def with_first_byte(reply: UpstreamReply) -> UpstreamReply:
    """The reply once its stream has begun: one that breaks before its first byte can still be tried again."""
    if not reply.event_stream:
        return reply
    chunks = aiter(reply.body)
    try:
        first = await anext(chunks, b"")
    except BaseException:
        await reply.body.close()
        raise
    return replace(reply, body=_Begun(first, chunks, reply.body))


class _Begun:
    """A stream whose first chunk is here."""

    def __init__(self, first: bytes, rest: AsyncIterator[bytes], body: ReplyBody) -> None:
        self._first = first
        self._rest = rest
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._first:
            yield self._first
        async for chunk in self._rest:
            yield chunk

    async def read(self) -> bytes:
        """All of it."""
        return b"".join([chunk async for chunk in self])

    async def close(self) -> None:
        """Gives the connection back, or cuts it."""
        await self._body.close()


def _retry_after(outcome: UpstreamReply | GatewayError) -> str:
    return outcome.header("retry-after") if isinstance(outcome, UpstreamReply) else ""
