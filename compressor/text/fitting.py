"""Finds how much of an order of words fits a budget, by counting the real result a few times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compressor.text.passages import Prepared
from compressor.text.selection import Columns
from compressor.text.tokens import TokenCounter

CLOSE_ENOUGH = 0.98  # of the target, the promise
AIM = 0.995  # estimates err by some tokens on both sides; aiming at the target itself would overshoot
SEARCH_STEPS = 10  # interpolation needs 2-3; halving takes over in texts whose costs do not add up
FILL_STEPS = (
    64  # counts spent on the last words of a budget; more than a few only in texts of a few dozen tokens
)


@dataclass(frozen=True, slots=True)
class Fitted:
    """Which words stay (shape [words of all passages]), and the exact tokens of each passage."""

    keep: NDArray[np.bool_]
    tokens: list[int]


class Scales:
    """Counts the tokens of a choice; passages that did not change since the last time cost nothing."""

    def __init__(self, prepared: Sequence[Prepared], counter: TokenCounter) -> None:
        self._prepared = prepared
        self._offsets = np.cumsum([0, *(len(one.words) for one in prepared)]).tolist()
        self._counter = counter
        self._masks: list[NDArray[np.bool_] | None] = [None] * len(prepared)
        self._tokens = [0] * len(prepared)

    def weigh(self, keep: NDArray[np.bool_]) -> list[int]:
        """Exact tokens of each passage when the words of `keep` stay."""
        changed = []
        for index in range(len(self._prepared)):
            mask = keep[self._offsets[index] : self._offsets[index + 1]]
            last = self._masks[index]
            if last is None or not np.array_equal(mask, last):
                self._masks[index] = mask.copy()
                changed.append(index)
        texts = []
        for index in changed:
            one, mask = self._prepared[index], keep[self._offsets[index] : self._offsets[index + 1]]
            texts.append(one.text if len(mask) and bool(mask.all()) else one.render(one.slices(mask)[1]))
        for index, tokens in zip(changed, self._counter.count_many(texts), strict=True):
            self._tokens[index] = tokens
        return list(self._tokens)


def fit(scales: Scales, columns: Columns, order: NDArray[np.int64], target: int) -> Fitted | None:
    """Keeps the beginning of `order` that costs at most `target`, with what must stay.

    None if what must stay costs more than the target.
    """
    costs = np.cumsum(columns.costs[order], dtype=np.float64)
    fixed = float(columns.costs[~columns.free].sum())
    best: Fitted | None = None
    low, low_tokens = -1, 0.0  # the longest beginning known to fit
    high, high_tokens = len(order) + 1, 0.0  # the shortest known not to
    length = int(np.searchsorted(costs, max(0.0, target - fixed), "right"))
    for step in range(SEARCH_STEPS + 64):  # halving ends by itself: 2**64 is more than any text
        keep = ~columns.free
        keep[order[:length]] = True
        tokens = scales.weigh(keep)
        total = sum(tokens)
        if total <= target:
            best, low, low_tokens = Fitted(keep, tokens), length, total
        else:
            high, high_tokens = length, total
        if high - low <= 1 or (total <= target and total >= AIM * CLOSE_ENOUGH * target):
            break
        length = _next_length(costs, (low, low_tokens), (high, high_tokens), target, step)
    if best is None:
        return None
    return _fill(scales, best, columns, order[low:], target)


def _next_length(
    costs: NDArray[np.float64], low: tuple[int, float], high: tuple[int, float], target: int, step: int
) -> int:
    """The next guess between a beginning that fits and one that does not; either may be unknown yet."""
    (fits, fit_tokens), (over, over_tokens) = low, high
    last = len(costs)
    goal = AIM * target
    if step >= SEARCH_STEPS:
        guess = (max(fits, 0) + min(over, last)) // 2
    elif fits >= 0 and over <= last:
        share = (goal - fit_tokens) / max(1.0, over_tokens - fit_tokens)
        guess = fits + int(share * (over - fits))
    elif fits >= 0:
        spent = costs[fits - 1] if fits else 0.0
        guess = int(np.searchsorted(costs, spent + max(1.0, goal - fit_tokens), "right"))
    else:
        spent = costs[over - 1] if over else 0.0
        guess = int(np.searchsorted(costs, max(0.0, spent - 1.1 * max(1.0, over_tokens - goal)), "right"))
    return max(fits + 1, min(guess, over - 1, last))


def _fill(scales: Scales, best: Fitted, columns: Columns, rest: NDArray[np.int64], target: int) -> Fitted:
    """Adds further words, in order, until the result is close to the target or nothing fits any more."""
    total = sum(best.tokens)
    refused = np.zeros(len(rest), bool)
    steps = 0
    most = len(rest)
    while total < CLOSE_ENOUGH * target and steps < FILL_STEPS:
        open_words = rest[~best.keep[rest] & ~refused]
        fitting = open_words[columns.costs[open_words] <= target - total]
        if not len(fitting):
            break
        together = np.cumsum(columns.costs[fitting]) <= target - total
        count = max(1, min(most, int(together.sum())))
        keep = best.keep.copy()
        keep[fitting[:count]] = True
        tokens = scales.weigh(keep)
        steps += 1
        if sum(tokens) <= target:
            best, total = Fitted(keep, tokens), sum(tokens)
            most = len(rest)
        elif count > 1:
            most = count // 2
        else:
            refused[np.flatnonzero(rest == fitting[0])] = True
            most = len(rest)
    return best
