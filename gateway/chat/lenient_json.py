"""Writes what orjson refuses: JSON allows unpaired surrogates, as escapes, and numbers of any size."""

from __future__ import annotations

import json
from typing import Any

import orjson


def write_json(value: Any) -> bytes:
    """The value as JSON; with an unpaired surrogate or a huge number in it, in ASCII."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def speakable(text: str) -> str:
    """The text with a replacement character for each unpaired surrogate."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
