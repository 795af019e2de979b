"""What a word is worth to the shortened text: its score, less what has been said before, more where texts
begin.

The encoder judges each window by itself. It cannot know that a name was said five windows ago, nor that it
reads the first sentence of one of ten documents. Both are cheap to see from here. Chosen on development
questions, by how often the answer survives at equal tokens (benchmarks/results/quality-rule.md).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from compressor.text.characters import Char
from compressor.text.tallies import running_count
from compressor.text.units import Units
from compressor.text.words import Words

REPEATED = 0.5  # in logits, times log(1 + mentions before)
OPENING = 1.0  # in logits, for the first sentence of a document
FEWEST_DOCUMENTS = 3  # fewer: the first sentence is the beginning of the text, no more
_FOLDED_CODES = 0x3000  # case is told apart below; the scripts above have none, but for full-width letters
_LONGEST = 64  # letters of a word that are compared
_UNSPACED = np.zeros(max(Char) + 1, bool)  # by class of character
_UNSPACED[[Char.HAN, Char.KATAKANA, Char.SEA, Char.LEAD, Char.HAN_NUMBER, Char.HAN_UNIT]] = True
_SPELLED = np.ones(max(Char) + 1, bool)
_SPELLED[[Char.SPACE, Char.OPEN, Char.CLOSE, Char.COMMA, Char.DASH, Char.PIPE, Char.LEFT, Char.TRAIL]] = False


def weigh_words(shift: NDArray[np.float64], scores: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What each word is worth, a whole number from 0 to 255, shape [words]. `shift`: `shift_of_words`."""
    changed = np.flatnonzero(shift)
    worth = scores.astype(np.float32)
    share = (worth[changed] + 0.5) / 256
    logit = np.log(share / (1 - share)) + shift[changed]
    worth[changed] = np.clip(np.rint(256 / (1 + np.exp(-logit)) - 0.5), 0, 255)
    return worth


def shift_of_words(words: Words, units: Units) -> NDArray[np.float64]:
    """What a word's place adds to its score, in logits, shape [words]. Depends on this text alone."""
    if not len(words):
        return np.zeros(0)
    shift: NDArray[np.float64] = -REPEATED * np.log1p(mentions_before(words))
    if int(units.document[-1]) + 1 >= FEWEST_DOCUMENTS:
        shift += OPENING * _in_first_sentence(units)
    return shift


def mentions_before(words: Words) -> NDArray[np.int64]:
    """How often each word stood in the text before, shape [words]; case and punctuation do not matter.

    Words of scripts without spaces are mostly single characters, which mean little by themselves: 0.
    """
    spelled = _SPELLED[words.classes]
    letter = np.flatnonzero(spelled)
    begun = np.zeros(len(spelled), bool)
    begun[words.starts] = True
    owner = running_count(begun)[letter] - 1
    # Letters before the word: a place in the word is a letter's own number less that.
    before = running_count(spelled)[words.starts] - spelled[words.starts]
    position = np.minimum(np.arange(len(letter), dtype=np.int32) - before[owner], _LONGEST - 1)
    folded, salt = _fold_table()
    codes = words.codes[letter]
    low = codes < _FOLDED_CODES
    codes = np.where(low, folded[np.where(low, codes, 0)], codes).astype(np.uint64)
    keys = np.zeros(len(words), np.uint64)
    firsts = np.flatnonzero(np.diff(owner, prepend=-1))
    if len(firsts):
        with np.errstate(over="ignore"):
            keys[owner[firsts]] = np.add.reduceat((codes + np.uint64(1)) * salt[position], firsts)
    compared = np.zeros(len(words), bool)
    compared[owner] = True
    compared &= ~_UNSPACED[words.classes[np.minimum(words.starts, len(words.classes) - 1)]]
    index = np.flatnonzero(compared)
    order = index[np.argsort(keys[index], kind="stable")]
    count = np.arange(len(order))
    begins = np.ones(len(order), bool)
    begins[1:] = keys[order][1:] != keys[order][:-1]
    mentions = np.zeros(len(words), np.int64)
    mentions[order] = count - np.maximum.accumulate(np.where(begins, count, 0))
    return mentions


def _in_first_sentence(units: Units) -> NDArray[np.bool_]:
    """Which words stand in the first sentence of their document."""
    first_word = np.flatnonzero(np.diff(units.document, prepend=-1))
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
