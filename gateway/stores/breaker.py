"""A circuit breaker: after trouble, nobody waits for a store that is not there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

# Three calls in a row that failed is an outage, one is a hiccup; a second later one call tries again.
FAILURES_TO_OPEN: Final = 3
SECONDS_OPEN: Final = 1.0


class Breaker:
    """Closed: calls go through. Open: they fail at once. Half open: one call tries, the others still fail."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._failures = 0
        self._opened: float | None = None
        self._trying = False
        self.openings = 0

    @property
    def is_open(self) -> bool:
        """Whether the store counts as gone."""
        return self._opened is not None

    def admits(self) -> bool:
        """Whether a call may be made now; whoever gets True reports back with `succeeded` or `failed`."""
        if self._opened is None:
            return True
        if self._trying or self._monotonic() - self._opened < SECONDS_OPEN:
            return False
        self._trying = True
        return True

    def succeeded(self) -> None:
        """A call got its answer."""
        self._failures, self._opened, self._trying = 0, None, False

    def failed(self) -> None:
        """A call got none in time."""
        self._failures += 1
        self._trying = False
        if self._opened is not None or self._failures >= FAILURES_TO_OPEN:
            if self._opened is None:
                self.openings += 1
            self._opened = self._monotonic()
