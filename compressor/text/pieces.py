"""Makes long texts piece by piece: in one step, memory for 32 MB shuts all other threads out for 18 ms.

A text that grows by appending does so, too, whenever the allocator has to move it. So its memory is asked for
once, untouched, and each piece is written to its place (`PyUnicode_New`, `PyUnicode_CopyCharacters` of
Python's C API): the system finds a page at its first use, a piece's at a time.
"""

from __future__ import annotations

import ctypes

from compressor.turns import let_go

_STEP = 256 * 1024  # characters: a tenth of a millisecond
_size = ctypes.c_ssize_t
_new = ctypes.PYFUNCTYPE(ctypes.py_object, _size, ctypes.c_uint32)(("PyUnicode_New", ctypes.pythonapi))
# The text that is written to goes by its address: Python refuses to write where others hold a text as well.
_write = ctypes.PYFUNCTYPE(_size, ctypes.c_void_p, _size, ctypes.py_object, _size, _size)(
    ("PyUnicode_CopyCharacters", ctypes.pythonapi)
)


def join_pieces(pieces: list[str]) -> str:
    """As `"".join`. The pieces, which are short, are let go of."""
    length = sum(map(len, pieces))
    if length <= _STEP:
        return "".join(pieces)
    text: str = _new(length, max(map(_widest, pieces)))
    position = 0
    for piece in pieces:
        position += _write(id(text), position, piece, 0, len(piece))
    let_go(pieces)
    return text


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
