"""Worker processes around one engine: they do the work on texts, it scores their windows."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from numpy.typing import NDArray

from compressor.engine.engine import Engine
from compressor.errors import CompressorError, EngineStopped, ScoringFailed
from compressor.event_loop import LoopThread
from compressor.options import CompressOptions
from compressor.processes.piped import pack_reply, unpack_windows
from compressor.processes.worker import Setup, Task
from compressor.shapes import Shortened

# While one text of a worker waits for its scores, another is tokenised and a third is put together.
TEXTS_AT_ONCE = 3  # or groups of short ones
GROUP_CHARACTERS = 16_384
# Windows of one message: far below a socket's buffer, so that nobody waits long for its place in the line.
_BATCH_TOKENS = 16_384
_SECONDS_TO_END = 5.0


@dataclass(slots=True)
class _Process:
    """One worker, the sockets to it, and the texts that it has."""

    process: subprocess.Popen[bytes]
    texts: Connection
    windows: Connection
    at_work: set[int] = field(default_factory=set)  # by the number of each group's first text


class ProcessPool:
    """Starts its workers at once; they need a second until they answer. One `shorten` runs at a time.

    After a worker's death or an interrupt the pool is closed, and what it had is answered with EngineStopped.
    """

    def __init__(self, engine: Engine, model: str, tokenizer: str, processes: int, loop: LoopThread) -> None:
        self.size = processes
        self.closed = False
        self._engine = engine
        self._loop = loop
        self._calls = threading.Lock()
        limits = replace(
            engine.limits,
            max_batch_tokens=min(engine.limits.max_batch_tokens, _BATCH_TOKENS),
            max_waiting_tokens=sys.maxsize,  # bounded by what is handed out
        )
        setup = Setup(
            model, tokenizer, engine.shape, limits, engine.ranking, engine.fingerprint, engine.device
        )
        self._processes: list[_Process] = []
        try:
            for _ in range(processes):
                self._processes.append(_started(setup))
        except BaseException:
            self.close()
            raise
        self._reader = threading.Thread(target=self._read_windows, name="terse-windows", daemon=True)
        self._reader.start()

    def shorten(self, texts: Sequence[str], options: CompressOptions) -> list[Shortened]:
        """One result a text, in order. Raises the first text's error, once the texts at work have ended."""
        with self._calls:
            if self.closed:
                raise EngineStopped("the worker processes have ended")
            try:
                results = self._shorten(texts, options)
            except BaseException:
                self.close()
                raise
        if errors := [result for result in results if isinstance(result, Exception)]:
            raise errors[0]
        return results

    def close(self) -> None:
        """Ends the workers: they leave when their sockets close, and are killed if they do not."""
        self.closed = True
        for one in self._processes:
            one.texts.close()
        for one in self._processes:
            try:
                one.process.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()
        # The reader ends by itself: every worker's side of its sockets is closed by now.

    def _shorten(self, texts: Sequence[str], options: CompressOptions) -> list[Any]:
        """Hands texts out as workers get free, until all are done or one has failed."""
        results: list[Any] = [None] * len(texts)
        tasks = deque(Task(start, texts[start:end], options) for start, end in _groups(texts))
        while True:
            # The emptiest worker first, so that a few texts do not queue up in one.
            for depth in range(TEXTS_AT_ONCE):
                for one in self._processes:
                    if tasks and len(one.at_work) == depth:
                        _hand_out(one, tasks.popleft())
            busy: dict[Any, _Process] = {one.texts: one for one in self._processes if one.at_work}
            if not busy:
                return results
            for socket in wait(list(busy)):
                first, found = _results(busy[socket])
                busy[socket].at_work.discard(first)
                results[first : first + len(found)] = found
                if any(isinstance(one, Exception) for one in found):
                    tasks.clear()

    def _read_windows(self) -> None:
        """Puts the workers' windows into the engine's line, until no worker is left."""
        sockets = [one.windows for one in self._processes]
        while sockets:
            for socket in wait(sockets):
                assert isinstance(socket, Connection)
                try:
                    message = socket.recv_bytes()
                except (EOFError, OSError):
                    sockets.remove(socket)
                    socket.close()
                    continue
                self._loop.start(self._answer(socket, message))

    async def _answer(self, socket: Connection, message: bytes) -> None:
        number, windows, task = unpack_windows(message)
        result: NDArray[Any] | CompressorError
        try:
            result = await self._engine.run_windows(windows, task)
        except CompressorError as error:
            result = error
        except Exception as error:  # noqa: BLE001 - the worker's text waits for an answer of some kind
            result = ScoringFailed(f"{type(error).__name__}: {error}")
        try:
            socket.send_bytes(pack_reply(number, result))
        except OSError:
            return  # the worker has ended; `shorten` says so


def _groups(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Long texts alone, short ones together: a message costs as much as a hundred tokens."""
    start = size = 0
    for end, text in enumerate(texts):
        length = len(text) if isinstance(text, str) else 0
        if end > start and size + length > GROUP_CHARACTERS:
            yield start, end
            start, size = end, 0
        size += length
    if start < len(texts):
        yield start, len(texts)


def _hand_out(one: _Process, task: Task) -> None:
    try:
        one.texts.send(task)
    except OSError:
        raise _died(one) from None
    one.at_work.add(task.first)


def _results(one: _Process) -> tuple[int, list[Shortened | Exception]]:
    try:
        found: tuple[int, list[Shortened | Exception]] = one.texts.recv()
    except (EOFError, OSError):
        raise _died(one) from None
    return found


def _started(setup: Setup) -> _Process:
    """A worker process, which imports what this one would import.

    A plain child and not multiprocessing's: that would run the caller's main module again.
    """
    texts, their_texts = Pipe()
    windows, their_windows = Pipe()
    theirs = (their_texts.fileno(), their_windows.fileno())
    program = (
        f"import sys; sys.path[:] = {sys.path!r}; "
        f"from compressor.processes.worker import main; main({theirs[0]}, {theirs[1]})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], pass_fds=theirs, stdin=subprocess.DEVNULL, env=_environment()
    )
    their_texts.close()
    their_windows.close()
    texts.send(setup)
    return _Process(process, texts, windows)


def _environment() -> Mapping[str, str]:
    """One thread a worker: the processes are what runs side by side."""
    return {**os.environ, "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}  # noqa: TID251 - handed on


def _died(one: _Process) -> EngineStopped:
    code = one.process.wait()
    return EngineStopped(f"a worker process ended with exit code {code}")
