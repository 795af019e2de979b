"""HTML and XML: tags, headings, links and tables stay; scripts, styles and comments go first."""

from __future__ import annotations

import re
from dataclasses import dataclass

from compressor.text.words import TAG

_OPENING = re.compile(r"<!--|<(script|style|svg|noscript|template)\b[^<>]*>", re.IGNORECASE)
_CLOSING = {
    name: re.compile(rf"</{name}\s*>", re.IGNORECASE)
    for name in ("script", "style", "svg", "noscript", "template")
}
_KEPT = re.compile(
    r"<(h[1-6]|title|a|th|caption|code|pre|kbd|button|label|option|textarea)\b[^<>]*>"
    r"(?:(?!<\1\b).){0,5000}?</\1\s*>",
    re.DOTALL | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class HtmlParts:
    """Character spans of an HTML text."""

    shown: list[tuple[int, int]]  # headings, links and the like stay, and so do all tags
    noise: list[tuple[int, int]]  # insides of scripts and the like, and comments: nobody reads them


def html_parts(text: str) -> HtmlParts:
    """What of an HTML text stays, and what goes first."""
    return HtmlParts([found.span() for found in _KEPT.finditer(text)], _noise(text))


def check_html(original: str, shortened: str) -> str:
    """The tags outside of scripts, styles and comments must be the same, in the same order."""
    return "" if _tags(original) == _tags(shortened) else "HTML tags would change"


def _noise(text: str) -> list[tuple[int, int]]:
    """Comments, and the insides of elements that show nothing. What is never closed is left alone."""
    spans: list[tuple[int, int]] = []
    unclosed: set[str] = set()  # looking for each closing tag again and again would take quadratic time
    at = 0
    while (opening := _OPENING.search(text, at)) is not None:
        name = (opening.group(1) or "").lower()
        at = opening.end()
        if name in unclosed:
            continue
        if not name:
            end = text.find("-->", at)
            start, end, after = opening.start(), end + 3, end + 3
            found = end > 2
        else:
            closing = _CLOSING[name].search(text, at)
            found = closing is not None
            start, end, after = at, closing.start() if closing else at, closing.end() if closing else at
        if found:
            spans.append((start, end))
            at = after
        else:
            unclosed.add(name)
    return spans


def _tags(text: str) -> list[str]:
    pieces = []
    at = 0
    for start, end in _noise(text):
        pieces.append(text[at:start])
        at = end
    return TAG.findall("".join([*pieces, text[at:]]))
