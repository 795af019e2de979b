"""Rounds of wrk against a server, and the CPU time that they cost it."""

from __future__ import annotations

import re
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import cpu_seconds


@dataclass(frozen=True)
class Figures:
    """What wrk and /proc said of one round."""

    rps: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    bad: int


def load(url: str, pid: int, connections: int, script: Path, seconds: int) -> Figures:
    """One round; `pid` is the process whose CPU time counts."""
    before = cpu_seconds(pid)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "--latency"]
    command += ["-s", str(script), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used = cpu_seconds(pid) - before
    count = int(found(r"(\d+) requests in", said))
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    return Figures(
        rps=float(found(r"Requests/sec:\s+([\d.]+)", said)),
        p50_ms=milliseconds(found(r"(?m)^ +50% +(\S+)", said)),
        p99_ms=milliseconds(found(r"(?m)^ +99% +(\S+)", said)),
        cpu_ms=1000 * used / max(count, 1),
        bad=int(bad.group(1)) if bad else 0,
    )


def found(pattern: str, text: str) -> str:
    """The group of a pattern that must be there."""
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"wrk said nothing like {pattern}:\n{text}")
    return match.group(1)


def milliseconds(text: str) -> float:
    """wrk's `1.23ms`, `45.00us` or `1.02s`."""
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[unit]


def median(rounds: Sequence[Figures]) -> Figures:
    """Figure by figure."""
    middle = {
        name: statistics.median(getattr(one, name) for one in rounds)
        for name in ("rps", "p50_ms", "p99_ms", "cpu_ms")
    }
    return Figures(**middle, bad=sum(one.bad for one in rounds))


def script_of(body: str, key: str, folder: Path) -> Path:
    """wrk's script for one body, sent with that key."""
    path = folder / f"{len(body)}.lua"
    quoted = f"[==[{body}]==]"
    path.write_text(
        'wrk.method="POST"; wrk.headers["Content-Type"]="application/json"\n'
        f'wrk.headers["Authorization"]="Bearer {key}"\nwrk.body={quoted}\n'
    )
    return path
