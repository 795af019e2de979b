"""The ledger in Redis, shared by all gateways: every decision is one Lua script and one round trip."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from gateway.errors import Unavailable
from gateway.stores.base import Account, Hold, Room, Spent
from gateway.stores.books import (
    DEFAULT_GROUP,
    KEPT_DAYS,
    KEPT_RECEIPTS,
    Row,
    check_group,
    figures,
    row_key,
    rows_of,
)
from gateway.stores.counters import micro_limit
from gateway.stores.recent_writes import Later, RecentWrites
from gateway.stores.redis_link import RedisLink, Word
from gateway.stores.verdicts import AccountState, Rate, Refusal, error_of, rate_headers, rooms_of, shares_of
from gateway.stores.windows import DAY

ROOT: Final = "{terse}:l"
# What could not be written while Redis was gone. At 1 kB each this is 50 MB, some minutes of a busy gateway;
# beyond it the oldest are dropped, and counted.
BACKLOG: Final = 50_000
RETRY_SECONDS: Final = 1.0


class RedisLedger:
    """Without Redis `spent` and `reserve` raise Unavailable; what must not get lost is tried again."""

    def __init__(self, link: RedisLink, clock: Callable[[], float] | None = None) -> None:
        """`clock` replaces Redis's own clock, in tests."""
        self._link = link
        self._clock = clock
        self._backlog: deque[Later] = deque()
        self._recent = RecentWrites()
        self._server: str | None = None  # which one answered last; "" when it does not say
        self._losses = 0  # of the link, when it was asked
        self._retrying: asyncio.Task[None] | None = None
        self.dropped = 0  # settlements and receipts lost because the backlog was full

    @property
    def round_trips(self) -> int:
        """Pipelines sent on this lane so far."""
        return self._link.round_trips

    @property
    def waiting(self) -> int:
        """Settlements and receipts that wait for Redis to come back."""
        return len(self._backlog)

    async def spent(self, accounts: Sequence[Account]) -> Spent:
        """How full the fullest budget is."""
        counted = [account for account in accounts if account.budgets]
        if not counted:
            return Spent(0.0)
        payload = orjson.dumps([_account(account) for account in counted])
        found = orjson.loads(await self._link.script("spent", [ROOT], [payload, self._now()]))
        shares = {account.id: float(full["sh"]) for account, full in zip(counted, found, strict=True)}
        rooms = {account.id: _room(full) for account, full in zip(counted, found, strict=True)}
        fullest = max(shares, key=lambda name: shares[name])
        return Spent(shares[fullest], fullest, shares, rooms)

    async def reserve(self, hold: Hold) -> Hold:
        """All accounts or none. Raises RateLimited, BudgetExceeded, or Unavailable: held or not, unknown."""
        payload = {
            "u": hold.micro_usd,
            "t": hold.tokens,
            "i": hold.input_tokens,
            "s": hold.lease_seconds,
            "a": [_account(account) for account in hold.accounts],
        }
        try:
            reply = await self._link.script("reserve", [ROOT], [hold.id, orjson.dumps(payload), self._now()])
        except Unavailable:
            self._recent.lost()
            raise
        answer = orjson.loads(reply)
        states = [_state(state) for state in answer["s"]]
        if not answer["ok"]:
            raise error_of([_refusal(refusal) for refusal in answer["f"]], states)
        return replace(
            hold,
            rate_headers=rate_headers(states),
            shares=shares_of(states),
            rooms=rooms_of(states),
            losses=self._link.losses,
        )

    async def settle(self, hold: Hold, micro_usd: int, tokens: int) -> None:
        """Charges what it really cost, now or when Redis is back. Safe to repeat."""
        # Where another server may have taken over since, it may not know the hold: charged without it, once.
        how = "charge" if hold.local or hold.losses != self._link.losses else "settle"
        await self._surely(lambda: self._end(hold, micro_usd, tokens, how))

    async def release(self, hold: Hold) -> None:
        """Gives the hold back, now or when Redis is back. Safe to repeat."""
        await self._surely(lambda: self._end(hold, 0, 0, "release"))

    async def renew(self, holds: Sequence[Hold]) -> None:
        """Starts leases anew; without Redis, nothing."""
        by_lease: dict[int, list[str]] = {}
        for hold in holds:
            by_lease.setdefault(hold.lease_seconds, []).append(hold.id)
        for lease, ids in by_lease.items():
            with contextlib.suppress(Unavailable):
                await self._link.script("renew", [ROOT], [lease, self._now(), *ids])

    async def spend_of(self, accounts: Sequence[str]) -> dict[str, int]:
        """Micro-USD booked on keys and teams ever."""
        if not accounts:
            return {}
        found = await self._link.command("HMGET", f"{ROOT}:total", *accounts)
        return {name: int(value or 0) for name, value in zip(accounts, found, strict=True)}

    async def book(self, entry: Mapping[str, str | int | float]) -> None:
        """Adds one receipt, now or when Redis is back; a request id is booked once."""
        key = row_key(entry)
        args: list[Word] = [
            key[0],
            orjson.dumps(key),
            orjson.dumps(figures(entry)),
            orjson.dumps(dict(entry)),
            key[1],
            key[2],
            str(entry.get("request_id", "")),
            KEPT_DAYS * DAY,
            KEPT_RECEIPTS,
        ]
        await self._surely(lambda: self._link.script("book", [ROOT], args))

    async def book_many(self, entries: Sequence[Mapping[str, str | int | float]]) -> None:
        """`book` for many; the connection pipelines them."""
        await asyncio.gather(*(self.book(entry) for entry in entries))

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
        names = await self._link.command(
            "ZRANGEBYSCORE", f"{ROOT}:books", _day_number(since) or "-inf", _day_number(until) or "+inf"
        )
        wanted = [(name, orjson.loads(name)) for name in names]
        wanted = [(name, key) for name, key in wanted if team is None or key[1] == team]
        rows = await asyncio.gather(
            *[self._link.command("HGETALL", f"{ROOT}:b:{name.decode()}") for name, _ in wanted]
        )
        sums = [
            (tuple(key), figure.decode(), int(amount))
            for (_, key), row in zip(wanted, rows, strict=True)
            for figure, amount in row.items()
        ]
        return rows_of(sums, group)

    async def recent(self, *, team: str | None = None, limit: int = 100) -> list[Row]:
        """The latest receipts, newest first."""
        log = f"{ROOT}:log" if team is None else f"{ROOT}:log:{team}"
        if limit <= 0:
            return []
        found = await self._link.command("XREVRANGE", log, "+", "-", "COUNT", limit)
        return [orjson.loads(fields[b"e"]) for _, fields in found]

    async def prune(self) -> None:
        """Forgets rows of the books that are older than they are kept; cheap, called now and then."""
        oldest = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=KEPT_DAYS)
        await self._link.command("ZREMRANGEBYSCORE", f"{ROOT}:books", "-inf", f"({oldest:%Y%m%d}")

    async def close(self) -> None:
        """One last try to write what waits, then ends this lane."""
        if self._retrying is not None:
            self._retrying.cancel()
            await asyncio.gather(self._retrying, return_exceptions=True)
        with contextlib.suppress(Unavailable):
            await self._write_backlog()
        self.dropped += len(self._backlog)
        self._backlog.clear()
        await self._link.close()

    async def _end(self, hold: Hold, micro_usd: int, tokens: int, how: str) -> None:
        accounts = orjson.dumps([_account(account) for account in hold.accounts])
        args: list[Word] = [hold.id, micro_usd, tokens, how, accounts, self._now()]
        await self._link.script("settle", [ROOT], args)

    async def _surely(self, write: Later) -> None:
        """Does it now or keeps it for later. Every such write is safe to repeat."""
        try:
            await write()
        except Unavailable:
            self._recent.lost()
            self._later(write)
        else:
            self._recent.taken(write)
            await self._tell_another()

    async def _tell_another(self) -> None:
        """After a loss: says the last writes again if another server answers than before."""
        if self._link.losses == self._losses:
            return
        self._losses = self._link.losses
        self._recent.lost()
        try:
            server = str((await self._link.command("INFO", "server")).get("run_id", ""))
        except Unavailable:  # gone again, or it does not tell us
            server, self._losses = "", self._link.losses
        known, self._server = self._server, server
        writes = self._recent.back()
        if known is not None and not (server and server == known):
            for write in writes:
                self._later(write)

    def _later(self, write: Later) -> None:
        if len(self._backlog) >= BACKLOG:
            self._backlog.popleft()
            self.dropped += 1
        self._backlog.append(write)
        if self._retrying is None or self._retrying.done():
            self._retrying = asyncio.create_task(self._retry())

    async def _retry(self) -> None:
        while self._backlog:
            await asyncio.sleep(RETRY_SECONDS)
            with contextlib.suppress(Unavailable):
                await self._write_backlog()
                await self._tell_another()

    async def _write_backlog(self) -> None:
        while self._backlog:
            try:
                await self._backlog[0]()
            except Unavailable:
                self._backlog.rotate(-1)  # one that is always refused must not hold up the others
                raise
            self._backlog.popleft()

    def _now(self) -> str:
        return "" if self._clock is None else str(int(self._clock()))


def _account(account: Account) -> dict[str, Any]:
    """What the scripts want to know of an account; absent limits are absent fields."""
    limits = account.limits
    shown: dict[str, Any] = {"id": account.id}
    for name, limit in (
        ("rpm", limits.requests_per_minute),
        ("tpm", limits.tokens_per_minute),
        ("conc", limits.concurrent_requests),
    ):
        if limit is not None:
            shown[name] = limit
    if account.budgets:
        shown["b"] = []
        for budget in account.budgets:
            entry: dict[str, Any] = {"per": budget.per}
            if budget.sliding and budget.per != "total":
                entry["sl"] = True
            if budget.usd is not None:
                entry["u"] = micro_limit(budget)
            if budget.tokens is not None:
                entry["t"] = budget.tokens
            shown["b"].append(entry)
    return shown


def _state(state: Mapping[str, Any]) -> AccountState:
    requests, tokens = state.get("rq"), state.get("tk")
    return AccountState(
        state["id"],
        Rate(*map(int, requests)) if requests else None,
        Rate(*map(int, tokens)) if tokens else None,
        float(state["sh"]),
        _room(state),
    )


def _room(full: Mapping[str, Any]) -> Room:
    usd, tokens = full.get("ru"), full.get("rt")
    return Room(None if usd is None else int(usd), None if tokens is None else int(tokens))


def _refusal(refusal: Mapping[str, Any]) -> Refusal:
    return Refusal(
        refusal["k"],
        refusal["a"],
        int(refusal["l"]),
        int(refusal["u"]),
        int(refusal["n"]),
        int(refusal["w"]),
        refusal["p"],
    )


def _day_number(date: str) -> str:
    return date[:10].replace("-", "")
