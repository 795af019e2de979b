"""Opens the stores that the configuration asks for: Redis when it names one, else memory and SQLite."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from gateway.config import Config
from gateway.settings import Settings
from gateway.stores.base import Stores
from gateway.stores.memory import CACHE_BYTES, MemoryCache
from gateway.stores.sqlite import Database, SqliteRegistry
from gateway.stores.sqlite_ledger import SqliteLedger

FILE_NAME: Final = "terse.db"


def open_stores(settings: Settings, config: Config) -> Stores:
    """The three stores of this process. `store:` of terse.yaml comes before `REDIS_URL`.

    Redis is first spoken to when it is first needed, so that a gateway starts without it. Raises ValueError
    for a URL that is none, OSError or sqlite3.Error when the data folder or file cannot be used.
    """
    url = config.store or settings.redis_url
    if not url:
        return open_local(Path(settings.data_dir) / FILE_NAME, settings.cache_bytes)
    from gateway.stores.redis_stores import open_redis  # 7 MB that a process without Redis does without

    return open_redis(url)


def open_local(path: Path, cache_bytes: int = CACHE_BYTES) -> Stores:
    """Stores of a single process: the cache in memory, the rest in one SQLite file."""
    try:
        database = Database(path)
    except sqlite3.Error as error:
        raise sqlite3.DatabaseError(f"{path}: {error}") from error
    return Stores(MemoryCache(cache_bytes), SqliteRegistry(database), SqliteLedger(database), kind="local")
