"""Words: the units that are kept or dropped.

A word is a maximal run of non-space. Punctuation stays with the run it is stuck to, so that "end." keeps its
full stop and "(see" its bracket, and numbers, versions, dates, URLs, paths, hashes, identifiers and mentions
are one word each because no cut falls inside them. Cuts inside a run fall only

* in scripts written without spaces: at every Han or hiragana character (the encoder gives the characters of
  one of its pieces one score, so they stay or go together), around katakana, at Thai, Lao, Khmer and Myanmar
  letters; never before a combining mark, inside an emoji sequence, or between a number and its unit;
* after a comma or semicolon that is not between two digits, after an em dash or ellipsis, around `|`;
* around HTML tags, and in JSON before the escapes of line breaks.

The split is a pure function of the text: scores that were cached for a text fit its words for ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.text.characters import SYLLABLE_CLOSERS, Char, char_table, codepoints
from compressor.text.searching import find_short, place_of, stands_in
from compressor.text.tallies import changes_of, running_count, true_at
from compressor.turns import in_turns

_AT_ONCE = 1 << 12  # words read in one step
_CLASSES = 32  # row length of the cut table; a power of two above the number of classes
_CJK_LETTER = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
# The scheme is found by looking back from "://"; CJK belongs to a URL only right after a separator, since
# Chinese and Japanese sentences go on without a space behind a URL.
_URL_REST = re.compile(
    rf"(?:[!#$%&()*+,\-./0-9:;=?@A-Z\[\]_a-z~\u00c0-\u024f]+|(?<=[/=_\-])[{_CJK_LETTER}]+)+"
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{0,15}\Z")
# At most 2,000 characters a tag, so that a text of "<" costs linear time.
TAG = re.compile(r"<(?:/?[A-Za-z][^<>]{0,2000}|![^<>]{0,2000}|\?[^<>]{0,2000})>")
_OPENS, _CLOSES, LONGEST_TAG = ord("<"), ord(">"), 2000
_JSON_HEAD = re.compile(r"\s*(?:\{\s*[\"}]|\[\s*(?:[\"\[{\]]|-?\d|true\b|false\b|null\b))")
_JSON_BREAK = re.compile(r"\\[ntr]")
_NO_BREAK_SPACES = (0xA0, 0x2009, 0x202F)  # thousands separators: "1 234" is one number


@dataclass(frozen=True, slots=True)
class Words:
    """The words of `text`: word i is `text[starts[i]:ends[i]]`; they are in order and do not overlap."""

    text: str
    starts: NDArray[np.int32]  # shape [words]
    ends: NDArray[np.int32]  # shape [words]
    codes: NDArray[np.uint32]  # the text's code points, shape [characters]
    classes: NDArray[np.uint8]  # what each is for word boundaries, a `Char`, shape [characters]

    def __len__(self) -> int:
        return len(self.starts)

    def strings(self) -> list[str]:
        """Each word as a string."""
        return list(texts_at(self.text, self.starts, self.ends))

    def strings_at(self, at: NDArray[np.int64], longest: int | None = None) -> Iterator[str]:
        """Each of the words `at`, or its first characters; others have their turn between some and the
        next.
        """
        starts, ends = self.starts[at], self.ends[at]
        return texts_at(self.text, starts, ends if longest is None else np.minimum(ends, starts + longest))

    def those_that(
        self, fit: Callable[[str], bool], at: NDArray[np.int64], longest: int | None = None
    ) -> NDArray[np.int64]:
        """Those of the words `at` that fit, as far as their first `longest` characters tell."""
        fitting = np.fromiter((fit(word) for word in self.strings_at(at, longest)), bool, len(at))
        those: NDArray[np.int64] = at[fitting]
        return those


def texts_at(text: str, starts: NDArray[np.integer[Any]], ends: NDArray[np.integer[Any]]) -> Iterator[str]:
    """Each part of a text; others have their turn between some and the next."""
    for at in in_turns(range(0, len(starts), _AT_ONCE)):
        some = slice(at, at + _AT_ONCE)
        for start, end in zip(starts[some].tolist(), ends[some].tolist(), strict=True):
            yield text[start:end]


def split_words(text: str) -> Words:
    """The words of a text, in time linear in its length. Any string is fine, unpaired surrogates included."""
    if not text:
        empty = np.zeros(0, np.int32)
        return Words(text, empty, empty, np.zeros(0, np.uint32), np.zeros(0, np.uint8))
    codes = codepoints(text)
    classes = char_table()[codes]
    _join_thousands(codes, classes)
    solid = classes != Char.SPACE
    cut = _cuts(codes, classes)
    _keep_urls_whole(text, cut)
    _cut_around_tags(codes, cut)
    _cut_at_json_breaks(text, cut)
    begins = solid.copy()
    begins[1:] &= ~solid[:-1] | cut[1:]
    stops = np.zeros(len(text) + 1, bool)
    stops[1:-1] = solid[:-1] & (~solid[1:] | cut[1:])
    stops[-1] = solid[-1]
    starts, ends = true_at(begins).astype(np.int32), true_at(stops).astype(np.int32)
    return Words(text, starts, ends, codes, classes)


def words_at(words: Words, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """The words that these characters are in, each once, in order."""
    index = np.searchsorted(words.starts, places, "right") - 1
    index = index[(index >= 0) & (places < words.ends[np.maximum(index, 0)])]
    return index[changes_of(index)]


def _cuts(codes: NDArray[np.uint32], classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a word may begin inside a run: entry i stands for the place before character i."""
    base = classes
    loose = (classes == Char.EXTEND) | (classes == Char.JOINER)
    has_loose = bool(loose.any())
    if has_loose:
        # A mark has the class of what it stands on.
        index = np.arange(len(classes), dtype=np.int32)
        index[loose] = 0
        base = classes[np.maximum.accumulate(index)]
    cut = np.zeros(len(classes), bool)
    cut[1:] = _cut_table()[base[:-1].astype(np.uint16) * _CLASSES + classes[1:]]
    # "1,234": a comma between digits is part of the number.
    cut[2:] &= ~((classes[:-2] == Char.DIGIT) & (classes[1:-1] == Char.COMMA) & (classes[2:] == Char.DIGIT))
    if has_loose:
        cut[1:] &= (classes[1:] != Char.EXTEND) & (classes[1:] != Char.JOINER) & (classes[:-1] != Char.JOINER)
        closers = true_at(np.isin(codes, SYLLABLE_CLOSERS))
        cut[closers[closers > 0] - 1] = False
    return cut


@lru_cache(maxsize=1)
def _cut_table() -> NDArray[np.bool_]:
    """Whether a word begins between two neighbours, by class of the left (row) and right (column)."""
    table = np.zeros((_CLASSES, _CLASSES), bool)
    kinds = range(Char.COUNT)
    loose = {Char.SPACE, Char.EXTEND, Char.JOINER}
    never_after = {Char.OPEN, Char.LEFT}
    han = (Char.HAN, Char.HAN_NUMBER, Char.HAN_UNIT)
    unspaced = (*han, Char.KATAKANA, Char.SEA, Char.LEAD)
    for right in (*unspaced, Char.OPEN, Char.PIPE):
        for left in kinds:
            table[left, right] = left not in never_after and left not in loose
    for left in (*unspaced, Char.CLOSE, Char.COMMA, Char.DASH, Char.PIPE):
        for right in (Char.OTHER, Char.DIGIT, Char.LEFT, *unspaced, Char.OPEN, Char.PIPE):
            table[left, right] = True
    for right in kinds:
        table[Char.PIPE, right] = right not in loose
    for left, right in (
        (Char.KATAKANA, Char.KATAKANA),
        (Char.LEAD, Char.SEA),
        (Char.LEAD, Char.LEAD),
        (Char.OPEN, Char.OPEN),
        (Char.PIPE, Char.PIPE),
        (Char.DIGIT, Char.HAN_NUMBER),
        (Char.DIGIT, Char.HAN_UNIT),
        (Char.HAN_NUMBER, Char.HAN_NUMBER),
        (Char.HAN_NUMBER, Char.HAN_UNIT),
        (Char.HAN_UNIT, Char.HAN_UNIT),
        (Char.HAN_UNIT, Char.DIGIT),
    ):
        table[left, right] = False
    return table.ravel()


def _join_thousands(codes: NDArray[np.uint32], classes: NDArray[np.uint8]) -> None:
    """Makes a no-break space between two digits part of the number."""
    if not len(codes) or codes.max() < min(_NO_BREAK_SPACES):
        return
    for code in _NO_BREAK_SPACES:
        at = true_at(codes[1:-1] == code) + 1
        classes[at[(classes[at - 1] == Char.DIGIT) & (classes[at + 1] == Char.DIGIT)]] = Char.OTHER


def _keep_urls_whole(text: str, cut: NDArray[np.bool_]) -> None:
    at = place_of(text, "://")
    while at >= 0:
        scheme = _SCHEME.search(text[max(0, at - 16) : at])
        rest = _URL_REST.match(text, at)
        end = rest.end() if rest else at + 3
        if scheme:
            cut[at - len(scheme.group()) + 1 : end] = False
        at = place_of(text, "://", end)


def _cut_around_tags(codes: NDArray[np.uint32], cut: NDArray[np.bool_]) -> None:
    tags = tag_places(codes)
    if not len(tags):
        return
    cut[cover(tags + np.asarray([1, 0]), len(cut))] = False
    cut[tags[:, 0]] = True
    cut[tags[tags[:, 1] < len(cut), 1]] = True


def tag_places(codes: NDArray[np.uint32]) -> NDArray[np.int64]:
    """What `TAG.finditer` finds, shape [tags, 2]. Looks at angle brackets only."""
    brackets = true_at((codes == _OPENS) | (codes == _CLOSES))
    if len(brackets) < 2:
        return np.zeros((0, 2), np.int64)
    starts, ends = brackets[:-1], brackets[1:]
    paired = (codes[starts] == _OPENS) & (codes[ends] == _CLOSES) & (ends - starts >= 2)
    starts, ends = starts[paired], ends[paired]
    sign = codes[starts + 1]
    slash = sign == ord("/")
    name = starts + 1 + slash
    letter = codes[name] | 32  # lower case
    named = (letter >= ord("a")) & (letter <= ord("z")) & (codes[name] < 128) & (name < ends)
    fits = (ends - name - 1 <= LONGEST_TAG) & (named | (sign == ord("!")) | (sign == ord("?")))
    return np.stack((starts[fits], ends[fits] + 1), axis=1)


def cover(spans: NDArray[np.int64], length: int) -> NDArray[np.bool_]:
    """Which of `length` places lie in one of the spans [spans, 2]; empty spans cover nothing."""
    depth = np.zeros(length + 1, np.int32)
    filled = spans[spans[:, 0] < spans[:, 1]]
    np.add.at(depth, filled[:, 0], 1)
    np.add.at(depth, filled[:, 1], -1)
    covered: NDArray[np.bool_] = running_count(depth[:-1]) > 0
    return covered


def _cut_at_json_breaks(text: str, cut: NDArray[np.bool_]) -> None:
    """Lines of a string inside JSON are told apart by `\\n` escapes, not by line breaks."""
    if not stands_in(text, "\\") or not looks_like_json(text):
        return
    for escape in find_short(_JSON_BREAK, text, len("\\n")):
        at = escape.start()
        backslashes = at - len(text[max(0, at - 64) : at].rstrip("\\")) - max(0, at - 64)
        if backslashes % 2 == 0:
            cut[at] = True


def looks_like_json(text: str) -> bool:
    """Whether the text begins like a JSON object or array (and not like `[INFO]`)."""
    return _JSON_HEAD.match(text, 0, 256) is not None
