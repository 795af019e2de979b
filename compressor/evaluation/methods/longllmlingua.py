"""LongLLMLingua (arXiv 2310.06839): documents by how well they predict the question, the best one first, more
tokens for the better ones, tokens by contrastive surprisal.

`compressor.evaluation.recovery` mends the reader's answers afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compressor.evaluation.causal import CausalModel
from compressor.evaluation.methods.iterative import Plan, Segment, fit_budget, keep_tokens, make_segments
from compressor.evaluation.methods.llmlingua import coarse
from compressor.evaluation.methods.shapes import Job, ShortText
from compressor.evaluation.methods.words import split_documents
from compressor.text.tokens import TokenCounter

RESTRICTION = " We can get the answer to this question in the given documents."  # the paper's x^restrict
RAMP = 0.3  # δ of the dynamic ratio, the paper's: the best document keeps so much more, the last less


class LongLLMLingua:
    """Question-aware coarse-to-fine compression. A job without a question is refused with a note."""

    def __init__(self, model: CausalModel, counter: TokenCounter) -> None:
        self._model = model
        self._counter = counter

    def shorten(self, jobs: Sequence[Job]) -> list[ShortText]:
        documents = [[self._model.encode(part) for part in split_documents(job.context)] for job in jobs]
        ranked = self._rank(jobs, documents)
        plans = []
        for job, found, order in zip(jobs, documents, ranked, strict=True):
            kept = [found[at] for at in coarse(order, found, job.target_tokens)]
            rates = dynamic_rates([len(ids) for ids in kept], job.target_tokens)
            segments: list[Segment] = []
            for ids, rate in zip(kept, rates, strict=True):
                segments.extend(make_segments(ids, rate))
            question = tuple(self._model.encode(job.question + "\n")) if job.question else ()
            plans.append(Plan(tuple(segments), question))
        chosen = keep_tokens(self._model, plans)
        return [
            ShortText(
                fit_budget(kept, self._model, job.target_tokens, self._counter),
                "" if job.question else "no question: ranked by nothing, scored by surprisal",
            )
            for kept, job in zip(chosen, jobs, strict=True)
        ]

    def _rank(self, jobs: Sequence[Job], documents: Sequence[Sequence[Sequence[int]]]) -> list[list[int]]:
        """Documents of each job by the mean surprisal of its question behind them, lowest first."""
        questions = [self._model.encode(job.question + RESTRICTION) if job.question else [] for job in jobs]
        pairs = [[*ids, *q] for q, found in zip(questions, documents, strict=True) for ids in found]
        losses = iter(self._model.surprisals(pairs))
        ranked = []
        for question, found in zip(questions, documents, strict=True):
            means = [float(loss[len(loss) - len(question) :].mean()) if question else 0.0
                     for loss in [next(losses) for _ in found]]  # fmt: skip
            ranked.append(np.argsort(np.array(means), kind="stable").tolist())
        return ranked


def dynamic_rates(lengths: Sequence[int], target_tokens: int) -> list[float]:
    """A share for each document, best first: a line from +RAMP to -RAMP around what meets the target."""
    count = len(lengths)
    offsets = [RAMP - 2 * RAMP * i / (count - 1) if count > 1 else 0.0 for i in range(count)]
    low, high = -RAMP, 1 + RAMP
    for _ in range(40):  # bisection to far below one token
        middle = (low + high) / 2
        total = sum(n * min(1.0, max(0.0, middle + o)) for n, o in zip(lengths, offsets, strict=True))
        low, high = (middle, high) if total < target_tokens else (low, middle)
    return [min(1.0, max(0.0, low + o)) for o in offsets]
