"""What every method is given and gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Job:
    """One context to shorten."""

    context: str
    target_tokens: int  # of the budget's tokenizer, the same for every method
    keep: float  # the share that target_tokens was computed from, for methods that think in rates
    question: str = ""  # empty: the method must do without


@dataclass(frozen=True, slots=True)
class ShortText:
    """A shortened context."""

    text: str
    note: str = ""  # why it is not what was asked for, if so


class Method(Protocol):
    """Shortens batches of contexts. Time is measured from outside, over the whole batch."""

    def shorten(self, jobs: Sequence[Job]) -> list[ShortText]:
        """One text a job, in order. Never raises for one bad text: its note says what happened."""
