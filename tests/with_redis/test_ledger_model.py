"""Model-based: any order of reserve, settle, release, renew and passing time, against a readable ledger.

Both implementations give the model's answers, to the micro-dollar and to the second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from gateway.errors import BudgetExceeded, RateLimited
from gateway.stores.base import Account, Hold, Ledger
from gateway.stores.breaker import Breaker
from gateway.stores.redis_ledger import RedisLedger
from gateway.stores.redis_link import RedisLink, Scripts, connect
from gateway.stores.sqlite import Database
from gateway.stores.sqlite_ledger import SqliteLedger
from policies.shapes import Budget, Limits
from tests.with_redis.conftest import MONDAY, PATIENT_SECONDS, Clock
from tests.with_redis.server import RedisServer

LEASE = 60
DAY = 86_400
ACCOUNTS = (
    Account("team:a", (Budget(usd=0.001, per="day"),), Limits(concurrent_requests=4)),
    Account("team:b", (Budget(tokens=500, per="hour", sliding=True),), Limits(requests_per_minute=3)),
    Account("key:k", (Budget(usd=0.0015, tokens=900, per="month"),), Limits(tokens_per_minute=400)),
    Account("model:m", (), Limits()),
)


@dataclass
class Running:
    """A hold of the model's."""

    hold: Hold
    at: int
    expires: int


@dataclass
class Model:
    """Lists of what happened, summed anew at every question."""

    holds: dict[str, Running] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)  # given back by their lease
    charges: list[tuple[int, str, int, int]] = field(
        default_factory=list
    )  # second, account, micro-USD, tokens
    requests: list[tuple[int, str]] = field(default_factory=list)
    minute_tokens: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def expire(self, now: int) -> None:
        """Leases that are over."""
        for name in [name for name, running in self.holds.items() if running.expires <= now]:
            self.end(name, 0)
            self.late.add(name)

    def end(self, name: str, tokens: int) -> None:
        """The hold is over; its minute's tokens become what was used."""
        running = self.holds.pop(name)
        for account in running.hold.accounts:
            self.minute_tokens[(account.id, name)] = (running.at, tokens)

    def held(self, account: Account) -> tuple[int, int, int]:
        """Requests, micro-USD and tokens that run."""
        mine = [r.hold for r in self.holds.values() if account in r.hold.accounts]
        return len(mine), sum(h.micro_usd for h in mine), sum(h.tokens for h in mine)

    def spent(self, account: Account, budget: Budget, now: int) -> tuple[int, int]:
        """What was charged in the budget's window; a sliding hour is 60 slices of a minute."""
        if budget.sliding:
            mine = [c for c in self.charges if c[1] == account.id and c[0] // 60 > now // 60 - 60]
        elif budget.per == "day":
            mine = [c for c in self.charges if c[1] == account.id and c[0] // DAY == now // DAY]
        else:  # the test never leaves its month
            mine = [c for c in self.charges if c[1] == account.id]
        return sum(c[2] for c in mine), sum(c[3] for c in mine)

    def fits(self, account: Account, hold: Hold, now: int) -> bool:
        """Whether nothing of this account refuses."""
        running, held_usd, held_tokens = self.held(account)
        limits = account.limits
        requests = sum(1 for at, name in self.requests if name == account.id and at > now - 60)
        minute = [
            t for (name, _), (at, t) in self.minute_tokens.items() if name == account.id and at > now - 60
        ]
        if limits.concurrent_requests is not None and running + 1 > limits.concurrent_requests:
            return False
        if limits.requests_per_minute is not None and requests + 1 > limits.requests_per_minute:
            return False
        limit = limits.tokens_per_minute
        if limit is not None and sum(minute) + min(hold.tokens, limit) > limit:
            return False
        for budget in account.budgets:
            usd, tokens = self.spent(account, budget, now)
            if budget.usd is not None and usd + held_usd + hold.micro_usd > round(budget.usd * 1e6):
                return False
            if budget.tokens is not None and tokens + held_tokens + hold.tokens > budget.tokens:
                return False
        return True


class LedgerMachine(RuleBasedStateMachine):
    """Does the same to a ledger and to the model."""

    open_ledger: ClassVar[Callable[[Clock, Path], tuple[Ledger, Callable[[], Awaitable[Any]]]]]

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.clock = Clock(MONDAY + 20 * 3600)
        self.runner = asyncio.Runner()
        self.ledger, self.closing = self.runner.run(self._open())
        self.model = Model()
        self.number = 0
        self.every: list[Hold] = []

    async def _open(self) -> tuple[Ledger, Callable[[], Awaitable[Any]]]:
        return type(self).open_ledger(self.clock, Path(self.folder.name))

    def teardown(self) -> None:
        self.runner.run(self.closing())
        self.runner.close()
        self.folder.cleanup()

    @property
    def now(self) -> int:
        return int(self.clock.now)

    @rule(
        accounts=st.sets(st.sampled_from(range(len(ACCOUNTS))), min_size=1),
        micro_usd=st.integers(0, 600),
        tokens=st.integers(0, 450),
    )
    def reserve(self, accounts: set[int], micro_usd: int, tokens: int) -> None:
        self.number += 1
        chosen = tuple(ACCOUNTS[number] for number in sorted(accounts))
        hold = Hold(f"h{self.number}", chosen, micro_usd, tokens, LEASE)
        self.model.expire(self.now)
        expected = all(self.model.fits(account, hold, self.now) for account in chosen)
        try:
            self.runner.run(self.ledger.reserve(hold))
        except (RateLimited, BudgetExceeded):
            assert not expected
            return
        assert expected
        self.every.append(hold)
        self.model.holds[hold.id] = Running(hold, self.now, self.now + LEASE)
        for account in chosen:
            self.model.requests.append((self.now, account.id))
            self.model.minute_tokens[(account.id, hold.id)] = (self.now, tokens)

    @rule(which=st.integers(0, 1000), micro_usd=st.integers(0, 700), tokens=st.integers(0, 500))
    def settle(self, which: int, micro_usd: int, tokens: int) -> None:
        if not self.every:
            return
        hold = self.every[which % len(self.every)]
        # A ledger notices that a lease is over when it is next asked to decide; both orders are right.
        self.runner.run(self.ledger.spent(ACCOUNTS))
        self.model.expire(self.now)
        self.runner.run(self.ledger.settle(hold, micro_usd, tokens))
        if hold.id in self.model.holds:
            self.model.end(hold.id, tokens)
        elif hold.id in self.model.late:
            self.model.late.remove(hold.id)
        else:
            return
        self.model.charges += [(self.now, account.id, micro_usd, tokens) for account in hold.accounts]

    @rule(which=st.integers(0, 1000))
    def release(self, which: int) -> None:
        if not self.every:
            return
        hold = self.every[which % len(self.every)]
        self.runner.run(self.ledger.spent(ACCOUNTS))
        self.model.expire(self.now)
        self.runner.run(self.ledger.release(hold))
        if hold.id in self.model.holds:
            self.model.end(hold.id, 0)
        self.model.late.discard(hold.id)

    @rule()
    def renew(self) -> None:
        self.runner.run(self.ledger.spent(ACCOUNTS))
        self.model.expire(self.now)
        self.runner.run(self.ledger.renew(self.every))
        for running in self.model.holds.values():
            running.expires = self.now + LEASE

    @rule(seconds=st.sampled_from([1, 7, 30, 59, 60, 61, 1800, 3600, 4 * 3600]))
    def wait(self, seconds: int) -> None:
        if self.clock.now + seconds < MONDAY + 20 * DAY:
            self.clock.now += seconds

    @invariant()
    def shares_agree(self) -> None:
        self.model.expire(self.now)
        shares = self.runner.run(self.ledger.spent(ACCOUNTS)).shares
        for account in ACCOUNTS:
            _, held_usd, held_tokens = self.model.held(account)
            expected = 0.0
            for budget in account.budgets:
                usd, tokens = self.model.spent(account, budget, self.now)
                if budget.usd is not None:
                    expected = max(expected, (usd + held_usd) / round(budget.usd * 1e6))
                if budget.tokens is not None:
                    expected = max(expected, (tokens + held_tokens) / budget.tokens)
            assert shares.get(account.id, 0.0) == pytest.approx(expected, abs=1e-9)


def machine(
    opening: Callable[[Clock, Path], tuple[Ledger, Callable[[], Awaitable[Any]]]],
) -> type[LedgerMachine]:
    return type("Machine", (LedgerMachine,), {"open_ledger": staticmethod(opening)})


FEW = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_in_process() -> None:
    def opening(clock: Clock, folder: Path) -> tuple[Ledger, Callable[[], Awaitable[Any]]]:
        database = Database(folder / "terse.db")
        return SqliteLedger(database, clock), lambda: asyncio.to_thread(database.close)

    run_state_machine_as_test(machine(opening), settings=FEW)


def test_in_redis(redis_server: RedisServer) -> None:
    def opening(clock: Clock, folder: Path) -> tuple[Ledger, Callable[[], Awaitable[Any]]]:
        with redis_server.client() as plain:
            plain.flushall()
        client = connect(redis_server.url)
        link = RedisLink(client, Scripts(), Breaker(), bound_seconds=PATIENT_SECONDS)
        ledger = RedisLedger(link, clock)

        async def close() -> None:
            await ledger.close()
            await client.aclose()

        return ledger, close

    run_state_machine_as_test(machine(opening), settings=FEW)
