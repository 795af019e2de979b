"""Words as annotation compares them: folded, and equal across inflection, in any language.

No word lists and no language models: two words are the same when one can be the other with another ending
("compress", "compressed"; "서울", "서울에서"; "Brücke", "Brücken"). Scripts without spaces are compared
character by character, in runs of at least two.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

# One Han, Kana or Thai character is one word; else a run of letters, marks and digits with inner . , ' -
# joined.
_NO_SPACES = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_NO_SPACES}]|[^\W_{_NO_SPACES}]+(?:[.,'’\-_][^\W_{_NO_SPACES}]+)*")
_HANGUL = re.compile(r"[\uac00-\ud7a3]")
SHORTEST_STEM = 4  # letters that must agree: shorter ones make "in" and "into" the same
SHORTEST_HANGUL_STEM = 2  # a Korean noun is often two syllables, its particles follow
STEM_SHARE = 0.7  # of the longer word; "compress" and "compression" share 8 of 11
HANGUL_STEM_SHARE = 0.5
EVERYDAY_SHARE = 0.02  # a word in more than 2 % of the questions says nothing about any one of them
FEWEST_FOR_EVERYDAY = 50  # below so many questions, shares mean nothing


@dataclass(frozen=True, slots=True)
class MatchWord:
    """A word of a text, folded for comparison."""

    start: int
    end: int
    folded: str

    @property
    def alone(self) -> bool:
        """Whether it is one character of a script without spaces."""
        return self.end - self.start == 1 and bool(re.match(f"[{_NO_SPACES}]", self.folded))


def fold(word: str) -> str:
    """Case, width and compatibility forms removed."""
    return unicodedata.normalize("NFKC", word).casefold()


def match_words(text: str) -> list[MatchWord]:
    """The words of a text in order; punctuation and symbols are none."""
    return [MatchWord(found.start(), found.end(), fold(found.group())) for found in _WORD.finditer(text)]


def same_word(one: str, other: str) -> bool:
    """Whether two folded words are the same up to inflection. Numbers must be equal."""
    if one == other:
        return True
    if any(character.isdigit() for character in one + other):
        return False
    shared = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    length = min(len(one), len(other)) if shared is None else shared
    hangul = bool(_HANGUL.search(one) and _HANGUL.search(other))
    shortest, share = (SHORTEST_HANGUL_STEM, HANGUL_STEM_SHARE) if hangul else (SHORTEST_STEM, STEM_SHARE)
    return length >= shortest and length >= share * max(len(one), len(other))


class KnownWords:
    """A set of folded words; `word in known` when one of them is the same word up to inflection."""

    def __init__(self, folded: Iterable[str]) -> None:
        self._whole = set(folded)
        self._by_start: dict[str, list[str]] = defaultdict(list)
        for word in self._whole:
            self._by_start[_start_of(word)].append(word)

    def __contains__(self, folded: str) -> bool:
        return folded in self._whole or any(
            same_word(folded, word) for word in self._by_start.get(_start_of(folded), ())
        )


def _start_of(folded: str) -> str:
    """Letters that two forms of one word share at the least."""
    return folded[: SHORTEST_HANGUL_STEM if _HANGUL.search(folded) else SHORTEST_STEM]


def everyday_words(questions: Iterable[str]) -> frozenset[str]:
    """Folded words so frequent in these questions that sharing one means nothing ("what", "的", "wurde")."""
    counts: Counter[str] = Counter()
    total = 0
    for question in questions:
        total += 1
        counts.update({word.folded for word in match_words(question)})
    if total < FEWEST_FOR_EVERYDAY:
        return frozenset()
    return frozenset(word for word, count in counts.items() if count > EVERYDAY_SHARE * total)


def shared_spans(text: str, other: str, everyday: frozenset[str]) -> list[tuple[int, int]]:
    """Where `text` says a word of `other` again, inflected or not, everyday words left out; character spans.

    In scripts without spaces, where it repeats two or more characters of it in a row.
    """
    theirs = match_words(other)
    known = KnownWords(word.folded for word in theirs if not word.alone and _telling(word, everyday))
    pairs = {(a.folded, b.folded) for a, b in pairwise(theirs) if a.alone and b.alone}
    ours = match_words(text)
    found = [
        (word.start, word.end)
        for word in ours
        if not word.alone and _telling(word, everyday) and word.folded in known
    ]
    for a, b in pairwise(ours):
        both_everyday = a.folded in everyday and b.folded in everyday
        if a.end == b.start and (a.folded, b.folded) in pairs and not both_everyday:
            found.append((a.start, b.end))
    return sorted(found)


def _telling(word: MatchWord, everyday: frozenset[str]) -> bool:
    if word.folded in everyday:
        return False
    long_enough = len(word.folded) >= SHORTEST_STEM or bool(_HANGUL.search(word.folded))
    return long_enough or any(character.isdigit() for character in word.folded)
