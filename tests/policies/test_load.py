"""Inheritance, fingerprints and rules read from plain data."""

from __future__ import annotations

import pytest

from policies.errors import ConfigurationError, Problem
from policies.load import FORMING, Rules, default_policy, read_rules, read_team
from policies.shapes import Budget, KeepRange, Policy, PressureStep, RoleRule, Schedule


def rules(policies: object = None, teams: object = None, routes: object = None) -> Rules:
    problems: list[Problem] = []
    read = read_rules(policies, teams, routes, problems)
    assert problems == []
    return read


def problems_of(policies: object = None, teams: object = None, routes: object = None) -> list[str]:
    problems: list[Problem] = []
    read_rules(policies, teams, routes, problems)
    return [f"{problem.key}: {problem.message}" for problem in problems]


def test_nothing_configured_has_the_built_in_policies() -> None:
    read = rules()
    assert set(read.policies) == {"default", "off"}
    assert read.policies["default"] == default_policy()
    assert read.policies["off"].mode == "off"
    assert (read.teams, read.routes) == ({}, ())


def test_every_key_of_a_policy_has_a_place_in_the_shape() -> None:
    policy = rules(
        {
            "p": {
                "mode": "audit",
                "trigger_tokens": 10,
                "keep": 0.4,
                "ranges": [{"from": 5, "keep": 0.3}],
                "max_input_tokens": 100,
                "protect": ["code"],
                "force_tokens": ["\n"],
                "question_aware": "yes",
                "roles": {"system": "off", "tool": 0.2, "user": {"keep": 0.9, "mode": "on"}},
                "tools": {"read_*": False},
                "sample": 0.5,
                "holdout": 0.05,
                "shadow": 0.01,
                "min_quality": 0.9,
                "fail": "closed",
                "store_fail": "closed",
                "deadline_ms": 77,
                "min_keep": 0.2,
                "client_override": False,
                "recovery": True,
                "schedule": [
                    {"days": ["tue", "mon"], "from": "22:00", "to": "06:30", "timezone": "Europe/Zurich"}
                ],
            }
        }
    ).policies["p"]
    assert policy == Policy(
        name="p",
        mode="audit",
        trigger_tokens=10,
        keep=0.4,
        ranges=(KeepRange(5, 0.3),),
        max_input_tokens=100,
        protect=("code",),
        force_tokens=("\n",),
        question_aware=True,
        roles={"system": RoleRule(mode="off"), "tool": RoleRule(keep=0.2), "user": RoleRule("on", 0.9)},
        tools={"read_*": RoleRule(mode="off")},
        sample=0.5,
        holdout=0.05,
        shadow=0.01,
        min_quality=0.9,
        fail="closed",
        store_fail="closed",
        deadline_ms=77,
        min_keep=0.2,
        client_override=False,
        recovery=True,
        schedule=(Schedule((0, 1), 1320, 390, "Europe/Zurich"),),
        fingerprint=policy.fingerprint,
    )


def test_extends() -> None:
    read = rules(
        {
            "default": {"keep": 0.6, "roles": {"tool": 0.3, "system": "off"}},
            "rag": {"extends": "default", "question_aware": True, "roles": {"tool": 0.2}},
            "deep": {"extends": "rag", "keep": 0.4},
            "bare": {},
        }
    ).policies
    assert (read["deep"].keep, read["deep"].question_aware) == (0.4, True)
    assert read["deep"].roles == {"tool": RoleRule(keep=0.2), "system": RoleRule(mode="off")}
    assert read["bare"].keep == 0.5  # inherits from nobody unless it says so


def test_the_files_default_may_build_on_the_built_in_one() -> None:
    assert rules({"default": {"extends": "default", "keep": 0.7}}).policies["default"].keep == 0.7


def test_a_childs_globs_are_tried_first() -> None:
    read = rules(
        {"a": {"tools": {"*": 0.5, "x": 0.4}}, "b": {"extends": "a", "tools": {"read_*": "off", "x": 0.3}}}
    )
    assert list(read.policies["b"].tools) == ["read_*", "x", "*"]


def test_the_fingerprint_follows_what_forms_the_text() -> None:
    base = default_policy().fingerprint
    same = {"holdout": 0.1, "shadow": 0.1, "sample": 0.5, "mode": "audit", "fail": "closed", "deadline_ms": 9}
    for key, value in same.items():
        assert rules({"p": {key: value}}).policies["p"].fingerprint == base, key
    other = {
        "trigger_tokens": 9,
        "keep": 0.4,
        "ranges": [{"from": 1, "keep": 0.5}],
        "max_input_tokens": 9,
        "protect": [],
        "force_tokens": ["x"],
        "question_aware": True,
        "roles": {"tool": "off"},
        "tools": {"x": 0.5},
        "min_keep": 0.2,
        "recovery": True,
        "old_results": {"newest": 5},
        "fold": False,
    }
    assert set(other) == set(FORMING)
    prints = {rules({"p": {key: value}}).policies["p"].fingerprint for key, value in other.items()}
    assert len(prints | {base}) == len(other) + 1


def test_teams() -> None:
    team = rules(
        None,
        {
            "search": {
                "budget": [{"usd": 200}, {"tokens": 10**9, "per": "day", "sliding": True}],
                "limits": {"requests_per_minute": 600},
                "models": "gpt-*",
                "pressure": [{"spent": 0.8, "keep": 0.4}],
                "metadata": {"cost_centre": "42"},
            },
            "empty": None,
        },
    ).teams
    assert team["search"].budgets == (Budget(usd=200.0), Budget(tokens=10**9, per="day", sliding=True))
    assert team["search"].limits.requests_per_minute == 600
    assert team["search"].models == ("gpt-*",)
    assert team["search"].pressure == (PressureStep(0.8, 0.4),)
    assert team["empty"].name == "empty"


def test_read_team_names_every_key_at_fault() -> None:
    assert read_team("t", {"budget": {"usd": 5}}).budgets == (Budget(usd=5.0),)
    with pytest.raises(ConfigurationError) as raised:
        read_team("t", {"budget": {"usd": -5}, "limit": {}})
    assert [problem.key for problem in raised.value.problems] == ["budget.usd", "limit"]


def test_headers_are_matched_in_lower_case() -> None:
    read = rules(None, None, [{"match": {"headers": {"X-Tier": "gold"}}, "policy": "default"}])
    assert read.routes[0].match.headers == {"x-tier": "gold"}
    assert read.routes[0].name == "0"


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        (
            {"a": {"extends": "b"}, "b": {"extends": "a"}},
            "policies.a.extends: expected no loop; got b -> a -> b",
        ),
        ({"a": {"extends": "a"}}, "policies.a.extends: expected no loop; got a -> a"),
        (
            {"a": {"extends": "defualt"}},
            "policies.a.extends: unknown policy 'defualt' (did you mean 'default'?)",
        ),
    ],
)
def test_broken_chains_are_told_once(policies: object, message: str) -> None:
    found = problems_of(policies)
    assert len(found) == 1
    assert found[0].replace("a -> b -> a", "b -> a -> b") == message


def test_blocks_of_the_wrong_kind() -> None:
    assert problems_of([1], "x", {"a": 1}) == [
        "policies: expected a mapping of names; got a list",
        "teams: expected a mapping of names; got 'x'",
        "routes: expected a list of routes; got a mapping",
    ]
