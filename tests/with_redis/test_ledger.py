"""The contract of Ledger, for both implementations, on a clock that the test turns."""

from __future__ import annotations

import asyncio
import datetime
from dataclasses import replace

import pytest

from gateway.errors import BudgetExceeded, GatewayError, RateLimited
from gateway.stores.base import Account, Hold, Ledger
from policies.shapes import Budget, Limits, Period
from tests.with_redis.conftest import MONDAY, Clock

DOLLAR = 1_000_000


def hold(name: str, *accounts: Account, usd: float = 0.0, tokens: int = 0, lease: int = 60) -> Hold:
    return Hold(name, accounts, round(usd * DOLLAR), tokens, lease_seconds=lease)


def team(*budgets: Budget, limits: Limits = Limits(), name: str = "team:red") -> Account:  # noqa: B008
    return Account(name, budgets, limits)


async def refusal(ledger: Ledger, wanted: Hold) -> GatewayError:
    with pytest.raises((RateLimited, BudgetExceeded)) as caught:
        await ledger.reserve(wanted)
    assert caught.value.status == 429
    return caught.value


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


# ---- clocks that jump


async def test_a_clock_that_goes_back_hands_nothing_out_twice(ledger: Ledger, clock: Clock) -> None:
    account = team(Budget(usd=1.0, per="day"), limits=Limits(requests_per_minute=2))
    clock.now += 86400
    await ledger.settle(await ledger.reserve(hold("a", account, usd=1.0)), DOLLAR, 0)
    clock.now -= 86400
    error = await refusal(ledger, hold("b", account, usd=0.5))
    assert isinstance(error, BudgetExceeded)


async def test_a_clock_that_jumped_ahead_does_not_block_rates_for_good(ledger: Ledger, clock: Clock) -> None:
    account = team(limits=Limits(requests_per_minute=1, tokens_per_minute=100))
    clock.now += 365 * 86400
    held = await ledger.reserve(hold("a", account, tokens=100))
    clock.now -= 365 * 86400
    await ledger.reserve(hold("b", account, tokens=100))
    await ledger.settle(held, 0, 10)  # its slice is long dropped: nothing becomes negative
    error = await refusal(ledger, hold("c", account, tokens=1))
    assert int(error.headers["retry-after"]) <= 60


# ---- rates


async def test_requests_per_minute(ledger: Ledger, clock: Clock) -> None:
    account = team(limits=Limits(requests_per_minute=3))
    clock.now += 5
    first = await ledger.reserve(hold("a", account))
    assert first.rate_headers == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "1m0s",
    }
    clock.now += 10
    await ledger.reserve(hold("b", account))
    await ledger.reserve(hold("c", account))
    error = await refusal(ledger, hold("d", account))
    assert error.code == "rate_limit_exceeded"
    assert error.headers["retry-after"] == "50"
    assert error.headers["x-ratelimit-remaining-requests"] == "0"
    clock.now += 49
    await refusal(ledger, hold("e", account))
    clock.now += 1
    again = await ledger.reserve(hold("f", account))
    assert again.rate_headers["x-ratelimit-remaining-requests"] == "0"


async def test_tokens_per_minute_are_corrected_by_the_real_usage(ledger: Ledger, clock: Clock) -> None:
    account = team(limits=Limits(tokens_per_minute=1000))
    held = await ledger.reserve(hold("a", account, tokens=900))
    assert held.rate_headers["x-ratelimit-remaining-tokens"] == "100"
    await refusal(ledger, hold("b", account, tokens=101))
    clock.now += 5
    await ledger.settle(held, 0, 300)
    held = await ledger.reserve(hold("c", account, tokens=600))
    assert held.rate_headers["x-ratelimit-remaining-tokens"] == "100"
    await ledger.release(held)
    held = await ledger.reserve(hold("d", account, tokens=700))
    assert held.rate_headers["x-ratelimit-remaining-tokens"] == "0"
    assert held.rate_headers["x-ratelimit-reset-tokens"] == "1m0s"


async def test_a_request_longer_than_the_minute_runs_when_the_minute_is_empty(
    ledger: Ledger, clock: Clock
) -> None:
    account = team(limits=Limits(tokens_per_minute=1000))
    small = await ledger.reserve(hold("a", account, tokens=1))
    wanted = replace(hold("b", account, tokens=20_000), input_tokens=800)
    assert (await refusal(ledger, wanted)).headers["retry-after"] == "60"
    await ledger.settle(small, 0, 0)
    await ledger.reserve(wanted)
    clock.now += 60
    too_long = replace(hold("c", account, tokens=20_000), input_tokens=1001)
    assert "retry-after" not in (await refusal(ledger, too_long)).headers


async def test_concurrent_requests(ledger: Ledger) -> None:
    account = team(limits=Limits(concurrent_requests=2))
    first = await ledger.reserve(hold("a", account))
    await ledger.reserve(hold("b", account))
    error = await refusal(ledger, hold("c", account))
    assert isinstance(error, RateLimited)
    assert error.headers["retry-after"] == "1"
    await ledger.settle(first, 0, 0)
    await ledger.reserve(hold("c", account))


async def test_limits_of_nothing(ledger: Ledger) -> None:
    for limits in (
        Limits(requests_per_minute=0),
        Limits(concurrent_requests=0),
    ):
        error = await refusal(ledger, hold("a", team(limits=limits)))
        assert "retry-after" not in error.headers


async def test_the_tightest_account_speaks_in_the_headers(ledger: Ledger) -> None:
    wide = team(limits=Limits(requests_per_minute=100, tokens_per_minute=1000))
    tight = team(limits=Limits(requests_per_minute=2), name="key:k")
    held = await ledger.reserve(hold("a", wide, tight, tokens=400))
    assert held.rate_headers["x-ratelimit-limit-requests"] == "2"
    assert held.rate_headers["x-ratelimit-remaining-requests"] == "1"
    assert held.rate_headers["x-ratelimit-remaining-tokens"] == "600"


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


# ---- books


def entry(number: int, **other: str | int | float) -> dict[str, str | int | float]:
    base: dict[str, str | int | float] = {
        "request_id": f"r{number}",
        "at": "2026-06-01T10:00:00Z",
        "team": "red",
        "key_id": "k1",
        "model": "gpt-4o-mini",
        "route": "default",
        "compression": "applied",
        "tokens_before": 1000,
        "tokens_after": 600,
        "input_tokens": 610,
        "output_tokens": 40,
        "cost_usd": 0.000123,
        "counterfactual_usd": 0.0002,
        "saved_usd": 0.000077,
        "outcome": "ok",
    }
    return {**base, **other}


async def test_books_add_up(ledger: Ledger) -> None:
    await asyncio.gather(*[ledger.book(entry(n)) for n in range(1000)])
    await ledger.book(entry(5000, team="blue", key_id="k2", cost_usd=1.5, outcome="upstream-error"))
    await ledger.book(entry(5001, at="2026-06-02T00:00:00Z", compression="off", saved_usd=-0.5))
    rows = await ledger.totals(since="2026-06-01", until="2026-06-01")
    assert [(row["day"], row["team"], row["model"], row["requests"]) for row in rows] == [
        ("2026-06-01", "blue", "gpt-4o-mini", 1),
        ("2026-06-01", "red", "gpt-4o-mini", 1000),
    ]
    assert rows[1]["cost_usd"] == 0.123
    assert rows[1]["tokens_saved"] == 400_000
    assert rows[1]["compressed"] == 1000
    assert rows[0]["failed"] == 1
    by_team = await ledger.totals(team="red", by=("team",))
    assert by_team[0]["requests"] == 1001
    assert by_team[0]["saved_usd"] == pytest.approx(0.077 - 0.5)
    assert await ledger.spend_of(["team:red", "key:k2", "team:none"]) == {
        "team:red": 123_123,
        "key:k2": 1_500_000,
        "team:none": 0,
    }
    with pytest.raises(ValueError, match="group by"):
        await ledger.totals(by=("colour",))


async def test_books_tell_by_how_much_answers_became_longer(ledger: Ledger) -> None:
    for number in range(60):
        arm, tokens = ("holdout", 100) if number % 3 == 0 else ("treated", 140)
        await ledger.book(entry(number, arm=arm, output_tokens=tokens, output_usd=tokens * 1e-5))
    (row,) = await ledger.totals(by=("day", "team"))
    assert (row["compared_requests"], row["holdout_requests"]) == (40, 20)
    assert row["output_change_tokens"] == row["output_change_tokens_low"] == 1600
    assert row["output_change_usd"] == pytest.approx(0.016)
    assert row["net_saved_usd"] == pytest.approx(60 * 0.000077 - 0.016)


async def test_a_receipt_is_booked_once(ledger: Ledger) -> None:
    for _ in range(3):
        await ledger.book(entry(1))
    assert (await ledger.totals())[0]["requests"] == 1
    assert len(await ledger.recent()) == 1


async def test_of_many_together_each_is_booked_once(ledger: Ledger) -> None:
    """More than one statement takes; some are there already, some twice in one call, some nameless."""
    await ledger.book_many([entry(n) for n in range(0, 250, 2)])
    named = [entry(n) for n in range(250)]
    nameless = [entry(n, request_id="", team="blue") for n in range(150)]
    await ledger.book_many([*named, *nameless, *named])
    rows = await ledger.totals(by=("team",))
    assert [(row["team"], row["requests"], row["cost_usd"]) for row in rows] == [
        ("blue", 150, 0.01845),
        ("red", 250, 0.03075),
    ]
    assert {row["request_id"] for row in await ledger.recent(team="red", limit=1000)} == {
        f"r{n}" for n in range(250)
    }


async def test_recent_receipts_newest_first(ledger: Ledger) -> None:
    for number in range(5):
        await ledger.book(entry(number, team="red" if number % 2 else "blue"))
    assert [row["request_id"] for row in await ledger.recent(limit=3)] == ["r4", "r3", "r2"]
    assert [row["request_id"] for row in await ledger.recent(team="red")] == ["r3", "r1"]
    assert await ledger.recent(limit=0) == []
    assert (await ledger.recent(limit=1))[0] == entry(4, team="blue")


def test_the_clock_begins_where_it_says() -> None:
    begin = datetime.datetime.fromtimestamp(MONDAY, datetime.UTC)
    assert (begin.isoformat(), begin.weekday()) == ("2026-06-01T00:00:00+00:00", 0)
