"""What the host takes beside a GPU, with a pretended one: tokenising, windows, choice of words, and threads.

    python -m benchmarks.bench_host TEXT.txt [--rate 2e6] [--rounds 7]

The pretended encoder takes no CPU: a batch is done after its tokens divided by --rate, one batch at a time,
and its scores are numbers without meaning. Needs no GPU; tokenizer and windows are those of the embedded
encoder at 512 tokens. TEXT: 400 kB and more, UTF-8. Medians of the clock and of all threads' CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.encoders.measuring import PROMPT_TOKENS, cut
from compressor import Compressor
from compressor.engine.engine import Engine, EngineLimits
from compressor.engine.scorer import Running, Scored, Task, Window
from compressor.engine.windows import WindowShape
from compressor.model.description import describe_model
from compressor.model.loading import DEFAULT_FOLDER, load_tokenizer

WORDS = 60_000
KEEP = 0.33


class PretendedBatch:
    """Done at a time."""

    def __init__(self, windows: Sequence[Window], at: float) -> None:
        self.windows = windows
        self.at = at

    def scores(self) -> Scored:
        """Waits without Python's lock, as for a GPU."""
        time.sleep(max(0.0, self.at - time.perf_counter()))
        places = np.concatenate([one.first_word + np.arange(one.words) for one in self.windows])
        return Scored((places * 2_654_435_761 >> 7).astype(np.uint8), np.zeros(len(self.windows), bool))

    def embeddings(self) -> NDArray[np.float32]:
        """Nobody ranks here."""
        raise NotImplementedError


class PretendedScorer:
    """A device of so many tokens a second."""

    fingerprint = "pretended"
    device = "cuda:0"  # so that the engine takes it for one

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free = 0.0  # when the batches before are done

    def launch(self, windows: Sequence[Window], task: Task) -> Running:
        """Queues a batch."""
        tokens = sum(one.ids.size for one in windows)
        self._free = max(self._free, time.perf_counter()) + tokens / self._rate
        return PretendedBatch(windows, self._free)

    def close(self) -> None:
        """Nothing to free."""


def opened(rate: float) -> Compressor:
    """The embedded encoder's tokenizer around the pretended device."""
    model = describe_model(DEFAULT_FOLDER)
    tokenizer = load_tokenizer(model)
    shape = WindowShape(512, model.margin(512), tokenizer.prefix, tokenizer.suffix)
    limits = EngineLimits(max_batch_tokens=32_768, max_waiting_tokens=4_000_000)
    return Compressor(Engine(PretendedScorer(rate), tokenizer, shape, limits))


def measure(what: str, tokens: int, work: Callable[[], Any], rounds: int) -> None:
    """Prints one row."""
    work()
    clock, busy = [], []
    for _ in range(rounds):
        began, began_busy = time.perf_counter(), time.process_time()
        work()
        clock.append(time.perf_counter() - began)
        busy.append(time.process_time() - began_busy)
    median, cpu = statistics.median(clock), statistics.median(busy)
    print(f"| {what} | {1000 * median:.1f} ms | {1000 * cpu:.1f} ms | {tokens / median:,.0f} |", flush=True)


def main() -> None:
    """Measures every row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path)
    parser.add_argument("--rate", type=float, default=2e6, help="tokens/s of the pretended device")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    text = " ".join(options.text.read_text(encoding="utf-8").split(" ")[:WORDS])
    with opened(options.rate) as compressor:
        engine: Any = compressor.engine
        tokens = sum(map(len, engine._tokenizer.ids([text])))
        size = len(text) * PROMPT_TOKENS // tokens
        prompts = [f"{at} {text[at * 7919 % (len(text) - size) :][:size]}" for at in range(16)]

        async def callers() -> None:
            await asyncio.gather(*(engine.score(prompt) for prompt in prompts))

        parts, many = cut(text, 16), len(prompts) * PROMPT_TOKENS
        rows: list[tuple[str, int, Callable[[], Any]]] = [
            ("10k tokens to scores", PROMPT_TOKENS, lambda: asyncio.run(engine.score(prompts[0]))),
            ("10k tokens, text to text", PROMPT_TOKENS, lambda: compressor.compress(prompts[0], keep=KEEP)),
            (f"one text of {tokens:,}", tokens, lambda: compressor.compress(text, keep=KEEP)),
            ("16 parts of it at once", tokens, lambda: compressor.compress_batch(parts, keep=KEEP)),
            ("16 texts of 10k at once", many, lambda: compressor.compress_batch(prompts, keep=KEEP)),
            ("16 callers of 10k, scores alone", many, lambda: asyncio.run(callers())),
        ]
        print("| | clock | CPU | tokens/s |\n|---|---|---|---|")
        for what, number, work in rows:
            measure(what, number, work, options.rounds)


if __name__ == "__main__":
    main()
