"""What `terse quality` prints: one row a policy, read from the registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.quality.evidence import COLLECTION, Evidence, Verdict, decode, measured, policy_of, record_name
from gateway.quality.intervals import Interval, wilson
from gateway.stores.base import Registry
from policies.shapes import Policy


@dataclass(frozen=True, slots=True)
class Row:
    """One policy version: its evidence, and what follows from it."""

    policy: str
    fingerprint: str
    in_force: bool  # it is the version of the configuration
    min_quality: float | None
    evidence: Evidence

    @property
    def state(self) -> str:
        """`audit (…)` after a fall-back, else what the evidence says."""
        if self.evidence.fallen_back_at:
            return "audit"
        verdict: Verdict = self.evidence.verdict(self.min_quality)
        return {"good": "on", "bad": "on", "too-few": "on, too few pairs", "unmeasured": "on, unmeasured"}[
            verdict
        ]

    def as_data(self) -> dict[str, Any]:
        """For `--json`."""
        evidence = self.evidence
        ratio = evidence.length_ratio()
        return {
            "policy": self.policy,
            "fingerprint": self.fingerprint,
            "in_force": self.in_force,
            "state": self.state,
            "min_quality": self.min_quality,
            "quality": _interval(evidence.quality()) if evidence.treated else None,
            "agreement_with_original": _interval(wilson(evidence.treated)) if evidence.treated else None,
            "agreement_of_originals": _interval(wilson(evidence.baseline)) if evidence.baseline else None,
            "compared_by": dict(evidence.kinds),
            "requests": {"treated": evidence.treated_requests, "holdout": evidence.holdout_requests},
            "output_length_ratio": _interval(ratio) if ratio else None,
            "fallen_back_at": evidence.fallen_back_at,
            "reason": evidence.reason,
        }


async def read_rows(registry: Registry, policies: Mapping[str, Policy], *, every: bool = False) -> list[Row]:
    """Every measured policy of the configuration; with `every` also versions that are no more."""
    current = {record_name(policy): policy for policy in measured(policies.values())}
    found = {record.name: decode(record.data) async for record in registry.scan(COLLECTION)}
    rows = []
    for name in sorted({*current, *(found if every else ())}):
        policy = current.get(name)
        bound = policy.min_quality if policy is not None else None
        rows.append(Row(*policy_of(name), policy is not None, bound, found.get(name, Evidence())))
    return rows


async def reset(registry: Registry, policy: str) -> int:
    """Forgets all evidence on a policy, which puts it in force again; how many records there were."""
    names = [record.name async for record in registry.scan(COLLECTION) if policy_of(record.name)[0] == policy]
    for name in names:
        await registry.delete(COLLECTION, name)
    return len(names)


def _interval(interval: Interval) -> dict[str, float | int]:
    return {
        "mean": round(interval.mean, 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
        "n": interval.n,
    }
