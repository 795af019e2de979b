"""The embedded encoder on CPU cores beside llmlingua 0.2.2 with the same weights, text to text, in one run.

    python -m benchmarks.bench_compressor_cpu TRANSCRIPTS [--also FILE ...] [--model FOLDER] [--threads 2]
        [--rounds 5] [--out benchmarks/results/compressor-cpu.md]

TRANSCRIPTS and FILES: UTF-8 texts, or JSON lines (gzipped or not) whose `text` is joined. --model: a folder
in compact form; without it the weights that are shipped. Needs llmlingua==0.2.2; nothing is downloaded.
Rounds alternate between the two, so that a busy machine is as busy for both. About two minutes on two free
cores, five on busy ones.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.texts import read_text

KEEP = 0.33
PROMPT_TOKENS = 10_000
AGREEMENT_TOKENS = 4_000
WINDOWS = (512, 256, 128)
PRECISIONS = ("fp32", "bf16", "int8")
TARGET = 5.0  # times the reference
UNLIKE = 0.5  # per cent


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens of the encoder per second on all threads: by the clock, and by the CPU time that they used."""

    wall: float
    cpu: float

    def row(self, what: str) -> str:
        return f"| {what} | {self.cpu:,.0f} | {self.wall:,.0f} |"


def compare(tasks: Sequence[Callable[[], Any]], tokens: int, rounds: int, threads: int) -> list[Speed]:
    """The best of the rounds for each task, one call of each a round after one that does not count."""
    found: list[list[tuple[float, float]]] = [[] for _ in tasks]
    for number in range(rounds + 1):
        for index, task in enumerate(tasks):
            start, used = time.perf_counter(), time.process_time()
            task()
            times = time.perf_counter() - start, (time.process_time() - used) / threads
            if number:
                found[index].append(times)
    return [Speed(tokens / min(w for w, _ in times), tokens / min(c for _, c in times)) for times in found]


def open_ours(model: str, threads: int, **options: Any) -> Any:
    """A compressor on this machine's cores."""
    from compressor import Compressor
    from compressor.config import CompressorConfig
    from compressor.startup import open_engine

    return Compressor(open_engine(CompressorConfig(model=model, device="cpu", threads=threads, **options)))


def open_reference(folder: Path, home: Path) -> Any:
    """llmlingua with the weights of a folder in compact form. It reads the family off the path's spelling."""
    from compressor.compat.unpacked import read_unpacked

    model, tokenizer = read_unpacked(folder)
    named = home / "bert-base-multilingual-cased"
    model.save_pretrained(named)
    tokenizer.save_pretrained(named)
    from llmlingua import PromptCompressor

    return PromptCompressor(str(named), device_map="cpu", use_llmlingua2=True)


def scores(compressor: Any, text: str) -> np.ndarray:
    """The bytes of a text's words."""
    values: np.ndarray = asyncio.run(compressor.engine.score(text)).values
    return values


def unlike(values: np.ndarray, exact: np.ndarray) -> float:
    """Decisions at keep 0.5 that are not those of the exact scores, in per cent."""

    def keeps(of: np.ndarray) -> np.ndarray:
        kept = np.zeros(of.size, bool)
        kept[np.argsort(-of.astype(int), kind="stable")[: of.size // 2]] = True
        return kept

    return 100 * float((keeps(values) != keeps(exact)).mean())


def encoder_tokens(folder: Path, text: str) -> tuple[str, int]:
    """The beginning of a text that has about `PROMPT_TOKENS`, and how many it has."""
    from tokenizers import Tokenizer

    from compressor.model.compact import read_tokenizer

    tokenizer = Tokenizer.from_str(read_tokenizer(folder))
    sample = text[:100_000]
    prompt = text[
        : len(sample) * PROMPT_TOKENS // len(tokenizer.encode(sample, add_special_tokens=False).ids)
    ]
    return prompt, len(tokenizer.encode(prompt, add_special_tokens=False).ids)


def beside_reference(
    model: str, folder: Path, prompt: str, tokens: int, given: argparse.Namespace
) -> list[str]:
    """Text to text, both in turns."""
    with tempfile.TemporaryDirectory() as home, open_ours(model, given.threads) as ours:
        reference = open_reference(folder, Path(home))
        theirs, whole, encoded = compare(
            [
                lambda: reference.compress_prompt_llmlingua2([prompt], rate=KEEP, force_tokens=["\n"]),
                lambda: ours.compress(prompt, keep=KEEP),
                lambda: scores(ours, prompt),
            ],
            tokens,
            given.rounds,
            given.threads,
        )
    by_cpu, by_wall = whole.cpu / theirs.cpu, whole.wall / theirs.wall
    by_both = [("met" if times >= TARGET else "**missed**") for times in (by_cpu, by_wall)]
    outside = 1e6 * given.threads * (1 / whole.cpu - 1 / encoded.cpu)
    summary = (
        f"Times the reference: **{by_cpu:.1f}** by CPU time, **{by_wall:.1f}** by the clock; "
        f"target {TARGET:.0f}: {by_both[0]} by CPU time, {by_both[1]} by the clock. "
        f"10k tokens, text to text: {10_000 / whole.cpu:.2f} s "
        f"by CPU time, {10_000 / whole.wall:.2f} s by the clock. "
        f"Outside of scoring: {outside:.1f} µs of CPU a token."
    )
    return [
        f"| {tokens:,} tokens, keep {KEEP} | tokens/s by CPU time | by the clock |",
        "|---|---|---|",
        theirs.row("llmlingua 0.2.2, same weights, text to text"),
        whole.row("ours as shipped, text to text"),
        encoded.row("ours as shipped, scores alone"),
        "",
        summary,
        "",
    ]


def by_precision(model: str, prompt: str, tokens: int, given: argparse.Namespace) -> list[str]:
    """Speed of scoring, and agreement with fp32, by precision and window."""
    lines = ["| scores, by CPU time | " + " | ".join(f"windows of {window}" for window in WINDOWS) + " |"]
    lines.append("|---" * (len(WINDOWS) + 1) + "|")
    speeds: dict[tuple[str, int], Speed] = {}
    changed: dict[tuple[str, int], float] = {}
    for window in WINDOWS:
        with ExitStack() as stack:
            ours = [
                stack.enter_context(
                    open_ours(model, given.threads, precision=precision, window_tokens=window)
                )
                for precision in PRECISIONS
            ]
            tasks = [lambda one=one: scores(one, prompt) for one in ours]
            found = compare(tasks, tokens, max(2, given.rounds // 2), given.threads)
            exact = scores(ours[0], prompt)
            for precision, speed, one in zip(PRECISIONS, found, ours, strict=True):
                speeds[precision, window] = speed
                changed[precision, window] = unlike(scores(one, prompt), exact)
    for precision in PRECISIONS:
        cells = [f"{speeds[precision, window].cpu:,.0f}" for window in WINDOWS]
        lines.append(f"| {precision} | " + " | ".join(cells) + " |")
    for precision in PRECISIONS[1:]:
        cells = [f"{changed[precision, window]:.2f} %" for window in WINDOWS]
        lines.append(f"| {precision}: decisions at keep 0.5 unlike fp32 | " + " | ".join(cells) + " |")
    return [*lines, ""]


def agreement(model: str, files: Sequence[Path], given: argparse.Namespace) -> list[str]:
    """Decisions unlike fp32 on texts of several kinds, with windows as shipped."""
    lines = ["| decisions at keep 0.5 unlike fp32 | words | bf16 | int8 |", "|---|---|---|---|"]
    with ExitStack() as stack:
        exact, *others = [
            stack.enter_context(open_ours(model, given.threads, precision=precision))
            for precision in PRECISIONS
        ]
        for file in files:
            text = read_text(file)
            # From all over the file, since its texts may be sorted.
            size, pieces = 4 * AGREEMENT_TOKENS, 8
            sample = "\n\n".join(
                text[at : at + size // pieces] for at in range(0, len(text), max(1, len(text) // pieces))
            )[:size]
            wanted = scores(exact, sample)
            cells = [f"{unlike(scores(one, sample), wanted):.2f} %" for one in others]
            lines.append(f"| {file.name.split('.')[0]} | {wanted.size:,} | " + " | ".join(cells) + " |")
    return [*lines, "", f"Target: under {UNLIKE} % for what is chosen by itself.", ""]


def cpu_name() -> str:
    """The processor, and which of its instructions matter here."""
    facts = Path("/proc/cpuinfo")
    if not facts.exists():
        return platform.processor()
    text = facts.read_text()
    name = next((line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line), "")
    flags = [flag for flag in ("avx2", "avx512_vnni", "avx512_bf16", "amx_bf16") if flag in text]
    return f"{name} ({', '.join(flags)})"


def main() -> None:
    """Measures, prints, and writes the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path)
    parser.add_argument("--also", type=Path, nargs="*", default=[])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    spec = importlib.util.find_spec("litellm")
    if spec is not None and spec.origin is not None:  # llmlingua counts with tiktoken, which would download
        cache = Path(spec.origin).parent / "litellm_core_utils" / "tokenizers"
        os.environ.update(TIKTOKEN_CACHE_DIR=str(cache), HF_HUB_OFFLINE="1")
    import torch

    import compressor

    torch.set_num_threads(given.threads)
    folder = given.model or Path(compressor.__file__).parent / "weights" / "default"
    model = str(given.model) if given.model else "default"
    prompt, tokens = encoder_tokens(folder, read_text(given.text))
    load = f"load {os.getloadavg()[0]:.1f} at the start"
    machine = f"{cpu_name()}, {given.threads} threads of {os.cpu_count()} cores, {load}"
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "openvino", "llmlingua", "tokenizers")
    )
    lines = [
        "# The embedded encoder on CPU cores",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {machine}, Python {platform.python_version()}, {versions}.",
        "",
        "By CPU time: what the threads would do if nothing else ran and the work were spread evenly,",
        "which favours llmlingua, whose work outside of the model runs on one thread. By the clock: this",
        "machine, as busy as it was. Why OpenVINO: [cpu-runtimes](cpu-runtimes.md).",
        "",
        *beside_reference(model, folder, prompt, tokens, given),
        *by_precision(model, prompt, tokens, given),
        *agreement(model, [given.text, *given.also], given),
    ]
    report = "\n".join(lines)
    print(report)
    if given.out:
        given.out.write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
