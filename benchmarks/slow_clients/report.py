"""The figures of a run, and the report that tells them."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from benchmarks.slow_clients.crowd import COMPARED
from benchmarks.slow_clients.traffic import BURST

REPORT = """# Slow clients

`python -m benchmarks.slow_clients {command}`, {day}.
Terse {terse}, granian {granian}, Python {python}, {cores} cores with a load of {load:.1f} at the end, other
work on the machine included; {workers} gateway worker(s) and the embedded encoder, default policy.

Each slow client has a receive buffer of 4 KiB and takes 16 bytes every two seconds. Its stream begins with
{burst:,} bytes at once, an event follows every ten seconds. A process may have {limit:,}
descriptors (the hard limit here), and a stream takes two of the gateway's. A normal client asks beside them,
20 times a second at most.

**{there:,} slow clients at once** (of {tried:,} that tried and {aim:,} aimed at;
{connecting:.0f} s to connect); {lost} were lost in {seconds:g} s, in which they took {sipped:,} bytes.
Then {whole} of {compared} read on to the end and had every byte of their stream.

| | memory of all processes, MiB | descriptors | normal client: p50, ms | p99 | most | requests |
|---|---|---|---|---|---|---|
{table}

A slow client costs the gateway {each:.1f} KiB of memory (the kernel's socket buffers are not in it) and
{descriptors:.2f} descriptors. Two minutes after they left, {descriptors_left:+d} descriptors and
{memory_left:+,.0f} MiB were left of them. All this took {cpu:.0f} s of the gateway's CPU time.
"""


@dataclass(frozen=True)
class Figures:
    """The gateway at one moment."""

    name: str
    processes: int
    memory: float  # MiB, of all its processes
    descriptors: int
    latencies: tuple[float, ...]  # ms, of the normal client

    def row(self) -> str:
        """A line of the table."""
        ordered = sorted(self.latencies)
        p99 = ordered[int(len(ordered) * 0.99)]
        return (
            f"| {self.name} | {self.memory:,.0f} | {self.descriptors:,} | {statistics.median(ordered):.1f} "
            f"| {p99:.1f} | {ordered[-1]:.1f} | {len(ordered)} |"
        )


@dataclass(frozen=True)
class Outcome:
    """Everything that the report says."""

    options: argparse.Namespace
    limit: int
    there: int
    connecting: float
    lost: int
    sipped: int
    whole: int
    cpu: float
    rows: list[Figures]

    def report(self, count: int) -> str:
        """Markdown."""
        before, during, after = self.rows[0], self.rows[2], self.rows[-1]
        options, there = self.options, max(self.there, 1)
        each = (during.memory - before.memory) * 1024 / there
        command = f"--clients {options.clients} --workers {options.workers} --seconds {options.seconds:g}"
        return REPORT.format(
            command=command,
            day=f"{datetime.now(UTC):%Y-%m-%d}",
            terse=version("terse-gateway"),
            granian=version("granian"),
            python=platform.python_version(),
            cores=os.cpu_count(),
            load=os.getloadavg()[0],
            workers=options.workers,
            burst=len(BURST),
            limit=self.limit,
            there=self.there,
            tried=count,
            aim=options.clients,
            connecting=self.connecting,
            lost=self.lost,
            seconds=options.seconds,
            sipped=self.sipped,
            whole=self.whole,
            compared=min(COMPARED, self.there),
            table="\n".join(row.row() for row in self.rows),
            each=each,
            descriptors=(during.descriptors - before.descriptors) / there,
            descriptors_left=after.descriptors - before.descriptors,
            memory_left=after.memory - before.memory,
            cpu=self.cpu,
        )
