"""A process that shortens texts and leaves the model to the one that started it.

It inherits two sockets: texts and results go over the first, windows and scores over the second. It ends when
the first is closed, so an owner that was killed leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from compressor.compress import Compressor
from compressor.engine.engine import Engine, EngineLimits, Ranking
from compressor.engine.windows import WindowShape
from compressor.errors import CompressorError, ScoringFailed
from compressor.event_loop import LoopThread
from compressor.options import CompressOptions, check_text
from compressor.processes.piped import PipedScorer
from compressor.shapes import Shortened


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker has to know to cut a text into the windows that its owner's engine would cut."""

    model: str
    tokenizer: str  # that counts, unless a call names another
    shape: WindowShape
    limits: EngineLimits
    ranking: Ranking
    fingerprint: str
    device: str


@dataclass(frozen=True, slots=True)
class Task:
    """Some texts, one after the other of a call."""

    first: int  # the number of the first
    texts: Sequence[str]
    options: CompressOptions


def open_piped(setup: Setup, windows: Connection) -> Compressor:
    """A compressor with its own tokenizer and the owner's model."""
    from compressor.model.description import describe_model
    from compressor.model.loading import find_folder, load_tokenizer

    tokenizer = load_tokenizer(describe_model(find_folder(setup.model)))
    scorer = PipedScorer(windows, setup.fingerprint, setup.device)
    engine = Engine(scorer, tokenizer, setup.shape, setup.limits, setup.ranking)
    return Compressor(engine, tokenizer=setup.tokenizer)


def serve(texts: Connection, windows: Connection) -> None:
    """Answers each task with its number and a result or an error for each text, until the socket closes."""
    compressor = open_piped(texts.recv(), windows)
    loop = LoopThread()

    async def one(text: str, options: CompressOptions) -> Shortened | Exception:
        try:
            check_text(text)
            return await compressor.acompress(text, **options)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller must hear of it
            return _sendable(error)

    async def answer(task: Task) -> None:
        texts.send((task.first, await asyncio.gather(*(one(text, task.options) for text in task.texts))))

    while True:
        try:
            task = texts.recv()
        except (EOFError, OSError):
            return
        loop.start(answer(task))


def _sendable(error: Exception) -> Exception:
    """The error, or one that says the same and survives the way."""
    if isinstance(error, CompressorError):
        return error
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - pickling runs any code
        return ScoringFailed(f"{type(error).__name__}: {error}")
    return error


def main(texts: int, windows: int) -> None:
    """Serves on two sockets by their numbers, and leaves at once: nothing here needs an orderly end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, who then closes the sockets
    serve(Connection(texts), Connection(windows))
    os._exit(0)
