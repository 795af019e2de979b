"""LLMLingua's iterative token-level compression (Jiang et al. 2023, arXiv 2310.05736, algorithm 2), batched.

A text is read in segments; the surprisal of each segment's tokens is taken behind what was kept of the
ones before, and the most surprising share is kept. The reference keeps a key-value cache of the kept prefix
for one text at a time; here the prefix is read again and many texts share a batch, which gives the same
numbers and is the faster way round on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from compressor.evaluation.causal import CausalModel, Surprisals
from compressor.evaluation.searching import largest_within
from compressor.text.tokens import TokenCounter

SEGMENT_TOKENS = 200  # the reference's iterative_size


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens that are judged together, and the share of them to keep."""

    ids: tuple[int, ...]
    keep: float


@dataclass(frozen=True, slots=True)
class Plan:
    """One text in segments. With a question the score is contrastive: how much less surprising the question
    makes a token (LongLLMLingua, arXiv 2310.06839, equation 3)."""

    segments: tuple[Segment, ...]
    question: tuple[int, ...] = ()


@dataclass(slots=True)
class Kept:
    """The tokens kept so far, with their scores. Grows segment by segment inside `keep_tokens` only."""

    ids: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


def make_segments(ids: Sequence[int], keep: float) -> list[Segment]:
    """`ids` in segments of `SEGMENT_TOKENS`, all at one share."""
    return [Segment(tuple(ids[i : i + SEGMENT_TOKENS]), keep) for i in range(0, len(ids), SEGMENT_TOKENS)]


def keep_tokens(model: CausalModel, plans: Sequence[Plan]) -> list[Kept]:
    """The tokens of each plan that stay, in order."""
    kept = [Kept() for _ in plans]
    for step in range(max((len(plan.segments) for plan in plans), default=0)):
        active = [i for i, plan in enumerate(plans) if step < len(plan.segments)]
        segments = [plans[i].segments[step] for i in active]
        scores = score_segments(model, [plans[i] for i in active], [kept[i] for i in active], segments)
        for index, segment, found in zip(active, segments, scores, strict=True):
            room = round(segment.keep * len(segment.ids))
            best = np.sort(np.argsort(-found, kind="stable")[:room])
            kept[index].ids.extend(segment.ids[i] for i in best)
            kept[index].scores.extend(float(found[i]) for i in best)
    return kept


def score_segments(
    model: CausalModel, plans: Sequence[Plan], kept: Sequence[Kept], segments: Sequence[Segment]
) -> list[Surprisals]:
    """Surprisal of each segment behind its kept prefix, less the one behind question and prefix if asked."""
    plain = [[*k.ids, *s.ids] for k, s in zip(kept, segments, strict=True)]
    asked = [i for i, plan in enumerate(plans) if plan.question]
    behind_question = [[*plans[i].question, *plain[i]] for i in asked]
    losses = model.surprisals([*plain, *behind_question])
    tails = [loss[len(loss) - len(s.ids) :] for loss, s in zip(losses, segments, strict=False)]
    for place, i in enumerate(asked):
        conditional = losses[len(plain) + place]
        tails[i] = tails[i] - conditional[len(conditional) - len(segments[i].ids) :]
    return tails


def fit_budget(kept: Kept, model: CausalModel, target_tokens: int, counter: TokenCounter) -> str:
    """The kept tokens as text; the lowest-scored go until it fits, so that methods meet at equal tokens."""
    order = np.argsort(-np.array(kept.scores), kind="stable")

    def text_of(count: int) -> str:
        return model.decode([kept.ids[at] for at in np.sort(order[:count])]).strip()

    return text_of(largest_within(target_tokens, len(kept.ids), lambda n: counter.count(text_of(n))))
