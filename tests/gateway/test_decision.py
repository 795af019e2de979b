from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.compression.decision import Ahead, Sizes, Yield, decide, new_still_pays
from gateway.compression.planner import Costs, Rates
from policies import Plan

RATES = Rates(3e-6, 3e-7, 3.75e-6)
SIZES = Sizes(fixed=100, old=10_000, old_free=6_000, old_untouched=1_000, new=3_000, new_free=2_500)
WARM = Ahead(turns=3.0, hit_rate=0.9, later_hit_rate=0.9)


def halve(compressible: int, total: int) -> Plan:
    if compressible < 1024:
        return Plan(False, "on", compressible, 1.0, "below-trigger")
    return Plan(True, "on", compressible // 2, 0.5, "", ("half",))


def test_new_messages_only() -> None:
    decision = decide(SIZES, halve, Costs(RATES), WARM, None)
    assert decision.choice == "new"
    assert decision.plan.target == 1_250
    assert decision.plan.steps == ("half", "expected to save $0.007106 and 0.06 s of prefill")


def test_a_cold_cache_is_the_moment_to_compact() -> None:
    decision = decide(SIZES, halve, Costs(RATES), Ahead(3.0, 0.1, 0.9), None)
    assert decision.choice == "all"
    assert decision.plan.target == 4_250
    assert decision.plan.steps[0] == "half"
    assert decision.plan.steps[1].startswith("compaction: some 3000 tokens less of earlier messages")


def test_what_does_not_fit_is_compacted_whatever_it_costs() -> None:
    assert decide(SIZES, halve, Costs(RATES), WARM, 12_000).choice == "new"
    assert decide(SIZES, halve, Costs(RATES), WARM, 11_000).choice == "all"


def test_crumbs_of_old_messages_are_not_worth_a_prefix_that_does_not_fit_anyway() -> None:
    sizes = Sizes(fixed=0, old=20_000, old_free=3, old_untouched=0, new=100, new_free=0)

    def nearly_all(compressible: int, total: int) -> Plan:
        return Plan(compressible > 1, "on", max(1, compressible // 2), 0.5, "")

    assert decide(sizes, nearly_all, Costs(RATES), WARM, 15_000).choice == "as-is"
    assert decide(sizes, nearly_all, Costs(RATES), WARM, 20_098).choice == "all"  # with them it fits
    assert decide(replace(sizes, old_free=1_200), nearly_all, Costs(RATES), WARM, 15_000).choice == "all"


def test_holdout_is_left_alone() -> None:
    held = Plan(False, "on", 0, 1.0, "holdout")
    decision = decide(SIZES, lambda *_: held, Costs(RATES), WARM, None)
    assert (decision.choice, decision.plan.reason) == ("as-is", "holdout")


def test_no_saving_is_said() -> None:
    decision = decide(SIZES, halve, Costs(RATES, usd_per_scored_token=1.0), WARM, None)
    assert (decision.choice, decision.plan.compress, decision.plan.reason) == ("as-is", False, "no-saving")


@given(
    st.integers(0, 5_000),
    st.integers(0, 100_000),
    st.floats(0, 1),
    st.integers(0, 100_000),
    st.floats(0, 1),
    st.floats(0, 1),
    st.none() | st.integers(1, 100_000),
)
def test_any_sizes(
    fixed: int, old: int, old_free: float, new: int, new_free: float, hit: float, limit: int | None
) -> None:
    sizes = Sizes(fixed, old, int(old * old_free), int(old * (1 - old_free)), new, int(new * new_free))
    decision = decide(sizes, halve, Costs(RATES), Ahead(5.0, hit, hit), limit)
    assert decision.plan.compress == (decision.choice != "as-is")
    if decision.choice == "all":
        assert sizes.old_free > 0


def test_a_compaction_in_vain_is_remembered_for_what_was_tried_and_not_for_what_comes() -> None:
    fresh = Yield()
    assert fresh.of(2_000) == 2_000
    failed = fresh.after(2_000, 600, compacted=False)
    assert failed.of(2_000) == 600  # the same messages bring no more than they did
    assert 1_200 < failed.of(3_000) < 1_400  # new ones are believed, less than before
    assert failed.of(1_000) < 1_000
    compacted = failed.after(3_000, 3_000, compacted=True)
    assert compacted.of(1_000) > failed.of(1_000)  # those that were compacted are gone from the plan
    for _ in range(20):
        failed = failed.after(5_000, 0, compacted=False)
    assert failed.of(5_000) == 0
    assert failed.of(9_000) == 2_000  # half of what came since: a log may follow the code


CHAT = Sizes(fixed=0, old=0, old_free=0, old_untouched=0, new=1_571, new_free=1_500)
QUARTER = Costs(Rates(2e-6, 5e-7, 2e-6))


def test_what_later_turns_would_read_from_the_cache_stays_large_enough_for_it() -> None:
    decision = decide(CHAT, halve, QUARTER, Ahead(0.0, 0.0, 0.8, further_turns=2.0), None)
    assert decision.choice == "new"
    assert decision.plan.target == 1_500 - (1_571 - 1_312)
    assert "1312 tokens of the input stay" in decision.plan.steps[1]
    alone = decide(CHAT, halve, QUARTER, Ahead(0.0, 0.0, 0.8, further_turns=0.2), None)
    assert (alone.choice, alone.plan.target) == ("new", 750)


def test_what_can_only_become_too_small_goes_whole() -> None:
    sizes = Sizes(fixed=0, old=0, old_free=0, old_untouched=0, new=1_250, new_free=1_200)
    decision = decide(sizes, halve, QUARTER, Ahead(0.0, 0.0, 0.8, further_turns=3.0), None)
    assert (decision.choice, decision.plan.reason) == ("as-is", "no-saving")


def test_a_small_window_is_more_than_the_cache() -> None:
    decision = decide(CHAT, halve, QUARTER, Ahead(0.0, 0.0, 0.8, further_turns=2.0), 1_000)
    assert (decision.choice, decision.plan.target, decision.forced) == ("new", 750, True)
    assert new_still_pays(decision, QUARTER.rates, 750)


def test_more_left_out_than_was_planned_is_judged_again() -> None:
    decision = decide(CHAT, halve, QUARTER, Ahead(0.0, 0.0, 0.8, further_turns=2.0), None)
    assert new_still_pays(decision, QUARTER.rates, 270)
    assert not new_still_pays(decision, QUARTER.rates, 500)
    assert new_still_pays(decision, QUARTER.rates, 1_400)  # so small that it pays even without a cache
