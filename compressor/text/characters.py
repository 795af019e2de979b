"""What each code point means for word boundaries, as one byte a code point.

The table covers the scripts that are written without spaces (Han, kana, Thai, Lao, Khmer, Myanmar), the marks
that may never be parted from what they stand on, and the punctuation that opens or closes.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

_PIECE = 256 * 1024  # characters that are encoded in one call


class Char:
    """Classes of code points. `OTHER` is any letter or sign of a script that puts spaces between words.

    Plain numbers: each look at a member of an enum takes as long as numpy for a short text.
    """

    OTHER: Final = 0
    SPACE: Final = 1
    HAN: Final = 2  # Han, hiragana and bopomofo: one word a character
    KATAKANA: Final = 3  # a run is one word (loan words and names)
    SEA: Final = 4  # base letters of Thai, Lao, Khmer, Myanmar
    LEAD: Final = 5  # Thai and Lao vowels written before their consonant
    EXTEND: Final = 6  # combining marks, variation selectors, vowels written after: stay with their base
    JOINER: Final = 7  # zero-width joiner, stacking signs: glue both neighbours
    OPEN: Final = 8  # opening punctuation that goes with what follows
    CLOSE: Final = 9  # closing CJK punctuation that goes with what precedes
    DIGIT: Final = 10
    COMMA: Final = 11
    DASH: Final = 12  # em dash, ellipsis: goes with what precedes
    PIPE: Final = 13  # cell border of a table
    HAN_NUMBER: Final = 14
    HAN_UNIT: Final = 15  # goes with the number before it
    LEFT: Final = 16  # ( [ {
    TRAIL: Final = 17  # . ! ? : ) ] } % quotes: never begins a word inside a run
    COUNT: Final = 18


_HAN_RANGES = (
    (0x2E80, 0x2FDF),
    (0x3021, 0x3029),
    (0x3041, 0x3096),
    (0x3105, 0x312F),
    (0x31A0, 0x31BF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x1B000, 0x1B16F),
    (0x20000, 0x3134F),
)
_KATAKANA_RANGES = ((0x30A1, 0x30FA), (0x31F0, 0x31FF), (0xFF66, 0xFF9F))
_SEA_RANGES = (
    (0x0E01, 0x0E2E),
    (0x0E81, 0x0EAE),
    (0x0EDC, 0x0EDF),
    (0x1000, 0x102A),
    (0x103F, 0x103F),
    (0x1050, 0x1055),
    (0x1780, 0x17B3),
)
_LEAD_RANGES = ((0x0E40, 0x0E44), (0x0EC0, 0x0EC4))
# Written after their consonant, though Unicode calls them letters; small kana, length and repetition marks;
# zero-width space and soft hyphen, which show nothing of their own.
_EXTENDERS = (
    "\u0e2f\u0e30\u0e32\u0e33\u0e45\u0e46\u0eb0\u0eb2\u0eb3\u0ebd\u0ec6ぁぃぅぇぉっゃゅょゎゕゖー々ゝゞヽヾ〻"
    "\u200b\u200c\u2060\ufeff\u00ad"
)
_JOINERS = "\u200d\u17d2\u1039"
_OPEN = "「『（【《〈〔〖〘〝｛［｢“‘«„"
_CLOSE = "」』）】》〉〕〗〙〞〟｝］｣。，、；：！？．…・～〜｡､‰។៕៖၊။"
_HAN_NUMBERS = "一二三四五六七八九十百千万億亿兆零〇两兩"
_HAN_UNITS = (
    "年月日時时点點分秒元円圆圓个個名人歳岁歲度号號回次階层層章节"
    "節条條頁页位本冊册台件户戶間间周週代紀纪届屆期倍％"
)
# Silencing and closing signs: the consonant that carries one belongs to the syllable before it.
SYLLABLE_CLOSERS = (0x0E4C, 0x103A)


@lru_cache(maxsize=1)
def char_table() -> NDArray[np.uint8]:
    """The class of every code point, shape [0x110000]. Built once, in some 30 ms."""
    table = np.zeros(0x110000, np.uint8)
    for code in range(0x20000):  # no script that has marks or digits lies above, but for the selectors below
        category = unicodedata.category(chr(code))
        if category[0] == "M":
            table[code] = Char.EXTEND
        elif category == "Nd":
            table[code] = Char.DIGIT
    for ranges, kind in (
        (_HAN_RANGES, Char.HAN),
        (_KATAKANA_RANGES, Char.KATAKANA),
        (_SEA_RANGES, Char.SEA),
        (_LEAD_RANGES, Char.LEAD),
    ):
        for first, last in ranges:
            table[first : last + 1] = kind
    table[0xE0100:0xE01F0] = Char.EXTEND  # variation selectors
    table[0xE0020:0xE0080] = Char.EXTEND  # tags, as in the flags of Scotland and Wales
    table[0x1F3FB:0x1F400] = Char.EXTEND  # skin tones
    for characters, kind in (
        (_EXTENDERS, Char.EXTEND),
        (_JOINERS, Char.JOINER),
        (_OPEN, Char.OPEN),
        (_CLOSE, Char.CLOSE),
        (_HAN_NUMBERS, Char.HAN_NUMBER),
        (_HAN_UNITS, Char.HAN_UNIT),
        (",;，", Char.COMMA),
        ("—―…⸺", Char.DASH),
        ("|", Char.PIPE),
        ("([{", Char.LEFT),
        (".!?:)]}%'\"’”»", Char.TRAIL),
    ):
        for character in characters:
            table[ord(character)] = kind
    for code in range(0x3001):
        if chr(code).isspace():
            table[code] = Char.SPACE
    table[ord("，")] = Char.CLOSE
    return table


@lru_cache(maxsize=1)
def lower_table() -> NDArray[np.bool_]:
    """Which code points `str.islower` says are lower case, shape [0x110000]."""
    table = np.zeros(0x110000, bool)
    for code in range(0x20000):  # no script with cases lies above
        table[code] = chr(code).islower()
    return table


def codepoints(text: str) -> NDArray[np.uint32]:
    """The code points of `text`, shape [len(text)]; unpaired surrogates come through as they are."""
    if len(text) <= _PIECE:
        return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    codes = np.empty(len(text), np.uint32)  # piece by piece: encoding holds Python's lock
    for start in range(0, len(text), _PIECE):
        piece = text[start : start + _PIECE].encode("utf-32-le", "surrogatepass")
        codes[start : start + _PIECE] = np.frombuffer(piece, np.uint32)
    return codes


def char_classes(text: str) -> NDArray[np.uint8]:
    """The class of each character, shape [len(text)]."""
    classes: NDArray[np.uint8] = char_table()[codepoints(text)]
    return classes
