"""Fixtures: one Valkey server a session, and each store twice, in process and in Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.stores.base import Cache, Ledger, Registry
from gateway.stores.breaker import Breaker
from gateway.stores.memory import MemoryCache
from gateway.stores.redis_cache import RedisCache
from gateway.stores.redis_ledger import RedisLedger
from gateway.stores.redis_link import RedisLink, Scripts, connect
from gateway.stores.redis_registry import RedisRegistry
from gateway.stores.sqlite import Database, SqliteRegistry
from gateway.stores.sqlite_ledger import SqliteLedger
from tests.with_redis.server import RedisServer

KINDS = ("local", "redis")
# Here answers are compared, not times: a busy machine must not look like an outage.
PATIENT_SECONDS = 10.0
MONDAY = 1_780_272_000  # 2026-06-01T00:00:00Z, a Monday and the first of a month


@dataclass
class Clock:
    """A clock that tests turn."""

    now: float = MONDAY + 12 * 3600.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests that do not break it."""
    server = RedisServer(tmp_path_factory.mktemp("valkey"))
    yield server
    server.kill()


@pytest.fixture
def fresh_redis(redis_server: RedisServer) -> RedisServer:
    """The session's server, emptied."""
    with redis_server.client() as client:
        client.flushall()
    return redis_server


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test may kill or freeze."""
    server = RedisServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def clock() -> Clock:
    """Stands at noon of the first of June 2026 until a test turns it."""
    return Clock()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which implementation the test runs against."""
    return str(request.param)


@pytest.fixture
async def link(request: pytest.FixtureRequest, kind: str) -> AsyncIterator[RedisLink | None]:
    """A lane to the emptied server, None for the local stores."""
    if kind == "local":
        yield None
        return
    server: RedisServer = request.getfixturevalue("fresh_redis")
    client = connect(server.url)
    link = RedisLink(client, Scripts(), Breaker(), bound_seconds=PATIENT_SECONDS)
    yield link
    await link.close()
    await client.aclose()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An SQLite file of the test's own."""
    database = Database(tmp_path / "terse.db")
    yield database
    database.close()


@pytest.fixture
async def cache(link: RedisLink | None) -> AsyncIterator[Cache]:
    """Both caches, in turn."""
    cache: Cache = RedisCache(link) if link else MemoryCache()
    yield cache
    await cache.close()


@pytest.fixture
async def registry(link: RedisLink | None, database: Database) -> AsyncIterator[Registry]:
    """Both registries, in turn."""
    registry: Registry = RedisRegistry(link) if link else SqliteRegistry(database)
    yield registry
    await registry.close()


@pytest.fixture
async def ledger(link: RedisLink | None, database: Database, clock: Clock) -> AsyncIterator[Ledger]:
    """Both ledgers, in turn, on the test's clock."""
    ledger: Ledger = RedisLedger(link, clock) if link else SqliteLedger(database, clock)
    yield ledger
    await ledger.close()
