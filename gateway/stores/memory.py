"""The cache of a single process: least recently used first out, bounded in bytes, entries expire."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

# Scores are one byte a word: 32 MiB hold some 30 million words and leave a worker well under 150 MB.
CACHE_BYTES: Final = 32 * 1024 * 1024
# What CPython spends on an entry beside its key and value (dict slot, tuple, three objects), measured.
ENTRY_OVERHEAD: Final = 290
# A mapping that grows takes one step for it: 16 ms at 175,000 entries. Each of these has its share of them.
_PARTS: Final = 16
_LONG_VALUE: Final = 256 * 1024


class MemoryCache:
    """A Cache in this process. No I/O, so its coroutines never wait."""

    def __init__(self, max_bytes: int = CACHE_BYTES, monotonic: Callable[[], float] = time.monotonic) -> None:
        # key -> value, expiry, number of its last use; the longest unused first
        self._parts: list[OrderedDict[str, tuple[bytes, float, int]]] = [OrderedDict() for _ in range(_PARTS)]
        self._uses = 0
        self._max_bytes = max_bytes
        self._monotonic = monotonic
        self.bytes_used = 0
        self.evictions = 0

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values, None where there is none (any more)."""
        return [self._get(key) for key in keys]

    async def set_many(self, items: Mapping[str, bytes], ttl_seconds: int) -> None:
        """Stores all of them; what does not fit pushes out what was longest unused."""
        for key, value in items.items():
            self._set(key, value, ttl_seconds)

    async def add_many(self, items: Mapping[str, bytes], ttl_seconds: int) -> list[bytes]:
        """Sets what is absent; returns what counts from now on, in the order of `items`."""
        stored = []
        for key, value in items.items():
            known = self._get(key)
            if known is None:
                self._set(key, value, ttl_seconds)
            stored.append(value if known is None else known)
        return stored

    async def close(self) -> None:
        """Forgets everything."""
        for part in self._parts:
            part.clear()
        self.bytes_used = 0

    def _part(self, key: str) -> OrderedDict[str, tuple[bytes, float, int]]:
        return self._parts[hash(key) % _PARTS]

    def _get(self, key: str) -> bytes | None:
        part = self._part(key)
        entry = part.get(key)
        if entry is None:
            return None
        value, expiry, _ = entry
        if expiry <= self._monotonic():
            self._drop(key)
            return None
        self._uses += 1
        part[key] = (value, expiry, self._uses)
        part.move_to_end(key)
        return value

    def _set(self, key: str, value: bytes, ttl_seconds: int) -> None:
        self._drop(key)
        size = len(key) + len(value) + ENTRY_OVERHEAD
        if size > self._max_bytes or ttl_seconds <= 0:
            return
        self._uses += 1
        # orjson's results keep the room that they grew in: 4 KB for 100 bytes, half a megabyte for 20 KB.
        # Longer values are put together from pieces, and copying them would take milliseconds.
        kept = bytes(memoryview(value)) if len(value) < _LONG_VALUE else value
        entry = (kept, self._monotonic() + ttl_seconds, self._uses)
        self._part(key)[key] = entry
        self.bytes_used += size
        while self.bytes_used > self._max_bytes:
            self._drop(self._longest_unused())
            self.evictions += 1

    def _longest_unused(self) -> str:
        """The key that was used before all others."""
        heads = [(part, next(iter(part))) for part in self._parts if part]
        return min(heads, key=lambda head: head[0][head[1]][2])[1]

    def _drop(self, key: str) -> None:
        entry = self._part(key).pop(key, None)
        if entry is not None:
            self.bytes_used -= len(key) + len(entry[0]) + ENTRY_OVERHEAD
