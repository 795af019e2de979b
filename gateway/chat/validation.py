"""Looks at what is about to be sent: everything but the free strings must be what the client sent."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

import orjson

from compressor.text.json_reading import LONG, is_document
from compressor.text.json_text import check_json
from compressor.text.searching import begin_of, is_blank
from compressor.turns import in_turns
from gateway.chat.conversation import LEFT_OUT, Path
from gateway.chat.rebuild import string_at
from gateway.releasing import keep
from gateway.shapes import ParsedRequest

_MANY = 500  # elements: then others get their turn between them
Check = Callable[[str, str], bool]  # whether a text and its shortened form, looked at as wholes, go together
Passes = Callable[[str, str, Check], bool]  # the same, for one that need not look


def find_damage(
    request: ParsedRequest,
    body: bytes,
    changes: Mapping[Path, str],
    read: Any = None,
    aged: Container[Path] = (),
    passes: Passes = lambda before, after, check: check(before, after),
) -> str:
    """What is wrong with the shortened body, as a skip reason, or "" when nothing is.

    Everything but the strings at `changes` is equal, ids of tool calls among it; a changed string is the one
    that was meant, is not empty, and is still JSON with the same keys where it was JSON. `passes` may know
    that of a text and its shortened form.
    """
    try:
        sent = orjson.loads(body) if read is None else read  # what the body reads as, if somebody has read it
    except orjson.JSONDecodeError:
        return "invalid-json"
    difference = _difference(request.raw, sent, (), changes)
    if difference:
        return difference
    for path, text in changes.items():
        try:
            before, after = string_at(request.raw, path), string_at(sent, path)
        except (LookupError, TypeError):
            return "invalid-structure"
        if after != text or (is_blank(after) and not is_blank(before)):
            return "invalid-text"
        fits = part_of_json if path in aged else same_json
        if after != LEFT_OUT and _begins_json(before) and not passes(before, text, fits):
            return "invalid-json"
    return ""


def same_json(before: str, after: str) -> bool:
    """Whether a string that held JSON still does, with equal keys, lengths and values but for its strings."""
    if len(before) > LONG:
        was_json = _begins_json(before) and is_document(before)
        return not was_json or not check_json(before, after, shortest=0)
    return _still_json(before, after, _same_shape)


def part_of_json(before: str, after: str) -> bool:
    """Whether a string that held JSON still does, with some of its members and elements, in order; strings in
    it may have lost words.
    """
    return _still_json(before, after, _is_part)


def _still_json(before: str, after: str, agree: Callable[[Any, Any], bool]) -> bool:
    if before == after or not _begins_json(before):
        return True
    try:
        old = orjson.loads(before)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return True  # never was JSON
    try:
        return agree(old, orjson.loads(after))
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return False


def _begins_json(text: str) -> bool:
    return text[(at := begin_of(text)) : at + 1] in ("{", "[")


def _is_part(old: Any, new: Any) -> bool:
    if isinstance(old, str):
        return isinstance(new, str)
    if isinstance(old, dict):
        return isinstance(new, dict) and all(k in old and _is_part(old[k], v) for k, v in new.items())
    if isinstance(old, list):
        following = iter(old)
        return isinstance(new, list) and all(any(_is_part(o, n) for o in following) for n in new)
    return bool(type(old) is type(new) and old == new)


def _same_shape(old: Any, new: Any) -> bool:
    if isinstance(old, str):
        return isinstance(new, str)
    if isinstance(old, dict):
        return (
            isinstance(new, dict)
            and list(old) == list(new)
            and all(_same_shape(value, new[key]) for key, value in old.items())
        )
    if isinstance(old, list):
        return isinstance(new, list) and len(old) == len(new) and all(map(_same_shape, old, new))
    return bool(type(old) is type(new) and old == new)


def _difference(old: Any, new: Any, path: Path, changes: Mapping[Path, str]) -> str:
    """Compares down to the changed strings; the rest in one step, which is fast."""
    if path in changes:
        return "" if isinstance(new, str) else "invalid-structure"
    if not changes:
        return "" if old == new else "invalid-structure"
    if type(old) is not type(new) or not isinstance(old, dict | list) or len(old) != len(new):
        return "" if old == new and type(old) is type(new) else "invalid-structure"
    if isinstance(old, dict) and list(old) != list(new):
        return "invalid-structure"
    below: dict[str | int, dict[Path, str]] = {}
    for changed, text in changes.items():
        if len(changed) > len(path) and changed[: len(path)] == path:
            below.setdefault(changed[len(path)], {})[changed] = text
    keep(below)
    steps: Any = old if isinstance(old, dict) else range(len(old))
    for step in in_turns(steps) if len(steps) > _MANY else steps:
        difference = _difference(old[step], new[step], (*path, step), below.get(step, {}))
        if difference:
            return difference
    return ""
