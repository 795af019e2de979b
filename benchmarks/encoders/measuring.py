"""Rows, clocks, texts and open compressors, for every section of bench_compressor.py."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

PROMPT_TOKENS = 10_000
ROWS: list[dict[str, Any]] = []


def note(model: str, what: str, value: float, unit: str, **more: Any) -> None:
    """Records and prints one figure."""
    ROWS.append({"model": model, "what": what, "value": value, "unit": unit, **more})
    print(f"{model:12} {what:62} {value:14,.2f} {unit} {more or ''}", flush=True)


def seconds(work: Callable[[], Any], runs: int = 5, warm_up: int = 1) -> list[float]:
    """Sorted wall times of single calls, device work included."""
    import torch

    times = []
    for number in range(warm_up + runs):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if number >= warm_up:
            times.append(time.perf_counter() - start)
    return sorted(times)


@contextlib.contextmanager
def opened(folder: Path, **options: Any) -> Iterator[Any]:
    """A Compressor on a folder."""
    from compressor import Compressor
    from compressor.config import CompressorConfig
    from compressor.startup import open_engine

    engine = open_engine(CompressorConfig(model=str(folder), **options))
    compressor = Compressor(engine, model=str(folder))
    try:
        yield compressor
    finally:
        compressor.close()


def score(compressor: Any, text: str) -> np.ndarray:
    """The words' bytes."""
    values: np.ndarray = asyncio.run(compressor.engine.score(text)).values
    return values


def count(folder: Path, text: str) -> int:
    """Encoder tokens."""
    from tokenizers import Tokenizer

    return len(Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids)


def cut(text: str, parts: int) -> list[str]:
    """Nearly equal pieces, cut at spaces."""
    words = text.split(" ")
    size = -(-len(words) // parts)
    return [" ".join(words[at : at + size]) for at in range(0, len(words), size)]


def kept(values: np.ndarray, share: float = 0.5) -> np.ndarray:
    """Which words a threshold at this share keeps, ties by place."""
    order = np.argsort(-values.astype(int), kind="stable")
    chosen = np.zeros(values.size, bool)
    chosen[order[: int(values.size * share)]] = True
    return chosen


def note_agreement(name: str, precision: str, exact: np.ndarray, found: np.ndarray) -> None:
    """Decisions at keep 0.5 that differ from fp32 of the same weights."""
    changed = 100 * float((kept(found) != kept(exact)).mean())
    note(name, f"{precision}: decisions at keep 0.5 unlike fp32", changed, "%", words=exact.size)
