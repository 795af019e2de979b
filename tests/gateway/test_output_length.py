"""What shortening does to the length of answers, from sums of both arms."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from gateway.accounting.output_length import LEAST_ANSWERS, OutputChange, output_change, output_figures
from gateway.stores.books import DIMENSIONS, figures, rows_of


def entry(arm: str, tokens: int, **more: Any) -> dict[str, Any]:
    return {"arm": arm, "output_tokens": tokens, "output_usd": tokens * 2e-6, "outcome": "ok", **more}


def sums(treated: list[int], holdout: list[int]) -> Counter[str]:
    total: Counter[str] = Counter()
    for arm, lengths in (("treated", treated), ("holdout", holdout)):
        for tokens in lengths:
            total.update(output_figures(entry(arm, tokens)))
    return total


def test_longer_answers_are_priced() -> None:
    found = output_change([sums([110, 130] * 50, [95, 105] * 10)])
    assert (found.requests, found.holdout_requests) == (100, 20)
    assert (found.mean, found.holdout_mean) == (120, 100)
    assert found.tokens == pytest.approx(2000)
    assert found.usd == pytest.approx(2000 * 2e-6)
    assert found.low < 2000 < found.high and found.usd_low < found.usd < found.usd_high
    assert found.low > 1500  # Welch: 100 * sqrt(10.05²/100 + 5.13²/20) * 1.96 = 299
    assert found.high - found.tokens == pytest.approx(299, rel=0.02)


def test_too_few_answers_say_nothing() -> None:
    assert output_change([sums([100] * 500, [50] * (LEAST_ANSWERS - 1))]) == OutputChange()
    assert output_change([]) == OutputChange()


def test_models_are_compared_within_themselves() -> None:
    """One model talks ten times as much, and was held out half as often: no answer became longer."""
    short, long = sums([10, 12] * 100, [10, 12] * 100), sums([100, 120] * 100, [100, 120] * 10)
    assert output_change([short, long]).tokens == pytest.approx(0)
    assert output_change([short + long]).tokens > 1000  # what mixing them would say


def test_the_interval_covers_the_truth() -> None:
    chance = random.Random(5)
    covered = 0
    for _ in range(300):
        treated = [round(chance.lognormvariate(5, 0.6) * 1.1) for _ in range(200)]
        holdout = [round(chance.lognormvariate(5, 0.6)) for _ in range(40)]
        truth = 200 * 0.1 * 177.7  # mean of the log-normal: exp(5 + 0.6² / 2)
        found = output_change([sums(treated, holdout)])
        covered += found.low <= truth <= found.high
    assert 270 <= covered <= 297  # 95 % of 300, and what 300 draws and skewed lengths allow


@pytest.mark.parametrize(
    "more",
    [{"outcome": "client-left"}, {"estimated": True}, {"status_code": 500}, {"arm": ""}, {"arm": "other"}],
)
def test_answers_of_unknown_length_are_in_neither_arm(more: dict[str, Any]) -> None:
    assert output_figures({**entry("treated", 9), **more}) == {}


def test_rows_of_the_books_are_net_of_longer_answers() -> None:
    booked: list[tuple[tuple[str, ...], str, int]] = []
    for model, route in (("a", "0"), ("b", "0"), ("a", "1")):
        for index in range(60):
            arm = "holdout" if index % 4 == 0 else "treated"
            tokens = (100 if arm == "holdout" else 130) * (3 if model == "b" else 1)
            one = entry(arm if route == "0" else "", tokens, saved_usd=0.001 if arm == "treated" else 0.0)
            key = ("2026-11-25", "search", "k", model, route)
            booked += [(key, figure, amount) for figure, amount in figures(one).items()]
    (row,) = rows_of(booked, ("day", "team"))
    assert DIMENSIONS[1] == "team"
    assert (row["compared_requests"], row["holdout_requests"]) == (90, 30)
    assert row["output_change_tokens"] == 45 * 30 + 45 * 90
    assert row["output_change_usd"] == pytest.approx((45 * 30 + 45 * 90) * 2e-6)
    assert row["saved_usd"] == pytest.approx(0.135)
    assert row["net_saved_usd"] == pytest.approx(0.135 - (45 * 30 + 45 * 90) * 2e-6)
    assert (row["output_tokens_mean"], row["holdout_output_tokens_mean"]) == (260, 200)
    by_route = rows_of(booked, ("route",))
    assert (
        by_route[1]["net_saved_usd"] == by_route[1]["saved_usd"]
    )  # nothing to compare with: nothing claimed
