"""A mapping bounded in bytes: the longest unused goes first, and few at once, so that nobody waits for it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from heapq import heappop, heappush, heapreplace
from typing import Final, Generic, TypeVar

from gateway.turns import PAUSE_SECONDS

V = TypeVar("V")

# A mapping makes its table anew in one step, 16 ms at 175,000 entries, and again after as many that came and
# went. Each of these has its share; of 16, several took 1.4 ms each in one turn of the event loop.
_PARTS: Final = 128
# Entries dropped in one step, a third of a millisecond. What is kept of a text of 32 MB pushes out thousands.
_AT_ONCE: Final = 50


class LruCache(Generic[V]):
    """Values under keys, for one thread. `size_of` tells the bytes of an entry, the same each time.

    Within an event loop what a large value pushes out leaves in several turns; until then there may be up to
    twice the bytes.
    """

    def __init__(self, max_bytes: int, size_of: Callable[[str, V], int]) -> None:
        # key -> value, number of its last use; the longest unused first
        self._parts: list[OrderedDict[str, tuple[V, int]]] = [OrderedDict() for _ in range(_PARTS)]
        # (number of use, part): of each part with entries one, and none of its uses is older
        self._oldest: list[tuple[int, int]] = []
        self._listed = [False] * _PARTS  # whether a part stands there
        self._size_of = size_of
        self._uses = 0
        self._max_bytes = max_bytes
        self._making_room = False
        self.bytes_used = 0
        self.evictions = 0

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def get(self, key: str) -> V | None:
        """The value, which counts as used now."""
        part = self._part(key)
        entry = part.get(key)
        if entry is None:
            return None
        self._uses += 1
        part[key] = (entry[0], self._uses)
        part.move_to_end(key)
        return entry[0]

    def peek(self, key: str) -> V | None:
        """The value, without a use."""
        entry = self._part(key).get(key)
        return None if entry is None else entry[0]

    def put(self, key: str, value: V) -> None:
        """Keeps the value, which counts as used now; one larger than the bound is not kept."""
        self.drop(key)
        size = self._size_of(key, value)
        if size > self._max_bytes:
            return
        self._uses += 1
        number = hash(key) % _PARTS
        self._parts[number][key] = (value, self._uses)
        if not self._listed[number]:
            self._listed[number] = True
            heappush(self._oldest, (self._uses, number))
        self.bytes_used += size
        while self.bytes_used > 2 * self._max_bytes:
            self._evict()
        if not self._making_room:
            self._make_room()

    def drop(self, key: str) -> None:
        """Forgets the value, if there is one."""
        entry = self._part(key).pop(key, None)
        if entry is not None:
            self.bytes_used -= self._size_of(key, entry[0])

    def clear(self) -> None:
        """Forgets everything."""
        for part in self._parts:
            part.clear()
        self._oldest.clear()
        self._listed = [False] * _PARTS
        self.bytes_used = 0

    def _part(self, key: str) -> OrderedDict[str, tuple[V, int]]:
        return self._parts[hash(key) % _PARTS]

    def _make_room(self) -> None:
        self._making_room = False
        for _ in range(_AT_ONCE):
            if self.bytes_used <= self._max_bytes:
                return
            self._evict()
        try:
            asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._make_room)
            self._making_room = True
        except RuntimeError:  # there is no loop that could wait
            while self.bytes_used > self._max_bytes:
                self._evict()

    def _evict(self) -> None:
        self.drop(self._longest_unused())
        self.evictions += 1

    def _longest_unused(self) -> str:
        """The key that was used before all others."""
        while True:
            use, number = self._oldest[0]
            part = self._parts[number]
            if not part:
                heappop(self._oldest)
                self._listed[number] = False
                continue
            key = next(iter(part))
            first_use = part[key][1]
            if first_use == use:
                return key
            heapreplace(self._oldest, (first_use, number))
