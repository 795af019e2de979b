"""Texts that are read line by line: logs and tool results, diffs, stack traces."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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


def log_lines(lines: Sequence[str]) -> tuple[set[int], set[int]]:
    """Which lines stay (trouble, and both ends), and which only repeat an earlier one but for its numbers."""
    kept = {*range(min(_EDGE_LINES, len(lines))), *range(max(0, len(lines) - _EDGE_LINES), len(lines))}
    repeated: set[int] = set()
    seen: dict[str, int] = {}
    for index, line in enumerate(lines):
        form = _VARIABLE.sub("0", line)
        times = seen.get(form, 0)
        seen[form] = times + 1
        if times < _SAME_TROUBLE and tells_trouble(line):
            kept.add(index)
        elif times:
            repeated.add(index)
    return kept, repeated - kept


def tells_trouble(line: str) -> bool:
    """Whether a line speaks of an error, a failure or a warning."""
    return bool(_TROUBLE.search(line)) and not _NO_TROUBLE.search(line)


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

    patterns: frozenset[int]  # lines that others repeat
    repeats: frozenset[int]
    gone: tuple[tuple[int, int], ...]  # (line, word of it): what a repeat only says once more


def fold_lines(lines: Sequence[Sequence[str]]) -> Folded:
    """What lines, given by their words, repeat of the first line of the same form.

    A repeat keeps the words in which it differs from its pattern, and the one word that best tells its form
    from the other forms of this text.
    """
    forms: dict[tuple[str, ...], int] = {}
    first: list[int] = []  # of each line: the pattern
    for index, words in enumerate(lines):
        form = tuple("0" if _DIGIT.search(word) else word for word in words)
        first.append(forms.setdefault(form, index))
    spread = Counter(word for form in forms for word in set(form))
    repeats = [index for index, pattern in enumerate(first) if pattern != index]
    names: dict[int, int] = {}
    gone: list[tuple[int, int]] = []
    for index in repeats:
        words, pattern = lines[index], lines[first[index]]
        if first[index] not in names:
            names[first[index]] = _name_of(pattern, spread)
        name = names[first[index]]
        same = [at for at, (word, other) in enumerate(zip(words, pattern, strict=True)) if word == other]
        if len(same) == len(words):  # word for word: the name alone says that it came again
            name = max(name, 0)
        gone += [(index, at) for at in same if at != name]
    return Folded(frozenset(first[index] for index in repeats), frozenset(repeats), tuple(gone))


def _name_of(words: Sequence[str], spread: Mapping[str, int]) -> int:
    """The word that the fewest forms have, the first of equals; -1 when there is none but figures."""
    plain = [
        (spread[word], at)
        for at, word in enumerate(words)
        if not _DIGIT.search(word) and sum(map(str.isalpha, word)) >= _NAME_LETTERS
    ]
    return min(plain)[1] if plain else -1


def trouble_lines(lines: Sequence[str]) -> set[int]:
    """The lines of running text that speak of trouble; none where that is all that it is about."""
    kept: set[int] = set()
    seen: Counter[str] = Counter()
    for index, line in enumerate(lines):
        if tells_trouble(line):
            form = _VARIABLE.sub("0", line)
            seen[form] += 1
            if seen[form] <= _SAME_TROUBLE:
                kept.add(index)
    size = sum(map(len, lines))
    return kept if sum(len(lines[index]) for index in kept) <= _MOST_TROUBLE * size else set()


def outline_lines(lines: Sequence[str]) -> set[int]:
    """The lines of code that declare something, what a tool says of errors beside it, and both ends."""
    numbered = 2 * sum(_NUMBERED.match(line) is not None for line in lines) > len(lines)
    declared = {
        index
        for index, line in enumerate(lines)
        if _DECLARES.match(line) or (numbered and not _NUMBERED.match(line) and tells_trouble(line))
    }
    return declared | {0, len(lines) - 1}


def changed_lines(lines: Sequence[str]) -> set[int]:
    """The lines of a diff that are not mere context: headers, hunks, and what was added or removed."""
    return {index for index, line in enumerate(lines) if _CHANGED.match(line)}


def check_diff(original: str, shortened: str) -> str:
    """Every changed line must still be there, in order."""
    before = [line for line in original.splitlines() if _CHANGED.match(line) and line.strip()]
    after = [line for line in shortened.splitlines() if _CHANGED.match(line) and line.strip()]
    same = [line.rstrip() for line in before] == [line.rstrip() for line in after]
    return "" if same else "changed lines of the diff would be lost"


def trace_lines(lines: Sequence[str]) -> tuple[set[int], set[int]]:
    """Which lines of a stack trace stay: messages, and the first and last frames of each run of frames."""
    kept: set[int] = set()
    repeated: set[int] = set()
    seen: set[str] = set()
    run: list[int] = []
    for index, line in enumerate([*lines, ""]):
        if index < len(lines) and _FRAME.match(line):
            run.append(index)
            if line in seen:
                repeated.add(index)
            seen.add(line)
            continue
        # A frame takes up to two lines, so twice as many stay at each end.
        kept.update(run[: 2 * _EDGE_FRAMES], run[-2 * _EDGE_FRAMES :])
        run = []
        if index < len(lines):
            kept.add(index)
    return kept, repeated - kept
