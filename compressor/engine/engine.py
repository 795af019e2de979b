"""The embedded engine: tokenises on CPU threads, queues windows, answers with bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import zip_longest
from time import perf_counter
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from compressor.engine.protocol import EngineHealth
from compressor.engine.ranking import rank_by_cosine, rank_by_words
from compressor.engine.scorer import Scorer, Task, Window
from compressor.engine.tokenizing import (
    Slab,
    TextTokenizer,
    TokenizedText,
    code_points,
    cut_slabs,
    may_have_giants,
)
from compressor.engine.waiting import Job, WaitingLine
from compressor.engine.windows import WindowShape, passage_window, plan_windows
from compressor.engine.worker import Worker, answer
from compressor.errors import EngineStopped
from compressor.lanes import Lanes
from compressor.shapes import ScoreTimings, WordScores
from compressor.text.words import split_words
from compressor.turns import short_turns

T = TypeVar("T")


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
        self.shape = shape
        self.limits = limits
        self.ranking = ranking or Ranking()
        self._tokenizer = tokenizer
        self._line = WaitingLine(limits.max_waiting_tokens)
        self._threads = Lanes("terse-tokenize")  # the Rust tokenizer uses all cores by itself
        self._slabs = Lanes("terse-slabs")
        # The encoder's thread must not wait behind those that tokenise; on a CPU the encoder is slow anyway.
        on_cpu = self.device == "cpu"
        self._turns: Callable[[], AbstractContextManager[None]] = nullcontext if on_cpu else short_turns
        self._worker = Worker(scorer, self._line, limits.max_batch_tokens)

    async def score(self, text: str) -> WordScores:
        """One byte a word of `split_words(text)`; a word that the encoder has no token for gets 0."""
        begun = perf_counter()
        job = Job("score", asyncio.get_running_loop())
        with self._turns():
            words = await self._feed(job, len(text), lambda: self._feed_windows(job, text))
            values = np.zeros(words, np.uint8)
            parts = await self._answer(job)
        if not parts:
            return WordScores(values, self.fingerprint)
        for window, part in zip(job.windows, parts, strict=True):
            values[window.first_word : window.first_word + window.words] = part
        wait_ms, encode_ms = (job.started - begun) * 1000, (perf_counter() - job.started) * 1000
        return WordScores(values, self.fingerprint, ScoreTimings(wait_ms, encode_ms))

    async def rank(self, question: str, passages: Sequence[str]) -> NDArray[np.uint8]:
        """0..255 a passage: cosine of mean-pooled states where the encoder was trained for it, else BM25."""
        if not passages:
            return np.zeros(0, np.uint8)
        chars = len(question) + sum(len(passage) for passage in passages)
        job = Job("embed", asyncio.get_running_loop())
        if self.ranking.method == "words":
            ids: list[list[int]] = await self._feed(job, chars, lambda: self._passage_ids(question, passages))
            return rank_by_words(ids[0], ids[1:])
        await self._feed(job, chars, lambda: self._feed_passages(job, question, passages))
        vectors = np.stack(await self._answer(job))
        return rank_by_cosine(vectors[0], vectors[1:], self.ranking.lowest_cosine)

    async def run_windows(self, windows: Sequence[Window], task: Task) -> NDArray[Any]:
        """Results of windows that were cut elsewhere, one after the other: bytes of words, or vectors."""
        job = Job(task, asyncio.get_running_loop())
        entries = job.add(windows)
        job.complete()
        with self._turns():
            self._line.put(entries)
            parts = await self._answer(job)
        return np.stack(parts) if task == "embed" else np.concatenate(parts)

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
        self._threads.close()  # what is being tokenised finds the line stopped
        self._slabs.close()

    async def _feed(self, job: Job, chars: int, work: Callable[[], T]) -> T:
        """Runs `work`, which feeds the job's windows to the line, on a tokenising thread.

        The text is booked in the line meanwhile. Cancelling drops the job.
        """
        estimate = chars // 4 + 1  # near the tokens of English; `put` counts the real ones
        self._line.announce(estimate)
        try:
            return await job.loop.run_in_executor(self._threads.of(chars), work)
        except RuntimeError as error:
            if self._line.stopped is None:
                raise
            raise EngineStopped(self._line.stopped) from error  # the pool was shut down under us
        except asyncio.CancelledError:
            job.over = True
            raise
        finally:
            self._line.withdraw(estimate)

    async def _answer(self, job: Job) -> list[NDArray[Any]]:
        """Every window's result; cancelling drops those that still wait."""
        try:
            return await job.answer
        finally:
            job.over = True

    def _feed_windows(self, job: Job, text: str) -> int:
        """Queues the text's windows as they are tokenised; how many words it has."""
        codes = code_points(text)
        words = split_words(text) if may_have_giants(codes) else None
        slabs = cut_slabs(codes, words)
        # From here on the Rust tokenizer works beside Python.
        first = self._encoding(slabs[0], text) if len(slabs) > 1 else None
        if words is None:
            words = split_words(text)
        tokens = self._tokens(slabs, first, text, codes) if len(words) else ()
        for windows in plan_windows(codes, words, tokens, self.shape):
            if job.over:  # cancelled, or one of its batches failed
                return len(words)
            self._line.put(job.add(windows))
        if job.complete():
            answer([(job, job.parts)])
        return len(words)

    def _encoding(self, slab: Slab, text: str) -> Future[list[Any]]:
        """The slab on its way through the Rust tokenizer, on another thread."""
        return self._slabs.of(len(text)).submit(self._tokenizer.encode, slab, text)

    def _tokens(
        self, slabs: Sequence[Slab], first: Future[list[Any]] | None, text: str, codes: NDArray[np.uint32]
    ) -> Iterator[TokenizedText]:
        """The slabs' tokens; while one's are read and planned, the next is encoded."""
        encoding = first
        for slab, following in zip_longest(slabs, slabs[1:]):
            encoded = encoding.result() if encoding is not None else self._tokenizer.encode(slab, text)
            encoding = self._encoding(following, text) if following is not None else None
            yield self._tokenizer.read(slab, codes, encoded)

    def _feed_passages(self, job: Job, question: str, passages: Sequence[str]) -> None:
        """Queues the question's window, then each passage's, prefixed as the encoder expects."""
        prefixed = [self.ranking.question_prefix + question]
        prefixed += [self.ranking.passage_prefix + passage for passage in passages]
        entries = job.add([passage_window(ids, self.shape) for ids in self._tokenizer.ids(prefixed)])
        job.complete()
        self._line.put(entries)

    def _passage_ids(self, question: str, passages: Sequence[str]) -> list[list[int]]:
        return self._tokenizer.ids([question.lower(), *(passage.lower() for passage in passages)])
