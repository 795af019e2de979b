"""A tokenised text as windows: stretches that fit the encoder, overlapping, cut at sentence and line ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compressor.engine.scorer import Window
from compressor.engine.tokenizing import TokenizedText, code_points
from compressor.errors import ModelLoadFailed
from compressor.text.words import Words

_SENTENCE_ENDS = np.array([ord(c) for c in ".!?…。！？；;।؟।"], np.uint32)
_CLOSERS = np.array([ord(c) for c in "\"')]}»”’」』"], np.uint32)
_NEWLINE = 10
_FULLWIDTH_ENDS = np.array([ord(c) for c in "。！？；"], np.uint32)  # no space follows these


@dataclass(frozen=True, slots=True)
class WindowShape:
    """How one model's windows are cut; all in encoder tokens."""

    tokens: int  # in all, special tokens included
    margin: int  # context on each inner side whose words another window judges
    prefix: tuple[int, ...]  # special tokens
    suffix: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.room < 4 * self.margin or self.room < 8:
            raise ModelLoadFailed(
                f"windows of {self.tokens} tokens are too short for margins of {self.margin}"
            )

    @property
    def room(self) -> int:
        """Text tokens of one window."""
        return self.tokens - len(self.prefix) - len(self.suffix)


def plan_windows(text: str, words: Words, tokens: TokenizedText, shape: WindowShape) -> list[Window]:
    """Windows that judge every word with a token exactly once, in order.

    A window's own words end at a line or sentence end where one lies in its last third, else at a word's
    end; beyond them it sees `margin` more tokens on each side. The plan depends on the text alone.
    """
    count = tokens.ids.size
    if not len(words) or not count:
        return []
    first, last = token_words(words, tokens)
    breaks = break_strengths(text, tokens, first, last)
    windows, start = [], 0
    while start < count:
        before = max(0, start - shape.margin)
        reach = before + shape.room
        end = count if reach >= count else _choose_end(breaks, start, reach - shape.margin)
        after = min(count, end + shape.margin)
        if window := _window(tokens, (first, last), (before, start, end, after), shape):
            windows.append(window)
        start = _next_start(first, last, end, count)
    return windows


def token_words(words: Words, tokens: TokenizedText) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and last word that each token overlaps, [tokens]; last < first for a token of no word."""
    first = np.searchsorted(words.ends, tokens.starts, side="right")
    last = np.searchsorted(words.starts, tokens.ends, side="left") - 1
    return first, last


def break_strengths(
    text: str, tokens: TokenizedText, first: NDArray[np.int64], last: NDArray[np.int64]
) -> NDArray[np.int8]:
    """What ends before each token, [tokens]: 0 nothing, 1 a word, 2 a sentence, 3 a line."""
    codes = code_points(text)
    newline = codes == _NEWLINE
    strengths = np.zeros(tokens.ids.size, np.int8)
    seen = np.maximum.accumulate(last)
    new_word = np.flatnonzero(first[1:] > seen[:-1]) + 1
    strengths[new_word] = 1
    # The gap before a token runs from the end of the token before it to its own first letter.
    gap_start, gap_end = tokens.ends[new_word - 1], np.minimum(tokens.starts[new_word] + 1, codes.size)
    closing = np.isin(codes, _CLOSERS)
    solid = np.where(closing, 0, np.arange(1, codes.size + 1))
    before = np.maximum.accumulate(solid)[np.maximum(gap_start - 1, 0)] - 1  # last letter that closes nothing
    at = codes[np.maximum(before, 0)]
    spaced = _is_space(codes[np.minimum(gap_start, codes.size - 1)])
    sentence = np.isin(at, _FULLWIDTH_ENDS) | (np.isin(at, _SENTENCE_ENDS) & spaced)
    strengths[new_word[sentence]] = 2
    lines = np.concatenate(([0], np.cumsum(newline)))
    strengths[new_word[lines[gap_end] > lines[gap_start]]] = 3
    return strengths


def passage_window(ids: Sequence[int], shape: WindowShape) -> Window:
    """One window for a passage that is embedded whole; what does not fit is left out."""
    inner = [*shape.prefix, *ids[: shape.room], *shape.suffix]
    none = np.zeros(0, np.int32)
    return Window(np.array(inner, np.int32), none, none, 0, 0)


def _is_space(codes: NDArray[np.uint32]) -> NDArray[np.bool_]:
    spaces: NDArray[np.bool_] = (codes <= 32) | (codes == 0xA0) | (codes == 0x3000)
    return spaces


def _choose_end(breaks: NDArray[np.int8], start: int, limit: int) -> int:
    """The strongest, then latest, cut in the last third of [start, limit]; any word's end; else the limit."""
    middle = start + max(1, (limit - start) * 2 // 3)
    late = breaks[middle : limit + 1]
    best = int(late.max())
    if best:
        return middle + int(np.flatnonzero(late == best)[-1])
    early = np.flatnonzero(breaks[start + 1 : middle])
    return start + 1 + int(early[-1]) if early.size else limit


def _next_start(first: NDArray[np.int64], last: NDArray[np.int64], end: int, count: int) -> int:
    """The first token whose words are all unjudged: a word that was cut is judged by its beginning."""
    if end >= count:
        return count
    judged = int(last[:end].max())
    fresh = np.flatnonzero(first[end:] > judged)
    return end + int(fresh[0]) if fresh.size else count


def _window(
    tokens: TokenizedText,
    owners: tuple[NDArray[np.int64], NDArray[np.int64]],
    bounds: tuple[int, int, int, int],
    shape: WindowShape,
) -> Window | None:
    """The window over tokens [before, after) that judges the words of [start, end); None without any."""
    before, start, end, after = bounds
    first, last = owners[0][start:end], owners[1][start:end]
    overlap = np.maximum(last - first + 1, 0)
    total = int(overlap.sum())
    if not total:
        return None
    token = np.repeat(np.arange(start, end), overlap)
    step = np.arange(total) - np.repeat(np.cumsum(overlap) - overlap, overlap)
    word = np.repeat(first, overlap) + step
    low = int(word.min())
    ids = np.concatenate([shape.prefix, tokens.ids[before:after], shape.suffix]).astype(np.int32)
    pair_tokens = (token - before + len(shape.prefix)).astype(np.int32)
    return Window(ids, pair_tokens, (word - low).astype(np.int32), low, int(word.max()) - low + 1)
