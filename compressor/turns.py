"""Short turns of Python's threads while something waits for them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# A thread that wants Python's lock from a busy one waits so long for its turn. The default is 5 ms, half of
# what a GPU takes for a prompt of 10k tokens; a shorter turn all the time costs a fifth of the CPU of small
# requests to a gateway, whose threads that write books take turns, too.
SHORT_TURN = 0.0005


class _Running:
    """How many want short turns now, and how long they were before."""

    lock = threading.Lock()
    count = 0
    usual = 0.0


@contextmanager
def short_turns() -> Iterator[None]:
    """Short turns until the last of those who want them has ended; safe from any thread and coroutine."""
    with _Running.lock:
        if not _Running.count:
            _Running.usual = sys.getswitchinterval()
            sys.setswitchinterval(min(SHORT_TURN, _Running.usual))
        _Running.count += 1
    try:
        yield
    finally:
        with _Running.lock:
            _Running.count -= 1
            if not _Running.count:
                sys.setswitchinterval(_Running.usual)
