"""LLMLingua-2 with any weights, through compat mode: the words that llmlingua 0.2.2 would keep."""

from __future__ import annotations

from collections.abc import Sequence

from compressor.compat.compress import Prepared, prepare, select
from compressor.compat.model import LLMLinguaModel
from compressor.compat.options import LLMLinguaOptions
from compressor.evaluation.methods.shapes import Job, ShortText
from compressor.text.tokens import TokenCounter

PERCENT_STEPS = 100  # llmlingua's rate is a whole percentile


class LLMLingua2:
    """Compat mode at the largest whole-percent rate that meets the budget; llmlingua itself aims once."""

    def __init__(
        self, model: LLMLinguaModel, counter: TokenCounter, force_tokens: Sequence[str] = ()
    ) -> None:
        self._model = model
        self._counter = counter
        self._force = tuple(force_tokens)

    def shorten(self, jobs: Sequence[Job]) -> list[ShortText]:
        short = []
        for job in jobs:
            prepared = prepare(self._model, [job.context], LLMLinguaOptions(force_tokens=self._force))
            short.append(self._fit(prepared, job.target_tokens))
        return short

    def _fit(self, prepared: Prepared, target_tokens: int) -> ShortText:
        low, high, best = 1, PERCENT_STEPS, ""
        while low <= high:
            percent = (low + high) // 2
            options = LLMLinguaOptions(rate=percent / PERCENT_STEPS, force_tokens=self._force)
            text = select(prepared, options).compressed_prompt
            if self._counter.count(text) <= target_tokens:
                low, best = percent + 1, text
            else:
                high = percent - 1
        return ShortText(best)
