"""Globs (`*`, `?`, `[ab]`), compiled once into the cheapest test that decides them. Case counts."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from functools import lru_cache

Test = Callable[[str], bool]


@lru_cache(maxsize=4096)
def compile_glob(glob: str) -> Test:
    """A function that says whether a name matches. `gpt-*` becomes one `startswith`, `*` nothing at all."""
    if glob == "*":
        return _anything
    body = glob[:-1] if glob.endswith("*") else glob
    if not any(sign in body for sign in "*?["):
        return body.__eq__ if body is glob or body == glob else _starts_with(body)
    return _full_match(glob)


def is_glob(text: str) -> bool:
    """Whether the text stands for more than itself."""
    return any(sign in text for sign in "*?[")


def _anything(_name: str) -> bool:
    return True


def _starts_with(prefix: str) -> Test:
    return lambda name: name.startswith(prefix)


def _full_match(glob: str) -> Test:
    pattern = re.compile(translate(glob))
    return lambda name: pattern.match(name) is not None
