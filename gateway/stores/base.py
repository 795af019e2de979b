"""What the gateway remembers, behind three contracts, each kept by an in-process store and by Redis.

`Cache` holds what may be lost; `Registry` holds keys and teams; `Ledger` holds money. The same tests run
against both implementations of each.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from policies.shapes import NO_LIMITS, Budget, Limits


class Cache(Protocol):
    """Bytes under a key for a while. Losing an entry costs time, never correctness.

    Every call is bounded in time; trouble is a miss (reads) or nothing (writes), counted, never an exception.
    """

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]: ...

    async def set_many(self, items: Mapping[str, bytes], ttl_seconds: int) -> None: ...

    async def add_many(self, items: Mapping[str, bytes], ttl_seconds: int) -> list[bytes]:
        """Sets each key that is absent; returns what is stored afterwards, in the order of `items`.

        So that two replicas that shorten the same message at once both send the winner's form.
        """

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Record:
    """One stored key or team: JSON bytes and a version that rises by one with each change."""

    name: str
    data: bytes
    version: int


class Registry(Protocol):
    """Named JSON records in collections (`keys`, `teams`), changed by compare-and-set. Survives a restart."""

    async def get(self, collection: str, name: str) -> Record | None: ...

    async def get_linked(
        self, collection: str, name: str, field: str, other: str
    ) -> tuple[Record | None, Record | None]:
        """A record, and that of collection `other` which its JSON field `field` names; one round trip."""

    async def put(self, collection: str, name: str, data: bytes, expected_version: int | None) -> Record:
        """None creates. Raises gateway.errors.Conflict when the stored version is another."""

    async def delete(self, collection: str, name: str) -> bool: ...

    def scan(self, collection: str) -> AsyncIterator[Record]: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Account:
    """One party whose counters a request touches: a team, key, model or route, with its own limits."""

    id: str  # "team:search", "key:<hash>", "model:gpt-4o-mini", "route:0"
    budgets: tuple[Budget, ...] = ()
    limits: Limits = NO_LIMITS


@dataclass(frozen=True, slots=True)
class Room:
    """What budgets still allow; None where none bounds it, below 0 when overspent."""

    micro_usd: int | None = None
    tokens: int | None = None

    def covers(self, micro_usd: int, tokens: int) -> bool:
        """Whether so much still fits."""
        return (self.micro_usd is None or micro_usd <= self.micro_usd) and (
            self.tokens is None or tokens <= self.tokens
        )

    def less(self, micro_usd: int, tokens: int) -> Room:
        """What is left after so much."""
        return Room(
            None if self.micro_usd is None else self.micro_usd - micro_usd,
            None if self.tokens is None else self.tokens - tokens,
        )

    def tightened(self, other: Room) -> Room:
        """The smaller of each."""
        usd = [room for room in (self.micro_usd, other.micro_usd) if room is not None]
        tokens = [room for room in (self.tokens, other.tokens) if room is not None]
        return Room(min(usd, default=None), min(tokens, default=None))


@dataclass(frozen=True, slots=True)
class Hold:
    """What one admitted request may cost at most. Money in micro-USD, so that sums are exact."""

    id: str
    accounts: tuple[Account, ...]
    micro_usd: int
    tokens: int
    lease_seconds: int = 600  # a hold whose gateway died is released after this long
    rate_headers: Mapping[str, str] = field(default_factory=dict)  # x-ratelimit-*
    input_tokens: int = 0  # the part of `tokens` that is certain; above a tokens-a-minute limit it never fits
    shares: Mapping[str, float] = field(default_factory=dict)  # account id -> share of its fullest budget
    rooms: Mapping[str, Room] = field(default_factory=dict)  # account id -> what its budgets still allow
    local: bool = False  # decided in this process because the store was gone; charged to the store later
    losses: int = 0  # how often the store had been lost when it took this; another one may not know of it


@dataclass(frozen=True, slots=True)
class Spent:
    """Share of the fullest budget that is spent or held, 0..1 and more; drives `pressure`."""

    share: float
    account: str = ""
    shares: Mapping[str, float] = field(default_factory=dict)  # of every account asked for
    rooms: Mapping[str, Room] = field(default_factory=dict)  # the same, what is neither spent nor held

    @property
    def room(self) -> Room:
        """What all of them together still allow."""
        whole = Room()
        for room in self.rooms.values():
            whole = whole.tightened(room)
        return whole


class Ledger(Protocol):
    """Budgets and rates, decided atomically; and the books, per team and day."""

    async def spent(self, accounts: Sequence[Account]) -> Spent: ...

    async def reserve(self, hold: Hold) -> Hold:
        """All counters or none. Raises gateway.errors.RateLimited or BudgetExceeded, with retry-after."""

    async def settle(self, hold: Hold, micro_usd: int, tokens: int) -> None:
        """Replaces the hold by what it really cost. Safe to repeat."""

    async def release(self, hold: Hold) -> None:
        """Nothing was billed. Safe to repeat."""

    async def renew(self, holds: Sequence[Hold]) -> None:
        """Starts the leases of running requests anew, so that long streams keep their holds."""

    async def spend_of(self, accounts: Sequence[str]) -> dict[str, int]:
        """Micro-USD booked on each key or team ("key:<hash>", "team:search") ever; 0 when unknown."""

    async def book(self, entry: Mapping[str, str | int | float]) -> None:
        """Adds one receipt to the books of its team, key, model, route and day, and to the log."""

    async def book_many(self, entries: Sequence[Mapping[str, str | int | float]]) -> None:
        """`book` for many, in one go."""

    async def totals(
        self,
        *,
        team: str | None = None,
        since: str = "",
        until: str = "",
        by: Sequence[str] = ("day", "team", "model"),
    ) -> list[dict[str, str | int | float]]:
        """Rows per day, team and model, or per other dimensions of the books (ISO dates, UTC, inclusive)."""

    async def recent(
        self, *, team: str | None = None, limit: int = 100
    ) -> list[dict[str, str | int | float]]:
        """The latest receipts, newest first."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Stores:
    """The three stores of one process. `kind` is "redis" or "local"."""

    cache: Cache
    registry: Registry
    ledger: Ledger
    kind: str = "local"
    closing: Callable[[], Awaitable[object]] | None = None

    async def close(self) -> None:
        """Writes what still waits and closes all three. Safe to repeat."""
        await self.cache.close()
        await self.ledger.close()
        await self.registry.close()
        if self.closing is not None:
            await self.closing()
