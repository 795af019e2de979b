"""SQLite for a single process: one file, one thread that owns it, every write batched into the next commit.

Write-ahead log with `synchronous=NORMAL`: a commit is in the operating system's hands when it returns, so it
survives SIGKILL at any line; a power cut may take the last commits, never the file's integrity.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import orjson

from gateway.errors import Conflict
from gateway.stores.base import Record

T = TypeVar("T")
SCHEMA_VERSION: Final = 1
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS records (
    collection TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL, version INTEGER NOT NULL,
    PRIMARY KEY (collection, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS charges (
    account TEXT NOT NULL, window TEXT NOT NULL, slot INTEGER NOT NULL,
    micro_usd INTEGER NOT NULL, tokens INTEGER NOT NULL,
    PRIMARY KEY (account, window, slot)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS books (
    day TEXT NOT NULL, team TEXT NOT NULL, key_id TEXT NOT NULL, model TEXT NOT NULL, route TEXT NOT NULL,
    figure TEXT NOT NULL, amount INTEGER NOT NULL,
    PRIMARY KEY (day, team, key_id, model, route, figure)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS totals (account TEXT PRIMARY KEY, micro_usd INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS receipts (
    id INTEGER PRIMARY KEY, request_id TEXT UNIQUE, team TEXT NOT NULL, entry BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS receipts_of_team ON receipts (team, id);
"""
# Another process (`terse keys` beside a running gateway) may hold the write lock for a moment.
BUSY_SECONDS: Final = 10.0


class _Answer(Generic[T]):
    """A future that another thread resolves."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.future: asyncio.Future[T] = loop.create_future()

    def give(self, value: Any, error: BaseException | None) -> None:
        """Called in the store's thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._set, value, error)

    def _set(self, value: T, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(value)


class Database:
    """One SQLite file and the thread that owns it. Work given while it is busy is done in one transaction."""

    def __init__(self, path: Path) -> None:
        """Raises OSError when the folder cannot be made, sqlite3.Error when the file is no database."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = path
        self._waiting: deque[tuple[Callable[[sqlite3.Connection], Any], _Answer[Any] | None]] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._connection = _connect(path)
        self._thread = threading.Thread(target=self._work, name="terse-sqlite", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Does `work` in the thread, inside a transaction; returns its result once that is committed."""
        answer: _Answer[T] = _Answer(asyncio.get_running_loop())
        self._put(work, answer)
        return await answer.future

    def later(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """The same without waiting; `close` waits for it."""
        self._put(work, None)

    def close(self) -> None:
        """Does what waits, then closes the file. Safe to repeat."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _put(self, work: Callable[[sqlite3.Connection], Any], answer: _Answer[Any] | None) -> None:
        with self._wake:
            if self._closed:
                raise sqlite3.ProgrammingError("the store is closed")
            self._waiting.append((work, answer))
            self._wake.notify()

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._closed:
                    self._wake.wait()
                batch = list(self._waiting)
                self._waiting.clear()
                if not batch and self._closed:
                    break
            self._commit(batch)
        self._connection.close()

    def _commit(self, batch: list[tuple[Callable[[sqlite3.Connection], Any], _Answer[Any] | None]]) -> None:
        """One transaction for all; work that fails is rolled back alone and tells its caller."""
        results: list[tuple[_Answer[Any], Any, BaseException | None]] = []
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for work, answer in batch:
                value, error = _attempt(connection, work)
                if answer is not None:
                    results.append((answer, value, error))
            connection.execute("COMMIT")
        except sqlite3.Error as failure:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            results = [(answer, None, failure) for _, answer in batch if answer is not None]
        for answer, value, error in results:
            answer.give(value, error)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS, cached_statements=256
    )
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found > SCHEMA_VERSION:
            raise sqlite3.DatabaseError(
                f"{path}: written by a newer Terse (schema {found}, this one knows {SCHEMA_VERSION})"
            )
        connection.executescript(SCHEMA)
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        path.chmod(0o600)
    except BaseException:
        connection.close()
        raise
    return connection


def _attempt(
    connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], Any]
) -> tuple[Any, BaseException | None]:
    connection.execute("SAVEPOINT work")
    try:
        value = work(connection)
    except Exception as error:  # noqa: BLE001 - handed to the caller who asked for this work
        connection.execute("ROLLBACK TO work")
        return None, error
    finally:
        connection.execute("RELEASE work")
    return value, None


class SqliteRegistry:
    """Keys and teams in the file. `terse keys` may change them beside a running gateway."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, collection: str, name: str) -> Record | None:
        """The record, or None."""
        return await self._database.run(lambda db: _read(db, collection, name))

    async def get_linked(
        self, collection: str, name: str, field: str, other: str
    ) -> tuple[Record | None, Record | None]:
        """A record and the one that its field names."""

        def work(db: sqlite3.Connection) -> tuple[Record | None, Record | None]:
            record = _read(db, collection, name)
            link = orjson.loads(record.data).get(field) if record else None
            return record, _read(db, other, link) if isinstance(link, str) else None

        return await self._database.run(work)

    async def put(self, collection: str, name: str, data: bytes, expected_version: int | None) -> Record:
        """Creates (None) or changes a record. Raises Conflict when it has another version by now."""

        def work(db: sqlite3.Connection) -> Record:
            known = _read(db, collection, name)
            check_version(collection, name, known.version if known else None, expected_version)
            version = known.version + 1 if known else 1
            db.execute(
                "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", (collection, name, data, version)
            )
            return Record(name, data, version)

        return await self._database.run(work)

    async def delete(self, collection: str, name: str) -> bool:
        """Whether there was one."""

        def work(db: sqlite3.Connection) -> bool:
            found = db.execute("DELETE FROM records WHERE collection = ? AND name = ?", (collection, name))
            return found.rowcount > 0

        return await self._database.run(work)

    async def scan(self, collection: str) -> AsyncIterator[Record]:
        """All records of a collection, by name."""

        def work(db: sqlite3.Connection) -> list[Record]:
            rows = db.execute(
                "SELECT name, data, version FROM records WHERE collection = ? ORDER BY name", (collection,)
            )
            return [Record(*row) for row in rows]

        for record in await self._database.run(work):
            yield record

    async def close(self) -> None:
        """Closes the file (which the ledger shares). Safe to repeat."""
        await asyncio.to_thread(self._database.close)


def check_version(collection: str, name: str, stored: int | None, expected: int | None) -> None:
    """Raises Conflict unless the stored version is the expected one (None: no such record)."""
    if stored == expected:
        return
    if expected is None:
        raise Conflict(f"{collection}: there is one named {name!r} already", code="already_exists")
    now = "deleted" if stored is None else f"at version {stored}"
    raise Conflict(f"{collection}: {name!r} was changed meanwhile: expected version {expected}, it is {now}")


def _read(db: sqlite3.Connection, collection: str, name: str) -> Record | None:
    row = db.execute(
        "SELECT name, data, version FROM records WHERE collection = ? AND name = ?", (collection, name)
    ).fetchone()
    return Record(*row) if row else None
