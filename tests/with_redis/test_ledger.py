"""The contract of Ledger, for both implementations: budgets, holds and leases, on a clock that tests turn."""

from __future__ import annotations

import asyncio
import datetime

import pytest

from gateway.errors import BudgetExceeded
from gateway.stores.base import Hold, Ledger
from policies.shapes import Budget, Limits, Period
from tests.with_redis.conftest import MONDAY, Clock
from tests.with_redis.holds import DOLLAR, hold, refusal, team

# ---- budgets


async def test_holds_count_until_they_are_settled(ledger: Ledger) -> None:
    account = team(Budget(usd=1.0))
    first = await ledger.reserve(hold("a", account, usd=0.6))
    assert first.shares == {account.id: pytest.approx(0.6)}
    error = await refusal(ledger, hold("b", account, usd=0.5))
    assert (error.type, error.code) == ("budget_error", "budget_exceeded")
    assert error.headers["retry-after"] == "1"  # only a running request stands in the way
    await ledger.settle(first, round(0.3 * DOLLAR), 0)
    await ledger.reserve(hold("b", account, usd=0.5))
    assert (await ledger.spent([account])).share == pytest.approx(0.8)


async def test_the_last_micro_dollar_can_be_spent_and_not_one_more(ledger: Ledger) -> None:
    account = team(Budget(usd=1.0))
    await ledger.settle(await ledger.reserve(hold("a", account, usd=0.999999)), 999_999, 0)
    await refusal(ledger, hold("b", account, usd=0.000002))
    await ledger.settle(await ledger.reserve(hold("c", account, usd=0.000001)), 1, 0)
    await refusal(ledger, hold("d", account, usd=0.000001))


async def test_release_gives_everything_back(ledger: Ledger) -> None:
    account = team(Budget(usd=1.0, tokens=100))
    held = await ledger.reserve(hold("a", account, usd=1.0, tokens=100))
    await ledger.release(held)
    await ledger.release(held)
    assert (await ledger.spent([account])).share == 0.0
    await ledger.reserve(hold("b", account, usd=1.0, tokens=100))


async def test_settling_twice_charges_once(ledger: Ledger) -> None:
    account = team(Budget(usd=1.0))
    held = await ledger.reserve(hold("a", account, usd=0.5))
    for _ in range(3):
        await ledger.settle(held, 400_000, 7)
    await ledger.release(held)
    assert (await ledger.spent([account])).share == pytest.approx(0.4)


async def test_reserving_twice_holds_once(ledger: Ledger) -> None:
    account = team(Budget(usd=1.0), limits=Limits(requests_per_minute=5))
    for _ in range(3):
        held = await ledger.reserve(hold("a", account, usd=0.5))
    assert held.shares[account.id] == pytest.approx(0.5)
    assert held.rate_headers["x-ratelimit-remaining-requests"] == "4"


async def test_all_accounts_or_none(ledger: Ledger) -> None:
    rich = team(Budget(usd=100.0), limits=Limits(requests_per_minute=3, concurrent_requests=1))
    poor = team(Budget(usd=0.1), name="key:poor")
    await refusal(ledger, hold("a", rich, poor, usd=0.5))
    assert (await ledger.spent([rich, poor])).share == 0.0
    held = await ledger.reserve(hold("b", rich, usd=0.5))
    assert held.rate_headers["x-ratelimit-remaining-requests"] == "2"


async def test_tokens_have_budgets_too(ledger: Ledger) -> None:
    account = team(Budget(tokens=1000, per="day"))
    await ledger.settle(await ledger.reserve(hold("a", account, tokens=900)), 0, 700)
    error = await refusal(ledger, hold("b", account, tokens=301))
    assert error.headers["retry-after"] == str(12 * 3600)
    assert error.headers["x-should-retry"] == "false"
    await ledger.reserve(hold("c", account, tokens=300))


async def test_what_never_fits_is_not_worth_a_retry(ledger: Ledger) -> None:
    error = await refusal(ledger, hold("a", team(Budget(usd=1.0)), usd=1.5))
    assert "retry-after" not in error.headers
    assert error.headers["x-should-retry"] == "false"
    assert "for good" in error.message


async def test_real_cost_above_the_hold_is_charged_in_full(ledger: Ledger) -> None:
    account = team(Budget(usd=1.0))
    await ledger.settle(await ledger.reserve(hold("a", account, usd=0.5)), 1_200_000, 0)
    assert (await ledger.spent([account])).share == pytest.approx(1.2)
    await refusal(ledger, hold("b", account, usd=0.000001))


PERIODS: list[tuple[Period, int]] = [
    ("minute", 60),
    ("hour", 3600),
    ("day", 12 * 3600),
    ("week", 7 * 86400 - 12 * 3600),
    ("month", 30 * 86400 - 12 * 3600),
]


@pytest.mark.parametrize(("period", "left"), PERIODS)
async def test_calendar_windows_end_to_the_second(
    ledger: Ledger, clock: Clock, period: Period, left: int
) -> None:
    account = team(Budget(usd=1.0, per=period))
    await ledger.settle(await ledger.reserve(hold("a", account, usd=1.0)), DOLLAR, 0)
    error = await refusal(ledger, hold("b", account, usd=1.0))
    assert error.headers["retry-after"] == str(left)
    clock.now += left - 1
    await refusal(ledger, hold("c", account, usd=1.0))
    clock.now += 1
    await ledger.reserve(hold("d", account, usd=1.0))


@pytest.mark.parametrize("period", ["minute", "hour", "day", "week", "month"])
async def test_sliding_windows_open_when_they_say(ledger: Ledger, clock: Clock, period: Period) -> None:
    account = team(Budget(usd=1.0, per=period, sliding=True))
    await ledger.settle(await ledger.reserve(hold("a", account, usd=0.7)), 700_000, 0)
    error = await refusal(ledger, hold("b", account, usd=0.7))
    wait = int(error.headers["retry-after"])
    clock.now += wait - 1
    await refusal(ledger, hold("c", account, usd=0.7))
    clock.now += 1
    await ledger.reserve(hold("d", account, usd=0.7))


async def test_a_total_budget_never_starts_anew(ledger: Ledger, clock: Clock) -> None:
    account = team(Budget(usd=1.0, per="total"))
    await ledger.settle(await ledger.reserve(hold("a", account, usd=1.0)), DOLLAR, 0)
    clock.now += 400 * 86400
    await refusal(ledger, hold("b", account, usd=0.1))


async def test_months_of_all_lengths(ledger: Ledger, clock: Clock) -> None:
    account = team(Budget(usd=1.0, per="month"))
    for year, month in [(2026, 12), (2027, 2), (2028, 2), (2028, 11)]:
        begin = datetime.datetime(year, month, 1, tzinfo=datetime.UTC)
        end = datetime.datetime(year + month // 12, month % 12 + 1, 1, tzinfo=datetime.UTC)
        clock.now = begin.timestamp()
        name = f"{year}-{month}"
        await ledger.settle(await ledger.reserve(hold(name, account, usd=1.0)), DOLLAR, 0)
        error = await refusal(ledger, hold("b" + name, account, usd=1.0))
        assert int(error.headers["retry-after"]) == (end - begin).total_seconds()


async def test_several_budgets_of_one_account(ledger: Ledger, clock: Clock) -> None:
    account = team(
        Budget(usd=1.0, per="day"), Budget(usd=1.5, per="month"), Budget(usd=0.8, per="minute", sliding=True)
    )
    await ledger.settle(await ledger.reserve(hold("a", account, usd=0.8)), 800_000, 0)
    spent = await ledger.spent([account])
    assert (spent.share, spent.account) == (pytest.approx(1.0), account.id)
    assert (await refusal(ledger, hold("b", account, usd=0.1))).headers["retry-after"] == "60"
    assert (await refusal(ledger, hold("b", account, usd=0.3))).headers["retry-after"] == str(12 * 3600)
    clock.now += 12 * 3600
    error = await refusal(ledger, hold("c", account, usd=0.75))
    assert int(error.headers["retry-after"]) == 29 * 86400


async def test_of_a_thousand_at_once_as_many_pass_as_the_budget_holds(ledger: Ledger) -> None:
    account = team(Budget(usd=1.0), name="team:many")
    results = await asyncio.gather(
        *[ledger.reserve(hold(f"h{n}", account, usd=0.01)) for n in range(1000)], return_exceptions=True
    )
    passed = [result for result in results if isinstance(result, Hold)]
    assert len(passed) == 100
    assert {type(result) for result in results} == {Hold, BudgetExceeded}
    await asyncio.gather(*[ledger.settle(held, 10_000, 5) for held in passed])
    assert (await ledger.spent([account])).share == pytest.approx(1.0)


# ---- the clock


def test_the_clock_begins_where_it_says() -> None:
    begin = datetime.datetime.fromtimestamp(MONDAY, datetime.UTC)
    assert (begin.isoformat(), begin.weekday()) == ("2026-06-01T00:00:00+00:00", 0)


async def test_a_clock_that_goes_back_hands_nothing_out_twice(ledger: Ledger, clock: Clock) -> None:
    account = team(Budget(usd=1.0, per="day"), limits=Limits(requests_per_minute=2))
    clock.now += 86400
    await ledger.settle(await ledger.reserve(hold("a", account, usd=1.0)), DOLLAR, 0)
    clock.now -= 86400
    error = await refusal(ledger, hold("b", account, usd=0.5))
    assert isinstance(error, BudgetExceeded)


# ---- leases


async def test_a_hold_without_its_gateway_comes_back(ledger: Ledger, clock: Clock) -> None:
    account = team(Budget(usd=1.0), limits=Limits(concurrent_requests=1))
    await ledger.reserve(hold("dead", account, usd=1.0, lease=60))
    clock.now += 59
    await refusal(ledger, hold("b", account, usd=1.0))
    clock.now += 1
    await ledger.reserve(hold("b", account, usd=1.0))


async def test_a_renewed_lease_lasts(ledger: Ledger, clock: Clock) -> None:
    account = team(Budget(usd=1.0))
    held = await ledger.reserve(hold("long", account, usd=1.0, lease=60))
    for _ in range(5):
        clock.now += 40
        await ledger.renew([held])
    await refusal(ledger, hold("b", account, usd=0.1))
    await ledger.settle(held, 500_000, 0)
    assert (await ledger.spent([account])).share == pytest.approx(0.5)


async def test_a_settlement_after_the_lease_still_counts(ledger: Ledger, clock: Clock) -> None:
    account = team(Budget(usd=1.0))
    held = await ledger.reserve(hold("slow", account, usd=1.0, lease=60))
    clock.now += 61
    assert (await ledger.spent([account])).share == 0.0
    await ledger.settle(held, 250_000, 0)
    await ledger.settle(held, 250_000, 0)
    assert (await ledger.spent([account])).share == pytest.approx(0.25)
