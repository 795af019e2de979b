"""From forms to bytes: the body is rebuilt, looked at, and the forms are fixed for the turns to come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from compressor.turns import in_turns
from gateway.chat.conversation import Path
from gateway.chat.rebuild import rebuild
from gateway.chat.validation import find_damage
from gateway.compression.job import Job, Outcome, Past
from gateway.compression.planner import LEAST_CACHED_TOKENS
from gateway.compression.prefixes import Form, Head, PrefixStore
from gateway.releasing import keep
from gateway.shapes import CacheState, Compressed, Status
from gateway.turns import at_work

# Instructions that providers put in front of a request with tools (346 tokens at Anthropic), and what stands
# around each call of a tool and each result: ids, names, types.
_HIDDEN_TOOLS, _HIDDEN_CALL, _HIDDEN_RESULT = 400, 25, 15
# Parts that are billed by tokens which nobody here counts.
_NOT_TEXT = ("image", "image_url", "input_image", "input_audio", "input_file", "file", "document")


@dataclass(frozen=True, slots=True)
class Sender:
    """Turns outcomes into what is sent. `now` is in seconds since 1970."""

    prefixes: PrefixStore

    async def send(self, job: Job, past: Past, outcome: Outcome, now: float) -> Compressed:
        """The body and its account, once the forms of new messages are stored (or another replica's were)."""
        body, outcome = await self._checked(job, past, outcome)
        job.watch.lap("rebuild")
        (before, after), fixed = await at_work(past.many, _to_fix, past, outcome)
        head = Head(outcome.generation, past.history.turns, after, before, now)
        winners, head = await self.prefixes.fix(past.chain, outcome.generation, fixed, head)
        differ = await at_work(past.many, _differ, winners, fixed)
        if head.generation != outcome.generation or differ:
            outcome = await self._winners(past, outcome, winners, head.generation)
            body, outcome = await self._checked(job, past, outcome)
        job.watch.lap("fix")
        return await at_work(past.many, _account, job, past, outcome, body, now)

    async def _winners(
        self, past: Past, outcome: Outcome, winners: Mapping[int, Form], generation: str
    ) -> Outcome:
        """What another replica has fixed for the same conversation a moment earlier."""
        if generation == outcome.generation:
            return replace(outcome, forms={**outcome.forms, **winners})
        known = await self.prefixes.look_up(past.chain)
        forms = {i: known.forms[i] or form for i, form in outcome.forms.items()}
        return replace(outcome, forms=forms, generation=generation, compacted=False)

    async def _checked(self, job: Job, past: Past, outcome: Outcome) -> tuple[bytes, Outcome]:
        """The body with all forms; on any doubt with those of earlier turns only; on doubt even then, as it
        came.
        """
        body, damage = await at_work(past.large, _build, job, past, outcome.forms)
        if not damage:
            return body, outcome
        safe = {
            i: form if i in past.history.forms and form == past.history.forms[i] else replace(form, cuts=())
            for i, form in outcome.forms.items()
        }
        forms = {
            i: form if form.cuts else replace(form, tokens_after=form.tokens_before)
            for i, form in safe.items()
        }
        retry = replace(outcome, forms=forms, failure=damage, compacted=False, generation=past.generation)
        body, again = await at_work(past.large, _build, job, past, forms)
        if not again:
            return body, retry
        whole = {i: Form(form.tokens_before, form.tokens_before) for i, form in forms.items()}
        return job.request.body, replace(retry, forms=whole)


def _build(job: Job, past: Past, forms: Mapping[int, Form]) -> tuple[bytes, str]:
    """The body, and what is wrong with it ("" when nothing is)."""
    changes: dict[Path, str] = {}
    aged: set[Path] = set()
    try:
        for index, form in in_turns(forms.items()):
            if form.cuts:
                changed = form.changes(past.conversation.messages[index], job.memory)
                changes |= changed
                aged.update(changed if form.aged else ())
        if not changes:
            return job.request.body, ""
        body, read = rebuild(job.request, changes)
        keep(body)
    except (ValueError, LookupError, TypeError):
        return job.request.body, "invalid-structure"
    return body, find_damage(job.request, body, changes, read, aged, job.memory.passes)


def _to_fix(past: Past, outcome: Outcome) -> tuple[tuple[int, int], Mapping[int, Form]]:
    """Tokens before and after, and the forms that are not in the store yet."""
    unfixed = chain(past.history.passed, past.history.new)
    fixed = outcome.forms if outcome.compacted else {i: outcome.forms[i] for i in unfixed}
    keep(outcome.forms, fixed)
    return _totals(past, outcome), fixed


def _differ(winners: Mapping[int, Form], ours: Mapping[int, Form]) -> bool:
    keep(winners)
    return any(winners[i] is not form and winners[i] != form for i, form in ours.items())


def _totals(past: Past, outcome: Outcome) -> tuple[int, int]:
    forms = outcome.forms.values()
    before = past.fixed_tokens + sum(form.tokens_before for form in in_turns(forms))
    return before, past.fixed_tokens + sum(form.tokens_after for form in in_turns(forms))


def _account(job: Job, past: Past, outcome: Outcome, body: bytes, now: float) -> Compressed:
    history = past.history
    before, after = _totals(past, outcome)
    audit = job.policy.mode == "audit"
    sent = history.sent
    original = past.fixed_tokens + sum(outcome.forms[i].tokens_before for i in sent) if sent else 0
    same, broken = _prefix(past, outcome, sent)
    rate = past.hit_rate(now, job.rates)
    status: Status = "applied" if body is not job.request.body else "skipped"
    if outcome.failure:
        status = "failed-open"
    foreign = job.foreign_tokenizer
    if foreign and any(_has_media(message.node) for message in past.conversation.messages):
        foreign = ""
    reason = outcome.failure or ("" if status == "applied" else outcome.plan.reason or "nothing-to-cut")
    return Compressed(
        body=job.request.body if audit else body,
        status="audit" if audit and not outcome.failure else status,
        skip_reason=reason,
        plan=outcome.plan,
        tokens_before=before,
        tokens_after=before if audit else after,
        cache=_cache_state(outcome, status),
        overhead_ms=job.watch.total_ms,
        frozen_messages=len(history.forms),
        broken_prefix_tokens=0 if audit else round(broken * rate),
        timings=dict(job.watch.steps),
        tokens_would_be=after if audit else None,
        compacted=outcome.compacted and not audit,
        conversation="" if audit else f"{past.chain.head}:{past.chain.space}",
        idle_seconds=past.idle_seconds(now),
        prefix_tokens=original if audit else same,
        prefix_original_tokens=original,
        prefix_hit_rate=rate if original >= LEAST_CACHED_TOKENS else 0.0,
        observed_hit_rate=past.known.sighting.hit_rate,
        begins=past.known.head is None,
        untold_tokens=_untold(past) if foreign else None,
        billed_per_token=job.billed_per_token if foreign else None,
        billing_name=foreign,
        marked=job.request.marked,
    )


def _untold(past: Past) -> int:
    """Tokens that the upstream may bill beside the text that we count."""
    slots = [slot for message in past.conversation.messages for slot in message.slots]
    calls = sum(_HIDDEN_CALL for slot in slots if slot.protected == "tool-call")
    results = sum(_HIDDEN_RESULT for slot in slots if slot.role == "tool")
    return calls + results + (_HIDDEN_TOOLS if "tools" in past.conversation.fixed else 0)


def _has_media(node: Any) -> bool:
    """Whether a message, or a part of one, is or holds what is no text."""
    if not isinstance(node, dict):
        return False
    kind = node.get("type")
    if isinstance(kind, str) and kind in _NOT_TEXT:
        return True
    parts = [
        part for name in ("content", "output") if isinstance(node.get(name), list) for part in node[name]
    ]
    return any(map(_has_media, parts))


def _prefix(past: Past, outcome: Outcome, sent: Sequence[int]) -> tuple[int, int]:
    """Tokens of old messages up to the first whose form has changed, and those behind it.

    Of history that did not go through here nobody knows the form that it was sent in: it is in neither,
    unless it is shortened now.
    """
    same, broken = (past.fixed_tokens, 0) if sent else (0, 0)
    for index in in_turns(sent):
        form = outcome.forms[index]
        earlier = past.history.forms.get(index)
        changed = bool(form.cuts) and (earlier is None or form.cuts != earlier.cuts)
        if broken or changed:
            broken += earlier.tokens_after if earlier is not None else form.tokens_before
        elif index not in past.history.unseen:
            same += form.tokens_after
    return same, broken


def _cache_state(outcome: Outcome, status: Status) -> CacheState:
    if outcome.scored is not None:
        return outcome.scored.cache
    return "hit" if status == "applied" else "none"
