"""Texts that are read line by line: logs and tool results, diffs, stack traces."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from compressor.text.pieces import join_pieces
from compressor.text.searching import has_match, is_blank, lines_of, same_items
from compressor.text.tallies import edges_of, numbers_of, true_at
from compressor.text.words import Words
from compressor.turns import forget, in_turns

Marks: TypeAlias = NDArray[np.bool_]  # one a line

# What somebody who reads a log looks for.
_TROUBLE = re.compile(
    r"\b(?:error|errors|err|fatal|critical|crit|fail|failed|failure|failures|exception|panic|abort|aborted"
    r"|denied|refused|timeout|timed out|unreachable|corrupt|segfault|traceback|warn|warning|exit code [1-9]"
    r"|killed|oom)\b|\w(?:Error|Exception)\b|✗|✘|❌|FAIL",
    re.IGNORECASE,
)
_NO_TROUBLE = re.compile(
    r"\b(?:0|no|zero|without) (?:errors?|failures?|warnings?|failed)\b|errors?[:=] ?0\b", re.IGNORECASE
)
_VARIABLE = re.compile(r"0x[0-9a-fA-F]+|[0-9a-fA-F]{8,}|\d+")
_NO_VARIABLE = re.compile(r"[^\da-fA-Fx]")
_LONG_LINE = 32 * 1024  # characters that are looked at in one step
_FEW_WORDS = 1 << 14  # that are read in one step
_DIGIT = re.compile(r"\d")
_NAME_LETTERS = 3  # a word that tells one kind of line from another has so many letters
_PLAIN_WORD = re.compile(r"(?<!\S)[\"'(]?[A-Za-z\u00c0-\u024f'’\-]+[.,;:!?)\"']*(?!\S)")
_MARKDOWN_RULE = re.compile(r"[ \t]*\|[ :|\-]*-{3,}[ :|\-]*\|[ \t]*$")
_LINES_SAMPLE = 20_000
_FEWEST_ROWS = 6
_SENTENCE_WORDS = 6
_MOST_SAID = 0.35  # of the characters
_EDGE_LINES = 3  # of a log: how it starts, how it ended
_MOST_TROUBLE = 0.2
_SAME_TROUBLE = 2  # the same error again and again says nothing new
_EDGE_FRAMES = 3
_NUMBER = r"(?:[ \t]{0,8}\d{1,6}(?::|\t|→|\||  ))?"  # of a line, as tools that show files put it
_NUMBERED = re.compile(r"[ \t]{0,8}\d{1,6}(?::|\t|→|\||  )")
_DECLARES = re.compile(
    rf"{_NUMBER}[ \t]*(?:@\w|(?:(?:export|public|private|protected|static|async|pub|default|abstract) )*"
    r"(?:def|class|func|fn|function|interface|struct|enum|impl|trait|module|namespace|type|CREATE TABLE)\b)"
    r"|\[File: |\(\d+ more lines"
)
_CHANGED = re.compile(
    r"[+\-]|@@|diff |Index: |rename |new file|deleted file|similarity |Binary |old mode|new mode"
)
_FRAME = re.compile(
    r"\s+at |\s+File \"|\s*#\d+\s|\s+from |\t?\S+\.go:\d+|\s+in \S+ \(|\s*\.{3} \d+ more|\s+\^+|goroutine \d+"
    r"|\s*\d+: |\s{4,}\S"
)


def log_lines(lines: Sequence[str]) -> tuple[Marks, Marks]:
    """Which lines stay (trouble, and both ends), and which only repeat an earlier one but for its numbers."""
    kept, repeated = np.zeros(len(lines), bool), np.zeros(len(lines), bool)
    kept[:_EDGE_LINES] = kept[-_EDGE_LINES:] = True
    seen: dict[str, int] = {}
    for index, line in enumerate(lines):
        form = _form_of(line)
        times = seen.get(form, 0)
        seen[form] = times + 1
        if times < _SAME_TROUBLE and tells_trouble(line):
            kept[index] = True
        elif times:
            repeated[index] = True
    forget(seen)
    return kept, repeated & ~kept


def tells_trouble(line: str) -> bool:
    """Whether a line speaks of an error, a failure or a warning."""
    return has_match(_TROUBLE, line) and not has_match(_NO_TROUBLE, line)


def _form_of(line: str) -> str:
    """The line with a 0 for each number in it."""
    if len(line) <= _LONG_LINE:
        return _VARIABLE.sub("0", line)
    pieces, at = [], 0  # each ends before a character that no number has
    while at < len(line):
        found = _NO_VARIABLE.search(line, at + _LONG_LINE)
        end = found.start() if found else len(line)
        pieces.append(_VARIABLE.sub("0", line[at:end]))
        at = end
    return join_pieces(pieces)


def goes_by_lines(text: str) -> bool:
    """Whether a text of no other kind is rows rather than sentences: listings, settings, what tests print.

    Words of such a line mean nothing without the others.
    """
    lines = [line for line in text[:_LINES_SAMPLE].splitlines() if line.strip()]
    if len(lines) < _FEWEST_ROWS or any(_MARKDOWN_RULE.match(line) for line in lines):
        return False
    said = sum(len(line) for line in lines if _is_said(line))
    return said < _MOST_SAID * sum(map(len, lines))


def _is_said(line: str) -> bool:
    """Whether a line is (part of) a sentence: mostly plain words, or a script that is no Latin."""
    if sum(sign.isalpha() and not sign.isascii() for sign in line) > 0.3 * len(line):
        return True
    words = line.split()
    return len(words) >= _SENTENCE_WORDS and len(_PLAIN_WORD.findall(line)) >= 0.75 * len(words)


@dataclass(frozen=True, slots=True)
class Folded:
    """Lines of one form, the same but for words with digits: the first is the pattern of the others."""

    patterns: Marks  # lines that others repeat
    repeats: Marks
    gone: NDArray[np.int64]  # words that a repeat only says once more


def fold_lines(words: Words, firsts: NDArray[np.int64]) -> Folded:
    """What lines, given by their first words, repeat of the first line of the same form.

    A repeat keeps the words in which it differs from its pattern, and the one word that best tells its form
    from the other forms of this text.
    """
    begins, ends = firsts, np.append(firsts[1:], len(words))
    forms: dict[tuple[str, ...], int] = {}
    pattern = np.zeros(len(firsts), np.int64)  # of each line
    for index, line in enumerate(_words_by_line(words, begins, ends)):
        form = tuple("0" if _DIGIT.search(word) else word for word in line)
        pattern[index] = forms.setdefault(form, index)
    spread = Counter(word for form in forms for word in set(form))
    repeats = true_at(pattern != np.arange(len(pattern)))
    patterns = np.zeros(len(pattern), bool)
    patterns[pattern[repeats]] = True
    gone = np.fromiter(_said_again(words, begins, ends, pattern, spread), np.int64)
    forget(forms)
    forget(spread)
    return Folded(patterns, pattern != np.arange(len(pattern)), gone)


def _said_again(
    words: Words,
    begins: NDArray[np.int64],
    ends: NDArray[np.int64],
    pattern: NDArray[np.int64],
    spread: Mapping[str, int],
) -> Iterator[int]:
    """The words of repeats that only say what their patterns said."""
    repeats = true_at(pattern != np.arange(len(pattern)))
    numbers = pattern[repeats]
    names: dict[int, int] = {}
    lines = _words_by_line(words, begins[repeats], ends[repeats])
    others = _words_by_line(words, begins[numbers], ends[numbers])
    places = zip(numbers_of(numbers), numbers_of(begins[repeats]), strict=True)
    for (number, begin), line, other in zip(places, lines, others, strict=True):
        if number not in names:
            names[number] = _name_of(other, spread)
        name = names[number]
        same = [at for at, (word, its_word) in enumerate(zip(line, other, strict=True)) if word == its_word]
        if len(same) == len(line):  # word for word: the name alone says that it came again
            name = max(name, 0)
        for at in same:
            if at != name:
                yield begin + at


def _words_by_line(words: Words, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> Iterator[list[str]]:
    """The words of each of the lines from these words on up to those."""
    if len(words) <= _FEW_WORDS:
        strings = words.strings()
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            yield strings[begin:end]
        return
    text = words.text
    for begin, end in zip(numbers_of(begins), numbers_of(ends), strict=True):
        places = zip(words.starts[begin:end].tolist(), words.ends[begin:end].tolist(), strict=True)
        yield [text[start:stop] for start, stop in places]


def _name_of(words: Sequence[str], spread: Mapping[str, int]) -> int:
    """The word that the fewest forms have, the first of equals; -1 when there is none but figures."""
    plain = [
        (spread[word], at)
        for at, word in enumerate(words)
        if not _DIGIT.search(word) and sum(map(str.isalpha, word)) >= _NAME_LETTERS
    ]
    return min(plain)[1] if plain else -1


def trouble_lines(lines: Sequence[str]) -> Marks:
    """The lines of running text that speak of trouble; none where that is all that it is about."""
    kept = np.zeros(len(lines), bool)
    seen: dict[str, int] = {}
    size = kept_size = 0
    for index, line in enumerate(in_turns(lines)):
        size += len(line)
        if tells_trouble(line):
            form = _form_of(line)
            seen[form] = times = seen.get(form, 0) + 1
            if times <= _SAME_TROUBLE:
                kept[index] = True
                kept_size += len(line)
    forget(seen)
    return kept if kept_size <= _MOST_TROUBLE * size else np.zeros(len(lines), bool)


def outline_lines(lines: Sequence[str]) -> Marks:
    """The lines of code that declare something, what a tool says of errors beside it, and both ends."""
    numbered = 2 * sum(_NUMBERED.match(line) is not None for line in lines) > len(lines)
    declared = (
        _DECLARES.match(line) is not None or (numbered and not _NUMBERED.match(line) and tells_trouble(line))
        for line in in_turns(lines)
    )
    kept = np.fromiter(declared, bool, len(lines))
    kept[[0, -1]] = True
    return kept


def changed_lines(lines: Sequence[str]) -> Marks:
    """The lines of a diff that are not mere context: headers, hunks, and what was added or removed."""
    return np.fromiter((_CHANGED.match(line) is not None for line in in_turns(lines)), bool, len(lines))


def check_diff(original: str, shortened: str) -> str:
    """Every changed line must still be there, in order."""
    same = same_items(_changes(original), _changes(shortened))
    return "" if same else "changed lines of the diff would be lost"


def _changes(text: str) -> Iterator[str]:
    return (line.rstrip() for line in lines_of(text) if _CHANGED.match(line) and not is_blank(line))


def trace_lines(lines: Sequence[str]) -> tuple[Marks, Marks]:
    """Which lines of a stack trace stay: messages, and the first and last frames of each run of frames."""
    frames, repeated = np.zeros(len(lines), bool), np.zeros(len(lines), bool)
    seen: dict[str, None] = {}
    for index, line in enumerate(lines):
        if _FRAME.match(line):
            frames[index] = True
            repeated[index] = line in seen
            seen[line] = None
    forget(seen)
    edges = edges_of(frames)
    kept = ~frames
    for begin, end in zip(numbers_of(edges[::2]), numbers_of(edges[1::2]), strict=True):
        # A frame takes up to two lines, so twice as many stay at each end.
        kept[begin : min(end, begin + 2 * _EDGE_FRAMES)] = True
        kept[max(begin, end - 2 * _EDGE_FRAMES) : end] = True
    return kept, repeated & ~kept
