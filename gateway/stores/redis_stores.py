"""The stores in Redis. Loads redis-py, so only a process that has a Redis imports it."""

from __future__ import annotations

from gateway.config import Secret
from gateway.stores.base import Stores
from gateway.stores.breaker import Breaker
from gateway.stores.redis_cache import RedisCache
from gateway.stores.redis_ledger import RedisLedger
from gateway.stores.redis_link import RedisLink, Scripts, connect
from gateway.stores.redis_registry import RedisRegistry


def open_redis(url: Secret) -> Stores:
    """Stores in Redis: one client, one breaker, one lane for the cache and one for what decides.

    Raises ValueError for a URL that is none.
    """
    try:
        client = connect(url.reveal())
    except ValueError:  # its text may hold the URL, and the URL a password
        raise ValueError(
            "store: expected redis://host:port/0, rediss://..., unix:///path or redis+sentinel://host/service"
        ) from None
    scripts, breaker = Scripts(), Breaker()
    decisions = RedisLink(client, scripts, breaker)
    return Stores(
        cache=RedisCache(RedisLink(client, scripts, breaker)),
        registry=RedisRegistry(decisions),
        ledger=RedisLedger(decisions),
        kind="redis",
        closing=client.aclose,
    )
