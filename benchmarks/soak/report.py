"""Whether anything grew, as a table and a plot."""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.soak.samples import Run, Sample

FOLDER = Path(__file__).parents[1] / "results"
WARM_UP = 0.2  # share of the run: pools, caches and the allocator fill
GROWTH = (
    0.05  # more memory than this share between the first and the last fifth after warm-up is called a leak
)
SPARE = 8  # descriptors, threads and tasks that come and go with what runs at the moment of a sample


@dataclass(frozen=True, slots=True)
class Growth:
    """First and last fifth after the warm-up."""

    first: float
    last: float
    slope_an_hour: float

    @property
    def share(self) -> float:
        """Of the first."""
        return (self.last - self.first) / self.first if self.first else 0.0


def growth(samples: Sequence[Sample], of: Callable[[Sample], float]) -> Growth:
    """Of one figure, after the warm-up."""
    kept = samples[int(len(samples) * WARM_UP) :]
    values, fifth = [of(s) for s in kept], max(len(kept) // 5, 1)
    pairs = itertools.combinations(range(0, len(kept), max(len(kept) // 60, 1)), 2)
    slopes = [(values[b] - values[a]) / (kept[b].seconds - kept[a].seconds) for a, b in pairs]
    first, last = statistics.median(values[:fifth]), statistics.median(values[-fifth:])
    return Growth(first, last, statistics.median(slopes or [0.0]) * 3600)


FIGURES: dict[str, Callable[[Sample], float]] = {
    "memory, MiB": lambda s: s.resident_mib,
    "descriptors": lambda s: s.descriptors,
    "threads": lambda s: s.threads,
    "asyncio tasks": lambda s: s.tasks,
}


def verdict(name: str, grown: Growth) -> str:
    """Flat, or how it grows."""
    flat = grown.share <= GROWTH if "memory" in name else grown.last - grown.first <= SPARE
    return "flat" if flat else "**grows**"


def draw(run: Run, path: Path) -> None:
    """Four small plots, one figure each."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "terse"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9, 5), sharex=True)
    for axis, (name, of) in zip(axes.flat, FIGURES.items(), strict=True):
        for role, samples in sorted(run.samples.items()):
            axis.plot([s.seconds / 60 for s in samples], [of(s) for s in samples], label=role, linewidth=1.2)
        axis.set_title(name, fontsize=10)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=8)
    for axis in axes[1]:
        axis.set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})


REPORT = """# Soak

`python -m benchmarks.soak {command}`, {day}, commit {commit}.
Terse {terse}, Python {python}, {cores} cores with a load of {load:.1f} at the end, other work on the machine
included; {workers} gateway workers, their compressor process with the embedded encoder, Redis.

{count:,} requests in {minutes:.0f} minutes ({rate:.1f} a second), {cpu:.0f} s of CPU time in all of Terse's
processes ({core:.0%} of a core). The first {warm:.0%} of the time is warm-up. Growth compares the median of
the first fifth after it with that of the last fifth; memory is called flat up to {growth:.0%},
counts up to {spare}.

| processes | figure | first fifth | last fifth | growth | slope an hour (Theil-Sen) | |
|---|---|---|---|---|---|---|
{table}

Redis used {redis_first:.1f} MiB after the warm-up and {redis_last:.1f} MiB at the end: scores and
frozen forms of the new documents, receipts; each has a lifetime.

![Memory, descriptors, threads and tasks over time](soak.svg)

| requests | ended | count |
|---|---|---|
{outcomes}
"""


def write(run: Run, options: argparse.Namespace) -> str:
    """The report as Markdown; the plot beside it."""
    rows = [
        f"| {role} | {name} | {g.first:,.0f} | {g.last:,.0f} | {g.share:+.1%} "
        f"| {g.slope_an_hour:+,.1f} | {verdict(name, g)} |"
        for role, samples in sorted(run.samples.items())
        for name, of in FIGURES.items()
        for g in [growth(samples, of)]
    ]
    warm = run.redis_mib[int(len(run.redis_mib) * WARM_UP) :]
    draw(run, Path(options.report) / "soak.svg")
    text = REPORT.format(
        command=f"--minutes {options.minutes:g} --workers {options.workers} --rate {options.rate:g}",
        day=datetime.now(UTC).date(),
        commit=subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=FOLDER, check=False
        ).stdout.strip(),
        terse=version("terse-gateway"),
        python=platform.python_version(),
        cores=os.cpu_count(),
        load=os.getloadavg()[0],
        workers=options.workers,
        count=sum(run.outcomes.values()),
        minutes=run.seconds / 60,
        rate=sum(run.outcomes.values()) / run.seconds,
        cpu=run.cpu,
        core=run.cpu / run.seconds,
        warm=WARM_UP,
        growth=GROWTH,
        spare=SPARE,
        table="\n".join(rows),
        redis_first=warm[0],
        redis_last=warm[-1],
        outcomes="\n".join(f"| {kind} | {how} | {n:,} |" for (kind, how), n in sorted(run.outcomes.items())),
    )
    (Path(options.report) / "soak.md").write_text(text)
    return text
