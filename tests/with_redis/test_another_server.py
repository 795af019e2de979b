"""Another server takes the place of the one that took the last writes, and knows less than it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.errors import Unavailable
from gateway.stores.base import Account, Hold
from gateway.stores.breaker import Breaker
from gateway.stores.redis_ledger import RedisLedger
from gateway.stores.redis_link import RedisLink, Scripts, connect
from policies.shapes import Budget
from tests.with_redis.accounts import account_of
from tests.with_redis.conftest import PATIENT_SECONDS
from tests.with_redis.server import RedisServer

TEAM = Account("team:red", (Budget(usd=1.0, per="total"),))
RECEIPT = {"at": "2026-06-01T12:00:00Z", "team": "red", "model": "m", "request_id": "r1", "cost_usd": 0.0003}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """One that can be put back to an earlier state, as a replica that was behind is."""
    server = RedisServer(tmp_path, ["--dbfilename", "state.rdb"])
    yield server
    server.kill()


@pytest.fixture
async def ledger(server: RedisServer) -> AsyncIterator[RedisLedger]:
    client = connect(server.url)
    ledger = RedisLedger(RedisLink(client, Scripts(), Breaker(), bound_seconds=PATIENT_SECONDS))
    yield ledger
    await ledger.close()
    await client.aclose()


@contextlib.contextmanager
def behind(server: RedisServer) -> Iterator[None]:
    """What is written in the block is unknown to the server that answers after it."""
    with server.client() as client:
        client.save()
    yield
    server.kill()
    server.start()  # reads what was saved


def hold(name: str) -> Hold:
    return Hold(name, (TEAM,), 500, 0, lease_seconds=60)


async def settled(ledger: RedisLedger) -> None:
    """Waits for what is written later."""
    for _ in range(200):
        if not ledger.waiting:
            return
        with contextlib.suppress(Unavailable):
            await ledger._write_backlog()
    raise TimeoutError


async def test_what_was_settled_is_said_again(server: RedisServer, ledger: RedisLedger) -> None:
    held = await ledger.reserve(hold("a"))
    await ledger.settle(await ledger.reserve(hold("before")), 100, 0)
    with behind(server):
        await ledger.settle(held, 300, 0)
        await ledger.book(RECEIPT)
        assert account_of(server, TEAM.id) == (0, 0, 400)
    assert account_of(server, TEAM.id) == (1, 500, 100)
    await ledger.settle(await ledger.reserve(hold("after")), 7, 0)
    await settled(ledger)
    assert account_of(server, TEAM.id) == (0, 0, 407)
    assert [entry["request_id"] for entry in await ledger.recent()] == ["r1"]


async def test_a_hold_that_it_does_not_know_is_charged_once(server: RedisServer, ledger: RedisLedger) -> None:
    await ledger.settle(await ledger.reserve(hold("before")), 100, 0)
    with behind(server):
        held = await ledger.reserve(hold("a"))
    await ledger.settle(await ledger.reserve(hold("first")), 1, 0)
    await ledger.settle(held, 300, 0)
    await ledger.settle(held, 300, 0)
    await settled(ledger)
    assert account_of(server, TEAM.id) == (0, 0, 401)


async def test_the_same_server_is_told_nothing_twice(server: RedisServer, ledger: RedisLedger) -> None:
    held = await ledger.reserve(hold("a"))
    await ledger.settle(held, 300, 0)
    with server.client() as client:
        client.script_flush()
        trips = ledger.round_trips
        await ledger.settle(await ledger.reserve(hold("b")), 5, 0)
        assert ledger.waiting == 0
        calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert account_of(server, TEAM.id) == (0, 0, 305)
    assert ledger.round_trips - trips <= 5 and calls <= 6


async def test_a_write_that_is_always_refused_holds_up_no_other(
    server: RedisServer, ledger: RedisLedger
) -> None:
    held = await ledger.reserve(hold("a"))
    script = ledger._link.script  # an argument of the wrong kind: the same at every try
    ledger._later(lambda: script("spent", ["{terse}:l"], ["no JSON", ""]))
    ledger._later(lambda: ledger._end(held, 300, 0, "settle"))
    for _ in range(2):
        with contextlib.suppress(Unavailable):
            await ledger._write_backlog()
    assert account_of(server, TEAM.id) == (0, 0, 300)
    assert ledger.waiting == 1
