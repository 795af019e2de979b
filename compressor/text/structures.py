"""Treatments: how a text of each kind is shortened, and the check that the result is still of that kind.

A treatment only says what is free, what hangs together and what a word is worth; the choosing, the budget
and the slices are the same for all kinds. A check that fails makes the text stay whole, with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from compressor.text.code_text import check_code, comment_lines
from compressor.text.html_text import check_html, html_parts
from compressor.text.json_text import check_json, leaf_interiors, loose_spaces
from compressor.text.line_heads import line_starts, match_at, match_heads
from compressor.text.line_text import (
    changed_lines,
    check_diff,
    fold_lines,
    log_lines,
    outline_lines,
    trace_lines,
    trouble_lines,
)
from compressor.text.pieces import part_of
from compressor.text.protection import CODE, mark_spans
from compressor.text.searching import find_all, stands_in
from compressor.text.tallies import changes_of, numbers_of, spans_of, totals
from compressor.text.units import Units
from compressor.text.words import Words, cover, tag_places
from compressor.turns import in_turns, let_go

T = TypeVar("T")

_LINE_NUMBER_KINDS = ("numbers", "identifiers", "urls", "negations", "tables", "tags")
_HEADING = re.compile(r"^(?:[ \t]*#{1,6}[ \t][^\n]*|[^\n]+\n(?:={3,}|-{3,})[ \t]*$)", re.MULTILINE)
_LINK = re.compile(
    r"!?\[[^\[\]\n]{0,500}\]\([^()\[\s]{0,2000}(?:[ \t]+\"[^\"\n]{0,200}\")?\)|^\[[^\[\]\n]+\]:[ \t]*\S+.*$",
    re.MULTILINE,
)
_FRONT_MATTER = "---\n"  # where the text begins with it, up to:
_END_OF_FRONT_MATTER = re.compile(r"\n---[ \t]*$", re.MULTILINE)
# What a line begins with and cannot be understood without: a bullet, who speaks, which document it is.
_BULLET = re.compile(r"^[ \t]*(?:[-*+•–]|\(?(?:[0-9]{1,3}|[A-Za-z])[.)])(?=[ \t])", re.MULTILINE)
_SPEAKER = re.compile(r"^[ \t]*[^\s:][^\n:.!?]{0,38}:(?=[ \t])", re.MULTILINE)
_DOCUMENT = re.compile(
    r"^[ \t]*(?:Document|Passage|Source|文档)[ \t]*\[?\d+\]?(?:\(Title: [^\n)]{0,200}\)|:)?", re.MULTILINE
)
_FEWEST_SPEAKERS = 3
LOWEST, HIGHEST = -1.0, 255.0  # goes first, goes last


@dataclass(frozen=True, slots=True)
class Treatment:
    """How one passage is shortened; arrays have shape [words]."""

    codes: NDArray[np.uint8]  # 0: free
    sentence: NDArray[np.int32]  # the unit chosen as a whole before words
    scores: NDArray[np.float32]
    group: NDArray[np.int32]  # words of one group stay or go together; -1: alone
    sticky: NDArray[np.bool_]  # stays if a word of its line that is not sticky stays
    gone: NDArray[np.bool_]  # goes whenever anything does
    loose: NDArray[np.int64]  # characters between words that go whenever anything does, shape [spans, 2]
    validate: Callable[[str, str], str]  # original, shortened -> what is wrong, or ""


def treat(
    words: Words,
    units: Units,
    scores: NDArray[np.float32],
    codes: NDArray[np.uint8],
    kind: str,
    *,
    fold: bool = False,
) -> Treatment:
    """The treatment of a text of this kind. `codes` is what the caller protects; kinds add to it.

    With `fold`, for results of tools, what only repeats goes first of all: the layout of JSON, and of a log's
    line that repeats an earlier one all but what differs; and lines of prose that speak of trouble stay.

    In texts that are shortened by lines (logs, diffs, stack traces) a line that goes takes its numbers and
    names along; what the caller forced stays everywhere.
    """
    plain = Treatment(
        codes=codes.copy(),
        sentence=units.sentence,
        scores=scores,
        group=np.full(len(words), -1, np.int32),
        sticky=np.zeros(len(words), bool),
        gone=np.zeros(len(words), bool),
        loose=np.zeros((0, 2), np.int64),
        validate=nothing_wrong,
    )
    if not len(words):
        return plain
    treatment = _TREATMENTS.get(kind, _treat_prose)(words, units, plain)
    if fold and kind == "json":
        return replace(treatment, loose=spans_of(loose_spaces(words.text)))
    if fold and kind in ("prose", "markdown"):
        stays = _by_line(words, units, trouble_lines)[units.line]
        treatment.codes[stays & (treatment.codes == 0)] = CODE["errors"]
        return replace(treatment, sticky=treatment.sticky & ~stays)
    return _folded(words, units, treatment) if fold and kind == "log" else treatment


def nothing_wrong(original: str, shortened: str) -> str:
    """The check of kinds that cannot become invalid."""
    return ""


def _treat_prose(words: Words, units: Units, plain: Treatment) -> Treatment:
    marks = np.zeros(len(words), np.uint8)
    mark_spans(words, marks, match_heads(_BULLET, words, units.heads), "structure")
    mark_spans(words, marks, match_heads(_DOCUMENT, words, units.heads, "DPS文"), "structure")
    if stands_in(words.text, ":"):
        speakers = spans_of(match_heads(_SPEAKER, words, units.heads))
        if len(speakers) >= _FEWEST_SPEAKERS:
            mark_spans(words, marks, speakers, "structure")
    sticky = (marks > 0) & (plain.codes == 0)
    return replace(plain, sticky=sticky)


def _treat_markdown(words: Words, units: Units, plain: Treatment) -> Treatment:
    text = words.text
    for found in (match_at(_HEADING, text, line_starts(words.codes)), find_all(_LINK, text, "![")):
        mark_spans(words, plain.codes, (one.span() for one in found), "structure")
    if text.startswith(_FRONT_MATTER):
        end = next(find_all(_END_OF_FRONT_MATTER, text, "\n", len(_FRONT_MATTER)), None)
        mark_spans(words, plain.codes, [(0, end.end())] if end else [], "structure")
    return _treat_prose(words, units, plain)


def _treat_json(words: Words, units: Units, plain: Treatment) -> Treatment:
    # The first and last word of a leaf hold its quotes.
    free = cover(_inner_words(words, leaf_interiors(words.text)), len(words))
    codes = plain.codes
    codes[codes == CODE["json"]] = 0
    codes[~free & (codes == 0)] = CODE["json"]
    return replace(plain, validate=check_json)


def _inner_words(words: Words, spans: Iterable[tuple[int, int]] | NDArray[np.int64]) -> NDArray[np.int64]:
    """The first of the words that lie in each span, and the one behind the last, shape [spans, 2]."""
    flat = spans_of(spans)
    first = np.searchsorted(words.starts, flat[:, 0], "left")
    return np.stack((first, np.searchsorted(words.ends, flat[:, 1], "right")), axis=1)


def _treat_code(words: Words, units: Units, plain: Treatment) -> Treatment:
    comments = np.zeros(len(words), np.uint8)
    mark_spans(words, comments, comment_lines(words.text), "code")
    codes = plain.codes
    forced = codes == CODE["forced"]
    codes[:] = np.where(comments > 0, 0, CODE["code"])
    codes[forced] = CODE["forced"]
    # A comment without its sign would be code: each line stays or goes as one.
    return replace(_by_lines(units, plain), validate=check_code)


def _treat_outline(words: Words, units: Units, plain: Treatment) -> Treatment:
    """Code that was read long ago: by whole lines, those that say what there is before what it does."""
    _release(plain.codes)
    return _choose_lines(units, plain, _by_line(words, units, outline_lines))


def _treat_log(words: Words, units: Units, plain: Treatment) -> Treatment:
    _release(plain.codes)
    kept, repeated = _by_line(words, units, log_lines)
    return _choose_lines(units, plain, kept, repeated)


def _treat_diff(words: Words, units: Units, plain: Treatment) -> Treatment:
    _release(plain.codes)
    kept = _by_line(words, units, changed_lines)
    return replace(_choose_lines(units, plain, kept), validate=check_diff)


def _treat_trace(words: Words, units: Units, plain: Treatment) -> Treatment:
    _release(plain.codes)
    kept, repeated = _by_line(words, units, trace_lines)
    return _choose_lines(units, plain, kept, repeated)


def _treat_html(words: Words, units: Units, plain: Treatment) -> Treatment:
    parts = html_parts(words.text)
    codes, group, scores = plain.codes, plain.group, plain.scores.copy()
    mark_spans(words, codes, tag_places(words.codes), "tags")
    mark_spans(words, codes, parts.shown, "tags")
    noise = _inner_words(words, parts.noise)
    places = zip(numbers_of(noise[:, 0]), numbers_of(noise[:, 1]), strict=True)
    for number, (first, last) in enumerate(in_turns(places)):
        free = codes[first:last] != CODE["forced"]
        codes[first:last][free] = 0
        group[first:last][free] = number
        scores[first:last] = LOWEST
    return replace(plain, scores=scores, validate=check_html)


def _treat_table(words: Words, units: Units, plain: Treatment) -> Treatment:
    """Markdown tables keep their rows and lose words inside cells; other tables have no such words."""
    if not stands_in(words.text, "|"):
        plain.codes[plain.codes == 0] = CODE["tables"]
    return plain


def _treat_base64(words: Words, units: Units, plain: Treatment) -> Treatment:
    plain.codes[plain.codes == 0] = CODE["whole"]
    return plain


_TREATMENTS = {
    "markdown": _treat_markdown,
    "json": _treat_json,
    "code": _treat_code,
    "code-outline": _treat_outline,
    "log": _treat_log,
    "diff": _treat_diff,
    "stack-trace": _treat_trace,
    "html": _treat_html,
    "table": _treat_table,
    "base64": _treat_base64,
}


def _release(codes: NDArray[np.uint8]) -> None:
    codes[np.isin(codes, [CODE[kind] for kind in (*_LINE_NUMBER_KINDS, "json", "code")])] = 0


def _folded(words: Words, units: Units, treatment: Treatment) -> Treatment:
    """The log with its repeats folded: their patterns come first, they come last."""
    firsts = changes_of(units.line)
    folded = fold_lines(words, firsts)
    gone = treatment.gone.copy()
    gone[folded.gone] = True
    scores = treatment.scores.copy()
    scores[folded.patterns[units.line]] = HIGHEST
    repeat = folded.repeats[units.line]
    scores[repeat] = np.minimum(LOWEST, LOWEST + (treatment.scores[repeat] - HIGHEST) / HIGHEST)
    return replace(treatment, scores=scores, gone=gone & (treatment.codes == 0))


def _by_lines(units: Units, plain: Treatment) -> Treatment:
    """Lines instead of sentences, each as one, worth the mean of its words."""
    line = units.line
    means = totals(line, plain.scores) / totals(line, np.ones(len(line)))
    return replace(plain, sentence=line, group=line.copy(), scores=means[line].astype(np.float32))


def _choose_lines(
    units: Units, plain: Treatment, kept: NDArray[np.bool_], repeated: NDArray[np.bool_] | None = None
) -> Treatment:
    """By lines: those that stay, and those that go first, shape [lines] each."""
    by_lines = _by_lines(units, plain)
    stays = kept[units.line] & (plain.codes == 0)
    plain.codes[stays] = CODE["errors"]
    if repeated is not None:
        by_lines.scores[repeated[units.line]] = LOWEST
    return by_lines


def _by_line(words: Words, units: Units, judge: Callable[[list[str]], T]) -> T:
    """What `judge` says of the lines that have words: line i is that of the words with `units.line == i`."""
    lines = _lines_of(words, units)
    judged = judge(lines)
    let_go(lines)
    return judged


def _lines_of(words: Words, units: Units) -> list[str]:
    firsts = changes_of(units.line)
    lasts = np.append(firsts[1:], len(words)) - 1
    text = words.text
    lines = []
    places = zip(numbers_of(words.starts[firsts]), numbers_of(words.ends[lasts]), strict=True)
    for start, end in places:
        begin = text.rfind("\n", 0, start) + 1  # with its indentation
        lines.append(part_of(text, begin, end))
    return lines
