"""Korean particles at the ends of words: who does it to whom.

They cost a token or two each, and once the words around a noun have gone they tell little, as commas do.
Headlines leave them out. Particles that mean something by themselves stay: "also", "only", "from", "until".
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from compressor.text.characters import Char
from compressor.text.tallies import true_at
from compressor.text.words import Words

# By how many letters the word must have before it: "국가" and "전문가" end with no particle.
_AFTER_TWO = "에서는 에게는 으로는 에서 에게 으로 에는 와는 과는 은 는 을 를 와 과 에 의"
_AFTER_THREE = "이 가 로"
_IDEOLOGY = "주의"  # "-ism": no genitive
_FIRST, _LAST = 0xAC00, 0xD7A3
_BITS = np.uint64(16)


def particle_letters(words: Words) -> NDArray[np.int8]:
    """How many letters of a particle stand at each word's end, shape [words]."""
    count = np.zeros(len(words), np.int8)
    codes, starts, ends = words.codes, words.starts, words.ends
    last = codes[ends - 1] if len(words) else codes
    at = true_at((last >= _FIRST) & (last <= _LAST))
    if not len(at):
        return count
    for length, stem, keys in _tables():  # the longest first
        at = at[count[at] == 0]
        long = at[ends[at] - starts[at] >= length + stem]
        key = np.zeros(len(long), np.uint64)
        for place in range(length):
            key = (key << _BITS) | codes[ends[long] - length + place].astype(np.uint64)
        found = long[np.isin(key, keys)]
        for place in range(1, stem + 1):
            found = found[np.isin(words.classes[ends[found] - length - place], (Char.OTHER, Char.DIGIT))]
        count[found] = length
    ideology = true_at(count == 1)
    ideology = ideology[codes[ends[ideology] - 1] == ord(_IDEOLOGY[1])]
    count[ideology[codes[ends[ideology] - 2] == ord(_IDEOLOGY[0])]] = 0
    return count


@lru_cache(maxsize=1)
def _tables() -> tuple[tuple[int, int, NDArray[np.uint64]], ...]:
    """Length of the particles, fewest letters before them, and the particles as numbers."""
    groups: dict[tuple[int, int], list[int]] = {}
    for stem, particles in ((2, _AFTER_TWO), (3, _AFTER_THREE)):
        for particle in particles.split():
            number = 0
            for letter in particle:
                number = number << int(_BITS) | ord(letter)
            groups.setdefault((-len(particle), stem), []).append(number)
    return tuple(
        (-length, stem, np.asarray(numbers, np.uint64)) for (length, stem), numbers in sorted(groups.items())
    )
