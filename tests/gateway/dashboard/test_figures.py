from __future__ import annotations

from gateway.dashboard.figures import Filters, add_up, answer_lengths, summarise

ROWS = [
    {"day": "2026-03-02", "team": "a", "model": "m", "route": "0", "requests": 2, "tokens_before": 100,
     "tokens_after": 60, "cost_usd": 0.5, "counterfactual_usd": 0.75, "saved_usd": 0.25},
    {"day": "2026-03-01", "team": "a", "model": "m", "route": "1", "requests": 1, "tokens_before": 10,
     "tokens_after": 10, "cost_usd": 0.25, "counterfactual_usd": 0.25, "saved_usd": 0.0},
    {"day": "2026-03-01", "team": "b", "model": "n", "route": "0", "requests": 4, "tokens_before": 40,
     "tokens_after": 20, "cost_usd": 1.0, "counterfactual_usd": 0.5, "saved_usd": -0.5},
]  # fmt: skip
RECEIPTS = [
    {"team": "a", "model": "m", "route": "0", "compression": "applied", "skip_reason": "", "cache": "hit",
     "overhead_ms": 3.0, "upstream_ms": 30.0},
    {"team": "b", "model": "n", "route": "0", "compression": "skipped", "skip_reason": "below-trigger",
     "cache": "none",
     "overhead_ms": 1.0, "upstream_ms": 10.0},
    {"team": "b", "model": "n", "route": "0", "compression": "off", "skip_reason": "", "cache": "none",
     "overhead_ms": 0.5, "upstream_ms": 12.0},
]  # fmt: skip


def test_rows_add_up_per_day_in_order() -> None:
    days = add_up(ROWS, ("day",))
    assert [(day["day"], day["requests"], day["saved_usd"]) for day in days] == [
        ("2026-03-01", 5, -0.5),
        ("2026-03-02", 2, 0.25),
    ]


def test_everything_is_shown_without_filters() -> None:
    figures = summarise(ROWS, RECEIPTS, Filters())
    assert figures["total"] == {
        "requests": 7, "tokens_before": 150, "tokens_after": 90,
        "cost_usd": 1.75, "counterfactual_usd": 1.5, "saved_usd": -0.25,
    }  # fmt: skip
    assert figures["skips"] == {"below-trigger": 1, "off": 1}
    assert figures["cache"] == {"hit": 1}
    assert figures["latency"] == [
        {"overhead_ms": 0.5, "upstream_ms": 12.0},
        {"overhead_ms": 1.0, "upstream_ms": 10.0},
        {"overhead_ms": 3.0, "upstream_ms": 30.0},
    ]


def test_latency_is_split() -> None:
    split = summarise(ROWS, RECEIPTS, Filters())["latency_split"]
    assert split == {"ours": {"p50": 1.0, "p95": 3.0}, "upstream": {"p50": 12.0, "p95": 30.0}}
    assert summarise(ROWS, [], Filters())["latency_split"] == {}


def test_lengths_of_answers_where_a_holdout_tells_them() -> None:
    told = {"team": "a", "route": "0", "model": "m", "compared_requests": 12, "output_change_usd": 0.01}
    rows = [told, {**told, "team": "b"}, {**told, "compared_requests": 0}]
    assert answer_lengths(rows, Filters()) == rows[:2]
    assert answer_lengths(rows, Filters(team="a")) == [told]


def test_a_filter_narrows_the_figures_but_not_the_choices() -> None:
    figures = summarise(ROWS, RECEIPTS, Filters(team="b"))
    assert figures["total"]["requests"] == 4  # type: ignore[index]
    assert figures["teams"] == ["a", "b"]
    assert len(figures["latency"]) == 2  # type: ignore[arg-type]


def test_empty_books_give_zeros() -> None:
    figures = summarise([], [], Filters())
    assert figures["total"]["cost_usd"] == 0  # type: ignore[index]
    assert figures["days"] == []
