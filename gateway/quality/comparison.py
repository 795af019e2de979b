"""How far two answers to one question agree, 0..1: exact for tool calls and JSON, by meaning for prose."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from compressor.engine.protocol import ScoringEngine
from compressor.errors import CompressorError
from gateway.quality.replies import Said

Kind = Literal["tool-calls", "json", "prose", "judged"]
Judge = Callable[
    [str, str, str], Awaitable[float | None]
]  # (question, answer A, answer B) -> 0..1, None: no verdict

# The encoder's window; of longer answers the beginnings are compared.
_COMPARED_CHARACTERS = 2000
# Digits with what is written into them: 1,250.75, 2026-11-22, 10:30, v1.2.3 (as "1.2.3").
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")
_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n?```\s*\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two answers were compared, and how far they agree."""

    kind: Kind
    score: float


async def compare(
    original: Said, other: Said, engine: ScoringEngine, *, question: str = "", judge: Judge | None = None
) -> Agreement | None:
    """How far `other` agrees with `original`. None when it cannot be told: the encoder is not there.

    Tool calls and JSON agree or do not. Prose agrees by the encoder's similarity, in equal parts with the
    share of numbers that both state: an encoder hardly tells 42 from 43. A judge, where there is one,
    decides alone.
    """
    if original.calls or other.calls:
        return Agreement("tool-calls", float(sorted(original.calls) == sorted(other.calls)))
    left, right = _json_in(original.text), _json_in(other.text)
    if left is not None:
        return Agreement("json", float(left == right))
    if original.text.strip() == other.text.strip():
        return Agreement("prose", 1.0)
    if judge is not None:
        verdict = await judge(question, original.text, other.text)
        if verdict is not None:
            return Agreement("judged", verdict)
    return await _prose(original.text, other.text, engine)


async def _prose(left: str, right: str, engine: ScoringEngine) -> Agreement | None:
    if not left.strip() or not right.strip():
        return Agreement("prose", 0.0)
    first, second = left[:_COMPARED_CHARACTERS], right[:_COMPARED_CHARACTERS]
    try:
        # The answer against itself is the encoder's own idea of "the same".
        itself, other = (await engine.rank(first, [first, second])).tolist()
    except CompressorError:
        return None
    if itself <= 0:
        return None
    similarity = min(1.0, other / itself)
    numbers = _shared_numbers(left, right)
    return Agreement("prose", similarity if numbers is None else (similarity + numbers) / 2)


def _shared_numbers(left: str, right: str) -> float | None:
    """Share of the numbers in either answer that stand in both; None when there are none."""
    first, second = set(_NUMBER.findall(left)), set(_NUMBER.findall(right))
    either = first | second
    return len(first & second) / len(either) if either else None


def _json_in(text: str) -> Any:
    """The object or list that the whole text is, fenced or not; None for anything else."""
    fenced = _FENCE.match(text)
    body = (fenced[1] if fenced else text).strip()
    if body[:1] not in ("{", "["):
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
