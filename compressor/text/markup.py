"""Where code, JSON, tags and tables stand in a text, as character spans. Every search takes linear time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from compressor.text.kinds import CODE_LINE
from compressor.text.words import TAG

Place = tuple[int, int]
_FENCE = re.compile(r"^[ \t>]*(`{3,}|~{3,})[^\n]*$", re.MULTILINE)
_INDENTED = re.compile(r"^(?: {4,}|\t+)\S[^\n]*(?:\n+(?: {4,}|\t+)\S[^\n]*)*", re.MULTILINE)
_INLINE_CODE = re.compile(r"(?<!`)(`{1,2})(?!`)[^`\n]{1,500}\1(?!`)")
_TABLE_ROW = re.compile(r"^[ \t>]*\|[^\n]*\|[ \t]*$", re.MULTILINE)
_TABLE_RULE = re.compile(r"^[ \t>|]*:?-{2,}:?[ \t]*(?:\|[ \t]*:?-{2,}:?[ \t]*)+\|?[ \t]*$", re.MULTILINE)
_JSON_OPENING = re.compile(r"\{(?=\s*[\"}])|\[(?=\s*[\"\[{\]\-\dtfn])")
_BEFORE_JSON = frozenset(" \t\r\n:=(>,")
# Characters that failed attempts to read JSON may look at, per character of the text: keeps a text of "[ [ ["
# linear. Reached by nothing but such texts.
_JSON_WORK = 4
_DECODER = json.JSONDecoder()


def fence_spans(text: str) -> list[Place]:
    """Fenced code blocks with their fences; one that is never closed runs to the end."""
    spans: list[Place] = []
    opened: re.Match[str] | None = None
    if "```" not in text and "~~~" not in text:
        return spans
    for line in _FENCE.finditer(text):
        mark = line.group(1)
        if opened is None:
            opened = line
        elif (
            mark[0] == opened.group(1)[0] and len(mark) >= len(opened.group(1)) and line.end(1) == line.end()
        ):
            spans.append((opened.start(), line.end()))
            opened = None
    if opened is not None:
        spans.append((opened.start(), len(text)))
    return spans


def code_spans(text: str) -> list[Place]:
    """Fenced blocks, indented blocks that look like code, and inline code."""
    spans = _indented_code(text)
    if "`" in text or "~~~" in text:
        spans += [*fence_spans(text), *(code.span() for code in _INLINE_CODE.finditer(text))]
    return spans


def _indented_code(text: str) -> list[Place]:
    spans: list[Place] = []
    if not ("\n    " in text or "\n\t" in text or text.startswith(("    ", "\t"))):
        return spans
    for block in _INDENTED.finditer(text):
        lines = [line for line in block.group().splitlines() if line.strip()]
        coded = sum(CODE_LINE.match(line) is not None or line.lstrip()[:1] in "$>{" for line in lines)
        if coded >= 0.5 * len(lines):
            spans.append(block.span())
    return spans


def json_spans(text: str) -> list[Place]:
    """JSON objects and arrays that stand in the text and parse, outermost ones only."""
    spans: list[Place] = []
    if "{" not in text and "[" not in text:
        return spans
    work = _JSON_WORK * len(text) + 10_000
    at = 0
    while (opening := _JSON_OPENING.search(text, at)) is not None and work > 0:
        start = opening.start()
        if start and text[start - 1] not in _BEFORE_JSON:
            at = start + 1
            continue
        try:
            _, at = _DECODER.raw_decode(text, start)
        except json.JSONDecodeError as error:
            work -= max(1, error.pos - start)
            at = start + 1
        except RecursionError:
            work -= 2_000  # the decoder's depth
            at = start + 1
        except ValueError:  # an integer of more digits than Python converts
            work -= 5_000
            at = start + 1
        else:
            spans.append((start, at))
    return spans


def tag_spans(text: str) -> Iterator[Place]:
    """HTML and XML tags, comments and declarations."""
    if "<" in text and ">" in text:
        for tag in TAG.finditer(text):
            yield tag.span()


def table_spans(text: str) -> list[Place]:
    """What holds Markdown tables together: every `|` of their rows, rules, and header rows."""
    if "|" not in text:
        return []
    spans: list[Place] = []
    end_of_last = -2
    for row in _TABLE_ROW.finditer(text):
        if row.start() > end_of_last + 1:
            spans.append(row.span())  # the first row of a table is its header
        end_of_last = row.end()
        spans += [(at, at + 1) for at in range(row.start(), row.end()) if text[at] == "|"]
    for rule in _TABLE_RULE.finditer(text):
        header = text.rfind("\n", 0, max(0, rule.start() - 1)) + 1
        spans.append((header, rule.end()))
    return spans
