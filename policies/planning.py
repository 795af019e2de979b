"""How many tokens to keep: pure arithmetic, every step told in a sentence.

The order decides, and each step may only tighten what the one before it left: size (`keep`, `ranges`) → the
client's wish → pressure of the budget → `max_input_tokens` → the model's context window.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from policies.globs import compile_glob
from policies.shapes import ClientWish, Plan, Policy, PressureStep, RoleRule, Schedule

_KEEP = re.compile(r"keep\s*=\s*([0-9.]{1,12})")
_TARGET = re.compile(r"target\s*=\s*([0-9]{1,9})")
_MINUTES_A_DAY = 24 * 60
# New messages with a smaller share of the trigger than this stay whole: little to save, and short texts
# suffer most.
_LEAST_NEW = 1 / 8
_LEAST_SHARE = 0.0001  # a share is told in steps of this, and what is kept is never told as nothing
_ALIASES = {"developer": "system", "function": "tool"}  # older and newer names of the same role


@dataclass(slots=True)
class _Sum:
    """The running target while `plan_budget` works."""

    size: int  # compressible tokens
    keep: float
    target: int
    steps: list[str] = field(default_factory=list)

    def keep_share(self, keep: float, sentence: str) -> None:
        self.keep, self.target = keep, _share_of(self.size, keep)
        self.steps.append(sentence)

    def keep_tokens(self, target: int, sentence: str) -> None:
        self.target = target
        self.keep = max(_LEAST_SHARE, round(target / self.size, 4)) if self.size else 1.0
        self.steps.append(sentence)


def parse_wish(header: str | None) -> ClientWish:
    """The `x-terse-compress` header: `off`, `on`, `keep=0.5` or `target=2000`.

    Never raises: what cannot be understood changes nothing, and `note` says so.
    """
    if header is None:
        return ClientWish()
    text = header.strip().lower()
    if text in ("off", "on"):
        return ClientWish(off=text == "off", on=text == "on")
    if (found := _KEEP.fullmatch(text)) is not None and found[1].count(".") <= 1 and found[1] != ".":
        keep = float(found[1])
        if 0 < keep <= 1:
            return ClientWish(keep=keep)
    if (found := _TARGET.fullmatch(text)) is not None and int(found[1]) > 0:
        return ClientWish(target=int(found[1]))
    return ClientWish(note="x-terse-compress was not understood; expected off, on, keep=0.5 or target=2000")


@lru_cache(maxsize=1024)
def draw_of(seed: str) -> float:
    """A number in [0, 1) that depends on the seed alone: the same conversation always draws the same."""
    digest = hashlib.blake2b(seed.encode("utf-8", "surrogatepass"), digest_size=7).digest()
    return int.from_bytes(digest) / 2**56


def rule_for(policy: Policy, role: str, tool: str = "") -> RoleRule:
    """What the policy says of one message's role, or of the results of one tool, which goes before its role.

    None in a field: nothing special is said, and the policy's own value holds.
    """
    by_role = policy.roles.get(role) or policy.roles.get(_ALIASES.get(role, "")) or RoleRule()
    if not tool:
        return by_role
    for glob, rule in policy.tools.items():
        if compile_glob(glob)(tool):
            return RoleRule(
                mode=rule.mode if rule.mode is not None else by_role.mode,
                keep=rule.keep if rule.keep is not None else by_role.keep,
            )
    return by_role


def in_schedule(schedule: Sequence[Schedule], at: datetime) -> bool:
    """Whether a moment (aware) lies in any of the windows. No windows: always.

    A window that ends before it starts goes on into the next day; `days` are those on which it starts.
    """
    return not schedule or any(_in_window(window, at) for window in schedule)


def plan_budget(  # noqa: PLR0913 - every input of the decision, named at the call
    policy: Policy,
    *,
    compressible_tokens: int,
    total_tokens: int,
    wish: ClientWish,
    spent_share: float,
    pressure: Sequence[PressureStep],
    context_window: int | None,
    draw: float,
    at: datetime,
    affordable: int | None = None,
) -> Plan:
    """The plan for one request. Pure: equal arguments, equal plan.

    Args:
        policy: The policy in force.
        compressible_tokens: Tokens of the target model's tokenizer that may be shortened at all.
        total_tokens: Tokens of the whole input, those that must stay included.
        wish: What the client's header asks for; `ClientWish()` when it may not ask.
        spent_share: Share of the fullest budget that is spent or held, 0..1 and more.
        pressure: The team's steps, rising.
        context_window: Tokens that the input may take: the model's window less the completion. None: unknown.
        draw: A number in [0, 1), the same for all requests of a conversation (`draw_of`).
        at: The moment, aware of its time zone.
        affordable: Tokens of input that the budgets still cover, for teams with pressure. None: no bound.

    Returns:
        `compress=False` with the skip reason, or how many of the compressible tokens to keep.
    """
    note = [wish.note] if wish.note else []
    if not policy.client_override:
        wish = ClientWish()
    refusal = _refusal(policy, wish, at)
    if refusal:
        return _skip(policy, compressible_tokens, refusal, note)
    room = _room(policy, total_tokens - compressible_tokens, context_window, affordable)
    must_fit = compressible_tokens > room
    if not must_fit:
        reason = _left_alone(policy, compressible_tokens, wish, draw)
        if reason:
            return _skip(policy, compressible_tokens, reason, note)
    sum_ = _Sum(compressible_tokens, 1.0, compressible_tokens, note)
    _by_size(sum_, policy)
    _by_wish(sum_, policy, wish)
    _by_pressure(sum_, policy, spent_share, pressure)
    _to_fit(sum_, policy, total_tokens - compressible_tokens, context_window)
    _to_afford(sum_, policy, total_tokens - compressible_tokens, affordable)
    if sum_.target >= compressible_tokens:
        return _skip(policy, compressible_tokens, "nothing-to-cut", sum_.steps)
    return Plan(
        compress=True,
        mode=policy.mode,
        target=sum_.target,
        keep=sum_.keep,
        reason="",
        steps=tuple(sum_.steps),
        compressible=compressible_tokens,
    )


def plan_turn(
    plan: Callable[[int, int], Plan], *, new: int, earlier: int, total: int, trigger_tokens: int
) -> Plan:
    """The plan for the new messages of a conversation. The trigger is judged on the whole of it.

    A result of a tool that is too small for the trigger is shortened where the conversation is large enough,
    if it has an eighth of the trigger itself, and to the share that holds for the whole.

    Args:
        plan: `plan_budget` with what the request fixes: (compressible tokens, tokens of the input) -> plan.
        new: Compressible tokens of messages that were never sent.
        earlier: Compressible tokens of those that were, as the client sends them.
        total: Tokens of the whole input.
        trigger_tokens: The policy's.
    """
    alone = replace(plan(new, total), earlier=earlier)
    least = max(1, round(_LEAST_NEW * trigger_tokens))
    if alone.reason != "below-trigger" or new < least or not earlier:
        return alone
    size = new + earlier
    whole = plan(size, total + earlier)
    if not whole.compress:
        return alone
    target = max(1, whole.target * new // size)
    step = f"of which the {new} new tokens are shortened to {target}"
    steps = (*whole.steps, step)
    return replace(whole, target=target, steps=steps, compressible=new, earlier=earlier)


def audited(plan: Plan) -> Plan:
    """The same plan, computed and booked but not sent: for a policy that fell back to `audit`."""
    return replace(plan, mode="audit") if plan.mode == "on" else plan


def _refusal(policy: Policy, wish: ClientWish, at: datetime) -> str:
    """Why nothing is done, however large the request is."""
    if policy.mode == "off":
        return "mode-off"
    if not in_schedule(policy.schedule, at):
        return "outside-schedule"
    return "client-off" if wish.off else ""


def _left_alone(policy: Policy, size: int, wish: ClientWish, draw: float) -> str:
    """Why a request that fits is left alone.

    One draw decides both shares: of [0, sample) that is touched, the first `holdout` part is held out.
    """
    if draw >= policy.sample and not wish.on:
        return "sampled-out"
    if draw < policy.sample * policy.holdout:
        return "holdout"
    if size < policy.trigger_tokens or size == 0:
        return "below-trigger"
    return ""


def _skip(policy: Policy, size: int, reason: str, steps: Sequence[str]) -> Plan:
    return Plan(
        compress=False,
        mode=policy.mode,
        target=size,
        keep=1.0,
        reason=reason,
        steps=tuple(steps),
        compressible=size,
    )


def _room(policy: Policy, fixed: int, context_window: int | None, affordable: int | None) -> float:
    """Compressible tokens that fit beside those that must stay."""
    bounds = (policy.max_input_tokens, context_window, affordable)
    return min([bound - fixed for bound in bounds if bound is not None], default=math.inf)


def _by_size(sum_: _Sum, policy: Policy) -> None:
    keep, why = policy.keep, f"policy {policy.name} keeps {policy.keep:g}"
    for step in policy.ranges:
        if sum_.size >= step.from_tokens:
            keep = step.keep
            why = f"policy {policy.name} keeps {step.keep:g} from {step.from_tokens} tokens on"
    sum_.keep_share(keep, f"{why}: {_share_of(sum_.size, keep)} of {sum_.size} compressible tokens")


def _by_wish(sum_: _Sum, policy: Policy, wish: ClientWish) -> None:
    floor = _floor(sum_.size, policy)
    if wish.keep is not None:
        keep = max(wish.keep, policy.min_keep)
        clamped = f", raised to min_keep {policy.min_keep:g}" if keep > wish.keep else ""
        sum_.keep_share(
            keep, f"the client asks to keep {wish.keep:g}{clamped}: {_share_of(sum_.size, keep)} tokens"
        )
    elif wish.target is not None:
        target = min(max(wish.target, floor), sum_.size)
        clamped = f", raised to min_keep {policy.min_keep:g}" if target > wish.target else ""
        sum_.keep_tokens(target, f"the client asks for {wish.target} tokens{clamped}: {target} tokens")


def _by_pressure(sum_: _Sum, policy: Policy, spent: float, pressure: Sequence[PressureStep]) -> None:
    reached = [step for step in pressure if spent >= step.spent]
    if not reached:
        return
    step = min(reached, key=lambda each: each.keep)
    keep = max(step.keep, policy.min_keep)
    target = _share_of(sum_.size, keep)
    if target < sum_.target:
        clamped = f" (raised to min_keep {policy.min_keep:g})" if keep > step.keep else ""
        sum_.keep_share(
            keep, f"{spent:.0%} of the budget is spent: keep at most {keep:g}{clamped}, {target} tokens"
        )


def _to_fit(sum_: _Sum, policy: Policy, fixed: int, context_window: int | None) -> None:
    """`max_input_tokens` holds whatever `min_keep` says; the context window only down to `min_keep`.

    Below that, a clear error of the upstream serves better than an answer from scraps.
    """
    floor = _floor(sum_.size, policy)
    if policy.max_input_tokens is not None and sum_.target > policy.max_input_tokens - fixed:
        room = policy.max_input_tokens - fixed
        if room >= 1:
            sum_.keep_tokens(
                room, f"max_input_tokens {policy.max_input_tokens} less {fixed} that stay: {room} tokens"
            )
        elif floor < sum_.target:
            why = f"max_input_tokens {policy.max_input_tokens} cannot be met, {fixed} tokens must stay"
            sum_.keep_tokens(floor, f"{why}: min_keep {policy.min_keep:g}, {floor} tokens")
    if context_window is not None and sum_.target > context_window - fixed:
        room = max(context_window - fixed, floor)
        if room < sum_.target:
            short = "" if room == context_window - fixed else ", which still does not fit"
            sum_.keep_tokens(
                room, f"the context window leaves {context_window} tokens of input: {room} tokens{short}"
            )


def _to_afford(sum_: _Sum, policy: Policy, fixed: int, affordable: int | None) -> None:
    """Before a budget refuses, as much is cut as it takes, down to `min_keep`; below that it refuses."""
    if affordable is None or sum_.target <= affordable - fixed:
        return
    room = max(affordable - fixed, _floor(sum_.size, policy))
    if room < sum_.target:
        short = "" if room == affordable - fixed else ", which is still too much for it"
        sum_.keep_tokens(room, f"the budget covers {affordable} tokens of input: {room} tokens{short}")


def _share_of(size: int, keep: float) -> int:
    """Rounded down, so that never more than the share is kept; at least one token of anything."""
    return max(min(size, 1), math.floor(size * keep + 1e-9))


def _floor(size: int, policy: Policy) -> int:
    return _share_of(size, policy.min_keep)


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _in_window(window: Schedule, at: datetime) -> bool:
    local = at.astimezone(_zone(window.timezone))
    minute, day = local.hour * 60 + local.minute, local.weekday()
    if window.start_minute < window.end_minute:
        return day in window.days and window.start_minute <= minute < window.end_minute
    started_today = day in window.days and window.start_minute <= minute < _MINUTES_A_DAY
    return started_today or ((day - 1) % 7 in window.days and minute < window.end_minute)
