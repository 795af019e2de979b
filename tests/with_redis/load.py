"""A load that tries to overspend: client processes that send all their requests in one moment.

`test_budgets_under_load.py` runs it small, `benchmarks/bench_budgets.py` whole. As a program it is one client
process: reads its orders as a line of JSON, says `ready`, waits for a line, fires everything at once, and
prints what came back.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import aiohttp

from tests.with_redis.billing import ANSWER_TOKENS, BillingUpstream
from tests.with_redis.gateways import ROOT, Gateway

PROMPT = "Please say something about budgets, at some length."


@dataclass(frozen=True)
class Orders:
    """What one client process does: `number` requests at once, spread over `gateways` and `ways` in turn."""

    gateways: Sequence[str]  # base URLs
    key: str
    number: int
    ways: Sequence[str] = ("ok",)  # ok, stream, fail, leave
    first: int = 0
    models: Sequence[str] = ()  # one a gateway; else m0, m1, ...
    patience: float = 60.0  # seconds before those who leave do


def calibrate(gateway: Gateway, upstream: BillingUpstream) -> None:
    """Makes the provider count the load's prompt as the gateway does, so that their sums can be compared."""
    key = gateway.admin("/key/generate", {})["key"]
    clients = Clients([Orders([gateway.url], key, 1)])
    clients.fire()
    outcome = clients.outcome()
    assert outcome.served == 1, (outcome, gateway.log.read_text())
    waiter = threading.Event()
    for _ in range(200):
        receipts = gateway.admin("/spend/logs", limit="1")
        if receipts:
            upstream.prompt_tokens = int(receipts[0]["metadata"]["tokens_after"])
            return
        waiter.wait(0.05)
    raise TimeoutError("the receipt was not booked")


def fill(urls: Sequence[str], key: str, number: int, models: Sequence[str]) -> int:
    """Waves of requests until none is served any more; returns how many were.

    One wave is enough unless a starved Redis made the gateways refuse with 503.
    """
    served = 0
    for _ in range(5):
        clients = Clients([Orders(urls, key, number, models=models)])
        clients.fire()
        outcome = clients.outcome()
        served += outcome.served
        if not outcome.statuses["503"]:
            break
    return served


@dataclass
class Outcome:
    """What all client processes saw."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    retry_after: set[str] = field(default_factory=set)

    @property
    def served(self) -> int:
        """Requests with a whole answer."""
        return self.statuses["200"]


class Clients:
    """Client processes that wait for the word."""

    def __init__(self, orders: Sequence[Orders]) -> None:
        self.processes = []
        for order in orders:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.with_redis.load"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert process.stdin is not None
            process.stdin.write(json.dumps(asdict(order)) + "\n")
            process.stdin.flush()
            self.processes.append(process)
        for process in self.processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"

    def fire(self) -> None:
        """All of them, now."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()

    def outcome(self) -> Outcome:
        """What they saw, once all are done."""
        seen = Outcome()
        for process in self.processes:
            output, _ = process.communicate(timeout=180)
            told = json.loads(output)
            seen.statuses.update(told["statuses"])
            seen.seconds += told["seconds"]
            seen.retry_after |= set(told["retry_after"])
        return seen


async def fire(orders: Orders) -> dict[str, Any]:
    """All requests of one process at once."""
    statuses: Counter[str] = Counter()
    seconds: list[float] = []
    retry_after: set[str] = set()
    loop = asyncio.get_running_loop()
    connector = aiohttp.TCPConnector(limit=0)
    leaving, staying = (aiohttp.ClientTimeout(total=seconds) for seconds in (orders.patience, 120.0))

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        way = orders.ways[number % len(orders.ways)]
        which = number // len(orders.ways) % len(orders.gateways)
        body = {
            "model": orders.models[which] if orders.models else f"m{which}",
            "messages": [{"role": "user", "content": PROMPT}],
            "max_tokens": ANSWER_TOKENS,
            "user": f"{way}-{number}",
            "stream": way == "stream",
        }
        url = orders.gateways[which] + "/v1/chat/completions"
        begin = loop.time()
        try:
            timeout = leaving if way == "leave" else staying
            async with session.post(url, json=body, timeout=timeout) as response:
                await response.read()
                statuses[str(response.status)] += 1
                if response.status == 429:
                    retry_after.add(response.headers.get("retry-after", "none"))
        except (aiohttp.ClientError, TimeoutError, OSError):
            statuses["left" if way == "leave" else "broken"] += 1
        seconds.append(loop.time() - begin)

    headers = {"authorization": f"Bearer {orders.key}"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        await asyncio.gather(*[one(session, orders.first + n) for n in range(orders.number)])
    return {"statuses": statuses, "seconds": seconds, "retry_after": sorted(retry_after)}


def main() -> None:
    """One client process."""
    orders = Orders(**json.loads(sys.stdin.readline()))
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(asyncio.run(fire(orders))), flush=True)


if __name__ == "__main__":
    main()
