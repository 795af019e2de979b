"""Which route a request takes: the first that matches, and the sentence that says why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from policies.globs import Test, compile_glob
from policies.load import default_policy
from policies.shapes import Match, Policy, RequestFacts, Route

# Combinations of model, team and path that are remembered. A team has a handful of models, so this covers
# hundreds of teams; a client that invents names makes the memory start over, never grow.
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class RouteVerdict:
    """What `explain` says of one route."""

    route: str
    policy: str
    matched: bool
    chosen: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The match, and what became of every route."""

    match: Match
    routes: tuple[RouteVerdict, ...]


@dataclass(frozen=True, slots=True)
class _Rule:
    """A route with its globs compiled. `details` are header and metadata tests: (what, key, glob, test)."""

    route: Route
    model: Test
    team: Test
    path: Test
    details: tuple[tuple[str, str, str, Test], ...]
    match: Match


@dataclass(slots=True)
class PolicyBook:
    """All routes and policies of one configuration. Never changed: a reload makes a new book."""

    policies: Mapping[str, Policy]
    routes: Sequence[Route] = ()
    _rules: tuple[_Rule, ...] = field(init=False, repr=False)
    _fallback: Match = field(init=False, repr=False)
    _candidates: dict[tuple[str, str, str], tuple[_Rule, ...]] = field(
        init=False, repr=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        self._rules = tuple(self._compiled(route) for route in self.routes)
        fallback = self.policies.get("default") or default_policy()
        why = "no route matches" if self.routes else "no routes are configured"
        self._fallback = Match("", fallback, f"{why}; policy default")

    def match(self, facts: RequestFacts) -> Match:
        """The first route that matches; policy `default` when none does."""
        key = (facts.model, facts.team, facts.path)
        candidates = self._candidates.get(key)
        if candidates is None:
            if len(self._candidates) >= _REMEMBERED:
                self._candidates.clear()
            candidates = self._candidates[key] = tuple(self._matching(facts))
        for rule in candidates:
            if not rule.details or all(_holds(detail, facts) for detail in rule.details):
                return rule.match
        return self._fallback

    def explain(self, facts: RequestFacts) -> Explanation:
        """The same answer as `match`, with a sentence for every route."""
        match = self.match(facts)
        verdicts: list[RouteVerdict] = []
        chosen = ""
        for rule in self._rules:
            misses = list(_misses(rule, facts))
            if misses:
                reason = "; ".join(misses)
            elif chosen:
                reason = f"matches too, but {chosen} comes first"
            else:
                reason = _clauses(rule.route)
            first = not misses and not chosen
            if first:
                chosen = _label(rule.route)
            verdicts.append(RouteVerdict(rule.route.name, rule.route.policy, not misses, first, reason))
        return Explanation(match, tuple(verdicts))

    def _matching(self, facts: RequestFacts) -> Iterator[_Rule]:
        """Rules that the model, team and path allow, down to the first that asks for nothing else."""
        for rule in self._rules:
            if rule.model(facts.model) and rule.team(facts.team) and rule.path(facts.path):
                yield rule
                if not rule.details:
                    return

    def _compiled(self, route: Route) -> _Rule:
        wanted = route.match
        details = [("header", name, glob, compile_glob(glob)) for name, glob in wanted.headers.items()]
        details += [("metadata", name, glob, compile_glob(glob)) for name, glob in wanted.metadata.items()]
        return _Rule(
            route=route,
            model=compile_glob(wanted.model),
            team=compile_glob(wanted.team),
            path=compile_glob(wanted.path),
            details=tuple(details),
            match=Match(route.name, self.policies[route.policy], _sentence(route)),
        )


def never_reached(routes: Sequence[Route]) -> Iterator[tuple[int, int]]:
    """Pairs (route, earlier route that takes all of its requests), as far as the globs show it."""
    for index, route in enumerate(routes):
        for earlier in range(index):
            if _covers(routes[earlier], route):
                yield index, earlier
                break


def _covers(earlier: Route, later: Route) -> bool:
    one, other = earlier.match, later.match
    pairs = ((one.model, other.model), (one.team, other.team), (one.path, other.path))
    if not all(wide == "*" or wide == narrow for wide, narrow in pairs):
        return False
    return one.headers.items() <= other.headers.items() and one.metadata.items() <= other.metadata.items()


def _holds(detail: tuple[str, str, str, Test], facts: RequestFacts) -> bool:
    what, name, _, test = detail
    value = (facts.headers if what == "header" else facts.metadata).get(name)
    return value is not None and test(value)


def _label(route: Route) -> str:
    return f"route {route.name}"


def _sentence(route: Route) -> str:
    return f"{_label(route)}: {_clauses(route)}; policy {route.policy}"


def _clauses(route: Route) -> str:
    """Told with the route's own globs, never with a header's value: this goes into logs."""
    wanted = route.match
    parts = [
        f"{what} matches {glob}"
        for what, glob in (("model", wanted.model), ("team", wanted.team), ("path", wanted.path))
        if glob != "*"
    ]
    parts += [f"header {name} matches {glob}" for name, glob in wanted.headers.items()]
    parts += [f"metadata {name} matches {glob}" for name, glob in wanted.metadata.items()]
    return " and ".join(parts) or "matches everything"


def _misses(rule: _Rule, facts: RequestFacts) -> Iterator[str]:
    """Why a route does not match, one clause a reason."""
    wanted = rule.route.match
    for what, value, glob, test in (
        ("model", facts.model, wanted.model, rule.model),
        ("team", facts.team, wanted.team, rule.team),
        ("path", facts.path, wanted.path, rule.path),
    ):
        if not test(value):
            yield f"{what} {value!r} does not match {glob}"
    for detail in rule.details:
        if not _holds(detail, facts):
            what, name, glob, _ = detail
            present = name in (facts.headers if what == "header" else facts.metadata)
            yield f"{what} {name} does not match {glob}" if present else f"{what} {name} is absent"
