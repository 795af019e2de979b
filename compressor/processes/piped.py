"""Windows on their way to the process that owns the model, and their scores on the way back.

Both travel as raw arrays through a pipe: 10k tokens are some 120 kB there and 10 kB back, a tenth of a
millisecond, so that shared memory would win nothing.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.engine.scorer import Running, Scored, Task, Window
from compressor.errors import CompressorError, EngineStopped

_TASKS: tuple[Task, ...] = ("score", "embed")
_HEAD = 3  # number of the batch, its task, how many windows
_COLUMNS = 4  # of each window: tokens, pairs, first word, words


def pack_windows(number: int, windows: Sequence[Window], task: Task) -> NDArray[np.int32]:
    """A batch as one array."""
    head = np.array([number, _TASKS.index(task), len(windows)], np.int32)
    table = [(one.ids.size, one.pair_tokens.size, one.first_word, one.words) for one in windows]
    return np.concatenate(
        [
            head,
            np.array(table, np.int32).ravel(),
            *(one.ids for one in windows),
            *(one.pair_tokens for one in windows),
            *(one.pair_words for one in windows),
        ]
    )


def unpack_windows(message: bytes) -> tuple[int, list[Window], Task]:
    """What `pack_windows` packed; the windows are views of the message."""
    values = np.frombuffer(message, np.int32)
    number, task, count = values[:_HEAD].tolist()
    body = _HEAD + _COLUMNS * count
    table = values[_HEAD:body].reshape(count, _COLUMNS)
    sizes = np.concatenate([table[:, 0], table[:, 1], table[:, 1]])
    ends = [body, *(body + np.cumsum(sizes)).tolist()]
    parts = [values[start:end] for start, end in pairwise(ends)]
    windows = [
        Window(ids, tokens, words, first, judged)
        for ids, tokens, words, (first, judged) in zip(
            parts[:count],
            parts[count : 2 * count],
            parts[2 * count :],
            table[:, 2:].tolist(),
            strict=True,
        )
    ]
    return number, windows, _TASKS[task]


def pack_reply(number: int, result: NDArray[Any] | CompressorError) -> bytes:
    """The scores or vectors of a batch, or why there are none."""
    return pickle.dumps((number, result), pickle.HIGHEST_PROTOCOL)


class PipedScorer:
    """A `Scorer` whose model is another process's. Only one thread may call it, as the engine's does."""

    def __init__(self, connection: Connection, fingerprint: str, device: str) -> None:
        self.fingerprint = fingerprint
        self.device = device
        self._connection = connection
        self._sent = 0
        self._replies: dict[int, NDArray[Any] | CompressorError] = {}

    def launch(self, windows: Sequence[Window], task: Task) -> Running:
        """Sends the batch."""
        number, self._sent = self._sent, self._sent + 1
        try:
            self._connection.send_bytes(pack_windows(number, windows, task).data)
        except OSError:
            raise EngineStopped("the process that owns the model has ended") from None
        return PipedBatch(self, number, len(windows))

    def wait(self, number: int) -> NDArray[Any]:
        """The reply to a batch. Raises what its owner raised."""
        while number not in self._replies:
            try:
                other, result = pickle.loads(self._connection.recv_bytes())
            except (EOFError, OSError):
                raise EngineStopped("the process that owns the model has ended") from None
            self._replies[other] = result
        found = self._replies.pop(number)
        if isinstance(found, CompressorError):
            raise found
        return found

    def close(self) -> None:
        """Tells the other side that nothing more comes."""
        self._connection.close()


@dataclass(frozen=True, slots=True)
class PipedBatch:
    """A batch that the model's process works on."""

    scorer: PipedScorer
    number: int
    windows: int

    def scores(self) -> Scored:
        """Waits for them."""
        return Scored(self.scorer.wait(self.number), np.zeros(self.windows, np.bool_))

    def embeddings(self) -> NDArray[np.float32]:
        """One unit vector a window."""
        return self.scorer.wait(self.number)
