"""A tokenised text as windows: stretches that fit the encoder, overlapping, cut at sentence and line ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compressor.engine.scorer import Window
from compressor.engine.tokenizing import TokenizedText
from compressor.errors import ModelLoadFailed
from compressor.text.characters import Char
from compressor.text.tallies import running_count
from compressor.text.words import Words

_NEWLINE = 10
_SPACE, _CLOSER, _SENTENCE_END, _FULLWIDTH_END = 1, 2, 3, 4
_KIND_OF = np.zeros(65536, np.uint8)  # by character; the last entry stands for everything beyond
_KIND_OF[[*range(33), 0xA0, 0x3000]] = _SPACE
_KIND_OF[[ord(c) for c in "\"')]}»”’」』"]] = _CLOSER
_KIND_OF[[ord(c) for c in ".!?…;؛؟।"]] = _SENTENCE_END
_KIND_OF[[ord(c) for c in "。！？；"]] = _FULLWIDTH_END  # no space follows these
_MOST_CLOSERS = 3  # brackets and quotes between a full stop and the space
_SIGNS = np.zeros(Char.COUNT, bool)  # by class of character
_SIGNS[[Char.SPACE, Char.OPEN, Char.CLOSE, Char.COMMA, Char.DASH, Char.PIPE, Char.LEFT, Char.TRAIL]] = True


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


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Which words every token overlaps, as pairs in the tokens' order."""

    token: NDArray[np.int32]  # [pairs]
    word: NDArray[np.int32]  # [pairs]
    bounds: NDArray[np.int64]  # [tokens + 1], where each token's pairs start

    def of(self, start: int, end: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Tokens and words of the pairs of tokens [start, end)."""
        pairs = slice(self.bounds[start], self.bounds[end])
        return self.token[pairs], self.word[pairs]


@dataclass(frozen=True, slots=True)
class _Overlaps:
    """All pairs, and those whose tokens judge their words in a window that holds the words whole."""

    all: _Pairs
    judging: _Pairs
    signs: NDArray[np.bool_]  # [tokens], whether a token is signs alone
    whole: NDArray[np.bool_]  # [tokens + 1], whether no word has tokens on both sides of the place


class WindowPlanner:
    """Cuts a text into windows while it is still being tokenised; the windows are those of the whole text.

    They judge every word with a token exactly once, in order. A window's own words end at a line or sentence
    end where one lies in its last third, else at a word's end; beyond them it sees `margin` more tokens on
    each side. A word cut by a window's end is judged by its beginning, and by its letters and digits where it
    has any: encoders score the full stop of "particles." far below the word. All depends on the text alone.
    """

    def __init__(self, codes: NDArray[np.uint32], words: Words, shape: WindowShape) -> None:
        self._codes = codes
        self._words = words
        self._shape = shape
        # Characters that are no signs, before each place: a token between two equal counts is signs alone.
        self._letters = np.concatenate([[0], running_count(~_SIGNS[words.classes], np.int32)])
        empty = np.zeros(0, np.int32)
        self._tokens = TokenizedText(empty, empty, empty)  # from `margin` before the next window on
        self._start = 0  # the next window's first own token, in `_tokens`
        self._judged = -1  # the last word that has a window

    def add(self, tokens: TokenizedText, *, last: bool = False) -> list[Window]:
        """The windows that these next tokens complete; with `last`, all that is left."""
        self._tokens = tokens = _join(self._tokens, tokens)
        count = tokens.ids.size
        if not len(self._words) or not count:
            return []
        shape = self._shape
        first, final = token_words(self._words, tokens)
        breaks = break_strengths(self._codes, tokens, first, final)
        signs = self._letters[tokens.starts] == self._letters[tokens.ends]
        overlaps = _overlaps(first, final, signs)
        windows = []
        while True:
            self._start = max(self._start, int(np.searchsorted(first, self._judged, "right")))
            start, before = self._start, max(0, self._start - shape.margin)
            reach = before + shape.room
            if start >= count or (reach >= count and not last):
                break
            end = count if reach >= count else _choose_end(breaks, start, reach - shape.margin)
            after = min(count, end + shape.margin)
            if window := _window(tokens, overlaps, (before, start, end, after), shape):
                windows.append(window)
            self._judged = max(self._judged, int(final[start:end].max()))
            self._start = end
        kept = max(0, self._start - shape.margin)
        self._tokens = TokenizedText(tokens.ids[kept:], tokens.starts[kept:], tokens.ends[kept:])
        self._start -= kept
        return windows


def plan_windows(
    codes: NDArray[np.uint32], words: Words, tokens: Iterable[TokenizedText], shape: WindowShape
) -> Iterator[list[Window]]:
    """The windows of a text, as many at a time as each slab of its tokens completes."""
    planner = WindowPlanner(codes, words, shape)
    ended = False
    for slab in tokens:
        ended = slab.last
        yield planner.add(slab, last=ended)
    if not ended:
        none = np.zeros(0, np.int32)
        yield planner.add(TokenizedText(none, none, none), last=True)


def token_words(words: Words, tokens: TokenizedText) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and last word that each token overlaps, [tokens]; last < first for a token of no word."""
    low, high = int(tokens.starts.min()), int(tokens.ends.max())
    # Counted along the characters, which takes half the time of searching for each token.
    ended = _marks_before(words.ends, low + 1, high + 1)  # words that have ended at a place or before it
    begun = _marks_before(words.starts, low, high)
    return ended[tokens.starts - low], begun[tokens.ends - low] - 1


def break_strengths(
    codes: NDArray[np.uint32], tokens: TokenizedText, first: NDArray[np.int64], last: NDArray[np.int64]
) -> NDArray[np.int8]:
    """What ends before each token, [tokens]: 0 nothing, 1 a word, 2 a sentence, 3 a line.

    `codes` are the text's characters, [characters].
    """
    strengths = np.zeros(tokens.ids.size, np.int8)
    seen = np.maximum.accumulate(last)
    new_word = np.flatnonzero(first[1:] > seen[:-1]) + 1
    strengths[new_word] = 1
    # The gap before a token runs from the end of the token before it to its own first letter.
    gap_start, gap_end = tokens.ends[new_word - 1], np.minimum(tokens.starts[new_word] + 1, codes.size)
    before = np.maximum(gap_start - 1, 0)
    kind = _kinds(codes, before)
    for _ in range(_MOST_CLOSERS):
        closed = np.flatnonzero(kind == _CLOSER)
        before[closed] = np.maximum(before[closed] - 1, 0)
        kind[closed] = _kinds(codes, before[closed])
    spaced = _kinds(codes, np.minimum(gap_start, codes.size - 1)) == _SPACE
    strengths[new_word[(kind == _FULLWIDTH_END) | ((kind == _SENTENCE_END) & spaced)]] = 2
    low, high = int(tokens.starts.min()), int(tokens.ends.max())
    lines = np.concatenate([[0], running_count(codes[low:high] == _NEWLINE, np.int32)])
    ends_line = lines[gap_start - low] < lines[np.minimum(gap_end, high) - low]
    strengths[new_word[ends_line]] = 3
    return strengths


def _marks_before(places: NDArray[np.int32], low: int, high: int) -> NDArray[np.int64]:
    """How many of these ascending places lie before each of [low, high], [high - low + 1]."""
    first, last = np.searchsorted(places, np.array([low, high], places.dtype))
    counts = np.zeros(high - low + 1, np.int64)
    counts[places[first:last] - (low - 1)] = 1
    counts[0] = first
    np.cumsum(counts, out=counts)
    return counts


def passage_window(ids: Sequence[int], shape: WindowShape) -> Window:
    """One window for a passage that is embedded whole; what does not fit is left out."""
    inner = [*shape.prefix, *ids[: shape.room], *shape.suffix]
    none = np.zeros(0, np.int32)
    return Window(np.array(inner, np.int32), none, none, 0, 0)


def _kinds(codes: NDArray[np.uint32], at: NDArray[np.int32]) -> NDArray[np.uint8]:
    """What kind of character stands at each place, [places]."""
    return _KIND_OF[np.minimum(codes[at], _KIND_OF.size - 1)]


def _choose_end(breaks: NDArray[np.int8], start: int, limit: int) -> int:
    """The strongest, then latest, cut in the last third of [start, limit]; any word's end; else the limit."""
    middle = start + max(1, (limit - start) * 2 // 3)
    late = breaks[middle : limit + 1]
    best = int(late.max())
    if best:
        return middle + int(np.flatnonzero(late == best)[-1])
    early = np.flatnonzero(breaks[start + 1 : middle])
    return start + 1 + int(early[-1]) if early.size else limit


def _join(before: TokenizedText, after: TokenizedText) -> TokenizedText:
    if not before.ids.size:
        return after
    return TokenizedText(
        np.concatenate([before.ids, after.ids]),
        np.concatenate([before.starts, after.starts]),
        np.concatenate([before.ends, after.ends]),
    )


def _overlaps(first: NDArray[np.int64], last: NDArray[np.int64], signs: NDArray[np.bool_]) -> _Overlaps:
    overlap = np.maximum(last - first + 1, 0)
    bounds = np.concatenate([[0], np.cumsum(overlap)])
    token = np.repeat(np.arange(first.size, dtype=np.int32), overlap)
    word = (np.arange(bounds[-1]) + np.repeat(first - bounds[:-1], overlap)).astype(np.int32)
    judges = _judges(word, ~signs[token])
    before = np.concatenate([[0], np.cumsum(judges)])
    whole = np.ones(first.size + 1, bool)
    whole[1:-1] = np.maximum.accumulate(last)[:-1] < first[1:]
    return _Overlaps(
        all=_Pairs(token, word, bounds),
        judging=_Pairs(token[judges], word[judges], before[bounds]),
        signs=signs,
        whole=whole,
    )


def _judges(word: NDArray[np.int32], spelled: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which pairs count: those of letters and digits, and all of a word that is signs alone. [pairs]"""
    if not word.size:
        return spelled
    low = word.min()
    has_letters = np.zeros(int(word.max() - low) + 1, bool)
    has_letters[word[spelled] - low] = True
    judges: NDArray[np.bool_] = spelled | ~has_letters[word - low]
    return judges


def _window(
    tokens: TokenizedText, overlaps: _Overlaps, bounds: tuple[int, int, int, int], shape: WindowShape
) -> Window | None:
    """The window over tokens [before, after) that judges the words of [start, end); None without any."""
    before, start, end, after = bounds
    if overlaps.whole[start] and overlaps.whole[end]:
        token, word = overlaps.judging.of(start, end)
    else:
        token, word = overlaps.all.of(start, end)
        judges = _judges(word, ~overlaps.signs[token])
        token, word = token[judges], word[judges]
    if not word.size:
        return None
    low = int(word.min())
    head, size = len(shape.prefix), after - before
    ids = np.empty(head + size + len(shape.suffix), np.int32)
    ids[:head] = shape.prefix
    ids[head : head + size] = tokens.ids[before:after]
    ids[head + size :] = shape.suffix
    return Window(ids, token - np.int32(before - head), word - np.int32(low), low, int(word.max()) - low + 1)
