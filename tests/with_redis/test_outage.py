"""Redis that is frozen, killed or restarted empty: nobody waits long, nothing is mixed up or lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from gateway.access.admission import Admission
from gateway.config import Config, ModelConfig, Secret
from gateway.errors import BudgetExceeded, RateLimited, Unavailable
from gateway.shapes import Caller, Compressed, ParsedRequest, Price, Usage
from gateway.stores.base import Account, Hold, Stores
from gateway.stores.breaker import FAILURES_TO_OPEN, SECONDS_OPEN, Breaker
from gateway.stores.redis_ledger import RedisLedger
from gateway.stores.redis_stores import open_redis
from policies.shapes import Budget, Limits, Match, Plan, Policy, Team
from tests.with_redis.server import RedisServer

PRICE = Price(input=1e-6, output=1e-6)
ACCOUNT = Account("team:red", (Budget(usd=1.0),))
# 50 ms are the bound; the best of three on a busy test machine, and the worst.
BOUND_SECONDS, STARVED_SECONDS = 0.15, 2.0


@dataclass
class Gateway:
    """Stores on a server that the test may break, and admission on them."""

    server: RedisServer
    stores: Stores
    admission: Admission

    async def admit(self, policy: Policy | None = None, team: Team | None = None) -> Hold:
        """One request that may cost $0.30."""
        return await self.admission.admit(
            Caller(team or Team("red", (Budget(usd=1.0),)), "anonymous"),
            Match("r", policy or Policy("p"), ""),
            ParsedRequest("chat", "/v1/chat/completions", b"{}", {}, "m", False, max_output_tokens=100_000),
            Compressed(b"{}", "off", "", Plan(False, "off", 0, 1.0, ""), 200_000, 200_000, "none", 0.0),
            PRICE,
        )


@pytest.fixture
async def gateway(own_redis: RedisServer) -> AsyncIterator[Gateway]:
    stores = open_redis(Secret(own_redis.url))
    admission = Admission(Config(models={"m": ModelConfig("m", "u")}), stores.ledger)
    yield Gateway(own_redis, stores, admission)
    await admission.close()
    await stores.close()


async def reachable(stores: Stores) -> None:
    """Returns once Redis counts as back."""
    for _ in range(100):
        try:
            await stores.ledger.spent([ACCOUNT])
            return
        except Unavailable:
            await asyncio.sleep(0.05)
    raise TimeoutError("Redis did not come back")


async def charged(stores: Stores) -> float:
    """The share of the red team's dollar, once everything that waited is written."""
    await reachable(stores)
    assert isinstance(stores.ledger, RedisLedger)
    for _ in range(100):
        if not stores.ledger.waiting:
            return (await stores.ledger.spent([ACCOUNT])).share
        await asyncio.sleep(0.05)
    raise TimeoutError("what waited was not written")


async def test_a_frozen_redis_costs_at_most_the_bound(gateway: Gateway) -> None:
    await gateway.stores.ledger.spent([ACCOUNT])
    gateway.server.freeze()
    times = []
    for _ in range(FAILURES_TO_OPEN):
        begin = time.perf_counter()
        with pytest.raises(Unavailable):
            await gateway.stores.ledger.spent([ACCOUNT])
        times.append(time.perf_counter() - begin)
    assert min(times) < BOUND_SECONDS
    assert max(times) < STARVED_SECONDS
    # Now the breaker is open: nobody even asks.
    assert isinstance(gateway.stores.ledger, RedisLedger)
    asked = gateway.stores.ledger.round_trips
    for _ in range(3):
        with pytest.raises(Unavailable):
            await gateway.stores.ledger.spent([ACCOUNT])
    assert gateway.stores.ledger.round_trips == asked
    gateway.server.thaw()
    await reachable(gateway.stores)


async def test_many_that_wait_together_wait_once(gateway: Gateway) -> None:
    await gateway.stores.ledger.spent([ACCOUNT])
    gateway.server.freeze()
    begin = time.perf_counter()
    results = await asyncio.gather(
        *[gateway.stores.ledger.spent([ACCOUNT]) for _ in range(1000)], return_exceptions=True
    )
    assert time.perf_counter() - begin < STARVED_SECONDS
    assert {type(result).__mro__[1] for result in results} == {Unavailable}
    gateway.server.thaw()


async def test_answers_are_never_mixed_up_after_a_timeout(gateway: Gateway) -> None:
    cache = gateway.stores.cache
    await cache.set_many({f"k{n}": b"%d" % n for n in range(50)}, 60)
    gateway.server.freeze()
    assert await asyncio.gather(*[cache.get_many([f"k{n}"]) for n in range(50)]) == [[None]] * 50
    gateway.server.thaw()
    await reachable(gateway.stores)
    answers = await asyncio.gather(*[cache.get_many([f"k{n}"]) for n in range(50)])
    assert answers == [[b"%d" % n] for n in range(50)]


async def test_the_cache_without_redis_misses(gateway: Gateway) -> None:
    cache = gateway.stores.cache
    gateway.server.kill()
    assert await cache.get_many(["a", "b"]) == [None, None]
    await cache.set_many({"a": b"1"}, 60)
    assert await cache.add_many({"a": b"1", "b": b"2"}, 60) == [b"1", b"2"]


async def test_a_server_that_came_back_empty_is_used_again(gateway: Gateway) -> None:
    await gateway.stores.ledger.release(await gateway.stores.ledger.reserve(Hold("a", (ACCOUNT,), 1, 1)))
    gateway.server.kill()
    with pytest.raises(Unavailable):
        await gateway.stores.ledger.reserve(Hold("b", (ACCOUNT,), 1, 1))
    gateway.server.start()
    await reachable(gateway.stores)  # the scripts are sent anew
    await gateway.stores.ledger.reserve(Hold("c", (ACCOUNT,), 1, 1))


async def test_open_goes_on_and_charges_later(gateway: Gateway) -> None:
    first = await gateway.admit()
    assert not first.local
    gateway.server.freeze()
    second = await gateway.admit()
    assert second.local
    third = await gateway.admit()
    with pytest.raises(BudgetExceeded):  # $0.70 were left when Redis last spoke
        await gateway.admit()
    await gateway.admission.release(third)
    await gateway.admission.settle(first, Usage(input_tokens=100_000), 0.1)
    await gateway.admission.settle(second, Usage(input_tokens=100_000), 0.2)
    await gateway.stores.ledger.book({"request_id": "r", "at": "2026-06-01", "team": "red", "cost_usd": 0.2})
    gateway.server.thaw()
    assert await charged(gateway.stores) == pytest.approx(0.3)
    assert (await gateway.stores.ledger.totals())[0]["cost_usd"] == 0.2
    await gateway.admission.settle(second, Usage(input_tokens=100_000), 0.2)
    assert await charged(gateway.stores) == pytest.approx(0.3)


async def test_open_gives_back_what_failed_meanwhile(gateway: Gateway) -> None:
    first = await gateway.admit()
    gateway.server.freeze()
    second = await gateway.admit()
    await gateway.admission.release(first)
    await gateway.admission.release(second)
    gateway.server.thaw()
    assert await charged(gateway.stores) == 0.0


async def test_open_still_counts_in_this_process(gateway: Gateway) -> None:
    gateway.server.kill()
    holds = [await gateway.admit() for _ in range(3)]
    assert all(hold.local for hold in holds)
    with pytest.raises(BudgetExceeded):
        await gateway.admit()
    limited = Team("blue", limits=Limits(requests_per_minute=1))
    assert (await gateway.admit(team=limited)).rate_headers["x-ratelimit-remaining-requests"] == "0"
    with pytest.raises(RateLimited):
        await gateway.admit(team=limited)


async def test_open_remembers_that_a_budget_was_full(gateway: Gateway) -> None:
    holds = [await gateway.admit(team=Team("red", (Budget(usd=0.9),))) for _ in range(3)]
    gateway.server.freeze()
    with pytest.raises(BudgetExceeded, match="when it could last be read"):
        await gateway.admit(team=Team("red", (Budget(usd=0.9),)))
    for hold in holds:
        await gateway.admission.settle(hold, Usage(1), 0.3)
    gateway.server.thaw()
    assert await charged(gateway.stores) == pytest.approx(0.9)


async def test_closed_refuses_with_the_reason(gateway: Gateway) -> None:
    gateway.server.freeze()
    with pytest.raises(Unavailable) as caught:
        await gateway.admit(Policy("strict", store_fail="closed"))
    assert caught.value.status == 503
    assert "strict" in caught.value.message
    assert caught.value.headers["retry-after"] == "1"
    gateway.server.thaw()
    assert await charged(gateway.stores) == 0.0  # the frozen server had the reservation in its socket


async def test_a_restart_loses_no_settlement_that_was_made_meanwhile(gateway: Gateway) -> None:
    await gateway.stores.ledger.spent([ACCOUNT])
    gateway.server.kill()
    hold = await gateway.admit()
    await gateway.admission.settle(hold, Usage(input_tokens=1), 0.25)
    gateway.server.start()
    assert await charged(gateway.stores) == pytest.approx(0.25)


async def test_a_client_that_leaves_while_its_hold_is_made(gateway: Gateway) -> None:
    await gateway.stores.ledger.spent([ACCOUNT])
    waiting = [asyncio.create_task(gateway.admit()) for _ in range(3)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    for _ in range(100):
        if (await gateway.stores.ledger.spent([ACCOUNT])).share == 0.0:
            break
        await asyncio.sleep(0.01)
    holds = [await gateway.admit() for _ in range(3)]
    assert not any(hold.local for hold in holds)


async def test_redis_out_of_memory_is_an_outage(gateway: Gateway) -> None:
    with gateway.server.client() as plain:
        plain.config_set("maxmemory", "1")
    assert (await gateway.admit()).local
    with gateway.server.client() as plain:
        plain.config_set("maxmemory", "0")
    assert not (await gateway.admit(team=replace(Team("red"), budgets=(Budget(usd=1.0),)))).local


def test_the_breaker_lets_one_try() -> None:
    now = [0.0]
    breaker = Breaker(lambda: now[0])
    for _ in range(FAILURES_TO_OPEN):
        assert breaker.admits()
        breaker.failed()
    assert breaker.is_open
    assert not breaker.admits()
    now[0] += SECONDS_OPEN
    assert breaker.admits()
    assert not breaker.admits()
    breaker.failed()
    assert not breaker.admits()
    now[0] += SECONDS_OPEN
    assert breaker.admits()
    breaker.succeeded()
    assert breaker.admits()
    assert breaker.openings == 1
