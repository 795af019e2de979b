"""Names of several words, and articles: what hangs together in languages that write names with capitals.

The encoder judges "Mental Health Act" word by word, and a budget then keeps "Mental Act". Nothing is known of
names here but their look: capitals next to each other, or with "of" or "von" between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from compressor.text.tallies import lengths_of, true_at
from compressor.text.units import Units
from compressor.text.words import Words

MOST_WORDS = 6  # of a name; longer runs of capitals are headlines
_ENGLISH = 0.01  # share of words that are "the" from which "a" and "an" are articles too
_LINK_WORDS = (
    "of and the for in on at to & de del della di da do dos du des der den von van y e et und zu la le"
)
_LINKS = frozenset(_LINK_WORDS.split())
_LONGEST_LINK = max(map(len, _LINKS))
_CASED = 0x3000  # scripts with capitals lie below
_THE = tuple(map(ord, "the"))


@dataclass(frozen=True, slots=True)
class Names:
    """`members`: words of names, in order; `begins`: where in `members` each name begins; `links`: the words
    between two capitalised ones.
    """

    members: NDArray[np.int64]
    begins: NDArray[np.int64]
    links: NDArray[np.int64]


NO_NAMES = Names(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))


def find_names(words: Words, units: Units, article: NDArray[np.bool_]) -> Names:
    """The names of a text. A name stays inside a sentence and ends where punctuation follows a word.

    `article`: `articles` of the words.
    """
    if len(words) < 2:
        return NO_NAMES
    capital_table, letter_table = _tables()
    first = np.minimum(words.codes[words.starts], _CASED)
    last = np.minimum(words.codes[words.ends - 1], _CASED)
    capital = capital_table[first] & ~article
    closed = letter_table[last]  # nothing but letters at its end
    together = closed[:-1] & (units.sentence[:-1] == units.sentence[1:])
    joined = capital[:-1] & capital[1:] & together
    inside = np.zeros(len(words), bool)
    inside[:-1] = joined
    inside[1:] |= joined
    members = true_at(inside)
    begins = true_at(~joined[np.maximum(members - 1, 0)] | (members == 0))
    lengths = lengths_of(begins, len(members))
    fits = np.repeat(lengths <= MOST_WORDS, lengths)
    short = lengths[lengths <= MOST_WORDS]
    return Names(members[fits], np.cumsum(short) - short, _find_links(words, capital, together))


def _find_links(words: Words, capital: NDArray[np.bool_], together: NDArray[np.bool_]) -> NDArray[np.int64]:
    between = np.zeros(len(words), bool)
    between[1:-1] = capital[:-2] & capital[2:] & together[:-1] & together[1:]
    between &= words.ends - words.starts <= _LONGEST_LINK
    at = true_at(between)
    return words.those_that(lambda word: word.lower() in _LINKS, at)


def articles(words: Words) -> NDArray[np.bool_]:
    """Which words are English articles; none in texts of other languages, where "a" and "an" mean more."""
    codes, starts = words.codes, words.starts
    lengths = words.ends - starts
    found = np.zeros(len(words), bool)
    at = true_at(lengths == len(_THE))
    for place, letter in enumerate(_THE):
        at = at[codes[starts[at] + place] | 32 == letter]
    found[at] = True
    if len(at) < _ENGLISH * len(words):
        return np.zeros(len(words), bool)
    begins_with_a = codes[starts] | 32 == ord("a")
    found |= begins_with_a & (lengths == 1)
    found |= begins_with_a & (lengths == len("an")) & (codes[words.ends - 1] | 32 == ord("n"))
    return found


@lru_cache(maxsize=1)
def _tables() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which code points are capitals, and which letters or digits; the last entry stands for all beyond."""
    signs = [chr(code) for code in range(_CASED)] + ["字"]
    return np.asarray([sign.isupper() for sign in signs]), np.asarray([sign.isalnum() for sign in signs])
