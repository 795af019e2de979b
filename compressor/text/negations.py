"""Words that turn a statement around. Losing one changes the answer, so they are protected by default.

Only forms that rarely mean anything else are listed: Finnish and Danish "en", French "et" or Spanish "si"
would protect half of a text. A negation takes the word behind it along, because a "not" left standing alone
would negate whatever follows in the shortened text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from compressor.text.characters import codepoints
from compressor.text.tallies import numbers_of, true_at
from compressor.text.words import Words, words_at

_BY_LANGUAGE = {
    "en": "not no never none neither nor nothing nobody nowhere cannot without unless except hardly "
    "aren't arent isn't isnt wasn't weren't don't dont doesn't didn't won't wouldn't can't couldn't "
    "shouldn't mustn't haven't hasn't hadn't needn't ain't shan't mightn't",
    "de": "nicht nichts nie niemals niemand kein keine keinen keinem keiner keines ohne weder",
    "fr": "pas jamais aucun aucune rien personne sans ne ni",
    "es": "no ni nunca jamás ningún ninguna ninguno nada nadie tampoco sin",
    "pt": "não nunca jamais nem nenhum nenhuma ninguém sem",
    "it": "non mai né nessun nessuno nessuna niente senza",
    "nl": "niet geen nooit niemand niets zonder",
    "sv da no": "inte ikke ikkje aldrig aldri ingen inget ingenting utan uden uten",
    "fi": "eivät emme ette ilman koskaan",
    "pl": "nie nigdy nikt nic bez żaden żadna",
    "cs sk": "ne není nikdy nikdo žádný bez",
    "ru uk": "не нет ни никогда никто ничего нельзя без немає ні ніколи",
    "ro": "nu niciodată nimic fără",
    "hu": "nem ne nincs soha semmi nélkül",
    "tr": "değil yok hayır asla hiç",
    "el": "δεν μην όχι ποτέ χωρίς κανένας",
    "ar": "لا لم لن ليس ليست ليسوا غير بدون دون",
    "fa": "نه نیست نیستند نبود ندارد نمی بدون هیچ",
    "ur": "نہیں نہ مت",
    "he": "לא אין אל בלי מעולם",
    "hi": "नहीं न ना मत बिना",
    "bn": "না নেই নয়",
    "vi": "không chưa chẳng đừng",
    "id": "tidak bukan jangan tanpa belum",
    "sw": "hapana sio bila",
    "ko": "안 못 아니 아니다 없다",
}
NEGATIONS = frozenset(word for words in _BY_LANGUAGE.values() for word in words.split())
_LONGEST = max(map(len, NEGATIONS)) + 4  # with the punctuation around it
# Ends and beginnings that negate a longer word: n't with both apostrophes, French n', Korean stems, Persian.
_SUFFIXES = ("n't", "n’t")
_PREFIXES = ("n'", "n’", "نمی", "qu'aucun")
_KOREAN_STEMS = ("않", "없", "아니", "못하", "못했", "지마", "말라")
# Scripts without spaces: where in the text. 别 and 非 are left out in their common other words.
_UNSPACED = re.compile(
    r"不|没有?|沒有?|無|无|未|勿|莫|毋|否|(?<![特区區个個分差性级級类類辨鉴鑑])[别別](?![人的墅墅名])|非(?![常洲])"
    r"|ない|なかっ|なく|なけれ|ません|なし|ずに|ぬ|まい"
    r"|ไม่|มิ|อย่า|ไร้|ห้าม|ບໍ່|មិន|មិនមែន|ពុំ|不要|မ(?=[\u1000-\u1021])"
)
# "nicht-staatlich", "used.[not in source]", "I am-never", "No.The": inside a run longer than any negation.
_GLUED = re.compile(
    r"(?<!\w)n(?:(?:ot|icht|o|one|ever)(?=-\w)|(?:ot|icht|o|on|ein|ever)(?=[.!?:]\w))"
    r"|(?<=[.,;:\[(/\-])n(?:ot|icht|o|one|ever|either|or)(?!\w)",
    re.IGNORECASE,
)
_GLUE_TABLE = np.zeros(128, bool)
_GLUE_TABLE[[ord(sign) for sign in ".,;:[(/-"]] = True
_AFTER_TABLE = np.zeros(128, bool)
_AFTER_TABLE[[ord(sign) for sign in "-.!?:"]] = True
_UNSPACED_SIGNS = np.asarray(  # what these begin with
    [ord(sign) for sign in "不没沒無无未勿莫毋否别別非なまずぬไมอหບមពမ"], np.uint32
)
_FIRST_UNSPACED, _FIRST_HANGUL, _PERSIAN_N = 0x0E00, 0xAC00, 0x0646
STRIP = ".,;:!?\"'()[]{}«»“”„‘’*_…¿¡،؛؟।—–"
_VALUED = 0x2200  # scripts with upper and lower case lie below
_STRIPPED = np.zeros(_VALUED, bool)  # by code point; the last entry stands for all beyond
_STRIPPED[[ord(sign) for sign in STRIP]] = True
_SPREAD = np.uint32(2_654_435_761)


@lru_cache(maxsize=65_536)
def is_negation(word: str) -> bool:
    """Whether a space-separated word negates; case and the punctuation around it do not matter."""
    bare = word.strip(STRIP).lower()
    return (
        bare in NEGATIONS
        or bare.endswith(_SUFFIXES)
        or (bare.startswith(_PREFIXES) and len(bare) < 16)
        or ("\uac00" <= bare[:1] <= "\ud7a3" and any(stem in bare for stem in _KOREAN_STEMS))
    )


def negation_candidates(words: Words) -> NDArray[np.int64]:
    """Words that may be negations: all for which `is_negation` holds, up to a length, and a few others.

    Told by a sum over each word's letters, which is that of a negation, or by what only some negations have.
    """
    codes = words.codes
    ascii_only = words.text.isascii()
    starts, ends = _without_punctuation(words)
    sums = np.zeros(len(codes) + 1, np.uint16)
    np.cumsum(_letter_values(codes, ascii_only=ascii_only), dtype=np.uint16, out=sums[1:])
    found = _sums_of_negations()[sums[ends] - sums[starts]]
    if not ascii_only:
        found |= codes[np.minimum(starts, len(codes) - 1)] == _PERSIAN_N
    found[words_at(words, _telling_places(codes))] = True
    found &= words.ends - words.starts <= _LONGEST
    return true_at(found)


def unspaced_negations(words: Words) -> Iterator[tuple[int, int]]:
    """Where Chinese, Japanese, Thai, Lao, Khmer and Burmese negations stand, as character spans, and English
    and German ones inside a longer run.
    """
    for place in numbers_of(_glued_places(words.codes)):
        if (glued := _GLUED.match(words.text, place)) is not None:
            yield glued.span()
    if words.text.isascii():
        return
    places = true_at(words.codes >= _FIRST_UNSPACED)
    places = places[np.isin(words.codes[places], _UNSPACED_SIGNS)]
    end = 0
    for place in numbers_of(places):
        if place >= end and (found := _UNSPACED.match(words.text, place)) is not None:
            end = found.end()
            yield found.span()


def _glued_places(codes: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Where `_GLUED` may match: an N behind one of its signs, or with another where its words end."""
    at = true_at((codes | 32) == ord("n"))
    fits = _GLUE_TABLE[np.minimum(codes[np.maximum(at - 1, 0)], 127)]
    for length in (len("no"), len("not"), len("none"), len("never")):
        fits |= _AFTER_TABLE[np.minimum(codes[np.minimum(at + length, len(codes) - 1)], 127)]
    return at[fits]


def _without_punctuation(words: Words) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Starts and ends of the words without the signs of `STRIP` around them; longer words as they are."""
    starts, ends = words.starts.copy(), words.ends.copy()
    short = true_at(ends - starts <= _LONGEST)
    for places, step, shift in ((starts, 1, 0), (ends, -1, -1)):
        at = short
        while len(at):
            at = at[starts[at] < ends[at]]
            at = at[_STRIPPED[np.minimum(words.codes[places[at] + shift], _VALUED - 1)]]
            places[at] += step
    return starts, ends


def _telling_places(codes: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Where an apostrophe or a Korean stem stands."""
    marks = (codes == ord("'")) | (codes == ord("’"))
    if len(codes) and codes.max() >= _FIRST_HANGUL:
        for stem in _KOREAN_STEMS:
            here = codes == ord(stem[0])
            for step, sign in enumerate(stem[1:], 1):
                here[:-step] &= codes[step:] == ord(sign)
                here[-step:] = False
            marks |= here
    return true_at(marks)


def _letter_values(codes: NDArray[np.uint32], *, ascii_only: bool) -> NDArray[np.uint16]:
    """A number for each letter, the same for upper and lower case."""
    if ascii_only:
        return _value_table()[codes]
    values: NDArray[np.uint16] = np.where(
        codes < _VALUED, _value_table()[np.minimum(codes, _VALUED - 1)], (codes * _SPREAD).astype(np.uint16)
    )
    return values


@lru_cache(maxsize=1)
def _value_table() -> NDArray[np.uint16]:
    lower = [chr(code).lower() for code in range(_VALUED)]
    folded = np.asarray([ord(low) if len(low) == 1 else code for code, low in enumerate(lower)], np.uint32)
    folded[folded == ord("ς")] = ord("σ")  # which of them is written depends on the letter's place
    return (folded * _SPREAD >> np.uint32(3)).astype(np.uint16)


@lru_cache(maxsize=1)
def _sums_of_negations() -> NDArray[np.bool_]:
    table = np.zeros(1 << 16, bool)
    for word in NEGATIONS:
        values = _letter_values(codepoints(word), ascii_only=False)
        table[int(values.sum(dtype=np.uint16))] = True
    return table
