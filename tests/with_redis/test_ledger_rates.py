"""The contract of Ledger, for both implementations: requests and tokens a minute, concurrent requests."""

from __future__ import annotations

from dataclasses import replace

from gateway.errors import RateLimited
from gateway.stores.base import Ledger
from policies.shapes import Limits
from tests.with_redis.conftest import Clock
from tests.with_redis.holds import hold, refusal, team


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


async def test_a_clock_that_jumped_ahead_does_not_block_rates_for_good(ledger: Ledger, clock: Clock) -> None:
    account = team(limits=Limits(requests_per_minute=1, tokens_per_minute=100))
    clock.now += 365 * 86400
    held = await ledger.reserve(hold("a", account, tokens=100))
    clock.now -= 365 * 86400
    await ledger.reserve(hold("b", account, tokens=100))
    await ledger.settle(held, 0, 10)  # its slice is long dropped: nothing becomes negative
    error = await refusal(ledger, hold("c", account, tokens=1))
    assert int(error.headers["retry-after"]) <= 60
