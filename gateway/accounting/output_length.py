"""What shortening does to the length of answers: requests of a policy with a holdout, in both arms.

A longer answer eats what a shorter prompt saves. No single request can tell; the books keep, for each day,
team, key, model and route, how long the answers of either arm were, and rows say by how much they differ.
Which arm a conversation is in is drawn, so the difference is what shortening does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

ARMS: Final = ("treated", "holdout")
# Of a model and route, fewer answers than this in either arm say nothing of their mean.
LEAST_ANSWERS: Final = 10
_Z95 = 1.959964

Entry = Mapping[str, str | int | float]
Sums = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class OutputChange:
    """By how much answers became longer (or, below zero, shorter), over all shortened requests of a row."""

    requests: int = 0  # shortened ones that could be compared
    holdout_requests: int = 0  # with these
    tokens: float = 0.0  # of all of them together
    low: float = 0.0  # ends of the 95 % interval
    high: float = 0.0
    usd: float = 0.0
    usd_low: float = 0.0
    usd_high: float = 0.0
    mean: float = 0.0  # tokens of an answer, shortened
    holdout_mean: float = 0.0  # and not, with the models and routes in the same proportion

    def shown(self) -> dict[str, int | float]:
        """As figures of a row of the books."""
        return {
            "compared_requests": self.requests,
            "holdout_requests": self.holdout_requests,
            "output_tokens_mean": round(self.mean, 2),
            "holdout_output_tokens_mean": round(self.holdout_mean, 2),
            "output_change_tokens": round(self.tokens),
            "output_change_tokens_low": round(self.low),
            "output_change_tokens_high": round(self.high),
            "output_change_usd": round(self.usd, 6),
            "output_change_usd_low": round(self.usd_low, 6),
            "output_change_usd_high": round(self.usd_high, 6),
        }


def output_figures(entry: Entry) -> dict[str, int]:
    """What an entry adds to the sums of its arm; nothing when it is in none, or nobody knows its length."""
    arm = str(entry.get("arm", ""))
    if arm not in ARMS or entry.get("outcome", "ok") != "ok" or entry.get("estimated"):
        return {}
    if int(entry.get("status_code", 200)) != 200:
        return {}
    tokens = int(entry.get("output_tokens", 0))
    return {
        f"{arm}_answers": 1,
        f"{arm}_answer_tokens": tokens,
        f"{arm}_answer_squares": tokens * tokens,
        f"{arm}_answer_usd": round(float(entry.get("output_usd", 0.0)) * 1_000_000),
    }


def output_change(strata: Iterable[Sums]) -> OutputChange:
    """The change over several strata (a model and route each), compared each within itself.

    The interval is that of the difference of two means (Welch), times the shortened requests; strata add up.
    """
    requests = held = 0
    tokens = variance = usd = usd_variance = said = expected = 0.0
    for sums in strata:
        treated, holdout = (sums.get(f"{arm}_answers", 0) for arm in ARMS)
        if min(treated, holdout) < LEAST_ANSWERS:
            continue
        (mean, spread), (other, other_spread) = (_mean_and_variance(sums, arm) for arm in ARMS)
        difference, error = mean - other, spread / treated + other_spread / holdout
        total = sum(sums.get(f"{arm}_answer_tokens", 0) for arm in ARMS)
        price = sum(sums.get(f"{arm}_answer_usd", 0) for arm in ARMS) / 1e6 / total if total else 0.0
        requests, held = requests + treated, held + holdout
        tokens += treated * difference
        variance += treated * treated * error
        usd += treated * difference * price
        usd_variance += treated * treated * error * price * price
        said += treated * mean
        expected += treated * other
    if not requests:
        return OutputChange()
    reach, usd_reach = _Z95 * math.sqrt(variance), _Z95 * math.sqrt(usd_variance)
    return OutputChange(
        requests=requests,
        holdout_requests=held,
        tokens=tokens,
        low=tokens - reach,
        high=tokens + reach,
        usd=usd,
        usd_low=usd - usd_reach,
        usd_high=usd + usd_reach,
        mean=said / requests,
        holdout_mean=expected / requests,
    )


def _mean_and_variance(sums: Sums, arm: str) -> tuple[float, float]:
    count, total = sums[f"{arm}_answers"], sums.get(f"{arm}_answer_tokens", 0)
    squares = sums.get(f"{arm}_answer_squares", 0)
    return total / count, max(0.0, (squares - total * total / count) / (count - 1))
