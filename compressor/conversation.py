"""Conversations for the library: which texts of OpenAI's and Anthropic's messages may be shortened.

System messages, tool calls, images and whatever carries `cache_control` stay as they are, and so does the
live instruction: the last user message whole while it is short, of a longer one its opening and closing
paragraphs.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compressor.errors import InvalidOption
from compressor.shapes import Span
from compressor.text.tokens import TokenCounter

# A last user message below this many tokens is an instruction; above, a document was pasted into it.
SHORT_INSTRUCTION = 1024
_WHOLE_ROLES = frozenset({"system", "developer"})
_PARAGRAPH = re.compile(r"\n[ \t]*\n")


@dataclass(frozen=True, slots=True)
class Part:
    """One text of a conversation and its place."""

    path: tuple[int | str, ...]  # into the list of messages
    text: str
    whole: bool
    stay: tuple[Span, ...] = ()


def take_apart(messages: Sequence[Mapping[str, Any]], counter: TokenCounter) -> list[Part]:
    """The texts of a conversation, in order. Raises InvalidOption for what is no list of messages."""
    parts: list[Part] = []
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise InvalidOption(f"messages[{index}]: expected an object with a role")
        whole = message["role"] in _WHOLE_ROLES or "cache_control" in message
        parts += _texts(message.get("content"), (index, "content"), whole)
    last = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=-1)
    own = [i for i, part in enumerate(parts) if part.path[0] == last and "tool_result" not in part.path]
    if own:
        _keep_instruction(parts, own, counter)
    return parts


def put_back(
    messages: Sequence[Mapping[str, Any]], parts: Sequence[Part], texts: Sequence[str]
) -> list[dict[str, Any]]:
    """The conversation with these texts in the places of the parts. What came in is not changed."""
    result = [copy.deepcopy(dict(message)) for message in messages]
    for part, text in zip(parts, texts, strict=True):
        holder: Any = result
        path = [step for step in part.path if step != "tool_result"]
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = text
    return result


def _texts(content: object, path: tuple[int | str, ...], whole: bool) -> list[Part]:
    if isinstance(content, str):
        return [Part(path, content, whole)]
    parts: list[Part] = []
    if isinstance(content, list):
        for index, block in enumerate(content):
            if not isinstance(block, Mapping):
                continue
            kept = whole or "cache_control" in block
            if block.get("type") in ("text", "input_text", "output_text") and isinstance(
                block.get("text"), str
            ):
                parts.append(Part((*path, index, "text"), block["text"], kept))
            elif block.get("type") == "tool_result":
                parts += _texts(block.get("content"), (*path, index, "tool_result", "content"), kept)
    return parts


def _keep_instruction(parts: list[Part], own: Sequence[int], counter: TokenCounter) -> None:
    if sum(counter.count_many([parts[index].text for index in own])) < SHORT_INSTRUCTION:
        for index in own:
            parts[index] = Part(parts[index].path, parts[index].text, True)
        return
    for index, opening, closing in ((own[0], True, own[0] == own[-1]), (own[-1], own[0] == own[-1], True)):
        part = parts[index]
        parts[index] = Part(part.path, part.text, part.whole, _edges(part.text, opening, closing))


def _edges(text: str, opening: bool, closing: bool) -> tuple[Span, ...]:
    """The first and last paragraph; one that is no instruction but the document itself has no edge."""
    breaks = [found.span() for found in _PARAGRAPH.finditer(text.rstrip())]
    if not breaks:
        return ()
    edges = []
    if opening:
        edges.append(Span(0, breaks[0][0]))
    if closing:
        edges.append(Span(breaks[-1][1], len(text)))
    return tuple(edges)
