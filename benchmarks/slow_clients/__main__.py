"""Thousands of clients that read a few bytes a second: memory, descriptors, and a normal client beside them.

    python -m benchmarks.slow_clients [--clients 10000] [--workers 2] [--seconds 60] [--out REPORT.md]

Real processes and sockets: an upstream whose streams begin with 32 KiB at once and go on with an event every
ten seconds, `terse serve`, and clients with a receive buffer of 4 KiB that take 16 bytes every two seconds.
At the end some of them read on at full speed, and every byte is compared; the others hang up, and the
gateway's descriptors are counted again. Each stream costs the gateway two descriptors (client and upstream):
as many as the hard limit of RLIMIT_NOFILE allows are taken, and the clients are as many as fit.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.mock import REPLY
from benchmarks.processes import cpu_seconds, family_of, raise_limit, resident_mib, running
from benchmarks.slow_clients.crowd import run_clients
from benchmarks.slow_clients.report import Figures, Outcome
from benchmarks.slow_clients.traffic import PATH, body_of
from benchmarks.slow_clients.upstream import serve_upstream
from tests.support.live_server import free_port

POOL_SECONDS = 95.0  # the gateway keeps an idle connection to an upstream for 45 s, and looks every 45 s
SPARE_DESCRIPTORS = 400  # of a process: its libraries, log, listening sockets, the pool for normal clients
UNEVEN = 0.75  # workers do not get equally many connections
# An event stream is sent upstream as a request of its own; the policy is the default one.
YAML = """upstreams: {up: {base_url: "http://127.0.0.1:%d/v1", api_key: sk-x, read_timeout: 3600}}
models: {gpt-4o-mini: {upstream: up}}
"""


def main() -> None:
    """Measures, prints the report and writes it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.slow_clients",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    limit = raise_limit()
    fits = int((limit - SPARE_DESCRIPTORS) / 2 * max(1.0, options.workers * UNEVEN))
    count = min(options.clients, fits, limit - SPARE_DESCRIPTORS)
    upstream, upstream_pipe = started(serve_upstream)
    try:
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder, "terse.yaml")
            config.write_text(YAML % wait_for(upstream_pipe, 30))
            report = measure_all(config, count, upstream_pipe, options)
    finally:
        upstream.terminate()
    print(report)
    if options.out:
        options.out.write_text(report, encoding="utf-8")


def measure_all(config: Path, count: int, upstream: Connection, options: argparse.Namespace) -> str:
    """Runs the gateway and the crowd; returns the report."""
    port = free_port()
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(config), "--port", str(port)]
    command += ["--workers", str(options.workers)]
    inherited = {name: "" for name in os.environ if name.startswith(("TERSE_", "REDIS_"))}
    environment = {**inherited, "TERSE_DATA_DIR": str(config.parent / "data"), "TERSE_LOG_LEVEL": "warning"}
    with running(command, port, config.parent, **environment) as pid:
        measure("warm", pid, port, 3)
        rows = [measure("alone", pid, port, 10)]
        cpu = sum(map(cpu_seconds, family_of(pid)))
        began = time.monotonic()
        crowd, pipe = started(run_clients, port, count, options.seconds)
        there = wait_for(pipe, 300)
        connecting = time.monotonic() - began
        half = options.seconds / 2
        rows += [
            measure(f"with {there:,} slow clients, {n} half", pid, port, half - 2)
            for n in ("first", "second")
        ]
        lost, sipped = wait_for(pipe, 60)
        used = sum(map(cpu_seconds, family_of(pid))) - cpu
        upstream.send("end")
        pipe.send("finish")
        whole = wait_for(pipe, 120)
        crowd.join(30)
        threading.Event().wait(POOL_SECONDS)
        rows.append(measure("two minutes after they left", pid, port, 10))
    said = Outcome(options, raise_limit(), there, connecting, lost, sipped, whole, used, rows)
    return said.report(count)


def measure(name: str, root: int, port: int, seconds: float) -> Figures:
    """A normal client asks for `seconds`; then memory and descriptors are read."""
    latencies, pause = [], threading.Event()
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        started = time.perf_counter()
        link.request("POST", PATH, body_of(stream=False), {"content-type": "application/json"})
        reply = link.getresponse()
        got = reply.read()
        latencies.append((time.perf_counter() - started) * 1000)
        if reply.status != 200 or json.loads(got) != REPLY:
            raise SystemExit(f"the normal client got {reply.status}: {got[:200]!r}")
        pause.wait(0.05)
    link.close()
    family = family_of(root)
    descriptors = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in family)
    return Figures(name, len(family), sum(map(resident_mib, family)), descriptors, tuple(latencies))


def started(target: Callable[..., None], *arguments: Any) -> tuple[Any, Connection]:
    """A process of ours, and the pipe to it."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=target, args=(*arguments, theirs), daemon=True
    )
    process.start()
    return process, ours


def wait_for(pipe: Connection, seconds: float) -> Any:
    """What the other process says next."""
    if not pipe.poll(seconds):
        raise SystemExit(f"nothing was heard for {seconds} s")
    return pipe.recv()


if __name__ == "__main__":
    main()
