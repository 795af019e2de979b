"""Shortens texts to an exact budget of the target model's tokens, from scores that are already there.

One threshold decides over all words of all passages; how many words fit is found by counting the real result,
a few times. Nothing here waits or needs torch: 10k tokens take some 10 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from compressor.errors import BudgetTooSmall, InvalidBudget, InvalidOption
from compressor.shapes import DEFAULT_PROTECT, Shortened, Span, Spans, WordDecision
from compressor.text.fitting import Scales, fit, order_items
from compressor.text.passages import Outline, Prepared, Rendered, prepare
from compressor.text.protection import REASONS
from compressor.text.relevance import blend_relevance
from compressor.text.runs import worth_in_runs
from compressor.text.selection import Columns, KeepOrder, Level, Sizes, keep_order, plan_levels
from compressor.text.tallies import joined
from compressor.text.tokens import TokenCounter
from compressor.turns import in_turns, let_go

Unit = Literal["auto", "words", "sentences"]
_LEVELS: dict[str, tuple[Level, ...]] = {"words": (), "sentences": (Level("sentence", 1.0),)}


@dataclass(frozen=True, slots=True)
class Passage:
    """One text to shorten, its scores, and what of it must stay.

    `kind` picks the treatment: "prose" (words), "log", "json", "code" and so on, or "auto" to detect it.
    With a `question` the sentences that bear on it come first, judged by the words they share and by
    `relevance`, which is what `ScoringEngine.rank` says of `question_units(text).passages`. Both are
    optional, and each works alone; passages of one call should have the same question.
    """

    text: str
    scores: NDArray[np.uint8]  # one a word of split_words(text)
    protect: frozenset[str] = frozenset(DEFAULT_PROTECT)
    force_tokens: tuple[str, ...] = ()
    whole: bool = False  # stays as it is, and counts
    relevance: NDArray[np.uint8] | None = None
    kind: str = "prose"
    stay: tuple[Span, ...] = ()  # further characters that stay
    question: str = ""
    fold: bool = False  # the layout of JSON, and what a log's lines only repeat, go before anything else
    outline: Outline | None = None  # of this text, these options and the counter of the call, if made before


def shorten_passages(
    passages: Sequence[Passage],
    target_tokens: int,
    counter: TokenCounter,
    *,
    explain: bool = False,
    unit: Unit = "auto",
    stretch: bool = False,
) -> list[Shortened]:
    """Shortens the passages so that their tokens together are at most `target_tokens`, one result a passage.

    `unit` overrides the rule that picks units: "words" deletes words only, "sentences" takes whole ones
    first. The sum is at least 98 % of the target, unless the whole is smaller than that, or each word that
    was left out costs more than what is left of the budget (a bullet or speaker comes with its line only, and
    logs, diffs and stack traces go by whole lines). A text whose shortened form would not be valid
    any more (JSON that does not parse) comes back whole, with the reason in `.note`.

    Raises BudgetTooSmall when what must stay costs more than the target (with `stretch` that is the target
    then), InvalidBudget for a negative target, InvalidOption for scores that do not fit the text.
    """
    if target_tokens < 0:
        raise InvalidBudget(f"target_tokens: expected 0 or more, got {target_tokens}")
    for passage in passages:
        if passage.scores.ndim != 1:
            raise InvalidOption("scores: expected one value a word")
    prepared = [prepare(passage, counter) for passage in in_turns(passages)]
    job = _Job(prepared, [""] * len(passages), counter, explain, unit)
    while True:
        try:
            result = _shorten(job, target_tokens)
        except BudgetTooSmall as error:
            if not stretch:
                raise
            target_tokens += error.short_by
            continue
        doubtful = _validate(job.prepared, result)
        if not doubtful:
            let_go(prepared)
            return result
        for index, reason in doubtful.items():
            job.notes[index] = reason
            job.prepared[index] = job.prepared[index].as_whole()


@dataclass(frozen=True, slots=True)
class _Job:
    """The passages of one call; those that fail their check become whole, with a note."""

    prepared: list[Prepared]
    notes: list[str]
    counter: TokenCounter
    explain: bool
    unit: Unit


def _validate(prepared: Sequence[Prepared], result: Sequence[Shortened]) -> dict[int, str]:
    """Why some results are not fit to be sent, by index."""
    doubtful = {}
    for index, (one, shortened) in enumerate(in_turns(zip(prepared, result, strict=True))):
        if shortened.text != one.text and (reason := one.validate(one.text, shortened.text)):
            doubtful[index] = reason
    return doubtful


def _shorten(job: _Job, target: int) -> list[Shortened]:
    prepared = job.prepared
    tokens_before = sum(one.tokens for one in prepared)
    if tokens_before <= target:
        return _results(job, [one.untouched() for one in prepared], [one.tokens for one in prepared], None)
    columns = _columns(prepared)
    budget = max(0.0, target - _fixed_cost(prepared))
    asked = columns.relevance is not None
    levels = _LEVELS.get(job.unit)
    if levels is None:
        levels = plan_levels(_sizes(prepared, tokens_before), target / tokens_before, asked=asked)
    worth = columns.scores if asked else worth_in_runs(columns)
    ordered = keep_order(columns, worth, budget, levels)
    scales = Scales(prepared, job.counter)
    fitted = fit(scales, order_items(columns, ordered.order), columns.must_stay, target)
    if fitted is None:
        total = sum(scales.weigh(columns.must_stay))
        over = total - target
        raise BudgetTooSmall(
            f"what must stay has {total} tokens, {over} more than the budget of {target}", over
        )
    results = _results(job, scales.rendered(fitted.keep), fitted.tokens, ordered)
    scales.let_go()
    return results


def _sizes(prepared: Sequence[Prepared], tokens: int) -> Sizes:
    free = [one for one in prepared if not one.whole and len(one.words)]
    return Sizes(
        tokens=tokens,
        sentences=sum(int(one.sentence[-1]) + 1 for one in free),
        paragraphs=sum(int(one.paragraph[-1]) + 1 for one in free),
        documents=sum(int(one.document[-1]) + 1 for one in free),
        prose=2 * sum(len(one.words) for one in free if one.prose) >= sum(len(one.words) for one in free),
    )


def _fixed_cost(prepared: Sequence[Prepared]) -> float:
    """What must stay costs about so many tokens."""
    return float(sum(one.costs[one.codes > 0].sum() for one in in_turns(prepared)))


def _columns(prepared: Sequence[Prepared]) -> Columns:
    def numbered(name: str) -> NDArray[np.int64]:
        parts, following = [], 0
        for one in in_turns(prepared):
            units = getattr(one, name)
            parts.append(units.astype(np.int64) + following)
            following += int(units[-1]) + 1 if len(units) else 0
        return joined(parts)

    groups, following = [], 0
    for one in in_turns(prepared):
        groups.append(np.where(one.group >= 0, one.group.astype(np.int64) + following, -1))
        following += int(one.group.max(initial=-1)) + 1
    return Columns(
        scores=joined([one.scores for one in prepared]),
        costs=joined([one.costs for one in prepared]),
        own_costs=joined([one.own_costs for one in prepared]),
        free=joined([one.free for one in in_turns(prepared)]),
        group=joined(groups),
        sentence=numbered("sentence"),
        paragraph=numbered("paragraph"),
        document=numbered("document"),
        relevance=_relevance(prepared),
        passage=joined([np.full(len(one.words), number) for number, one in enumerate(in_turns(prepared))]),
        prose=joined([np.full(len(one.words), one.prose) for one in in_turns(prepared)]),
        must_stay=joined([one.codes > 0 for one in in_turns(prepared)]),
    )


def _relevance(prepared: Sequence[Prepared]) -> NDArray[np.float32] | None:
    """How much each word's unit bears on the question; None without a question."""
    asked = [one for one in prepared if one.asked]
    if not asked:
        return None
    question = next((one.passage.question for one in asked if one.passage.question), "")
    blended = iter(
        blend_relevance(
            question, [one.unit_texts() for one in asked], [one.passage.relevance for one in asked]
        )
    )
    # Passages without a question are as good as the average one.
    return joined(
        [
            next(blended)[one.question_unit] if one.asked else np.zeros(len(one.words), np.float32)
            for one in in_turns(prepared)
        ]
    )


def _results(
    job: _Job, rendered: Iterable[Rendered], tokens: Sequence[int], ordered: KeepOrder | None
) -> list[Shortened]:
    results = []
    end = 0
    for one, short, after, note in in_turns(zip(job.prepared, rendered, tokens, job.notes, strict=True)):
        start, end = end, end + len(one.words)
        tiers = np.zeros(len(one.words), np.int8) if ordered is None else ordered.tier[start:end]
        results.append(
            Shortened(
                text=short.text,
                kept=Spans(short.slices),
                scores=one.passage.scores,
                tokens_before=one.tokens,
                tokens_after=after,
                tokenizer=job.counter.name,
                decisions=_decisions(one, short.kept, tiers) if job.explain else (),
                note=note,
            )
        )
    return results


def _decisions(one: Prepared, kept: NDArray[np.bool_], tiers: NDArray[np.int8]) -> tuple[WordDecision, ...]:
    decisions = []
    values = zip(
        one.words.starts.tolist(),
        one.words.ends.tolist(),
        one.passage.scores.tolist(),
        kept.tolist(),
        one.codes.tolist(),
        tiers.tolist(),
        strict=True,
    )
    for start, end, score, stays, code, tier in values:
        if code:
            reason = f"protected:{REASONS[code]}"
        elif stays:
            reason = "score"
        else:
            reason = "unit" if tier else "budget"
        decisions.append(WordDecision(Span(start, end), score / 255, stays, reason))
    return tuple(decisions)
