"""Opens the stores that the configuration asks for: Redis when it names one, else memory and SQLite."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from gateway.config import Config, Secret
from gateway.settings import Settings
from gateway.stores.base import Stores
from gateway.stores.breaker import Breaker
from gateway.stores.memory import MemoryCache
from gateway.stores.redis_cache import RedisCache
from gateway.stores.redis_ledger import RedisLedger
from gateway.stores.redis_link import RedisLink, Scripts, connect
from gateway.stores.redis_registry import RedisRegistry
from gateway.stores.sqlite import Database, SqliteRegistry
from gateway.stores.sqlite_ledger import SqliteLedger

FILE_NAME: Final = "terse.db"


def open_stores(settings: Settings, config: Config) -> Stores:
    """The three stores of this process. `store:` of terse.yaml comes before `REDIS_URL`.

    Redis is first spoken to when it is first needed, so that a gateway starts without it. Raises ValueError
    for a URL that is none, OSError or sqlite3.Error when the data folder or file cannot be used.
    """
    url = config.store or settings.redis_url
    return open_redis(url) if url else open_local(Path(settings.data_dir) / FILE_NAME)


def open_redis(url: Secret) -> Stores:
    """Stores in Redis: one client, one breaker, one lane for the cache and one for what decides."""
    try:
        client = connect(url.reveal())
    except ValueError:  # its text may hold the URL, and the URL a password
        raise ValueError(
            "store: expected redis://host:port/0, rediss://..., unix:///path or redis+sentinel://host/service"
        ) from None
    scripts, breaker = Scripts(), Breaker()
    decisions = RedisLink(client, scripts, breaker)
    return Stores(
        cache=RedisCache(RedisLink(client, scripts, breaker)),
        registry=RedisRegistry(decisions),
        ledger=RedisLedger(decisions),
        kind="redis",
        closing=client.aclose,
    )


def open_local(path: Path) -> Stores:
    """Stores of a single process: the cache in memory, the rest in one SQLite file."""
    try:
        database = Database(path)
    except sqlite3.Error as error:
        raise sqlite3.DatabaseError(f"{path}: {error}") from error
    return Stores(MemoryCache(), SqliteRegistry(database), SqliteLedger(database), kind="local")
