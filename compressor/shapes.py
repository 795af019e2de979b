"""Plain data that passes between the compressor's steps, and out to its callers. No tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

ProtectedKind = Literal[
    "code", "json", "numbers", "identifiers", "urls", "negations", "tags", "tables", "forced", "whole"
]
PROTECTABLE: frozenset[str] = frozenset(
    {"code", "json", "numbers", "identifiers", "urls", "negations", "tags", "tables"}
)
DEFAULT_PROTECT: tuple[str, ...] = (
    "code",
    "json",
    "tags",
    "tables",
    "numbers",
    "identifiers",
    "urls",
    "negations",
)


@dataclass(frozen=True, slots=True)
class Span:
    """`text[start:end]`, in characters (Unicode code points) of the original string."""

    start: int
    end: int


class Spans(Sequence[Span]):
    """Many spans in order, held as one array; equal to any sequence of the same spans."""

    __slots__ = ("places",)

    def __init__(self, places: NDArray[np.int64]) -> None:
        self.places = places  # starts and ends, shape [spans, 2]

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Span: ...

    @overload
    def __getitem__(self, index: slice) -> Spans: ...

    def __getitem__(self, index: int | slice) -> Span | Spans:
        if isinstance(index, slice):
            return Spans(self.places[index])
        start, end = self.places[index].tolist()
        return Span(start, end)

    def __iter__(self) -> Iterator[Span]:
        return map(Span, self.places[:, 0].tolist(), self.places[:, 1].tolist())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Spans):
            return np.array_equal(self.places, other.places)
        return isinstance(other, Sequence) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(self.places.tobytes())

    def __repr__(self) -> str:
        return f"Spans({self.places.tolist()})"


@dataclass(frozen=True, slots=True)
class ScoreTimings:
    """Milliseconds that one text spent waiting in the queue and in the encoder."""

    wait_ms: float = 0.0
    encode_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class WordScores:
    """What the encoder says of one text: one byte a word, `round(255 * P(keep))`.

    Words are those of `compressor.text.words.split_words(text)`, in order; that split is a pure function of
    the text, so these bytes are all that a cache has to hold.
    """

    values: NDArray[np.uint8]  # shape [words]
    fingerprint: str  # of the encoder: weights, tokenizer, windowing
    timings: ScoreTimings = field(default_factory=ScoreTimings)


@dataclass(frozen=True, slots=True)
class WordDecision:
    """One word of a preview: where it is, its score (0..1), whether it stays, and why."""

    span: Span
    score: float
    kept: bool
    reason: str  # "score", "budget", "unit", or "protected:<kind>"


@dataclass(frozen=True, slots=True)
class Shortened:
    """One shortened text. `text` is the concatenation of slices of the original, in order."""

    text: str
    kept: Sequence[Span]
    scores: NDArray[np.uint8]  # one a word of the original
    tokens_before: int  # of `tokenizer`
    tokens_after: int
    tokenizer: str
    decisions: tuple[WordDecision, ...] = ()  # only with explain=True
    note: str = ""  # why the text stayed whole although it should have been shortened


@dataclass(frozen=True, slots=True)
class ShortenedMessages:
    """A shortened conversation: as many messages as came in, same roles, everything but text untouched."""

    messages: list[dict[str, Any]]
    parts: tuple[Shortened, ...]  # one for each text of a message, in order; those left whole included
    tokens_before: int  # of the texts, without the model's own framing of messages
    tokens_after: int
    tokenizer: str
