"""The ways to send a conversation that are compared."""

from __future__ import annotations

import copy
import sqlite3
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson

from compressor.engine.protocol import EngineHealth, ScoringEngine
from compressor.errors import BudgetTooSmall
from compressor.shapes import WordScores
from compressor.text.choice import Passage, shorten_passages
from compressor.text.tokens import TokenCounter
from gateway.accounting.receipts import cost_of, uncompressed_usage
from gateway.chat.rebuild import rebuild_body
from gateway.chat.request import parse_request
from gateway.chat.segments import split_messages
from gateway.compression.choosing import Judged, passage_of
from gateway.compression.shortening import Shortener
from gateway.config import ModelConfig
from gateway.shapes import Caller, Compressed, ParsedRequest, Price, Segment, Usage
from gateway.stores.base import Spent
from gateway.stores.memory import MemoryCache
from policies import Match, Policy, Team
from policies.shapes import RoleRule

MASK = "[old result omitted to save space]"
MASK_KEEPS = 3  # newest long results; the masking papers keep 5 to 10 of far shorter ones


class MemoEngine:
    """An engine that scores each text once, however many senders ask, and counts what each of them asked.

    With a `folder` also once for all runs: scores of an encoder are the same as long as its fingerprint is.
    """

    def __init__(self, inner: ScoringEngine, folder: Path | None = None) -> None:
        self._inner = inner
        self._memo: dict[str, WordScores] = {}
        self._disk: sqlite3.Connection | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._disk = sqlite3.connect(folder / "scores.sqlite", isolation_level=None)
            self._disk.execute("create table if not exists scores (name blob primary key, value blob)")
        self.asked_characters = 0
        self.fingerprint, self.device = inner.fingerprint, inner.device

    async def score(self, text: str) -> WordScores:
        self.asked_characters += len(text)
        if text not in self._memo:
            self._memo[text] = await self._stored(text)
        return self._memo[text]

    async def _stored(self, text: str) -> WordScores:
        if self._disk is None:
            return await self._inner.score(text)
        name = blake2b(
            f"{self.fingerprint}\0{text}".encode("utf-8", "surrogatepass"), digest_size=16
        ).digest()
        found = self._disk.execute("select value from scores where name = ?", (name,)).fetchone()
        if found is not None:
            return WordScores(np.frombuffer(found[0], np.uint8), self.fingerprint)
        scores = await self._inner.score(text)
        self._disk.execute("insert or replace into scores values (?, ?)", (name, scores.values.tobytes()))
        return scores

    async def rank(self, question: str, passages: Any) -> Any:
        return await self._inner.rank(question, passages)

    def health(self) -> EngineHealth:
        return self._inner.health()

    async def close(self) -> None:
        await self._inner.close()


class Sender(Protocol):
    """What becomes of each request of a conversation."""

    async def send(self, raw: dict[str, Any], surface: str, now: float) -> dict[str, Any]: ...

    async def billed(self, usage: Usage) -> None: ...


def parsed(raw: dict[str, Any], surface: str) -> ParsedRequest:
    """The request as the gateway reads it."""
    path = {"chat": "/v1/chat/completions", "messages": "/v1/messages"}[surface]
    return parse_request(surface, path, orjson.dumps(raw), {})  # type: ignore[arg-type]


@dataclass
class Off:
    """The client's own bytes."""

    async def send(self, raw: dict[str, Any], surface: str, now: float) -> dict[str, Any]:
        return raw

    async def billed(self, usage: Usage) -> None:
        return None


@dataclass
class Terse:
    """The product: `Shortener`, its receipts, and what the upstream's usage teaches it."""

    engine: MemoEngine
    price: Price
    policy: Policy
    claimed_usd: float = 0.0  # what the receipts say was saved
    compactions: int = 0
    broken_tokens: int = 0
    _now: float = 0.0
    _sent: Compressed | None = None

    def __post_init__(self) -> None:
        self._shortener = Shortener(self.engine, MemoryCache(), deadline_ms=600_000, clock=lambda: self._now)

    async def send(self, raw: dict[str, Any], surface: str, now: float) -> dict[str, Any]:
        self._now = now
        self._sent = await self._shortener.shorten(
            parsed(raw, surface),
            Caller(Team("bench"), "anonymous"),
            Match("0", self.policy, ""),
            model=ModelConfig(raw["model"], "simulated"),
            price=self.price,
            spent=Spent(0.0),
        )
        self.compactions += self._sent.compacted
        self.broken_tokens += self._sent.broken_prefix_tokens
        body: dict[str, Any] = orjson.loads(self._sent.body)
        return body

    async def billed(self, usage: Usage) -> None:
        assert self._sent is not None
        full = uncompressed_usage(self._sent, usage)
        self.claimed_usd += cost_of(full, self.price) - cost_of(usage, self.price)
        await self._shortener.observe(self._sent, usage)


@dataclass
class PerTurn:
    """Compresses the whole conversation anew at each turn, to a share of all of it: forms change from turn to
    turn.
    """

    engine: MemoEngine
    counter: TokenCounter
    policy: Policy
    plain: bool = (
        False  # as LLMLingua: everything is prose, nothing but the system and last message is protected
    )
    cached_scores: bool = True
    scored_characters: int = 0
    _seen: set[str] = field(default_factory=set)
    _sent: dict[bytes, tuple[dict[str, Any], int]] = field(default_factory=dict)

    async def send(self, raw: dict[str, Any], surface: str, now: float) -> dict[str, Any]:
        """Prices change nothing here: what was worked out for one provider serves the next."""
        key = blake2b(orjson.dumps({**raw, "model": ""}), digest_size=16).digest()
        if key not in self._sent:
            before = self.scored_characters
            sent = await self._compressed(raw, surface)
            self._sent[key] = sent, self.scored_characters - before
            return sent
        sent, scored = self._sent[key]
        self.scored_characters += scored
        return sent

    async def _compressed(self, raw: dict[str, Any], surface: str) -> dict[str, Any]:
        request = parsed(raw, surface)
        segments = [
            each for each in split_messages(request, self.policy, self.counter.count) if self._free(each)
        ]
        tokens = sum(self.counter.count_many([segment.text for segment in segments]))
        if tokens < self.policy.trigger_tokens:
            return raw
        passages = [await self._passage(segment) for segment in segments]
        target = int(tokens * self.policy.keep)
        try:
            shortened = shorten_passages(passages, target, self.counter)
        except BudgetTooSmall as error:
            shortened = shorten_passages(passages, target + error.short_by, self.counter)
        texts: dict[tuple[str | int, ...], str] = {}
        by_place = {(s.path, s.start): done.text for s, done in zip(segments, shortened, strict=True)}
        for segment in split_messages(request, self.policy, self.counter.count):
            part = by_place.get((segment.path, segment.start), segment.text)
            texts[segment.path] = texts.get(segment.path, "") + part
        body: dict[str, Any] = orjson.loads(rebuild_body(request, texts))
        return body

    async def billed(self, usage: Usage) -> None:
        return None

    def _free(self, segment: Segment) -> bool:
        return not segment.protected or (self.plain and segment.protected == "cache-control")

    async def _passage(self, segment: Segment) -> Passage:
        if not (self.cached_scores and segment.text in self._seen):
            self.scored_characters += len(segment.text)
            self._seen.add(segment.text)
        scores = (await self.engine.score(segment.text)).values
        if self.plain:
            return Passage(segment.text, scores, protect=frozenset(), kind="prose")
        return passage_of(segment, Judged(scores), self.policy)


@dataclass
class Mask:
    """The cheap baseline: of the long results and documents only the newest stay."""

    async def send(self, raw: dict[str, Any], surface: str, now: float) -> dict[str, Any]:
        sent = copy.deepcopy(raw)
        left = MASK_KEEPS
        for message in reversed(sent["messages"]):
            if message["role"] == "assistant":
                continue
            content = message["content"]
            if isinstance(content, str):
                if len(content) > 1000:
                    left -= 1
                    if left < 0:
                        message["content"] = _masked(content)
                continue
            for block in reversed(content):
                key = "content" if block["type"] == "tool_result" else "text"
                if len(block.get(key, "")) > 1000:
                    left -= 1
                    if left < 0:
                        block[key] = _masked(block[key])
        return sent

    async def billed(self, usage: Usage) -> None:
        return None


def _masked(text: str) -> str:
    """Without the material; a question below it stays."""
    last = text.rsplit("\n\n", 1)[-1]
    return f"{MASK}\n\n{last}" if len(last) < 400 and last != text else MASK


def naive_policy(policy: Policy) -> Policy:
    """What a compressor without a memory of the conversation does with markers: it ignores them."""
    return replace(policy, roles={"tool": RoleRule(mode="on"), "user": RoleRule(mode="on")})


def llmlingua_policy(policy: Policy) -> Policy:
    """All roles but the system's, nothing protected inside."""
    on = RoleRule(mode="on")
    return replace(policy, protect=("system",), roles={"assistant": on, "tool": on, "user": on})
