"""When another attempt is made, after how long, and when not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from gateway.errors import UpstreamBroke, UpstreamUnreachable
from gateway.upstream.base import ReadyBody, UpstreamReply
from gateway.upstream.retries import Target, attempt_all, may_retry, wait_before


class Sender:
    """Gives its outcomes in order, and counts."""

    def __init__(self, *outcomes: int | Exception) -> None:
        self.outcomes = list(outcomes)
        self.calls = 0

    async def __call__(self) -> UpstreamReply:
        self.calls += 1
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return UpstreamReply(outcome, [("retry-after", "0")], ReadyBody([b"x"]))


def test_which_statuses() -> None:
    assert [s for s in range(200, 600) if may_retry(s)] == [408, 409, 429, 500, 502, 503, 504, 529]


@pytest.mark.parametrize(("attempt", "low", "high"), [(1, 0.125, 0.25), (2, 0.25, 0.5), (9, 4.0, 8.0)])
def test_backoff_doubles_with_jitter_up_to_a_bound(attempt: int, low: float, high: float) -> None:
    assert wait_before(attempt, "", lambda: 0.0) == low
    assert wait_before(attempt, "", lambda: 1.0) == high


def test_retry_after() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
    assert wait_before(1, "2.5") == 2.5
    assert wait_before(1, "-3") == 0
    assert 1 < (wait_before(1, soon) or 0) <= 3
    assert wait_before(1, past) == 0
    assert wait_before(1, "3600") is None
    assert wait_before(1, "soon", lambda: 1.0) == 0.25


async def test_the_first_good_reply_ends_it() -> None:
    first, second = Sender(503, UpstreamBroke("b"), 200), Sender(200)
    done = await attempt_all([Target(first, 2), Target(second, 2)])
    assert (done.reply.status, done.target, done.attempts, second.calls) == (200, 0, 3, 0)


async def test_the_next_target_takes_over() -> None:
    first, second = Sender(500, 500), Sender(UpstreamUnreachable("u"), 201)
    done = await attempt_all([Target(first, 1), Target(second, 1)])
    assert (done.reply.status, done.target, done.attempts) == (201, 1, 4)


async def test_a_clients_mistake_is_no_reason_for_another_model() -> None:
    first, second = Sender(400), Sender(200)
    done = await attempt_all([Target(first, 3), Target(second, 0)])
    assert (done.reply.status, first.calls, second.calls) == (400, 1, 0)


async def test_the_last_failure_is_given_or_raised() -> None:
    done = await attempt_all([Target(Sender(UpstreamBroke("b")), 0), Target(Sender(529), 0)])
    assert done.reply.status == 529
    with pytest.raises(UpstreamUnreachable):
        await attempt_all([Target(Sender(500), 0), Target(Sender(UpstreamUnreachable("u")), 0)])


async def test_other_errors_are_not_swallowed() -> None:
    with pytest.raises(KeyError):
        await attempt_all([Target(Sender(KeyError("a bug")), 5)])


class BreakingBody:
    """An event stream that ends in trouble before its first byte."""

    closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        raise UpstreamBroke("b")
        yield b""

    async def read(self) -> bytes:
        return b""

    async def close(self) -> None:
        self.closed = True


async def test_a_stream_counts_as_a_reply_with_its_first_byte() -> None:
    broken = BreakingBody()
    events = [("content-type", "text/event-stream")]
    replies = [UpstreamReply(200, events, broken), UpstreamReply(200, events, ReadyBody([b"a", b"b"]))]

    async def send() -> UpstreamReply:
        return replies.pop(0)

    done = await attempt_all([Target(send, 1)])
    assert broken.closed
    assert [chunk async for chunk in done.reply.body] == [b"a", b"b"]
