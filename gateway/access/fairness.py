"""Who may go on when an upstream throttles: every team its share of what the upstream still takes.

Additive increase, multiplicative decrease (Chiu and Jain, 1989) on the number of requests in flight to one
model of this process: a 429 halves it, every answer lets it grow by one over its size. While it is in force
and full, a team that has its share in flight is told to wait, so that a busy team keeps no quiet one out.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from gateway.errors import RateLimited
from policies.shapes import Team

CALM_SECONDS: Final = 30.0  # without a 429 for so long, nobody is held back any more
ONE_CUT_SECONDS: Final = 1.0  # the 429s of one burst count as one
WEIGHT: Final = "weight"  # metadata of a team: its share counts so many times
HEAVIEST: Final = 1000.0


@dataclass(slots=True)
class _Flow:
    """The requests in flight to one model."""

    running: Counter[str] = field(default_factory=Counter)
    weights: dict[str, float] = field(default_factory=dict)
    window: float = 0.0  # how many the upstream takes; 0: not throttled
    throttled: float = float("-inf")  # monotonic
    cut: float = float("-inf")


class FairShares:
    """Requests in flight per model and team. No I/O."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._flows: dict[str, _Flow] = {}

    def enter(self, model: str, team: Team) -> None:
        """Counts a request in. Raises RateLimited when the upstream throttles and the team has its share."""
        flow = self._flows.get(model)
        if flow is None:
            flow = self._flows[model] = _Flow()
        flow.weights[team.name] = weight_of(team)
        if self._full(flow) and flow.running[team.name] >= self._share(flow, team.name):
            raise RateLimited(
                f"The upstream of {model!r} throttles, and team {team.name!r} has its share of it in use.",
                code="upstream_throttled",
                headers={"retry-after": "1"},
            )
        flow.running[team.name] += 1

    def leave(self, model: str, team: Team, *, throttled: bool) -> None:
        """Counts it out; `throttled` when the upstream answered 429."""
        flow = self._flows.get(model)
        if flow is None:
            return
        before = flow.running.total()
        flow.running[team.name] -= 1
        if flow.running[team.name] <= 0:
            del flow.running[team.name]
        now = self._monotonic()
        if throttled:
            flow.throttled = now
            if now - flow.cut >= ONE_CUT_SECONDS:
                flow.window, flow.cut = max(1.0, (flow.window or before) / 2), now
        elif flow.window:
            flow.window += 1 / flow.window
        if not flow.running and not self._in_force(flow):
            del self._flows[model]

    def _in_force(self, flow: _Flow) -> bool:
        return flow.window > 0 and self._monotonic() - flow.throttled < CALM_SECONDS

    def _full(self, flow: _Flow) -> bool:
        if not self._in_force(flow):
            flow.window = 0.0
            return False
        return flow.running.total() >= flow.window

    def _share(self, flow: _Flow, team: str) -> float:
        active = {name for name in flow.running if flow.running[name] > 0} | {team}
        whole = sum(flow.weights.get(name, 1.0) for name in active)
        return max(1.0, flow.window * flow.weights[team] / whole)


def weight_of(team: Team) -> float:
    """`metadata: {weight: "2"}` of a team; 1 when absent or no positive number."""
    try:
        weight = float(team.metadata.get(WEIGHT, "1"))
    except (TypeError, ValueError):
        return 1.0
    return weight if 0 < weight <= HEAVIEST else 1.0
