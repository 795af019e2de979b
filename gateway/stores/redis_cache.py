"""The cache in Redis, shared by all gateways. Trouble is a miss."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.errors import Unavailable
from gateway.stores.redis_link import RedisLink

PREFIX: Final = "{terse}:c:"


class RedisCache:
    """A Cache in Redis. Its entries are the first to go when Redis evicts (`volatile-lru`)."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self.trouble = 0  # calls that became misses because Redis did not answer

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values in one round trip; all None when Redis does not answer."""
        if not keys:
            return []
        try:
            found: list[bytes | None] = await self._link.command("MGET", *[PREFIX + key for key in keys])
        except Unavailable:
            self.trouble += 1
            return [None] * len(keys)
        return found

    async def set_many(self, items: Mapping[str, bytes], ttl_seconds: int) -> None:
        """Stores all of them in one round trip, or nothing when Redis does not answer."""
        if ttl_seconds <= 0:
            return
        calls = [
            self._link.command("SET", PREFIX + key, value, "EX", ttl_seconds) for key, value in items.items()
        ]
        for result in await asyncio.gather(*calls, return_exceptions=True):
            self._count(result)

    async def add_many(self, items: Mapping[str, bytes], ttl_seconds: int) -> list[bytes]:
        """Sets what is absent; returns what counts from now on. Without Redis that is what was given."""
        calls = [
            self._link.script("add_entry", [PREFIX + key], [value, max(1, ttl_seconds)])
            for key, value in items.items()
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
        stored = []
        for value, result in zip(items.values(), results, strict=True):
            self._count(result)
            stored.append(result if isinstance(result, bytes) else value)
        return stored

    async def close(self) -> None:
        """Ends this lane; what is in Redis stays."""
        await self._link.close()

    def _count(self, result: object) -> None:
        if isinstance(result, Unavailable):
            self.trouble += 1
        elif isinstance(result, BaseException):
            raise result
