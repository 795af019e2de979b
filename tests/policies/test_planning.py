"""The arithmetic of budgets: examples with known answers, and what holds for every input."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.planning import audited, draw_of, in_schedule, parse_wish, plan_budget, rule_for
from policies.shapes import ClientWish, KeepRange, Plan, Policy, PressureStep, RoleRule, Schedule

MONDAY_NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
STEPS = (PressureStep(0.8, 0.4), PressureStep(0.95, 0.3))


def plan(policy: Policy, size: int = 10_000, total: int | None = None, **more: object) -> Plan:
    arguments: dict[str, object] = {
        "wish": ClientWish(),
        "spent_share": 0.0,
        "pressure": (),
        "context_window": None,
        "draw": 0.5,
        "at": MONDAY_NOON,
        **more,
    }
    total = size if total is None else total
    return plan_budget(policy, compressible_tokens=size, total_tokens=total, **arguments)  # type: ignore[arg-type]


def test_keep_share() -> None:
    made = plan(Policy("p", keep=0.5), 10_001)
    assert (made.compress, made.target, made.keep, made.reason) == (True, 5000, 0.5, "")
    assert made.steps == ("policy p keeps 0.5: 5000 of 10001 compressible tokens",)
    assert made.compressible == 10_001


def test_a_token_of_many_is_not_told_as_none() -> None:
    made = plan(Policy("p", keep=1.0, max_input_tokens=1), 20_001)
    assert (made.compress, made.target, made.keep) == (True, 1, 0.0001)


@pytest.mark.parametrize(
    ("size", "target"), [(1999, 1399), (2000, 1000), (7999, 3999), (8000, 2640), (10**6, 330_000)]
)
def test_ranges_by_size(size: int, target: int) -> None:
    policy = Policy("p", keep=0.7, trigger_tokens=0, ranges=(KeepRange(2000, 0.5), KeepRange(8000, 0.33)))
    assert plan(policy, size).target == target


@pytest.mark.parametrize(
    ("policy", "more", "reason"),
    [
        (Policy("p", mode="off"), {}, "mode-off"),
        (Policy("p", trigger_tokens=20_000), {}, "below-trigger"),
        (Policy("p", keep=1.0), {}, "nothing-to-cut"),
        (Policy("p", sample=0.4), {}, "sampled-out"),
        (Policy("p", sample=0.6, holdout=0.9), {}, "holdout"),
        (Policy("p", holdout=0.4), {}, ""),
        (Policy("p"), {"wish": ClientWish(off=True)}, "client-off"),
        (Policy("p", client_override=False), {"wish": ClientWish(off=True)}, ""),
        (Policy("p", sample=0.4), {"wish": ClientWish(on=True)}, ""),
        (Policy("p", schedule=(Schedule((5, 6), 0, 1440),)), {}, "outside-schedule"),
    ],
)
def test_when_nothing_is_shortened(policy: Policy, more: dict[str, object], reason: str) -> None:
    made = plan(policy, **more)
    assert (made.reason, made.compress) == (reason, not reason)
    if reason:
        assert (made.target, made.keep) == (10_000, 1.0)


def test_an_empty_request_is_left_alone() -> None:
    assert plan(Policy("p", trigger_tokens=0), 0).reason == "below-trigger"


@pytest.mark.parametrize(
    ("wish", "target"),
    [
        (ClientWish(keep=0.3), 3000),
        (ClientWish(keep=0.01), 1000),  # min_keep
        (ClientWish(target=2500), 2500),
        (ClientWish(target=10), 1000),
        (ClientWish(target=99_999), 10_000),
    ],
)
def test_the_clients_wish_is_clamped(wish: ClientWish, target: int) -> None:
    assert plan(Policy("p", min_keep=0.1), wish=wish).target == target


def test_a_client_without_permission_changes_nothing() -> None:
    assert plan(Policy("p", client_override=False), wish=ClientWish(keep=0.9)).target == 5000


@pytest.mark.parametrize(
    ("spent", "target"), [(0.79, 5000), (0.8, 4000), (0.94, 4000), (0.95, 3000), (7.5, 3000)]
)
def test_pressure(spent: float, target: int) -> None:
    made = plan(Policy("p"), spent_share=spent, pressure=STEPS)
    assert made.target == target
    assert (len(made.steps) > 1) == (spent >= 0.8)


def test_pressure_never_loosens_and_stops_at_min_keep() -> None:
    assert plan(Policy("p", keep=0.2), spent_share=0.9, pressure=STEPS).target == 2000
    assert plan(Policy("p", min_keep=0.35), spent_share=1.0, pressure=STEPS).target == 3500


def test_pressure_comes_after_the_wish() -> None:
    assert plan(Policy("p"), wish=ClientWish(keep=0.9), spent_share=0.9, pressure=STEPS).target == 4000


def test_max_input_tokens_goes_below_min_keep() -> None:
    made = plan(Policy("p", max_input_tokens=1500), 20_000, 21_000)
    assert made.target == 500
    assert made.steps[-1] == "max_input_tokens 1500 less 1000 that stay: 500 tokens"


def test_what_cannot_fit_keeps_min_keep_and_says_so() -> None:
    made = plan(Policy("p", max_input_tokens=900), 20_000, 21_000)
    assert made.target == 2000
    assert "cannot be met, 1000 tokens must stay" in made.steps[-1]


def test_compress_to_fit_before_a_context_window_error() -> None:
    """What would be refused is shortened, even where a share or the trigger would leave it alone."""
    for policy in (
        Policy("p", sample=0.1),
        Policy("p", holdout=1.0),
        Policy("p", trigger_tokens=10**6),
        Policy("p", keep=1.0),
    ):
        made = plan(policy, 10_000, 11_000, context_window=8_000)
        assert made.compress
        assert made.target + 1000 <= 8_000
    assert not plan(Policy("p", holdout=1.0), 10_000, 11_000, context_window=11_000).compress


def test_the_context_window_never_forces_less_than_min_keep() -> None:
    made = plan(Policy("p", min_keep=0.2), 100_000, context_window=8_000)
    assert made.target == 20_000
    assert made.steps[-1].endswith("which still does not fit")


def test_compress_to_fit_before_a_budget_refuses() -> None:
    made = plan(Policy("p", keep=0.8), 10_000, 11_000, affordable=6000)
    assert made.target == 5000
    assert made.steps[-1] == "the budget covers 6000 tokens of input: 5000 tokens"
    made = plan(Policy("p", keep=0.8, min_keep=0.3), 10_000, 11_000, affordable=2000)
    assert made.target == 3000
    assert made.steps[-1].endswith("3000 tokens, which is still too much for it")
    assert plan(Policy("p", keep=0.5), affordable=6000).target == 5000
    assert plan(Policy("p", trigger_tokens=20_000), affordable=9000).target == 5000  # the policy's share
    assert plan(Policy("p", mode="off"), affordable=10).reason == "mode-off"


def test_a_client_that_says_off_is_not_made_to_fit() -> None:
    assert plan(Policy("p"), wish=ClientWish(off=True), context_window=10).reason == "client-off"


def test_audit_plans_like_on() -> None:
    made = plan(Policy("p", mode="audit"))
    assert (made.compress, made.mode, made.target) == (True, "audit", 5000)
    assert audited(plan(Policy("p"))) == made
    off = plan(Policy("p", mode="off"))
    assert audited(off) is off


shares = st.floats(0.01, 1.0)
sizes = st.integers(0, 300_000)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    edges = sorted(draw(st.sets(st.integers(0, 200_000), max_size=4)))
    return Policy(
        "p",
        keep=draw(shares),
        min_keep=draw(st.floats(0.01, 0.5)),
        trigger_tokens=draw(st.integers(0, 5000)),
        ranges=tuple(KeepRange(edge, draw(shares)) for edge in edges),
        max_input_tokens=draw(st.none() | st.integers(1, 300_000)),
        sample=draw(st.sampled_from([0.0, 0.3, 1.0])),
        holdout=draw(st.sampled_from([0.0, 0.3, 1.0])),
        client_override=draw(st.booleans()),
    )


wishes = st.one_of(
    st.just(ClientWish()),
    st.builds(ClientWish, keep=shares),
    st.builds(ClientWish, target=st.integers(1, 400_000)),
)
requests = st.fixed_dictionaries(
    {
        "wish": wishes,
        "spent_share": st.floats(0, 2),
        "context_window": st.none() | st.integers(1, 400_000),
        "draw": st.floats(0, 1, exclude_max=True),
    }
)


@given(policies(), sizes, sizes, requests)
def test_every_plan_is_sound(policy: Policy, size: int, fixed: int, request: dict[str, object]) -> None:
    made = plan(policy, size, size + fixed, pressure=STEPS, **request)
    assert 0 <= made.target <= size
    assert made.compress == (made.reason == "")
    assert made.compress == (made.target < size)
    assert 0 < made.keep <= 1
    assert all(made.steps)
    assert made == plan(policy, size, size + fixed, pressure=STEPS, **request)


@given(policies(), sizes, sizes, requests)
def test_never_above_max_input_tokens(
    policy: Policy, size: int, fixed: int, request: dict[str, object]
) -> None:
    made = plan(policy, size, size + fixed, pressure=STEPS, **request)
    limit = policy.max_input_tokens
    if limit is not None and limit > fixed:
        assert made.target + fixed <= limit


@given(policies(), sizes, sizes, requests)
def test_never_below_min_keep_but_for_max_input_tokens(
    policy: Policy, size: int, fixed: int, request: dict[str, object]
) -> None:
    policy = replace(policy, max_input_tokens=None, keep=max(policy.keep, policy.min_keep), ranges=())
    made = plan(policy, size, size + fixed, pressure=STEPS, **request)
    assert made.target >= int(size * policy.min_keep)


@given(policies(), sizes, sizes, requests, st.floats(0, 2))
def test_more_pressure_never_keeps_more(
    policy: Policy, size: int, fixed: int, request: dict[str, object], more: float
) -> None:
    low, high = sorted((float(str(request["spent_share"])), more))
    rest = {key: value for key, value in request.items() if key != "spent_share"}
    loose = plan(policy, size, size + fixed, pressure=STEPS, spent_share=low, **rest)
    tight = plan(policy, size, size + fixed, pressure=STEPS, spent_share=high, **rest)
    assert tight.target <= loose.target


@given(policies(), sizes, sizes, requests, st.integers(1, 400_000))
def test_a_smaller_window_never_keeps_more(
    policy: Policy, size: int, fixed: int, request: dict[str, object], window: int
) -> None:
    rest = {key: value for key, value in request.items() if key != "context_window"}
    free = plan(policy, size, size + fixed, pressure=STEPS, context_window=None, **rest)
    bound = plan(policy, size, size + fixed, pressure=STEPS, context_window=window, **rest)
    assert bound.target <= free.target


@given(st.floats(0, 1, exclude_max=True), st.floats(0, 1), st.floats(0, 1))
def test_one_draw_splits_the_traffic(draw: float, sample: float, holdout: float) -> None:
    made = plan(Policy("p", sample=sample, holdout=holdout), draw=draw)
    expected = "sampled-out" if draw >= sample else "holdout" if draw < sample * holdout else ""
    assert made.reason == expected


def test_draws_are_even_and_fixed() -> None:
    draws = [draw_of(f"conversation-{i}") for i in range(10_000)]
    assert draw_of("conversation-7") == draws[7]
    assert all(0 <= each < 1 for each in draws)
    assert 450 < sum(each < 0.05 for each in draws) < 550
    assert draw_of("\ud800") != draw_of("")


@pytest.mark.parametrize(
    ("header", "wish"),
    [
        (None, ClientWish()),
        ("off", ClientWish(off=True)),
        (" ON ", ClientWish(on=True)),
        ("keep=0.5", ClientWish(keep=0.5)),
        ("keep = .25", ClientWish(keep=0.25)),
        ("keep=1", ClientWish(keep=1.0)),
        ("target=2000", ClientWish(target=2000)),
    ],
)
def test_parse_wish(header: str | None, wish: ClientWish) -> None:
    assert parse_wish(header) == wish


@given(st.text())
def test_any_other_header_changes_nothing_and_says_so(header: str) -> None:
    wish = parse_wish(header)
    if wish.note:
        assert wish == ClientWish(note=wish.note)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "keep=0",
        "keep=1.5",
        "keep=nan",
        "keep=1e9",
        "keep=0.5;target=3",
        "target=0",
        "target=-3",
        "keep=.",
        "keep=1.2.3",
        "aus",
    ],
)
def test_wishes_that_cannot_be_understood(header: str) -> None:
    wish = parse_wish(header)
    assert wish.note.startswith("x-terse-compress was not understood")
    assert plan(Policy("p"), wish=wish).steps[0] == wish.note
    assert plan(Policy("p"), wish=wish).target == 5000


def test_rules_of_roles_and_tools() -> None:
    policy = Policy(
        "p",
        roles={"tool": RoleRule(keep=0.3), "system": RoleRule(mode="off")},
        tools={"read_*": RoleRule(mode="off"), "*": RoleRule(keep=0.2)},
    )
    assert rule_for(policy, "user") == RoleRule()
    assert rule_for(policy, "developer") == RoleRule(mode="off")
    assert rule_for(policy, "function") == RoleRule(keep=0.3)
    assert rule_for(policy, "tool", "read_file") == RoleRule(mode="off", keep=0.3)
    assert rule_for(policy, "tool", "search") == RoleRule(keep=0.2)


@pytest.mark.parametrize(
    ("window", "at", "inside"),
    [
        (Schedule((0,), 0, 1440), "2026-11-23T23:59+00:00", True),
        (Schedule((0,), 0, 1440), "2026-11-24T00:00+00:00", False),
        (Schedule((0,), 540, 1020), "2026-11-23T09:00+00:00", True),
        (Schedule((0,), 540, 1020), "2026-11-23T17:00+00:00", False),
        (Schedule((0,), 1320, 360), "2026-11-23T22:00+00:00", True),
        (Schedule((0,), 1320, 360), "2026-11-24T05:59+00:00", True),
        (Schedule((0,), 1320, 360), "2026-11-24T06:00+00:00", False),
        (Schedule((0,), 1320, 360), "2026-11-23T05:00+00:00", False),
        (Schedule((0,), 540, 1020, "Asia/Tokyo"), "2026-11-23T00:30+00:00", True),
        (Schedule((0,), 540, 1020, "America/New_York"), "2026-11-23T13:59+00:00", False),
    ],
)
def test_schedules(window: Schedule, at: str, inside: bool) -> None:
    assert in_schedule((window,), datetime.fromisoformat(at)) is inside


def test_no_schedule_is_always() -> None:
    assert in_schedule((), MONDAY_NOON)
