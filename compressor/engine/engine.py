"""The embedded engine: tokenises on CPU threads, queues windows, answers with bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from compressor.engine.protocol import EngineHealth
from compressor.engine.ranking import rank_by_cosine, rank_by_words
from compressor.engine.scorer import Scorer, Task, Window
from compressor.engine.tokenizing import TextTokenizer, code_points
from compressor.engine.waiting import Job, WaitingLine
from compressor.engine.windows import WindowShape, passage_window, plan_windows
from compressor.engine.worker import Worker
from compressor.errors import EngineStopped
from compressor.shapes import ScoreTimings, WordScores
from compressor.text.words import split_words


@dataclass(frozen=True, slots=True)
class Ranking:
    """How an encoder compares a question with passages."""

    method: Literal["cosine", "words"] = "words"  # words: the encoder was never trained to compare texts
    question_prefix: str = ""  # as E5 wants: "query: "
    passage_prefix: str = ""
    lowest_cosine: float = 0.0  # becomes 0 of 255


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Bounds, in encoder tokens."""

    max_batch_tokens: int  # one pass of the encoder; bounds device memory
    max_waiting_tokens: int  # beyond it callers get Overloaded at once
    tokenizing_threads: int = 2  # the Rust tokenizer spreads each call over all cores by itself


class Engine:
    """A `ScoringEngine` over one `Scorer`. Safe to use from several threads and event loops."""

    def __init__(
        self,
        scorer: Scorer,
        tokenizer: TextTokenizer,
        shape: WindowShape,
        limits: EngineLimits,
        ranking: Ranking | None = None,
    ) -> None:
        self.fingerprint = scorer.fingerprint
        self.device = scorer.device
        self._tokenizer = tokenizer
        self._shape = shape
        self._ranking = ranking or Ranking()
        self._line = WaitingLine(limits.max_waiting_tokens)
        self._threads = ThreadPoolExecutor(limits.tokenizing_threads, thread_name_prefix="terse-tokenize")
        self._worker = Worker(scorer, self._line, limits.max_batch_tokens)

    async def score(self, text: str) -> WordScores:
        """One byte a word of `split_words(text)`; a word that the encoder has no token for gets 0."""
        started = perf_counter()
        words, windows = await self._on_threads(len(text), self._prepare, text)
        values = np.zeros(words, np.uint8)
        if not windows:
            return WordScores(values, self.fingerprint)
        job = await self._run(windows, "score")
        for window, part in zip(windows, job.parts, strict=True):
            values[window.first_word : window.first_word + window.words] = part
        wait_ms, encode_ms = (job.started - started) * 1000, (perf_counter() - job.started) * 1000
        return WordScores(values, self.fingerprint, ScoreTimings(wait_ms, encode_ms))

    async def rank(self, question: str, passages: Sequence[str]) -> NDArray[np.uint8]:
        """0..255 a passage: cosine of mean-pooled states where the encoder was trained for it, else BM25."""
        if not passages:
            return np.zeros(0, np.uint8)
        chars = len(question) + sum(len(passage) for passage in passages)
        if self._ranking.method == "words":
            ids = await self._on_threads(chars, self._passage_ids, question, passages)
            return rank_by_words(ids[0], ids[1:])
        windows = await self._on_threads(chars, self._prepare_passages, question, passages)
        job = await self._run(windows, "embed")
        vectors = np.stack([part for part in job.parts if part is not None])
        return rank_by_cosine(vectors[0], vectors[1:], self._ranking.lowest_cosine)

    def health(self) -> EngineHealth:
        """Red once the worker has died or the engine was closed."""
        counts = self._worker.counts
        stopped = self._line.stopped
        if stopped is None and not self._worker.alive:
            stopped = "the encoder's thread died"
        return EngineHealth(
            ready=stopped is None,
            detail=stopped or "ok",
            waiting_tokens=self._line.tokens,
            device=self.device,
            scored_texts=counts.texts,
            scored_tokens=counts.tokens,
            batches=counts.batches,
        )

    async def close(self) -> None:
        """Fails what waits with EngineStopped, lets the running batch end, frees the device."""
        await asyncio.to_thread(self._worker.stop, "the engine is closed")
        self._threads.shutdown(wait=False)  # what is being tokenised finds the line stopped

    async def _on_threads(self, chars: int, work: Any, *arguments: Any) -> Any:
        """Runs `work` on a tokenising thread, its size booked in the line meanwhile."""
        estimate = chars // 4 + 1  # near the tokens of English; others have more, which `put` then counts
        self._line.announce(estimate)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        except RuntimeError as error:
            if self._line.stopped is None:
                raise
            raise EngineStopped(self._line.stopped) from error  # the pool was shut down under us
        finally:
            self._line.withdraw(estimate)

    async def _run(self, windows: Sequence[Window], task: Task) -> Job:
        """Queues the windows and waits for all of them; cancelling drops those that still wait."""
        loop = asyncio.get_running_loop()
        job = Job(windows, task, loop, loop.create_future())
        self._line.put(job)
        try:
            await job.answer
        finally:
            job.over = True
        return job

    def _prepare(self, text: str) -> tuple[int, list[Window]]:
        """How many words the text has, and its windows."""
        codes = code_points(text)
        words = split_words(text)
        tokens = self._tokenizer.tokenize(text, codes, words)
        return len(words), plan_windows(codes, words, tokens, self._shape)

    def _prepare_passages(self, question: str, passages: Sequence[str]) -> list[Window]:
        """The question's window, then each passage's, prefixed as the encoder expects."""
        prefixed = [self._ranking.question_prefix + question]
        prefixed += [self._ranking.passage_prefix + passage for passage in passages]
        return [passage_window(ids, self._shape) for ids in self._tokenizer.ids(prefixed)]

    def _passage_ids(self, question: str, passages: Sequence[str]) -> list[list[int]]:
        return self._tokenizer.ids([question.lower(), *(passage.lower() for passage in passages)])
