"""How much each passage bears on a question, as one byte a passage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# BM25's usual constants (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009).
_K1, _B = 1.2, 0.75


def rank_by_cosine(
    question: NDArray[np.float32], passages: NDArray[np.float32], lowest: float
) -> NDArray[np.uint8]:
    """Cosines of unit vectors, `lowest`..1 spread over 0..255. `passages` is [passages, hidden].

    What lies below `lowest` is unrelated and gets 0.
    """
    cosines = passages.astype(np.float64) @ question.astype(np.float64)
    return np.rint(255 * np.clip((cosines - lowest) / (1 - lowest), 0, 1)).astype(np.uint8)


def rank_by_words(question: Sequence[int], passages: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    """BM25 over encoder tokens, rare tokens judged by these passages alone; the best passage gets 255.

    For encoders that were not trained to compare texts.
    """
    if not passages:
        return np.zeros(0, np.uint8)
    counts = [Counter(passage) for passage in passages]
    found = Counter(token for count in counts for token in count)
    lengths = np.array([max(1, len(passage)) for passage in passages], np.float64)
    relative = _K1 * (1 - _B + _B * lengths / lengths.mean())
    scores = np.zeros(len(passages), np.float64)
    for token in sorted(set(question) & found.keys()):
        rarity = np.log1p((len(passages) - found[token] + 0.5) / (found[token] + 0.5))
        frequency = np.array([count[token] for count in counts], np.float64)
        scores += rarity * frequency * (_K1 + 1) / (frequency + relative)
    best = scores.max()
    return np.rint(255 * scores / best).astype(np.uint8) if best > 0 else scores.astype(np.uint8)
