"""What is promised of an encoder on a GPU."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
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
from benchmarks.encoders.processes import bench_processes

CALLERS = 64
# Precisions and encoder processes on the one GPU; several help where the host's Python is slower than it.
PROCESSES: dict[str, tuple[tuple[str, int], ...]] = {
    "xlmr-large": (("bf16", 1), ("bf16", 2), ("fp8", 2)),
    "mbert-base": (("bf16", 1), ("bf16", 4)),
    "embedded": (("bf16", 1), ("bf16", 4)),
}


def bench_throughput(name: str, compressor: Any, text: str, tokens: int) -> None:
    """The whole text at once, scores alone and text to text."""
    times = seconds(lambda: score(compressor, text), runs=3)
    note(name, "scores, one text", tokens / statistics.median(times), "tokens/s")
    times = seconds(lambda: compressor.compress(text, keep=0.33), runs=3)
    note(name, "text to text, one text", tokens / statistics.median(times), "tokens/s")
    parts = cut(text, 16)
    times = seconds(lambda: compressor.compress_batch(parts, keep=0.33), runs=3)
    note(name, "text to text, 16 texts at once", tokens / statistics.median(times), "tokens/s")


def bench_prompt(name: str, compressor: Any, prompt: str, precision: str) -> None:
    """One 10k-token prompt alone."""
    times = seconds(lambda: score(compressor, prompt), runs=21, warm_up=3)
    note(
        name, f"{precision}: one 10k prompt, tokenising to scores, p50", 1000 * statistics.median(times), "ms"
    )
    times = seconds(lambda: compressor.compress(prompt, keep=0.33), runs=11, warm_up=2)
    note(name, f"{precision}: one 10k prompt, text to text, p50", 1000 * statistics.median(times), "ms")


def bench_callers(name: str, compressor: Any, prompt: str, tokens: int) -> None:
    """64 prompts from 64 callers against the same tokens as one text."""
    prompts = [f"{number} {prompt}" for number in range(CALLERS)]
    single = statistics.median(seconds(lambda: score(compressor, "\n".join(prompts)), runs=3))
    waits: list[float] = []

    async def call(text: str) -> None:
        start = time.perf_counter()
        await compressor.engine.score(text)
        waits.append(time.perf_counter() - start)

    async def together() -> None:
        await asyncio.gather(*(call(text) for text in prompts))

    took = statistics.median(seconds(lambda: asyncio.run(together()), runs=3))
    note(name, "64 prompts as one text", CALLERS * tokens / single, "tokens/s")
    note(
        name,
        "64 prompts from 64 callers",
        CALLERS * tokens / took,
        "tokens/s",
        p99_ms=round(1000 * float(np.quantile(waits, 0.99)), 1),
    )
    alone = score(compressor, prompts[0])

    async def crowd() -> list[np.ndarray]:
        return [
            found.values for found in await asyncio.gather(*(compressor.engine.score(p) for p in prompts))
        ]

    unlike = float((asyncio.run(crowd())[0] != alone).mean())
    note(name, "bytes of a prompt in a crowd unlike alone", 100 * unlike, "%")


def bench_growth(name: str, compressor: Any, text: str, tokens: int) -> None:
    """Time at 10k, 100k and 1M tokens."""
    for goal in (10_000, 100_000, 1_000_000):
        grown = (text + "\n") * (1 + goal // tokens)
        grown = grown[: int(len(text) * goal / tokens)]
        took = seconds(
            lambda grown=grown: score(compressor, grown), runs=1, warm_up=0 if goal > 500_000 else 1
        )[0]
        note(
            name, f"scores of {goal:,} tokens", took, "s", microseconds_per_token=round(1e6 * took / goal, 3)
        )


def bench_packed_alone(name: str, compressor: Any, precision: str) -> None:
    """Our encoder without text: 64 windows of 512 as one batch, replayed and kernel by kernel."""
    import torch

    from compressor.engine.scorer import Window
    from compressor.model.packed_scorer import PackedScorer

    scorer: Any = compressor.engine._worker._scorer
    eager = PackedScorer(scorer._encoder, keep_label=1, device=scorer.device, fingerprint="")
    draw, longest = np.random.default_rng(0), compressor.engine.shape.tokens
    each = np.arange(longest, dtype=np.int32)
    for tokens in (longest, 10_240, 32_768):
        ids = draw.integers(2000, 20000, (tokens // longest, longest), dtype=np.int32)
        windows = [Window(row, each, each, 0, longest) for row in ids]
        for way, one in (("graph", scorer), ("single kernels", eager)):
            # One batch ahead, as the engine keeps it: the device never waits for the host to plan.
            times = seconds(lambda one=one, w=windows: [one.launch(w, "score") for _ in range(4)], 5, 2)
            rate = 4 * len(windows) * longest / statistics.median(times)
            what = f"{precision}: packed encoder alone, {len(windows)} x {longest}, {way}"
            note(name, what, rate, "tokens/s", ms=round(1000 * statistics.median(times) / 4, 2))
    torch.cuda.empty_cache()


def bench_gpu(name: str, folder: Path, text: str) -> None:
    """Everything that is promised of one encoder on a GPU."""
    import torch

    tokens = count(folder, text)
    prompt = text[: int(len(text) * PROMPT_TOKENS / tokens)]
    with opened(folder, device="cuda", precision="fp32") as compressor:
        exact = score(compressor, text)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    with opened(folder, device="cuda") as compressor:
        bench_throughput(name, compressor, text, tokens)
        bench_prompt(name, compressor, prompt, "bf16")
        bench_callers(name, compressor, prompt, PROMPT_TOKENS)
        bench_growth(name, compressor, text, tokens)
        note(name, "peak GPU memory, bf16", torch.cuda.max_memory_allocated() / 2**30, "GiB")
        note_agreement(name, "bf16", exact, score(compressor, text))
        bench_packed_alone(name, compressor, "bf16")
    with opened(folder, device="cuda", precision="fp8") as compressor:
        times = seconds(lambda: score(compressor, text), runs=3)
        note(name, "fp8: scores, one text", tokens / statistics.median(times), "tokens/s")
        bench_prompt(name, compressor, prompt, "fp8")
        note_agreement(name, "fp8", exact, score(compressor, text))
        bench_packed_alone(name, compressor, "fp8")
    torch.cuda.empty_cache()
    bench_encoder_alone(name, folder)
    torch.cuda.empty_cache()
    bench_reference(name, folder, text, tokens, "cuda")
    torch.cuda.empty_cache()
    gateways = max(2, (os.cpu_count() or 2) - 4)
    for precision, replicas in PROCESSES[name]:
        bench_processes(name, folder, prompt, gateways, precision, replicas)
