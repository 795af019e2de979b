"""What is seen of a run: figures of every process by its role, and how each request ended."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import family_of

# A thread in each worker writes down how many tasks its loop has; nothing in the product is changed for it.
PROBE = """
import asyncio, os, threading
def watch():
    pause = threading.Event()
    while not pause.wait(2.0):
        tasks = list(getattr(asyncio.tasks, "_all_tasks", ()))
        with open(os.path.join(os.environ["SOAK_TASKS"], str(os.getpid())), "w") as file:
            file.write(str(sum(not task.done() for task in tasks)))
def start():
    threading.Thread(target=watch, daemon=True).start()
if "SOAK_TASKS" in os.environ:
    os.register_at_fork(after_in_child=start)
    start()
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """All processes of one role at one moment."""

    seconds: float
    resident_mib: float
    descriptors: int
    threads: int
    tasks: int


@dataclass(slots=True)
class Run:
    """What was seen."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    redis_mib: list[float] = field(default_factory=list)
    cpu: float = 0.0
    seconds: float = 0.0


def role_of(pid: int) -> str:
    """gateway or compressor, by the command line."""
    here = pid
    while here > 1:
        words = Path(f"/proc/{here}/cmdline").read_bytes().split(b"\0")
        if b"compressor" in words:
            return "compressor"
        if b"serve" in words:
            return "gateway"
        here = int(Path(f"/proc/{here}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return "gateway"


def look(root: int, tasks: Path, seconds: float) -> dict[str, Sample]:
    """One sample a role."""
    found: dict[str, list[tuple[float, int, int, int]]] = {}
    for pid in family_of(root):
        with suppress(OSError):
            status = dict(
                line.split(":\t", 1)
                for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                if ":\t" in line
            )
            if "VmRSS" not in status:
                continue
            told = tasks / str(pid)
            entry = (
                int(status["VmRSS"].split()[0]) / 1024,
                len(os.listdir(f"/proc/{pid}/fd")),
                int(status["Threads"]),
                int(told.read_text() or 0) if told.exists() else 0,
            )
            found.setdefault(role_of(pid), []).append(entry)
    return {
        role: Sample(seconds, sum(e[0] for e in all_), *(sum(e[i] for e in all_) for i in (1, 2, 3)))
        for role, all_ in found.items()
    }
