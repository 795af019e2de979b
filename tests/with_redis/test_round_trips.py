"""Authentication, pressure, limits and budgets: one round trip for a known key, two for another."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.access.administration import Administration
from gateway.access.admission import Admission
from gateway.access.bodies import KeyBody
from gateway.access.callers import Callers
from gateway.config import Config, ModelConfig, Secret
from gateway.settings import Settings
from gateway.shapes import Compressed, ParsedRequest, Price, Usage
from gateway.stores.base import Hold, Stores
from gateway.stores.redis_ledger import RedisLedger
from gateway.stores.redis_stores import open_redis
from policies.shapes import Budget, Limits, Match, Plan, Policy, PressureStep, Route, RouteMatch, Team
from tests.with_redis.server import RedisServer

CONFIG = Config(
    models={"m": ModelConfig("m", "u", budgets=(Budget(usd=100.0, per="day"),))},
    teams={
        "red": Team(
            "red",
            (Budget(usd=50.0), Budget(tokens=10**9, per="hour", sliding=True)),
            Limits(10**6, 10**9, 100),
            pressure=(PressureStep(0.5, 0.5),),
        )
    },
    routes=(Route("all", RouteMatch(), "p", budgets=(Budget(usd=200.0, per="week"),)),),
)


@pytest.fixture
async def stores(fresh_redis: RedisServer) -> AsyncIterator[Stores]:
    stores = open_redis(Secret(fresh_redis.url))
    yield stores
    await stores.close()


async def one_request(stores: Stores, callers: Callers, admission: Admission, key: str) -> tuple[int, Hold]:
    """Round trips until it may go upstream, with limits on team, key, model and route."""
    assert isinstance(stores.ledger, RedisLedger)
    before, match = stores.ledger.round_trips, Match("all", Policy("p"), "")
    caller = await callers.authenticate({"authorization": f"Bearer {key}"})
    await admission.pressure(caller, match, CONFIG.models["m"])
    request = ParsedRequest("chat", "/", b"{}", {}, "m", False, max_output_tokens=10)
    compressed = Compressed(b"{}", "off", "", Plan(False, "off", 0, 1.0, ""), 10, 10, "none", 0.0)
    hold = await admission.admit(caller, match, request, compressed, Price(1e-6, 1e-6))
    assert len(hold.accounts) == 4
    return stores.ledger.round_trips - before, hold


async def test_round_trips(stores: Stores) -> None:
    made = await Administration(CONFIG, stores).generate(
        KeyBody(team_id="red", max_budget=5.0, rpm_limit=10**6)
    )
    warm = Admission(CONFIG, stores.ledger)
    await one_request(
        stores, Callers(CONFIG, Settings(), stores.registry), warm, made["key"]
    )  # loads scripts
    admission = Admission(CONFIG, stores.ledger)
    callers = Callers(CONFIG, Settings(), stores.registry, along=admission.read_along)
    cold, hold = await one_request(stores, callers, admission, made["key"])
    assert cold == 2
    await admission.settle(hold, Usage(10, output_tokens=5), 0.00001)
    for _ in range(3):
        known, hold = await one_request(stores, callers, admission, made["key"])
        assert known == 1
        await admission.release(hold)
    await admission.close()
    await warm.close()
