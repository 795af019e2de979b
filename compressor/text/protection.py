"""What must stay, and why. A word that touches a protected span is protected as a whole.

Protection is decided before anything is chosen, and what is protected is never a candidate for dropping, so
it survives by construction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compressor.errors import InvalidOption
from compressor.shapes import PROTECTABLE
from compressor.text.characters import Char, char_table, codepoints
from compressor.text.markup import code_spans, json_spans, table_spans, tag_spans
from compressor.text.negations import LONGEST, STRIP, is_negation, unspaced_negations
from compressor.text.words import Words

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
_SPECIAL = "_/\\@:.#$(=->"


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
    for kind, find in (
        ("tables", table_spans),
        ("tags", tag_spans),
        ("json", json_spans),
        ("code", code_spans),
    ):
        if kind in protect:
            mark_spans(words, codes, find(text), kind)
    for token in force_tokens:
        _force(words, codes, tails, token)
    return Protection(codes, tails)


def mark_spans(words: Words, codes: NDArray[np.uint8], spans: Iterable[tuple[int, int]], reason: str) -> None:
    """Gives every word that overlaps one of the character spans this reason."""
    flat = np.asarray(list(spans), np.int64).reshape(-1, 2)
    if not len(flat):
        return
    first = np.searchsorted(words.ends, flat[:, 0], "right")
    last = np.searchsorted(words.starts, flat[:, 1], "left")
    _mark_ranges(codes, first, last, CODE[reason])


def _mark_ranges(
    codes: NDArray[np.uint8], first: NDArray[np.int64], last: NDArray[np.int64], code: int
) -> None:
    depth = np.zeros(len(codes) + 1, np.int32)
    filled = first < last
    np.add.at(depth, first[filled], 1)
    np.add.at(depth, last[filled], -1)
    codes[np.cumsum(depth[:-1]) > 0] = code


def _protect_numbers(words: Words, codes: NDArray[np.uint8]) -> None:
    """Words with a digit of any script, Chinese numbers of two signs and more, and the unit that follows."""
    classes = char_table()[codepoints(words.text)]
    digits = np.concatenate(([0], np.cumsum(classes == Char.DIGIT)))
    numeric = digits[words.ends] > digits[words.starts]
    signs = np.concatenate(([0], np.cumsum((classes == Char.HAN_NUMBER) | (classes == Char.HAN_UNIT))))
    lengths = words.ends - words.starts
    chinese = classes[words.starts] == Char.HAN_NUMBER
    numeric |= chinese & (signs[words.ends] - signs[words.starts] >= 2) & (lengths >= 2)
    code = CODE["numbers"]
    codes[numeric] = code
    text, starts, ends = words.text, words.starts, words.ends
    for index in np.flatnonzero(numeric[:-1] & ~numeric[1:]) + 1:
        if text[starts[index] : min(ends[index], starts[index] + 16)].strip(STRIP).lower() in _AFTER_NUMBER:
            codes[index] = code
    for index in np.flatnonzero(numeric[1:] & ~numeric[:-1]):
        if text[starts[index] : min(ends[index], starts[index] + 16)].lower() in _BEFORE_NUMBER:
            codes[index] = code


def _protect_names(words: Words, codes: NDArray[np.uint8], protect: frozenset[str]) -> None:
    text = words.text
    starts, ends = words.starts, words.ends
    urls, identifiers = "urls" in protect, "identifiers" in protect
    known: dict[str, int] = {}
    for index in _name_candidates(words):
        word = text[starts[index] : ends[index]]
        code = known.get(word)
        if code is None:
            bare = word[:4096].strip(STRIP.replace("_", ""))
            code = 0
            if urls and _URL.search(bare):
                code = CODE["urls"]
            elif identifiers and _IDENTIFIER.search(word[:4096] if word[:1] in "./" else bare or word[:4096]):
                code = CODE["identifiers"]
            known[word] = code
        if code:
            codes[index] = code


def _name_candidates(words: Words) -> list[int]:
    """Words with a sign or a change of case inside that ordinary words do not have."""
    points = codepoints(words.text)
    ascii_points = np.minimum(points, 127).astype(np.uint8)
    special = np.zeros(128, bool)
    special[[ord(sign) for sign in _SPECIAL]] = True
    digit = np.zeros(128, bool)
    digit[48:58] = True
    lower, upper = np.zeros(128, bool), np.zeros(128, bool)
    lower[97:123] = True
    upper[65:91] = True
    marks = special[ascii_points]
    is_lower, is_upper, is_digit = lower[ascii_points], upper[ascii_points], digit[ascii_points]
    letter = is_lower | is_upper
    marks[1:] |= (is_lower[:-1] & is_upper[1:]) | (letter[:-1] & is_digit[1:]) | (is_digit[:-1] & letter[1:])
    marks[2:] |= is_upper[:-2] & is_upper[1:-1] & is_lower[2:]
    at = np.flatnonzero(marks)
    index = np.searchsorted(words.starts, at, "right") - 1
    # A sign at the very end is punctuation ("end.", "note:"), unless it closes a call.
    inside = (index >= 0) & (at < words.ends[index] - 1)
    result: list[int] = np.unique(index[inside]).tolist()
    return result


def _protect_negations(words: Words, codes: NDArray[np.uint8]) -> None:
    code = CODE["negations"]
    text = words.text
    short = np.flatnonzero(words.ends - words.starts <= LONGEST + 4)
    starts, ends = words.starts[short].tolist(), words.ends[short].tolist()
    strings = [text[start:end] for start, end in zip(starts, ends, strict=True)]
    negations = {word for word in set(strings) if is_negation(word)}
    if negations:
        for index in short[[word in negations for word in strings]].tolist():
            codes[index] = code
            if index + 1 < len(words) and text[words.ends[index] - 1] not in ".!?,;:":
                codes[index + 1] = code
    mark_spans(words, codes, unspaced_negations(text), "negations")


def _force(words: Words, codes: NDArray[np.uint8], tails: NDArray[np.int32], token: str) -> None:
    """Keeps every occurrence of a string. Punctuation at a word's end stays without holding the word."""
    if not token or token.isspace():
        return  # line breaks are forced when the text is put together
    text = words.text
    only_signs = not any(character.isalnum() for character in token)
    spans = []
    at = text.find(token)
    while at >= 0:
        end = at + len(token)
        index = int(np.searchsorted(words.ends, at, "right"))
        if (
            only_signs
            and index < len(words)
            and words.starts[index] < at
            and end <= words.ends[index]
            and not any(character.isalnum() for character in text[end : words.ends[index]])
        ):
            tails[index] = min(tails[index], at)
        else:
            spans.append((at, end))
        at = text.find(token, end)
    mark_spans(words, codes, spans, "forced")
