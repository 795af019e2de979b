"""Looks into long texts without shutting all other threads out, as one call over tens of megabytes does."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import zip_longest
from typing import AnyStr

from compressor.text.pieces import part_of
from compressor.turns import give_way

_STEP = 256 * 1024  # characters that are compared or looked for in one step
_SCAN = 32 * 1024  # characters that a pattern is tried at in one step: half a millisecond
_AHEAD = 64  # characters
_NO_BLANK = re.compile(r"\S")


def stands_in(text: AnyStr, word: AnyStr) -> bool:
    """As `word in text`, piece by piece."""
    return place_of(text, word) >= 0


def place_of(text: AnyStr, word: AnyStr, start: int = 0) -> int:
    """As `text.find(word, start)`, piece by piece, for a word that is not empty."""
    ends = len(word) - 1
    for at in range(start, len(text), _STEP):
        if (place := text.find(word, at, at + _STEP + ends)) >= 0:
            return place
    return -1


def all_places(text: str, word: str) -> Iterator[int]:
    """Where a word that is not empty stands in a text, without overlaps."""
    at = place_of(text, word)
    while at >= 0:
        yield at
        at = place_of(text, word, at + len(word))


def are_same(text: str, other: str) -> bool:
    """As `text == other`, piece by piece."""
    steps = range(0, len(text), _STEP)
    return len(text) == len(other) and all(text.startswith(other[at : at + _STEP], at) for at in steps)


def same_items(one: Iterable[str], other: Iterable[str]) -> bool:
    """Whether both have the same strings in the same order."""
    return all(item == opposite for item, opposite in zip_longest(one, other))


def is_blank(text: str) -> bool:
    """As `not text.strip()`, which copies the text."""
    return not text or text.isspace()


def begin_of(text: str) -> int:
    """Where the text begins behind its blanks; its length where it has nothing else."""
    found = _NO_BLANK.search(text)
    return len(text) if found is None else found.start()


def end_of(text: str) -> int:
    """Where the text ends before its last blanks; 0 where it has nothing else."""
    end = len(text)
    while end:
        start = max(0, end - _STEP)
        kept = len(text[start:end].rstrip()) if text[end - 1].isspace() else end - start
        if kept:
            return start + kept
        end = start
    return 0


def find_all(
    pattern: re.Pattern[str], text: str, begins: str | re.Pattern[str], start: int = 0
) -> Iterator[re.Match[str]]:
    """As `pattern.finditer(text, start)`, for a pattern whose matches begin with one of the characters
    `begins`, or with what that finds (of at most 60 characters).

    Looking at what begins so takes one step each; so do up to 32,000 characters without any.
    """
    if len(text) - start <= _SCAN:
        yield from pattern.finditer(text, start)
        return
    sign, at = _any_of(begins) if isinstance(begins, str) else begins, start
    for place in find_short(sign, text, _AHEAD, start):
        if place.start() >= at and (found := pattern.match(text, place.start())) is not None:
            yield found
            at = found.end()


@lru_cache(maxsize=64)
def _any_of(signs: str) -> re.Pattern[str]:
    return re.compile("[" + re.escape(signs) + "]")


def find_short(pattern: re.Pattern[str], text: str, longest: int, start: int = 0) -> Iterator[re.Match[str]]:
    """As `pattern.finditer(text, start)`, for a pattern that looks at fewer than `longest` characters.

    Up to 32,000 characters and so many take one step.
    """
    at = start
    while at < len(text):
        give_way()
        further, seen = at + _SCAN, at + _SCAN + longest
        for found in pattern.finditer(text, at, seen):
            # What is found near the end of what is seen may look different with what follows.
            if found.start() >= at + _SCAN and seen < len(text):
                break
            yield found
            further = max(further, found.end())
        at = further if seen < len(text) else seen


def has_match(pattern: re.Pattern[str], text: str) -> bool:
    """Whether `pattern.search(text)` finds anything, for a pattern that looks at 60 characters at most."""
    if len(text) <= _SCAN:
        return pattern.search(text) is not None
    return next(find_short(pattern, text, _AHEAD), None) is not None


def lines_of(text: str) -> Iterator[str]:
    """As `text.splitlines()`, one by one."""
    for start, end in _pieces(text):
        # The piece's own line feed ends its last line.
        yield from text[start + (start > 0) : end + (end < len(text))].splitlines()


def between_feeds(text: str) -> Iterator[str]:
    """As `text.split("\n")`, one by one."""
    for start, end in _pieces(text):
        yield from part_of(text, start + (start > 0), end).split("\n")


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each piece, cut at line feeds: all but the first begin with one."""
    start = 0
    while len(text) - start > _SCAN and (end := place_of(text, "\n", start + _SCAN)) >= 0:
        yield start, end
        start = end
    yield start, len(text)
