"""The product itself, and its sentence ranker alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.compress import Compressor
from compressor.config import CompressorConfig
from compressor.engine.protocol import EngineHealth, ScoringEngine
from compressor.errors import BudgetTooSmall, CompressorError, EngineStopped, Overloaded
from compressor.evaluation.methods.shapes import Job, ShortText
from compressor.evaluation.methods.words import keep_best_pieces, split_sentences
from compressor.shapes import WordScores
from compressor.startup import open_engine
from compressor.text.tokens import TokenCounter

WAITING_TOKENS = 100_000_000  # nobody else waits here, so nothing is ever refused
TOGETHER = 32  # contexts in the engine at once: enough to fill a GPU's batches


async def shorten_together(
    shorten: Callable[[Job], Awaitable[ShortText]], jobs: Sequence[Job]
) -> list[ShortText]:
    """One text a job, in order, a bounded number of them at once."""
    places = asyncio.Semaphore(TOGETHER)

    async def one(job: Job) -> ShortText:
        async with places:
            return await shorten(job)

    return list(await asyncio.gather(*(one(job) for job in jobs)))


class Terse:
    """`Compressor` with its options. What cannot be done as asked is done without protection, or noted."""

    def __init__(self, compressor: Compressor, tokenizer: str, options: Mapping[str, Any]) -> None:
        self._compressor = compressor
        self._tokenizer = tokenizer
        self._options = dict(options)

    def shorten(self, jobs: Sequence[Job]) -> list[ShortText]:
        return asyncio.run(shorten_together(self._shorten, jobs))

    async def _shorten(self, job: Job) -> ShortText:
        try:
            try:
                return await self._compress(job, self._options)
            except BudgetTooSmall:
                # Equal tokens come first in a comparison: the same words without their protection.
                short = await self._compress(job, {**self._options, "protect": ()})
                return replace(short, note="protected spans larger than the budget")
        except (EngineStopped, Overloaded):
            raise  # no fault of this text: the run must not go on as if it were
        except CompressorError as error:
            return ShortText(job.context, f"{type(error).__name__}: {error}")

    async def _compress(self, job: Job, options: Mapping[str, Any]) -> ShortText:
        shortened = await self._compressor.acompress(
            job.context,
            target_tokens=job.target_tokens,
            tokenizer=self._tokenizer,
            question=job.question or None,
            **options,
        )
        return ShortText(shortened.text, shortened.note)


class SentenceRanker:
    """Whole sentences by closeness to the question, each read with its neighbours. No word is dropped."""

    def __init__(self, engine: ScoringEngine, counter: TokenCounter) -> None:
        self._engine = engine
        self._counter = counter

    def shorten(self, jobs: Sequence[Job]) -> list[ShortText]:
        return asyncio.run(shorten_together(self._shorten, jobs))

    async def _shorten(self, job: Job) -> ShortText:
        sentences = split_sentences(job.context)
        passages = ["".join(sentences[max(0, i - 1) : i + 2]) for i in range(len(sentences))]
        ranks = await self._engine.rank(job.question, passages)
        chosen = keep_best_pieces(sentences, [float(r) for r in ranks], job.target_tokens, self._counter)
        return ShortText(chosen)


class RememberingEngine:
    """An engine that scores a text once and ranks a question's passages once. Grows with the data."""

    def __init__(self, engine: ScoringEngine) -> None:
        self._engine = engine
        self._scores: dict[str, WordScores] = {}
        self._ranks: dict[tuple[str, tuple[str, ...]], NDArray[np.uint8]] = {}
        self.fingerprint = engine.fingerprint
        self.device = engine.device

    async def score(self, text: str) -> WordScores:
        if text not in self._scores:
            self._scores[text] = await self._engine.score(text)
        return self._scores[text]

    async def rank(self, question: str, passages: Sequence[str]) -> NDArray[np.uint8]:
        key = (question, tuple(passages))
        if key not in self._ranks:
            self._ranks[key] = await self._engine.rank(question, passages)
        return self._ranks[key]

    def health(self) -> EngineHealth:
        return self._engine.health()

    async def close(self) -> None:
        await self._engine.close()


@lru_cache(maxsize=4)  # all of a run's methods over one encoder share it
def shared_engine(model: str, device: str, remember: bool) -> ScoringEngine:
    """Raises ModelLoadFailed."""
    config = CompressorConfig(model=model, device=device, max_waiting_tokens=WAITING_TOKENS)
    engine = open_engine(config)
    return RememberingEngine(engine) if remember else engine


def open_terse(options: Mapping[str, str], counter: TokenCounter, engine: ScoringEngine) -> Terse:
    """`unit=auto|words|sentences`, `protect=none|all|numbers+urls`.

    Without `protect` nothing is protected, so that methods are compared by what they choose.
    """
    given: dict[str, Any] = {"unit": options.get("unit", "auto")}
    protect = options.get("protect", "none")
    if protect != "all":  # all: the compressor's own default
        given["protect"] = () if protect == "none" else tuple(protect.split("+"))
    return Terse(Compressor(engine), counter.name, given)
