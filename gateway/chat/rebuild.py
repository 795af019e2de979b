"""Puts shortened strings back into the client's JSON, changing no other byte where that can be done."""

from __future__ import annotations

import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from compressor.text.pieces import join_bytes
from compressor.text.searching import place_of
from compressor.turns import in_turns, let_go
from gateway.chat.conversation import Path
from gateway.chat.large_json import load_json
from gateway.releasing import keep_json
from gateway.shapes import ParsedRequest


def rebuild_body(request: ParsedRequest, changes: Mapping[Path, str]) -> bytes:
    """The request's body with the strings at these paths replaced; without a change, the client's own bytes.

    Number formats, order of keys and white space stay: the new strings are spliced into the client's bytes.
    Where the old strings cannot be found there for certain, the whole is written anew (same JSON, other
    bytes). Raises ValueError when the request cannot be written as JSON (an unpaired surrogate, say).
    """
    return rebuild(request, changes)[0]


def rebuild(request: ParsedRequest, changes: Mapping[Path, str]) -> tuple[bytes, Any]:
    """As `rebuild_body`, and those bytes read again as JSON."""
    same = {path for path, text in in_turns(changes.items()) if string_at(request.raw, path) == text}
    if same:
        changes = {path: text for path, text in changes.items() if path not in same}
    if not changes:
        return request.body, request.raw
    wanted = replaced(request.raw, changes)
    keep_json(wanted)
    for exact in (False, True):
        pieces = _splice(request, changes, exact=exact)
        if pieces is not None and (done := _checked(request, pieces, wanted)):
            let_go(pieces)
            return done
    try:
        written = orjson.dumps(wanted)
    except orjson.JSONEncodeError as error:
        raise ValueError(f"cannot be written as JSON: {error}") from None
    return written, load_json(written)


def _checked(request: ParsedRequest, pieces: list[_Piece], wanted: Any) -> tuple[bytes, Any] | None:
    """The body, and what it reads as; None where that is not what is wanted.

    A long string that is known to read as its text is read as a short one.
    """
    names = {piece.path: f"{_STEM}-{n}" for n, piece in enumerate(pieces) if piece.known}
    body = join_bytes([piece.data for piece in pieces])
    if not names:
        expected, short = wanted, body
    else:
        expected = replaced(wanted, names)
        short = join_bytes([b'"%b"' % names[p.path].encode() if p.known else p.data for p in pieces])
    try:
        read = load_json(short)
    except orjson.JSONDecodeError:
        return None
    keep_json(read)
    if not _equal(read, expected):
        return None
    return body, wanted if names else read


def _equal(one: Any, other: Any) -> bool:
    """As `==`, in steps: comparing a hundred thousand messages in one shuts all other threads out."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list) and len(one) > _STEP:
        steps = range(0, len(one), _STEP)
        return len(one) == len(other) and all(one[at : at + _STEP] == other[at : at + _STEP] for at in steps)
    return bool(one == other)


def string_at(raw: Any, path: Path) -> str:
    """The string at a path. Raises LookupError or TypeError when there is none."""
    value = raw
    for step in path:
        if isinstance(value, str):  # a character of a string is no string of the document
            raise TypeError(f"no object or list at {path}")
        value = value[step]
    if not isinstance(value, str):
        raise TypeError(f"no string at {path}")
    return value


def replaced(raw: Any, changes: Mapping[Path, str]) -> Any:
    """A copy of `raw` with the strings at these paths replaced; parts without a change are shared."""
    if () in changes:
        return changes[()]
    below: dict[str | int, dict[Path, str]] = {}
    for path, text in in_turns(changes.items()):
        below.setdefault(path[0], {})[path[1:]] = text
    copy = raw.copy()
    while below:  # each is let go of at once: thousands together hold Python's lock for long
        step, inner = below.popitem()
        copy[step] = replaced(raw[step], inner)
    return copy


# How clients write a string: as UTF-8, as ASCII (Python's default), or as Go does, with HTML's signs escaped.
def _as_utf8(text: str) -> bytes:
    return orjson.dumps(text)


def _as_ascii(text: str) -> bytes:
    return json.dumps(text).encode()


def _as_go(text: str) -> bytes:
    escaped = json.dumps(text, ensure_ascii=False)
    for sign, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("\u2028", "\\u2028")):
        escaped = escaped.replace(sign, code)
    return escaped.replace("\u2029", "\\u2029").encode()


_FEW = 8  # texts of one length, which are not worth hashing
_STEP = 500  # elements compared, and
_PIECE = 256 * 1024  # characters written in one step


def _written(text: str, write: Callable[[str], bytes]) -> bytes:
    if len(text) <= _PIECE:
        return write(text)
    pieces = [write(text[start : start + _PIECE])[1:-1] for start in range(0, len(text), _PIECE)]
    return b"".join([b'"', *pieces, b'"'])


_BEGINNING, _PLACES = 64, 32
_LONG = 16 * 1024  # characters of a text whose place is guessed, and
_MOST_BYTES = 6  # of an ASCII letter
_GO_SIGNS = "<>&"  # which Go escapes and others do not
_KEPT, _KEPT_BYTES = 64 * 1024, 4 * 1024 * 1024  # of one whose written form is kept; bytes of all of them
_STEM = secrets.token_hex(16)  # no client can have written it
_WRITERS: tuple[Callable[[str], bytes], ...] = (_as_utf8, _as_ascii, _as_go)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a body: the client's own bytes, or a new string at its path."""

    data: bytes
    path: Path = ()
    known: bool = False  # to read as its text


class _WrittenTexts:
    """How long texts are written, for those met last: a shortened text that is needed again is the same
    object.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, Callable[[str], bytes]], tuple[str, bytes]] = OrderedDict()
        self._room = _KEPT_BYTES
        self._lock = threading.Lock()

    def of(self, text: str, write: Callable[[str], bytes]) -> bytes | None:
        """The text as JSON, which reads as the text again; None for a text that is not kept."""
        if not _KEPT <= len(text) <= _KEPT_BYTES // 4:
            return None
        key = (id(text), write)
        with self._lock:
            known = self._kept.get(key)
            if known is not None:  # which holds its text, so that no other can have this id
                self._kept.move_to_end(key)
                return known[1]
        literal = _written(text, write)
        if load_json(literal) != text:
            return None
        with self._lock:
            if key not in self._kept:
                self._kept[key] = (text, literal)
                self._room -= len(literal)
            while self._room < 0:
                self._room += len(self._kept.popitem(last=False)[1][1])
        return literal


_written_texts = _WrittenTexts()


def _splice(request: ParsedRequest, changes: Mapping[Path, str], *, exact: bool) -> list[_Piece] | None:
    """The body with the changed strings spliced in, or None when one of them was not found.

    Unless it must be `exact`, the place of a long one is told by its beginning and its end.

    All strings equal to a changed one are looked for in document order, so that the second of two equal
    strings is never taken for the first. What comes out is still to be compared with what is wanted.
    """
    old = _by_length(string_at(request.raw, path) for path in changes)
    body, position, written = request.body, 0, 0
    pieces: list[_Piece] = []
    for path, text in in_turns(_strings(request.raw, ())):
        if text not in old.get(len(text), ()):
            continue
        for write in _WRITERS:
            try:
                place = None if exact else _guess(body, text, write, position)
                place = place or _place(body, _written(text, write), position)
            except (orjson.JSONEncodeError, UnicodeEncodeError):
                continue
            if place is not None:
                break
        else:
            return None
        start, position = place
        if path in changes:
            literal = _written_texts.of(changes[path], write)
            pieces.append(_Piece(body[written:start]))
            pieces.append(_Piece(literal or _written(changes[path], write), path, literal is not None))
            written = position
    return [*pieces, _Piece(body[written:])]


def _guess(body: bytes, text: str, write: Callable[[str], bytes], position: int) -> tuple[int, int] | None:
    """Where a long text probably stands, written like this; None where it is not known so easily."""
    if len(text) < _LONG or not text.isascii():  # other letters may be written as they are, or as escapes
        return None
    start = body.find(write(text[:_BEGINNING])[:-1], position)
    if start < 0:
        return None
    ending = write(text[-_BEGINNING:])[1:]
    # No character takes less than a byte.
    least = start + 2 + len(text)
    end = body.find(ending, least - len(ending), start + 2 + _MOST_BYTES * len(text))
    sign = min([at for sign in _GO_SIGNS if (at := place_of(text, sign)) >= 0], default=-1)
    if end < 0 or (sign >= 0 and not body.startswith(write(text[: sign + 1])[:-1], start)):
        return None
    return start, end + len(ending)


def _place(body: bytes, literal: bytes, position: int) -> tuple[int, int] | None:
    found = _find(body, literal, position)
    return None if found < 0 else (found, found + len(literal))


def _by_length(texts: Iterable[str]) -> dict[int, Collection[str]]:
    """The texts by length: most are told apart by it, so that few are compared or hashed."""
    found: dict[int, list[str]] = {}
    for text in texts:
        found.setdefault(len(text), []).append(text)
    # Item by item: a set of 100,000 texts in one step holds the lock for 10 ms.
    return {length: {text for text in same} if len(same) > _FEW else same for length, same in found.items()}


def _strings(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Every string value with its path, in document order."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _strings(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _strings(inner, (*path, index))


def _begins(body: bytes, literal: bytes, position: int) -> bool:
    """As `body.startswith(literal, position)`, piece by piece."""
    if len(literal) <= _PIECE:
        return body.startswith(literal, position)
    pieces = range(0, len(literal), _PIECE)
    return all(body.startswith(literal[at : at + _PIECE], position + at) for at in pieces)


def _find(body: bytes, literal: bytes, position: int) -> int:
    """As `body.find`, which takes a hundred times as long for needles of this size.

    It looks for the beginning and compares the rest; where many places begin alike, it searches after all.
    """
    begin = literal[:_BEGINNING]
    for _ in range(_PLACES):
        position = body.find(begin, position)
        if position < 0 or _begins(body, literal, position):
            return position
        position += 1
    return body.find(literal, position)
