"""Source code: whole-line comments may go, nothing else. Strings are never looked into."""

from __future__ import annotations

import ast
import re
import threading
import warnings
from collections.abc import Iterator

# Strings first, so that a comment's sign inside one is never seen. What is not closed runs to the end of
# the text.
_QUOTED = "|".join(
    (
        r'"""(?:\\.|[^\\])*?(?:"""|\Z)',
        r"\'\'\'(?:\\.|[^\\])*?(?:\'\'\'|\Z)",
        r'"(?:\\.|[^"\\\n])*"',
        r"'(?:\\.|[^'\\\n])*'",
        r"`(?:\\.|[^`\\])*(?:`|\Z)",
    )
)
_HASH = re.compile(rf"(?s:{_QUOTED})|(?P<comment>#[^\n]*)")
_SLASH = re.compile(rf"(?s:{_QUOTED})|(?P<comment>//[^\n]*|/\*(?s:.*?)(?:\*/|\Z))")
_DASH = re.compile(rf"(?s:{_QUOTED})|(?P<comment>--[^\n]*)")
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
_PARSE_UP_TO = 400_000  # characters; the parser's time and memory for more are out of proportion


def comment_lines(text: str) -> Iterator[tuple[int, int]]:
    """Comments that have their lines to themselves and are no instructions to a tool, as character spans."""
    pattern = _family(text)
    if pattern is None:
        return
    for found in pattern.finditer(text):
        if found.group("comment") is None or _PRAGMA.match(found.group()):
            continue
        start, end = found.span()
        before = text[text.rfind("\n", 0, start) + 1 : start]
        after_end = text.find("\n", end)
        after = text[end : after_end if after_end >= 0 else len(text)]
        # A block comment of several lines would have to go whole; short of that its signs would be lost.
        if not before.strip() and not after.strip() and "\n" not in found.group():
            yield start, end


def check_code(original: str, shortened: str) -> str:
    """The lines that are no comments must all be there; Python must still mean the same."""
    if _code_lines(original) != _code_lines(shortened):
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


def _code_lines(text: str) -> list[str]:
    dropped = set()
    for start, _ in comment_lines(text):
        dropped.add(text.count("\n", 0, start))
    return [
        line.rstrip() for index, line in enumerate(text.split("\n")) if line.strip() and index not in dropped
    ]


def _family(text: str) -> re.Pattern[str] | None:
    """How the language writes comments; None when that is not clear."""
    sample = text[:20_000]
    counts = {
        _HASH: len(_HASH_SIGNS.findall(sample)),
        _SLASH: len(_SLASH_SIGNS.findall(sample)),
        _DASH: len(_DASH_SIGNS.findall(sample)),
    }
    best = max(counts, key=lambda pattern: counts[pattern])
    if not counts[best] or sorted(counts.values())[-2] * 2 > counts[best]:
        return None
    if best is not _SLASH and _HERE_DOCUMENT.search(text):
        return None  # lines of a here document may begin with a comment's sign
    return best
