"""Looks into long texts, and copies them, without shutting all other threads out, as one call over tens of
megabytes does.
"""

from __future__ import annotations

import re
from typing import AnyStr

from compressor.turns import let_go

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


def grown(pieces: list[str]) -> str:
    """As `"".join`, which makes all the memory in one step (6 ms for 8 MB): a text that nobody else holds
    grows in place when something is appended to it. The pieces are let go of.
    """
    text = ""
    for piece in pieces:
        text += piece
    let_go(pieces)
    return text


def part_of(text: str, start: int, end: int) -> str:
    """As `text[start:end]`."""
    if end - start <= _STEP:
        return text[start:end]
    return grown([text[at : min(at + _STEP, end)] for at in range(start, end, _STEP)])
