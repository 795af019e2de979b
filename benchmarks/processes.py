"""Servers in processes of their own, and what a process has used so far."""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import children_of


@contextmanager
def running(command: Sequence[str], port: int, folder: Path, **environ: str) -> Iterator[int]:
    """A server in a process of its own, once it answers; yields its process id."""
    log = (folder / f"{port}.log").open("w")
    environment = {**os.environ, **environ}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        wait_until_it_answers(port, process)
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def wait_until_it_answers(port: int, process: subprocess.Popen[bytes]) -> None:
    """Up to two minutes: litellm's proxy takes half of one to start."""
    pause = threading.Event()
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveness", timeout=5)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            if process.poll() is not None:
                raise SystemExit(f"the server on port {port} ended; see its log") from None
            pause.wait(0.2)
    raise SystemExit(f"nothing answers on port {port}")


def worker_of(pid: int) -> int:
    """The process that does the work: the last child of a process without work of its own."""
    return [pid, *children_of(pid)][-1]


def family_of(pid: int) -> list[int]:
    """A process and all that it started."""
    return [pid, *(one for child in children_of(pid) for one in family_of(child))]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """Memory of a process."""
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def raise_limit() -> int:
    """As many descriptors as this process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
