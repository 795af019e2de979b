"""`policies:`, `teams:` and `routes:` as plain data into frozen, resolved, checked rules.

Nothing here reads files: the gateway does, and turns each Problem's path into a file and a line.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any
from zoneinfo import ZoneInfo

from policies.checking import shown, suggest, validate
from policies.entries import (
    DAYS,
    BudgetEntry,
    MatchEntry,
    PolicyEntry,
    PressureEntry,
    RouteEntry,
    RuleEntry,
    ScheduleEntry,
    TeamEntry,
)
from policies.errors import ConfigurationError, Path, PolicyError, Problem
from policies.shapes import (
    Budget,
    KeepRange,
    Limits,
    OldResults,
    Policy,
    PressureStep,
    RoleRule,
    Route,
    RouteMatch,
    Schedule,
    Team,
)

# Keys whose change alters what a shortened text looks like. Only these go into a policy's fingerprint, so
# that a new holdout or name does not throw away stored forms (and break providers' prompt caches).
FORMING = (
    "trigger_tokens",
    "keep",
    "ranges",
    "max_input_tokens",
    "protect",
    "force_tokens",
    "question_aware",
    "roles",
    "tools",
    "min_keep",
    "recovery",
    "fold",
    "old_results",
)

# Always there; terse.yaml may redefine them.
BUILT_IN: Mapping[str, Mapping[str, Any]] = {"default": {}, "off": {"mode": "off"}}


@dataclasses.dataclass(frozen=True, slots=True)
class Rules:
    """Everything that decides, resolved. `policies` always has `default` and `off`."""

    policies: Mapping[str, Policy]
    teams: Mapping[str, Team]
    routes: tuple[Route, ...]


def read_rules(policies: object, teams: object, routes: object, problems: list[Problem]) -> Rules:
    """The rules of three blocks of plain data (None: absent). What is wrong is appended to `problems`."""
    read = _read_policies(policies, problems)
    return Rules(read, _read_teams(teams, problems), _read_routes(routes, read, problems))


def read_team(name: str, data: Mapping[str, Any]) -> Team:
    """One team as `teams:` describes it. Raises ConfigurationError naming the keys at fault."""
    problems: list[Problem] = []
    team = _team(name, data, (), problems)
    if problems or team is None:
        raise ConfigurationError([PolicyError(problem.message, key=problem.key) for problem in problems])
    return team


def default_policy() -> Policy:
    """The policy of a gateway without a file."""
    return _policy("default", PolicyEntry())


def entries_of(data: object, where: str, problems: list[Problem]) -> dict[str, Any]:
    """A block `name: {…}` as a dict; an entry without a body counts as an empty mapping."""
    if data is None:
        return {}
    if not isinstance(data, dict):
        problems.append(Problem((where,), f"expected a mapping of names; got {shown(data)}"))
        return {}
    return {str(name): {} if body is None else body for name, body in data.items()}


def _read_policies(data: object, problems: list[Problem]) -> dict[str, Policy]:
    raw = entries_of(data, "policies", problems)
    entries: dict[str, Any] = {**BUILT_IN, **raw}
    resolved: dict[str, Policy] = {}
    for name, body in entries.items():
        path: Path = ("policies", name)
        own = validate(PolicyEntry, body, path, problems)
        merged = _extended(name, entries, problems) if isinstance(body, dict) else None
        entry = validate(PolicyEntry, merged, path, []) if own is not None and merged is not None else None
        if entry is not None:
            _check_policy(entry, path, problems)
            resolved[name] = _policy(name, entry)
    # A refused policy still has its name, so that routes to it are no second mistake.
    return {name: resolved.get(name, Policy(name=name)) for name in entries}


def _extended(name: str, entries: Mapping[str, Any], problems: list[Problem]) -> dict[str, Any] | None:
    """The entry with everything that it inherits; None when the chain is broken (told once, where it is)."""
    chain = [name]
    merged: dict[str, Any] = dict(entries[name])
    while (parent := merged.pop("extends", None)) is not None:
        at: Path = ("policies", chain[-1], "extends")
        if not isinstance(parent, str):
            return None
        if parent == chain[-1] == "default" and parent in BUILT_IN:
            break  # the file's `default` may build on the built-in one
        if parent in chain:
            if chain[-1] == min(chain[chain.index(parent) :]):  # told once per loop
                loop = " -> ".join([*chain[chain.index(parent) :], parent])
                problems.append(Problem(at, f"expected no loop; got {loop}"))
            return None
        if parent not in entries:
            if len(chain) == 1:
                problems.append(Problem(at, f"unknown policy {parent!r}{suggest(parent, entries)}"))
            return None
        if not isinstance(entries[parent], Mapping):
            return None
        chain.append(parent)
        merged = _over(entries[parent], merged)
    return merged


def _over(parent: Mapping[str, Any], child: Mapping[str, Any]) -> dict[str, Any]:
    """The child's keys win; `roles` and `tools` are merged entry by entry, the child's globs tried first."""
    merged = {**parent, **child}
    if "extends" not in parent:
        merged.pop("extends", None)
    else:
        merged["extends"] = parent["extends"]
    for key in ("roles", "tools"):
        if isinstance(parent.get(key), dict) and isinstance(child.get(key), dict):
            inherited = {name: rule for name, rule in parent[key].items() if name not in child[key]}
            merged[key] = {**child[key], **inherited}
    return merged


def _check_policy(entry: PolicyEntry, path: Path, problems: list[Problem]) -> None:
    """What no single field can know."""
    edges = [step.from_ for step in entry.ranges]
    for index, (lower, upper) in enumerate(itertools.pairwise(edges), start=1):
        if upper <= lower:
            problems.append(
                Problem(
                    (*path, "ranges", index, "from"),
                    f"expected more than {lower}, as ranges must rise; got {upper}",
                )
            )
    keeps = [(("keep",), entry.keep)] + [
        (("ranges", i, "keep"), step.keep) for i, step in enumerate(entry.ranges)
    ]
    for where, keep in keeps:
        if keep < entry.min_keep:
            problems.append(
                Problem((*path, *where), f"expected at least min_keep, which is {entry.min_keep}; got {keep}")
            )
    if entry.min_quality is not None and not (entry.holdout or entry.shadow):
        problems.append(
            Problem(
                (*path, "min_quality"),
                "expected a holdout or shadow share above 0 beside it, to measure quality by",
            )
        )
    for index, hours in enumerate(entry.schedule):
        _check_schedule(hours, (*path, "schedule", index), problems)


def _check_schedule(entry: ScheduleEntry, path: Path, problems: list[Problem]) -> None:
    try:
        ZoneInfo(entry.timezone)
    except (KeyError, ValueError, OSError):  # not in the system's table, or no name of a zone at all
        problems.append(
            Problem(
                (*path, "timezone"),
                f"expected a time zone such as UTC or Europe/Zurich; got {entry.timezone!r}",
            )
        )
    if _minute(entry.from_) == _minute(entry.to):
        problems.append(Problem((*path, "to"), f"expected another time than `from`; got {entry.to!r}"))


def _policy(name: str, entry: PolicyEntry) -> Policy:
    plain = entry.model_dump(
        exclude={"extends", "ranges", "protect", "force_tokens", "roles", "tools", "schedule", "old_results"}
    )
    policy = Policy(
        name=name,
        ranges=tuple(KeepRange(step.from_, step.keep) for step in entry.ranges),
        protect=tuple(entry.protect),
        force_tokens=tuple(entry.force_tokens),
        roles={role: _rule(rule) for role, rule in entry.roles.items()},
        tools={glob: _rule(rule) for glob, rule in entry.tools.items()},
        schedule=tuple(_schedule(hours) for hours in entry.schedule),
        old_results=OldResults(old.newest, old.keep) if (old := entry.old_results) else None,
        **plain,
    )
    return dataclasses.replace(policy, fingerprint=fingerprint(policy))


def fingerprint(policy: Policy) -> str:
    """Twelve hex digits over the keys that decide how a shortened text looks (`FORMING`)."""
    forming = {key: getattr(policy, key) for key in FORMING}
    text = json.dumps(forming, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(value: Any) -> Any:
    if isinstance(value, OldResults):
        return [value.newest, value.keep]
    return [value.mode, value.keep] if isinstance(value, RoleRule) else [value.from_tokens, value.keep]


def _rule(entry: RuleEntry) -> RoleRule:
    return RoleRule(mode=entry.mode, keep=entry.keep)


def _schedule(entry: ScheduleEntry) -> Schedule:
    return Schedule(
        days=tuple(sorted({DAYS.index(day) for day in entry.days})),
        start_minute=_minute(entry.from_),
        end_minute=_minute(entry.to),
        timezone=entry.timezone,
    )


def _minute(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


def _read_teams(data: object, problems: list[Problem]) -> dict[str, Team]:
    teams = {}
    for name, body in entries_of(data, "teams", problems).items():
        team = _team(name, body, ("teams", name), problems)
        teams[name] = team if team is not None else Team(name=name)
    return teams


def _team(name: str, body: object, path: Path, problems: list[Problem]) -> Team | None:
    entry = validate(TeamEntry, body, path, problems)
    if entry is None:
        return None
    budgets = budgets_of(entry.budget, (*path, "budget"), problems)
    _check_pressure(entry.pressure, bool(budgets), (*path, "pressure"), problems)
    return Team(
        name=name,
        budgets=budgets,
        limits=Limits(**entry.limits.model_dump()),
        models=tuple(entry.models),
        pressure=tuple(PressureStep(step.spent, step.keep) for step in entry.pressure),
        blocked=entry.blocked,
        metadata=dict(entry.metadata),
    )


def budgets_of(entries: list[BudgetEntry], path: Path, problems: list[Problem]) -> tuple[Budget, ...]:
    """Checked budgets as the frozen shape."""
    for index, entry in enumerate(entries):
        if entry.usd is None and entry.tokens is None:
            where: Path = path if len(entries) == 1 else (*path, index)
            problems.append(Problem(where, "expected usd, tokens, or both"))
    return tuple(Budget(**entry.model_dump()) for entry in entries)


def _check_pressure(steps: list[PressureEntry], budgeted: bool, path: Path, problems: list[Problem]) -> None:
    if steps and not budgeted:
        problems.append(
            Problem(path, "expected a budget beside it: pressure follows the share of it that is spent")
        )
    for index, (earlier, later) in enumerate(itertools.pairwise(steps), start=1):
        if later.spent <= earlier.spent:
            what = f"expected more than {earlier.spent}, as steps must rise; got {later.spent}"
            problems.append(Problem((*path, index, "spent"), what))
        if later.keep > earlier.keep:
            what = f"expected at most {earlier.keep}, as pressure must not fall; got {later.keep}"
            problems.append(Problem((*path, index, "keep"), what))


def _read_routes(data: object, policies: Iterable[str], problems: list[Problem]) -> tuple[Route, ...]:
    if data is None:
        return ()
    if not isinstance(data, list):
        problems.append(Problem(("routes",), f"expected a list of routes; got {shown(data)}"))
        return ()
    known = list(policies)
    names: dict[str, int] = {}
    routes = []
    for index, body in enumerate(data):
        path: Path = ("routes", index)
        entry = validate(RouteEntry, body, path, problems)
        policy = body.get("policy") if isinstance(body, dict) else None
        if isinstance(policy, str) and policy and policy not in known:
            what = f"unknown policy {policy!r}{suggest(policy, known)}"
            problems.append(Problem((*path, "policy"), what))
        if entry is None:
            continue
        name = entry.name or str(index)
        if name in names:
            problems.append(
                Problem((*path, "name"), f"expected a name of its own; routes[{names[name]}] has {name!r}")
            )
        names[name] = index
        if entry.budget and not entry.name:
            what = "expected a name beside it, so that what is spent stays with the route when routes move"
            problems.append(Problem((*path, "budget"), what))
        budgets = budgets_of(entry.budget, (*path, "budget"), problems)
        routes.append(Route(name, _route_match(entry.match), entry.policy, budgets))
    return tuple(routes)


def _route_match(entry: MatchEntry) -> RouteMatch:
    headers = {name.lower(): glob for name, glob in entry.headers.items()}
    return RouteMatch(entry.model, entry.team, entry.path, headers, dict(entry.metadata))
