"""Measures what shortening does to answers, and takes a policy out of force when they suffer.

For the pipeline:
    guarded(match) -> Match                  the match with the mode that is really in force
    mode_for(policy) -> Mode                 the same of one policy
    decide(match, request, compressed)       the arm: treated, holdout, or None for neither
    arm_of(admitted) -> str                  the same for the books, "" without a holdout
    sample(admitted) -> Sample | None        to be fed with the reply when this one is compared
    observe(admitted, receipt, sample, live) once, when the request is over; returns at once
None of them waits, and none raises.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from compressor.engine.protocol import ScoringEngine
from gateway.errors import Conflict, GatewayError
from gateway.exchange import Admitted
from gateway.quality.evidence import (
    COLLECTION,
    KEPT_LENGTHS,
    KEPT_PAIRS,
    Evidence,
    decode,
    measured,
    record_name,
)
from gateway.quality.measures import QualityMetrics
from gateway.quality.shadow import Arm, Sample, compare_with_original, repeatable
from gateway.shapes import Compressed, ParsedRequest, Receipt
from gateway.stores.base import Record, Stores
from policies.planning import draw_of
from policies.shapes import Match, Mode, Policy

if TYPE_CHECKING:
    from gateway.services import Live

_log = logging.getLogger("terse.quality")

# How often a process writes what it saw and reads what others did: a policy that fell back on one replica is
# out of force on all after this long.
FLUSH_SECONDS = 10.0
_MOST_SHADOWS = 8  # in flight a process; a slow upstream must not gather background work without end
_TRIES = 5  # replicas that write at once: each conflict means that one of them got through

Alert = Callable[[Mapping[str, Any]], Awaitable[None]]

_OUT = frozenset({"mode-off", "outside-schedule", "client-off", "sampled-out", "surface", "internal-error"})


@dataclass(slots=True)
class _Pending:
    """What one policy's requests showed since the last flush."""

    policy: Policy
    treated: list[float] = field(default_factory=list)
    baseline: list[float] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    lengths: dict[Arm, list[int]] = field(default_factory=lambda: {"treated": [], "holdout": []})
    requests: dict[Arm, int] = field(default_factory=lambda: {"treated": 0, "holdout": 0})

    def add_length(self, arm: Arm, tokens: int) -> None:
        """Keeps a fair sample when there are more than can be stored (reservoir sampling, Vitter's R)."""
        self.requests[arm] += 1
        kept = self.lengths[arm]
        if len(kept) < KEPT_LENGTHS:
            kept.append(tokens)
        elif (place := random.randrange(self.requests[arm])) < KEPT_LENGTHS:
            kept[place] = tokens

    def absorb(self, earlier: _Pending) -> None:
        """Takes back what could not be stored."""
        self.treated[:0] = earlier.treated
        self.baseline[:0] = earlier.baseline
        for kind, pairs in earlier.kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0) + pairs
        for arm, lengths in earlier.lengths.items():
            self.lengths[arm] = (lengths + self.lengths[arm])[-KEPT_LENGTHS:]
            self.requests[arm] += earlier.requests[arm]
        # The store may be gone for long.
        del self.treated[:-KEPT_PAIRS], self.baseline[:-KEPT_PAIRS]

    def evidence(self) -> Evidence:
        """As evidence, to be added to what is stored."""
        return Evidence(
            treated=tuple(self.treated),
            baseline=tuple(self.baseline),
            treated_lengths=tuple(self.lengths["treated"]),
            holdout_lengths=tuple(self.lengths["holdout"]),
            treated_requests=self.requests["treated"],
            holdout_requests=self.requests["holdout"],
            kinds=tuple(self.kinds.items()),
        )


class QualityGuard:
    """One a process. `policies` gives those in force; `alert` is told of every fall-back."""

    def __init__(
        self,
        stores: Stores,
        engine: ScoringEngine,
        metrics: QualityMetrics,
        policies: Callable[[], Mapping[str, Policy]],
        alert: Alert | None = None,
    ) -> None:
        self._stores = stores
        self._engine = engine
        self._metrics = metrics
        self._policies = policies
        self._alert = alert
        self._known: dict[str, Evidence] = {}
        self._pending: dict[str, _Pending] = {}
        self._shadows: set[asyncio.Task[None]] = set()
        self._flushing: asyncio.Task[None] | None = None

    # ---- for the pipeline

    def mode_for(self, policy: Policy) -> Mode:
        """`audit` for a policy that fell back, else its own."""
        if policy.min_quality is None or policy.mode != "on":
            return policy.mode
        known = self._known.get(record_name(policy))
        return "audit" if known is not None and known.fallen_back_at else "on"

    def guarded(self, match: Match) -> Match:
        """The match itself, or the same with the policy in mode audit."""
        policy = match.policy
        if self.mode_for(policy) == policy.mode:
            return match
        reason = f"{match.reason}; audit, as its quality fell below {policy.min_quality}"
        return replace(match, policy=replace(policy, mode="audit"), reason=reason)

    def decide(self, match: Match, request: ParsedRequest, compressed: Compressed) -> Arm | None:
        """The arm that a request counts for.

        By the draw alone, not by what shortening made of it: both arms hold the same kind of requests.
        Those too small to be looked at belong to neither.
        """
        policy, reason = match.policy, compressed.plan.reason
        if policy.mode != "on" or reason in _OUT or len(request.body) < policy.trigger_tokens:
            return None
        return "holdout" if reason == "holdout" else "treated"

    def arm_of(self, admitted: Admitted) -> str:
        """The arm in the books, where the policy has a holdout to compare with; else ""."""
        if not admitted.match.policy.holdout:
            return ""
        return self.decide(admitted.match, admitted.request, admitted.compressed) or ""

    def sample(self, admitted: Admitted) -> Sample | None:
        """Whether this request's answers are compared; then feed it with the reply."""
        policy = admitted.match.policy
        if not policy.shadow:
            return None
        arm = self.decide(admitted.match, admitted.request, admitted.compressed)
        if arm is None or (arm == "treated" and admitted.compressed.status != "applied"):
            return None
        # As many pairs of originals as of shortened: the holdout is smaller, so more of it is compared.
        share = policy.shadow if arm == "treated" else min(1.0, policy.shadow / policy.holdout)
        if draw_of(f"shadow:{admitted.received.request_id}") >= share or not repeatable(admitted.request):
            return None
        return Sample(arm, admitted, admitted.request.stream)

    def observe(self, admitted: Admitted, receipt: Receipt, sample: Sample | None, live: Live) -> None:
        """Takes note of a finished request and starts its comparison, if there is one."""
        policy = admitted.match.policy
        if not (policy.holdout or policy.shadow) or receipt.outcome != "ok" or receipt.status_code != 200:
            return
        arm = self.decide(admitted.match, admitted.request, admitted.compressed)
        if arm is not None and not receipt.usage.estimated:
            self._pending_of(policy).add_length(arm, receipt.usage.output_tokens)
        if sample is None:
            return
        if len(self._shadows) >= _MOST_SHADOWS:
            self._metrics.shadows.labels(policy.name, "dropped").inc()
            return
        task = asyncio.get_running_loop().create_task(self._compare(sample, live))
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    # ---- in the background

    async def open(self) -> None:
        """Reads what is known and starts the regular exchange with the other replicas."""
        await self.flush()
        self._flushing = asyncio.get_running_loop().create_task(self._run(), name="terse-quality")

    async def close(self) -> None:
        """Ends what runs and writes what is pending."""
        tasks = [*self._shadows, *([self._flushing] if self._flushing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.flush()

    async def settled(self) -> None:
        """Waits for the comparisons that run now."""
        await asyncio.gather(*self._shadows)

    async def flush(self) -> None:
        """Writes what is pending, reads what is known, and lets policies fall back. Never raises."""
        policies = {record_name(policy): policy for policy in measured(self._policies().values())}
        for gone in self._pending.keys() - policies.keys():
            del self._pending[gone]  # a reload changed or dropped the policy
        for name, policy in policies.items():
            pending = self._pending.pop(name, None)
            try:
                await self._exchange(policy, pending.evidence() if pending else Evidence())
            except (GatewayError, OSError) as error:
                if pending is not None:
                    self._pending_of(policy).absorb(pending)
                _log.warning("quality of policy %s was not stored: %s", policy.name, error)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self.flush()
            except Exception:  # noqa: BLE001 - measuring goes on, whatever one round met
                _log.exception("quality was not exchanged")

    async def _exchange(self, policy: Policy, more: Evidence) -> None:
        name = record_name(policy)
        for _ in range(_TRIES):
            record = await self._stores.registry.get(COLLECTION, name)
            stored = decode(record.data) if record is not None else Evidence()
            merged = self._judged(policy, stored.with_more(more))
            if merged == stored or await self._put(name, merged, record):
                break
        else:
            raise Conflict("too many replicas wrote at once")
        self._known[name] = merged
        self._metrics.show(policy, merged)
        if merged.fallen_back_at and not stored.fallen_back_at:
            await self._tell(policy, merged)

    async def _put(self, name: str, evidence: Evidence, record: Record | None) -> bool:
        version = record.version if record is not None else None
        try:
            await self._stores.registry.put(COLLECTION, name, evidence.encode(), version)
        except Conflict:
            return False
        return True

    def _judged(self, policy: Policy, evidence: Evidence) -> Evidence:
        if evidence.fallen_back_at or evidence.verdict(policy.min_quality) != "bad":
            return evidence
        quality = evidence.quality()
        reason = (
            f"quality {quality.mean:.3f} over {quality.n} pairs; its lower bound {quality.low:.3f} "
            f"is below min_quality {policy.min_quality}"
        )
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return replace(evidence, fallen_back_at=now, reason=reason)

    async def _tell(self, policy: Policy, evidence: Evidence) -> None:
        _log.error("policy %s fell back to audit: %s", policy.name, evidence.reason)
        if self._alert is None:
            return
        quality = evidence.quality()
        message = {
            "event": "quality-fallback",
            "policy": policy.name,
            "at": evidence.fallen_back_at,
            "reason": evidence.reason,
            "quality": quality.mean,
            "low": quality.low,
            "high": quality.high,
            "pairs": quality.n,
            "min_quality": policy.min_quality,
        }
        try:
            await self._alert(message)
        except Exception as error:  # noqa: BLE001 - the fall-back holds, whether or not anybody could be told
            _log.warning("the webhook of quality was not reached: %s", type(error).__name__)

    async def _compare(self, sample: Sample, live: Live) -> None:
        policy = sample.admitted.match.policy
        try:
            agreement = await compare_with_original(
                sample, live, self._stores.ledger, self._engine, live.config.quality.judge
            )
        except Exception:  # noqa: BLE001 - a comparison may fail in any way; no request depends on it
            _log.exception("a shadow pair was not compared")
            agreement = None
        if agreement is None:
            self._metrics.shadows.labels(policy.name, "failed").inc()
            return
        self._metrics.shadows.labels(policy.name, sample.arm).inc()
        pending = self._pending_of(policy)
        if sample.arm == "treated":
            pending.treated.append(agreement.score)
            pending.kinds[agreement.kind] = pending.kinds.get(agreement.kind, 0) + 1
        else:
            pending.baseline.append(agreement.score)

    def _pending_of(self, policy: Policy) -> _Pending:
        name = record_name(policy)
        pending = self._pending.get(name)
        if pending is None:
            pending = self._pending[name] = _Pending(policy)
        return pending
