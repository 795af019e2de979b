"""Redis behind Sentinel: `redis+sentinel://[:password@]host:26379,host:26379/service[/db]`.

The sentinels say who is primary; after a failover the next connection goes to the promoted replica.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel

SCHEMES = ("redis+sentinel", "rediss+sentinel")
_PORT = 26379
# How long a sentinel may take to answer: one that is gone must not keep the next one from being asked.
_SENTINEL_SECONDS = 0.2


def connect_sentinel(scheme: str, rest: str, options: dict[str, Any]) -> Redis:
    """A client of the service's primary, with `options` for its connections. Raises ValueError."""
    place, _, path = rest.partition("/")
    account, _, hosts = place.rpartition("@")
    service, _, number = path.partition("/")
    if not service or not hosts:
        raise ValueError("expected redis+sentinel://host:26379,host:26379/service[/db]")
    user, _, password = account.partition(":")
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        [_address(host) for host in hosts.split(",")],
        sentinel_kwargs={"socket_timeout": _SENTINEL_SECONDS, "socket_connect_timeout": _SENTINEL_SECONDS},
        username=unquote(user) or None,
        password=unquote(password) or None,
        ssl=scheme.startswith("rediss"),
        **options,
    )
    client: Redis = sentinel.master_for(service, db=int(number or 0))
    return client


def _address(host: str) -> tuple[str, int]:
    name, _, port = host.strip().rpartition(":") if ":" in host else (host.strip(), "", "")
    return name.strip("[]"), int(port or _PORT)
