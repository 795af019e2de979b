"""From pieces and their probabilities to llmlingua's words, and from words to the ones that stay."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compressor.compat.options import LLMLinguaOptions
from compressor.compat.pieces import PieceRules
from compressor.errors import InvalidBudget

# A NumPy float32 from the model or a Python float from a rule. The mix matters: NumPy picks the precision of
# a percentile from it, and the words are only the same when the precision is.
Probability = float | np.float32
CountTokens = Callable[[str], int]
DIGIT = re.compile(r"\d")
PLAIN_WORDS = re.compile(
    r'\b\w+\b|[<>=/!@#$%^&*()?":{}|\\`~;_+-]'
)  # llmlingua's split when nothing is dropped


@dataclass(frozen=True, slots=True)
class ScoredChunk:
    """One chunk after the encoder: its pieces, special ones included, and P(keep) of each."""

    pieces: tuple[str, ...]
    probabilities: npt.NDArray[np.float32]  # shape [pieces]


@dataclass(frozen=True, slots=True)
class ChunkWords:
    """The words of one chunk, in order."""

    words: list[str]
    probabilities: list[Probability]  # force rules applied
    unforced: list[Probability]  # for the context-level filter


def pool(scores: Sequence[Probability], how: str) -> Probability:
    """A word's probability from its pieces': their mean, or the first."""
    return scores[0] if how == "first" else sum(scores) / len(scores)


def merge_pieces(chunk: ScoredChunk, rules: PieceRules, options: LLMLinguaOptions) -> ChunkWords:
    """Joins pieces into words the way llmlingua does, specials dropped.

    A forced or digit piece inside a longer word gets 1.0 before the mean, so the word may still go. The
    unforced probability of a continuation is the first piece's, llmlingua's stale variable.
    """
    words: list[str] = []
    scores: list[list[Probability]] = []
    unforced: list[list[Probability]] = []
    for piece, probability in zip(chunk.pieces, chunk.probabilities, strict=True):
        if piece in rules.special:
            continue
        begins = rules.begins_word(piece)
        score: Probability = probability
        if begins and rules.is_forced(piece):
            score = 1.0
        shown = rules.reveal(piece) if begins else piece
        if options.force_reserve_digit and DIGIT.search(shown):
            score = 1.0
        # llmlingua raises IndexError when the first piece is a continuation; here it begins a word.
        if begins or not words:
            words.append(shown)
            scores.append([score])
            unforced.append([probability])
        else:
            words[-1] += rules.bare(piece)
            scores[-1].append(score)
            unforced[-1].append(unforced[-1][0])
    how = options.token_to_word
    return ChunkWords(words, [pool(s, how) for s in scores], [pool(s, how) for s in unforced])


def silence_repeats(found: ChunkWords, force: Sequence[str], reduce_rate: float) -> list[Probability]:
    """`drop_consecutive`: a force token that follows itself with no likely word between gets 0."""
    scores = list(found.probabilities)
    threshold = np.percentile(np.array(scores), int(100 * reduce_rate))
    between, previous = False, None
    for at, word in enumerate(found.words):
        if word not in force:
            between |= bool(scores[at] > threshold)
            continue
        if between:
            between = False
        elif word == previous:
            scores[at] = 0.0
        previous = word
    return scores


def choose_words(
    found: ChunkWords, options: LLMLinguaOptions, reduce_rate: float, count: CountTokens
) -> list[int]:
    """1 for each word of the chunk that stays, 0 for the others.

    The threshold is a whole percentile over the chunk's words, each as often as it has cl100k tokens; a word
    stays when it is strictly above it. Raises InvalidBudget where llmlingua's percentile lies beyond 100.
    """
    percentile = int(100 * reduce_rate + 1)
    if percentile > 100:
        raise InvalidBudget(
            f"compat=llmlingua cannot keep a share of {1 - reduce_rate:g}: rate must be above 0"
        )
    scores = found.probabilities
    if options.drop_consecutive and scores:
        scores = silence_repeats(found, options.force_tokens, reduce_rate)
    weighted = [p for word, p in zip(found.words, scores, strict=True) for _ in range(count(word))]
    if not weighted:
        return [0] * len(found.words)  # llmlingua raises IndexError
    threshold = np.percentile(np.array(weighted), percentile)
    labels: list[int] = []
    last_kept: str | None = None
    for word, score in zip(found.words, scores, strict=True):
        stays = bool(score > threshold) or (bool(threshold == 1.0) and bool(score == threshold))
        if stays and options.drop_consecutive and word in options.force_tokens and word == last_kept:
            stays = False
        if stays:
            last_kept = word
        labels.append(int(stays))
    return labels
