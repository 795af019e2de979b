"""One passage, prepared for choosing: its words, what each costs, what must stay, and its units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compressor.errors import InvalidOption
from compressor.shapes import Span
from compressor.text.kinds import detect_kind
from compressor.text.korean import particle_letters
from compressor.text.names import NO_NAMES, Names, articles, find_names
from compressor.text.protection import CODE, mark_spans, protect_words
from compressor.text.rendering import (
    Spacing,
    bridge_gaps,
    everything,
    kept_slices,
    measure_spacing,
    render,
    without_spans,
)
from compressor.text.structures import treat
from compressor.text.tallies import changes_of, distances, lengths_of, totals, true_at
from compressor.text.tokens import TokenCounter
from compressor.text.units import Units, question_spans, split_units
from compressor.text.words import Words, split_words
from compressor.text.worth import shift_of_words, weigh_words

if TYPE_CHECKING:
    from compressor.text.choice import Passage

_PROSE = ("prose", "markdown")  # texts that are read, whatever is missing: no data, no code
# A comma costs a token and tells how the words around it hang together; it means little when one has gone.
# Full stops stay: they tell where a sentence ends, and to drop them as well keeps but one answer in 100 more.
_LAST_TRAILING = 0x700  # stands for all beyond
_TRAILING = np.zeros(_LAST_TRAILING + 1, bool)
_TRAILING[[ord(sign) for sign in ",;،؛"]] = True
_MOST_TRAILING = 2


@dataclass(frozen=True, slots=True)
class Rendered:
    """A shortened text."""

    kept: NDArray[np.bool_]  # the words that really stay, shape [words]
    slices: NDArray[np.int64]  # of the original, shape [slices, 2]
    text: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """All arrays have shape [words]; unit numbers count from 0 in this passage."""

    passage: Passage
    words: Words
    spacing: Spacing
    tokens: int  # of the whole text
    own_costs: NDArray[np.float32]  # tokens that begin in the word or in the space before it
    costs: NDArray[np.float32]  # the same, but the best word of a line pays for its sticky words
    codes: NDArray[np.uint8]  # 0: free; else why it stays, an index into protection.REASONS
    tails: NDArray[np.int32]  # where forced punctuation at the word's end begins
    trailing: NDArray[np.int8]  # commas or letters of a particle at its end that go when the next word goes
    scores: NDArray[np.float32]  # what the word is worth, 0..255
    group: NDArray[np.int32]  # words of one group stay or go together; -1: alone
    sticky: NDArray[np.bool_]  # no candidate itself: stays when something of its line does
    gone: NDArray[np.bool_]  # no candidate: goes whenever anything does
    loose: NDArray[np.int64]  # characters between words that go likewise, shape [spans, 2]
    line: NDArray[np.int32]
    sentence: NDArray[np.int32]
    paragraph: NDArray[np.int32]
    document: NDArray[np.int32]
    question_unit: NDArray[np.int64]  # which of `unit_spans`; empty without a question
    unit_spans: tuple[Span, ...]
    prose: bool  # running text
    validate: Callable[[str, str], str]  # original, shortened -> what is wrong, or ""

    @property
    def text(self) -> str:
        return self.passage.text

    @property
    def free(self) -> NDArray[np.bool_]:
        """Words that are chosen or not by their scores."""
        free: NDArray[np.bool_] = (self.codes == 0) & ~self.sticky & ~self.gone
        return free

    @property
    def whole(self) -> bool:
        return self.passage.whole

    @property
    def asked(self) -> bool:
        """Whether the question has a say in this passage."""
        return bool(self.unit_spans)

    def unit_texts(self) -> list[str]:
        """The texts that a question is compared with, one a unit."""
        return [self.text[span.start : span.end] for span in self.unit_spans]

    def as_whole(self) -> Prepared:
        """The same passage, left as it is."""
        return replace(
            self,
            passage=replace(self.passage, whole=True),
            codes=np.full(len(self.words), CODE["whole"], np.uint8),
            sticky=np.zeros(len(self.words), bool),
            gone=np.zeros(len(self.words), bool),
            loose=np.zeros((0, 2), np.int64),
        )

    def slices(self, keep: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """The words that really stay, and the slices of the text for a choice of words."""
        if not len(self.words):
            return keep, everything(self.text) if self.whole else np.zeros((0, 2), np.int64)
        if self.sticky.any():
            lines = np.zeros(int(self.line[-1]) + 1, bool)
            lines[self.line[keep]] = True
            keep = keep | (self.sticky & lines[self.line])
        kept = bridge_gaps(self.spacing, keep)
        tails = (self.tails < self.words.ends) & ~kept
        if not tails.any():
            return kept, kept_slices(self.spacing, kept, trailing=self.trailing)
        return kept, kept_slices(self.spacing, kept, tails, self.tails, self.trailing)

    def untouched(self) -> Rendered:
        """The text as it is."""
        return Rendered(np.ones(len(self.words), bool), everything(self.text), self.text)

    def rendered(self, keep: NDArray[np.bool_]) -> Rendered:
        """The shortened text for a choice of words."""
        if len(keep) and bool(keep.all()) and not len(self.loose):
            return self.untouched()
        kept, slices = self.slices(keep)
        slices = without_spans(slices, self.loose, len(self.text))
        return Rendered(kept, slices, render(self.words, slices))


@dataclass(frozen=True, slots=True)
class Outline:
    """All about a text that depends neither on scores nor on a budget, made while the encoder works.

    Arrays have shape [words].
    """

    words: Words
    spacing: Spacing
    tokens: int  # of the whole text
    costs: NDArray[np.float32]  # tokens that begin in the word or in the space before it
    units: Units
    codes: NDArray[np.uint8]  # what the caller protects
    tails: NDArray[np.int32]
    kind: str
    shift: NDArray[np.float64]  # what each word's place adds to its score; empty if this is no prose
    names: Names  # likewise
    trailing: NDArray[np.int8]  # signs and letters of a particle at a word's end that little is lost with


def outline(passage: Passage, counter: TokenCounter) -> Outline:
    """The outline of a passage's text; its scores may be missing yet."""
    text = passage.text
    words = split_words(text)
    starts = counter.token_starts(text)
    # A token belongs to the word it begins in, or to the word after the space it begins in.
    upto = np.searchsorted(starts, words.ends)
    if passage.whole:
        codes, tails, kind = np.full(len(words), CODE["whole"], np.uint8), words.ends, "prose"
    else:
        protection = protect_words(words, passage.protect, passage.force_tokens)
        codes, tails = protection.codes, protection.tails
        mark_spans(words, codes, [(span.start, span.end) for span in passage.stay], "forced")
        kind = detect_kind(text) if passage.kind == "auto" else passage.kind
    units = split_units(words)
    prose = kind in _PROSE and not passage.whole
    particles = particle_letters(words) if prose else np.zeros(len(words), np.int8)
    article = articles(words) if prose else np.zeros(len(words), bool)
    return Outline(
        words=words,
        spacing=measure_spacing(words, all_breaks="\n" in passage.force_tokens),
        tokens=len(starts),
        costs=distances(upto).astype(np.float32),
        units=units,
        codes=codes,
        tails=tails,
        kind=kind,
        shift=shift_of_words(words, units, particles, article) if prose else np.zeros(0),
        names=find_names(words, units, article) if prose else NO_NAMES,
        trailing=np.maximum(_trailing_signs(words), particles) if prose else particles,
    )


def prepare(passage: Passage, counter: TokenCounter) -> Prepared:
    """All about a passage that does not depend on the budget. Raises InvalidOption for wrong scores."""
    known = passage.outline or outline(passage, counter)
    words, units, codes, kind = known.words, known.units, known.codes, known.kind
    if len(passage.scores) != len(words):
        raise InvalidOption(f"scores: the text has {len(words)} words, got {len(passage.scores)} scores")
    if passage.whole:
        codes, kind = np.full(len(words), CODE["whole"], np.uint8), "prose"
    prose = kind in _PROSE and not passage.whole
    scores = (
        weigh_words(known.shift, known.names, passage.scores) if prose else passage.scores.astype(np.float32)
    )
    fold = passage.fold and not passage.whole and not known.spacing.all_breaks
    treatment = treat(words, units, scores, codes, kind, fold=fold)
    codes = treatment.codes
    sticky = _useful_heads(treatment.sticky, codes, units.line)
    costs = known.costs.copy()
    _charge_heads(costs, sticky, (codes == 0) & ~sticky, treatment.scores, units.line)
    question_unit, unit_spans = _question_units(passage, words, units)
    tails = words.ends if passage.whole else known.tails
    loose = (codes == 0) & ~sticky & (tails == words.ends) & prose
    return Prepared(
        passage=passage,
        words=words,
        spacing=known.spacing,
        tokens=known.tokens,
        own_costs=known.costs,
        costs=costs,
        codes=codes,
        tails=tails,
        trailing=np.where(loose, known.trailing, 0).astype(np.int8),
        scores=treatment.scores,
        group=treatment.group,
        sticky=sticky,
        gone=treatment.gone & ~sticky,
        loose=treatment.loose,
        line=units.line,
        sentence=treatment.sentence,
        paragraph=units.paragraph,
        document=units.document,
        question_unit=question_unit,
        unit_spans=unit_spans,
        prose=prose,
        validate=treatment.validate,
    )


def _trailing_signs(words: Words) -> NDArray[np.int8]:
    """How many commas and semicolons stand at each word's end; 0 for words that begin with one."""
    count = np.zeros(len(words), np.int8)
    more = ~_TRAILING[np.minimum(words.codes[words.starts], _LAST_TRAILING)]
    for _ in range(_MOST_TRAILING):
        more &= _TRAILING[
            np.minimum(words.codes[np.maximum(words.ends - 1 - count, words.starts)], _LAST_TRAILING)
        ]
        count += more
    return count


def _useful_heads(
    sticky: NDArray[np.bool_], codes: NDArray[np.uint8], line: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """Sticky words of lines that have other free words; in other lines they are words like any."""
    if not sticky.any():
        return sticky
    has_free = np.zeros(int(line[-1]) + 1, bool)
    has_free[line[(codes == 0) & ~sticky]] = True
    return sticky & has_free[line]


def _charge_heads(
    costs: NDArray[np.float32],
    sticky: NDArray[np.bool_],
    free: NDArray[np.bool_],
    scores: NDArray[np.float32],
    line: NDArray[np.int32],
) -> None:
    """Lets the best word of a line pay for the words that come along with it; only estimates depend on it."""
    if not sticky.any():
        return
    heads = totals(line, costs * sticky)
    candidates = true_at(free)
    if not len(candidates):
        costs[sticky] = 0
        return
    lines, values = line[candidates], scores[candidates]
    begins = changes_of(lines)
    highest = np.repeat(np.maximum.reduceat(values, begins), lengths_of(begins, len(lines)))
    best = candidates[values == highest]
    best = best[changes_of(line[best])]  # the first of equals
    costs[best] += heads[line[best]].astype(np.float32)
    costs[sticky] = 0


def _question_units(
    passage: Passage, words: Words, units: Units
) -> tuple[NDArray[np.int64], tuple[Span, ...]]:
    """Which unit of `question_units` each word is in, and where those units are."""
    if passage.relevance is None and not passage.question:
        return np.zeros(0, np.int64), ()
    spans = question_spans(words, units)
    if passage.relevance is not None and len(spans) != len(passage.relevance):
        raise InvalidOption(
            f"relevance: the text has {len(spans)} units, got {len(passage.relevance)} values"
        )
    begins = np.asarray([span.start for span in spans], np.int64)
    return np.searchsorted(begins, words.starts, "right") - 1, tuple(spans)
