"""Turns of Python's threads while something waits for them: short ones, and those that are given away.

A thread that waits for Python's lock asks its holder to hand it over, and sleeps. Where the holder lets go of
the lock by itself meanwhile, as numpy and tokenizers do for microseconds, the waiting thread wakes, mostly
finds it taken again, and its waiting begins anew: beside work of many small calls an event loop stood still
for 40 ms and more, however short the turns. So such work gives its turn away from time to time.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, MutableMapping, MutableSequence
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

# A thread that wants Python's lock from a busy one waits so long for its turn. The default is 5 ms, half of
# what a GPU takes for a prompt of 10k tokens; a shorter turn all the time costs a fifth of the CPU of small
# requests to a gateway, whose threads that write books take turns, too.
SHORT_TURN = 0.0005
_PORTION = 50  # objects that are let go of at once


class _Running:
    """How many want short turns now, and how long they were before."""

    lock = threading.Lock()
    count = 0
    usual = 0.0


class _OfThread(threading.local):
    """What this thread does to give its turn away; None: nobody waits for it."""

    give: Callable[[], None] | None = None


_of_thread = _OfThread()


@contextmanager
def short_turns(seconds: float = SHORT_TURN) -> Iterator[None]:
    """Turns no longer than this until the last of those who want short ones has ended; safe from any thread
    and coroutine.
    """
    with _Running.lock:
        if not _Running.count:
            _Running.usual = sys.getswitchinterval()
        sys.setswitchinterval(min(seconds, sys.getswitchinterval()))
        _Running.count += 1
    try:
        yield
    finally:
        with _Running.lock:
            _Running.count -= 1
            if not _Running.count:
                sys.setswitchinterval(_Running.usual)


@contextmanager
def giving_way(give: Callable[[], None]) -> Iterator[None]:
    """Inside of it `give_way` calls `give` in this thread: it waits there until others had their turn. So do
    threads that began with `give_way_alike`; `give` may be called by several at once.
    """
    before, _of_thread.give = _of_thread.give, give
    try:
        yield
    finally:
        _of_thread.give = before


def give_way_alike() -> Callable[[], None]:
    """To be called first in a thread that helps this one: it gives way to the same."""
    give = _of_thread.give

    def adopt() -> None:
        _of_thread.give = give

    return adopt


def give_way() -> None:
    """Others have their turn, if this thread has promised it to anybody. To be called every half millisecond
    of work that consists of small calls into numpy or a tokenizer.
    """
    if _of_thread.give is not None:
        _of_thread.give()


def in_turns(items: Iterable[T]) -> Iterator[T]:
    """The items; others have their turn before each."""
    for item in items:
        give_way()
        yield item


def forget(known: MutableMapping[Any, Any]) -> None:
    """Empties a mapping one by one: a million keys that end together hold the lock for 20 ms and more."""
    while known:
        known.popitem()


def let_go(items: MutableSequence[Any]) -> None:
    """Empties a list, in portions: objects of thousands of texts that end together hold the lock for long."""
    while items:
        del items[-_PORTION:]
        give_way()
