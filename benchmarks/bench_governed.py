"""Requests a second with keys, limits and budgets on Redis, beside litellm's proxy with its key and Redis on.

Both have one worker, one Redis and the same mock behind them, and rounds alternate. Terse looks a team's key
up, takes requests and tokens a minute, concurrent requests and three budgets from Redis, and settles and
books afterwards. litellm checks its master key and counts requests and tokens of the model in Redis through
its router (keys and teams of its own need PostgreSQL, which this does not set up: litellm does less here than
Terse).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.bench_gateway import (
    KEY,
    LITELLM,
    LITELLM_YAML,
    SHORT,
    TERSE,
    Case,
    System,
    ask,
    body_of,
    machine,
    url_of,
)
from benchmarks.mock import running_mock
from benchmarks.processes import running, worker_of
from benchmarks.wrk import Figures, load, median, script_of
from tests.with_redis.server import RedisServer

TARGET = 15.0
LITELLM_REDIS = """router_settings:
  routing_strategy: usage-based-routing-v2
  redis_host: 127.0.0.1
  redis_port: PORT
"""
GOVERNED_YAML = """upstreams: {mock: {base_url: "http://127.0.0.1:9100/v1", api_key: sk-x}}
models: {gpt-4o-mini: {upstream: mock, limits: {requests_per_minute: 100000000}}}
store: env/REDIS_URL
policies: {default: {mode: "on"}}
teams:
  writers:
    budget: [{usd: 1000000, per: month}, {usd: 1000000, per: day}, {tokens: 1000000000000, per: day}]
    limits: {requests_per_minute: 100000000, tokens_per_minute: 100000000000, concurrent_requests: 100000}
routes: [{match: {model: "*"}, policy: default}]
"""


def systems(folder: Path, litellm: str, redis: RedisServer) -> list[System]:
    """Both servers, with their configuration written down."""
    yaml = LITELLM_YAML.replace("KEY", KEY) + LITELLM_REDIS.replace("PORT", str(redis.port))
    (folder / "litellm.yaml").write_text(yaml)
    (folder / "governed.yaml").write_text(GOVERNED_YAML)
    theirs = [litellm, "--config", "litellm.yaml", "--port", str(LITELLM), "--num_workers", "1"]
    ours = [sys.executable, "-m", "gateway", "serve", "--config", "governed.yaml", "--port", str(TERSE)]
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    own = {"TERSE_MASTER_KEY": KEY, "TERSE_DATA_DIR": str(folder / "data"), "PYTHONPATH": os.getcwd()}
    return [
        System("litellm", theirs, LITELLM, SHORT, quiet),
        System("terse", ours, TERSE, SHORT, {**own, "REDIS_URL": redis.url}),
    ]


def team_key() -> str:
    """A new key of the governed team."""
    body = json.dumps({"team_id": "writers"}).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(f"http://127.0.0.1:{TERSE}/key/generate", body, headers)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return str(json.load(reply)["key"])


def measure(options: argparse.Namespace, folder: Path) -> dict[tuple[str, Case], list[Figures]]:
    """All rounds of both."""
    results: dict[tuple[str, Case], list[Figures]] = {}
    redis = RedisServer(folder)
    try:
        with running_mock(folder):
            for number in range(options.rounds):
                for system in systems(folder, options.litellm, redis):
                    with running(system.command, system.port, folder, **system.environ) as pid:
                        ask(system.port, body_of(0))
                        key = team_key() if system.name == "terse" else KEY
                        script = script_of(body_of(0), key, folder)
                        worker = worker_of(pid)
                        for case in system.cases:
                            figures = load(
                                url_of(system.port), worker, case.connections, script, options.seconds
                            )
                            results.setdefault((system.name, case), []).append(figures)
                            print(number, system.name, case, figures, flush=True)
    finally:
        redis.kill()
    return results


def report(results: dict[tuple[str, Case], list[Figures]], options: argparse.Namespace) -> str:
    """The whole report as Markdown."""
    middle = {key: median(rounds) for key, rounds in results.items()}
    command = "python -m benchmarks.bench_governed --litellm …"
    command += f" --seconds {options.seconds} --rounds {options.rounds}"
    lines = [
        "# Keys, limits and budgets on Redis, beside litellm's proxy",
        "",
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}. {machine()}",
        "",
        (__doc__ or "").split("\n\n")[1].strip().replace("\n", " "),
        "",
        "| | c | req/s | p50 ms | p99 ms | CPU ms a request | errors |",
        "|---|---|---|---|---|---|---|",
    ]
    for (name, case), one in middle.items():
        lines.append(
            f"| {name} | {case.connections} | {one.rps:,.0f} | {one.p50_ms:.2f} | {one.p99_ms:.1f} "
            f"| {one.cpu_ms:.2f} | {one.bad} |"
        )
    lines += ["", "| target | by the clock | by the worker's CPU time | met |", "|---|---|---|---|"]
    for case in SHORT:
        theirs, ours = middle["litellm", case], middle["terse", case]
        clock, processor = ours.rps / theirs.rps, theirs.cpu_ms / ours.cpu_ms
        met = "yes" if min(clock, processor) >= TARGET else "no"
        lines.append(
            f"| {TARGET:.0f} times litellm's requests a second, c={case.connections} "
            f"| {clock:.1f} | {processor:.1f} | {met} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, prints, and writes the report where --out says: some four minutes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--litellm", required=True, help="the litellm command of a venv with litellm[proxy]")
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/governed.md"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = report(measure(options, Path(folder)), options)
    print(text)
    options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
