"""HTML and XML: tags, headings, links and tables stay; scripts, styles and comments go first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from compressor.text.pieces import join_pieces
from compressor.text.searching import find_all, find_short, place_of, same_items
from compressor.text.tallies import spans_of
from compressor.text.words import LONGEST_TAG, TAG

_OPENING = re.compile(r"<!--|<(script|style|svg|noscript|template)\b[^<>]*>", re.IGNORECASE)
_CLOSING = {
    name: re.compile(rf"</{name}\s*>", re.IGNORECASE)
    for name in ("script", "style", "svg", "noscript", "template")
}
_OPENING_BEGINS = re.compile("<(?:!--|script|style|svg|noscript|template)", re.IGNORECASE)
_LONGEST_NAME = len("<noscript") + 1
_CLOSING_BEGINS = {name: re.compile(f"</{name}", re.IGNORECASE) for name in _CLOSING}
_FEW = 64 * 1024  # characters that are searched in one step
_STEP = 256 * 1024  # characters
_KEPT = re.compile(
    r"<(h[1-6]|title|a|th|caption|code|pre|kbd|button|label|option|textarea)\b[^<>]*>"
    r"(?:(?!<\1\b).){0,5000}?</\1\s*>",
    re.DOTALL | re.IGNORECASE,
)
_KEPT_BEGINS = re.compile(
    r"<(?:h[1-6]|title|a|th|caption|code|pre|kbd|button|label|option|textarea)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class HtmlParts:
    """Character spans of an HTML text, shape [spans, 2]."""

    shown: NDArray[np.int64]  # headings, links and the like stay, and so do all tags
    noise: NDArray[np.int64]  # insides of scripts and the like, and comments: nobody reads them


def html_parts(text: str) -> HtmlParts:
    """What of an HTML text stays, and what goes first."""
    return HtmlParts(
        spans_of(found.span() for found in find_all(_KEPT, text, _KEPT_BEGINS)), spans_of(_noise(text))
    )


def check_html(original: str, shortened: str) -> str:
    """The tags outside of scripts, styles and comments must be the same, in the same order."""
    return "" if same_items(_tags(original), _tags(shortened)) else "HTML tags would change"


def _noise(text: str) -> Iterator[tuple[int, int]]:
    """Comments, and the insides of elements that show nothing. What is never closed is left alone."""
    unclosed: set[str] = set()  # looking for each closing tag again and again would take quadratic time
    at = 0
    for place in find_short(_OPENING_BEGINS, text, _LONGEST_NAME):
        opening = _OPENING.match(text, place.start()) if place.start() >= at else None
        if opening is None:
            continue
        at = opening.end()
        name = (opening.group(1) or "").lower()
        if name in unclosed:
            continue
        span = _closed(text, opening, name)
        if span is None:
            unclosed.add(name)
        else:
            inside, at = span
            yield inside


def _closed(text: str, opening: re.Match[str], name: str) -> tuple[tuple[int, int], int] | None:
    """What goes of an element or a comment, and where it ends; None where it does not."""
    at = opening.end()
    if not name:
        end = place_of(text, "-->", at) + len("-->")
        return ((opening.start(), end), end) if end > 2 else None
    closing = next(find_all(_CLOSING[name], text, _CLOSING_BEGINS[name], at), None)
    return None if closing is None else ((at, closing.start()), closing.end())


def _tags(text: str) -> Iterator[str]:
    pieces: list[str] = []
    at = 0
    for start, end in chain(_noise(text), [(len(text), 0)]):
        pieces += [text[place : min(place + _STEP, start)] for place in range(at, start, _STEP)]
        at = end
    left = join_pieces(pieces)
    if len(left) <= _FEW:
        return iter(TAG.findall(left))
    return (tag.group() for tag in find_short(TAG, left, LONGEST_TAG + 4))
