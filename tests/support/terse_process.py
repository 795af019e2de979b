"""`terse serve` as a process of its own, with its log in a file."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.live_server import free_port
from tests.support.waiting import until

START_SECONDS = 60.0
STOP_SECONDS = 20.0


@dataclass
class TerseProcess:
    """A running gateway."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def is_up(self) -> bool:
        """Whether it takes requests."""
        try:
            return httpx.get(f"{self.url}/health/readiness", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def ask_to_end(self) -> None:
        """SIGTERM, as systemd and Kubernetes send it."""
        self.process.send_signal(signal.SIGTERM)


@contextmanager
def terse_process(
    folder: Path, yaml: str, *, largest_file: int | None = None, **environment: str
) -> Iterator[TerseProcess]:
    """Serves until the block ends; data, configuration and log are in `folder`.

    With `largest_file` (bytes) no file of the process may grow beyond: a disk that is full.
    """
    config = folder / "terse.yaml"
    config.write_text(yaml, encoding="utf-8")
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "gateway",
        "serve",
        "--config",
        str(config),
        "--port",
        str(port),
    ]
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("TERSE_", "REDIS_"))
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env={**inherited, "TERSE_DATA_DIR": str(folder / "data"), **environment},
            stdout=log,
            stderr=log,
        )
    if largest_file:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (largest_file, largest_file))
    running = TerseProcess(f"http://127.0.0.1:{port}", folder, process)
    try:
        until(running.is_up, START_SECONDS)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
