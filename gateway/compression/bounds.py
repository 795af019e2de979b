"""Where the slices of a shortened text begin and end: how they are kept, stored and cut out.

Stored, each edge is its distance from the one before, a byte for nearly all: a word is seldom longer, and so
is what is left out between two. A text of 32 MB has 1.7 million slices; as decimal numbers these are 28 MB.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt

from compressor.text.pieces import join_pieces
from compressor.turns import give_way

Bounds = Sequence[int]  # start, end, start, end, ... of the slices that stay, in characters

FEW: Final = 16  # edges that are kept as a tuple
# Edges that are packed, unpacked or put together in one step: no longer one shuts all other threads out.
_AT_ONCE = 20_000
_FAR = 255  # the byte of a distance that has its rest, four bytes, behind all the bytes


def compact(edges: Iterable[int]) -> Bounds:
    """The numbers as they are kept: few as a tuple, many as an array, which takes a ninth of its memory.

    Equal bounds are equal then. Raises OverflowError for what is no place in a text.
    """
    packed = array("I")
    ahead = iter(edges)
    while some := array("I", islice(ahead, _AT_ONCE)):  # in one step others would wait for all of them
        packed += some
        give_way()
    return _kept(packed)


def _kept(packed: array[int]) -> Bounds:
    return packed if len(packed) > FEW else tuple(packed)


def size_of(bounds: Bounds) -> int:
    """Bytes of memory, about."""
    return 4 * len(bounds) + 64 if isinstance(bounds, array) else 40 * len(bounds) + 40


def encode_bounds(bounds: Bounds) -> tuple[list[bytes], int]:
    """Edges that do not fall, as pieces of bytes: one each, then four for each of the far ones, whose number
    is the second result. Raises ValueError for edges that fall.
    """
    near: list[bytes] = []
    far: list[bytes] = []
    last = 0
    for start in range(0, len(bounds), _AT_ONCE):
        edges = np.array(bounds[start : start + _AT_ONCE], np.int64)
        distances = np.diff(edges, prepend=last)
        if distances.min() < 0:
            raise ValueError("edges of slices fall")
        last = int(edges[-1])
        near.append(np.minimum(distances, _FAR).astype(np.uint8).tobytes())
        far.append((distances[distances >= _FAR] - _FAR).astype("<u4").tobytes())
        give_way()
    return near + far, sum(map(len, far)) // 4


def decode_bounds(data: memoryview, edges: int, far: int) -> Bounds:
    """So many edges from the start of the bytes. Raises ValueError when these are none."""
    if not 0 <= far <= edges or len(data) < edges + 4 * far:
        raise ValueError("the stored form is cut off")
    packed = array("I")
    for some in _decoded(data[:edges], data[edges : edges + 4 * far]):
        packed.frombytes(some.tobytes())
        give_way()
    return _kept(packed)


def _decoded(near: memoryview, far: memoryview) -> Iterator[npt.NDArray[np.uintc]]:
    rests = np.frombuffer(far, "<u4")
    last = 0
    for start in range(0, len(near), _AT_ONCE):
        distances = np.frombuffer(near[start : start + _AT_ONCE], np.uint8).astype(np.int64)
        is_far = distances == _FAR
        count = int(is_far.sum())
        if count > len(rests):
            raise ValueError("the stored form is damaged")
        distances[is_far] += rests[:count]
        rests = rests[count:]
        edges = distances.cumsum() + last
        last = int(edges[-1])
        if last >= 2**32:
            raise ValueError("the stored form is damaged")
        yield edges.astype(np.uintc)
    if len(rests):
        raise ValueError("the stored form is damaged")


def slices_of(text: str, bounds: Bounds) -> str:
    """The slices put together. Raises ValueError for bounds that are none of this text's."""
    if len(bounds) % 2 or (bounds and bounds[-1] > len(text)):
        raise ValueError("the stored form is damaged")
    parts: list[str] = []
    last = 0
    for first in range(0, len(bounds), _AT_ONCE):
        some = bounds[first : first + _AT_ONCE]
        if list(some) != sorted(some) or some[0] < last:
            raise ValueError("the stored form is damaged")
        last = some[-1]
        pairs = zip(some[::2], some[1::2], strict=True)
        parts.append("".join([text[start:end] for start, end in pairs]))
    return parts[0] if len(parts) == 1 else join_pieces(parts)
