"""Quality as Prometheus metrics, in the gateway's registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.quality.evidence import Evidence
from gateway.quality.intervals import ratio_by_deltas
from policies.shapes import Policy

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class QualityMetrics:
    """Shadow pairs by result, and each policy's quality, its lower bound, and whether it fell back."""

    def __init__(self, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter, Gauge

        def gauge(name: str, text: str, mode: str) -> Gauge:
            return Gauge(name, text, ("policy",), registry=registry, multiprocess_mode=mode)  # type: ignore[arg-type]

        self.shadows = Counter(
            "terse_shadow_pairs_total",
            "Requests whose original was sent too, by result: treated, holdout, failed, dropped",
            ("policy", "result"),
            registry=registry,
        )
        self.quality = gauge(
            "terse_quality", "Agreement with the original, net of the model's own variation", "min"
        )
        self.low = gauge("terse_quality_lower_bound", "Lower end of its 95 % interval", "min")
        self.length = gauge(
            "terse_output_length_ratio",
            "Output tokens of shortened requests over those of the holdout",
            "max",
        )
        self.length_low = gauge("terse_output_length_ratio_low", "Lower end of its 95 % interval", "max")
        self.length_high = gauge("terse_output_length_ratio_high", "Upper end of its 95 % interval", "max")
        self.fallen_back = gauge(
            "terse_quality_fallback", "1 while the policy is in audit for its quality", "max"
        )

    def show(self, policy: Policy, evidence: Evidence) -> None:
        """Sets the gauges of one policy."""
        if evidence.treated:
            quality = evidence.quality()
            self.quality.labels(policy.name).set(quality.mean)
            self.low.labels(policy.name).set(quality.low)
        if (length := ratio_by_deltas(evidence.treated_lengths, evidence.holdout_lengths)) is not None:
            self.length.labels(policy.name).set(length.mean)
            self.length_low.labels(policy.name).set(length.low)
            self.length_high.labels(policy.name).set(length.high)
        self.fallen_back.labels(policy.name).set(1 if evidence.fallen_back_at else 0)
