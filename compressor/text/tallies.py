"""Running counts that leave Python's lock to others while they are made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 500


def joined(arrays: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """As `np.concatenate`, of many arrays some at a time: one call for thousands holds the lock for long."""
    parts = list(arrays)
    while len(parts) > _AT_ONCE:
        parts = [np.concatenate(parts[at : at + _AT_ONCE]) for at in range(0, len(parts), _AT_ONCE)]
    return np.concatenate(parts)


def running_count(marks: NDArray[Any], dtype: type[np.number[Any]] = np.int64) -> NDArray[Any]:
    """How many marks stand up to and with each place, shape of `marks`.

    As `np.cumsum(marks, dtype=dtype)`, which holds the lock (150 ms for 8 million marks) where it has to
    convert, as it has to for booleans; converted first, it does not.
    """
    counts = marks.astype(dtype)
    np.cumsum(counts, dtype=dtype, out=counts)
    return counts
