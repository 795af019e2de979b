"""Where code, JSON, tags and tables stand in a text, as character spans. Every search takes linear time."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from compressor.text.json_reading import JsonReader, NotJson
from compressor.text.kinds import CODE_LINE
from compressor.text.searching import find_all, stands_in
from compressor.text.words import cover

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


def fence_spans(text: str) -> list[Place]:
    """Fenced code blocks with their fences; one that is never closed runs to the end."""
    spans: list[Place] = []
    opened: re.Match[str] | None = None
    if not (stands_in(text, "```") or stands_in(text, "~~~")):
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
    if stands_in(text, "`") or stands_in(text, "~~~"):
        spans += [*fence_spans(text), *(code.span() for code in _INLINE_CODE.finditer(text))]
    return spans


def _indented_code(text: str) -> list[Place]:
    spans: list[Place] = []
    begins = text.startswith(("    ", "\t"))
    if not (begins or stands_in(text, "\n    ") or stands_in(text, "\n\t")):
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
    if not (stands_in(text, "{") or stands_in(text, "[")):
        return spans
    work = _JSON_WORK * len(text) + 10_000
    reader = JsonReader(text)
    at = 0
    while (opening := next(find_all(_JSON_OPENING, text, "{[", at), None)) is not None and work > 0:
        start = opening.start()
        if start and text[start - 1] not in _BEFORE_JSON:
            at = start + 1
            continue
        try:
            at = reader.end_of_value(start)
        except NotJson as error:
            work -= max(1, error.place - start)
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


def table_spans(text: str, codes: NDArray[np.uint32]) -> NDArray[np.int64]:
    """What holds Markdown tables together: every `|` of their rows, rules, and header rows, [spans, 2].

    `codes` are the text's characters, [characters].
    """
    if not stands_in(text, "|"):
        return np.zeros((0, 2), np.int64)
    rows = np.asarray([row.span() for row in _TABLE_ROW.finditer(text)], np.int64).reshape(-1, 2)
    # The first row of a table is its header.
    headers = rows[rows[:, 0] > np.concatenate(([-2], rows[:-1, 1])) + 1]
    pipes = np.flatnonzero(codes == ord("|"))
    pipes = pipes[cover(rows, len(codes))[pipes]]
    rules = [
        (text.rfind("\n", 0, max(0, rule.start() - 1)) + 1, rule.end()) for rule in _TABLE_RULE.finditer(text)
    ]
    ruled = np.asarray(rules, np.int64).reshape(-1, 2)
    return np.concatenate((headers, np.stack((pipes, pipes + 1), axis=1), ruled))
