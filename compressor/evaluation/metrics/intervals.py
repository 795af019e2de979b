"""Bootstrap confidence intervals of means, and of paired differences (Efron's percentile method)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000  # the ends of a 95 % interval then move by well under a point between seeds
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with the ends of its 95 % interval, over `count` values."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def mean_interval(values: Sequence[float], seed: int = 0) -> Interval:
    """The mean of the values, which are resampled one by one. Raises ValueError when there is none."""
    if not values:
        raise ValueError("no values")
    array = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(0, len(array), (RESAMPLES, len(array)))
    means = array[draws].mean(axis=1)
    tail = (1 - LEVEL) / 2 * 100
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(float(array.mean()), float(low), float(high), len(array))


def paired_interval(left: Sequence[float], right: Sequence[float], seed: int = 0) -> Interval:
    """The mean of left - right over the same items in the same order. Raises ValueError."""
    return mean_interval([a - b for a, b in zip(left, right, strict=True)], seed)
