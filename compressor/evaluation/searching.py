"""The largest choice that fits a budget, in few tries: each try renders and tokenises a text."""

from __future__ import annotations

from collections.abc import Callable


def largest_within(limit: int, top: int, cost: Callable[[int], int]) -> int:
    """The largest n in 0..top with cost(n) <= limit, for a cost that grows with n; 0 when none fits.

    Interpolates, and bisects every third time so that a lopsided cost cannot make it slow. Where the cost
    dips now and then, as token counts do, what comes back still fits.
    """
    low, low_cost = 0, 0
    high, high_cost = top + 1, max(cost(top), 1) if top > 0 else 1
    if top <= 0 or high_cost <= limit:
        return max(top, 0)
    tries = 0
    while high - low > 1:
        tries += 1
        if tries % 3 == 0 or high_cost <= low_cost:
            middle = (low + high) // 2
        else:
            middle = low + round((limit - low_cost) * (high - low) / (high_cost - low_cost))
            middle = min(max(middle, low + 1), high - 1)
        found = cost(middle)
        if found <= limit:
            low, low_cost = middle, found
        else:
            high, high_cost = middle, found
    return low
