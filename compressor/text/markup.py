"""Where code, JSON, tags and tables stand in a text, as character spans. Every search takes linear time."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from compressor.text.json_reading import JsonReader, NotJson
from compressor.text.kinds import CODE_LINE
from compressor.text.line_heads import line_starts, match_at
from compressor.text.searching import find_all, find_short, stands_in
from compressor.text.tallies import spans_of, true_at
from compressor.text.words import cover

Place = tuple[int, int]
_FENCE = re.compile(r"^[ \t>]*(`{3,}|~{3,})[^\n]*$", re.MULTILINE)
# A block, or a piece of one: it may be the whole of a text.
_INDENTED = re.compile(r"^(?: {4,}|\t+)\S[^\n]*(?:\n+(?: {4,}|\t+)\S[^\n]*){0,50}", re.MULTILINE)
_NO_FEED = re.compile(r"[^\n]")
_INLINE_CODE = re.compile(r"(?<!`)(`{1,2})(?!`)[^`\n]{1,500}\1(?!`)")
_LONGEST_CODE = 600
_TABLE_ROW = re.compile(r"^[ \t>]*\|[^\n]*\|[ \t]*$", re.MULTILINE)
_TABLE_RULE = re.compile(r"^[ \t>|]*:?-{2,}:?[ \t]*(?:\|[ \t]*:?-{2,}:?[ \t]*)+\|?[ \t]*$", re.MULTILINE)
_JSON_OPENING = re.compile(r"\{(?=\s*[\"}])|\[(?=\s*[\"\[{\]\-\dtfn])")
_BEFORE_JSON = frozenset(" \t\r\n:=(>,")
# Characters that failed attempts to read JSON may look at, per character of the text: keeps a text of "[ [ ["
# linear. Reached by nothing but such texts.
_JSON_WORK = 4


def fence_spans(text: str, lines: NDArray[np.int64]) -> Iterator[Place]:
    """Fenced code blocks with their fences; one that is never closed runs to the end."""
    opened: re.Match[str] | None = None
    if not (stands_in(text, "```") or stands_in(text, "~~~")):
        return
    for line in match_at(_FENCE, text, lines):
        mark = line.group(1)
        if opened is None:
            opened = line
        elif (
            mark[0] == opened.group(1)[0] and len(mark) >= len(opened.group(1)) and line.end(1) == line.end()
        ):
            yield opened.start(), line.end()
            opened = None
    if opened is not None:
        yield opened.start(), len(text)


def code_spans(text: str, codes: NDArray[np.uint32]) -> Iterator[Place]:
    """Fenced blocks, indented blocks that look like code, and inline code.

    `codes` are the text's characters, [characters].
    """
    lines = line_starts(codes)
    first = codes[lines[lines < len(codes)]]
    yield from _indented_code(text, lines[: len(first)][(first == ord(" ")) | (first == ord("\t"))])
    if stands_in(text, "`") or stands_in(text, "~~~"):
        yield from fence_spans(text, lines)
        for code in find_short(_INLINE_CODE, text, _LONGEST_CODE):
            yield code.span()


def _indented_code(text: str, places: NDArray[np.int64]) -> Iterator[Place]:
    begins = text.startswith(("    ", "\t"))
    if not (begins or stands_in(text, "\n    ") or stands_in(text, "\n\t")):
        return
    start = end = lines = coded = 0  # of the block so far; all of a text may be one
    for found in match_at(_INDENTED, text, places):
        if lines and end + 1 < found.start() and _NO_FEED.search(text, end, found.start()):
            if coded >= 0.5 * lines:
                yield start, end
            lines = coded = 0
        if not lines:
            start = found.start()
        end = found.end()
        piece = [line for line in found.group().splitlines() if line.strip()]
        lines += len(piece)
        coded += sum(CODE_LINE.match(line) is not None or line.lstrip()[:1] in "$>{" for line in piece)
    if lines and coded >= 0.5 * lines:
        yield start, end


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
    lines = line_starts(codes)
    rows = spans_of(row.span() for row in match_at(_TABLE_ROW, text, lines))
    # The first row of a table is its header.
    headers = rows[rows[:, 0] > np.concatenate(([-2], rows[:-1, 1])) + 1]
    pipes = true_at(codes == ord("|"))
    pipes = pipes[cover(rows, len(codes))[pipes]]
    ruled = spans_of(
        (text.rfind("\n", 0, max(0, rule.start() - 1)) + 1, rule.end())
        for rule in match_at(_TABLE_RULE, text, lines)
    )
    return np.concatenate((headers, np.stack((pipes, pipes + 1), axis=1), ruled))
