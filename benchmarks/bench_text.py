"""Speed of the text side of the compressor: splitting, counting, choosing. No encoder.

    python -m benchmarks.bench_text TEXT_FILE [--also FILE ...] [--rounds 15]
        [--out benchmarks/results/text.md]

TEXT_FILE is any long text (400 kB and more), UTF-8 or JSON lines with a `text`, gzipped or not; it is
repeated or cut to the sizes of the table. FILES are other kinds of text, of which 10,000 tokens are
shortened. Scores are random bytes with a fixed seed, which is the hardest case for the choice: real scores
come in runs. Each figure is the median of the rounds after one warm-up round, in one process: of the clock,
which other work on the machine makes longer, and of the CPU time of all threads, which it changes less.
Targets are judged by CPU time. About two minutes on a free machine, four on a busy one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.texts import read_text
from compressor.errors import BudgetTooSmall
from compressor.text.choice import Passage, shorten_passages
from compressor.text.kinds import detect_kind
from compressor.text.tokens import TokenCounter, counter_for
from compressor.text.units import question_units
from compressor.text.words import split_words

# tokens -> milliseconds of CPU time of one choice
TARGETS: dict[int, float | None] = {1_000: None, 10_000: 8.0, 100_000: 80.0, 1_000_000: None}
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


def measure(source: str, files: Sequence[Path], rounds: int) -> list[str]:
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
    return [*lines, "", *kinds(files, counter, rounds), "", *hostile(counter)]


def _row(
    name: str, passage: Passage, keep: float, rounds: int, counter: TokenCounter, target: float | None
) -> str:
    budget = int(counter.count(passage.text) * keep)
    result = shorten_passages([passage], budget, counter)[0]
    median, busy = timed(lambda: shorten_passages([passage], budget, counter), rounds)
    verdict = "" if target is None else "yes" if busy < target else f"no ({busy / target:.1f} times)"
    limit = f"{target:.0f}" if target else ""
    share = f"{result.tokens_after / budget:.1%}"
    after = f"{result.tokens_after} ({share} of the budget)"
    return f"| {name} | {keep} | {after} | {median:.1f} | {busy:.1f} | {limit} | {verdict} |"


def kinds(files: Sequence[Path], counter: TokenCounter, rounds: int) -> list[str]:
    """10,000 tokens of other texts, by their kind."""
    lines = ["| 10,000 tokens of | kind | tokens | CPU ms | µs a token |", "|---|---|---|---|---|"]
    for file in files:
        text = text_of(read_text(file), 10_000, counter)
        passage = passage_of(text, kind="auto")
        tokens = counter.count(text)
        try:
            shorten_passages([passage], tokens // 2, counter)
            budget = tokens // 2
        except BudgetTooSmall as error:  # dense in what must stay
            budget = tokens // 2 + error.short_by
        busy = timed(partial(shorten_passages, [passage], budget, counter), rounds)[1]
        name = file.name.split(".")[0]
        lines.append(
            f"| {name} | {detect_kind(text)} | {tokens:,} | {busy:.1f} | {1000 * busy / tokens:.2f} |"
        )
    return lines


HOSTILE: dict[str, Callable[[int], str]] = {
    "`a`": lambda size: "a" * size,
    "spaces between two words": lambda size: "a" + " " * (size - 2) + "b",
    "line breaks between two words": lambda size: "a" + "\n" * (size - 2) + "b",
    "one word of letters": lambda size: "abcdefghij" * (size // 10),
    "lines of two letters": lambda size: "ok\n" * (size // 3),
    "`中`": lambda size: "中" * (size // 3),
    "`<`": lambda size: "<" * size,
    "tags": lambda size: "<a>" * (size // 3),
    "`[` and `]`, nested": lambda size: "[" * (size // 2) + "]" * (size // 2),
    "objects, nested": lambda size: '{"a":' * (size // 7) + "1" + "}" * (size // 7),
    "objects, never closed": lambda size: '{"a": ' * (size // 6),
    "rows of a table": lambda size: "| a | b |\n" * (size // 10),
    "`1 `": lambda size: "1 " * (size // 2),
    "no-break spaces": lambda size: "a" + "\u00a0" * (size // 2) + "b",
}


def hostile(counter: TokenCounter) -> list[str]:
    """Texts that break naive code, at two sizes: ten times the text may cost some ten times as much."""
    lines = [
        "| 10 MB of | words | splitting, CPU s | whole choice, CPU s | for 1 MB |",
        "|---|---|---|---|---|",
    ]
    for name, make in HOSTILE.items():
        _, _, small = _hostile_costs(make(1_000_000), counter)
        words, split, whole = _hostile_costs(make(10_000_000), counter)
        lines.append(f"| {name} | {words:,} | {split:.2f} | {whole:.2f} | {small:.2f} |")
    return lines


def _hostile_costs(text: str, counter: TokenCounter) -> tuple[int, float, float]:
    """How many words, and the CPU seconds of splitting and of the whole choice, counting included."""
    began = time.process_time()
    words = len(split_words(text))
    split = time.process_time() - began
    passage = passage_of(text, kind="auto")
    began = time.process_time()
    with contextlib.suppress(BudgetTooSmall):
        shorten_passages([passage], counter.count(text) // 2, counter)
    return words, split, time.process_time() - began


def main() -> None:
    """Measures, prints, and writes the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path)
    parser.add_argument("--also", type=Path, nargs="*", default=[])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    source = read_text(given.text)[:4_000_000]
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
    report = "\n".join([*head, *measure(source, [given.text, *given.also], given.rounds), ""])
    print(report)
    if given.out:
        given.out.write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
