"""What waits for the model: first come, first served, bounded by tokens."""

from __future__ import annotations

import threading
from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from compressor.engine.scorer import Task, Window
from compressor.errors import EngineStopped, Overloaded


class Job:
    """One call's windows, which may still be coming, and the future that its caller waits on."""

    def __init__(self, task: Task, loop: AbstractEventLoop) -> None:
        self.task = task
        self.loop = loop
        self.answer: Future[list[NDArray[Any]]] = loop.create_future()
        self.windows: list[Window] = []
        self.started = 0.0  # perf_counter when its first window went to the device
        self.over = False  # answered, failed or cancelled: its windows are dropped when popped
        self._parts: list[NDArray[Any] | None] = []
        self._open = 0
        self._complete = False
        self._lock = threading.Lock()

    def add(self, windows: Sequence[Window]) -> list[Entry]:
        """More windows, as entries for the line."""
        with self._lock:
            first = len(self.windows)
            self.windows.extend(windows)
            self._parts.extend([None] * len(windows))
            self._open += len(windows)
            return [Entry(self, first + index) for index in range(len(windows))]

    def complete(self) -> bool:
        """No more windows will come. True when that ends the job."""
        with self._lock:
            self._complete = True
            return self._ends()

    def deliver(self, index: int, part: NDArray[Any]) -> bool:
        """The result of one window. True when it is the last."""
        with self._lock:
            self._parts[index] = part
            self._open -= 1
            return self._ends()

    @property
    def parts(self) -> list[NDArray[Any]]:
        """Every window's result, in order."""
        return [part for part in self._parts if part is not None]

    def _ends(self) -> bool:
        if self._complete and not self._open and not self.over:
            self.over = True
            return True
        return False


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

    def put(self, entries: Sequence[Entry]) -> None:
        """Queues windows. Raises EngineStopped."""
        with self._changed:
            self._require_running()
            self._entries.extend(entries)
            self._tokens += sum(entry.window.ids.size for entry in entries)
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
