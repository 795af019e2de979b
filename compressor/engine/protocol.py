"""What every scoring engine offers: the embedded one, the one behind a socket, and the fake of the tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from compressor.shapes import WordScores


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """Whether scoring works now, and how much waits."""

    ready: bool
    detail: str  # "ok", or what is wrong
    waiting_tokens: int = 0  # tokens of the encoder
    device: str = ""
    scored_texts: int = 0
    scored_tokens: int = 0
    batches: int = 0


class ScoringEngine(Protocol):
    """Scores texts. Safe to call from many coroutines of one event loop."""

    @property
    def fingerprint(self) -> str:
        """Names weights, tokenizer and windowing: equal fingerprints give equal scores."""

    @property
    def device(self) -> str:
        """`cpu`, `cuda:0`, or the address of a remote fleet."""

    async def score(self, text: str) -> WordScores:
        """One byte a word of `split_words(text)`. Cancelling the call drops the work if it still waits.

        Raises Overloaded at once when too much waits; EngineStopped; InvalidText; ScoringFailed.
        """

    async def rank(self, question: str, passages: Sequence[str]) -> NDArray[np.uint8]:
        """How much each passage bears on the question, shape [passages], 0..255. Raises as `score` does."""

    def health(self) -> EngineHealth:
        """Never blocks."""

    async def close(self) -> None:
        """Fails what waits with EngineStopped and frees the device."""
