"""Finds how much of an order of words fits a budget, by counting the real result a few times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from compressor.text.passages import Prepared, Rendered
from compressor.text.selection import Columns
from compressor.text.tallies import joined, running_count, true_at
from compressor.text.tokens import TokenCounter
from compressor.turns import in_turns, let_go

CLOSE_ENOUGH = 0.98  # of the target, the promise
# In short texts each further try costs little, and one per cent of the tokens keeps one answer in 100 more.
CLOSER, SHORT = 0.996, 2_000
AIM = 0.995  # estimates err by some tokens on both sides; aiming at the target itself would overshoot
FIRST_AIM = (
    0.988  # line breaks that stay where words went make the first result some 1 % longer than estimated
)
SEARCH_STEPS = 10  # interpolation needs 2-3; halving takes over in texts whose costs do not add up
_COUNTED_AT_ONCE = 2_000  # texts
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
        self._offsets = list(accumulate((len(one.words) for one in in_turns(prepared)), initial=0))
        self._counter = counter
        self._costs = joined([one.costs for one in prepared])
        self._masks: list[NDArray[np.bool_] | None] = [None] * len(prepared)
        self._rendered: list[Rendered | None] = [None] * len(prepared)
        self._tokens = [0] * len(prepared)

    def estimate(self, keep: NDArray[np.bool_]) -> float:
        """About how many tokens the words cost, from where the tokens of the original begin."""
        return float(self._costs[keep].sum())

    def weigh(self, keep: NDArray[np.bool_]) -> list[int]:
        """Exact tokens of each passage when the words of `keep` stay."""
        changed = []
        for index in in_turns(range(len(self._prepared))):
            mask = keep[self._offsets[index] : self._offsets[index + 1]]
            last = self._masks[index]
            if last is None or not np.array_equal(mask, last):
                self._masks[index] = mask.copy()
                changed.append(index)
        for at in range(0, len(changed), _COUNTED_AT_ONCE):
            self._count(keep, changed[at : at + _COUNTED_AT_ONCE])
        return list(self._tokens)

    def _count(self, keep: NDArray[np.bool_], changed: Sequence[int]) -> None:
        texts = []
        for index in in_turns(changed):
            rendered = self._prepared[index].rendered(keep[self._offsets[index] : self._offsets[index + 1]])
            self._rendered[index] = rendered
            texts.append(rendered.text)
        for index, tokens in zip(changed, self._counter.count_many(texts), strict=True):
            self._tokens[index] = tokens

    def rendered(self, keep: NDArray[np.bool_]) -> Iterator[Rendered]:
        """The passages when the words of `keep` stay; those that were weighed like that are there already."""
        for index, one in enumerate(in_turns(self._prepared)):
            mask = keep[self._offsets[index] : self._offsets[index + 1]]
            last, rendered = self._masks[index], self._rendered[index]
            if last is None or rendered is None or not np.array_equal(mask, last):
                rendered = one.rendered(mask)
            yield rendered

    def let_go(self) -> None:
        """Nothing more is asked for."""
        let_go(self._masks)
        let_go(self._rendered)


@dataclass(frozen=True, slots=True)
class Items:
    """What stays or goes as one (a word, or a group of words), in the order in which it is kept."""

    costs: NDArray[np.float32]  # about so many tokens, shape [items]
    least: NDArray[np.float32]  # at least so many, when what comes along is there already
    words: NDArray[np.int64]  # every free word
    item: NDArray[np.int64]  # the item of each of them

    def keep(self, must_stay: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The words that stay when these items do."""
        keep = must_stay.copy()
        keep[self.words[chosen[self.item]]] = True
        return keep


def order_items(columns: Columns, order: NDArray[np.int64]) -> Items:
    """Groups stand where their first word stands in the order of words."""
    group = columns.group[order]
    if not len(order) or int(group.max()) < 0:
        return Items(columns.costs[order], columns.own_costs[order], order, np.arange(len(order)))
    keys = np.where(group >= 0, group, int(group.max()) + 1 + np.arange(len(order)))
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    position = np.empty(len(first), np.int64)
    position[np.argsort(first, kind="stable")] = np.arange(len(first))
    item = position[inverse]
    # bincount casts other numbers under Python's lock.
    costs = np.bincount(item, columns.costs[order].astype(np.float64)).astype(np.float32)
    least = np.bincount(item, columns.own_costs[order].astype(np.float64)).astype(np.float32)
    return Items(costs, least, order, item)


def fit(scales: Scales, items: Items, must_stay: NDArray[np.bool_], target: int) -> Fitted | None:
    """Keeps the first items that cost at most `target` tokens, with what must stay.

    None if what must stay costs more than the target.
    """
    costs = running_count(items.costs, np.float64)
    count = len(costs)
    best: tuple[list[int], NDArray[np.bool_]] | None = None
    low, low_tokens = -1, 0.0  # most items known to fit
    high, high_tokens = count + 1, 0.0  # fewest known not to
    spare = max(0.0, FIRST_AIM * target - scales.estimate(must_stay))
    length = int(np.searchsorted(costs, spare, "right"))
    for step in range(SEARCH_STEPS + 64):  # halving ends by itself: 2**64 is more than any text
        chosen = np.arange(count) < length
        tokens = scales.weigh(items.keep(must_stay, chosen))
        total = sum(tokens)
        if total <= target:
            best, low, low_tokens = (tokens, chosen), length, total
        else:
            high, high_tokens = length, total
        if high - low <= 1 or _close_enough(target) <= total <= target:
            break
        length = _next_length(costs, (low, low_tokens), (high, high_tokens), target, step)
    if best is None:
        return None
    tokens, chosen = _fill(scales, items, must_stay, best, target)
    return Fitted(items.keep(must_stay, chosen), tokens)


def _close_enough(target: int) -> float:
    """Tokens from which nothing more is tried."""
    return (CLOSER if target <= SHORT else CLOSE_ENOUGH) * target


def _next_length(
    costs: NDArray[np.float64], low: tuple[int, float], high: tuple[int, float], target: int, step: int
) -> int:
    """The next guess between a length that fits and one that does not; either may be unknown yet."""
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


def _fill(
    scales: Scales,
    items: Items,
    must_stay: NDArray[np.bool_],
    best: tuple[list[int], NDArray[np.bool_]],
    target: int,
) -> tuple[list[int], NDArray[np.bool_]]:
    """Adds further items, in order, until the result is close to the target or nothing fits any more."""
    tokens, chosen = best
    refused = np.zeros(len(chosen), bool)
    most = len(chosen)
    for _ in range(FILL_STEPS):
        spare = target - sum(tokens)
        fitting = true_at(~chosen & ~refused & (items.least <= spare))
        if not len(fitting) or sum(tokens) >= _close_enough(target):
            break
        count = max(1, min(most, int((np.cumsum(items.costs[fitting]) <= spare).sum())))
        more = chosen.copy()
        more[fitting[:count]] = True
        weighed = scales.weigh(items.keep(must_stay, more))
        if sum(weighed) <= target:
            tokens, chosen, most = weighed, more, len(chosen)
        elif count > 1:
            most = count // 2
        else:
            refused[fitting[0]] = True
            most = len(chosen)
    return tokens, chosen
