"""The contract of Registry, for both implementations."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import Conflict
from gateway.stores.base import Record, Registry


async def test_put_get_delete(registry: Registry) -> None:
    assert await registry.get("keys", "k") is None
    assert await registry.put("keys", "k", b'{"team":"a"}', None) == Record("k", b'{"team":"a"}', 1)
    assert await registry.get("keys", "k") == Record("k", b'{"team":"a"}', 1)
    assert await registry.get("teams", "k") is None
    assert (await registry.put("keys", "k", b"{}", 1)).version == 2
    assert await registry.delete("keys", "k")
    assert not await registry.delete("keys", "k")
    assert await registry.get("keys", "k") is None


@pytest.mark.parametrize("expected", [None, 2, 7])
async def test_compare_and_set(registry: Registry, expected: int | None) -> None:
    await registry.put("keys", "k", b"{}", None)
    with pytest.raises(Conflict) as caught:
        await registry.put("keys", "k", b'{"x":1}', expected)
    assert caught.value.status == 409
    assert await registry.get("keys", "k") == Record("k", b"{}", 1)


async def test_change_of_what_was_deleted(registry: Registry) -> None:
    await registry.put("keys", "k", b"{}", None)
    await registry.delete("keys", "k")
    with pytest.raises(Conflict, match="deleted"):
        await registry.put("keys", "k", b"{}", 1)


async def test_of_many_admins_at_once_one_wins(registry: Registry) -> None:
    await registry.put("teams", "t", b"{}", None)
    results = await asyncio.gather(
        *[registry.put("teams", "t", b'{"n":%d}' % n, 1) for n in range(20)], return_exceptions=True
    )
    won = [result for result in results if isinstance(result, Record)]
    assert len(won) == 1
    assert await registry.get("teams", "t") == won[0]
    assert all(isinstance(result, Conflict) for result in results if result not in won)


async def test_scan_gives_all_by_name(registry: Registry) -> None:
    names = [f"n{number:03}" for number in range(451)]
    await asyncio.gather(*[registry.put("keys", name, b"{}", None) for name in reversed(names)])
    await registry.put("teams", "other", b"{}", None)
    assert [record.name async for record in registry.scan("keys")] == names


async def test_linked_records_come_together(registry: Registry) -> None:
    await registry.put("teams", "red", b'{"x":1}', None)
    await registry.put("keys", "a", b'{"team":"red"}', None)
    await registry.put("keys", "b", b'{"team":"gone"}', None)
    await registry.put("keys", "c", b'{"team":null}', None)
    key, team = await registry.get_linked("keys", "a", "team", "teams")
    assert key == Record("a", b'{"team":"red"}', 1)
    assert team == Record("red", b'{"x":1}', 1)
    assert (await registry.get_linked("keys", "b", "team", "teams"))[1] is None
    assert (await registry.get_linked("keys", "c", "team", "teams"))[1] is None
    assert await registry.get_linked("keys", "none", "team", "teams") == (None, None)
