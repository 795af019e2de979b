"""Several gateways on one store: evidence adds up, a fall-back reaches all, originals are shared by key."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry

from compressor.engine.fake import FakeEngine
from gateway.quality.evidence import COLLECTION, decode, record_name
from gateway.quality.guard import QualityGuard, _Pending
from gateway.quality.measures import QualityMetrics
from gateway.quality.report import read_rows, reset
from gateway.recovery.vault import Vault
from gateway.stores.base import Stores
from gateway.stores.breaker import Breaker
from gateway.stores.redis_cache import RedisCache
from gateway.stores.redis_ledger import RedisLedger
from gateway.stores.redis_link import RedisLink, Scripts, connect
from gateway.stores.redis_registry import RedisRegistry
from policies.shapes import Match, Policy
from tests.with_redis.conftest import PATIENT_SECONDS
from tests.with_redis.server import RedisServer

POLICY = Policy("rag", shadow=0.1, min_quality=0.6, fingerprint="f00")


def guard_on(stores: Stores) -> QualityGuard:
    metrics = QualityMetrics(CollectorRegistry())
    return QualityGuard(stores, FakeEngine(), metrics, lambda: {"rag": POLICY})


def saw(guard: QualityGuard, *scores: float) -> None:
    pending = guard._pending.setdefault(record_name(POLICY), _Pending(POLICY))
    pending.treated += scores
    for tokens in (10, 20):
        pending.add_length("treated", tokens)


def stores_on(server: RedisServer) -> Stores:
    """As the gateway opens them, but patient: a busy machine must not look like an outage."""
    client = connect(server.url)
    link = RedisLink(client, Scripts(), Breaker(), bound_seconds=PATIENT_SECONDS)
    return Stores(RedisCache(link), RedisRegistry(link), RedisLedger(link), "redis", client.aclose)


async def test_replicas_add_up_and_hear_of_a_fall_back(fresh_redis: RedisServer) -> None:
    replicas = [stores_on(fresh_redis) for _ in range(6)]
    guards = [guard_on(stores) for stores in replicas]
    try:
        for guard in guards:
            saw(guard, 1.0, 1.0)
        for _ in range(3):  # whoever lost too many races tries again with the next round
            await asyncio.gather(*[guard.flush() for guard in guards])
        record = await replicas[0].registry.get(COLLECTION, record_name(POLICY))
        assert record is not None
        found = decode(record.data)
        assert (len(found.treated), found.treated_requests) == (12, 12)
        assert [guard.mode_for(POLICY) for guard in guards] == ["on"] * 6
        saw(guards[3], *[0.0] * 20)
        await guards[3].flush()
        assert guards[3].mode_for(POLICY) == "audit"
        for guard in guards:
            await guard.flush()
        assert [guard.mode_for(POLICY) for guard in guards] == ["audit"] * 6
        guarded = guards[0].guarded(Match("0", POLICY, "route 0"))
        assert guarded.policy.mode == "audit"
        assert guarded.reason == "route 0; audit, as its quality fell below 0.6"
        [row] = await read_rows(replicas[0].registry, {"rag": POLICY})
        assert row.state == "audit"
        assert await reset(replicas[0].registry, "rag") == 1
        await guards[5].flush()
        assert guards[5].mode_for(POLICY) == "on"
    finally:
        for stores in replicas:
            await stores.close()


async def test_evidence_waits_while_the_store_is_gone(own_redis: RedisServer) -> None:
    stores = stores_on(own_redis)
    guard = guard_on(stores)
    try:
        await guard.flush()
        own_redis.kill()
        saw(guard, 0.5)
        await guard.flush()
        saw(guard, 0.25)
        await guard.flush()
        pending = guard._pending[record_name(POLICY)]
        assert (pending.treated, pending.requests["treated"]) == ([0.5, 0.25], 4)
        assert guard.mode_for(POLICY) == "on"
    finally:
        await stores.close()


async def test_originals_are_shared_by_replicas_with_one_key(fresh_redis: RedisServer) -> None:
    one, other = stores_on(fresh_redis), stores_on(fresh_redis)
    try:
        [name] = await Vault(one.cache, bytes(32)).put("search", ["the original"])
        assert await Vault(other.cache, bytes(32)).get("search", [name]) == ["the original"]
        assert await Vault(other.cache, bytes(32)).get("ads", [name]) == [None]
        assert await Vault(other.cache, bytes(range(32))).get("search", [name]) == [None]
        with fresh_redis.client() as client:
            [key] = client.keys("*o:*")
            assert 3500 < client.ttl(key) <= 3600
            assert b"original" not in client.get(key)
    finally:
        await one.close()
        await other.close()
