"""`terse serve` processes on one Redis, in front of a provider that bills."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.live_server import free_port
from tests.support.processes import children_of
from tests.with_redis.billing import INPUT_PRICE, OUTPUT_PRICE

ROOT = Path(__file__).parents[2]
MASTER = "sk-master-of-the-load"
START_SECONDS = 60.0


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
