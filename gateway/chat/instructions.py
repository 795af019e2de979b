"""Where instructions stand in a text: tagged passages, a live turn's opening and closing paragraphs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from compressor.text.searching import begin_of, end_of, find_short, stands_in

# Tags that clients put around words meant for the model itself; what they hold is an instruction, not
# material.
_TAGS = (
    "system-reminder|system_reminder|system|instruction|instructions|rules|important|critical|task|question|query"
    "|user_query|user-query|user-message|user_message|goal|output_format|output-format|format|constraints"
    "|command-name|command-message|command-args|environment_details|environment_context|env"
)
_INITIALS = "".join(sorted({name[0] for name in _TAGS.split("|")}))
# What looks ahead says nothing new: it passes by the tags of HTML nine times as fast.
_TAG = re.compile(rf"<(/?)(?=[{_INITIALS}][a-z_-]*[\s>])({_TAGS})(?:\s[^<>]{{0,500}})?>", re.IGNORECASE)
_LONGEST_TAG = 600
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
_SENTENCE_END = re.compile(r"(?<=[.!?。！？…])[\"'”’)\]]*(?=\s|[^\x00-\u02ff])|\n")

# An opening or closing paragraph longer than this holds the document itself (some 300 tokens of English): of
# such a one only its outer sentences are taken for the instruction.
_LONGEST_INSTRUCTION = 1200
_NEAR = 64 * 1024


@dataclass(frozen=True, slots=True)
class Kept:
    """`text[start:end]` must stay, because of `reason`."""

    start: int
    end: int
    reason: str


def tagged_passages(text: str) -> list[Kept]:
    """Passages in instruction tags (`<system-reminder>` and its like), tags included; in linear time."""
    if not stands_in(text, "</"):
        return []
    found: list[Kept] = []
    opened: dict[str, int] = {}  # name -> where its first tag stands that is not closed yet
    for tag in find_short(_TAG, text, _LONGEST_TAG):
        name = tag[2].lower()
        if not tag[1]:
            opened.setdefault(name, tag.start())
        elif name in opened:
            found.append(Kept(opened[name], tag.end(), "instruction-tag"))
            opened.clear()
    return found


def opening(text: str) -> Kept:
    """The first paragraph; of one too long for an instruction, its first sentences."""
    start = begin_of(text)
    blank = _BLANK_LINE.search(text, start, start + _NEAR)  # one further on changes nothing
    end = blank.start() if blank else len(text)
    if end - start > _LONGEST_INSTRUCTION:
        ends = [found.end() for found in _SENTENCE_END.finditer(text, start, start + _LONGEST_INSTRUCTION)]
        # Without any sentence end nothing can be told apart; a fixed piece, cut at a space, has to do.
        end = ends[0] if ends else _space_before(text, start, start + _LONGEST_INSTRUCTION // 4)
    return Kept(0, end, "instruction")


def closing(text: str) -> Kept:
    """The last paragraph; of one too long for an instruction, its last sentences."""
    end = end_of(text)
    start = 0
    for blank in _BLANK_LINE.finditer(text, max(0, end - 8 * _LONGEST_INSTRUCTION), end):
        start = blank.end()
    if end - start > _LONGEST_INSTRUCTION:
        floor = end - _LONGEST_INSTRUCTION
        starts = [found.end() for found in _SENTENCE_END.finditer(text, floor, end) if found.end() < end - 1]
        start = starts[-1] if starts else _space_after(text, end - _LONGEST_INSTRUCTION // 4, end)
    return Kept(start, len(text), "instruction")


def merge(text: str, kept: Iterable[Kept]) -> list[Kept]:
    """Passages in order, without overlap, each with the white space around it: no separator is lost."""
    merged: list[Kept] = []
    for each in sorted(kept, key=lambda passage: (passage.start, -passage.end)):
        start, end = each.start, each.end
        while start > 0 and text[start - 1].isspace():
            start -= 1
        while end < len(text) and text[end].isspace():
            end += 1
        if merged and start <= merged[-1].end:
            last = merged[-1]
            merged[-1] = Kept(last.start, max(last.end, end), last.reason)
        elif end > start:
            merged.append(Kept(start, end, each.reason))
    return merged


def _space_before(text: str, start: int, end: int) -> int:
    space = text.rfind(" ", start, end)
    return space if space > start else end


def _space_after(text: str, start: int, end: int) -> int:
    space = text.find(" ", start, end)
    return space + 1 if space >= 0 else start
