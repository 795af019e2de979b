"""Terse's compressor: shortens long texts to the words that matter, without a server.

>>> from compressor import Compressor
>>> with Compressor.open("default") as compressor:
...     shortened = compressor.compress("A long text ...", keep=0.5)
"""

from compressor.compress import Compressor
from compressor.errors import (
    BudgetTooSmall,
    CompressorError,
    DeadlineExceeded,
    EngineStopped,
    InvalidBudget,
    InvalidOption,
    InvalidText,
    ModelLoadFailed,
    Overloaded,
    ScoringFailed,
)
from compressor.options import CompressOptions
from compressor.shapes import Shortened, ShortenedMessages, Span, WordDecision

__all__ = [
    "BudgetTooSmall",
    "CompressOptions",
    "Compressor",
    "CompressorError",
    "DeadlineExceeded",
    "EngineStopped",
    "InvalidBudget",
    "InvalidOption",
    "InvalidText",
    "ModelLoadFailed",
    "Overloaded",
    "ScoringFailed",
    "Shortened",
    "ShortenedMessages",
    "Span",
    "WordDecision",
]
