"""JSON that was read long ago: what its members and elements only repeat is left out, and it still parses.

Nothing of a value changes: whole members and elements go, with their commas. A pure function of the text.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from compressor.text.json_text import loose_spaces
from compressor.text.line_text import tells_trouble

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+', re.DOTALL)
_EMPTY = frozenset({"null", '""', "[]", "{}"})
_URL = re.compile(r'"[a-z][a-z0-9+.\-]{1,15}://', re.IGNORECASE)
_SAME_FORM = 2  # siblings of one form that stay, beside the last
_SAME_TROUBLE = 2  # further siblings of one form that stay since they speak of trouble
_SCALARS = 8  # an array of more figures or names keeps its ends
_DEEPEST = 200
_OPENS = {"]": "[", "}": "{"}
_FORM_DEPTH = 2  # levels that are compared


@dataclass(slots=True)
class _Item:
    """A value with its key, if it has one."""

    start: int
    end: int = -1
    key: str = ""
    value_start: int = -1
    opens: str = ""  # "{" or "[" of a container
    items: list[_Item] = field(default_factory=list)
    commas: list[int] = field(default_factory=list)  # commas[i] stands behind items[i]
    whole: bool = True  # False: the text ends inside of it


def thin_json(text: str) -> list[tuple[int, int]]:
    """The slices of a JSON document that stay; none when the text is no document and no beginning of one.

    Of siblings of one form (the same keys) the first two and the last stay, and two that speak of an error;
    members that say nothing (null, empty) and all URLs of an object but the first go, as does the layout.
    """
    root = _read(text)
    if root is None:
        return []
    gone = sorted([*_left_out(root, text), *loose_spaces(text)])
    kept, at = [], 0
    for start, end in gone:
        if start > at:
            kept.append((at, start))
        at = max(at, end)
    return [*kept, (at, len(text))] if at < len(text) else kept


def _read(text: str) -> _Item | None:
    """The places of everything in a document, which may be cut off at its end; None when it is none."""
    root = _Item(0)
    open_items: list[_Item] = [root]
    current: _Item | None = None  # whose key was read, but no value yet
    for found in _TOKEN.finditer(text):
        sign = found.group()
        parent = open_items[-1]
        if sign == ",":
            parent.commas.append(found.start())
        elif sign in "]}":
            open_items.pop()
            parent.end = found.end()
            if parent.opens != _OPENS[sign] or current is not None:
                return None
        elif sign == ":":
            continue
        elif parent.opens == "{" and current is None:
            current = _Item(found.start(), key=sign)
        else:
            item = current or _Item(found.start())
            current = None
            item.value_start, item.end = found.start(), found.end()
            parent.items.append(item)
            if sign in "[{":
                item.opens = sign
                open_items.append(item)
        if len(open_items) > _DEEPEST or len(parent.items) - len(parent.commas) not in (0, 1):
            return None
    for item in open_items:
        item.end, item.whole = len(text), item is root
    return root.items[0] if len(root.items) == 1 and root.items[0].opens else None


def _left_out(item: _Item, text: str) -> Iterator[tuple[int, int]]:
    """The characters of the members and elements that go, each with one comma."""
    stack = [item]
    while stack:
        parent = stack.pop()
        stays = _staying(parent, text)
        last = max((i for i, stay in enumerate(stays) if stay), default=-1)
        for index, (child, stay) in enumerate(zip(parent.items, stays, strict=True)):
            if stay:
                stack.append(child)
            elif index < last:
                yield child.start, parent.commas[index] + 1
        if 0 <= last < len(parent.items) - 1:
            yield parent.commas[last], parent.items[-1].end
        elif last < 0 and parent.items:
            yield parent.items[0].start, parent.items[-1].end


def _staying(parent: _Item, text: str) -> list[bool]:
    """Which children of a container stay."""
    children = parent.items
    if parent.opens == "[" and len(children) > _SCALARS and not any(child.opens for child in children):
        return [i <= _SAME_FORM or i == len(children) - 1 for i in range(len(children))]
    stays = [True] * len(children)
    if children and parent.opens == "{":
        stays = _speaking(children, text)
        stays[-1] |= not parent.whole
    alike: defaultdict[str, list[int]] = defaultdict(list)
    for index, child in enumerate(children):
        if child.opens:
            alike[_form(child, text, _FORM_DEPTH)].append(index)
    for indices in alike.values():
        trouble = 0
        for index in indices[_SAME_FORM:-1]:
            stays[index] = trouble < _SAME_TROUBLE and tells_trouble(
                text[children[index].start : children[index].end]
            )
            trouble += stays[index]
    return stays


def _speaking(members: list[_Item], text: str) -> list[bool]:
    """Which members of an object say something: all but empty ones, and URLs behind the first."""
    stays, urls = [], 0
    for member in members:
        value = text[member.value_start : min(member.end, member.value_start + 40)]
        url = _URL.match(value) is not None
        stays.append(value not in _EMPTY and not (url and urls))
        urls += url
    return stays


def _form(item: _Item, text: str, depth: int) -> str:
    """What siblings of one form have in common: their keys; of arrays, what their first element is."""
    if not item.opens:
        return "."
    if depth == 0:
        return item.opens
    if item.opens == "[":
        return f"[{_form(item.items[0], text, depth - 1)}]" if item.items else "[]"
    return "{" + ",".join(sorted(child.key for child in item.items)) + "}"
