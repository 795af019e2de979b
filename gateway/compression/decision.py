"""Brings the policy's plan and the planner's forecast together: what is shortened in this request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway.compression.planner import (
    STAYS_CACHED_TOKENS,
    Choice,
    Costs,
    Prospect,
    Rates,
    falls_below,
    forecast,
    saved_by_new,
)
from policies import Plan, plan_turn

PlanBudget = Callable[[int, int], Plan]  # (compressible tokens, tokens of the whole input) -> plan


@dataclass(frozen=True, slots=True)
class Sizes:
    """Tokens of one request, by what may happen to them."""

    fixed: int  # in front of the messages: tools, system text
    old: int  # messages sent before, in their form
    old_free: int  # of those, tokens that could still be shortened
    old_untouched: int  # of those, tokens in front of the first message that has such
    new: int
    new_free: int
    old_compressible: int = (
        0  # tokens of old messages that are, or could be, shortened; as the client sends them
    )
    trigger_tokens: int = 0  # the policy's
    old_results: int = 0  # tokens that shortening old results once more is expected to leave out

    @property
    def total(self) -> int:
        """Of the whole input as it would be sent with nothing more shortened."""
        return self.fixed + self.old + self.new


@dataclass(frozen=True, slots=True)
class Ahead:
    """What the conversation is expected to do."""

    turns: float  # requests still to come
    hit_rate: float  # of the old messages in the upstream's cache, now
    later_hit_rate: float
    further_turns: float = 0.0  # that follow one like it, in the mean, as far as its model is known
    further_hit_rate: float = 1.0  # in these, of a prompt that is not too small to be cached


_LEAST_YIELD = 0.5
# Where nothing makes the input fit, old messages are compacted for at least this share of what is too much: a
# few tokens of a first message would break the whole prefix, turn after turn.
_LEAST_RELIEF = 0.1


@dataclass(frozen=True, slots=True)
class Yield:
    """What a conversation's compactions brought of the tokens that were planned.

    What was tried and left as it was is known; of messages that have come since, `ratio` of the plan is
    expected, never less than half: a conversation that read code for long may read a log next.
    """

    ratio: float = 1.0
    planned: int = 0  # tokens, when it was last tried in vain
    real: int = 0

    def of(self, planned: int) -> int:
        """Tokens that a compaction is expected to leave out, of so many planned."""
        if planned < self.planned:
            return round(self.ratio * planned)
        return round(self.real + self.ratio * (planned - self.planned))

    def after(self, planned: int, real: int, *, compacted: bool) -> Yield:
        """What is known once a compaction was tried."""
        share = min(1.0, real / max(1, planned))
        ratio = max(_LEAST_YIELD, (self.ratio + share) / 2)
        return Yield(ratio) if compacted else Yield(ratio, planned, min(planned, max(0, real)))


@dataclass(frozen=True, slots=True)
class Decision:
    """What to shorten, to how many tokens, and what that is expected to bring."""

    choice: Choice
    plan: Plan
    prospect: Prospect | None = None
    forced: bool = False  # to fit, whatever it costs
    planned: int = 0  # tokens that a compaction would leave out, had everything in it its share

    @property
    def shortens_new(self) -> bool:
        """Whether new messages would be shortened without a compaction, too."""
        return self.prospect is not None and self.prospect.new_kept < self.prospect.new_tokens


def decide(
    sizes: Sizes,
    plan_budget: PlanBudget,
    costs: Costs,
    ahead: Ahead,
    limit: int | None,
    earlier: Yield = Yield(),
) -> Decision:
    """The decision for one request.

    Args:
        sizes: The request.
        plan_budget: The policy, the client's wish and the budget's pressure, bound.
        costs: Prices.
        ahead: What the conversation is expected to do.
        limit: Tokens the input must fit into (`max_input_tokens`, the context window); then dollars do
            not matter.
        earlier: What earlier compactions of this conversation brought.
    """
    plan_new = plan_turn(
        plan_budget,
        new=sizes.new_free,
        earlier=sizes.old_compressible,
        total=sizes.total,
        trigger_tokens=sizes.trigger_tokens,
    )
    if plan_new.reason in ("holdout", "sampled-out"):
        return Decision("as-is", plan_new)
    plan_all = plan_budget(sizes.new_free + sizes.old_free, sizes.total) if sizes.old_free else plan_new
    prospect, planned = _prospect(sizes, plan_new, plan_all, ahead, earlier)
    if limit is None or limit >= STAYS_CACHED_TOKENS:
        plan_new, prospect = _kept_cached(plan_new, prospect, costs.rates)
    outlook = forecast(prospect, costs)
    fitting = _to_fit(sizes, prospect, limit)
    choice = fitting or outlook.choice
    if choice == "all":
        less = prospect.old_tokens - prospect.old_kept
        step = (
            f"compaction: some {less} tokens less of earlier messages; expected to save "
            f"${outlook.usd['as-is'] - outlook.usd['all']:.6f} over {ahead.turns:.0f} more turns"
        )
        plan = replace(
            plan_all,
            steps=(*plan_all.steps, step),
            compressible=sizes.new_free,
            earlier=sizes.old_compressible,
        )
        return Decision("all", plan, prospect, fitting is not None, planned)
    if choice == "new":
        seconds = outlook.seconds["new"]
        saved = outlook.usd["as-is"] - outlook.usd["new"]
        step = f"expected to save ${saved:.6f} and {seconds:.2f} s of prefill"
        plan = replace(plan_new, steps=(*plan_new.steps, step))
        return Decision("new", plan, prospect, fitting is not None)
    if plan_new.compress:
        reason = "latency" if outlook.too_slow else "no-saving"
        plan_new = replace(plan_new, compress=False, reason=reason, target=sizes.new_free, keep=1.0)
    return Decision("as-is", plan_new, prospect)


def _prospect(
    sizes: Sizes, plan_new: Plan, plan_all: Plan, ahead: Ahead, earlier: Yield
) -> tuple[Prospect, int]:
    """What the planner looks at, and the tokens that a compaction would leave out by the policy alone."""
    new_kept = sizes.new - (sizes.new_free - plan_new.target if plan_new.compress else 0)
    share = plan_all.target / max(1, sizes.new_free + sizes.old_free) if plan_all.compress else 1.0
    planned = round((1 - share) * sizes.old_free + sizes.old_results)
    prospect = Prospect(
        old_tokens=sizes.fixed + sizes.old,
        old_kept=sizes.fixed + sizes.old - earlier.of(planned),
        old_untouched=sizes.fixed + sizes.old_untouched,
        new_tokens=sizes.new,
        new_kept=new_kept,
        new_kept_all=sizes.new - round((1 - share) * sizes.new_free),
        score_new=sizes.new_free,
        score_old=sizes.old_free,
        hit_rate=ahead.hit_rate,
        later_hit_rate=ahead.later_hit_rate,
        turns_ahead=ahead.turns,
        further_turns=ahead.further_turns,
        further_hit_rate=ahead.further_hit_rate,
    )
    return prospect, planned


def _kept_cached(plan: Plan, p: Prospect, rates: Rates) -> tuple[Plan, Prospect]:
    """Leaves so much that the prompt can still be cached, where that is the cheaper way to shorten it."""
    kept = STAYS_CACHED_TOKENS - p.old_tokens
    if not (falls_below(p, rates) and p.new_kept < kept < p.new_tokens):
        return plan, p
    larger = replace(p, new_kept=kept)
    if saved_by_new(larger, rates) <= saved_by_new(p, rates):
        return plan, p
    target = plan.target + kept - p.new_kept
    step = f"{STAYS_CACHED_TOKENS} tokens of the input stay: nothing smaller is cached for the turns to come"
    steps = (*plan.steps, step)
    return replace(plan, target=target, steps=steps), larger


def new_still_pays(decision: Decision, rates: Rates, new_saved: int) -> bool:
    """Whether shortening new messages pays, now that it is known whether the prompt can still be cached."""
    if decision.forced or decision.prospect is None:
        return True
    real = replace(decision.prospect, new_kept=decision.prospect.new_tokens - new_saved)
    return not falls_below(real, rates) or saved_by_new(real, rates) > 0


def still_pays(decision: Decision, costs: Costs, old_saved: int, new_saved: int) -> bool:
    """Whether a compaction still pays now that what it really leaves out is known, in tokens."""
    if decision.forced or decision.prospect is None:
        return True
    p = decision.prospect
    real = replace(p, old_kept=p.old_tokens - old_saved, new_kept_all=p.new_tokens - new_saved)
    if p.new_kept < p.new_tokens:
        real = replace(real, new_kept=real.new_kept_all)
    return forecast(real, costs).choice == "all"


def _to_fit(sizes: Sizes, prospect: Prospect, limit: int | None) -> Choice | None:
    """The least that makes the input fit; None when it fits as it is, or shortening does not help."""
    if limit is None or sizes.total <= limit:
        return None
    shortens_new = prospect.new_kept < prospect.new_tokens
    if prospect.old_tokens + prospect.new_kept <= limit and shortens_new:
        return "new"
    relief, excess = prospect.old_tokens - prospect.old_kept, sizes.total - limit
    if relief > 0 and (
        prospect.old_kept + prospect.new_kept_all <= limit or relief >= _LEAST_RELIEF * excess
    ):
        return "all"
    return "new" if shortens_new else None
