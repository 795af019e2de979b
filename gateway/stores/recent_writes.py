"""Writes that a server took a moment ago, to be said again to the one that takes its place.

Replication is asynchronous: a primary that dies takes along what it had answered and not yet passed on. Each
of these writes is safe to repeat, so the last seconds of them are simply written once more.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

Later = Callable[[], Awaitable[object]]

# Replicas are milliseconds behind, and a busy one some hundreds.
SECONDS: Final = 2.0
MOST: Final = 10_000  # at 1 kB each


class RecentWrites:
    """Of one process. What is old is forgotten, but for while the server is gone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._writes: deque[tuple[float, Later]] = deque(maxlen=MOST)
        self._gone = False

    def taken(self, write: Later) -> None:
        """A server has confirmed it."""
        now = self._clock()
        if not self._gone:
            while self._writes and self._writes[0][0] < now - SECONDS:
                self._writes.popleft()
        self._writes.append((now, write))

    def lost(self) -> None:
        """A call failed: the server that comes back may know less than the one that is gone."""
        if not self._gone:
            self._gone = True
            oldest = self._clock() - SECONDS
            while self._writes and self._writes[0][0] < oldest:
                self._writes.popleft()

    def back(self) -> list[Later]:
        """A server answers again: what it may not know, if it is another one. Forgets it."""
        self._gone = False
        writes = [write for _, write in self._writes]
        self._writes.clear()
        return writes
