"""Confidence intervals against published values and by simulation."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.quality.intervals import (
    Interval,
    difference,
    least_pairs,
    ratio_by_deltas,
    ratio_of_means,
    wilson,
)

unit = st.lists(st.floats(0, 1), max_size=60)


def test_wilson_has_the_textbook_values() -> None:
    # Newcombe (1998), Statistics in Medicine 17, 857-872, table I: 81/263, 15/148, 0/20, 1/29.
    for hits, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        found = wilson([1.0] * hits + [0.0] * (n - hits))
        assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_newcombes_difference_has_the_textbook_values() -> None:
    # Newcombe (1998), Statistics in Medicine 17, 873-890, table II, method 10: 56/70 - 48/80 and 9/10 - 3/10.
    for a, m, b, n, low, high in ((56, 70, 48, 80, 0.0524, 0.3339), (9, 10, 3, 10, 0.1705, 0.8090)):
        first = wilson([1.0] * a + [0.0] * (m - a))
        second = wilson([1.0] * b + [0.0] * (n - b))
        found = difference(first, second)
        assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_nothing_known() -> None:
    assert wilson([]) == Interval(0.0, 0.0, 1.0, 0)


@given(unit, unit)
def test_intervals_hold_their_means(first: list[float], second: list[float]) -> None:
    one, other = wilson(first), wilson(second)
    assert 0 <= one.low <= one.mean + 1e-12 and one.mean <= one.high + 1e-12 <= 1 + 1e-11
    gap = difference(one, other)
    assert -1 <= gap.low <= gap.mean + 1e-9 and gap.mean <= gap.high + 1e-9


@given(st.floats(0.01, 0.999))
def test_a_flawless_record_reaches_the_bound_with_the_least_pairs_and_not_before(bound: float) -> None:
    n = least_pairs(bound)
    assert wilson([1.0] * n).low >= bound - 1e-9
    assert n == 1 or wilson([1.0] * (n - 1)).low < bound


def test_a_bound_of_one_is_never_reached() -> None:
    assert least_pairs(1.0) > 10**6
    assert [least_pairs(bound) for bound in (0.8, 0.9, 0.95)] == [16, 35, 73]


def test_wilson_covers_values_between_zero_and_one() -> None:
    chance = random.Random(7)
    hits = 0
    for _ in range(400):
        values = [chance.betavariate(9, 1) for _ in range(40)]
        found = wilson(values)
        hits += found.low <= 0.9 <= found.high
    assert hits >= 380  # 95 %; more, as such values vary less than hits and misses


def test_ratio_of_means() -> None:
    chance = random.Random(3)
    base = [chance.lognormvariate(5, 0.5) for _ in range(300)]
    longer = [chance.lognormvariate(5, 0.5) * 1.3 for _ in range(300)]
    found = ratio_of_means(longer, base)
    assert found is not None
    assert found.low < 1.3 < found.high and found.high - found.low < 0.4
    assert found == ratio_of_means(longer, base)
    quick = ratio_by_deltas(longer, base)
    assert quick is not None
    assert quick.mean == pytest.approx(found.mean)
    assert quick.low == pytest.approx(found.low, rel=0.02)
    assert quick.high == pytest.approx(found.high, rel=0.02)
    assert ratio_by_deltas([1.0], base) is ratio_by_deltas(base, [0.0, 0.0]) is None
    assert ratio_of_means([1.0], base) is None
    assert ratio_of_means(base, [0.0, 0.0]) is None
