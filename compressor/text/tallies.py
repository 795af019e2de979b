"""Counts and sums that leave Python's lock to others while they are made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.turns import give_way, in_turns, let_go

_AT_ONCE = 500  # arrays, and
_STEP = 1 << 16  # numbers in one step
_READ = 1 << 12  # numbers that Python gets to see in one step


def joined(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """As `np.concatenate`, of many arrays some at a time: one call for thousands holds the lock for long, and
    so does their end. The list is emptied.
    """
    parts = arrays
    while len(parts) > _AT_ONCE:
        steps = range(0, len(parts), _AT_ONCE)
        parts = [np.concatenate(parts[at : at + _AT_ONCE]) for at in in_turns(steps)]
    whole = np.concatenate(parts)
    let_go(arrays)
    return whole


def spans_of(spans: Iterable[tuple[int, int]] | NDArray[np.int64]) -> NDArray[np.int64]:
    """The spans as an array, shape [spans, 2]. One by one: an array of a long list is made under the lock."""
    if isinstance(spans, np.ndarray):
        return spans
    return np.fromiter((place for span in spans for place in span), np.int64).reshape(-1, 2)


def numbers_of(array: NDArray[np.integer[Any]]) -> Iterator[int]:
    """As `array.tolist()`, one by one; others have their turn between some and the next."""
    for at in in_turns(range(0, len(array), _READ)):
        yield from array[at : at + _READ].tolist()


def true_at(flags: NDArray[Any]) -> NDArray[np.int64]:
    """Where a row of flags is true, or of numbers is not 0, shape [those].

    As `np.flatnonzero`, whose wrappers take five times as long for a short text.
    """
    return flags.nonzero()[0]


def changes_of(values: NDArray[Any]) -> NDArray[np.int64]:
    """Where a row of values begins, and where it goes over to another value, shape [runs]."""
    changed = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=changed[1:])
    return true_at(changed)


def edges_of(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Start and end of each run of true flags, one after the other, shape [2 * runs]."""
    beside = np.zeros(len(flags) + 2, bool)
    beside[1:-1] = flags
    return true_at(beside[1:] != beside[:-1])


def distances(values: NDArray[Any]) -> NDArray[Any]:
    """Of each value from the one ahead, of the first from 0: `np.diff(values, prepend=0)`."""
    steps = values.copy()
    steps[1:] -= values[:-1]
    return steps


def lengths_of(begins: NDArray[Any], end: int) -> NDArray[Any]:
    """Of the runs that begin at these places, the last one ending at `end`: `np.diff(begins, append=end)`."""
    ends = np.empty_like(begins)
    ends[:-1] = begins[1:]
    ends[-1:] = end
    ends -= begins
    return ends


def running_count(marks: NDArray[Any], dtype: type[np.number[Any]] = np.int64) -> NDArray[Any]:
    """How many marks stand up to and with each place, shape of `marks`.

    As `np.cumsum(marks, dtype=dtype)`, which holds the lock all the time (20 ms for 8 million marks).
    """
    if len(marks) <= _STEP:
        return marks.cumsum(dtype=dtype)
    counts = np.empty(len(marks), dtype)
    for at in range(0, len(marks), _STEP):
        some = marks[at : at + _STEP].astype(dtype)
        if at:
            some[0] += counts[at - 1]
        np.cumsum(some, dtype=dtype, out=counts[at : at + _STEP])
        give_way()
    return counts


def totals(
    units: NDArray[np.integer[Any]], weights: NDArray[np.floating[Any]], count: int | None = None
) -> NDArray[np.float64]:
    """What the weights of each unit add up to, shape [count]; the units are in rising order.

    As `np.bincount(units, weights, count)`, which casts and checks all numbers under the lock.
    """
    if not len(units):
        return np.zeros(count or 0)
    sums = np.zeros(int(units[-1]) + 1 if count is None else count)
    at = 0
    while at < len(units):
        end = min(at + _STEP, len(units))
        if end < len(units):  # a unit is not divided: its sum would be rounded otherwise
            begins = int(np.searchsorted(units, units[end], "left"))
            end = begins if begins > at else int(np.searchsorted(units, units[end], "right"))
        first = int(units[at])
        some = np.bincount(units[at:end] - first, weights[at:end])
        sums[first : first + len(some)] = some
        at = end
        give_way()
    return sums
