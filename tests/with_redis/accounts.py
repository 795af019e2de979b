"""What Redis knows of an account, read and changed behind the gateways' back."""

from __future__ import annotations

import threading

from tests.with_redis.server import RedisServer


def account_of(server: RedisServer, account: str) -> tuple[int, int, int]:
    """Running requests, held and spent micro-USD, straight from Redis."""
    with server.client() as client:
        found = client.hmget("{terse}:l:a:" + account, "c", "hu", "u:total")
    running, held, spent = (int(value or 0) for value in found)  # type: ignore[union-attr]
    return running, held, spent


def settled(server: RedisServer, account: str, *, but_for_leases: bool = False) -> None:
    """Waits until nothing runs any more, or, after a crash, until what runs does not change for a second."""
    waiter, last, same = threading.Event(), (-1, -1, -1), 0
    for _ in range(300):
        now = account_of(server, account)
        same = same + 1 if now == last else 0
        if same >= 20 and (now[0] == 0 or but_for_leases):
            return
        last = now
        waiter.wait(0.05)
    raise TimeoutError(f"{account} does not come to rest: {last}")


def end_all_leases(server: RedisServer) -> None:
    """As if a minute had passed."""
    with server.client() as client:
        for hold in client.zrange("{terse}:l:leases", 0, -1):  # type: ignore[union-attr]
            client.zadd("{terse}:l:leases", {hold: 1})
