"""Looks into long texts without shutting all other threads out, as one call over tens of megabytes does."""

from __future__ import annotations

import re
from typing import AnyStr

_STEP = 256 * 1024
_NO_BLANK = re.compile(r"\S")


def stands_in(text: AnyStr, word: AnyStr) -> bool:
    """As `word in text`, piece by piece."""
    if len(text) <= _STEP:
        return word in text
    ends = len(word) - 1
    return any(text.find(word, start, start + _STEP + ends) >= 0 for start in range(0, len(text), _STEP))


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
