"""Confidence intervals for means of values in 0..1, and for ratios of means. Standard library only."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

Z95 = 1.959964  # of the normal distribution, two-sided 95 %
_RESAMPLES = 2000  # the ends of a 95 % interval then move by about 0.1 standard errors


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % confidence interval, over `n` values."""

    mean: float
    low: float
    high: float
    n: int


def wilson(values: Sequence[float]) -> Interval:
    """Wilson's score interval (1927) for the mean of values in 0..1; (0, 1) with none.

    Exact in spirit for hits and misses, and on the safe side for values between: no distribution on 0..1
    with this mean varies more than the one of hits and misses.
    """
    n = len(values)
    if n == 0:
        return Interval(0.0, 0.0, 1.0, 0)
    p = min(1.0, max(0.0, math.fsum(values) / n))
    z2 = Z95 * Z95
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    reach = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Interval(p, max(0.0, centre - reach), min(1.0, centre + reach), n)


def difference(first: Interval, second: Interval) -> Interval:
    """`first` minus `second` (independent), by Newcombe's square-and-add (1998, method 10)."""
    gap = first.mean - second.mean
    below = math.hypot(first.mean - first.low, second.high - second.mean)
    above = math.hypot(first.high - first.mean, second.mean - second.low)
    return Interval(gap, max(-1.0, gap - below), min(1.0, gap + above), min(first.n, second.n))


def least_pairs(bound: float) -> int:
    """How many values a flawless record needs for Wilson's lower end to reach `bound`.

    At n values that are all 1, the lower end is n / (n + z²).
    """
    if bound >= 1:
        return 10**9
    return max(1, math.ceil(bound * Z95 * Z95 / (1 - bound)))


def ratio_of_means(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Interval | None:
    """Mean of `first` over mean of `second`, by percentile bootstrap (Efron, 1979); None where undefined.

    Deterministic: equal values give equal intervals.
    """
    if len(first) < 2 or len(second) < 2 or math.fsum(second) <= 0:
        return None
    chance = random.Random(seed)

    def resampled(values: Sequence[float]) -> float:
        return math.fsum(chance.choices(values, k=len(values))) / len(values)

    ratios = []
    for _ in range(_RESAMPLES):
        below = resampled(second)
        if below > 0:
            ratios.append(resampled(first) / below)
    ratios.sort()
    mean = (math.fsum(first) / len(first)) / (math.fsum(second) / len(second))
    low, high = ratios[int(0.025 * len(ratios))], ratios[int(0.975 * len(ratios)) - 1]
    return Interval(mean, low, high, min(len(first), len(second)))


def ratio_by_deltas(first: Sequence[float], second: Sequence[float]) -> Interval | None:
    """The same ratio with the interval of its logarithm's first-order variance: microseconds, for metrics."""
    if len(first) < 2 or len(second) < 2 or math.fsum(first) <= 0 or math.fsum(second) <= 0:
        return None
    relative = 0.0
    means = []
    for values in (first, second):
        mean = math.fsum(values) / len(values)
        variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
        relative += variance / (len(values) * mean * mean)
        means.append(mean)
    ratio, reach = means[0] / means[1], math.exp(Z95 * math.sqrt(relative))
    return Interval(ratio, ratio / reach, ratio * reach, min(len(first), len(second)))
