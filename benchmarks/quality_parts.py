"""The whole comparison in parallel: `python -m benchmarks.quality_parts DATA READER OUT …`.

DATA is what `benchmarks.quality_sample` wrote. Each part is a process of `bench_quality` with rows of its
own, and all share one GPU; a part that is not through in `--seconds` is stopped, and its rows so far count.
In the end `OUT/GROUP/` has the rows of all parts of a group, for `bench_quality --report`, and
`OUT/rows.tar.gz` holds all of them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

FREE = "keep=0.5+0.33+0.2"
ASKED = "keep=0.5+0.33+0.15"
FEW = "keep=0.5+0.33"
MAIN = "nq10docs,squad2dev,korquad,multihop"
MORE = "jaquad,xquad"
REASONING = "gsm8k,bbh"
SUMMARIES = "dialog_summ,meetings_qmsum"
TRAINED_ON = ("nq10docs", "squad2dev", "jaquad", "xquad")


@dataclass(frozen=True, slots=True)
class Part:
    """One process."""

    group: str
    name: str
    sets: str
    methods: tuple[str, ...]
    limit: str  # which of the limits holds
    batch_tokens: int = 28_672  # that the reader reads at once: eight such parts fit into 80 GB
    arguments: tuple[str, ...] = ()


PARTS = (
    Part("qa", "ours", MAIN, (f"terse,{FREE}", f"terse,question=yes,{ASKED}"), "limit"),
    Part("qa", "ends", MAIN, ("full", "empty", f"first,{FREE}", f"random,{FREE}"), "limit"),
    Part("qa", "units", MAIN, (f"terse,unit=words,{FREE}", f"sentences,{ASKED}"), "limit"),
    Part("qa", "llmlingua2", MAIN, (f"llmlingua2,{FREE}", f"terse,protect=all,{FREE}"), "limit"),
    Part("qa", "surprisal", MAIN, (f"llmlingua,{FREE}", f"selective-context,{FREE}"), "slow_limit"),
    Part("qa", "long", MAIN, (f"longllmlingua,{ASKED}",), "slow_limit"),
    Part(
        "reasoning",
        "reasoning",
        REASONING,
        ("full", "empty", f"terse,{FEW}", f"first,{FEW}", f"llmlingua2,{FEW}", f"selective-context,{FEW}"),
        "reasoning_limit",
        65_536,
    ),
    Part(
        "summaries",
        "summaries",
        SUMMARIES,
        ("full", f"terse,{FEW}", f"first,{FEW}", f"terse,question=yes,{FEW}", f"llmlingua2,{FEW}"),
        "summary_limit",
        40_960,
    ),
    Part(
        "qa",
        "more",
        MORE,
        ("full", f"terse,{FREE}", f"terse,question=yes,{ASKED}", f"first,{FREE}", f"llmlingua2,{FREE}"),
        "limit",
    ),
    Part(
        "restore",
        "restore",
        "squad2dev,korquad",
        (f"terse,{FEW}", f"first,{FEW}", f"terse,protect=all,{FEW}", f"llmlingua2,{FEW}"),
        "restore",
        arguments=("--restore", "1000"),
    ),
)
ROWS = ("shortened.jsonl", "answers.jsonl")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("reader", help="folder of a causal LM")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="default", help="our encoder")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--seconds", type=float, default=285.0, help="when what still runs is stopped")
    parser.add_argument("--parts", default="", help="comma-separated names; default all")
    parser.add_argument("--limit", type=int, default=150)
    parser.add_argument("--slow-limit", type=int, default=50)
    parser.add_argument("--reasoning-limit", type=int, default=60)
    parser.add_argument("--summary-limit", type=int, default=30)
    parser.add_argument("--restore", type=int, default=10)
    parser.add_argument("--together", type=int, default=8, help="parts at once; the others wait")
    return parser.parse_args()


def command_of(part: Part, given: argparse.Namespace) -> list[str]:
    """What runs the part."""
    sets = part.sets.split(",")
    command = [sys.executable, "-m", "benchmarks.bench_quality", str(given.data), given.reader]
    command += [str(given.out / "parts" / part.name), "--rows-only", "--sets", part.sets]
    command += ["--device", given.device, "--model", given.model, "--batch-tokens", str(part.batch_tokens)]
    command += ["--limit", str(getattr(given, part.limit))]
    for method in part.methods:
        command += ["--method", method]
    if trained := [name for name in TRAINED_ON if name in sets]:
        command += ["--trained-on", ",".join(trained)]
    if part.group == "reasoning":
        command += ["--prompts", str(given.data / "prompts_cot.jsonl.gz")]
    if part.group == "summaries":
        command += ["--similarity", given.model]
    return [*command, *part.arguments]


def run_parts(parts: list[Part], given: argparse.Namespace) -> None:
    """Runs the parts side by side until all are through or the time is over, and tells their results."""
    threads = str(max(1, (os.cpu_count() or 1) // min(given.together, len(parts))))
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": threads,
        "RAYON_NUM_THREADS": threads,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "PYTHONUNBUFFERED": "1",
    }
    started = perf_counter()
    waiting = list(parts)
    running: dict[str, subprocess.Popen[bytes]] = {}
    told = {part.name: 0 for part in parts}
    while (waiting or running) and perf_counter() - started < given.seconds:
        while waiting and len(running) < given.together:
            part = waiting.pop(0)
            running[part.name] = start_part(part, given, environment)
        sleep(1)
        for name, process in list(running.items()):
            told[name] = tell_lines(name, log_of(name, given.out), told[name])
            if (code := process.poll()) is not None:
                print(f"{perf_counter() - started:6.1f} s  {name}: exit code {code}", flush=True)
                del running[name]
    for name, process in running.items():
        process.kill()
        process.wait()
        tell_lines(name, log_of(name, given.out), told[name])
        print(f"{perf_counter() - started:6.1f} s  {name}: stopped, not through", flush=True)
    for part in waiting:
        print(f"{part.name}: not begun", flush=True)


def start_part(part: Part, given: argparse.Namespace, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    log = log_of(part.name, given.out)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        return subprocess.Popen(
            command_of(part, given), stdout=out, stderr=subprocess.STDOUT, env=environment
        )


def log_of(name: str, out: Path) -> Path:
    return out / "parts" / name / "log.txt"


def tell_lines(name: str, log: Path, after: int) -> int:
    """Prints the results and errors behind this many bytes of a part's log; returns where they end."""
    with log.open("rb") as file:
        file.seek(after)
        text = file.read()
    whole = text[: text.rfind(b"\n") + 1]
    for line in whole.decode("utf-8", "replace").splitlines():
        if " = " in line[:14] or "Error" in line:
            print(f"{name}: {line.strip()}", flush=True)
    return after + len(whole)


def gather(parts: list[Part], out: Path) -> None:
    """The rows of all parts by group, and all of them in one archive."""
    for part in parts:
        for file in ROWS:
            source, target = out / "parts" / part.name / file, out / part.group / file
            if not source.exists():
                continue
            target.parent.mkdir(exist_ok=True)
            with source.open("rb") as rows, target.open("ab") as all_rows:
                data = rows.read()
                all_rows.write(data[: data.rfind(b"\n") + 1])  # a stopped part may leave half a row
    with tarfile.open(out / "rows.tar.gz", "w:gz", compresslevel=6) as archive:
        for group in sorted({part.group for part in parts}):
            if (out / group).exists():
                archive.add(out / group, group)
        for part in parts:
            if log_of(part.name, out).exists():
                archive.add(log_of(part.name, out), f"logs/{part.name}.txt")


def main() -> None:
    given = parse_arguments()
    wanted = given.parts.split(",") if given.parts else [part.name for part in PARTS]
    parts = [part for part in PARTS if part.name in wanted]
    if unknown := set(wanted) - {part.name for part in parts}:
        sys.exit(f"no such part: {', '.join(sorted(unknown))}")
    for group in {part.group for part in parts}:
        shutil.rmtree(given.out / group, ignore_errors=True)  # gathered anew
    run_parts(parts, given)
    gather(parts, given.out)


if __name__ == "__main__":
    main()
