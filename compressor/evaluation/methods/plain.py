"""Baselines without a model: the full text, no text, the first words, random words."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from compressor.evaluation.methods.shapes import Job, ShortText
from compressor.evaluation.methods.words import keep_best_words
from compressor.text.tokens import TokenCounter
from compressor.text.words import Words, split_words

WordScores = Callable[[Words], npt.NDArray[np.float64]]


class Fixed:
    """The full text, or none: the two ends that a report needs."""

    def __init__(self, *, full: bool) -> None:
        self._full = full

    def shorten(self, jobs: Sequence[Job]) -> list[ShortText]:
        return [ShortText(job.context if self._full else "") for job in jobs]


class ScoredWords:
    """Words by a score that needs no model."""

    def __init__(self, score: WordScores, counter: TokenCounter) -> None:
        self._score = score
        self._counter = counter

    def shorten(self, jobs: Sequence[Job]) -> list[ShortText]:
        short = []
        for job in jobs:
            words = split_words(job.context)
            text = keep_best_words(words, self._score(words), job.target_tokens, self._counter)
            short.append(ShortText(text))
        return short


def first_words(words: Words) -> npt.NDArray[np.float64]:
    """The earlier, the better."""
    return -np.arange(len(words), dtype=np.float64)


def random_words(words: Words) -> npt.NDArray[np.float64]:
    """The same draw for the same text, so that a report can be repeated."""
    return np.random.default_rng(zlib.crc32(words.text.encode("utf-8", "replace"))).random(len(words))
