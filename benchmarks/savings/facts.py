"""Whether what a conversation needs later is still in what is sent: figures, names and errors of old results.

Two questions. *Quoted*: what the recorded model says next, and could know only from a result that is not
among the newest three: is it still in the request? *Held*: of all figures, names and error lines of such
results, how many are in the last request at all, an error line by at least half of its words in a line that
still speaks of trouble? Recorded agents quote little from far back; the second question has no such luck.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from compressor.text.line_text import tells_trouble

NEWEST = 3  # results that masking leaves, too
_LONG = 1000  # characters from which a message of the user is material, as for masking
# A word with a digit, with a sign inside, or with a capital behind its first letter: a figure, an id, a path,
# a name in a program, an error.
_FACT = re.compile(
    r"(?<!\w)(?=[\w./:@#\-]*(?:\d|\w[./_:@#\-]\w|[a-z][A-Z]))\w[\w./:@#\-]*\w(?!\w)|(?<!\w)\d{2,}(?!\w)"
)
_SHORTEST = 3
_DIGITS = re.compile(r"\d+")


@dataclass
class Share:
    """So many of so many."""

    found: int = 0
    asked: int = 0

    def add(self, found: int, asked: int) -> None:
        """More of both."""
        self.found += found
        self.asked += asked

    def __str__(self) -> str:
        return f"{100 * self.found / self.asked:.0f} % of {self.asked}" if self.asked else ""


@dataclass
class Facts:
    """What is still there for one way of sending."""

    quoted: Share
    figures: Share
    errors: Share

    @classmethod
    def none(cls) -> Facts:
        """Nothing asked yet."""
        return cls(Share(), Share(), Share())

    def ask_quoted(self, original: dict[str, Any], sent: dict[str, Any], said: str) -> None:
        """What the model says next, from old material alone."""
        material = [text for _, text in material_of(original)]
        old = " ".join(material[:-NEWEST])
        if not old:
            return
        elsewhere = " ".join(_others(original)) + " ".join(material[-NEWEST:])
        wanted = {fact for fact in facts_in(said) if fact in old and fact not in elsewhere}
        now = " ".join(text for _, text in strings_of(sent))
        self.quoted.add(sum(fact in now for fact in wanted), len(wanted))

    def ask_held(self, original: dict[str, Any], sent: dict[str, Any]) -> None:
        """Everything that stood in old results, each asked for where it stood."""
        now = dict(strings_of(sent))
        for place, text in material_of(original)[:-NEWEST]:
            after = now.get(place, "")
            facts = facts_in(text)
            self.figures.add(len(facts & facts_in(after)), len(facts))
            errors, left = _error_lines(text), list(_error_lines(after))
            held = sum(any(2 * len(line & other) >= len(line) for other in left) for line in errors)
            self.errors.add(held, len(errors))


def facts_in(text: str) -> set[str]:
    """Figures, identifiers, paths and the like."""
    return {found for found in _FACT.findall(text) if len(found) >= _SHORTEST}


def _error_lines(text: str) -> set[frozenset[str]]:
    """The words of each line that speaks of trouble; lines that differ in figures only are one."""
    lines = (_DIGITS.sub("0", line) for line in text.splitlines() if tells_trouble(line))
    return {frozenset(line.split()) for line in lines}


def material_of(raw: dict[str, Any]) -> list[tuple[str, str]]:
    """Results of tools and long texts of the user, each by its place, in order."""
    return [(place, text) for place, text in strings_of(raw) if place.startswith("material")]


def _others(raw: dict[str, Any]) -> list[str]:
    return [text for place, text in strings_of(raw) if not place.startswith("material")]


def strings_of(raw: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every text of a request of either API, by its place; a shortened text has the place of its original."""
    for block in raw.get("system", ()):
        yield "system", block["text"]
    for number, message in enumerate(raw["messages"]):
        content = message["content"]
        blocks = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
        for position, block in enumerate(blocks):
            place = f"{number}.{position}"
            if block["type"] == "tool_result" or message["role"] == "tool":
                yield f"material {place}", block.get("content", block.get("text", ""))
            elif block["type"] == "text":
                yield place, block["text"]
            else:
                yield place, str(block)
        if message.get("tool_calls"):
            yield f"{number} calls", str(message["tool_calls"])
