"""The ledger of a single process: decisions in memory, everything charged and booked in SQLite."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import orjson

from gateway.stores.base import Account, Hold, Spent
from gateway.stores.books import (
    DEFAULT_GROUP,
    DIMENSIONS,
    KEPT_DAYS,
    KEPT_RECEIPTS,
    Entry,
    Row,
    check_group,
    figures,
    row_key,
    rows_of,
)
from gateway.stores.counters import Charge, Counters
from gateway.stores.sqlite import Database
from gateway.stores.windows import DAY, LENGTH, SLICES, calendar_window

ADD_CHARGE: Final = """INSERT INTO charges VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    micro_usd = micro_usd + excluded.micro_usd, tokens = tokens + excluded.tokens"""
ADD_FIGURE: Final = """INSERT INTO books VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    amount = amount + excluded.amount"""
ADD_TOTAL: Final = """INSERT INTO totals VALUES (?, ?) ON CONFLICT DO UPDATE SET
    micro_usd = micro_usd + excluded.micro_usd"""
TRIM_EVERY: Final = 500  # receipts between two looks at how many are kept
ROWS_AT_ONCE: Final = 100  # three parameters each; SQLite before 3.32 takes 999 of them


class SqliteLedger:
    """Budgets and rates of one process. A restart forgets running holds and rates, never spending."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        """Reads what was charged before. Raises sqlite3.Error when the file cannot be read."""
        self._database = database
        self._clock = clock
        self._counters = Counters()
        self._booked = 0
        self._counters.load(_load_charges(database, int(clock())))

    async def spent(self, accounts: Sequence[Account]) -> Spent:
        """How full the fullest budget is."""
        return self._counters.spent(accounts, self._now())

    async def reserve(self, hold: Hold) -> Hold:
        """All accounts or none. Raises RateLimited or BudgetExceeded."""
        return self._counters.reserve(hold, self._now())

    async def settle(self, hold: Hold, micro_usd: int, tokens: int) -> None:
        """Charges what it really cost; committed when this returns. Safe to repeat."""
        charges = self._counters.settle(hold, micro_usd, tokens, self._now())
        if charges:
            await self._database.run(lambda db: _write_charges(db, charges))

    async def release(self, hold: Hold) -> None:
        """Gives the hold back. Safe to repeat."""
        self._counters.release(hold, self._now())

    async def renew(self, holds: Sequence[Hold]) -> None:
        """Starts leases anew."""
        self._counters.renew(holds, self._now())

    async def spend_of(self, accounts: Sequence[str]) -> dict[str, int]:
        """Micro-USD booked on keys and teams ever."""

        def work(db: sqlite3.Connection) -> dict[str, int]:
            select = "SELECT micro_usd FROM totals WHERE account = ?"
            rows = {name: db.execute(select, (name,)).fetchone() for name in accounts}
            return {name: row[0] if row else 0 for name, row in rows.items()}

        return await self._database.run(work)

    async def book(self, entry: Entry) -> None:
        """Adds one receipt; a receipt with the same request id is booked once."""
        await self.book_many([entry])

    async def book_many(self, entries: Sequence[Entry]) -> None:
        """`book` for many, in one transaction."""
        trim = self._booked // TRIM_EVERY != (self._booked + len(entries)) // TRIM_EVERY or not self._booked
        self._booked += len(entries)
        await self._database.run(lambda db: _book(db, entries, trim=trim))

    async def totals(
        self,
        *,
        team: str | None = None,
        since: str = "",
        until: str = "",
        by: Sequence[str] = DEFAULT_GROUP,
    ) -> list[Row]:
        """Sums per group (some of day, team, key_id, model, route), both days included."""
        group = check_group(tuple(by))

        def work(db: sqlite3.Connection) -> list[Row]:
            found = db.execute(
                f"SELECT {', '.join(DIMENSIONS)}, figure, amount FROM books"
                " WHERE (? IS NULL OR team = ?) AND day >= ? AND day <= ?",
                (team, team, since, until[:10] or "9999"),
            )
            return rows_of(((row[:5], row[5], row[6]) for row in found), group)

        return await self._database.run(work)

    async def recent(self, *, team: str | None = None, limit: int = 100) -> list[Row]:
        """The latest receipts, newest first."""

        def work(db: sqlite3.Connection) -> list[Row]:
            found = db.execute(
                "SELECT entry FROM receipts WHERE (? IS NULL OR team = ?) ORDER BY id DESC LIMIT ?",
                (team, team, max(0, limit)),
            )
            return [orjson.loads(row[0]) for row in found]

        return await self._database.run(work)

    async def close(self) -> None:
        """Nothing waits: every charge was committed. The registry closes the file."""

    def _now(self) -> int:
        return int(self._clock())


def _load_charges(database: Database, now: int) -> list[Charge]:
    """What still counts; what no window reaches any more is deleted."""
    kept = []
    with sqlite3.connect(database.path, isolation_level=None) as db:
        for row in db.execute("SELECT account, window, slot, micro_usd, tokens FROM charges").fetchall():
            charge = Charge(*row)
            if _still_counts(charge, now):
                kept.append(charge)
            else:
                db.execute(
                    "DELETE FROM charges WHERE account = ? AND window = ? AND slot = ?",
                    (charge.account, charge.window, charge.slot),
                )
    db.close()
    return kept


def _still_counts(charge: Charge, now: int) -> bool:
    if charge.window.startswith("~"):
        length = LENGTH[charge.window[1:]]
        return charge.slot > now // max(1, length // SLICES) - SLICES
    return charge.slot >= calendar_window(charge.window, now)[0]  # type: ignore[arg-type]


def _write_charges(db: sqlite3.Connection, charges: Sequence[Charge]) -> None:
    db.executemany(ADD_CHARGE, [(c.account, c.window, c.slot, c.micro_usd, c.tokens) for c in charges])


def _book(db: sqlite3.Connection, entries: Sequence[Entry], *, trim: bool) -> None:
    sums: Counter[tuple[str, ...]] = Counter()
    totals: Counter[str] = Counter()
    for entry in _added(db, entries):
        key, amounts = row_key(entry), figures(entry)
        for figure, amount in amounts.items():
            sums[*key, figure] += amount
        for account in (f"team:{key[1]}", f"key:{key[2]}"):
            totals[account] += amounts.get("cost_usd", 0)
    db.executemany(ADD_FIGURE, [(*row, amount) for row, amount in sums.items()])
    db.executemany(ADD_TOTAL, list(totals.items()))
    if trim:
        db.execute("DELETE FROM receipts WHERE id <= (SELECT max(id) FROM receipts) - ?", (KEPT_RECEIPTS,))
        oldest = time.strftime("%Y-%m-%d", time.gmtime(time.time() - KEPT_DAYS * DAY))
        db.execute("DELETE FROM books WHERE day < ?", (oldest,))


def _added(db: sqlite3.Connection, entries: Sequence[Entry]) -> list[Entry]:
    """Adds the receipts that are not there yet, and returns those.

    Many rows a statement: around each, sqlite3 lets go of Python's lock and waits for it again, which took
    four times as long as the insertion beside a busy event loop.
    """
    added: list[Entry] = []
    seen: set[str] = set()
    for start in range(0, len(entries), ROWS_AT_ONCE):
        some = entries[start : start + ROWS_AT_ONCE]
        ids = [request_id for entry in some if (request_id := str(entry.get("request_id") or ""))]
        known = db.execute(f"SELECT request_id FROM receipts WHERE request_id IN ({_marks('?', ids)})", ids)
        seen.update(row[0] for row in known.fetchall())
        values: list[str | bytes | None] = []
        for entry in some:
            request_id = str(entry.get("request_id") or "")
            if request_id in seen:
                continue
            if request_id:
                seen.add(request_id)
            values += (request_id or None, str(entry.get("team", "")), orjson.dumps(dict(entry)))
            added.append(entry)
        if values:
            rows = _marks("(?, ?, ?)", values[::3])
            db.execute(f"INSERT INTO receipts (request_id, team, entry) VALUES {rows}", values)
    return added


def _marks(of_one: str, values: Sequence[object]) -> str:
    return ", ".join([of_one] * len(values))
