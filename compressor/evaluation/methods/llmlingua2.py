"""LLMLingua-2 with any weights, through compat mode: the words that llmlingua 0.2.2 would keep."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from compressor.compat.compress import Prepared, prepare, select
from compressor.compat.model import LLMLinguaModel
from compressor.compat.options import LLMLinguaOptions
from compressor.evaluation.methods.shapes import Job, ShortText
from compressor.evaluation.searching import largest_within
from compressor.text.tokens import TokenCounter

REMEMBERED = 1024  # contexts whose scores are held, some 100 kB each
PERCENT_STEPS = 100  # llmlingua's rate is a whole percentile


class LLMLingua2:
    """Compat mode at the largest whole-percent rate that meets the budget; llmlingua itself aims once."""

    def __init__(
        self, model: LLMLinguaModel, counter: TokenCounter, force_tokens: Sequence[str] = ()
    ) -> None:
        self._model = model
        self._counter = counter
        self._force = tuple(force_tokens)
        self._prepared: OrderedDict[str, Prepared] = OrderedDict()  # a run comes back at every rate

    def shorten(self, jobs: Sequence[Job]) -> list[ShortText]:
        short = []
        for job in jobs:
            short.append(self._fit(self._prepare(job.context), job.target_tokens))
        return short

    def _prepare(self, context: str) -> Prepared:
        if context not in self._prepared:
            options = LLMLinguaOptions(force_tokens=self._force)
            self._prepared[context] = prepare(self._model, [context], options)
            if len(self._prepared) > REMEMBERED:
                self._prepared.popitem(last=False)
        return self._prepared[context]

    def _fit(self, prepared: Prepared, target_tokens: int) -> ShortText:
        def text_of(percent: int) -> str:
            if percent == 0:
                return ""
            options = LLMLinguaOptions(rate=percent / PERCENT_STEPS, force_tokens=self._force)
            return select(prepared, options).compressed_prompt

        best = largest_within(target_tokens, PERCENT_STEPS, lambda p: self._counter.count(text_of(p)))
        return ShortText(text_of(best))
