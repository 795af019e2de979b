from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.compression.planner import (
    Costs,
    Prospect,
    Rates,
    falls_below,
    forecast,
    hit_rate,
    rates_of,
    saved_by_new,
    scoring_price,
    turns_ahead,
)
from gateway.shapes import Price

HALF = Rates(1.5e-7, 0.75e-7, 1.5e-7)
TENTH = Rates(3e-6, 3e-7, 3.75e-6)
NONE = Rates(1e-6, 1e-6, 1e-6)

BASE = Prospect(
    old_tokens=10_000,
    old_kept=6_000,
    old_untouched=500,
    new_tokens=2_000,
    new_kept=1_000,
    new_kept_all=1_000,
    score_new=2_000,
    score_old=8_000,
    hit_rate=0.9,
    later_hit_rate=0.9,
    turns_ahead=0.0,
)

counts = st.integers(0, 300_000)
shares = st.floats(0, 1)
rates = st.builds(
    lambda base, read, write: Rates(base, base * read, base * write),
    st.floats(1e-8, 1e-4),
    st.floats(0.05, 1),
    st.floats(1, 2),
)
prospects = st.builds(
    lambda old, kept, untouched, new, new_kept, hit, later, ahead: Prospect(
        old,
        int(old * kept),
        int(old * kept * untouched),
        new,
        int(new * new_kept),
        int(new * new_kept),
        new,
        old,
        hit,
        later,
        ahead,
    ),
    counts,
    shares,
    shares,
    counts,
    shares,
    shares,
    shares,
    st.floats(0, 20),
)


def test_new_messages_are_shortened_and_old_ones_left_alone_where_reading_is_cheap() -> None:
    outlook = forecast(BASE, Costs(TENTH))
    assert outlook.choice == "new"
    assert outlook.saves_usd == pytest.approx(1_000 * 3.75e-6)


def test_old_messages_are_compacted_when_the_cache_has_gone_cold() -> None:
    assert forecast(replace(BASE, hit_rate=0.0), Costs(TENTH)).choice == "all"


def test_old_messages_are_compacted_when_many_turns_are_to_come() -> None:
    assert forecast(replace(BASE, turns_ahead=3.0), Costs(TENTH)).choice == "new"
    assert forecast(replace(BASE, turns_ahead=20.0, old_kept=4_000), Costs(HALF)).choice == "all"


def test_a_compaction_must_pay_even_if_the_conversation_ends_early() -> None:
    """It breaks even after about seven turns."""
    warm = replace(BASE, old_tokens=20_000, old_kept=8_000, old_untouched=0, hit_rate=1.0, later_hit_rate=1.0)
    fourteen, forty = (forecast(replace(warm, turns_ahead=turns), Costs(TENTH)) for turns in (14.0, 40.0))
    assert fourteen.choice == "new"
    assert fourteen.usd["all"] < 0.9 * fourteen.usd["new"]  # over all the turns expected it would have paid
    assert forty.choice == "all"


def test_without_a_discount_everything_is_worth_shortening() -> None:
    assert forecast(replace(BASE, hit_rate=0.0, later_hit_rate=0.0), Costs(NONE)).choice == "all"


def test_a_compaction_that_shrinks_little_is_not_worth_its_risk() -> None:
    assert forecast(replace(BASE, hit_rate=0.0, old_kept=9_000), Costs(TENTH)).choice == "new"


def test_scoring_that_costs_more_than_it_saves_is_left() -> None:
    assert forecast(BASE, Costs(TENTH, usd_per_scored_token=1e-3)).choice == "as-is"


def test_waiting_that_costs_more_than_it_saves_is_left() -> None:
    slow = Costs(TENTH, usd_per_second=0.1, scored_per_second=2_500)
    outlook = forecast(BASE, slow)
    assert outlook.choice == "as-is"
    fast = forecast(BASE, replace(slow, scored_per_second=250_000))
    assert fast.choice == "new"
    assert fast.seconds["new"] == pytest.approx(1_000 / 20_000 - 2_000 / 250_000)


def test_shortening_below_the_least_cached_size_is_left_when_turns_are_to_come() -> None:
    small = replace(BASE, old_tokens=200, old_kept=200, new_tokens=1_500, new_kept=750, new_kept_all=750)
    assert forecast(small, Costs(TENTH)).choice == "new"
    assert forecast(replace(small, turns_ahead=10.0), Costs(TENTH)).choice == "as-is"


def test_a_server_of_ones_own_caches_prompts_of_any_size() -> None:
    small = replace(BASE, old_tokens=300, old_kept=300, new_tokens=700, new_kept=400, score_old=0)
    ahead = replace(small, hit_rate=1.0, later_hit_rate=1.0, turns_ahead=5.0)
    own = rates_of(Price(known=False))
    assert forecast(ahead, Costs(own)).choice == "new"
    assert forecast(ahead, Costs(Rates(own.input, own.cache_read, own.cache_write))).choice == "as-is"


@given(prospects, rates)
def test_the_choice_is_never_dearer_than_sending_as_is(prospect: Prospect, prices: Rates) -> None:
    outlook = forecast(prospect, Costs(prices))
    assert outlook.saves_usd >= 0
    assert outlook.usd[outlook.choice] <= outlook.usd["as-is"]


@given(prospects, rates)
def test_nothing_to_shorten_means_as_it_is(prospect: Prospect, prices: Rates) -> None:
    same = replace(
        prospect,
        old_kept=prospect.old_tokens,
        new_kept=prospect.new_tokens,
        new_kept_all=prospect.new_tokens,
    )
    assert forecast(same, Costs(prices)).choice == "as-is"


@given(prospects, rates)
def test_shortening_new_messages_more_never_costs_more(prospect: Prospect, prices: Rates) -> None:
    """Unless the prompt becomes too small to be cached."""
    assume(prospect.old_tokens >= 1200)
    less = replace(prospect, new_kept=prospect.new_kept // 2)
    costs = Costs(prices)
    assert forecast(less, costs).usd["new"] <= forecast(prospect, costs).usd["new"] + 1e-12


@given(prospects, rates, st.floats(1.1, 10))
def test_prices_scale(prospect: Prospect, prices: Rates, factor: float) -> None:
    dearer = Rates(prices.input * factor, prices.cache_read * factor, prices.cache_write * factor)
    plain, scaled = forecast(prospect, Costs(prices)), forecast(prospect, Costs(dearer))
    assert scaled.usd["as-is"] == pytest.approx(plain.usd["as-is"] * factor)
    assert scaled.usd["all"] == pytest.approx(plain.usd["all"] * factor)


def test_unknown_prices() -> None:
    assert rates_of(Price(input=2.0)) == Rates(2.0, 2.0, 2.0)
    assert not rates_of(Price(input=2.0)).discounts
    assert rates_of(Price(input=2.0, cache_read=1.0, cache_write=3.0)) == Rates(2.0, 1.0, 3.0)
    assert rates_of(Price()).discounts


def test_hit_rates() -> None:
    assert hit_rate(0.9, 10, seen=True, discounts=False) == 0.0
    assert hit_rate(0.9, 10, seen=True, discounts=True) == 0.9
    assert hit_rate(7.0, 10, seen=True, discounts=True) == 1.0
    assert hit_rate(0.9, 3600, seen=True, discounts=True) == 0.9
    assert hit_rate(0.9, 3600, 0.0, seen=True, discounts=True) == 0.0
    assert hit_rate(0.9, 3600, 0.8, seen=True, discounts=True) == 0.8
    assert hit_rate(0.0, 3600, seen=True, discounts=True) == 0.0
    assert 0.5 < hit_rate(None, 10, seen=True, discounts=True) < 1
    assert hit_rate(None, 10, seen=False, discounts=True) == 0.5


def test_turns_ahead_grow_with_the_conversation() -> None:
    assert turns_ahead(1) == 0.0
    assert 0 < turns_ahead(5) < turns_ahead(10) <= 10
    assert turns_ahead(10_000) == 20.0


def test_machines_have_a_price() -> None:
    assert scoring_price("cuda:0") < scoring_price("cpu")


FIRST = replace(  # a chat's first turn: cached as it comes, too small to be once it is halved
    BASE,
    old_tokens=0,
    old_kept=0,
    old_untouched=0,
    new_tokens=1_571,
    new_kept=800,
    new_kept_all=800,
    score_old=0,
    hit_rate=0.0,
)
QUARTER = Rates(2e-6, 5e-7, 2e-6)


@pytest.mark.parametrize(("further", "choice"), [(0.0, "new"), (1.0, "new"), (2.0, "as-is"), (20.0, "as-is")])
def test_a_first_turn_counts_the_cached_reads_that_later_turns_would_lose(
    further: float, choice: str
) -> None:
    prospect = replace(FIRST, further_turns=further)
    assert falls_below(prospect, QUARTER)
    assert forecast(prospect, Costs(QUARTER)).choice == choice
    # 771 tokens now; then each turn pays 800 in full where it would have read 1,571 at a quarter.
    assert saved_by_new(prospect, QUARTER) == pytest.approx(
        771 * 2e-6 - further * (800 * 2e-6 - 1_571 * 5e-7)
    )


def test_nothing_is_lost_where_nothing_is_cached() -> None:
    prospect = replace(FIRST, further_turns=20.0, further_hit_rate=0.0)
    assert forecast(prospect, Costs(QUARTER)).choice == "new"
    deepseek = rates_of(Price(2.8e-7, 4.2e-7, 2.8e-8), "DeepSeek-V3")
    for rates in (NONE, replace(QUARTER, any_size=True), deepseek):
        assert not falls_below(replace(FIRST, further_turns=20.0), rates)


def test_what_stays_large_enough_or_was_always_too_small_loses_nothing() -> None:
    for sizes in ({"new_kept": 1_312}, {"new_tokens": 860, "new_kept": 430}):
        assert not falls_below(replace(FIRST, further_turns=20.0, **sizes), QUARTER)
