"""LLMLingua (arXiv 2310.05736): documents by perplexity, then tokens by surprisal, segment by segment.

The prompt here is a context that is compressed and an instruction and question that are not, so the budget
controller's shares for those two (0.85 and 0.9) have nothing to do and the whole budget is the documents'.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compressor.evaluation.causal import CausalModel
from compressor.evaluation.methods.iterative import Plan, fit_budget, keep_tokens, make_segments
from compressor.evaluation.methods.shapes import Job, ShortText
from compressor.evaluation.methods.words import split_documents
from compressor.text.tokens import TokenCounter

COARSE_SURPLUS = (
    100  # tokens above the target that the coarse stage leaves: the reference's context_budget "+100"
)


class LLMLingua:
    """Budget controller and iterative token-level compression."""

    def __init__(self, model: CausalModel, counter: TokenCounter) -> None:
        self._model = model
        self._counter = counter

    def shorten(self, jobs: Sequence[Job]) -> list[ShortText]:
        documents = [[self._model.encode(part) for part in split_documents(job.context)] for job in jobs]
        losses = iter(self._model.surprisals([ids for found in documents for ids in found]))
        plans = []
        for job, found in zip(jobs, documents, strict=True):
            perplexity = [float(next(losses).mean()) if ids else 0.0 for ids in found]
            order = list(np.argsort(-np.array(perplexity), kind="stable"))  # the most perplexing first
            kept = coarse(order, found, job.target_tokens)
            ids = [token for at in sorted(kept) for token in found[at]]
            plans.append(Plan(tuple(make_segments(ids, min(1.0, job.target_tokens / max(1, len(ids)))))))
        return [
            ShortText(fit_budget(kept, self._model, job.target_tokens, self._counter))
            for kept, job in zip(keep_tokens(self._model, plans), jobs, strict=True)
        ]


def coarse(order: Sequence[int], documents: Sequence[Sequence[int]], target_tokens: int) -> list[int]:
    """The first documents of `order` until the target and its surplus are used up."""
    kept: list[int] = []
    room = target_tokens + COARSE_SURPLUS
    for at in order:
        kept.append(at)
        room -= len(documents[at])
        if room < 0:
            break
    return kept
