"""Admission: what is held, whose counters it touches, pressure, fair shares when an upstream throttles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access import admission as module
from gateway.access.admission import LEASE_SECONDS, Admission
from gateway.access.estimates import UNKNOWN_OUTPUT, affordable_input, estimate
from gateway.access.fairness import CALM_SECONDS, FairShares, weight_of
from gateway.config import Config, ModelConfig
from gateway.errors import BudgetExceeded, RateLimited
from gateway.shapes import Caller, Compressed, ParsedRequest, Price, Usage
from gateway.stores.base import Account, Hold, Room, Spent
from gateway.stores.sqlite import Database
from gateway.stores.sqlite_ledger import SqliteLedger
from policies.shapes import Budget, Limits, Match, Plan, Policy, PressureStep, Route, RouteMatch, Team

PRICE = Price(input=1e-6, output=2e-6, cache_read=1e-7, cache_write=1.25e-6)
MATCH = Match("rag", Policy("p"), "")
CONFIG = Config(
    models={
        "dear-*": ModelConfig("dear-*", "u", budgets=(Budget(usd=0.5, per="day"),)),
        "m": ModelConfig("m", "u"),
    },
    routes=(Route("rag", RouteMatch(), "p", budgets=(Budget(tokens=1000, per="minute"),)),),
    teams={"static": Team("static", (Budget(usd=1.0),), pressure=(PressureStep(0.5, 0.5),))},
)


def request(
    output: int | None = 100, *, model: str = "m", surface: Any = "chat", body: bytes = b"{}", **raw: Any
) -> ParsedRequest:
    return ParsedRequest(surface, "/", body, {"model": model, **raw}, model, False, max_output_tokens=output)


def compressed(tokens: int = 50) -> Compressed:
    return Compressed(b"{}", "applied", "", Plan(True, "on", 0, 0.5, ""), 2 * tokens, tokens, "miss", 1.0)


class CountingLedger(SqliteLedger):
    """Counts round trips."""

    trips = 0

    async def spent(self, accounts: Sequence[Account]) -> Spent:
        self.trips += 1
        return await super().spent(accounts)

    async def reserve(self, hold: Hold) -> Hold:
        self.trips += 1
        await asyncio.sleep(0)
        return await super().reserve(hold)


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[CountingLedger]:
    database = Database(tmp_path / "terse.db")
    yield CountingLedger(database)
    database.close()


@pytest.fixture
async def admission(ledger: CountingLedger) -> AsyncIterator[Admission]:
    admission = Admission(CONFIG, ledger)
    yield admission
    await admission.close()


def caller(*budgets: Budget, pressure: bool = False, **more: Any) -> Caller:
    steps = (PressureStep(0.5, 0.5),) if pressure else ()
    return Caller(Team("red", budgets, pressure=steps), "hash", **more)


# ---- estimates


def test_the_estimate_is_on_what_goes_upstream() -> None:
    most = estimate(request(100), compressed(50), PRICE)
    assert (most.input_tokens, most.output_tokens, most.tokens) == (50, 100, 150)
    assert most.micro_usd == 50 + 200


@pytest.mark.parametrize(
    ("asked", "price", "expected"),
    [
        (None, Price(), UNKNOWN_OUTPUT),
        (None, Price(max_output=700), 700),
        (None, Price(max_output=700, context_window=150), 100),
        (None, Price(context_window=10), 0),
        (20, Price(max_output=700), 20),
        (0, Price(), 0),
    ],
)
def test_the_longest_answer(asked: int | None, price: Price, expected: int) -> None:
    assert estimate(request(asked), compressed(50), price).output_tokens == expected


def test_every_choice_is_paid_for() -> None:
    assert estimate(request(100, n=3), compressed(), PRICE).output_tokens == 300
    assert estimate(request(100, n=1, best_of=5), compressed(), PRICE).output_tokens == 500
    assert estimate(request(100, n=True), compressed(), PRICE).output_tokens == 100
    assert estimate(request(100, n=-4), compressed(), PRICE).output_tokens == 100


def test_embeddings_have_no_answer() -> None:
    assert estimate(request(None, surface="embeddings"), compressed(), PRICE).output_tokens == 0


def test_writing_a_cache_costs_more() -> None:
    marked = request(0, body=b'{"messages":[{"cache_control":{"type":"ephemeral"}}]}')
    assert estimate(marked, compressed(100), PRICE).micro_usd == 125


@given(st.integers(0, 10**6), st.integers(0, 10**5), st.floats(0, 1e-4), st.floats(0, 1e-4))
def test_the_estimate_is_never_below_the_cost(tokens: int, output: int, dear: float, dearer: float) -> None:
    price = Price(input=dear, output=dearer)
    most = estimate(request(output), compressed(tokens), price)
    assert most.micro_usd + 1e-3 >= (tokens * dear + output * dearer) * 1e6
    assert most.micro_usd <= (tokens * dear + output * dearer) * 1e6 + 1


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (Room(), None),
        (Room(micro_usd=1000), 800),  # $0.001 less 100 tokens of answer at 2e-6
        (Room(micro_usd=1000, tokens=300), 200),
        (Room(tokens=50), 0),
        (Room(micro_usd=-5), 0),
    ],
)
def test_what_the_budget_still_covers(room: Room, expected: int | None) -> None:
    assert affordable_input(request(100), PRICE, room) == expected
    assert affordable_input(request(100), Price(known=False), Room(micro_usd=0)) is None


# ---- accounts


async def test_everybody_with_limits_is_asked(admission: Admission) -> None:
    asked = caller(Budget(usd=1.0), budgets=(Budget(usd=0.1),), limits=Limits(requests_per_minute=5))
    hold = await admission.admit(asked, MATCH, request(100, model="dear-1"), compressed(50), PRICE)
    assert [account.id for account in hold.accounts] == ["team:red", "key:hash", "model:dear-*", "route:rag"]
    assert hold.rate_headers["x-ratelimit-limit-requests"] == "5"
    assert (hold.micro_usd, hold.tokens, hold.input_tokens, hold.lease_seconds) == (
        250,
        150,
        50,
        LEASE_SECONDS,
    )


async def test_a_new_key_spends_the_old_ones_budget(admission: Admission) -> None:
    asked = caller(budgets=(Budget(usd=0.0003),), account="old")
    await admission.settle(
        await admission.admit(asked, MATCH, request(), compressed(), PRICE),
        Usage(100, output_tokens=50),
        0.0002,
    )
    with pytest.raises(BudgetExceeded):
        await admission.admit(
            caller(budgets=(Budget(usd=0.0003),), account="old"), MATCH, request(), compressed(), PRICE
        )


async def test_without_limits_nobody_is_asked(ledger: CountingLedger) -> None:
    admission = Admission(Config(), ledger)
    hold = await admission.admit(caller(), Match("x", Policy("p"), ""), request(), compressed(), PRICE)
    assert hold.accounts == ()
    await admission.settle(hold, Usage(10), 1.0)
    await admission.release(hold)
    assert ledger.trips == 0


async def test_a_model_has_one_budget_for_all_teams(admission: Admission) -> None:
    dear = Price(input=0.0, output=0.004)
    for team in ("a", "b"):
        asked = Caller(Team(team), "anonymous")
        hold = await admission.admit(
            asked, replace(MATCH, route="-"), request(60, model="dear-1"), compressed(), dear
        )
        await admission.settle(hold, Usage(50, output_tokens=60), 0.24)
    with pytest.raises(BudgetExceeded, match=r"model dear-\*"):
        await admission.admit(
            Caller(Team("c"), "anonymous"), MATCH, request(60, model="dear-2"), compressed(), dear
        )


# ---- settlement


async def test_real_usage_replaces_the_hold(admission: Admission, ledger: CountingLedger) -> None:
    team = Account("team:red", (Budget(usd=0.001), Budget(tokens=1000, per="day")))
    asked = caller(*team.budgets)
    hold = await admission.admit(asked, MATCH, request(400), compressed(100), PRICE)
    usage = Usage(input_tokens=90, cached_input_tokens=80, output_tokens=50, reasoning_tokens=40)
    for _ in range(2):
        await admission.settle(hold, usage, 0.0001)
    await admission.release(hold)
    assert (await ledger.spent([team])).share == pytest.approx(0.14)  # 140 of 1000 tokens; $0.0001 of 0.001


@pytest.mark.parametrize("cost", [float("nan"), float("inf"), -1.0])
async def test_a_cost_that_is_no_number(admission: Admission, ledger: CountingLedger, cost: float) -> None:
    asked = caller(Budget(usd=0.001))
    hold = await admission.admit(asked, MATCH, request(100), compressed(50), PRICE)
    await admission.settle(hold, Usage(-5), cost)
    share = (await ledger.spent([Account("team:red", (Budget(usd=0.001),))])).share
    assert share == pytest.approx(0.0 if cost == -1.0 else 0.25)  # unknown cost: the most it could be


async def test_a_long_request_keeps_its_hold(ledger: CountingLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    renewed = asyncio.Event()

    async def renew(holds: Sequence[Hold]) -> None:
        assert [hold.id for hold in holds] == [kept.id]
        renewed.set()

    monkeypatch.setattr(module, "LEASE_SECONDS", 0.03)
    monkeypatch.setattr(ledger, "renew", renew)
    admission = Admission(CONFIG, ledger)
    kept = await admission.admit(caller(Budget(usd=1.0)), MATCH, request(), compressed(), PRICE)
    await asyncio.wait_for(renewed.wait(), 5)
    await admission.release(kept)
    await admission.close()


# ---- pressure


async def test_pressure_is_what_is_spent_and_held(admission: Admission, ledger: CountingLedger) -> None:
    asked = caller(Budget(usd=0.001), pressure=True, budgets=(Budget(usd=0.0005),))
    assert (await admission.pressure(asked, MATCH, ModelConfig("m", "u"))).share == 0.0
    trips = ledger.trips
    await admission.admit(asked, MATCH, request(100), compressed(50), PRICE)
    spent = await admission.pressure(asked, MATCH, "m")
    assert (spent.share, spent.account) == (pytest.approx(0.5), "key:hash")
    assert ledger.trips == trips + 1  # the reservation's answer said it
    assert spent.room == Room(micro_usd=250, tokens=850)  # the key's dollars, the route's tokens


async def test_no_pressure_steps_no_question(admission: Admission, ledger: CountingLedger) -> None:
    assert (await admission.pressure(caller(Budget(usd=1.0)), MATCH, "m")).share == 0.0
    assert ledger.trips == 0


async def test_budgets_of_the_file_are_read_along_with_a_key(
    admission: Admission, ledger: CountingLedger
) -> None:
    static = Caller(CONFIG.teams["static"], "anonymous")
    other = replace(MATCH, route="-")
    hold = await admission.admit(static, other, request(300_000), compressed(0), PRICE)
    fresh = Admission(CONFIG, ledger)
    trips = ledger.trips
    await fresh.read_along()
    spent = await fresh.pressure(static, other, "m")
    assert (spent.share, ledger.trips) == (pytest.approx(0.6), trips + 1)
    await admission.release(hold)


# ---- fair shares


class Flow:
    """Requests of two teams to one model, on a clock that the test turns."""

    def __init__(self, weights: Mapping[str, str] | None = None) -> None:
        self.now = 100.0
        self.shares = FairShares(lambda: self.now)
        self.teams = {
            name: Team(name, metadata={"weight": (weights or {}).get(name, "1")})
            for name in ("busy", "quiet")
        }

    def enter(self, team: str) -> bool:
        try:
            self.shares.enter("m", self.teams[team])
        except RateLimited as error:
            assert error.headers["retry-after"] == "1"
            assert error.code == "upstream_throttled"
            return False
        return True

    def leave(self, team: str, throttled: bool = False) -> None:
        self.shares.leave("m", self.teams[team], throttled=throttled)


def test_nobody_is_held_back_while_the_upstream_is_well() -> None:
    flow = Flow()
    assert all(flow.enter("busy") for _ in range(1000))


def test_a_busy_team_leaves_room_for_a_quiet_one() -> None:
    flow = Flow()
    for _ in range(20):
        flow.enter("busy")
    flow.leave("busy", throttled=True)  # the window is now 10
    assert not flow.enter("busy")
    assert [flow.enter("quiet") for _ in range(8)].count(True) == 5
    for _ in range(14):
        flow.leave("busy")
    assert flow.enter("busy")


def test_weights() -> None:
    flow = Flow({"quiet": "3"})
    for _ in range(20):
        flow.enter("busy")
    flow.leave("busy", throttled=True)
    assert [flow.enter("quiet") for _ in range(12)].count(True) == 8  # 3 of 4 parts of 10
    for text, weight in (("2.5", 2.5), ("0", 1.0), ("-1", 1.0), ("many", 1.0), ("nan", 1.0), ("1e9", 1.0)):
        assert weight_of(Team("t", metadata={"weight": text})) == weight


def test_calm_ends_it_and_one_burst_counts_once() -> None:
    flow = Flow()
    for _ in range(40):
        flow.enter("busy")
    for _ in range(20):
        flow.leave("busy", throttled=True)
    assert flow.enter("busy") is False  # 20 run, the window is 20, not 40 / 2^20
    flow.leave("busy")
    assert flow.enter("busy")
    flow.now += CALM_SECONDS
    assert all(flow.enter("busy") for _ in range(100))


async def test_a_429_of_the_upstream_reaches_the_fair_shares(admission: Admission) -> None:
    one, two = Caller(Team("one"), "anonymous"), Caller(Team("two"), "anonymous")
    other = replace(MATCH, route="-")

    async def admit(who: Caller) -> Hold:
        return await admission.admit(who, other, request(), compressed(), PRICE)

    holds = [await admit(one) for _ in range(4)]
    await admission.release(holds.pop(), throttled=True)
    with pytest.raises(RateLimited):
        await admit(one)
    await admit(two)
    for hold in holds:
        await admission.settle(hold, Usage(1), 0.0)
    await admit(one)


async def test_a_refused_request_is_not_in_flight(admission: Admission) -> None:
    asked = caller(Budget(usd=0.0001))
    for _ in range(3):
        with pytest.raises(BudgetExceeded):
            await admission.admit(asked, MATCH, request(), compressed(), PRICE)
    assert not admission._running
    assert not admission._fair._flows
