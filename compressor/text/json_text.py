"""JSON: which strings may lose words, and whether two documents have the same structure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from compressor.text.json_reading import LONG, begin_of_string, find_strings, is_document
from compressor.text.kinds import detect_kind
from compressor.text.pieces import part_of

# Shorter strings are names, labels and states, which programs compare; longer ones are read.
LONG_STRING = 80
FEWEST_WORDS = 12
_LAYOUT = re.compile(r'["\[\]{}]|[ \t\r\n]+')
_SIGN = re.compile(r"[\[\]{},:]|\s+|[^\s\[\]{},:]+")  # outside of strings
_KEY_FOLLOWS = re.compile(r"\s*:")
_NOT_PROSE = frozenset({"code", "json", "diff", "base64", "html", "table", "stack-trace"})


def leaf_interiors(text: str) -> Iterator[tuple[int, int]]:
    """Where the insides of the long string values of valid JSON (or JSON lines) stand, without quotes.

    Values that are themselves code, JSON or tables are left out, as are keys.
    """
    for first, behind in find_strings(text):
        start, end = first + 1, behind - 1
        if end - start < LONG_STRING or _KEY_FOLLOWS.match(text, behind):
            continue
        try:
            value = begin_of_string(text, start, end)
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
    for start, end in _outside_strings(text):
        for found in _LAYOUT.finditer(text, start, end):
            sign = text[found.start()]
            if sign == '"':  # of a string that is cut off
                return
            if sign in "{[":
                depth += 1
            elif sign in "}]":
                depth -= 1
            elif depth > 0:
                yield found.span()


def check_json(original: str, shortened: str, shortest: int = LONG_STRING) -> str:
    """What tells the shortened document's structure from the original's; "" when it is the same.

    Strings of at least `shortest` characters may change, if they are values.
    """
    if len(original) > LONG:
        return _check_long(original, shortened, shortest)
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
        if difference := _difference(one, other, shortest):
            return difference
    return ""


def _check_long(original: str, shortened: str, shortest: int) -> str:
    """The same by comparing string with string and what stands between them, without reading the documents:
    what differs from JSON in nothing but the insides of strings is JSON.
    """
    strings = zip_longest(_strings(original), _strings(shortened), fillvalue=("", ""))
    changed = False  # whether the string before has, which may be a key
    for number, ((between, string), (between_new, string_new)) in enumerate(strings):
        if between != between_new:
            ends = (number > 0, bool(string))
            signs = zip_longest(_signs(between, *ends), _signs(between_new, *ends))
            if any(one != other for one, other in signs):
                return "the JSON would change its structure"
        if changed and _KEY_FOLLOWS.match(between):
            return "JSON keys would change"
        changed = string != string_new
        if changed:
            if not string or not string_new:
                return "the JSON would change its structure"
            try:
                short = len(begin_of_string(string, 1, len(string) - 1)) < shortest
            except ValueError:
                short = False
            if short or not is_document(string_new):
                return "a short JSON string would change" if short else "JSON would not parse any more"
    return ""


def _outside_strings(text: str) -> Iterator[tuple[int, int]]:
    """Where what stands before, between and behind the strings begins and ends."""
    begin = 0
    for start, end in find_strings(text):
        yield begin, start
        begin = end
    yield begin, len(text)


def _strings(text: str) -> Iterator[tuple[str, str]]:
    """Each string, behind what stands before it; at last what stands behind all of them, and ""."""
    begin = 0
    for start, end in find_strings(text):
        yield part_of(text, begin, start), part_of(text, start, end)
        begin = end
    yield part_of(text, begin, len(text)), ""


def _signs(between: str, behind: bool, before: bool) -> Iterator[str]:
    """What stands between two strings without its layout, of which only line feeds between documents count.

    `behind` and `before` say whether strings stand around it.
    """
    broken = False
    for found in _SIGN.finditer(between):
        sign = found.group()
        if sign.isspace():
            broken = "\n" in sign
            continue
        if behind and broken and sign not in ",:]}":
            yield "\n"
        yield sign
        behind, broken = sign not in ",:[{", False
    if behind and broken and before:
        yield "\n"


def _outside(text: str) -> str:
    """A fragment without the insides of its strings and without its layout."""
    return "".join('""'.join(text[begin:end] for begin, end in _outside_strings(text)).split())


def _documents(text: str) -> list[Any]:
    try:
        return [json.loads(text, object_pairs_hook=_pairs)]
    except ValueError:
        return [json.loads(line, object_pairs_hook=_pairs) for line in text.splitlines() if line.strip()]


class _Pairs(list[tuple[str, Any]]):
    """An object with its keys in order, repeated ones included."""


def _pairs(pairs: list[tuple[str, Any]]) -> _Pairs:
    return _Pairs(pairs)


def _difference(before: Any, after: Any, shortest: int) -> str:
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
            if one != other and len(one) < shortest:
                return "a short JSON string would change"
        elif one != other and one == one:
            return "a JSON number would change"
    return ""
