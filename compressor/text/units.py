"""Units larger than a word: sentences, lines, paragraphs and documents, in one pass over the words.

Every word belongs to one unit of each level; units are numbered from 0 in the order of the text, and each
level nests in the next.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from compressor.shapes import Span
from compressor.text.characters import Char, lower_table
from compressor.text.line_heads import LineHeads, line_heads, line_starts, match_at, match_heads
from compressor.text.searching import stands_in
from compressor.text.tallies import changes_of, distances, numbers_of, running_count, true_at
from compressor.text.words import Words, looks_like_json, split_words, texts_at

# Full stops that end no sentence. Single letters ("J. Smith", "U.S.") are seen by their form.
_ABBREVIATION_WORDS = """
    mr mrs ms dr prof sr jr st vs etc e.g i.e cf al fig figs eq vol pp p ca approx dept est inc ltd corp
    jan feb apr jun jul aug sep sept oct nov dec gen col sgt capt rev hon
    z.b d.h u.a bzw usw ggf nr str bspw evtl m.e mme mlle sra dra ud uds pág núm av т.е т.д т.п г ул стр
"""
_ABBREVIATIONS = frozenset(_ABBREVIATION_WORDS.split())
_LATIN_ENDS = ".!?…"
_OTHER_ENDS = "。！？｡؟۔।॥።៕။՞"
_LONGEST_END = 32  # characters at a word's end that are looked at
_NO, _LIKELY, _SURE = 0, 1, 2
_CLOSERS = "\"'”’»)]}*_`」』）】》"
_CLOSER, _OTHER_END, _LATIN_END, _STOP = 1, 2, 3, 4  # kinds of signs at a word's end
_ENDING_OF = np.asarray([_NO, _NO, _SURE, _LIKELY, _LIKELY], np.uint8)
_LAST_END = max(map(ord, _LATIN_ENDS + _OTHER_ENDS + _CLOSERS)) + 1
_INNER_SIGNS = ".(\"'“‘«["  # that `_abbreviates` looks at
_LONGEST_ABBREVIATION = max(map(len, _ABBREVIATIONS))
_BULLET = re.compile(r"[-*+•–]\s|\(?\d{1,3}[.)]\s|#{1,6}\s|>|\|")
_DOCUMENT = re.compile(
    r"^[ \t]*(?:(?:Document|Passage|Source|Result|Article|Section|Chapter|文档|文章|资料)\s*\[?#?\d+"
    r"|\[\d{1,3}\]\s|#{1,2}\s|<(?:document|doc|source|passage|article|item|result)\b|[-=*_]{3,}[ \t]*$|\f)",
    re.MULTILINE | re.IGNORECASE,
)
_DOCUMENT_SIGNS = "DdPpSsſRrAaCc文资[#<-=*_"  # what a match begins with
# A line break inside a sentence of hard-wrapped text: long line, lower case (or a comma) on both sides.
_WRAPPED_LINE = 40
# Up to this many characters every sentence is ranked with both neighbours (best in the study, three times the
# text to encode); beyond, in groups of three.
NEIGHBOURS_UP_TO = 12_000
_GROUP = 3


@dataclass(frozen=True, slots=True)
class Units:
    """The unit of each word, by level, shape [words] each; sentences never run over a hard line break."""

    sentence: NDArray[np.int32]
    line: NDArray[np.int32]
    paragraph: NDArray[np.int32]
    document: NDArray[np.int32]
    heads: LineHeads


@dataclass(frozen=True, slots=True)
class QuestionUnits:
    """What is ranked against a question, in order: `passages[i]` is for the text's characters `spans[i]`."""

    passages: list[str]
    spans: list[Span]


def split_units(words: Words) -> Units:
    """Sentences, lines, paragraphs and documents of a text, as the unit of each word."""
    heads = line_heads(words)
    if not len(words):
        none = np.zeros(0, np.int32)
        return Units(none, none, none, none, heads)
    breaks = _line_breaks(words)
    line_begins = breaks >= 1
    paragraph_begins = breaks >= 2
    document_begins = _document_begins(words, heads)
    paragraph_begins |= document_begins
    line_begins |= paragraph_begins
    sentence_begins = (
        (line_begins & ~_wrapped(words, line_begins)) | paragraph_begins | _after_full_stop(words)
    )
    sentence_begins |= _escaped_lines(words)
    for begins in (line_begins, paragraph_begins, document_begins, sentence_begins):
        begins[0] = False
    line, paragraph, document, sentence = (
        running_count(begins, np.int32)
        for begins in (line_begins, paragraph_begins, document_begins, sentence_begins)
    )
    return Units(sentence, line, paragraph, document, heads)


def question_units(text: str) -> QuestionUnits:
    """The passages of a text to rank against a question, with the characters that each one's rank is for.

    Short texts: every sentence, read with the one before and after it. Long ones: groups of three sentences.
    """
    words = split_words(text)
    spans = question_spans(words, split_units(words))
    if len(text) > NEIGHBOURS_UP_TO:
        return QuestionUnits([text[span.start : span.end] for span in spans], spans)
    last = len(spans) - 1
    passages = [
        text[spans[max(0, index - 1)].start : spans[min(last, index + 1)].end] for index in range(len(spans))
    ]
    return QuestionUnits(passages, spans)


def question_spans(words: Words, units: Units) -> list[Span]:
    """Where the units stand that `question_units` ranks."""
    if not len(words):
        return []
    firsts = changes_of(units.sentence)
    if len(words.text) > NEIGHBOURS_UP_TO:  # in groups, which stay inside a document
        document = units.document[firsts]
        position = np.arange(len(firsts)) - np.searchsorted(document, document, "left")
        firsts = firsts[position % _GROUP == 0]
    lasts = np.append(firsts[1:], len(words)) - 1
    return list(map(Span, words.starts[firsts].tolist(), words.ends[lasts].tolist()))


def _line_breaks(words: Words) -> NDArray[np.int32]:
    """How many line breaks stand before each word."""
    newlines = true_at(words.codes == 10)
    before = np.searchsorted(newlines, words.starts)
    counts: NDArray[np.int32] = distances(before).astype(np.int32)
    return counts


def _document_begins(words: Words, heads: LineHeads) -> NDArray[np.bool_]:
    begins = np.zeros(len(words), bool)
    if stands_in(words.text, "\f"):  # which may stand in a line without words
        everywhere = match_at(_DOCUMENT, words.text, line_starts(words.codes))
        places = np.fromiter((found.start() for found in everywhere), np.int32)
    else:
        headed = match_heads(_DOCUMENT, words, heads, _DOCUMENT_SIGNS)
        places = np.fromiter((start for start, _ in headed), np.int32)
    at = np.searchsorted(words.starts, places)
    begins[at[at < len(words)]] = True
    return begins


def _wrapped(words: Words, line_begins: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Line breaks of hard-wrapped prose, where a sentence goes on in the next line."""
    wrapped = np.zeros(len(words), bool)
    firsts = true_at(line_begins)
    firsts = firsts[firsts > 0]
    long = words.ends[firsts - 1] - words.starts[np.append(0, firsts[:-1])] >= _WRAPPED_LINE
    last, begin = words.codes[words.ends[firsts - 1] - 1], words.codes[words.starts[firsts]]
    lower = lower_table()
    goes_on = (lower[last] | (last == ord(",")) | (last == ord("-"))) & lower[begin]
    going_on = firsts[long & goes_on]
    bulleted = (_BULLET.match(words.text, start) is not None for start in numbers_of(words.starts[going_on]))
    wrapped[going_on] = ~np.fromiter(bulleted, bool, len(going_on))
    return wrapped


def _after_full_stop(words: Words) -> NDArray[np.bool_]:
    """Words that begin a sentence because the word before ends one."""
    begins = np.zeros(len(words), bool)
    marks = _end_table()[np.minimum(words.codes[words.ends[:-1] - 1], _LAST_END)]
    at = true_at(marks)
    following = words.starts[at + 1]
    after = words.codes[following]
    apart = (words.ends[at] < following) | (words.classes[following] == Char.HAN)
    ending = _ENDING_OF[marks[at]]
    # A closing sign says nothing by itself, and a full stop may belong to an abbreviation.
    unclear = true_at((marks[at] == _CLOSER) | ((marks[at] == _STOP) & ~_long_and_plain(words, at)))
    ends = words.ends[at[unclear]]
    starts = np.maximum(words.starts[at[unclear]], ends - _LONGEST_END)
    ending[unclear] = np.fromiter(map(_ending, texts_at(words.text, starts, ends)), np.uint8, len(unclear))
    begins[at + 1] = (ending == _SURE) | ((ending == _LIKELY) & apart & ~lower_table()[after])
    return begins


def _long_and_plain(words: Words, at: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of these words, that end with a full stop, are certainly no abbreviations.

    They are nothing else, or longer than any abbreviation; one with a full stop or bracket inside is not
    looked at here.
    """
    starts, ends = words.starts[at], words.ends[at]
    inner = true_at(_inner_table()[np.minimum(words.codes, _LAST_END)])
    plain = np.searchsorted(inner, ends) - np.searchsorted(inner, starts) == 1  # the full stop itself
    plain_length: NDArray[np.bool_] = (ends - starts == 1) | (
        plain & (ends - starts > _LONGEST_ABBREVIATION + 1)
    )
    return plain_length


@lru_cache(maxsize=1)
def _inner_table() -> NDArray[np.bool_]:
    table = np.zeros(_LAST_END + 1, bool)
    table[[ord(sign) for sign in _INNER_SIGNS]] = True
    return table


@lru_cache(maxsize=1)
def _end_table() -> NDArray[np.uint8]:
    """What a word's last character says, by code point; the last entry stands for all beyond."""
    table = np.zeros(_LAST_END + 1, np.uint8)
    for signs, mark in (
        (_CLOSERS, _CLOSER),
        (_OTHER_ENDS, _OTHER_END),
        (_LATIN_ENDS, _LATIN_END),
        (".", _STOP),
    ):
        table[[ord(sign) for sign in signs]] = mark
    return table


@lru_cache(maxsize=65_536)
def _ending(word: str) -> int:
    """Whether a word ends a sentence: surely, likely (if what follows looks like a beginning), or not."""
    bare = word.rstrip(_CLOSERS)
    mark = bare[-1:]
    if mark and mark in _OTHER_ENDS:
        return _SURE
    if mark and mark in _LATIN_ENDS:
        return _NO if mark == "." and _abbreviates(bare) else _LIKELY
    return _NO


def _abbreviates(word: str) -> bool:
    """Whether the full stop belongs to the word: "Dr.", "J.", "U.S.", "e.g."."""
    bare = word.strip("(\"'“‘«[.").lower()
    if bare in _ABBREVIATIONS:
        return True
    # One letter is an initial, but "I" ends sentences too; letters between stops are an acronym.
    return (len(bare) == 1 and bare.isalpha() and bare != "i") or (
        len(bare) >= 3 and all(len(part) == 1 and part.isalpha() for part in bare.split("."))
    )


def _escaped_lines(words: Words) -> NDArray[np.bool_]:
    """Words that begin with the escape of a line break, in JSON."""
    begins = np.zeros(len(words), bool)
    if stands_in(words.text, "\\n") and looks_like_json(words.text):
        points = words.codes
        inner = words.ends - words.starts >= 2
        second = points[np.minimum(words.starts + 1, len(points) - 1)]
        begins = inner & (points[words.starts] == ord("\\")) & (second == ord("n"))
    return begins
