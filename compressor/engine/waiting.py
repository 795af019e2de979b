"""What waits for the model: first come, first served, bounded by tokens."""

from __future__ import annotations

import threading
from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from numpy.typing import NDArray

from compressor.engine.scorer import Task, Window
from compressor.errors import EngineStopped, Overloaded


@dataclass(slots=True, eq=False)
class Job:
    """One call's windows and the future that its caller waits on. Only the worker writes to `parts`."""

    windows: Sequence[Window]
    task: Task
    loop: AbstractEventLoop
    answer: Future[Any]
    parts: list[NDArray[Any] | None] = field(default_factory=list)
    open_windows: int = 0
    queued: float = 0.0  # perf_counter at the time of queueing
    started: float = 0.0
    over: bool = False  # answered, failed or cancelled: its windows are dropped when popped

    def __post_init__(self) -> None:
        self.parts = [None] * len(self.windows)
        self.open_windows = len(self.windows)
        self.queued = perf_counter()


@dataclass(frozen=True, slots=True)
class Entry:
    """One window of a job."""

    job: Job
    index: int

    @property
    def window(self) -> Window:
        return self.job.windows[self.index]


class WaitingLine:
    """The only state that callers and the worker share. Every method is safe from any thread and never waits
    except `take`.
    """

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._entries: deque[Entry] = deque()
        self._tokens = 0  # of entries that wait
        self._announced = 0  # estimated tokens of texts that are being tokenised
        self._stopped: str | None = None
        self._changed = threading.Condition()

    @property
    def tokens(self) -> int:
        """Encoder tokens that wait or are being tokenised."""
        return self._tokens + self._announced

    @property
    def stopped(self) -> str | None:
        """Why nothing is taken any more; None while it runs."""
        return self._stopped

    def announce(self, tokens: int) -> None:
        """Books a text of about this size before it is tokenised; `withdraw` takes it back.

        Raises Overloaded when the line is full. A text that finds the line empty is always let in.
        """
        with self._changed:
            self._require_running()
            if self.tokens and self.tokens + tokens > self._max_tokens:
                raise Overloaded(f"{self.tokens} encoder tokens wait; the bound is {self._max_tokens}")
            self._announced += tokens

    def withdraw(self, tokens: int) -> None:
        """Ends an announcement."""
        with self._changed:
            self._announced -= tokens

    def put(self, job: Job) -> None:
        """Queues every window of a job. Raises EngineStopped."""
        with self._changed:
            self._require_running()
            self._entries.extend(Entry(job, index) for index in range(len(job.windows)))
            self._tokens += sum(window.ids.size for window in job.windows)
            self._changed.notify()

    def take(self, max_tokens: int, *, wait: bool) -> list[Entry] | None:
        """The next entries of one task, at most `max_tokens` of them (but at least one), oldest first.

        Entries of jobs that are over are dropped. With `wait`, blocks until there is something; otherwise an
        empty list says that nothing waits. None: the line has stopped.
        """
        with self._changed:
            while True:
                if self._stopped is not None:
                    return None
                batch = self._pop(max_tokens)
                if batch or not wait:
                    return batch
                self._changed.wait()

    def stop(self, reason: str) -> list[Job]:
        """Refuses everything from now on; returns the jobs that waited. The first reason stays."""
        with self._changed:
            if self._stopped is None:
                self._stopped = reason
            jobs = list({id(entry.job): entry.job for entry in self._entries}.values())
            self._entries.clear()
            self._tokens = 0
            self._changed.notify_all()
            return jobs

    def _pop(self, max_tokens: int) -> list[Entry]:
        batch: list[Entry] = []
        total = 0
        while self._entries:
            entry = self._entries[0]
            size = entry.window.ids.size
            if not entry.job.over:
                if batch and (total + size > max_tokens or entry.job.task != batch[0].job.task):
                    break
                batch.append(entry)
                total += size
            self._entries.popleft()
            self._tokens -= size
        return batch

    def _require_running(self) -> None:
        if self._stopped is not None:
            raise EngineStopped(self._stopped)
