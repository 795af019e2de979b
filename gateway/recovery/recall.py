"""From originals and a query to the passages that answer it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from compressor.engine.protocol import ScoringEngine
from compressor.engine.ranking import rank_by_words
from compressor.errors import CompressorError
from compressor.text.units import question_units

# About 1,500 tokens: what a model asks for is a fact or a section, not the document again.
RETURNED_CHARACTERS = 6000
# Passages that the encoder compares, the best by words among all: 40 took 0.7 s on two busy cores.
_RANKED_PASSAGES = 40
_RANK_SECONDS = 2.0
_WORD = re.compile(r"\w+")
NOTHING = "Nothing in the original texts matches; answer with what you have."
GAP = "\n[…]\n"


@dataclass(frozen=True, slots=True)
class _Passage:
    """A slice of one of the originals."""

    text: int
    start: int
    end: int


async def recall(query: str, originals: Sequence[str], engine: ScoringEngine) -> str:
    """The original passages that bear most on the query, verbatim, in their order, within the length.

    Ranked by shared words first, the best of those by the encoder; by words alone when the encoder is not
    there in time. An empty query gets the beginnings.
    """
    passages, best = await asyncio.to_thread(_by_words, query, originals)
    if query.strip():
        best = await _by_meaning(query, originals, passages, best, engine)
    chosen: list[_Passage] = []
    length = 0
    for index in best:
        passage = passages[index]
        if not chosen and passage.end - passage.start > RETURNED_CHARACTERS:
            passage = replace(passage, end=passage.start + RETURNED_CHARACTERS)
        if length + passage.end - passage.start > RETURNED_CHARACTERS:
            continue
        length += passage.end - passage.start
        chosen.append(passage)
    return _joined(chosen, originals) or NOTHING


def _by_words(query: str, originals: Sequence[str]) -> tuple[list[_Passage], list[int]]:
    """All passages, and the indices of the best by words (all of them, in order, without a query)."""
    passages = [
        _Passage(number, span.start, span.end)
        for number, text in enumerate(originals)
        for span in question_units(text).spans
    ]
    asked = _WORD.findall(query.lower())
    if not asked:
        return passages, list(range(len(passages)))
    ids: dict[str, int] = {}
    tokens = [
        [ids.setdefault(word, len(ids)) for word in _WORD.findall(_text(passage, originals).lower())]
        for passage in passages
    ]
    ranks = rank_by_words([ids.setdefault(word, len(ids)) for word in asked], tokens)
    order = sorted(range(len(passages)), key=lambda index: (-int(ranks[index]), index))
    return passages, [index for index in order if ranks[index]][:_RANKED_PASSAGES]


async def _by_meaning(
    query: str,
    originals: Sequence[str],
    passages: Sequence[_Passage],
    found: list[int],
    engine: ScoringEngine,
) -> list[int]:
    # No shared word (another language, say): let the encoder look at the beginnings.
    candidates = found or list(range(min(len(passages), _RANKED_PASSAGES)))
    texts = [_text(passages[index], originals) for index in candidates]
    try:
        async with asyncio.timeout(_RANK_SECONDS):
            ranks = await engine.rank(query, texts)
    except (CompressorError, TimeoutError):
        return found
    order = sorted(range(len(candidates)), key=lambda place: (-int(ranks[place]), place))
    return [candidates[place] for place in order if ranks[place]] or found


def _text(passage: _Passage, originals: Sequence[str]) -> str:
    return originals[passage.text][passage.start : passage.end]


def _joined(chosen: Sequence[_Passage], originals: Sequence[str]) -> str:
    """In the order of the originals; neighbours joined, a sign where something lies between."""
    merged: list[_Passage] = []
    for passage in sorted(chosen, key=lambda each: (each.text, each.start)):
        if merged and merged[-1].text == passage.text:
            between = originals[passage.text][merged[-1].end : passage.start]
            if not between.strip():
                merged[-1] = _Passage(passage.text, merged[-1].start, passage.end)
                continue
        merged.append(passage)
    return GAP.join(_text(passage, originals) for passage in merged)
