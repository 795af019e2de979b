"""The contract of Cache, for both implementations."""

from __future__ import annotations

import asyncio

from gateway.stores.base import Cache


async def test_get_what_was_set(cache: Cache) -> None:
    await cache.set_many({"a": b"1", "b": bytes(range(256))}, ttl_seconds=60)
    assert await cache.get_many(["b", "none", "a"]) == [bytes(range(256)), None, b"1"]
    assert await cache.get_many([]) == []


async def test_set_replaces(cache: Cache) -> None:
    await cache.set_many({"a": b"old"}, 60)
    await cache.set_many({"a": b"new"}, 60)
    assert await cache.get_many(["a"]) == [b"new"]


async def test_add_keeps_what_is_there(cache: Cache) -> None:
    await cache.set_many({"b": b"first"}, 60)
    assert await cache.add_many({"a": b"x", "b": b"second"}, 60) == [b"x", b"first"]
    assert await cache.get_many(["a", "b"]) == [b"x", b"first"]


async def test_two_that_add_at_once_get_the_same(cache: Cache) -> None:
    answers = await asyncio.gather(*[cache.add_many({"k": b"%d" % n}, 60) for n in range(50)])
    assert len({answer[0] for answer in answers}) == 1


async def test_entries_expire(cache: Cache) -> None:
    await cache.set_many({"a": b"1"}, ttl_seconds=1)
    await cache.set_many({"b": b"1"}, ttl_seconds=60)
    await asyncio.sleep(1.05)
    assert await cache.get_many(["a", "b"]) == [None, b"1"]


async def test_no_time_to_live_is_not_kept(cache: Cache) -> None:
    await cache.set_many({"a": b"1"}, ttl_seconds=0)
    assert await cache.get_many(["a"]) == [None]
