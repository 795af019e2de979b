"""The cache of a single process: least recently used first out, bounded in bytes, entries expire."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from gateway.lru import LruCache

# Scores are one byte a word: 32 MiB hold some 30 million words and leave a worker well under 150 MB.
CACHE_BYTES: Final = 32 * 1024 * 1024
# What CPython spends on an entry beside its key and value (dict slot, two tuples, objects), measured.
ENTRY_OVERHEAD: Final = 340
_LONG_VALUE: Final = 256 * 1024


class MemoryCache:
    """A Cache in this process. No I/O, so its coroutines never wait."""

    def __init__(self, max_bytes: int = CACHE_BYTES, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._entries: LruCache[tuple[bytes, float]] = LruCache(max_bytes, _size_of)  # value, expiry
        self._monotonic = monotonic

    @property
    def bytes_used(self) -> int:
        """Bytes of all entries, about."""
        return self._entries.bytes_used

    @property
    def evictions(self) -> int:
        """Entries that were pushed out by others."""
        return self._entries.evictions

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
        self._entries.clear()

    def _get(self, key: str) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, expiry = entry
        if expiry <= self._monotonic():
            self._entries.drop(key)
            return None
        return value

    def _set(self, key: str, value: bytes, ttl_seconds: int) -> None:
        if ttl_seconds <= 0:
            self._entries.drop(key)
            return
        # orjson's results keep the room that they grew in: 4 KB for 100 bytes, half a megabyte for 20 KB.
        # Longer values are put together from pieces, and copying them would take milliseconds.
        kept = bytes(memoryview(value)) if len(value) < _LONG_VALUE else value
        self._entries.put(key, (kept, self._monotonic() + ttl_seconds))


def _size_of(key: str, entry: tuple[bytes, float]) -> int:
    return len(key) + len(entry[0]) + ENTRY_OVERHEAD
