"""Decides the form of every message of a request: sizes → decision → scores → choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from compressor.engine.protocol import ScoringEngine
from compressor.errors import (
    BudgetTooSmall,
    CompressorError,
    DeadlineExceeded,
    EngineStopped,
    InvalidText,
    Overloaded,
)
from compressor.shapes import Spans
from compressor.turns import in_turns
from gateway.chat.conversation import Conversation
from gateway.chat.segments import live_turn, question_of, split_message
from gateway.compression.ageing import Ageing, find_old_results
from gateway.compression.choosing import Judged, Measured, choose, make_form, without_old
from gateway.compression.decision import (
    Ahead,
    Decision,
    Sizes,
    Yield,
    decide,
    new_still_pays,
    still_pays,
)
from gateway.compression.job import MANY_MESSAGES, Job, Outcome, Past
from gateway.compression.planner import USD_PER_SECOND, Costs, hit_rate, scoring_price, turns_ahead
from gateway.compression.prefill import PrefillSpeeds
from gateway.compression.prefixes import Form
from gateway.compression.scoring import Scored, ScoreSource
from gateway.compression.token_counts import INLINE_CHARACTERS
from gateway.errors import Unavailable
from gateway.releasing import keep, keep_json
from gateway.turns import at_work

# Seconds; the design's rule 7. Two cores score 2,000-3,500 tokens a second.
_DEADLINE_GPU, _DEADLINE_CPU = 0.4, 5.0
# When the engine's own speed says that a text takes this many deadlines, nobody waits for it.
_HOPELESS = 3.0

# Characters whose words are chosen in some 4 ms; more is work for a thread.
_INLINE_CHOICE = 2_000
_INLINE_SEGMENTS = 2_000
_CONVERSATIONS = 10_000  # whose yields are remembered

_REASONS: tuple[tuple[type[CompressorError], str], ...] = (
    (DeadlineExceeded, "deadline"),
    (Overloaded, "overloaded"),
    (EngineStopped, "engine-stopped"),
    (InvalidText, "invalid-text"),
    (BudgetTooSmall, "budget-too-small"),
)


@dataclass(frozen=True, slots=True)
class Reformer:
    """The parts that deciding needs. `clock` gives seconds since 1970."""

    engine: ScoringEngine
    scores: ScoreSource
    clock: Callable[[], float]
    deadline_ms: int | None = None
    prefill: PrefillSpeeds = field(default_factory=PrefillSpeeds)
    yields: dict[str, Yield] = field(default_factory=dict)  # of conversations that were compacted, or nearly

    async def reform(self, job: Job, past: Past) -> Outcome:
        """The forms of all messages: those that hold already, and those decided now.

        Trouble with scoring leaves new messages whole. Raises Unavailable then if the policy is fail-closed.
        """
        history = past.history
        earlier = await self._measure(job, past.conversation, history.passed)
        new = await self._measure(job, past.conversation, history.new)
        old, fresh, ageing, decision = await at_work(past.many, self._plan, job, past, earlier, new)
        job.watch.lap("plan")
        if decision.choice == "as-is":
            return Outcome(await at_work(past.many, _joined, old, fresh), decision.plan, past.generation)
        indices, measured = history.new, new
        if decision.choice == "all":
            indices = await at_work(past.many, _unshortened, history.new, old, ageing)
            measured = await self._measure(job, past.conversation, indices)
            if job.policy.old_results is not None and not job.policy.old_results.keep:
                measured = await at_work(past.many, without_old, measured, ageing.messages)
        else:
            ageing = Ageing()
        try:
            scored = await self._score(job, past.conversation, measured)
        except CompressorError as error:
            failure = self._failure(job, error)
            forms = await at_work(past.many, _joined, old, fresh)
            return Outcome(forms, decision.plan, past.generation, failure=failure)
        finally:
            job.watch.lap("score")
        big = past.many or sum(len(segment.text) for segment, _ in measured.free()) > _INLINE_CHOICE
        shortened, notes = await at_work(
            big,
            _choose_forms,
            past.conversation,
            indices,
            measured,
            scored,
            decision.plan.target,
            job,
            ageing,
        )
        compacted, forms = await at_work(
            past.many, self._settled, job, past, old, fresh, ageing, shortened, decision
        )
        job.watch.lap("choose")
        plan = replace(decision.plan, steps=(*decision.plan.steps, *notes))
        if decision.choice == "new" and await at_work(past.many, _saves_nothing, shortened, forms, fresh):
            plan = replace(plan, reason="no-saving")
        return Outcome(
            forms,
            plan,
            past.chain.head if compacted else past.generation,
            scored,
            compacted=compacted,
        )

    def _plan(
        self, job: Job, past: Past, earlier: Measured, new: Measured
    ) -> tuple[dict[int, Form], dict[int, Form], Ageing, Decision]:
        """The forms of old and new messages with nothing more shortened, old results, and the decision."""
        history, conversation = past.history, past.conversation
        old = _joined(history.forms, _whole_forms(conversation, history.passed, earlier))
        fresh = _whole_forms(conversation, history.new, new)
        ageing = Ageing() if past.repeated else find_old_results(job.policy, conversation, old)
        return old, fresh, ageing, self._decide(job, past, old, new, ageing)

    def _settled(  # noqa: PLR0913 - all that counts here
        self,
        job: Job,
        past: Past,
        old: Mapping[int, Form],
        fresh: Mapping[int, Form],
        ageing: Ageing,
        shortened: dict[int, Form],
        decision: Decision,
    ) -> tuple[bool, dict[int, Form]]:
        """Whether the conversation is compacted, and the forms of all messages."""
        shortened = ageing.settled(shortened, old)
        compacted = decision.choice == "all" and self._compacts(job, past, old, shortened, decision)
        if decision.choice == "all" and not compacted:
            shortened = {i: form for i, form in shortened.items() if i not in old and decision.shortens_new}
        if not compacted:
            saved = sum(f.tokens_before - f.tokens_after for f in shortened.values())
            if not new_still_pays(decision, job.rates, saved):
                return False, _joined(old, fresh)
        return compacted, _joined(old, fresh, shortened)

    def _compacts(
        self, job: Job, past: Past, old: Mapping[int, Form], shortened: Mapping[int, Form], decision: Decision
    ) -> bool:
        """Whether old messages take their new forms: only if what was really left out is worth it.

        What came of it is remembered, so that a conversation of numbers and code is not tried at every turn.
        """
        before = sum(old[i].tokens_after - form.tokens_after for i, form in shortened.items() if i in old)
        new = sum(f.tokens_before - f.tokens_after for i, f in shortened.items() if i not in old)
        compacts = before > 0 and still_pays(decision, self._costs(job), before, new)
        known = self.yields.pop(past.name, Yield())
        self.yields[past.name] = known.after(decision.planned, before, compacted=compacts)
        while len(self.yields) > _CONVERSATIONS:
            del self.yields[next(iter(self.yields))]
        return compacts

    async def _measure(self, job: Job, conversation: Conversation, indices: Sequence[int]) -> Measured:
        """The segments of some messages, and their sizes."""
        if not indices:
            return Measured((), ())
        live = live_turn(conversation.messages)

        def split() -> Measured:
            segments = [
                segment
                for index in in_turns(indices)
                for segment in split_message(
                    conversation.messages[index],
                    index,
                    job.policy,
                    self._count_one(job) if index == live or conversation.messages[index].alone else None,
                )
            ]
            texts = [segment.text for segment in segments]
            counts = job.counts.count_now(texts, job.counter)
            keep(segments, counts)
            keep_json(texts)
            return Measured(tuple(segments), tuple(counts))

        size = INLINE_CHARACTERS
        if len(indices) <= MANY_MESSAGES:
            size = sum(len(slot.text) for index in indices for slot in conversation.messages[index].slots)
        measured = await at_work(size >= INLINE_CHARACTERS, split)
        job.watch.lap("split")
        return measured

    def _count_one(self, job: Job) -> Callable[[str], int]:
        return lambda text: job.counts.count_now([text], job.counter)[0]

    def _decide(
        self, job: Job, past: Past, old: Mapping[int, Form], new: Measured, ageing: Ageing
    ) -> Decision:
        first_free = min((*(i for i, form in old.items() if form.free), *ageing.messages), default=None)
        untouched = [form for i, form in old.items() if first_free is None or i < first_free]
        sizes = Sizes(
            fixed=past.fixed_tokens,
            old=sum(form.tokens_after for form in old.values()),
            old_free=sum(form.free for form in old.values()),
            old_untouched=sum(form.tokens_after for form in untouched),
            new=sum(new.tokens),
            new_free=new.free_tokens,
            old_compressible=sum(form.tokens_before if form.cuts else form.free for form in old.values()),
            trigger_tokens=job.policy.trigger_tokens,
            old_results=ageing.tokens,
        )
        if past.repeated:  # its end is known, and so the forms that hold, whatever would be decided now
            sizes = replace(sizes, old_free=0)
        rates = job.rates
        now = past.hit_rate(self.clock(), rates)
        later = hit_rate(past.observed_hit_rate, 0.0, seen=True, discounts=rates.discounts)
        return decide(
            sizes,
            lambda compressible, total: job.budget(compressible, total, past.seed),
            self._costs(job),
            Ahead(
                turns_ahead(past.history.turns),
                now,
                later,
                past.known.habits.turns_ahead,
                # Not known: read in full, so that what a prompt too small would lose is not belittled.
                later if past.observed_hit_rate is not None or not rates.discounts else 1.0,
            ),
            job.limit,
            self.yields.get(past.name, Yield()),
        )

    def _costs(self, job: Job) -> Costs:
        speed = self.scores.expected_seconds(4000)
        return Costs(
            job.rates,
            scoring_price(self.engine.device),
            usd_per_second=USD_PER_SECOND if job.policy.latency == "weigh" else 0.0,
            slower_never=job.policy.latency == "bound",
            prefill_per_second=self.prefill.of(job.request.model),
            scored_per_second=1000 / speed if speed else 0.0,
        )

    async def _score(self, job: Job, conversation: Conversation, measured: Measured) -> Scored:
        texts, characters = await at_work(len(measured.segments) > _INLINE_SEGMENTS, _free_texts, measured)
        deadline = self._deadline(job)
        expected = self.scores.expected_seconds(characters)
        if expected is not None and expected > _HOPELESS * deadline:
            deadline = 0.0  # cached scores still come; what is not cached is scored for the next conversation
        return await self.scores.scores_of(texts, job.salt, deadline, _question(conversation, job))

    def _deadline(self, job: Job) -> float:
        milliseconds = job.policy.deadline_ms or self.deadline_ms
        if milliseconds is not None:
            return milliseconds / 1000
        device = self.engine.health().device or self.engine.device
        return _DEADLINE_GPU if "cuda" in device else _DEADLINE_CPU

    def _failure(self, job: Job, error: CompressorError) -> str:
        reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), "scoring-failed")
        if job.policy.fail == "closed":
            message = f"the prompt could not be shortened ({reason}), and the policy is fail-closed"
            raise Unavailable(message, code="compressor_unavailable") from error
        return reason


def _question(conversation: Conversation, job: Job) -> str:
    return question_of(conversation) if job.policy.question_aware else ""


def _choose_forms(  # noqa: PLR0913 - all that the choice depends on
    conversation: Conversation,
    indices: Sequence[int],
    measured: Measured,
    scored: Scored,
    target: int,
    job: Job,
    ageing: Ageing,
) -> tuple[dict[int, Form], list[str]]:
    """The chosen forms, and why some texts stayed whole although they should not have."""
    relevance = scored.relevance or [None] * len(scored.scores)
    question = _question(conversation, job)
    judged = [Judged(*both, question) for both in zip(scored.scores, relevance, strict=True)]
    chosen = choose(measured, judged, target, job.policy, job.counter, ageing.messages)
    keep(list(chosen.values()), judged)
    for shortened in chosen.values():
        keep(shortened.text, *([shortened.kept.places] if isinstance(shortened.kept, Spans) else []))
    parts = measured.by_message()
    keep(parts)
    forms = {}
    for index in in_turns(indices):
        old = index in ageing.messages
        form = make_form(conversation.messages[index], parts.get(index, []), chosen, aged=old)
        # One decision a message: what was looked at and left whole is not looked at again.
        forms[index] = replace(form, free=0) if chosen else form
    reasons = Counter(shortened.note for shortened in chosen.values() if shortened.note)
    return forms, [f"stayed whole, {count} texts: {reason}" for reason, count in sorted(reasons.items())]


def _free_texts(measured: Measured) -> tuple[list[str], int]:
    """The texts, and their characters together."""
    texts = [segment.text for segment, _ in measured.free()]
    keep(texts)
    return texts, sum(map(len, texts))


def _saves_nothing(
    shortened: Mapping[int, Form], forms: Mapping[int, Form], fresh: Mapping[int, Form]
) -> bool:
    """Whether new messages were shortened, and go whole all the same."""
    return all(forms[i] is fresh[i] for i in shortened) and any(form.cuts for form in shortened.values())


def _unshortened(new: Sequence[int], old: Mapping[int, Form], ageing: Ageing) -> tuple[int, ...]:
    """The messages that a compaction looks at."""
    return tuple(sorted({*new, *(i for i, form in old.items() if form.free), *ageing.messages}))


def _joined(*forms: Mapping[int, Form]) -> dict[int, Form]:
    """The forms of all messages; the later ones count."""
    joined: dict[int, Form] = {}
    for some in forms:
        for index, form in in_turns(some.items()):  # one by one: |= is one step
            joined[index] = form
        keep(some)
    return joined


def _whole_forms(conversation: Conversation, indices: Sequence[int], measured: Measured) -> dict[int, Form]:
    parts = measured.by_message()
    keep(parts)
    return {i: make_form(conversation.messages[i], parts.get(i, []), {}) for i in in_turns(indices)}
