"""Reads a large JSON body in pieces, so that no single step holds Python's lock for long.

A parser reads 32 MB in one call of some ten to a hundred milliseconds, in which no other thread runs, the
event loop neither. Here long texts and the elements of long lists are read piece by piece; a thread that does
so lets others in between.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import orjson

from compressor.text.pieces import join_bytes, join_pieces
from compressor.text.searching import place_of
from compressor.turns import give_way, in_turns
from gateway.releasing import LARGE

LARGE_BYTES = LARGE
_PIECE_BYTES = 128 * 1024  # of objects and lists: half a millisecond
_TEXT_BYTES = 256 * 1024  # of one text
# Where a text can be cut: no escape began in the six bytes before, and no letter of several bytes goes on
# here; or an escape begins that is not the second half of a pair.
_CUT = re.compile(rb"(?<=[^\\]{6})[^\x80-\xbf]|(?<!\\)\\u[0-9a-cA-C]")
_SIGNS = re.compile(rb'["\[\]{}]')
_FEW_ESCAPED = 8  # quotes: a string with more of them is HTML, code or JSON and has thousands
_QUOTE, _BACKSLASH = 0x22, 0x5C
_OPENING, _LISTS = b"[{", b"[]"


@dataclass(frozen=True, slots=True)
class _List:
    """A list right below the top object: its key, its brackets, and where it can be cut into pieces."""

    key: str
    start: int
    end: int
    cuts: tuple[int, ...]  # commas between its elements


def load_json(body: bytes) -> Any:
    """As orjson.loads, which says what is wrong with a body that is no JSON (orjson.JSONDecodeError)."""
    if len(body) < LARGE_BYTES:
        return orjson.loads(body)
    try:
        return _load_in_pieces(body)
    except (ValueError, IndexError, AttributeError, TypeError, RecursionError):
        return orjson.loads(body)  # no JSON, which this one says; or too odd to be cut


def _load_in_pieces(body: bytes) -> Any:
    short, texts = _without_long_texts(body)
    lists = list(_long_lists(short))
    keys = {found.key for found in lists}
    if len(keys) < len(lists):
        raise ValueError("a key comes twice")
    frame, position = [], 0
    for found in lists:
        frame += [short[position : found.start + 1]]
        position = found.end
    value = orjson.loads(join_bytes([*frame, short[position:]]))
    for found in lists:
        if value.get(found.key) != []:
            raise ValueError("a key comes twice")
        elements = value[found.key]
        bounds = [found.start, *found.cuts, found.end]
        for start, end in in_turns(pairwise(bounds)):
            piece = orjson.loads(b"[" + short[start + 1 : end] + b"]")
            if not piece:
                raise ValueError("a comma with nothing behind it")
            elements += piece
    return _with_texts(value, texts) if texts else value


def strings_and_brackets(body: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each string, quotes included, and of each bracket."""
    position = 0
    while (found := _SIGNS.search(body, position)) is not None:
        give_way()
        start = found.start()
        position = start + 1
        if body[start] == _QUOTE:
            position = _end_of_string(body, start)
        yield start, position


def _end_of_string(body: bytes, start: int) -> int:
    at = start + 1
    for _ in range(_FEW_ESCAPED):
        quote = body.find(b'"', at, at + _TEXT_BYTES)
        if quote < 0:  # `place_of` alone would do, and take a quarter longer to read thousands of messages
            quote = place_of(body, b'"', at + _TEXT_BYTES)
        if quote < 0:
            raise ValueError("a string does not end")
        first = quote
        while body[first - 1] == _BACKSLASH:
            first -= 1
        at = quote + 1
        if (quote - first) % 2 == 0:
            return at
    return _end_of_escaped(body, at)


def _end_of_escaped(body: bytes, at: int) -> int:
    """Where a string ends of which the rest begins here."""
    while at < len(body):
        give_way()
        piece = body[at : at + _PIECE_BYTES]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:  # an escape goes on behind it
            piece = piece[:-1]
        end = piece.replace(b"\\\\", b"..").replace(b'\\"', b"..").find(b'"')
        if end >= 0:
            return at + end + 1
        if not piece:  # a backslash at the end of everything
            break
        at += len(piece)
    raise ValueError("a string does not end")


def _without_long_texts(body: bytes) -> tuple[bytes, dict[str, str]]:
    """The body with a name in place of each long text, and the texts by these names."""
    texts: dict[str, str] = {}
    parts, position = [], 0
    stem = secrets.token_hex(16)  # no client can have written it
    for start, end in strings_and_brackets(body):
        if end - start > _TEXT_BYTES:
            name = f"{stem}-{len(texts)}"
            texts[name] = _read_text(body, start, end)
            parts += [body[position:start], orjson.dumps(name)]
            position = end
    return join_bytes([*parts, body[position:]]) if parts else body, texts


def _read_text(body: bytes, start: int, end: int) -> str:
    """The text between the quotes, cut where neither an escape nor a letter of several bytes can go on."""
    pieces, position, last = [], start + 1, end - 1
    while position < last:
        found = _CUT.search(body, position + _TEXT_BYTES, last)
        cut = last if found is None else found.start()
        pieces.append(orjson.loads(b'"' + body[position:cut] + b'"'))
        position = cut
    return join_pieces(pieces)


def _long_lists(body: bytes) -> Iterator[_List]:
    depth, opened, key, cut = 0, -1, "", 0
    cuts: list[int] = []
    for start, end in strings_and_brackets(body):
        sign = body[start]
        if sign == _QUOTE:
            if depth == 1 and end - start < 256:
                key = orjson.loads(body[start:end])  # the last string before a list is its key
        elif sign in _OPENING:
            depth += 1
            if depth == 2 and sign == _LISTS[0]:
                opened, cut, cuts = start, start, []
        else:
            depth -= 1
            if depth == 1 and sign == _LISTS[1] and opened >= 0:
                if cuts:
                    yield _List(key, opened, start, tuple(cuts))
                opened = -1
            elif depth == 2 and opened >= 0 and end - cut > _PIECE_BYTES:
                comma = end + len(body[end : end + 64]) - len(body[end : end + 64].lstrip())
                if body[comma : comma + 1] == b",":
                    cut = comma
                    cuts.append(comma)


def _with_texts(value: Any, texts: dict[str, str]) -> Any:
    if isinstance(value, str):
        return texts.get(value, value) if len(value) < 64 else value
    if isinstance(value, dict):
        return {_with_texts(key, texts): _with_texts(inner, texts) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_texts(inner, texts) for inner in value]
    return value
