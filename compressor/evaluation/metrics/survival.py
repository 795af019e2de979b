"""What of the hard facts is still in a shortened text: numbers, identifiers, URLs, negations, valid JSON.

The patterns are this module's own, on purpose: the compressor's protection must not mark its own work.
"""

from __future__ import annotations

import json
import re
from collections import Counter

URL = re.compile(r"https?://[^\s<>\"')\]、，。；：（）《》]+")
# Chinese, Japanese and Korean letters stand next to numbers and names without a space: no part of them.
NUMBER = re.compile(r"(?<![A-Za-z0-9_.])\d+(?:[.,:/\-]\d+)*(?![A-Za-z0-9_])")
IDENTIFIER = re.compile(
    r"(?a:(?<![\w])(?:"
    r"[A-Za-z_]\w*_\w+"  # snake_case
    r"|[a-z]+[A-Z]\w+"  # camelCase; two letters (pH) are a word
    r"|(?=\w*\d)(?=\w*[A-Za-z])\w{3,}(?:-\w+)*"  # a1b2, hashes, UUIDs, model numbers
    r")(?![\w]))"
)
NEGATION = re.compile(
    r"(?<!\w)(?:not|no|never|none|nor|neither|without|cannot|\w+n['’]t|nicht|kein(?:e[nmrs]?)?|nie|jamais|(?<!['’])ni(?!-)|sin|nunca"
    r"|не|нет|никогда|non(?!-)|senza|não)(?!\w)|不|没有|沒有|未|않|못하|없",
    re.IGNORECASE,
)
PATTERNS = {"numbers": NUMBER, "identifiers": IDENTIFIER, "urls": URL, "negations": NEGATION}


def facts(text: str, kind: str) -> Counter[str]:
    """Every occurrence of one kind of fact in the text."""
    return Counter(match.lower() for match in PATTERNS[kind].findall(text))


def survival(original: str, shortened: str) -> dict[str, tuple[int, int]]:
    """For each kind: (occurrences still there, occurrences in the original)."""
    result = {}
    for kind in PATTERNS:
        before = facts(original, kind)
        after = facts(shortened, kind)
        result[kind] = (sum((before & after).values()), sum(before.values()))
    return result


def is_json(text: str) -> bool:
    """Whether the text is a JSON object or array."""
    stripped = text.strip()
    if not stripped.startswith(("{", "[")):
        return False
    try:
        json.loads(stripped)
    except (json.JSONDecodeError, RecursionError):
        return False
    return True


NAME = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][a-z]+(?:\s[A-Z][a-z]+)*\b", re.MULTILINE)


def fact_recall(original: str, restored: str) -> float | None:
    """Share of the original's distinct numbers, identifiers, URLs and names that a restored text names again.

    None when the original has none of them.
    """
    wanted = set(NAME.findall(original))
    for kind in ("numbers", "identifiers", "urls"):
        wanted |= set(facts(original, kind))
    if not wanted:
        return None
    found = restored.lower()
    return sum(fact.lower() in found for fact in wanted) / len(wanted)
