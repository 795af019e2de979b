"""What the engine asks of a model: windows of token ids in, one byte a word out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Task = Literal["score", "embed"]

# Probabilities are summed as whole numbers of 2^-24 (float32's own precision), because whole-number sums do
# not depend on the order of adding: the same words get the same bytes in any batch, on any device.
FIXED_POINT = 1 << 24


class OutOfDeviceMemory(Exception):
    """The batch does not fit the device; the worker halves it."""


@dataclass(frozen=True, slots=True)
class Window:
    """One stretch of encoder tokens that see each other, and the words that it judges.

    Pair k says that token `pair_tokens[k]` of the window belongs to word `pair_words[k]` of its words; a
    word's score is the mean over its pairs. Tokens without a pair are context only.
    """

    ids: NDArray[np.int32]  # [tokens], special tokens included
    pair_tokens: NDArray[np.int32]  # [pairs]
    pair_words: NDArray[np.int32]  # [pairs], 0..words-1
    first_word: int  # of the text
    words: int


@dataclass(frozen=True, slots=True)
class Scored:
    """One batch's scores, windows in order."""

    values: NDArray[np.uint8]  # [words of all windows]
    failed: NDArray[np.bool_]  # [windows]; the model gave NaN there


class Running(Protocol):
    """A batch that the device works on."""

    def scores(self) -> Scored:
        """Waits for a "score" batch. Raises OutOfDeviceMemory, or whatever the model raised."""

    def embeddings(self) -> NDArray[np.float32]:
        """Waits for an "embed" batch: one unit vector a window, [windows, hidden]; NaN where it failed."""


class Scorer(Protocol):
    """A model on a device. Only the engine's worker thread calls it."""

    fingerprint: str
    device: str

    def launch(self, windows: Sequence[Window], task: Task) -> Running:
        """Starts a batch and returns before it is done, where the device allows."""

    def close(self) -> None:
        """Frees the device."""


def pool_words(probabilities: NDArray[np.float32], windows: Sequence[Window]) -> Scored:
    """Means over words, on the host. `probabilities` is [tokens of all windows], windows in order."""
    pairs, words, bounds = pool_plan(windows)
    count = int(bounds[-1])
    finite = np.isfinite(probabilities)
    fixed = np.rint(np.where(finite, probabilities, 0.0).astype(np.float64) * FIXED_POINT)
    sums = np.bincount(words, weights=fixed[pairs], minlength=count)
    sizes = np.bincount(words, minlength=count)
    values = np.rint(255.0 * sums / (FIXED_POINT * np.maximum(sizes, 1))).astype(np.uint8)
    starts = np.cumsum([0] + [window.ids.size for window in windows])[:-1]
    failed = ~np.logical_and.reduceat(finite, starts) if windows else np.zeros(0, np.bool_)
    return Scored(values, failed)


def pool_plan(
    windows: Sequence[Window],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of all windows against the batch: token positions, word slots, and each window's first slot.

    The last entry of the third array is the number of word slots.
    """
    token_starts = np.cumsum([0] + [window.ids.size for window in windows])
    word_starts = np.cumsum([0] + [window.words for window in windows])
    if not windows:
        empty = np.zeros(0, np.int64)
        return empty, empty, word_starts.astype(np.int64)
    sizes = [window.pair_tokens.size for window in windows]
    pairs = np.concatenate([window.pair_tokens for window in windows]) + np.repeat(token_starts[:-1], sizes)
    words = np.concatenate([window.pair_words for window in windows]) + np.repeat(word_starts[:-1], sizes)
    return pairs.astype(np.int64), words.astype(np.int64), word_starts.astype(np.int64)
