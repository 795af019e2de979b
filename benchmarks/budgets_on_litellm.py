"""The burst of `bench_budgets` on litellm's proxy, with the one budget that it keeps without a database."""

from __future__ import annotations

import http.client
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.live_server import free_port
from tests.with_redis.billing import INPUT_PRICE, OUTPUT_PRICE, billing_upstream, most_of
from tests.with_redis.gateways import MASTER
from tests.with_redis.load import Clients, Orders
from tests.with_redis.server import RedisServer

CLIENTS = 4
NOTE = (
    "**Not the same feature**: litellm's budgets of keys and teams need PostgreSQL and a query engine that "
    "its client downloads, which could not be run here, so its reservation for keys and teams was **not "
    "compared**. What it keeps with Redis alone is a budget per provider (`provider_budget_config`), counted "
    "after the answer: one proxy process, the same provider, prices and clients, the same burst, no streams. "
    "Failures and the crash were not run on it."
)


@dataclass(frozen=True)
class Result:
    """One line of a table."""

    what: str
    value: str


def statuses(seen: Counter[str]) -> str:
    """`100 / 900 / 0`, and what the others were."""
    others = {status: count for status, count in seen.items() if status not in ("200", "429")}
    named = ", ".join(f"{count} {status}" for status, count in sorted(others.items()))
    return f"{seen['200']} / {seen['429']} / {named or 0}"


LITELLM = """model_list:
  - model_name: m0
    litellm_params:
      model: openai/m0
      api_base: %(url)s
      api_key: sk-up
      input_cost_per_token: %(input)s
      output_cost_per_token: %(output)s
router_settings:
  num_retries: 0
  redis_host: 127.0.0.1
  redis_port: %(port)d
  provider_budget_config: {openai: {budget_limit: %(budget)s, time_period: 1d}}
general_settings: {master_key: %(key)s}
litellm_settings: {num_retries: 0, telemetry: false}
"""


@contextmanager
def litellm_proxy(program: Path, folder: Path, yaml: str) -> Iterator[str]:
    """litellm's proxy, one worker."""
    port, config = free_port(), folder / "litellm.yaml"
    config.write_text(yaml)
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with (folder / "litellm.log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(program),
                "--config",
                str(config),
                "--port",
                str(port),
                "--host",
                "127.0.0.1",
                "--num_workers",
                "1",
            ],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(f"127.0.0.1:{port}", folder / "litellm.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(address: str, log: Path) -> None:
    """Returns once something answers there."""
    waiter = threading.Event()
    for _ in range(600):
        try:
            connection = http.client.HTTPConnection(address, timeout=5)
            connection.request("GET", "/health/liveliness")
            if connection.getresponse().status == 200:
                return
        except OSError:
            waiter.wait(0.2)
    raise TimeoutError(f"{address} does not answer: {log.read_text()[-1500:]}")


def litellm_burst(
    program: Path, folder: Path, redis: RedisServer, number: int, prompt_tokens: int
) -> list[Result]:
    """The burst on litellm's proxy, with the one budget that it keeps without a database."""
    covered = number // 10
    with billing_upstream(0.5) as (upstream, url):
        upstream.prompt_tokens = prompt_tokens
        values = {
            "url": url,
            "input": f"{INPUT_PRICE:.9f}",
            "output": f"{OUTPUT_PRICE:.9f}",
            "port": redis.port,
            "budget": covered * most_of(upstream) / 1e6,
            "key": MASTER,
        }
        with litellm_proxy(program, folder, LITELLM % values) as proxy:
            orders = [
                Orders(
                    [proxy],
                    MASTER,
                    number // CLIENTS,
                    first=n * (number // CLIENTS),
                    models=("m0",),
                    patience=300,
                )
                for n in range(CLIENTS)
            ]
            clients = Clients(orders)
            begin = time.perf_counter()
            clients.fire()
            outcome = clients.outcome()
            took = time.perf_counter() - begin
        budget, billed = covered * most_of(upstream), upstream.bill.total
    return [
        Result("requests at once / covered by the budget", f"{number} / {covered}"),
        Result("answered 200 / 429 / anything else", statuses(outcome.statuses)),
        Result("budget / billed by the provider, micro-USD", f"{budget} / {billed} ({billed - budget:+d})"),
        Result("spent, of the budget", f"{billed / budget:.0%}"),
        Result("until the last answer", f"{took:.2f} s"),
    ]


def litellm_version(program: Path) -> str:
    """Of that environment."""
    code = "from importlib.metadata import version; print(version('litellm'))"
    done = subprocess.run(
        [str(program.parent / "python"), "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
