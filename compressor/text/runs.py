"""What words are worth side by side: a run of kept words is easier to read than the same words apart.

The encoder scores words one by one, and one threshold over such scores leaves a telegram. Here each end of a
run of kept words inside a sentence costs something. For one threshold t the best choice minimises

    sum of (t - worth) over the kept words  +  RUN_END * number of ends of runs.

The choices for all thresholds at once are nested, and are the level sets of one series, the minimiser of

    sum of (series - worth)² / 2  +  RUN_END * sum of |differences between neighbours|

(total variation: Rudin, Osher, Fatemi 1992; in one dimension: Condat 2013, Johnson 2013; the thresholds:
Chambolle and Darbon 2009). So words still have one order for all budgets. It is found here by splitting: at
the mean of a stretch, either nothing is gained by dividing it, and the mean is its answer, or the best choice
divides it into stretches that know on which side of their neighbours they lie, and are solved alone. All
stretches of all sentences are divided at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compressor.text.selection import Columns
from compressor.text.tallies import changes_of, running_count, totals, true_at
from compressor.text.worth import logits_of
from compressor.turns import give_way

# In logits of the encoder's score. Chosen on development questions by answers kept, then read by a model
# (benchmarks/results/quality-rule.md).
RUN_END = 0.3  # what each end of a run costs; 0.6 answers no better and keeps fewer answers
SENTENCE_SHARE = 0.5  # of how much better its sentence is than the text's sentences, that each word gets
_STEPS = 64  # of a logit: whole numbers sort fast
_LOWEST = -20.0  # logits of a word that goes first of all
_AT_ONCE = 1 << 16  # words, and the rest of a sentence: what a step holds Python's lock and memory for
_MANY = 3  # one word in so many: a whole array is read faster than such a share of it by index
_NOTHING = 1e-9  # logits: what rounding makes of nothing
_MOST_ROUNDS = 64  # of splitting; texts need about ten, and what is left then takes its mean


def worth_in_runs(columns: Columns) -> NDArray[np.float32]:
    """What the words are compared by, whole numbers, shape [words].

    In running text that is their scores made to hold together, elsewhere the scores themselves, as logits.
    """
    scores = columns.scores
    worth = np.where(scores < 0, _LOWEST, logits_of(np.clip(scores, 0, 255)))
    prose = columns.prose
    if prose.any():
        worth += SENTENCE_SHARE * np.where(prose, _sentence_lead(columns, worth), 0.0)
        joint = np.zeros(len(worth))
        free = prose & columns.free
        stays = prose & ~columns.free & columns.must_stay
        beside = np.zeros(len(worth), bool)
        beside[1:] = columns.sentence[1:] == columns.sentence[:-1]
        joint[1:] = RUN_END * (beside[1:] & free[1:] & free[:-1])
        # A word beside one that stays anyway makes its run longer, and no end more.
        worth[1:] += RUN_END * (beside[1:] & free[1:] & stays[:-1])
        worth[:-1] += RUN_END * (beside[1:] & free[:-1] & stays[1:])
        worth = hold_together(worth, joint)
    rounded: NDArray[np.float32] = np.rint(_STEPS * worth).astype(np.float32)
    return rounded


def _sentence_lead(columns: Columns, worth: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how much the mean of each word's sentence is above the mean sentence of its text, shape [words]."""
    weights = columns.costs + 0.5  # words inside a longer token cost nothing, yet count
    means = totals(columns.sentence, weights * worth) / totals(columns.sentence, weights)
    first = changes_of(columns.sentence)
    text = columns.passage[first]
    sentences = np.maximum(np.bincount(text), 1)
    lead: NDArray[np.float64] = means - (np.bincount(text, means) / sentences)[text]
    return lead[columns.sentence]


def hold_together(worth: NDArray[np.float64], joint: NDArray[np.float64]) -> NDArray[np.float64]:
    """The series nearest to `worth` where each difference between neighbours costs.

    Args:
        worth: Shape [words].
        joint: What a difference of one between a word and the one before costs; 0 where they do not hold
            together, as at the first word.
    """
    begins = true_at(joint == 0)
    series = np.empty_like(worth)
    at = 0
    while at < len(worth):  # sentences know nothing of each other
        further = int(np.searchsorted(begins, at + _AT_ONCE))
        end = int(begins[further]) if further < len(begins) else len(worth)
        give_way()
        series[at:end] = _hold_together(worth[at:end], joint[at:end])
        at = end
    return series


def _hold_together(worth: NDArray[np.float64], joint: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same, all at once."""
    series = worth.copy()
    place = true_at(_held(joint))
    worth, joint = worth[place], joint[place]
    for _ in range(_MOST_ROUNDS):
        if not len(place):
            break
        give_way()
        stretch = running_count(joint == 0) - 1
        mean = (np.bincount(stretch, worth) / np.bincount(stretch))[stretch]
        above = _best_choice(mean - worth, joint)
        split = true_at((joint[1:] > 0) & (above[1:] != above[:-1])) + 1
        divided = np.zeros(int(stretch[-1]) + 1, bool)
        divided[stretch[split]] = True
        # Both sides keep their order from here on, so the difference between them costs each its share.
        pull = np.where(above[split], joint[split], -joint[split])
        worth[split] -= pull
        worth[split - 1] += pull
        joint[split] = 0.0
        in_divided = divided[stretch]
        left = in_divided & _held(joint)
        series[place] = np.where(in_divided & ~left, worth, mean)
        place, worth, joint = place[left], worth[left], joint[left]
    return series


def _held(joint: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Words that hold together with the one before or the one behind."""
    held = joint > 0
    held[:-1] |= joint[1:] > 0
    return held


def _best_choice(cost: NDArray[np.float64], joint: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which words to keep when a kept word costs `cost`, and an end of a run what `joint` says.

    By dynamic programming: what keeping a word costs more than not, with the best choice before it, is
    `clip(more, -joint, joint) + cost`, with `more` that of the word before. Such functions put one after
    another are again an addition that is clipped; so all prefixes are made by doubling their length.
    """
    added, low, high = cost.copy(), cost - joint, cost + joint
    reach = 1
    while len(still := true_at(low < high)):
        behind: NDArray[np.int64] | slice
        before: NDArray[np.int64] | slice
        if _MANY * len(still) < len(low):
            behind, before = still, still - reach
        else:  # all of them: those that are known already stay as they are
            behind, before = slice(reach, None), slice(None, -reach)
        own, own_low, own_high = added[behind], low[behind], high[behind]
        new_low = np.minimum(np.maximum(low[before] + own, own_low), own_high)
        new_high = np.minimum(np.maximum(high[before] + own, own_low), own_high)
        added[behind] = own + added[before]
        low[behind], high[behind] = new_low, new_high
        reach *= 2
    following = np.append(joint[1:], 0.0)
    sure = (low < -following - _NOTHING) | (low > following + _NOTHING) | (following == 0)
    # Other words do as the next one that is sure.
    index = np.where(sure, np.arange(len(cost)), len(cost))
    as_next = np.minimum.accumulate(index[::-1])[::-1]
    kept: NDArray[np.bool_] = (low < -following - _NOTHING)[as_next]
    return kept
