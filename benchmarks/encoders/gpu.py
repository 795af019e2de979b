"""What is promised of an encoder on a GPU, in parts that each run alone."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.encoders.measuring import (
    PROMPT_TOKENS,
    count,
    cut,
    note,
    note_agreement,
    opened,
    score,
    seconds,
)
from benchmarks.encoders.models import bench_encoder_alone, bench_reference
from benchmarks.encoders.processes import TEXTS_EACH, bench_processes, compressor_process
from benchmarks.encoders.processes import bench_prompt as bench_remote_prompt

CALLERS = 64
KEEP = 0.33


@dataclass
class Case:
    """One encoder, the text, and what is open of them."""

    name: str
    folder: Path
    text: str
    processes: tuple[int, ...]  # worker processes to try
    texts: int  # of a prompt's length, for these
    device: str = "cuda"
    tokens: int = 0
    compressors: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tokens = count(self.folder, self.text)

    @property
    def prompt(self) -> str:
        return self.text[: int(len(self.text) * PROMPT_TOKENS / self.tokens)]

    def prompts(self, number: int) -> list[str]:
        """Different texts of a prompt's length, from all over the text."""
        size = len(self.prompt)
        places = [at * 7919 % max(1, len(self.text) - size) for at in range(number)]
        return [f"{at} {self.text[at : at + size]}" for at in places]

    def opened(self, precision: str) -> Any:
        """The compressor of this precision, opened once."""
        if precision not in self.compressors:
            free_device()
            started = time.perf_counter()
            opening = opened(self.folder, device=self.device, precision=precision)
            self.compressors[precision] = opening.__enter__(), opening
            note(self.name, f"{precision}: opened after", time.perf_counter() - started, "s")
        return self.compressors[precision][0]

    def close(self) -> None:
        """Closes them all."""
        for _, opening in self.compressors.values():
            opening.__exit__(None, None, None)
        self.compressors.clear()


def free_device() -> None:
    """Gives back what nobody uses, and starts counting the peak anew."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def bench_scores(case: Case, precision: str) -> None:
    """The whole text at once, scores alone."""
    compressor = case.opened(precision)
    times = seconds(lambda: score(compressor, case.text), runs=5)
    what = f"{precision}: scores, one text of {case.tokens:,} tokens"
    note(case.name, what, case.tokens / statistics.median(times), "tokens/s")


def bench_texts(case: Case, precision: str) -> None:
    """Text to text in this process: one text, 16 parts of it, 64 prompts."""
    compressor = case.opened(precision)

    def measure(what: str, tokens: int, work: Callable[[], Any], runs: int) -> None:
        times = seconds(work, runs=runs)
        note(case.name, f"{precision}: text to text, {what}", tokens / statistics.median(times), "tokens/s")

    measure("one text", case.tokens, lambda: compressor.compress(case.text, keep=KEEP), 5)
    parts = cut(case.text, 16)
    measure("16 texts", case.tokens, lambda: compressor.compress_batch(parts, keep=KEEP), 3)
    many = case.prompts(min(64, case.texts))
    total = len(many) * PROMPT_TOKENS
    measure(f"{len(many)} texts", total, lambda: compressor.compress_batch(many, keep=KEEP), 1)


def bench_pool(case: Case, precision: str) -> None:
    """Text to text over worker processes."""
    compressor = case.opened(precision)
    many = case.prompts(case.texts)
    for processes in case.processes:
        started = time.perf_counter()
        compressor.compress_batch(many[: 2 * processes], keep=KEEP, processes=processes)
        first = time.perf_counter() - started
        work = lambda n=processes: compressor.compress_batch(many, keep=KEEP, processes=n)  # noqa: E731
        times = seconds(work, runs=3, warm_up=0)
        what = f"{precision}: text to text, {len(many)} texts, {processes} processes"
        rates = [round(len(many) * PROMPT_TOKENS / took) for took in times]
        note(case.name, what, rates[1], "tokens/s", all=rates, first_call_s=round(first, 1))
    same = compressor.compress_batch(many[:3], keep=KEEP, processes=case.processes[-1])
    alone = [compressor.compress(text, keep=KEEP) for text in many[:3]]
    unlike = sum(one.text != other.text for one, other in zip(same, alone, strict=True))
    note(case.name, f"{precision}: of 3 texts over processes unlike alone", unlike, "texts")


def bench_prompt(case: Case, precision: str) -> None:
    """One 10k-token prompt alone."""
    compressor, prompt = case.opened(precision), case.prompt

    def measure(what: str, work: Callable[[], Any]) -> None:
        times = seconds(work, runs=31, warm_up=4)
        note(
            case.name,
            f"{precision}: one 10k prompt, {what}, p50",
            1000 * statistics.median(times),
            "ms",
            best=round(1000 * times[0], 2),
        )

    measure("tokenising to scores", lambda: score(compressor, prompt))
    measure("text to text", lambda: compressor.compress(prompt, keep=KEEP))
    turns, compressor.engine._turns = compressor.engine._turns, nullcontext
    measure("tokenising to scores, turns of 5 ms", lambda: score(compressor, prompt))
    compressor.engine._turns = turns


def bench_callers(case: Case, precision: str) -> None:
    """64 prompts from 64 callers against the same tokens as one text."""
    compressor = case.opened(precision)
    prompts = [f"{number} {case.prompt}" for number in range(CALLERS)]
    single = min(seconds(lambda: score(compressor, "\n".join(prompts)), runs=2))
    waits: list[float] = []
    first: list[np.ndarray] = []

    async def call(text: str) -> None:
        start = time.perf_counter()
        found = await compressor.engine.score(text)
        waits.append(time.perf_counter() - start)
        if text is prompts[0]:
            first.append(found.values)

    async def together() -> None:
        await asyncio.gather(*(call(text) for text in prompts))

    took = min(seconds(lambda: asyncio.run(together()), runs=2))
    note(case.name, f"{precision}: 64 prompts as one text", CALLERS * PROMPT_TOKENS / single, "tokens/s")
    note(
        case.name,
        f"{precision}: 64 prompts from 64 callers",
        CALLERS * PROMPT_TOKENS / took,
        "tokens/s",
        p99_ms=round(1000 * float(np.quantile(waits, 0.99)), 1),
    )
    unlike = float((first[-1] != score(compressor, prompts[0])).mean())
    note(case.name, f"{precision}: bytes of a prompt in a crowd unlike alone", 100 * unlike, "%")


def bench_growth(case: Case, precision: str) -> None:
    """Time at 10k, 100k and 1M tokens, and the peak of the device's memory so far."""
    import torch

    compressor = case.opened(precision)
    for goal in (10_000, 100_000, 1_000_000):
        grown = (case.text + "\n") * (1 + goal // case.tokens)
        grown = grown[: int(len(case.text) * goal / case.tokens)]
        warm_up = 0 if goal > 500_000 else 1
        took = seconds(lambda grown=grown: score(compressor, grown), runs=1, warm_up=warm_up)[0]
        what = f"{precision}: scores of {goal:,} tokens"
        note(case.name, what, took, "s", microseconds_per_token=round(1e6 * took / goal, 3))
    if case.device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
        note(case.name, f"{precision}: peak GPU memory, since opened", peak, "GiB", open=[*case.compressors])


def bench_packed_alone(case: Case, precision: str) -> None:
    """Our encoder without text: windows of the model's length as one batch, as a graph."""
    from compressor.engine.scorer import Window

    compressor = case.opened(precision)
    scorer: Any = compressor.engine._worker._scorer
    draw, longest = np.random.default_rng(0), compressor.engine.shape.tokens
    each = np.arange(longest, dtype=np.int32)
    for tokens in (longest, 10_240, 32_768):
        ids = draw.integers(2000, 20000, (tokens // longest, longest), dtype=np.int32)
        windows = [Window(row, each, each, 0, longest) for row in ids]
        # One batch ahead, as the engine keeps it: the device never waits for the host to plan.
        times = seconds(lambda w=windows: [scorer.launch(w, "score") for _ in range(4)], 5, 2)
        rate = 4 * len(windows) * longest / statistics.median(times)
        what = f"{precision}: packed encoder alone, {len(windows)} x {longest}, graph"
        note(case.name, what, rate, "tokens/s", ms=round(1000 * statistics.median(times) / 4, 2))


def bench_agreement(case: Case, _: str) -> None:
    """Decisions of the shipped weights unlike fp32, on the whole text."""
    exact = None
    for precision in ("fp32", "bf16", "fp16", "fp8"):
        with opened(Path("default"), device=case.device, precision=precision) as compressor:
            found = score(compressor, case.text)
        exact = found if exact is None else exact
        if precision != "fp32":
            note_agreement("shipped", precision, exact, found)


def bench_llmlingua(case: Case, _: str) -> None:
    """The reference; nothing else of ours is open."""
    case.close()
    free_device()
    bench_reference(case.name, case.folder, case.text, case.tokens, case.device)
    free_device()


def bench_alone(case: Case, _: str) -> None:
    """transformers' own pass."""
    free_device()
    bench_encoder_alone(case.name, case.folder, case.device)
    free_device()


def bench_gateways(case: Case, precision: str) -> None:
    """Gateway processes beside `terse compressor serve`."""
    case.close()
    free_device()
    number = max(case.processes)
    texts = case.prompts(TEXTS_EACH * number)
    with compressor_process(case.folder, precision, ["--device", case.device], 1) as url:
        asyncio.run(bench_remote_prompt(case.name, url, case.prompt, precision))
        bench_processes(case.name, f"{precision}: one encoder process", url, texts, number)


PARTS: dict[str, Callable[[Case, str], None]] = {
    "reference": bench_llmlingua,
    "alone": bench_alone,
    "pool": bench_pool,
    "prompt": bench_prompt,
    "texts": bench_texts,
    "scores": bench_scores,
    "callers": bench_callers,
    "growth": bench_growth,
    "packed": bench_packed_alone,
    "agreement": bench_agreement,
    "gateways": bench_gateways,
}


def run_part(case: Case, wanted: str) -> None:
    """Runs "pool" (in bf16), "pool-fp8" or "pool-fp8:12", which is with 12 processes.

    A part that fails is a row, too, and the next ones run.
    """
    part, _, processes = wanted.partition(":")
    name, _, precision = part.partition("-")
    started, usual = time.perf_counter(), case.processes
    if processes:
        case.processes = (int(processes),)
    try:
        PARTS[name](case, precision or "bf16")
    except Exception as error:  # noqa: BLE001 - the machine's time is short: go on
        import traceback

        traceback.print_exc()
        note(case.name, f"{wanted} FAILED: {type(error).__name__}: {str(error)[:200]}", 0, "")
    case.processes = usual
    note(case.name, f"({wanted} took", time.perf_counter() - started, "s)")
