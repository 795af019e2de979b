"""Choosing words by a score under an exact budget, plainly: what the baselines share.

On purpose without the product's units, protection and rounding, so that a baseline is its paper's method.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from compressor.evaluation.searching import largest_within
from compressor.text.tokens import TokenCounter
from compressor.text.words import Words


def join_words(words: Words, kept: npt.NDArray[np.bool_]) -> str:
    """The kept words, one space between them, or one line break where the original broke the line between."""
    parts: list[str] = []
    last_end = -1
    for start, end in zip(words.starts[kept].tolist(), words.ends[kept].tolist(), strict=True):
        if last_end >= 0:
            between = words.text[last_end:start]
            parts.append("\n" if "\n" in between else " " if between else "")
        parts.append(words.text[start:end])
        last_end = end
    return "".join(parts)


def keep_best_words(
    words: Words, scores: npt.NDArray[np.float64], target_tokens: int, counter: TokenCounter
) -> str:
    """As many of the best-scored words as fit into the budget, in their order. Ties: the earlier word first.

    `scores` has one number a word. The number of words is searched, since dropping a word changes how its
    neighbours are tokenised.
    """
    order = np.argsort(-scores, kind="stable")

    def text_of(count: int) -> str:
        kept = np.zeros(len(words), dtype=np.bool_)
        kept[order[:count]] = True
        return join_words(words, kept)

    return text_of(largest_within(target_tokens, len(words), lambda n: counter.count(text_of(n))))


def keep_best_pieces(
    pieces: Sequence[str], scores: Sequence[float], target_tokens: int, counter: TokenCounter
) -> str:
    """Whole pieces (sentences, say) by falling score, each that still fits; joined in their order."""
    kept: set[int] = set()
    room = target_tokens
    sizes = counter.count_many(list(pieces))
    for at in sorted(range(len(pieces)), key=lambda i: (-scores[i], i)):
        if sizes[at] <= room:
            kept.add(at)
            room -= sizes[at]
    return "".join(piece for at, piece in enumerate(pieces) if at in kept).strip()


DOCUMENT_START = re.compile(r"^(?=Document \[\d+\]|Passage \d+:)", re.MULTILINE)
PARAGRAPH_END = re.compile(r"(?<=\n)(?=\S)(?<=\n\n)")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=\S)|(?<=[。！？؟।])\s*(?=\S)|(?<=\n)(?=\S)")


def split_documents(text: str) -> list[str]:
    """Numbered documents where the text has them, else paragraphs. Joined, they are the text."""
    documents = [part for part in DOCUMENT_START.split(text) if part]
    return documents if len(documents) > 1 else [part for part in PARAGRAPH_END.split(text) if part]


def split_sentences(text: str) -> list[str]:
    """Sentences with the white space behind them. Joined, they are the text."""
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    edges = [0, *ends, len(text)]
    return [text[a:b] for a, b in pairwise(edges) if b > a]
