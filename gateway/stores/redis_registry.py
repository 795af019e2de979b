"""Keys and teams in Redis, shared by all gateways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from gateway.stores.base import Record
from gateway.stores.redis_link import RedisLink
from gateway.stores.sqlite import check_version

ROOT: Final = "{terse}:k"
PAGE: Final = 200  # records read in one round trip of a scan


class RedisRegistry:
    """Raises gateway.errors.Unavailable from every call when Redis does not answer."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    async def get(self, collection: str, name: str) -> Record | None:
        """The record, or None."""
        data, version = await self._link.command("HMGET", _key(collection, name), "d", "v")
        return None if data is None else Record(name, data, int(version))

    async def get_linked(
        self, collection: str, name: str, field: str, other: str
    ) -> tuple[Record | None, Record | None]:
        """A record and the one that its field names, in one round trip."""
        data, version, link, other_data, other_version = await self._link.script(
            "get_linked", [_key(collection, name)], [field, _key(other, "")]
        )
        record = None if data is None else Record(name, data, int(version))
        if other_data is None:
            return record, None
        return record, Record(link.decode(), other_data, int(other_version))

    async def put(self, collection: str, name: str, data: bytes, expected_version: int | None) -> Record:
        """Creates (None) or changes a record. Raises Conflict when it has another version by now."""
        expected = "" if expected_version is None else str(expected_version)
        done, version = await self._link.script(
            "put_record", [_key(collection, name), _index(collection)], [name, data, expected]
        )
        if not done:
            check_version(collection, name, None if version < 0 else version, expected_version)
        return Record(name, data, version)

    async def delete(self, collection: str, name: str) -> bool:
        """Whether there was one."""
        deleted = await self._link.command("DEL", _key(collection, name))
        await self._link.command("ZREM", _index(collection), name)
        return bool(deleted)

    async def scan(self, collection: str) -> AsyncIterator[Record]:
        """All records of a collection, by name, a page a round trip."""
        after = "-"
        while True:
            names = await self._link.command(
                "ZRANGE", _index(collection), after, "+", "BYLEX", "LIMIT", 0, PAGE
            )
            page = await asyncio.gather(*[self.get(collection, name.decode()) for name in names])
            for record in page:
                if record is not None:
                    yield record
            if len(names) < PAGE:
                return
            after = "(" + names[-1].decode()

    async def close(self) -> None:
        """Ends this lane."""
        await self._link.close()


def _key(collection: str, name: str) -> str:
    return f"{ROOT}:{collection}:{name}"


def _index(collection: str) -> str:
    return f"{ROOT}:index:{collection}"
