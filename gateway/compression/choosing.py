"""From scores to forms: which words of the free segments stay, message by message. Synchronous CPU work."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.ma  # np.unique imports it at its first call, which takes 15 ms

from compressor.shapes import PROTECTABLE, Shortened, Span, Spans
from compressor.text.choice import Passage, shorten_passages
from compressor.text.json_thinning import thin_json
from compressor.text.searching import is_blank
from compressor.text.tokens import TokenCounter
from compressor.turns import give_way, let_go
from gateway.chat.conversation import Message, Path
from gateway.chat.validation import part_of_json, same_json
from gateway.compression.bounds import Bounds, compact, slices_of
from gateway.compression.prefixes import Form
from gateway.compression.score_cache import Scores
from gateway.releasing import keep
from gateway.shapes import Segment
from policies import Policy, rule_for

# A form that saves less than this share of its message is not worth the loss: the message goes whole.
_LEAST_SAVED = 0.02

OMITTED = "omitted"  # `protected` of a segment that is left out as a whole
_PORTION = 20_000  # numbers
_FEW = 32  # spans that arrays are slower for
# How an old result of a kind is treated, that has nothing to lose at its first appearance.
_OLDER = {"code": "code-outline", "table": "log"}
_NOTE_TOKENS = 12  # of conversation.LEFT_OUT

Parts = list[tuple[Segment, int]]  # segments of one message, each with its tokens


@dataclass(frozen=True, slots=True)
class Judged:
    """What the encoder says of a text: one byte a word, and with a question one byte a unit of it.

    Where the relevance came too late the question still decides, by the words that it shares with the text.
    """

    scores: Scores
    relevance: Scores | None = None
    question: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """The segments of the messages that are to be sent in a new form, with their sizes."""

    segments: tuple[Segment, ...]
    tokens: tuple[int, ...]  # of the target tokenizer, one a segment

    @property
    def free_tokens(self) -> int:
        """Tokens that may be shortened."""
        return sum(n for segment, n in zip(self.segments, self.tokens, strict=True) if not segment.protected)

    def by_message(self) -> dict[int, Parts]:
        """The segments of each message, with their sizes."""
        grouped: dict[int, Parts] = {}
        for segment, tokens in zip(self.segments, self.tokens, strict=True):
            grouped.setdefault(segment.message, []).append((segment, tokens))
        return grouped

    def free(self) -> list[tuple[Segment, int]]:
        """The segments that may be shortened, and their sizes."""
        pairs = zip(self.segments, self.tokens, strict=True)
        return [(segment, tokens) for segment, tokens in pairs if not segment.protected]


def choose(
    measured: Measured,
    judged: Sequence[Judged],
    target: int,
    policy: Policy,
    counter: TokenCounter,
    aged: Container[int] = (),
) -> dict[tuple[Path, int], Shortened]:
    """The shortened free segments by (path, start); one threshold over all that have no `keep` of their own.

    `judged` has one for each free segment; `target` is in tokens over all free segments but those
    of old results, messages `aged`, which have their own share.
    """
    free = measured.free()
    keep(free)
    total = sum(tokens for segment, tokens in free if not is_old(segment, aged))
    chosen: dict[tuple[Path, int], Shortened] = {}
    groups: dict[float | None, list[tuple[Segment, int, Judged]]] = {}
    for (segment, tokens), one in zip(free, judged, strict=True):
        if is_old(segment, aged):
            older = _once_more(segment, tokens, one, policy, counter)
            chosen |= {(segment.path, segment.start): older} if older is not None else {}
            continue
        share = rule_for(policy, segment.role, segment.tool).keep
        groups.setdefault(share, []).append((segment, tokens, one))
    for share, members in groups.items():
        size = sum(tokens for _, tokens, _ in members)
        wanted = round(size * target / max(1, total)) if share is None else round(size * share)
        if wanted >= size:
            continue
        passages = [passage_of(segment, one, policy) for segment, _, one in members]
        keep(passages, members)
        for (segment, _, _), shortened in zip(members, _shorten(passages, wanted, counter), strict=True):
            chosen[segment.path, segment.start] = shortened
    return chosen


def _once_more(
    segment: Segment, tokens: int, judged: Judged, policy: Policy, counter: TokenCounter
) -> Shortened | None:
    """An old result by itself, so that each has its share; None when all of it stays."""
    if thin := _thinned(segment, tokens, judged.scores, counter):
        return thin
    wanted = round(tokens * policy.old_results.keep) if policy.old_results is not None else tokens
    if wanted >= tokens:
        return None
    passage = passage_of(segment, judged, policy)
    kind = _OLDER.get(segment.kind)
    passage = replace(passage, kind=kind) if kind else passage
    return _shorten([passage], wanted, counter)[0]


def _thinned(segment: Segment, tokens: int, scores: Scores, counter: TokenCounter) -> Shortened | None:
    """An old document of JSON without what it repeats; None for other texts."""
    kept = thin_json(segment.text) if segment.kind == "json" else []
    text = "".join([segment.text[start:end] for start, end in kept])
    if not kept:
        return None
    spans = Spans(np.asarray(kept, np.int64))
    return Shortened(text, spans, scores, tokens, counter.count(text), counter.name)


def is_old(segment: Segment, aged: Container[int]) -> bool:
    """Whether a segment belongs to a result that is shortened once more."""
    return segment.role == "tool" and segment.message in aged


def without_old(measured: Measured, aged: Container[int]) -> Measured:
    """The same with all free text of old results left out."""
    segments = tuple(
        replace(segment, protected=OMITTED) if is_old(segment, aged) and not segment.protected else segment
        for segment in measured.segments
    )
    return Measured(segments, measured.tokens)


def passage_of(segment: Segment, judged: Judged, policy: Policy) -> Passage:
    """What the compressor is told of a segment."""
    return Passage(
        text=segment.text,
        scores=judged.scores,
        relevance=judged.relevance,
        question=judged.question,
        kind=segment.kind,
        protect=frozenset(PROTECTABLE.intersection(policy.protect)),
        force_tokens=policy.force_tokens,
        fold=policy.fold and segment.role == "tool",
    )


def _shorten(passages: Sequence[Passage], target: int, counter: TokenCounter) -> Sequence[Shortened]:
    """Within the target, or as near to it as what must stay allows."""
    return shorten_passages(passages, max(1, target), counter, stretch=True)


def make_form(
    message: Message, parts: Parts, chosen: Mapping[tuple[Path, int], Shortened], *, aged: bool = False
) -> Form:
    """How one message is sent, given what was chosen for its segments (nothing: whole).

    A string that would become empty, or JSON that would not be the same JSON any more, stays whole: an
    upstream refuses the one and a tool's reader the other.
    """
    pieces: dict[Path, list[tuple[Segment, int]]] = {}
    for segment, tokens in parts:
        pieces.setdefault(segment.path, []).append((segment, tokens))
    before = sum(tokens for _, tokens in parts)
    free = sum(tokens for segment, tokens in parts if segment.protected in ("", OMITTED))
    after = before
    cuts: list[tuple[int, int, Bounds]] = []
    for position, slot in enumerate(message.slots):
        bounds, saved = _bounds(pieces.get(slot.path, []), chosen)
        if (saved <= _NOTE_TOKENS and not bounds) or saved <= 0 or bounds == [0, len(slot.text)]:
            continue
        if not bounds and all(segment.protected == OMITTED for segment, _ in pieces[slot.path]):
            cuts.append((position, len(slot.text), ()))
            after -= saved - _NOTE_TOKENS
            continue
        give_way()
        text = slices_of(slot.text, bounds)
        fits = part_of_json if aged and slot.role == "tool" else same_json
        if not is_blank(text) and fits(slot.text, text):
            cuts.append((position, len(slot.text), compact(bounds)))
            if len(bounds) > _PORTION:
                let_go(bounds)
            after -= saved
    if before - after < _LEAST_SAVED * free:
        return Form(before, before, free)
    return Form(before, after, free if not cuts else 0, tuple(cuts))


def _bounds(
    parts: Sequence[tuple[Segment, int]], chosen: Mapping[tuple[Path, int], Shortened]
) -> tuple[list[int], int]:
    """The slices of one string that stay, as (start, end, start, end, ...), and the tokens this saves."""
    slices: list[int] = []
    saved = 0
    for segment, tokens in parts:
        if segment.protected == OMITTED:
            saved += tokens
            continue
        shortened = chosen.get((segment.path, segment.start))
        kept: Sequence[Span] = (Span(0, len(segment.text)),)
        if shortened is not None:
            saved += tokens - shortened.tokens_after
            kept = shortened.kept
        for edges in _edges(kept, segment.start):
            if slices and slices[-1] == edges[0]:
                del slices[-1], edges[0]
            slices += edges
    return slices, saved


def _edges(kept: Sequence[Span], offset: int) -> Iterator[list[int]]:
    """Start, end, start, end, ... of the spans, those that touch as one; in portions, as making so many
    numbers in one step shuts all other threads out.
    """
    if len(kept) < _FEW:
        yield from ([s.start + offset, s.end + offset] for s in kept if s.end > s.start)
        return
    flat = kept.places if isinstance(kept, Spans) else [(s.start, s.end) for s in kept]
    places = np.asarray(flat, np.int64).reshape(-1, 2)
    places = places[places[:, 1] > places[:, 0]] + offset
    apart = places[1:, 0] != places[:-1, 1]
    first, last = np.append(True, apart), np.append(apart, True)
    edges = np.stack((places[first, 0], places[last, 1]), axis=1).ravel() if len(places) else places.ravel()
    for at in range(0, len(edges), _PORTION):
        yield edges[at : at + _PORTION].tolist()
