"""Where lines begin, so that patterns that only match there need not look at every character."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compressor.text.tallies import changes_of, numbers_of, true_at
from compressor.text.words import Words


@dataclass(frozen=True, slots=True)
class LineHeads:
    """The lines that have words, in order; arrays have shape [lines]."""

    places: NDArray[np.int64]  # where the line begins
    signs: NDArray[np.uint32]  # its first character that is no space


def line_heads(words: Words) -> LineHeads:
    """The beginnings of a text's lines; lines end at line feeds."""
    breaks = true_at(words.codes == 10)
    upto = np.searchsorted(breaks, words.starts)
    first = changes_of(upto)
    places = np.concatenate(([-1], breaks))[upto[first]] + 1
    return LineHeads(places, words.codes[words.starts[first]])


def match_heads(
    pattern: re.Pattern[str], words: Words, heads: LineHeads, signs: str = ""
) -> Iterator[tuple[int, int]]:
    """What `pattern.finditer` finds in lines that have words, as character spans.

    The pattern begins with `^`, has the flag MULTILINE, and matches no line without words; with `signs` only
    lines whose first character is one of these.
    """
    places = heads.places
    if signs:
        places = places[np.isin(heads.signs, np.asarray([ord(sign) for sign in signs], np.uint32))]
    for found in match_at(pattern, words.text, places):
        yield found.span()


def line_starts(codes: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Where all lines of a text of these characters begin."""
    return np.concatenate(([0], true_at(codes == 10) + 1))


def match_at(pattern: re.Pattern[str], text: str, places: NDArray[np.int64]) -> Iterator[re.Match[str]]:
    """What `pattern.finditer` finds, if it may only match at these places."""
    end = 0
    for place in numbers_of(places):
        if place >= end and (found := pattern.match(text, place)) is not None:
            end = found.end()
            yield found
