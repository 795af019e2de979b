"""What must stay, and why. A word that touches a protected span is protected as a whole.

Protection is decided before anything is chosen, and what is protected is never a candidate for dropping, so
it survives by construction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compressor.errors import InvalidOption
from compressor.shapes import PROTECTABLE
from compressor.text.characters import Char
from compressor.text.markup import code_spans, json_spans, table_spans
from compressor.text.negations import STRIP, is_negation, negation_candidates, unspaced_negations
from compressor.text.searching import all_places
from compressor.text.tallies import changes_of, running_count, spans_of, true_at
from compressor.text.words import Words, cover, tag_places, texts_at, words_at

# Code of a reason in `Protection.codes`; the first reason that fits is the one that is told.
REASONS = (
    "",
    "forced",
    "whole",
    "code",
    "json",
    "tags",
    "tables",
    "urls",
    "identifiers",
    "numbers",
    "negations",
    "structure",
    "errors",
)
CODE = {reason: code for code, reason in enumerate(REASONS)}
# Words that make a number mean something: they stay with the number before them.
_UNIT_WORDS = """
    % ‰ percent percentage kg g mg µg lb lbs oz t tons tonnes km m cm mm µm nm mi miles ft feet inches yards
    m² km² acres hectares l ml litres liters gallons ms µs s sec secs second seconds min mins minute minutes
    h hr hrs hour hours day days week weeks month months year years am pm a.m p.m hundred thousand million
    billion trillion bn k mio mrd millionen milliarden millones millions milliards euros euro eur usd
    dollars dollar gbp pounds yen cents rupees °c °f °c. celsius fahrenheit kelvin mph km/h kmh rpm hz khz
    mhz ghz w kw mw gw kwh v kv a ma b kb mb gb tb kib mib gib tib bits bytes pixels px dpi tokens jahre
    jahren tage stunden minuten prozent ans jours heures años días horas лет года год дней часов процентов
    тысяч миллионов миллиардов ° € $ £ ¥ 년 월 일 시 분 명 원 개
"""
_MONTH_WORDS = """
    january february march april may june july august september october november december jan feb mar apr
    jun jul aug sep sept oct nov dec januar februar märz mai juni juli oktober dezember janvier février mars
    avril juin juillet août septembre octobre novembre décembre enero febrero marzo abril mayo junio julio
    agosto septiembre octubre noviembre diciembre января февраля марта апреля мая июня июля августа сентября
    октября ноября декабря
"""
_CURRENCY_WORDS = "$ € £ ¥ ₹ ₩ usd eur gbp jpy chf no. nr. § # ~ ≈ < > ≤ ≥ = + - ±"
_MONTHS = frozenset(_MONTH_WORDS.split())
_AFTER_NUMBER = frozenset(_UNIT_WORDS.split()) | _MONTHS
_BEFORE_NUMBER = frozenset(_CURRENCY_WORDS.split()) | _MONTHS
_URL = re.compile(
    r"[A-Za-z][A-Za-z0-9+.\-]*://|^www\.|^[^@\s]+@[\w\-]+(?:\.[\w\-]+)+$"
    r"|^(?:[\w\-]+\.)+(?:com|org|net|io|dev|edu|gov|ai|co|app|info|de|fr|uk|cn|jp|kr|ru|br|it|es|nl|eu)(?:[/:?#]|$)",
    re.IGNORECASE,
)
_IDENTIFIER = re.compile(
    r"[A-Za-z0-9]_|_[A-Za-z0-9]|__"  # snake_case, _private, __dunder__
    r"|[a-z][A-Z]|[A-Z]{2,}[a-z]{2}"  # camelCase, HTTPServer
    r"|[A-Za-z_]\w*\.[A-Za-z_]\w"  # dotted.name, file.py
    r"|^(?:~|\.{1,2})?/[\w.~@%+\-]|/[^/]+/|/[\w\-]+\.\w+$|[\\]"  # paths
    r"|^[@#$][\w{]|^@?[\w\-]+@[\w\-]|::|->|=>|\w\(.*\)|^--?\w|\w=\S"  # mentions, $VAR, calls, flags
    r"|[A-Za-z]\d|\d[A-Za-z]"  # hashes, v2beta, abc123
    r"|^[A-Za-z0-9]+(?:-[A-Za-z0-9]+){2,}$|^[A-Za-z][\w.]*:\d+"  # kebab-case-name, host:80
)
_LONGEST_UNIT = 16  # characters
_STRIP_NAME = STRIP.replace("_", "")
# Signs by ASCII code (127 stands for everything beyond), and which neighbours make a name of a word.
_LOWER_SIGN, _UPPER_SIGN, _DIGIT_SIGN, _SPECIAL_SIGN, _SIGNS = 1, 2, 3, 4, 5
_SIGN_TABLE = np.zeros(128, np.uint8)
_SIGN_TABLE[48:58], _SIGN_TABLE[65:91], _SIGN_TABLE[97:123] = _DIGIT_SIGN, _UPPER_SIGN, _LOWER_SIGN
_SIGN_TABLE[[ord(sign) for sign in "_/\\@:.#$(=->"]] = _SPECIAL_SIGN
_CHANGE_TABLE = np.zeros(_SIGNS * _SIGNS, bool)
for _left, _right in (
    (_LOWER_SIGN, _UPPER_SIGN),
    (_LOWER_SIGN, _DIGIT_SIGN),
    (_UPPER_SIGN, _DIGIT_SIGN),
    (_DIGIT_SIGN, _LOWER_SIGN),
    (_DIGIT_SIGN, _UPPER_SIGN),
):
    _CHANGE_TABLE[_left * _SIGNS + _right] = True
_STOPS = np.zeros(128, bool)  # a negation before one of these ends there
_STOPS[[ord(sign) for sign in ".!?,;:"]] = True


@dataclass(frozen=True, slots=True)
class Protection:
    """Which words of a text stay (`codes`, 0 is free, else an index into REASONS), shape [words].

    `tails[i]` is where the punctuation of word i begins that stays even when the word goes; `ends[i]`: none.
    """

    codes: NDArray[np.uint8]
    tails: NDArray[np.int32]


def protect_words(words: Words, protect: frozenset[str], force_tokens: Sequence[str] = ()) -> Protection:
    """Finds what must stay. Raises InvalidOption for a kind that does not exist."""
    if unknown := protect - PROTECTABLE:
        known = ", ".join(sorted(PROTECTABLE))
        raise InvalidOption(f"protect: unknown kind {sorted(unknown)[0]!r}; known are {known}")
    codes = np.zeros(len(words), np.uint8)
    tails = words.ends.copy()
    if not len(words):
        return Protection(codes, tails)
    text = words.text
    if "negations" in protect:
        _protect_negations(words, codes)
    if "numbers" in protect:
        _protect_numbers(words, codes)
    if "identifiers" in protect or "urls" in protect:
        _protect_names(words, codes, protect)
    finders: dict[str, Callable[[], Iterable[tuple[int, int]] | NDArray[np.int64]]] = {
        "tables": lambda: table_spans(text, words.codes),
        "tags": lambda: tag_places(words.codes),
        "json": lambda: json_spans(text),
        "code": lambda: code_spans(text, words.codes),
    }
    for kind, find in finders.items():
        if kind in protect:
            mark_spans(words, codes, find(), kind)
    for token in force_tokens:
        _force(words, codes, tails, token)
    return Protection(codes, tails)


def mark_spans(
    words: Words,
    codes: NDArray[np.uint8],
    spans: Iterable[tuple[int, int]] | NDArray[np.int64],
    reason: str,
) -> None:
    """Gives every word that overlaps one of the character spans this reason."""
    flat = spans_of(spans)
    if not len(flat):
        return
    first = np.searchsorted(words.ends, flat[:, 0], "right")
    last = np.searchsorted(words.starts, flat[:, 1], "left")
    codes[cover(np.stack((first, last), axis=1), len(codes))] = CODE[reason]


def _protect_numbers(words: Words, codes: NDArray[np.uint8]) -> None:
    """Words with a digit of any script, Chinese numbers of two signs and more, and the unit that follows."""
    classes = words.classes
    numeric = np.zeros(len(words), bool)
    numeric[words_at(words, true_at(classes == Char.DIGIT))] = True
    chinese = true_at((classes[words.starts] == Char.HAN_NUMBER) & (words.ends - words.starts >= 2))
    if len(chinese):
        signs = np.concatenate(
            ([0], running_count((classes == Char.HAN_NUMBER) | (classes == Char.HAN_UNIT)))
        )
        numeric[chinese[signs[words.ends[chinese]] - signs[words.starts[chinese]] >= 2]] = True
    code = CODE["numbers"]
    codes[numeric] = code
    behind = true_at(numeric[:-1] & ~numeric[1:]) + 1
    codes[
        words.those_that(lambda word: word.strip(STRIP).lower() in _AFTER_NUMBER, behind, _LONGEST_UNIT)
    ] = code
    ahead = true_at(numeric[1:] & ~numeric[:-1])
    codes[words.those_that(lambda word: word.lower() in _BEFORE_NUMBER, ahead, _LONGEST_UNIT)] = code


def _protect_names(words: Words, codes: NDArray[np.uint8], protect: frozenset[str]) -> None:
    urls, identifiers = "urls" in protect, "identifiers" in protect
    known: dict[str, int] = {}
    at = _name_candidates(words)
    values = np.zeros(len(at), np.uint8)
    for index, word in enumerate(words.strings_at(at)):
        code = known.get(word)
        if code is None:
            bare = word[:4096].strip(_STRIP_NAME)
            code = 0
            if urls and _URL.search(bare):
                code = CODE["urls"]
            elif identifiers and _IDENTIFIER.search(word[:4096] if word[:1] in "./" else bare or word[:4096]):
                code = CODE["identifiers"]
            known[word] = code
        if code:
            values[index] = code
    codes[at[values > 0]] = values[values > 0]


def _name_candidates(words: Words) -> NDArray[np.int64]:
    """Words with a sign or a change of case inside that ordinary words do not have."""
    signs = _SIGN_TABLE[np.minimum(words.codes, 127)]
    pairs = signs[:-1] * _SIGNS + signs[1:]
    marks = signs == _SPECIAL_SIGN
    marks[1:] |= _CHANGE_TABLE[pairs]
    marks[2:] |= (pairs[:-1] == _UPPER_SIGN * _SIGNS + _UPPER_SIGN) & (signs[2:] == _LOWER_SIGN)
    at = true_at(marks)
    index = np.searchsorted(words.starts, at, "right") - 1
    # A sign at the very end is punctuation ("end.", "note:"), unless it closes a call.
    index = index[(index >= 0) & (at < words.ends[np.maximum(index, 0)] - 1)]
    return index[changes_of(index)]


def _protect_negations(words: Words, codes: NDArray[np.uint8]) -> None:
    code = CODE["negations"]
    found = words.those_that(is_negation, negation_candidates(words))
    codes[found] = code
    going_on = found[(found + 1 < len(words)) & ~_STOPS[np.minimum(words.codes[words.ends[found] - 1], 127)]]
    codes[going_on + 1] = code
    mark_spans(words, codes, unspaced_negations(words), "negations")


def _force(words: Words, codes: NDArray[np.uint8], tails: NDArray[np.int32], token: str) -> None:
    """Keeps every occurrence of a string. Punctuation at a word's end stays without holding the word."""
    if not token or token.isspace():
        return  # line breaks are forced when the text is put together
    text = words.text
    places = np.fromiter(all_places(text, token), np.int64)
    spans = np.stack((places, places + len(token)), axis=1)
    if any(character.isalnum() for character in token):
        mark_spans(words, codes, spans, "forced")
        return
    index = np.searchsorted(words.ends, places, "right")
    inside = index < len(words)
    inside[inside] = words.starts[index[inside]] < places[inside]
    inside[inside] = spans[inside, 1] <= words.ends[index[inside]]
    behind = texts_at(text, spans[inside, 1], words.ends[index[inside]])
    inside[inside] = np.fromiter((not any(map(str.isalnum, signs)) for signs in behind), bool)
    np.minimum.at(tails, index[inside], places[inside].astype(np.int32))
    mark_spans(words, codes, spans[~inside], "forced")
