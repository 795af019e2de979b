"""What a word is worth to the shortened text: its score, less what has been said before, more where texts
begin, and in a name nearly what the name's best word is worth.

The encoder judges each window by itself, word by word. It cannot know that a name was said five windows ago,
nor that it reads the first sentence of one of ten documents, nor that half a name is none. All that is cheap
to see from here. Chosen on development questions, by how often the answer survives at equal tokens
(benchmarks/results/quality-rule.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from compressor.text.characters import Char
from compressor.text.names import Names
from compressor.text.tallies import changes_of, lengths_of, running_count, true_at
from compressor.text.units import Units
from compressor.text.words import Words
from compressor.turns import in_turns

REPEATED = 0.5  # in logits, times log(1 + mentions before)
OPENING = 1.0  # in logits, for the first sentence of a document
ARTICLE = 1.0  # in logits, taken from "the", "a" and "an"
TOGETHER = 0.5  # of the way to its best word that each word of a name goes
FEWEST_DOCUMENTS = 3  # fewer: the first sentence is the beginning of the text, no more
_FOLDED_CODES = 0x3000  # case is told apart below; the scripts above have none, but for full-width letters
_LONGEST = 64  # letters of a word that are compared
# Words sorted in one call. What a sort of five million needs beside them grows by being copied, for 5 ms,
# under the lock that every thread allocates by.
_SORTED = 1 << 19
_AT_ONCE = 1 << 14  # words
_UNSPACED = np.zeros(Char.COUNT, bool)  # by class of character
_UNSPACED[[Char.HAN, Char.KATAKANA, Char.SEA, Char.LEAD, Char.HAN_NUMBER, Char.HAN_UNIT]] = True
_SPELLED = np.ones(Char.COUNT, bool)
_SPELLED[[Char.SPACE, Char.OPEN, Char.CLOSE, Char.COMMA, Char.DASH, Char.PIPE, Char.LEFT, Char.TRAIL]] = False


def weigh_words(shift: NDArray[np.float64], names: Names, scores: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What each word is worth, a whole number from 0 to 255, shape [words].

    Args:
        shift: What `shift_of_words` says of the text.
        names: What `find_names` finds in it.
        scores: The encoder's, shape [words].
    """
    logit = _logits()[scores] + shift
    members, links = names.members, names.links
    if len(members):
        best = np.maximum.reduceat(logit[members], names.begins)
        best = np.repeat(best, lengths_of(names.begins, len(members)))
        logit[members] += TOGETHER * (best - logit[members])
    logit[links] = np.maximum(logit[links], np.minimum(logit[links - 1], logit[links + 1]))
    worth = scores.astype(np.float32)
    changed = shift != 0
    changed[members] = True
    changed[links] = True
    worth[changed] = np.clip(np.rint(256 / (1 + np.exp(-logit[changed])) - 0.5), 0, 255)
    return worth


def logits_of(scores: NDArray[np.floating] | NDArray[np.integer]) -> NDArray[np.float64]:
    """The logits of scores from 0 to 255, each taken for the middle of its step."""
    share = (scores.astype(np.float64) + 0.5) / 256
    logits: NDArray[np.float64] = np.log(share / (1 - share))
    return logits


@lru_cache(maxsize=1)
def _logits() -> NDArray[np.float64]:
    return logits_of(np.arange(256))


def shift_of_words(
    words: Words, units: Units, particles: NDArray[np.int8], article: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """What a word's place adds to its score, in logits, shape [words]. Depends on this text alone.

    `particles`: `particle_letters` of the words; `article`: `articles` of them.
    """
    if not len(words):
        return np.zeros(0)
    shift: NDArray[np.float64] = -REPEATED * np.log1p(mentions_before(words, particles)) - ARTICLE * article
    if int(units.document[-1]) + 1 >= FEWEST_DOCUMENTS:
        shift += OPENING * _in_first_sentence(units)
    return shift


def mentions_before(words: Words, particles: NDArray[np.int8]) -> NDArray[np.int64]:
    """How often each word stood in the text before, shape [words]; case, punctuation and Korean particles do
    not matter.

    Words of scripts without spaces are mostly single characters, which mean little by themselves: 0.
    """
    keys = np.zeros(len(words), np.uint64)
    compared = np.zeros(len(words), bool)
    for at in in_turns(range(0, len(words), _AT_ONCE)):
        _spell(words, particles, slice(at, at + _AT_ONCE), keys, compared)
    mentions = np.zeros(len(words), np.int64)
    for some in in_turns(_by_spelling(keys, true_at(compared))):
        order = some[np.argsort(keys[some], kind="stable")]
        count = np.arange(len(order))
        begins = np.ones(len(order), bool)
        begins[1:] = keys[order][1:] != keys[order][:-1]
        mentions[order] = count - np.maximum.accumulate(np.where(begins, count, 0))
    return mentions


def _by_spelling(keys: NDArray[np.uint64], words: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """The words in parts, in order, those that are spelled alike in the same one."""
    if len(words) <= _SORTED:
        yield words
        return
    count = -(-len(words) // _SORTED)
    part = ((keys[words] >> np.uint64(32)) % np.uint64(count)).astype(np.uint16)
    for number in range(count):
        yield words[part == number]


def _spell(
    words: Words,
    particles: NDArray[np.int8],
    some: slice,
    keys: NDArray[np.uint64],
    compared: NDArray[np.bool_],
) -> None:
    """Gives some words a number each, by how they are spelled, and marks those that are compared."""
    starts, ends = words.starts[some], words.ends[some]
    begin, end = int(starts[0]), int(ends[-1])
    starts, ends = starts - begin, ends - begin
    classes = words.classes[begin:end]
    spelled = _SPELLED[classes]
    for length in range(1, int(particles[some].max(initial=0)) + 1):
        spelled[ends[particles[some] >= length] - length] = False
    letter = true_at(spelled)
    begun = np.zeros(len(spelled), bool)
    begun[starts] = True
    owner = running_count(begun)[letter] - 1
    # Letters before the word: a place in the word is a letter's own number less that.
    before = running_count(spelled)[starts] - spelled[starts]
    position = np.minimum(np.arange(len(letter), dtype=np.int32) - before[owner], _LONGEST - 1)
    folded, salt = _fold_table()
    codes = words.codes[begin:end][letter]
    low = codes < _FOLDED_CODES
    codes = np.where(low, folded[np.where(low, codes, 0)], codes).astype(np.uint64)
    firsts = changes_of(owner)
    if len(firsts):
        with np.errstate(over="ignore"):
            keys[some][owner[firsts]] = np.add.reduceat((codes + np.uint64(1)) * salt[position], firsts)
    compared[some][owner] = True
    compared[some] &= ~_UNSPACED[classes[starts]]


def _in_first_sentence(units: Units) -> NDArray[np.bool_]:
    """Which words stand in the first sentence of their document."""
    first_word = changes_of(units.document)
    inside: NDArray[np.bool_] = units.sentence == units.sentence[first_word][units.document]
    return inside


@lru_cache(maxsize=1)
def _fold_table() -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
    """The lower case of each code point below _FOLDED_CODES, and one odd number a place in a word."""
    folded = np.arange(_FOLDED_CODES, dtype=np.uint32)
    for code in range(_FOLDED_CODES):
        lower = chr(code).lower()
        if len(lower) == 1:
            folded[code] = ord(lower)
    drawn = np.random.default_rng(0).integers(0, 1 << 63, _LONGEST, dtype=np.uint64)
    return folded, drawn | np.uint64(1)
