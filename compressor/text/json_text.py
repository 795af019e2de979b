"""JSON: which strings may lose words, and whether two documents have the same structure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from compressor.text.kinds import detect_kind

# Shorter strings are names, labels and states, which programs compare; longer ones are read.
LONG_STRING = 80
FEWEST_WORDS = 12
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_LAYOUT = re.compile(r'"(?:[^"\\]|\\.)*(?:"|$)|[\[\]{}]|[ \t\r\n]+', re.DOTALL)
_KEY_FOLLOWS = re.compile(r"\s*:")
_NOT_PROSE = frozenset({"code", "json", "diff", "base64", "html", "table", "stack-trace"})


def leaf_interiors(text: str) -> Iterator[tuple[int, int]]:
    """Where the insides of the long string values of valid JSON (or JSON lines) stand, without quotes.

    Values that are themselves code, JSON or tables are left out, as are keys.
    """
    for string in _STRING.finditer(text):
        start, end = string.start() + 1, string.end() - 1
        if end - start < LONG_STRING or _KEY_FOLLOWS.match(text, string.end()):
            continue
        try:
            value = json.loads(string.group())
        except ValueError:
            continue
        # Escaped, a title of 20 letters is 120 characters long.
        if len(value) < LONG_STRING or (len(value.split()) < FEWEST_WORDS and value.isascii()):
            continue
        if detect_kind(value) not in _NOT_PROSE:
            yield start, end


def loose_spaces(text: str) -> Iterator[tuple[int, int]]:
    """Where space stands that lays a document out and says nothing: inside of brackets, outside of strings.

    Space between documents (JSON lines) is not among it.
    """
    depth = 0
    for found in _LAYOUT.finditer(text):
        sign = text[found.start()]
        if sign in "{[":
            depth += 1
        elif sign in "}]":
            depth -= 1
        elif sign != '"' and depth > 0:
            yield found.span()


def check_json(original: str, shortened: str) -> str:
    """What tells the shortened document's structure from the original's; "" when it is the same."""
    try:
        before = _documents(original)
    except (ValueError, RecursionError):  # a fragment: all but the insides of strings must be the same
        same = _outside(original) == _outside(shortened)
        return "" if same else "the JSON fragment would change its structure"
    try:
        after = _documents(shortened)
    except (ValueError, RecursionError):
        return "JSON would not parse any more"
    if len(before) != len(after):
        return "JSON documents would be lost"
    for one, other in zip(before, after, strict=True):
        if difference := _difference(one, other):
            return difference
    return ""


def _outside(text: str) -> str:
    """A fragment without the insides of its strings and without its layout."""
    return "".join(_STRING.sub('""', text).split())


def _documents(text: str) -> list[Any]:
    try:
        return [json.loads(text, object_pairs_hook=_pairs)]
    except ValueError:
        return [json.loads(line, object_pairs_hook=_pairs) for line in text.splitlines() if line.strip()]


class _Pairs(list[tuple[str, Any]]):
    """An object with its keys in order, repeated ones included."""


def _pairs(pairs: list[tuple[str, Any]]) -> _Pairs:
    return _Pairs(pairs)


def _difference(before: Any, after: Any) -> str:
    stack = [(before, after)]
    while stack:
        one, other = stack.pop()
        if type(one) is not type(other):
            return "JSON values would change their type"
        if isinstance(one, _Pairs):
            if [key for key, _ in one] != [key for key, _ in other]:
                return "JSON keys would change"
            stack += [(left, right) for (_, left), (_, right) in zip(one, other, strict=True)]
        elif isinstance(one, list):
            if len(one) != len(other):
                return "JSON arrays would change their length"
            stack += list(zip(one, other, strict=True))
        elif isinstance(one, str):
            if one != other and len(one) < LONG_STRING:
                return "a short JSON string would change"
        elif one != other and one == one:
            return "a JSON number would change"
    return ""
