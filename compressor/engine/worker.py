"""The one thread that owns the model: takes what waits, runs it, answers everybody."""

from __future__ import annotations

import logging
import threading
from asyncio import AbstractEventLoop
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.engine.scorer import OutOfDeviceMemory, Running, Scorer
from compressor.engine.waiting import Entry, Job, WaitingLine
from compressor.errors import CompressorError, EngineStopped, ScoringFailed

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class WorkerCounts:
    """What the worker has done since it started. Written by the worker alone, read by anyone."""

    texts: int = 0
    tokens: int = 0
    batches: int = 0
    failed_batches: int = 0
    halved_batches: int = 0


class Worker:
    """Starts its thread at once; `stop` ends it. While one batch runs, the next is prepared and launched."""

    def __init__(self, scorer: Scorer, line: WaitingLine, max_batch_tokens: int) -> None:
        self.counts = WorkerCounts()
        self._scorer = scorer
        self._line = line
        self._max_batch_tokens = max_batch_tokens
        self._in_flight: list[Entry] = []
        self._thread = threading.Thread(target=self._run, name="terse-encoder", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stop(self, reason: str) -> None:
        """Fails what waits with EngineStopped, lets the running batch end, frees the device. Blocks."""
        _fail(self._line.stop(reason), EngineStopped(reason))
        self._thread.join()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - the thread ends here; its waiters must hear of it
            _log.exception("the encoder's thread died")
            died = EngineStopped(f"the encoder's thread died: {error!r}")
            _fail([*self._line.stop(str(died)), *(entry.job for entry in self._in_flight)], died)
        finally:
            self._scorer.close()

    def _work(self) -> None:
        running: tuple[list[Entry], Running] | None = None
        while True:
            entries = self._line.take(self._max_batch_tokens, wait=running is None)
            if entries:
                self._in_flight.extend(entries)
            started = self._launch(entries) if entries else None
            if running is not None:
                self._finish(*running)
            running = started
            self._in_flight = list(running[0]) if running else []
            if entries is None and running is None:
                return

    def _launch(self, entries: list[Entry]) -> tuple[list[Entry], Running] | None:
        """Starts a batch; None when it failed at once, its jobs answered."""
        now = perf_counter()
        for entry in entries:
            entry.job.started = entry.job.started or now
        try:
            windows = [entry.window for entry in entries]
            return entries, self._scorer.launch(windows, entries[0].job.task)
        except OutOfDeviceMemory:
            self._halve(entries)
        except Exception as error:  # noqa: BLE001 - whatever a model raises, its waiters must hear of it
            self._fail_batch(entries, error)
        return None

    def _finish(self, entries: list[Entry], running: Running) -> None:
        """Waits for a batch and hands its results out."""
        try:
            parts = _collect(entries, running)
        except OutOfDeviceMemory:
            self._halve(entries)
            return
        except Exception as error:  # noqa: BLE001 - see _launch
            self._fail_batch(entries, error)
            return
        self.counts.batches += 1
        self.counts.tokens += sum(entry.window.ids.size for entry in entries)
        finished: list[tuple[Job, Any]] = []
        for entry, part in zip(entries, parts, strict=True):
            job = entry.job
            if job.over:
                continue
            if part is None:
                finished.append((job, ScoringFailed("the model gave scores that are not numbers")))
                job.over = True
                continue
            if job.deliver(entry.index, part):
                finished.append((job, job.parts))
                self.counts.texts += 1
        answer(finished)

    def _halve(self, entries: list[Entry]) -> None:
        """Runs the two halves of a batch that did not fit, and makes batches that size no more."""
        if len(entries) == 1:
            self._fail_batch(entries, ScoringFailed("out of memory at batch size one"))
            return
        self.counts.halved_batches += 1
        tokens = sum(entry.window.ids.size for entry in entries)
        self._max_batch_tokens = min(self._max_batch_tokens, max(1, tokens // 2))
        _log.warning("out of device memory at %d tokens; batches are now %d", tokens, self._max_batch_tokens)
        middle = len(entries) // 2
        for half in (entries[:middle], entries[middle:]):
            started = self._launch(half)
            if started is not None:
                self._finish(*started)

    def _fail_batch(self, entries: list[Entry], error: Exception) -> None:
        self.counts.failed_batches += 1
        if not isinstance(error, ScoringFailed):
            _log.error("a batch failed", exc_info=error)
            error = ScoringFailed(f"the model failed: {error}")
        _fail([entry.job for entry in entries], error)


def _collect(entries: Sequence[Entry], running: Running) -> list[NDArray[Any] | None]:
    """Each entry's part of a batch's result; None where the model gave NaN."""
    if entries[0].job.task == "embed":
        return [vector if np.isfinite(vector).all() else None for vector in running.embeddings()]
    scored = running.scores()
    ends = np.cumsum([entry.window.words for entry in entries])
    parts = np.split(scored.values, ends[:-1])
    return [None if bad else part for part, bad in zip(parts, scored.failed.tolist(), strict=True)]


def _fail(jobs: Sequence[Job], error: CompressorError) -> None:
    finished: list[tuple[Job, Any]] = []
    for job in jobs:
        if not job.over:
            job.over = True
            finished.append((job, type(error)(str(error))))  # one exception each: tracebacks grow on them
    answer(finished)


def answer(finished: Sequence[tuple[Job, Any]]) -> None:
    """Sets futures on their own loops: one call a loop, however many jobs ended."""
    by_loop: dict[AbstractEventLoop, list[tuple[Job, Any]]] = {}
    for job, result in finished:
        by_loop.setdefault(job.loop, []).append((job, result))
    for loop, answers in by_loop.items():
        try:
            loop.call_soon_threadsafe(_set_answers, answers)
        except RuntimeError:
            _log.debug("a caller's event loop has closed before its answer")


def _set_answers(answers: Sequence[tuple[Job, Any]]) -> None:
    for job, result in answers:
        if job.answer.done():
            continue
        if isinstance(result, Exception):
            job.answer.set_exception(result)
        else:
            job.answer.set_result(result)
