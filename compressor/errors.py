"""The compressor's one tree of errors.

CompressorError
├── ModelLoadFailed      the folder or hub name is no token classifier that can be loaded
├── InvalidText          the text cannot be tokenised (an unpaired surrogate, say)
├── InvalidBudget        keep or target_tokens is not a usable number
├── BudgetTooSmall       the protected spans alone are larger than the budget; `.short_by` says by how much
├── InvalidOption        an option that does not exist, or two that exclude each other
├── ScoringFailed        the model gave no usable scores (NaN, out of memory at batch size one)
├── Overloaded           too much work is waiting; nothing was queued
├── DeadlineExceeded     the scores were not there in time; scoring goes on in the background
└── EngineStopped        the engine was closed or its worker died
"""

from __future__ import annotations


class CompressorError(Exception):
    """Anything that keeps the compressor from shortening a text. The original text is never touched."""


class ModelLoadFailed(CompressorError):
    """The encoder could not be opened."""


class InvalidText(CompressorError):
    """The text cannot be tokenised; the message says at which character."""


class InvalidBudget(CompressorError):
    """`keep` or `target_tokens` is not a usable number."""


class BudgetTooSmall(CompressorError):
    """What must stay is larger than the budget."""

    def __init__(self, message: str, short_by: int) -> None:
        super().__init__(message)
        self.short_by = short_by  # tokens of the target tokenizer

    def __reduce__(self) -> tuple[type[BudgetTooSmall], tuple[str, int]]:
        return type(self), (str(self), self.short_by)  # or it would not survive the way between processes


class InvalidOption(CompressorError):
    """An unknown option, or options that exclude each other."""


class ScoringFailed(CompressorError):
    """The encoder gave no usable scores."""


class Overloaded(CompressorError):
    """More work waits than the engine's bound allows."""


class DeadlineExceeded(CompressorError):
    """The scores were not ready in time."""


class EngineStopped(CompressorError):
    """The engine does not run (any more)."""
