"""A load that tries to overspend: gateway processes, a provider that bills, and client processes.

`test_budgets_under_load.py` runs it small, `benchmarks/bench_budgets.py` whole. As a program it is one client
process: reads its orders as a line of JSON, says `ready`, waits for a line, fires everything at once, and
prints what came back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import httpx
from aiohttp import web

from tests.with_redis.server import RedisServer

ROOT = Path(__file__).parents[2]
MASTER = "sk-master-of-the-load"
START_SECONDS = 60.0
ANSWER_TOKENS = 100
INPUT_PRICE, OUTPUT_PRICE = 1e-6, 10e-6  # USD a token
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


@dataclass
class Bill:
    """Tokens billed, per model. Failed requests are free, abandoned ones cost their input."""

    requests: Counter[str] = field(default_factory=Counter)
    input_tokens: Counter[str] = field(default_factory=Counter)
    output_tokens: Counter[str] = field(default_factory=Counter)

    def micro_usd(self, model: str) -> int:
        """As the price list says; both prices are whole micro-dollars."""
        return round(
            (self.input_tokens[model] * INPUT_PRICE + self.output_tokens[model] * OUTPUT_PRICE) * 1e6
        )

    @property
    def total(self) -> int:
        """Micro-USD of all models."""
        return sum(self.micro_usd(model) for model in set(self.input_tokens) | set(self.output_tokens))


class BillingUpstream:
    """Answers after `seconds`. The field `user` of a request says how: ok, stream, fail, leave."""

    def __init__(self, seconds: float = 0.5) -> None:
        self.bill = Bill()
        self.prompt_tokens = 0
        self.seconds = seconds
        self.seen = threading.Semaphore(0)

    def reset(self) -> None:
        """A new bill, and nobody seen."""
        self.bill = Bill()
        while self.seen.acquire(blocking=False):
            pass

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        model, way = body["model"], str(body.get("user", "ok")).split("-")[0]
        self.seen.release()
        if way == "leave":
            self._charge(model, 0)  # a provider bills what it has read
            await asyncio.sleep(3600)
        await asyncio.sleep(self.seconds)
        if way == "fail":
            return web.json_response({"error": {"message": "no", "type": "server_error"}}, status=500)
        # Whoever serves counts what it has sent; a gateway that dies afterwards has been billed all the same.
        self._charge(model, ANSWER_TOKENS)
        usage = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": ANSWER_TOKENS,
            "total_tokens": self.prompt_tokens + ANSWER_TOKENS,
        }
        if way == "stream":
            with contextlib.suppress(ConnectionResetError):  # a gateway that was killed reads no further
                return await self._stream(request, model, usage)
            return web.Response()
        message = {"role": "assistant", "content": "so be it"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response(
            {"id": "c", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}
        )

    def _charge(self, model: str, output_tokens: int) -> None:
        self.bill.requests[model] += 1
        self.bill.input_tokens[model] += self.prompt_tokens
        self.bill.output_tokens[model] += output_tokens

    async def _stream(self, request: web.Request, model: str, usage: dict[str, int]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        head = {"id": "c", "object": "chat.completion.chunk", "model": model}
        chunk = {**head, "choices": [{"index": 0, "delta": {"content": "so be it"}}]}
        for event in (chunk, {**head, "choices": [], "usage": usage}):
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


@contextmanager
def billing_upstream(seconds: float = 0.5) -> Iterator[tuple[BillingUpstream, str]]:
    """The provider, in a thread, and its base URL."""
    from tests.support.live_server import LoopThread, free_port

    upstream, port, thread = BillingUpstream(seconds), free_port(), LoopThread("billing-upstream")

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", upstream.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=2048).start()
        return runner

    runner = thread.call(start())
    try:
        yield upstream, f"http://127.0.0.1:{port}/v1"
    finally:
        thread.call(runner.cleanup())
        thread.close()


def terse_yaml(upstream: str, models: int) -> str:
    """Three models of one provider, never compressed: what is measured here is money."""
    lines = [f"upstreams: {{up: {{base_url: '{upstream}', api_key: sk-up, retries: 0}}}}", "models:"]
    for number in range(models):
        lines.append(
            f"  m{number}: {{upstream: up, input_price: {INPUT_PRICE}, output_price: {OUTPUT_PRICE}}}"
        )
    # Closed: budgets that hold whatever happens. A machine this busy may starve its Redis for 50 ms.
    lines += [
        "policies: {default: {mode: off, store_fail: closed}}",
        "compressor: {url: 'http://127.0.0.1:9'}",
    ]
    return "\n".join(lines)


@contextmanager
def gateways(folder: Path, upstream: str, redis_url: str, number: int) -> Iterator[list[Gateway]]:
    """So many `terse serve` processes on one Redis."""
    from tests.support.live_server import free_port

    config = folder / "terse.yaml"
    config.write_text(terse_yaml(upstream, number))
    running = [Gateway(config, free_port(), redis_url, folder) for _ in range(number)]
    try:
        for gateway in running:
            gateway.wait()
        yield running
    finally:
        for gateway in running:
            gateway.stop()


class Gateway:
    """One `terse serve` process."""

    def __init__(
        self, config: Path, port: int, redis_url: str, folder: Path, more: Mapping[str, str] | None = None
    ) -> None:
        """`more` are environment variables."""
        self.url = f"http://127.0.0.1:{port}"
        environment = {**os.environ, "REDIS_URL": redis_url, "TERSE_MASTER_KEY": MASTER, **(more or {})}
        self.log = folder / f"gateway-{port}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "serve", "--config", str(config), "--port", str(port)],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> None:
        """Returns once it answers."""
        waiter = threading.Event()
        for _ in range(int(START_SECONDS / 0.05)):
            with contextlib.suppress(httpx.TransportError):
                httpx.get(self.url + "/health/liveness", timeout=START_SECONDS)
                return
            if self.process.poll() is not None:
                break
            waiter.wait(0.05)
        raise RuntimeError(f"the gateway does not answer: {self.log.read_text()[-2000:]}")

    def admin(self, path: str, body: dict[str, Any] | None = None, **params: str) -> Any:
        """The admin API's answer."""
        headers = {"authorization": f"Bearer {MASTER}"}
        method = "GET" if body is None else "POST"
        response = httpx.request(
            method, self.url + path, json=body, params=params, headers=headers, timeout=60
        )
        response.raise_for_status()
        return response.json()

    def kill(self) -> None:
        """SIGKILL to the server and its worker: nobody says goodbye."""
        for child in children_of(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, 9)
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that does not help."""
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()


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


def most_of(upstream: BillingUpstream) -> int:
    """Micro-USD that one request of the load may cost."""
    return round((upstream.prompt_tokens * INPUT_PRICE + ANSWER_TOKENS * OUTPUT_PRICE) * 1e6)


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


def children_of(pid: int) -> list[int]:
    """Processes whose parent is this one (Linux)."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


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
