"""Large work on a few threads, in short turns: the event loop goes on beside it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import ParamSpec, TypeVar

from compressor.lanes import Lanes
from compressor.turns import giving_way, short_turns
from gateway.releasing import HUGE, LARGE, size_of_request

P = ParamSpec("P")
T = TypeVar("T")

# A thread gives its turn away after so much work; waiting for the event loop takes some 50 us.
_TURN_SECONDS = 0.001
# The shortest sleep of uvloop. One of nothing lets go of Python's lock for less than a sleeping thread needs
# to take it: the server's threads, which bring requests in, waited for up to 2.5 s beside 129,000 messages.
PAUSE_SECONDS = 0.001
# So long does the event loop wait for Python's lock whenever it wants it, several times in each of its turns.
# Beside 8 MB of JSON, code or HTML 0.5 ms each make its longest turn 5 to 6 ms, 0.2 make it 4; beside 129,000
# messages 0.2 make it 6 to 8, 0.05 make it 5. Shorter ones cost nothing that could be measured.
_SHORT_TURN = 0.00005
_LONGEST_SECONDS = 1.0  # an event loop that has ended is not waited for any longer, nor again


class _Since(threading.local):
    """When the event loop had its last turn of this thread."""

    value = 0.0


class _Turns:
    """Lets an event loop go on beside a thread, or several."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._since = _Since()
        self._goes_on = True

    def give(self) -> None:
        """Waits until the loop had its turn, once enough was done since it had its last."""
        if time.perf_counter() - self._since.value < _TURN_SECONDS or not self._goes_on:
            return
        had = threading.Lock()
        had.acquire()
        try:
            # Not at once but in the loop's next round: whatever it has to do until then goes on undisturbed.
            # Each of its steps wants Python's lock anew, and waited for a millisecond of ours, ten times a
            # round beside 129,000 messages.
            self._loop.call_soon_threadsafe(self._loop.call_soon, had.release)
            self._goes_on = had.acquire(timeout=_LONGEST_SECONDS)
        except RuntimeError:  # the loop is closed
            self._goes_on = False
        self._since.value = time.perf_counter()


# A thread for each size of requests, in bytes: the more there are, the longer the event loop waits.
_lanes = Lanes("terse-work", {"terse-large": LARGE - 1, "terse-huge": HUGE - 1})


async def on_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The function's result, from a thread that gives way to this event loop."""
    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()

    def work() -> T:
        with giving_way(_Turns(loop).give):
            return function(*args, **kwargs)

    with short_turns(_SHORT_TURN):
        return await loop.run_in_executor(_lanes.of(size_of_request()), context.run, work)


async def with_pauses(items: Iterable[T]) -> AsyncIterator[T]:
    """The items; between two of them others have their turn, on this event loop and on other threads. For
    work that stays on the loop, a millisecond for each item.
    """
    for number, item in enumerate(items):
        if number:
            await asyncio.sleep(PAUSE_SECONDS)
        yield item


async def at_work(large: bool, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The function's result; large work is done on a thread, so that the event loop stays free."""
    if large:
        return await on_thread(function, *args, **kwargs)
    return function(*args, **kwargs)
