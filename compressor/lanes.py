"""Threads for work on texts: few, since Python runs one of them at a time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor

# Tokenising or shortening so many characters takes some 50 ms; whoever comes behind a longer text would wait.
LONG_TEXT = 100_000


class Lanes:
    """A thread for short texts and one or more for longer ones, each first come, first served.

    numpy lets go of Python's lock at every array of more than some hundred values, so threads that work side
    by side on texts hand it to and fro thousands of times a second: choosing words in sixteen texts of 10k
    tokens took two cores 473 ms of CPU and 276 by the clock on sixteen threads, 199 and 205 on one.
    """

    def __init__(self, name: str, longer: Mapping[str, int] | None = None) -> None:
        """`longer`: threads for what is longer than so much, shortest first; one from LONG_TEXT on."""
        longer = {f"{name}-long": LONG_TEXT} if longer is None else longer
        self._bounds = list(longer.values())
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix=each) for each in (name, *longer)]

    def of(self, size: int) -> Executor:
        """The thread for a text of this size; it is started when there is work for it."""
        return self._threads[bisect_left(self._bounds, size)]

    def close(self) -> None:
        """Nothing more is taken; what was taken is done. Does not wait."""
        for thread in self._threads:
            thread.shutdown(wait=False)
