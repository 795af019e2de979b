"""How fast each upstream reads a prompt, learnt from the time to its streams' first bytes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

# Before anything was seen: a GPU of 2024 reads a prompt for a model of middle size about so fast.
USUAL_TOKENS_PER_SECOND = 20_000.0
_FEWEST = 8  # replies before their line is trusted
_FADES = 0.98  # weight of what was seen before, at each reply: some fifty count
_MODELS = 1000
_SLOWEST, _FASTEST = 10.0, 1_000_000.0


@dataclass(slots=True)
class _Line:
    """Weighted sums for a straight line through (tokens that were not cached, seconds)."""

    n: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    seen: int = 0

    def add(self, tokens: float, seconds: float) -> None:
        for name, value in (
            ("n", 1.0),
            ("x", tokens),
            ("y", seconds),
            ("xx", tokens * tokens),
            ("xy", tokens * seconds),
        ):
            setattr(self, name, _FADES * getattr(self, name) + value)
        self.seen += 1

    def tokens_per_second(self) -> float | None:
        """The line's slope, turned round; None when there is too little, or no longer prompts took longer."""
        spread = self.n * self.xx - self.x * self.x
        if self.seen < _FEWEST or spread <= 1e-9 * self.xx * self.n:
            return None
        slope = (self.n * self.xy - self.x * self.y) / spread
        return min(_FASTEST, max(_SLOWEST, 1 / slope)) if slope > 0 else None


class PrefillSpeeds:
    """Tokens a second by model. The rest of a first byte's time (network, queue) is the line's other part."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, _Line] = OrderedDict()

    def note(self, model: str, tokens: int, seconds: float) -> None:
        """One streamed reply: input tokens that were not cached, seconds to its first byte."""
        if tokens <= 0 or seconds <= 0:
            return
        self._lines.setdefault(model, _Line()).add(tokens, seconds)
        self._lines.move_to_end(model)
        if len(self._lines) > _MODELS:
            self._lines.popitem(last=False)

    def of(self, model: str) -> float:
        """What was learnt, else what is usual."""
        line = self._lines.get(model)
        learnt = line.tokens_per_second() if line is not None else None
        return USUAL_TOKENS_PER_SECOND if learnt is None else learnt
