"""The order in which words are kept: coarse to fine, then by one threshold over everything.

`plan_levels` is the rule that says which units are chosen before words, and `keep_order` turns scores into
one order of all words that may go. A budget keeps the beginning of that order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from compressor.text.tallies import totals, true_at

LevelName = Literal["document", "paragraph", "sentence"]

# Chosen on development questions (benchmarks/results/quality-rule.md). With a question whole sentences beat
# words by far in long texts: readers answer better from them, and nothing reads like a telegram. Short texts
# hold too few sentences for that: there each word counts by its own score and by its sentence's relevance.
# Without a question, running text of any length goes by words whose worth holds together (`runs`), which
# leaves longer stretches as they were than sentences up to twice the budget did, and keeps more answers where
# little stays; so does leaving the best documents and paragraphs no advance. Other kinds go by these:
WORDS_ALONE_FROM = 0.7  # share kept from which deleting words alone hurts less than losing sentences
FEWEST_SENTENCES = 4  # fewer: there is nothing to choose between
SENTENCE_SLACK = 2.0  # sentences are taken until they hold this many times the budget
PARAGRAPH_SLACK = 2.5
DOCUMENT_SLACK = 3.5
FEWEST_PARAGRAPHS = 24
FEWEST_DOCUMENTS = 8
LONG_TEXT = 4_000  # tokens from which paragraphs and documents are chosen first
FEWEST_ASKED_SENTENCES = 24  # with a question: fewer are not left whole
RELEVANCE_WEIGHT = (
    4.0  # of a sentence's relevance beside a word's score, both as z-scores, where words decide
)
_STEPS = 64  # of a z-score: whole numbers sort fast
KEEP_WEIGHT = 0.25  # of the encoder's score beside the relevance, both as z-scores


@dataclass(frozen=True, slots=True)
class Level:
    """Units of this kind are taken, best first, until they hold `slack` times the budget."""

    name: LevelName
    slack: float


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the rule looks at. Tokens are those of the target model."""

    tokens: int
    sentences: int
    paragraphs: int
    documents: int
    prose: bool = True  # most words are of running text


@dataclass(frozen=True, slots=True)
class Columns:
    """All words of all passages, one array a property, shape [words]; units are numbered over passages."""

    scores: NDArray[np.float32]  # 0..255
    costs: NDArray[np.float32]  # tokens
    own_costs: NDArray[np.float32]  # tokens, without those of words that come along
    free: NDArray[np.bool_]  # may go
    group: NDArray[np.int64]  # words of one group stay or go together; -1: alone
    sentence: NDArray[np.int64]
    paragraph: NDArray[np.int64]
    document: NDArray[np.int64]
    relevance: NDArray[np.float32] | None  # to the question
    passage: NDArray[np.int64]
    prose: NDArray[np.bool_]  # of running text
    must_stay: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class KeepOrder:
    """`order`: indices of free words, best first. `tier`: 0 for words whose units were chosen."""

    order: NDArray[np.int64]  # shape [free words]
    tier: NDArray[np.int8]  # shape [words]


def plan_levels(sizes: Sizes, keep: float, *, asked: bool) -> tuple[Level, ...]:
    """Which units are chosen before words; empty: words alone. `keep` is the share of tokens that stays."""
    if asked:
        return (Level("sentence", 1.0),) if sizes.sentences >= FEWEST_ASKED_SENTENCES else ()
    if sizes.prose or sizes.sentences < FEWEST_SENTENCES or keep >= WORDS_ALONE_FROM:
        return ()
    levels: list[Level] = []
    if sizes.tokens >= LONG_TEXT:
        if sizes.documents >= FEWEST_DOCUMENTS:
            levels.append(Level("document", DOCUMENT_SLACK))
        if sizes.paragraphs >= FEWEST_PARAGRAPHS and sizes.sentences >= 2 * sizes.paragraphs:
            levels.append(Level("paragraph", PARAGRAPH_SLACK))
    levels.append(Level("sentence", SENTENCE_SLACK))
    return tuple(levels)


def keep_order(
    columns: Columns, worth: NDArray[np.float32], budget: float, levels: tuple[Level, ...]
) -> KeepOrder:
    """Orders the free words. Ties go to the earlier word.

    Args:
        columns: Of all words.
        worth: What words are compared by, shape [words]; units are compared by their scores.
        budget: What the free words may cost together.
        levels: The units that are chosen first.
    """
    words = len(columns.scores)
    tier = np.zeros(words, np.int8)
    rank = np.zeros(words, np.int64)  # of the word's unit, where the unit decides before the word
    candidate = columns.free.copy()
    for index, level in enumerate(levels):
        unit: NDArray[np.int64] = getattr(columns, level.name)
        if columns.costs[candidate].sum() <= level.slack * budget:
            continue
        unit_rank, chosen = _choose_units(columns, unit, candidate, level.slack * budget)
        dropped = candidate & ~chosen[unit]
        tier[dropped] = len(levels) - index
        rank[dropped] = unit_rank[unit[dropped]]
        if level.slack <= 1.0:  # whole units: inside the chosen ones too, unit after unit
            kept = candidate & chosen[unit]
            rank[kept] = unit_rank[unit[kept]]
        candidate &= chosen[unit]
    if columns.relevance is not None and not levels:
        together = _standardised(worth) + RELEVANCE_WEIGHT * _standardised(columns.relevance)
        worth = np.rint(_STEPS * together).astype(np.float32)
    return KeepOrder(_best_first(true_at(columns.free), worth, rank, tier), tier)


def _best_first(
    words: NDArray[np.int64], worth: NDArray[np.float32], rank: NDArray[np.int64], tier: NDArray[np.int8]
) -> NDArray[np.int64]:
    """The words by tier, then rank, then falling worth, then place."""
    values, ranks = -worth[words], rank[words]
    # Stable sorts, the least important key first. Numbers of 16 bits sort ten times as fast as others, and
    # only texts of megabytes have more units.
    byte_values = values.astype(np.int16)
    value_key = byte_values if np.array_equal(byte_values, values) else values
    rank_key = ranks.astype(np.uint16) if int(ranks.max(initial=0)) < 1 << 16 else ranks
    order = np.arange(len(words))
    for key in (value_key, rank_key, tier[words]):
        if key.any():
            order = order[np.argsort(key[order], kind="stable")]
    ordered: NDArray[np.int64] = words[order]
    return ordered


def _choose_units(
    columns: Columns, unit: NDArray[np.int64], candidate: NDArray[np.bool_], limit: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Rank of each unit (0 is best), and whether it is among the best that hold `limit` tokens."""
    count = int(unit.max()) + 1
    value = _unit_values(columns, unit, count)
    cost = totals(unit[candidate], columns.costs[candidate], count)
    order = np.argsort(-value, kind="stable")
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    before = np.cumsum(cost[order]) - cost[order]
    chosen = np.zeros(count, bool)
    chosen[order] = before < limit  # the unit that crosses the limit is in: words inside it make it fit
    return rank, chosen


def _unit_values(columns: Columns, unit: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """How good each unit is: its words' mean score, and its relevance when there is a question."""
    weights = columns.costs + 0.5  # words inside a longer token cost nothing, yet count
    total = np.maximum(totals(unit, weights, count), 1e-9)
    value: NDArray[np.float64] = totals(unit, weights * columns.scores, count) / total
    if columns.relevance is None:
        return value
    relevance = totals(unit, weights * columns.relevance, count) / total
    return _standardised(relevance) + KEEP_WEIGHT * _standardised(value)


def _standardised(values: NDArray[np.floating]) -> NDArray[np.float64]:
    spread = float(values.std())
    centred: NDArray[np.float64] = values - values.mean(dtype=np.float64)
    return centred / spread if spread > 1e-9 else centred * 0.0
