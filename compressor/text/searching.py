"""Looks into long texts without shutting all other threads out, as one call over tens of megabytes does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import AnyStr

_STEP = 256 * 1024  # characters that are compared or looked for in one step
_SCAN = 32 * 1024  # characters that a pattern is tried at in one step: half a millisecond
_NO_BLANK = re.compile(r"\S")


def stands_in(text: AnyStr, word: AnyStr) -> bool:
    """As `word in text`, piece by piece."""
    if len(text) <= _STEP:
        return word in text
    ends = len(word) - 1
    return any(text.find(word, start, start + _STEP + ends) >= 0 for start in range(0, len(text), _STEP))


def are_same(text: str, other: str) -> bool:
    """As `text == other`, piece by piece."""
    steps = range(0, len(text), _STEP)
    return len(text) == len(other) and all(text.startswith(other[at : at + _STEP], at) for at in steps)


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


def find_all(pattern: re.Pattern[str], text: str, begins: str, start: int = 0) -> Iterator[re.Match[str]]:
    """As `pattern.finditer(text, start)`, for a pattern whose matches begin with one of the characters
    `begins`.

    Looking at what begins with one of these takes one step each; so do up to 32,000 characters without any.
    """
    if len(text) - start <= _SCAN:
        yield from pattern.finditer(text, start)
        return
    sign, at = _any_of(begins), start
    while at < len(text):
        place = sign.search(text, at, at + _SCAN)
        if place is None:
            at += _SCAN
        elif (found := pattern.match(text, place.start())) is not None:
            yield found
            at = max(found.end(), place.end())
        else:
            at = place.end()


@lru_cache(maxsize=64)
def _any_of(signs: str) -> re.Pattern[str]:
    return re.compile("[" + re.escape(signs) + "]")


def find_by_lines(pattern: re.Pattern[str], text: str, between: str = "\n") -> Iterator[re.Match[str]]:
    """As `pattern.finditer(text)`, for a pattern that matches in MULTILINE mode and never across `between`,
    of line feeds.

    A piece of up to 32,000 characters takes one step, or more where `between` is rarer than that.
    """
    for start, end in _pieces(text, between):
        yield from pattern.finditer(text, start, end)


def lines_of(text: str) -> Iterator[str]:
    """As `text.splitlines()`, one by one."""
    for start, end in _pieces(text, "\n"):
        # The piece's own line feed ends its last line.
        yield from text[start + (start > 0) : end + (end < len(text))].splitlines()


def _pieces(text: str, between: str) -> Iterator[tuple[int, int]]:
    """Start and end of each piece; all but the last are followed by `between`, all but the first begin with
    its last line feed.
    """
    start = 0
    while len(text) - start > _SCAN and (end := text.find(between, start + _SCAN)) >= 0:
        end += len(between) - 1
        yield start, end
        start = end
    yield start, len(text)
