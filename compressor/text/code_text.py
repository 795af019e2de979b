"""Source code: whole-line comments may go, nothing else. Strings are never looked into."""

from __future__ import annotations

import ast
import re
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from compressor.text.searching import between_feeds, find_all, find_short, is_blank, place_of, same_items

_SHORT = 2000  # characters of a string or comment that are looked at in one step


@dataclass(frozen=True, slots=True)
class _Family:
    """Languages that write strings and comments alike."""

    begins: re.Pattern[str]  # the first character of each; alone it is found ten times as fast
    pattern: re.Pattern[str]


def _family_of(line_sign: str, block: str = "", short: int = _SHORT) -> _Family:
    """Strings and comments, by the sign of line comments, and one for block comments.

    Strings first, so that a comment's sign inside one is never seen. Where the end is not near, only the sign
    is found: what is not closed runs to the end of the text, and is looked at in pieces (`_end_of`).
    """
    inside = f"{{0,{short}}}"
    quoted = "|".join(
        (
            rf'"""(?:\\.|[^\\]){inside}?"""',
            rf"'''(?:\\.|[^\\]){inside}?'''",
            rf'"(?!"")(?:\\.|[^"\\\n]){inside}"',
            rf"'(?!'')(?:\\.|[^'\\\n]){inside}'",
            rf"`(?:\\.|[^`\\]){inside}`",
        )
    )
    comments, signs = rf"{line_sign}[^\n]{inside}(?:(?=\n)|\Z)", line_sign
    if block:
        comments, signs = rf"{comments}|/\*(?s:.{inside}?)\*/", rf"{line_sign}|/\*"
    opening = rf"\"\"\"|'''|[\"'`]|{signs}"
    pattern = re.compile(rf"(?s:{quoted})|(?P<comment>{comments})|(?P<opening>{opening})")
    return _Family(re.compile(rf"[\"'`{re.escape(line_sign[0] + block[:1])}]"), pattern)


_HASH, _SLASH, _DASH = _family_of("#"), _family_of("//", "/*"), _family_of("--")
# What ends a string, or cannot stand in it; signs behind a backslash do neither.
_ENDS = {
    '"': re.compile(r'\\.|["\n]', re.DOTALL),
    "'": re.compile(r"\\.|['\n]", re.DOTALL),
    "`": re.compile(r"\\.|`", re.DOTALL),
    '"""': re.compile(r'\\.|"""', re.DOTALL),
    "'''": re.compile(r"\\.|'''", re.DOTALL),
}
_PRAGMA = re.compile(
    r"#!|#\s*(?:-\*-|type:|noqa|pylint|pragma|mypy|ruff|fmt:|isort|coding|cython|region|endregion|frozen_)"
    r"|//\s*(?:go:|\+build|@ts-|eslint|prettier|nolint|#|tslint|region|istanbul)|//[/!]"
    r"|/\*[!*]?\s*(?:eslint|global|jshint|@)|--\s*(?:\+|luacheck)",
    re.IGNORECASE,
)
_HASH_SIGNS = re.compile(
    r"^[ \t]*(?:def |import |from \S+ import|elif |end$|fi$|done$|echo |export \w+=|[\w.-]+:[ \t]|\[\w)",
    re.MULTILINE,
)
_SLASH_SIGNS = re.compile(
    r"[;{][ \t]*$|^[ \t]*(?:#include|func |fn |package |use \w|const |let |var |public |private )",
    re.MULTILINE,
)
_DASH_SIGNS = re.compile(
    r"^[ \t]*(?:SELECT|CREATE TABLE|INSERT INTO|ALTER|local \w+|module \w+ where)\b",
    re.MULTILINE | re.IGNORECASE,
)
_HERE_DOCUMENT = re.compile(r"<<[-~]?[ \t]*['\"]?[A-Z_]{2,}|^=begin|^=pod|%[qQwW][{(\[]", re.MULTILINE)
_WARNINGS = threading.Lock()  # catch_warnings is not safe in several threads at once
_NEAR = 256  # characters beside a comment that are looked at in one step
_PARSE_UP_TO = 400_000  # characters; the parser's time and memory for more are out of proportion


def comment_lines(text: str) -> Iterator[tuple[int, int]]:
    """Comments that have their lines to themselves and are no instructions to a tool, as character spans."""
    family = _family(text)
    if family is None:
        return
    for start, end in _comments(text, family):
        # A block comment of several lines would have to go whole; short of that its signs would be lost.
        if (
            _begins_line(text, start)
            and _ends_line(text, end)
            and not _PRAGMA.match(text, start, end)
            and text.find("\n", start, end) < 0
        ):
            yield start, end


def _comments(text: str, family: _Family) -> Iterator[tuple[int, int]]:
    """All comments, whatever stands beside them."""
    known: dict[str, int] = {}
    at = 0
    for place in find_short(family.begins, text, 1):
        start = place.start()
        found = family.pattern.match(text, start) if start >= at else None
        if found is None:
            continue
        sign, at = found["opening"], found.end()
        if sign is None:
            if found["comment"] is not None:
                yield found.span()
            continue
        end = _end_of(text, start, sign, known)
        if end is not None and sign not in _ENDS:
            yield start, end
        # Three signs that open nothing are an empty string and a sign.
        at = end if end is not None else start + max(1, len(sign) - 1)


def _end_of(text: str, start: int, sign: str, known: dict[str, int]) -> int | None:
    """Where the string or comment ends that this sign opens; None for a string that does not.

    `known` says up to where each sign opens nothing: to look each time again would take quadratic time.
    """
    if sign not in _ENDS:
        closing = "*/" if sign == "/*" else "\n"
        end = place_of(text, closing, start + len(sign))
        return len(text) if end < 0 else end + (len(closing) if sign == "/*" else 0)
    if start < known.get(sign, 0):
        return None
    last = start + len(sign)
    for found in find_all(_ENDS[sign], text, "\\\n" + sign[0], last):
        last = found.end()
        if found.group() == sign:
            return last
        if found.group() == "\n":
            known[sign] = last
            return None
    if sign in ('"', "'") or (last < len(text) and text.endswith("\\")):  # that backslash escapes nothing
        known[sign] = len(text)
        return None
    return len(text)


def _begins_line(text: str, at: int) -> bool:
    """Whether nothing but blanks stands before this place in its line."""
    while at > 0:
        before = text[max(0, at - _NEAR) : at]
        line = before.rpartition("\n")[2]
        if not is_blank(line):
            return False
        if len(line) < len(before):
            return True
        at -= len(before)
    return True


def _ends_line(text: str, at: int) -> bool:
    """Whether nothing but blanks stands behind this place in its line."""
    while at < len(text):
        behind = text[at : at + _NEAR]
        line = behind.partition("\n")[0]
        if not is_blank(line):
            return False
        if len(line) < len(behind):
            return True
        at += len(behind)
    return True


def check_code(original: str, shortened: str) -> str:
    """The lines that are no comments must all be there; Python must still mean the same."""
    if not same_items(_code_lines(original), _code_lines(shortened)):
        return "code would change"
    if len(original) > _PARSE_UP_TO or _family(original) is not _HASH:
        return ""
    before = _syntax_tree(original)
    if before is None:
        return ""  # another language, or a piece of a file
    after = _syntax_tree(shortened)
    if after is None:
        return "Python code would not parse any more"
    return "" if after == before else "Python code would change its meaning"


def _syntax_tree(text: str) -> str | None:
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they would print the client's text
        try:
            return ast.dump(ast.parse(text))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _code_lines(text: str) -> Iterator[str]:
    """The lines that are neither blank nor comments."""
    comments = comment_lines(text)
    nothing = (len(text) + 1, 0)
    start, _ = next(comments, nothing)
    at = 0
    for line in between_feeds(text):
        at += len(line) + 1
        if start < at:
            start, _ = next(comments, nothing)
        elif not is_blank(line):
            yield line.rstrip()


def _family(text: str) -> _Family | None:
    """How the language writes comments; None when that is not clear."""
    sample = text[:20_000]
    counts = {
        _HASH: len(_HASH_SIGNS.findall(sample)),
        _SLASH: len(_SLASH_SIGNS.findall(sample)),
        _DASH: len(_DASH_SIGNS.findall(sample)),
    }
    best = max(counts, key=lambda family: counts[family])
    if not counts[best] or sorted(counts.values())[-2] * 2 > counts[best]:
        return None
    if best is not _SLASH and next(find_all(_HERE_DOCUMENT, text, "<=%"), None):
        return None  # lines of a here document may begin with a comment's sign
    return best
