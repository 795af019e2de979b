"""What only the in-process stores have: a bound in bytes, a file that survives, and how stores are opened."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import tracemalloc
from collections import OrderedDict
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Config, Secret
from gateway.errors import BudgetExceeded
from gateway.settings import Settings
from gateway.stores.base import Account, Hold
from gateway.stores.memory import ENTRY_OVERHEAD, MemoryCache
from gateway.stores.open import FILE_NAME, open_local, open_stores
from gateway.stores.sqlite import SCHEMA_VERSION, Database
from gateway.stores.verdicts import duration, usd
from policies.shapes import Budget

ACCOUNT = Account("team:red", (Budget(usd=1.0, per="total"), Budget(usd=1.0, per="month", sliding=True)))


async def test_the_cache_stays_within_its_bytes() -> None:
    cache = MemoryCache(max_bytes=10 * (100 + 1 + ENTRY_OVERHEAD))
    for number in range(30):
        await cache.set_many({chr(97 + number % 26): bytes(100)}, 60)
        await cache.get_many(["a"])  # what is used stays
        assert cache.bytes_used <= 10 * (100 + 1 + ENTRY_OVERHEAD)
    assert await cache.get_many(["a"]) == [bytes(100)]
    assert cache.evictions == 29 - 10  # `a` was set twice


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=200), st.integers(1, 12))
def test_the_longest_unused_goes_first_wherever_it_is_kept(steps: list[tuple[bool, int]], room: int) -> None:
    keys = [f"{number:03}" for number in range(41)]
    cache = MemoryCache(max_bytes=room * (3 + 1 + ENTRY_OVERHEAD))
    expected: OrderedDict[str, bytes] = OrderedDict()

    async def use() -> None:
        for stores, number in steps:
            key = keys[number]
            if stores:
                await cache.set_many({key: b"1"}, 60)
                expected.pop(key, None)
                expected[key] = b"1"
                if len(expected) > room:
                    expected.popitem(last=False)
            else:
                assert await cache.get_many([key]) == [expected.get(key)]
                if key in expected:
                    expected.move_to_end(key)
        assert await cache.get_many(keys) == [expected.get(key) for key in keys]

    asyncio.run(use())


async def test_what_is_larger_than_the_cache_is_not_kept() -> None:
    cache = MemoryCache(max_bytes=1000)
    await cache.set_many({"small": b"1"}, 60)
    await cache.set_many({"large": bytes(2000)}, 60)
    assert await cache.get_many(["small", "large"]) == [b"1", None]
    assert await cache.add_many({"large": bytes(2000)}, 60) == [bytes(2000)]


async def test_expired_entries_free_their_bytes() -> None:
    now = [0.0]
    cache = MemoryCache(monotonic=lambda: now[0])
    await cache.set_many({"a": bytes(500)}, ttl_seconds=10)
    now[0] = 10.0
    assert await cache.get_many(["a"]) == [None]
    assert cache.bytes_used == 0


async def test_spending_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "a" / "terse.db"
    stores = open_local(path)
    await stores.ledger.settle(await stores.ledger.reserve(Hold("a", (ACCOUNT,), 700_000, 5)), 700_000, 5)
    await stores.ledger.reserve(Hold("running", (ACCOUNT,), 300_000, 5))
    await stores.registry.put("keys", "k", b"{}", None)
    await stores.close()
    stores = open_local(path)
    assert (await stores.ledger.spent([ACCOUNT])).share == pytest.approx(0.7)  # the running one died with it
    with pytest.raises(BudgetExceeded):
        await stores.ledger.reserve(Hold("b", (ACCOUNT,), 300_001, 5))
    record = await stores.registry.get("keys", "k")
    assert record is not None
    await stores.close()
    assert path.stat().st_mode & 0o077 == 0


WRITER = """
import asyncio, sys
from pathlib import Path
from gateway.stores.base import Account, Hold
from gateway.stores.open import open_local
from policies.shapes import Budget

async def main():
    stores = open_local(Path(sys.argv[1]))
    account = Account("team:red", (Budget(usd=1000.0, per="total"),))
    async def one(number):
        await stores.ledger.settle(await stores.ledger.reserve(Hold(f"h{number}", (account,), 10, 1)), 10, 1)
        await stores.ledger.book({"request_id": f"r{number}", "at": "2026-06-01", "team": "red"})
        sys.stdout.write(".")
        sys.stdout.flush()
    number = 0
    while True:
        await asyncio.gather(*[one(number + n) for n in range(7)])
        number += 7

asyncio.run(main())
"""


def killed_writer(path: Path, after: int) -> int:
    """How many requests a process had settled when it was killed, some time after so many."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    settled = len(process.stdout.read(after))
    os.kill(process.pid, signal.SIGKILL)
    settled += len(process.stdout.read())
    process.wait()
    process.stdout.close()
    return settled


@pytest.mark.parametrize("after", [1, 40, 333])
async def test_sigkill_loses_nothing_that_was_settled(tmp_path: Path, after: int) -> None:
    path = tmp_path / "terse.db"
    settled = await asyncio.to_thread(killed_writer, path, after)
    stores = open_local(path)
    account = Account("team:red", (Budget(usd=1000.0, per="total"),))
    charged = round((await stores.ledger.spent([account])).share * 1e9 / 10)
    booked = (await stores.ledger.totals(by=("team",)))[0]["requests"]
    assert settled <= charged <= settled + 14
    assert settled <= int(booked) <= settled + 7
    await stores.close()


async def test_two_processes_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "terse.db"
    one, other = open_local(path), open_local(path)
    await asyncio.gather(
        *[
            stores.registry.put("keys", f"{name}{number}", b"{}", None)
            for name, stores in (("a", one), ("b", other))
            for number in range(50)
        ]
    )
    assert len([record async for record in one.registry.scan("keys")]) == 100
    for number, stores in enumerate((one, other)):
        await stores.ledger.book({"request_id": str(number), "at": "2026-06-01", "team": "red"})
    assert (await one.ledger.totals())[0]["requests"] == 2
    await one.close()
    await other.close()


async def test_work_that_fails_does_not_take_others_with_it(tmp_path: Path) -> None:
    database = Database(tmp_path / "terse.db")

    def bad(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO totals VALUES ('x', 1)")
        raise RuntimeError("no")

    def good(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO totals VALUES ('y', 1)")

    results = await asyncio.gather(*[database.run(work) for work in (good, bad)], return_exceptions=True)
    assert results[0] is None
    assert isinstance(results[1], RuntimeError)
    rows = await database.run(lambda db: db.execute("SELECT account FROM totals").fetchall())
    assert rows == [("y",)]
    database.close()
    with pytest.raises(sqlite3.ProgrammingError):
        await database.run(good)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(b"hello" * 1000)
    with pytest.raises(sqlite3.Error, match="terse"):
        open_stores(Settings(data_dir=str(tmp_path)), Config())


def test_a_file_of_a_newer_version(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    db.close()
    with pytest.raises(sqlite3.Error, match="newer"):
        open_local(path)


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", ""])
def test_a_store_that_is_no_redis(url: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path), redis_url=Secret("redis://unused"))
    with pytest.raises(ValueError, match="redis://") as caught:
        open_stores(settings, Config(store=Secret(url or "nothing://secret@host")))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["redis://h:1/0", "rediss://h", "unix:///tmp/s", "valkey://h:1"])
async def test_stores_in_redis_open_without_it(url: str) -> None:
    stores = open_stores(Settings(), Config(store=Secret(url)))
    assert stores.kind == "redis"
    await stores.close()


async def test_without_redis_everything_is_local(tmp_path: Path) -> None:
    stores = open_stores(Settings(data_dir=str(tmp_path)), Config())
    assert stores.kind == "local"
    assert (tmp_path / FILE_NAME).exists()
    await stores.close()
    await stores.close()


def test_how_money_and_time_are_told() -> None:
    assert [usd(1), usd(1_500_000), usd(123), usd(0)] == ["0.000001", "1.50", "0.000123", "0.00"]
    assert [duration(0), duration(65), duration(3600)] == ["0s", "1m5s", "1h0m0s"]


async def test_values_take_no_more_memory_than_their_length() -> None:
    """What orjson returns keeps the room that it was written in, up to thirty times its length."""
    cache = MemoryCache()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for n in range(100):
            await cache.set_many({f"key {n}": orjson.dumps([n, *range(3000)])}, 60)
        assert tracemalloc.get_traced_memory()[0] - before < 1.1 * cache.bytes_used
    finally:
        tracemalloc.stop()
