"""Makes long texts and bytes piece by piece: in one step, memory for 32 MB shuts all others out for 18 ms.

A text that grows by appending does so, too, whenever the allocator has to move it. So its memory is asked for
once, untouched, and each piece is written to its place (`PyUnicode_New`, `PyUnicode_CopyCharacters` and
`PyBytes_FromStringAndSize` of Python's C API, before anybody else has seen the object): the system finds a
page at its first use, a piece's at a time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Sequence

from compressor.turns import give_way, let_go

_STEP = 256 * 1024  # characters: a tenth of a millisecond
_size = ctypes.c_ssize_t
_new = ctypes.PYFUNCTYPE(ctypes.py_object, _size, ctypes.c_uint32)(("PyUnicode_New", ctypes.pythonapi))
# The text that is written to goes by its address: Python refuses to write where others hold a text as well.
_write = ctypes.PYFUNCTYPE(_size, ctypes.c_void_p, _size, ctypes.py_object, _size, _size)(
    ("PyUnicode_CopyCharacters", ctypes.pythonapi)
)
_new_bytes = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, _size)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)
_place_of_bytes = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(("PyBytes_AsString", ctypes.pythonapi))


def join_pieces(pieces: list[str]) -> str:
    """As `"".join`. The pieces, which are short, are let go of."""
    length = _length_of(pieces)
    if length <= _STEP:
        return "".join(pieces)
    text: str = _new(length, max(map(_widest, pieces)))
    position = 0
    for piece in pieces:
        position += _write(id(text), position, piece, 0, len(piece))
    let_go(pieces)
    return text


def join_bytes(pieces: Sequence[bytes]) -> bytes:
    """As `b"".join`."""
    length = _length_of(pieces)
    if length <= _STEP:
        return b"".join(pieces)
    whole: bytes = _new_bytes(None, length)
    place, position = _place_of_bytes(whole), 0
    for some in _steps(pieces):
        give_way()
        ctypes.memmove(place + position, some, len(some))
        position += len(some)
    return whole


def _length_of(pieces: Sequence[str] | Sequence[bytes]) -> int:
    return sum([len(piece) for piece in pieces])  # with `map` it is one step: 10 ms of 250,000 pieces


def _steps(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces that are neither long nor many."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        if size + len(piece) > _STEP:
            yield b"".join(waiting)
            waiting, size = [], 0
        if len(piece) > _STEP:
            yield from (piece[at : at + _STEP] for at in range(0, len(piece), _STEP))
        else:
            waiting.append(piece)
            size += len(piece)
    yield b"".join(waiting)


def part_of(text: str, start: int, end: int) -> str:
    """As `text[start:end]`."""
    if end - start <= _STEP:
        return text[start:end]
    return join_pieces([text[at : min(at + _STEP, end)] for at in range(start, end, _STEP)])


def _widest(piece: str) -> int:
    """The last code point of those that Python stores in as many bytes as the piece's widest: two texts are
    the same to it only where both are stored as narrowly as can be.
    """
    if piece.isascii():
        return 0x7F
    try:
        piece.encode("latin-1")
    except UnicodeEncodeError:
        pairs = len(piece.encode("utf-16-le", "surrogatepass")) > 2 * len(piece)
        return 0x10FFFF if pairs else 0xFFFF
    return 0xFF
