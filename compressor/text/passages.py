"""One passage, prepared for choosing: its words, what each costs, what must stay, and its units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compressor.errors import InvalidOption
from compressor.text.protection import CODE, mark_spans, protect_words
from compressor.text.rendering import Spacing, bridge_gaps, everything, kept_slices, measure_spacing, render
from compressor.text.structures import treat
from compressor.text.tokens import TokenCounter
from compressor.text.units import question_units, split_units
from compressor.text.words import Words, split_words

if TYPE_CHECKING:
    from compressor.text.choice import Passage


@dataclass(frozen=True, slots=True)
class Prepared:
    """All arrays have shape [words]; unit numbers count from 0 in this passage."""

    passage: Passage
    words: Words
    spacing: Spacing
    tokens: int  # of the whole text
    costs: NDArray[np.float32]  # tokens that begin in the word or in the space before it
    codes: NDArray[np.uint8]  # 0: free; else why it stays, an index into protection.REASONS
    tails: NDArray[np.int32]  # where forced punctuation at the word's end begins
    scores: NDArray[np.float32]
    sentence: NDArray[np.int32]
    paragraph: NDArray[np.int32]
    document: NDArray[np.int32]
    relevance: NDArray[np.float32] | None
    validate: Callable[[str, str], str]  # original, shortened -> what is wrong, or ""

    @property
    def text(self) -> str:
        return self.passage.text

    @property
    def whole(self) -> bool:
        return self.passage.whole

    def as_whole(self) -> Prepared:
        """The same passage, left as it is."""
        return replace(
            self,
            passage=replace(self.passage, whole=True),
            codes=np.full(len(self.words), CODE["whole"], np.uint8),
        )

    def slices(self, keep: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """The words that really stay, and the slices of the text for a choice of words."""
        if not len(self.words):
            return keep, everything(self.text) if self.whole else np.zeros((0, 2), np.int64)
        kept = bridge_gaps(self.spacing, keep)
        tails = (self.tails < self.words.ends) & ~kept
        if not tails.any():
            return kept, kept_slices(self.spacing, kept)
        return kept, kept_slices(self.spacing, kept, tails, self.tails)

    def render(self, slices: NDArray[np.int64]) -> str:
        return render(self.text, slices)


def prepare(passage: Passage, counter: TokenCounter) -> Prepared:
    """All about a passage that does not depend on the budget. Raises InvalidOption for wrong scores."""
    text = passage.text
    words = split_words(text)
    if len(passage.scores) != len(words):
        raise InvalidOption(f"scores: the text has {len(words)} words, got {len(passage.scores)} scores")
    starts = counter.token_starts(text)
    # A token belongs to the word it begins in, or to the word after the space it begins in.
    upto = np.searchsorted(starts, words.ends)
    costs = np.diff(upto, prepend=0).astype(np.float32)
    units = split_units(words)
    scores = passage.scores.astype(np.float32)
    validate: Callable[[str, str], str] = _nothing_wrong
    if passage.whole:
        codes, tails = np.full(len(words), CODE["whole"], np.uint8), words.ends
        sentence = units.sentence
    else:
        protection = protect_words(words, passage.protect, passage.force_tokens)
        treatment = treat(words, units, scores, protection.codes, passage.kind, passage.protect)
        codes, tails = treatment.codes, protection.tails
        mark_spans(words, codes, [(span.start, span.end) for span in passage.stay], "forced")
        sentence, scores, validate = treatment.sentence, treatment.scores, treatment.validate
    relevance = _word_relevance(passage, words) if passage.relevance is not None else None
    return Prepared(
        passage=passage,
        words=words,
        spacing=measure_spacing(words, all_breaks="\n" in passage.force_tokens),
        tokens=len(starts),
        costs=costs,
        codes=codes,
        tails=tails,
        scores=scores,
        sentence=sentence,
        paragraph=units.paragraph,
        document=units.document,
        relevance=relevance,
        validate=validate,
    )


def _nothing_wrong(original: str, shortened: str) -> str:
    return ""


def _word_relevance(passage: Passage, words: Words) -> NDArray[np.float32]:
    """The relevance of each word's passage among `question_units`."""
    assert passage.relevance is not None
    spans = question_units(passage.text).spans
    if len(spans) != len(passage.relevance):
        raise InvalidOption(
            f"relevance: the text has {len(spans)} units, got {len(passage.relevance)} values"
        )
    begins = np.asarray([span.start for span in spans], np.int64)
    at = np.searchsorted(begins, words.starts, "right") - 1
    relevance: NDArray[np.float32] = passage.relevance.astype(np.float32)[at]
    return relevance
