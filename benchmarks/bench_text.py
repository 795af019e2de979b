"""Speed of the text side of the compressor: splitting, counting, choosing. No encoder.

    python -m benchmarks.bench_text TEXT_FILE [--rounds 15] [--out benchmarks/results/text.md]

TEXT_FILE is any long UTF-8 text (400 kB and more); it is repeated or cut to the sizes of the table. Scores
are random bytes with a fixed seed, which is the hardest case for the choice: real scores come in runs. Each
figure is the median of the rounds after one warm-up round, in one process: of the clock, which other work
on the machine makes longer, and of the CPU time of all threads, which it changes less. Targets are judged
by the clock.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from compressor.text.choice import Passage, shorten_passages
from compressor.text.tokens import TokenCounter, counter_for
from compressor.text.units import question_units
from compressor.text.words import split_words

# tokens -> milliseconds of one choice
TARGETS: dict[int, float | None] = {1_000: None, 10_000: 15.0, 100_000: 150.0, 1_000_000: None}
WORDS_TARGET = 3.0  # MB/s
QUESTION = "Who decided about the budget of the project, and when was the next meeting?"


def timed(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median milliseconds of one call: of the clock, and of the CPU (all threads)."""
    work()
    times, busy = [], []
    for _ in range(rounds):
        began, began_busy = time.perf_counter(), time.process_time()
        work()
        busy.append((time.process_time() - began_busy) * 1000)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times), statistics.median(busy)


def text_of(source: str, tokens: int, counter: TokenCounter) -> str:
    """The beginning of the source that has about so many tokens."""
    per_character = counter.count(source[:40_000]) / min(40_000, len(source))
    length = int(tokens / per_character)
    return (source * (length // len(source) + 1))[:length]


def passage_of(text: str, **options: object) -> Passage:
    """Random scores, always the same ones."""
    values = np.random.default_rng(0).integers(0, 256, len(split_words(text))).astype(np.uint8)
    return Passage(text, values, **options)  # type: ignore[arg-type]


def measure(source: str, rounds: int) -> list[str]:
    """The report's tables, as lines of Markdown."""
    counter = counter_for("o200k_base")
    big = text_of(source, 100_000, counter)
    split = timed(lambda: split_words(big), rounds)
    count = timed(lambda: counter.count(big), rounds)
    units = timed(lambda: question_units(big), rounds)
    megabytes = len(big.encode()) / 1e6
    lines = [
        "| step, on 100,000 tokens | median ms | CPU ms | MB/s of CPU time | target |",
        "|---|---|---|---|---|",
        f"| words | {split[0]:.1f} | {split[1]:.1f} | {megabytes / split[1] * 1000:.1f} | 3 MB/s |",
        f"| counting (o200k_base) | {count[0]:.1f} | {count[1]:.1f} | {megabytes / count[1] * 1000:.1f} | |",
        f"| units to rank | {units[0]:.1f} | {units[1]:.1f} | {megabytes / units[1] * 1000:.1f} | |",
        "",
        "| choice: text to shortened text | kept | tokens after | median ms | CPU ms | target ms | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for tokens in TARGETS:
        text = text_of(source, tokens, counter)
        few = max(3, rounds // 5) if tokens > 100_000 else rounds
        plain, asked = passage_of(text), passage_of(text, question=QUESTION)
        bare = passage_of(text, protect=frozenset())
        for name, passage, keep in (
            ("everything protected that can be", plain, 0.5),
            ("everything protected that can be", plain, 0.33),
            ("nothing protected", bare, 0.5),
            ("with a question", asked, 0.33),
        ):
            lines.append(_row(f"{tokens:,} tokens, {name}", passage, keep, few, counter, TARGETS.get(tokens)))
    return [*lines, "", *hostile(counter)]


def _row(
    name: str, passage: Passage, keep: float, rounds: int, counter: TokenCounter, target: float | None
) -> str:
    budget = int(counter.count(passage.text) * keep)
    result = shorten_passages([passage], budget, counter)[0]
    median, busy = timed(lambda: shorten_passages([passage], budget, counter), rounds)
    verdict = "" if target is None else "yes" if median < target else f"no ({median / target:.1f} times)"
    limit = f"{target:.0f}" if target else ""
    share = f"{result.tokens_after / budget:.1%}"
    after = f"{result.tokens_after} ({share} of the budget)"
    return f"| {name} | {keep} | {after} | {median:.1f} | {busy:.1f} | {limit} | {verdict} |"


def hostile(counter: TokenCounter) -> list[str]:
    """Texts that break naive code: 10 MB of one sign."""
    lines = ["| 10 MB of | words | splitting s | counting s |", "|---|---|---|---|"]
    for sign in ("a", " ", "中", "<", "{"):
        text = sign * 10_000_000
        began = time.perf_counter()
        words = len(split_words(text))
        split = time.perf_counter() - began
        began = time.perf_counter()
        counter.count(text)
        lines.append(f"| `{sign}` | {words} | {split:.2f} | {time.perf_counter() - began:.2f} |")
    return lines


def main() -> None:
    """Measures, prints, and writes the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    source = given.text.read_text(encoding="utf-8")
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start"
    versions = f"Python {platform.python_version()}, numpy {np.__version__}, tiktoken {version('tiktoken')}"
    head = [
        "# Text: splitting, counting, choosing",
        "",
        f"Method: `bench_text.py`, {given.rounds} rounds, one process, random scores, {len(source):,} signs.",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {machine}, {versions}.",
        "",
    ]
    report = "\n".join([*head, *measure(source, given.rounds), ""])
    print(report)
    if given.out:
        given.out.write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
