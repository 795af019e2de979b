"""What kind of text a string is, by its looks. Only clear cases are told; everything else is prose."""

from __future__ import annotations

import re
from itertools import pairwise

from compressor.text.json_reading import is_document
from compressor.text.searching import lines_of
from compressor.text.words import TAG, looks_like_json

KINDS = ("prose", "code", "json", "log", "diff", "table", "html", "markdown", "base64", "stack-trace")

# Lines are judged on a sample: the first so many characters.
_SAMPLE = 20_000
_BASE64 = re.compile(
    r"(?:data:[\w/+.\-]{1,60};base64,)?[A-Za-z0-9+/_\-]{60,}(?:\s+[A-Za-z0-9+/_\-]+)*={0,2}\s*\Z"
)
_JSON_KEY = re.compile(r'"[^"\n]{1,80}"\s*:\s*["\[{\dtfn-]')
_DIFF = re.compile(
    r"^(?:diff --git |index [0-9a-f]{7,}\.\.|@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@|Index: \S)", re.MULTILINE
)
_TRACE = re.compile(
    r"Traceback \(most recent call last\)|^[ \t]+at [\w$.<>/]+ ?\(.*\)$|^[ \t]+at \S+:\d+"
    r"|^[ \t]+File \".+\", line \d+|^goroutine \d+ \[|^[ \t]*#\d+\s+0x[0-9a-f]+|^Caused by: "
    r"|^[ \t]+from .+:\d+:in ",
    re.MULTILINE,
)
# These are found only where lines begin, but for what stands next to one of these marks.
_DIFF_MARKS, _TRACE_MARKS, _MARKDOWN_MARKS = (), ("Traceback (most recent call last)",), ("](", "**")
_HTML_HEAD = re.compile(
    r"\s*<(?:!doctype|html|\?xml|(?:head|body|div|table|section|article|svg|rss|feed)\b)", re.IGNORECASE
)
_LOG_LINE = re.compile(
    r"\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d|\[?\d\d:\d\d:\d\d|\[?\d{1,2}/\w{3}/\d{4}"
    r"|[A-Z][a-z]{2} +\d{1,2} \d\d:\d\d:"
    r"|\[?(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL)\b|\S+ - - \[|\d{6} \d{6} "
    r"|[IWEF]\d{4} \d\d:|[\w./\-]+:\d+(?::\d+)?:|\d{10}(?:\.\d+)? |- \d{10} "
    r"|.{0,40}?\b\d\d:\d\d:\d\d\b|.{0,60}?\b1\d{9}\b"  # a clock or a Unix time near the beginning
)
CODE_LINE = re.compile(
    r"[ \t]*(?:(?:async )?def \w+\(|class \w+[(:{ ]|import [\w.{*]|from [\w.]+ import "
    r"|(?:export |public |private |static |async )*"
    r"(?:function|const|let|var|fn|func|interface|struct|enum|impl|trait|namespace)\b"
    r"|#include\b|#define\b|using [\w:.]+;|package [\w.]+;?$"
    r"|(?:if|for|while|switch|else if|elif|except|catch)\b.*[:{]$|else:?\s*\{?$|try:?\s*\{?$|return\b.*"
    r"|\}[;,)]*$|\{$|@\w+|[\w.\[\]\"']+ (?:[+\-*/|&]?=|:=) .+|[\w.]+\(.*\)[;:]?$|.*[;{]$|//|/\*|\*/|# )"
)
_CODE_HEAD = re.compile(
    r"\s*(?:#!|r?\"\"\"|r?'''|#[^#!]|//|/\*|import |from \w|package |use |using |#include|<\?php"
    r"|['\"]use strict)"
)
# What tools put in front of a file's lines: "12:code", "    12\tcode", "12→code", "12| code".
_NUMBERED = re.compile(r"[ \t]{0,8}(\d{1,6})(?::|\t|→|\||  )(?=(.*))")
# What ends with a comma or opens something is JSON, which is told by itself and may stand in prose.
_YAML_KEY = re.compile(r"[ ]*(?:- )?[\w.\-/\"'$]+:(?:[ \t](?!.*[,{\[]\s*$)|$)")
_MARKDOWN = re.compile(
    r"^(?:#{1,6} \S|```|~~~|[-*+] \S|\d{1,3}\. \S|> |\|.*\|[ \t]*$|={3,}$|-{3,}$)"
    r"|\[[^\[\]\n]+\]\((?:\w+:/|mailto:|[./#]|[\w\-]+[./])[^()\s]*\)|\*\*\S",
    re.MULTILINE,
)


def detect_kind(text: str) -> str:
    """One of KINDS. Pure, and linear in the text; only JSON and base64 are read to their end."""
    if len(text) < 40:
        return "prose"
    sample = text[:_SAMPLE]
    if looks_like_json(text) and (_is_json(text) or _is_json_fragment(sample)):
        return "json"
    if len(text) > 200 and _is_base64(text):
        return "base64"
    lines = [line for line in sample.splitlines() if line.strip()]
    return "code" if _is_listing(lines) else _kind_of_lines(sample, lines)


def _kind_of_lines(sample: str, lines: list[str]) -> str:
    if _matches(_DIFF, sample, _DIFF_MARKS) >= 2 or ("\n+++ " in sample and "\n@@ " in sample):
        return "diff"
    if len(lines) >= 4 and _at_least(0.6, _LOG_LINE, lines):
        return "log"
    traces = _matches(_TRACE, sample, _TRACE_MARKS)
    if traces >= 3 and traces * 4 >= len(lines):
        return "stack-trace"
    if _is_html(sample):
        return "html"
    if _is_table(lines):
        return "table"
    if _is_settings(lines) or _is_code(sample, lines):
        return "code"
    marks = _matches(_MARKDOWN, sample, _MARKDOWN_MARKS)
    return "markdown" if marks >= 3 and marks * 8 >= len(lines) else "prose"


def _matches(pattern: re.Pattern[str], sample: str, marks: tuple[str, ...]) -> int:
    """How often a pattern is found that begins lines, but for places where one of these marks stands."""
    if any(mark in sample for mark in marks):
        return len(pattern.findall(sample))
    return sum(pattern.match(line) is not None for line in sample.split("\n"))


def _at_least(share: float, pattern: re.Pattern[str], lines: list[str]) -> bool:
    """Whether this share of the lines begins like that. Ends as soon as that is decided."""
    misses = 0
    for line in lines:
        if pattern.match(line) is None:
            misses += 1
            if (len(lines) - misses) / len(lines) < share:
                return False
    return True


def _is_json(text: str) -> bool:
    """One document, or one a line."""
    if is_document(text):
        return True
    lines = 0
    for line in lines_of(text):
        if line.strip():
            lines += 1
            if line.lstrip()[:1] not in ("{", "[") or not is_document(line):
                return False
    return lines > 1


def _is_json_fragment(sample: str) -> bool:
    """The beginning of a document (cut off, as tools do), or several in a row."""
    return len(_JSON_KEY.findall(sample)) >= max(3, 0.4 * (sample.count("\n") + 1))


def _is_base64(text: str) -> bool:
    head = text[:_SAMPLE].strip()
    if not _BASE64.match(head[:-1] if len(text) > _SAMPLE else head):
        return False
    body = head.rpartition(",")[2]
    longest = max((len(part) for part in body.split()), default=0)
    return longest >= 60 and any(c.isdigit() for c in body) and body.lower() != body and body.upper() != body


def _is_html(sample: str) -> bool:
    if "<" not in sample:
        return False
    tags = sum(end - start for start, end in (tag.span() for tag in TAG.finditer(sample)))
    return (_HTML_HEAD.match(sample) is not None and tags > 20) or tags > 0.25 * len(sample)


def _is_table(lines: list[str]) -> bool:
    if len(lines) < 3:
        return False
    for sign, fewest in (("|", 2), ("\t", 1), (",", 2), (";", 2)):
        counts = [line.count(sign) for line in lines]
        usual = max(set(counts), key=counts.count)
        if usual >= fewest and counts.count(usual) >= 0.9 * len(counts):
            # Sentences have commas too: cells are short, and lines do not end like sentences.
            cells = [cell for line in lines for cell in line.split(sign)]
            short = sum(len(cell.split()) <= 6 for cell in cells) >= 0.8 * len(cells)
            sentences = sum(line.rstrip()[-1] in ".!?。" for line in lines)
            if sign == "|" or (short and sentences < 0.2 * len(lines)):
                return True
    return False


def _is_listing(lines: list[str]) -> bool:
    """Whether most lines are numbered one after the other, and hold code."""
    numbered = [found for line in lines if (found := _NUMBERED.match(line))]
    if len(numbered) < 4 or len(numbered) < 0.5 * len(lines):
        return False
    numbers = [int(found[1]) for found in numbered]
    following = sum(after == before + 1 for before, after in pairwise(numbers))
    code = [found[2] for found in numbered if found[2].strip()]
    return following >= 0.8 * (len(numbers) - 1) and bool(code) and _at_least(0.3, CODE_LINE, code)


def _is_settings(lines: list[str]) -> bool:
    """YAML: keys, some of them under others, list items and comments."""
    keys = sum(_YAML_KEY.match(line) is not None for line in lines)
    nested = sum(line.startswith("  ") and _YAML_KEY.match(line) is not None for line in lines)
    rest = sum(line.lstrip().startswith(("#", "- ", "---")) and not _YAML_KEY.match(line) for line in lines)
    return len(lines) >= 6 and nested >= 0.2 * len(lines) and keys + rest >= 0.8 * len(lines)


def _is_code(sample: str, lines: list[str]) -> bool:
    if len(lines) < 3 or "```" in sample:
        return False
    signs = sum(sample.count(sign) for sign in "{}();=<>[]_") / len(sample)
    if signs < 0.02:
        return False
    # Files full of docstrings have fewer lines of code, but begin with some; documentation does not.
    return _at_least(0.3 if _CODE_HEAD.match(sample) else 0.5, CODE_LINE, lines)
