"""An engine without a model: scores are a hash of each word. For tests, demos and dry runs; no torch."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compressor.engine.protocol import EngineHealth
from compressor.errors import CompressorError, EngineStopped, InvalidText
from compressor.shapes import ScoreTimings, WordScores
from compressor.text.words import split_words


class FakeEngine:
    """A `ScoringEngine` whose scores depend on nothing but each word's letters.

    `delay` is how long a call takes, in seconds; `error`, when set, is raised by every call; both may be
    changed between calls. `scored` lists the texts that were scored, in order.
    """

    def __init__(
        self, *, fingerprint: str = "fake", delay: float = 0.0, error: CompressorError | None = None
    ) -> None:
        self.fingerprint = fingerprint
        self.device = "cpu"
        self.delay = delay
        self.error = error
        self.scored: list[str] = []
        self._closed = False

    async def score(self, text: str) -> WordScores:
        """Scores of `text`, the same for the same word everywhere."""
        await self._work()
        _require_unicode(text)
        self.scored.append(text)
        words = split_words(text)
        spans = zip(words.starts.tolist(), words.ends.tolist(), strict=True)
        values = np.fromiter((_byte(text[start:end]) for start, end in spans), np.uint8, len(words))
        return WordScores(values, self.fingerprint, ScoreTimings(0.0, self.delay * 1000))

    async def rank(self, question: str, passages: Sequence[str]) -> NDArray[np.uint8]:
        """The share of the question's words that each passage has, 0..255."""
        await self._work()
        asked = set(question.lower().split())
        shares = [len(asked & set(passage.lower().split())) / max(1, len(asked)) for passage in passages]
        return np.rint(np.array(shares, np.float64) * 255).astype(np.uint8)

    def health(self) -> EngineHealth:
        """Ready until closed or told to fail."""
        if self._closed:
            return EngineHealth(False, "the engine is closed", device=self.device)
        detail = "ok" if self.error is None else str(self.error)
        return EngineHealth(self.error is None, detail, device=self.device, scored_texts=len(self.scored))

    async def close(self) -> None:
        """Calls made from now on raise EngineStopped."""
        self._closed = True

    async def _work(self) -> None:
        if self._closed:
            raise EngineStopped("the engine is closed")
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.error is not None:
            raise self.error


def _byte(word: str) -> int:
    return zlib.crc32(word.lower().encode()) & 0xFF


def _require_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidText(f"unpaired surrogate at character {error.start}") from None
