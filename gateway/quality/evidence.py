"""What is known of one policy's effect on answers: kept in the registry, shared by all replicas."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import orjson

from gateway.quality.intervals import Interval, difference, least_pairs, ratio_of_means, wilson
from policies.shapes import Policy

COLLECTION = "quality"
# The latest pairs and lengths that count. 500 pairs tell 0.95 from 0.97; a record stays under 20 KB.
KEPT_PAIRS = 500
KEPT_LENGTHS = 500
# Fewer pairs of original against original say nothing of the model's own variation.
LEAST_BASELINE = 20

Verdict = Literal["unmeasured", "too-few", "good", "bad"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Scores are agreements 0..1, the latest last; lengths are output tokens."""

    treated: tuple[float, ...] = ()  # shortened against original
    baseline: tuple[float, ...] = ()  # original against original: how far the model agrees with itself
    treated_lengths: tuple[int, ...] = ()
    holdout_lengths: tuple[int, ...] = ()
    treated_requests: int = 0
    holdout_requests: int = 0
    kinds: tuple[tuple[str, int], ...] = ()  # how treated pairs were compared: (kind, pairs)
    fallen_back_at: str = ""  # ISO 8601, UTC; "" while the policy is in force
    reason: str = ""

    def quality(self) -> Interval:
        """1 less what agreement the shortening costs, given how far the model agrees with itself."""
        treated = wilson(self.treated)
        if len(self.baseline) < LEAST_BASELINE:
            return treated
        gap = difference(treated, wilson(self.baseline))
        low, mean, high = (min(1.0, max(0.0, 1 + each)) for each in (gap.low, gap.mean, gap.high))
        return Interval(mean, low, high, treated.n)

    def verdict(self, bound: float | None) -> Verdict:
        """Whether the quality's lower end holds the bound. Unknown before a flawless record could."""
        if bound is None or not self.treated:
            return "unmeasured"
        if len(self.treated) < least_pairs(bound):
            return "too-few"
        return "good" if self.quality().low >= bound else "bad"

    def length_ratio(self) -> Interval | None:
        """Output tokens of shortened requests over those of the holdout; None before both have some."""
        return ratio_of_means(self.treated_lengths, self.holdout_lengths)

    def with_more(self, more: Evidence) -> Evidence:
        """Both together, the latest kept."""
        kinds = dict(self.kinds)
        for kind, pairs in more.kinds:
            kinds[kind] = kinds.get(kind, 0) + pairs
        return replace(
            self,
            treated=(*self.treated, *more.treated)[-KEPT_PAIRS:],
            baseline=(*self.baseline, *more.baseline)[-KEPT_PAIRS:],
            treated_lengths=(*self.treated_lengths, *more.treated_lengths)[-KEPT_LENGTHS:],
            holdout_lengths=(*self.holdout_lengths, *more.holdout_lengths)[-KEPT_LENGTHS:],
            treated_requests=self.treated_requests + more.treated_requests,
            holdout_requests=self.holdout_requests + more.holdout_requests,
            kinds=tuple(sorted(kinds.items())),
        )

    def encode(self) -> bytes:
        """JSON."""
        return orjson.dumps(asdict(self))


def decode(data: bytes) -> Evidence:
    """Evidence from stored bytes; nothing known when they are none of ours."""
    try:
        value = orjson.loads(data)
        known = {field.name: value[field.name] for field in fields(Evidence) if field.name in value}
        return Evidence(**{name: _frozen(each) for name, each in known.items()})
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return Evidence()


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value


def record_name(policy: Policy) -> str:
    """Under which evidence is kept: a policy that forms text differently starts afresh."""
    return f"{policy.name}@{policy.fingerprint}"


def policy_of(name: str) -> tuple[str, str]:
    """The policy's name and fingerprint in a record's name."""
    policy, _, fingerprint = name.rpartition("@")
    return policy, fingerprint


def measured(policies: Iterable[Policy]) -> list[Policy]:
    """Those that ask for any measurement."""
    return [
        policy for policy in policies if policy.holdout or policy.shadow or policy.min_quality is not None
    ]
