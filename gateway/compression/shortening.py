"""One request, shortened: read → frozen forms → decision → scores → choice → rebuild → validate → fix the
forms.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from compressor.engine.protocol import ScoringEngine
from compressor.text.tokens import has_encoding
from compressor.turns import in_turns
from gateway.access.estimates import affordable_input
from gateway.accounting.token_ratios import TokenRatios
from gateway.chat.conversation import Conversation, read_conversation
from gateway.compression.history import History, sort_messages
from gateway.compression.job import MANY_MESSAGES, Job, Past, Watch
from gateway.compression.planner import CACHE_SECONDS, LEAST_CACHED_TOKENS, SURELY_CACHED_TOKENS
from gateway.compression.prefixes import Chain, Known, PrefixStore, Sighting, chain_of
from gateway.compression.reforming import Reformer
from gateway.compression.score_cache import ScoreCache, team_salt
from gateway.compression.scoring import ScoreSource
from gateway.compression.sending import Sender
from gateway.compression.text_memory import TextMemory
from gateway.compression.token_counts import TokenCounts
from gateway.config import ModelConfig
from gateway.errors import Unavailable
from gateway.releasing import keep
from gateway.shapes import Caller, Compressed, ParsedRequest, Price, Status, Usage
from gateway.stores.base import Cache, Spent
from gateway.turns import at_work
from policies import ClientWish, Match, Plan, draw_of, parse_wish, plan_budget

log = logging.getLogger("terse.compression")

_MESSAGE_TOKENS = 4  # what chat formats put around each message (OpenAI's cookbook)
_SMALL_BYTES = 8 * LEAST_CACHED_TOKENS  # a request with fewer may have few enough tokens to be called small
_MANY_PARTS = 1000  # some two milliseconds
_UNTOUCHED = ("mode-off", "client-off", "outside-schedule")


@dataclass(frozen=True, slots=True)
class FrontRoom:
    """Bytes that a process keeps at hand: scores, forms and texts used last."""

    scores: int = 16 * 1024 * 1024
    forms: int = 8 * 1024 * 1024
    texts: int = 8 * 1024 * 1024

    @classmethod
    def of(cls, cache_bytes: int, *, shared: bool) -> FrontRoom:
        """A fair division. Scores of a store in this very process need no copies but of the last ones."""
        return cls(cache_bytes // (2 if shared else 32), cache_bytes // 4, cache_bytes // 4)


class Shortener:
    """Shortens requests. One a process; safe for any number of concurrent requests of one event loop."""

    def __init__(
        self,
        engine: ScoringEngine,
        cache: Cache,
        *,
        secret: bytes = b"",
        deadline_ms: int | None = None,
        clock: Callable[[], float] = time.time,
        room: FrontRoom = FrontRoom(),
    ) -> None:
        """`secret` salts the teams' keys: the same on every replica. `clock` gives seconds since 1970."""
        self._prefixes = PrefixStore(cache, room.forms)
        self._memory = TextMemory(room.texts)
        self._scores = ScoreSource(engine, ScoreCache(cache, room.scores), self._memory)
        self._counts = TokenCounts(memory=self._memory)
        self._reformer = Reformer(engine, self._scores, clock, deadline_ms)
        self._sender = Sender(self._prefixes)
        self._ratios = TokenRatios(cache)
        self._secret = secret
        self._clock = clock

    async def shorten(
        self,
        request: ParsedRequest,
        caller: Caller,
        match: Match,
        *,
        model: ModelConfig,
        price: Price,
        spent: Spent,
    ) -> Compressed:
        """What goes upstream, and how it came about.

        Trouble of ours sends the original and says so (`failed-open`). Raises Unavailable only when scoring
        fails and the policy is fail-closed.
        """
        watch = Watch()
        try:
            name = model.model or request.model
            counter = await self._counts.counter(model.tokenizer or name)
            budget, limit = self._budget(request, caller, match, model, price, spent)
            salt = team_salt(self._secret, caller.team.name)
            foreign = "" if model.tokenizer or has_encoding(name) else f"{model.upstream}/{name}"
            job = Job(
                request,
                match.policy,
                budget,
                price,
                limit,
                counter,
                salt,
                memory=self._memory.of_team(salt),
                counts=self._counts.of_team(salt),
                watch=watch,
                foreign_tokenizer=foreign,
                billed_per_token=await self._ratios.of(foreign) if foreign else None,
                upstream_model=name,
            )
            return await self._run(job)
        except Unavailable:
            raise
        except Exception as error:
            log.warning("shortening failed", extra={"error": type(error).__name__}, exc_info=True)
            if match.policy.fail == "closed":
                message = "the prompt could not be shortened, and the policy is fail-closed"
                raise Unavailable(message, code="compressor_unavailable") from error
            return _untouched(request, "failed-open", _no_plan("internal-error"), watch)

    def note_first_token(self, model: str, usage: Usage, seconds: float) -> None:
        """Learns how fast the model's upstream reads prompts from one streamed reply. Never raises."""
        if not usage.estimated:
            self._reformer.prefill.note(model, usage.input_tokens - usage.cached_input_tokens, seconds)

    async def observe(self, compressed: Compressed, usage: Usage) -> None:
        """Learns from the upstream's usage how well this conversation's prefix is cached, and how the model
        counts. Never raises.
        """
        if compressed.billing_name and not usage.estimated:
            await self._ratios.note(
                compressed.billing_name,
                compressed.tokens_after,
                compressed.untold_tokens or 0,
                usage.input_tokens,
            )
        if not compressed.conversation:
            return
        head, _, space = compressed.conversation.partition(":")
        warm = None
        if usage.cache_reported and not usage.estimated:
            warm = await self._observe_cache(compressed, usage, head, space)
        await self._prefixes.note_turn(space, begins=compressed.begins, read=warm)

    async def _observe_cache(
        self, compressed: Compressed, usage: Usage, head: str, space: str
    ) -> float | None:
        """The share of a warm prefix that was read from the cache; None where that cannot be told."""
        warm = None
        rate = compressed.observed_hit_rate
        expected = compressed.prefix_tokens * usage.input_tokens / max(1, compressed.tokens_after)
        if compressed.prefix_tokens >= SURELY_CACHED_TOKENS and expected > 0:
            seen = min(1.0, usage.cached_input_tokens / expected)
            if compressed.idle_seconds > CACHE_SECONDS:
                await self._prefixes.note_cold(space, seen)
            else:
                warm = seen
                rate = seen if rate is None else (rate + seen) / 2
        if rate is not None:
            await self._prefixes.note(head, Sighting(round(rate, 4)))
        return warm

    async def close(self) -> None:
        """Drops scoring that goes on in the background. Engine and store are the caller's to close."""
        await self._scores.close()

    def _budget(
        self,
        request: ParsedRequest,
        caller: Caller,
        match: Match,
        model: ModelConfig,
        price: Price,
        spent: Spent,
    ) -> tuple[Callable[[int, int, str], Plan], int | None]:
        """`plan_budget` with all that this request fixes, and the tokens that its input must fit into."""
        wish = parse_wish(request.headers.get("x-terse-compress")) if caller.may_override else ClientWish()
        window = model.context_window or price.context_window
        room = max(1, window - (request.max_output_tokens or 0)) if window else None
        at = datetime.fromtimestamp(self._clock(), UTC)
        # A bound for new messages alone: what was sent before is not worth a broken prefix.
        affordable = affordable_input(request, price, spent.room) if caller.team.pressure else None

        def budget(compressible: int, total: int, seed: str) -> Plan:
            return plan_budget(
                match.policy,
                compressible_tokens=compressible,
                total_tokens=total,
                wish=wish,
                spent_share=spent.share,
                pressure=caller.team.pressure,
                context_window=room,
                draw=draw_of(seed),
                at=at,
                affordable=affordable,
            )

        return budget, min([limit for limit in (match.policy.max_input_tokens, room) if limit], default=None)

    async def _run(self, job: Job) -> Compressed:
        first = job.budget(0, 0, "")
        if job.request.surface == "embeddings" or job.request.path.endswith("/count_tokens"):
            return await self._unchanged(job, "off", _no_plan("surface"))
        if first.reason in _UNTOUCHED:
            return await self._unchanged(job, "off", first)
        if len(job.request.body) < _SMALL_BYTES:
            tokens = self._count(read_conversation(job.request), None, job)
            if tokens < _small_tokens(job):
                job.watch.lap("count")
                plan = first
                if first.compress or first.reason != "below-trigger":
                    plan = replace(first, compress=False, reason="below-trigger")
                return _untouched(job.request, "skipped", plan, job.watch, tokens)
        past = await self._look_back(job)
        outcome = await self._reformer.reform(job, past)
        return await self._sender.send(job, past, outcome, self._clock())

    async def _look_back(self, job: Job) -> Past:
        mode = "audit" if job.policy.mode == "audit" else "on"
        space = f"{job.request.model}\0{job.request.surface}\0{mode}"
        many_parts = _has_many_parts(job.request.raw)
        conversation = await at_work(many_parts, _read, job.request)
        large = (
            many_parts
            or len(conversation.messages) > MANY_MESSAGES
            or job.is_large(slot.text for message in conversation.messages for slot in message.slots)
        )
        chain = await at_work(large, _chained, conversation, job, space)
        job.watch.lap("read")
        known = await self._prefixes.look_up(chain)
        job.watch.lap("look_up")

        def was_small(end: int) -> bool:
            return chain.sizes[end] < _SMALL_BYTES and self._count(conversation, end, job) < _small_tokens(
                job
            )

        many = len(conversation.messages) > MANY_MESSAGES
        history = await at_work(many, _sorted, conversation, chain, known, was_small)
        fixed = await at_work(large, _fixed_text, conversation)
        fixed_tokens = (await job.counts.count_many([fixed], job.counter))[0]
        tokens = fixed_tokens + _MESSAGE_TOKENS * len(conversation.messages)
        job.watch.lap("count")
        return Past(conversation, chain, known, history, tokens, large)

    async def _unchanged(self, job: Job, status: Status, plan: Plan) -> Compressed:
        """The client's bytes, counted; nothing is looked up or remembered."""
        if job.request.surface == "embeddings":
            counts = await job.counts.count_many(_embedding_texts(job.request.raw.get("input")), job.counter)
            tokens = sum(counts)
        else:
            conversation = await at_work(_has_many_parts(job.request.raw), _read, job.request)
            texts = (slot.text for message in conversation.messages for slot in message.slots)
            quick = len(conversation.messages) <= MANY_MESSAGES and job.counts.quick(texts, job.counter)
            tokens = await at_work(not quick, self._count, conversation, None, job)
        job.watch.lap("count")
        return _untouched(job.request, status, plan, job.watch, tokens)

    def _count(self, conversation: Conversation, end: int | None, job: Job) -> int:
        """Tokens of a conversation up to and with message `end`, or of all of it."""
        messages = conversation.messages if end is None else conversation.messages[: end + 1]
        texts = [slot.text for message in in_turns(messages) for slot in message.slots]
        texts.append(_fixed_text(conversation))
        counts = job.counts.count_now(texts, job.counter)
        keep(texts, counts)
        return sum(counts) + _MESSAGE_TOKENS * len(messages)


def _read(request: ParsedRequest) -> Conversation:
    conversation = read_conversation(request)
    keep(conversation.messages)
    return conversation


def _chained(conversation: Conversation, job: Job, space: str) -> Chain:
    chain = chain_of(conversation, job.salt, space, job.memory)
    keep(chain.links, chain.sizes)
    return chain


def _sorted(
    conversation: Conversation, chain: Chain, known: Known, was_small: Callable[[int], bool]
) -> History:
    history = sort_messages(conversation, chain, known, was_small)
    keep(known.forms, history.forms, history.new)
    return history


def _small_tokens(job: Job) -> int:
    """Requests below this are passed on without a look into the store.

    They cannot be shortened, and no upstream caches a prefix so small: nothing can be lost by not remembering
    it.
    """
    return min(job.policy.trigger_tokens, LEAST_CACHED_TOKENS, *([job.limit] if job.limit else []))


def _has_many_parts(raw: Mapping[str, Any]) -> bool:
    """Whether a request has so many messages and parts that looking at each is work for a thread."""
    parts = 0
    for name in ("messages", "input", "prompt"):
        listed = raw.get(name)
        if isinstance(listed, list):
            parts += len(listed)
            for message in listed[:_MANY_PARTS]:
                content = message.get("content") if isinstance(message, dict) else None
                parts += len(content) if isinstance(content, list) else 0
    return parts > _MANY_PARTS


def _fixed_text(conversation: Conversation) -> str:
    """What stands before the messages, as text to be counted."""
    try:
        return orjson.dumps(conversation.fixed).decode() if conversation.fixed else ""
    except orjson.JSONEncodeError:
        return repr(conversation.fixed)


def _embedding_texts(given: Any) -> list[str]:
    if isinstance(given, str):
        return [given]
    return [text for text in given if isinstance(text, str)] if isinstance(given, Sequence) else []


def _no_plan(reason: str) -> Plan:
    return Plan(compress=False, mode="off", target=0, keep=1.0, reason=reason)


def _untouched(
    request: ParsedRequest, status: Status, plan: Plan, watch: Watch, tokens: int = 0
) -> Compressed:
    return Compressed(
        body=request.body,
        status=status,
        skip_reason=plan.reason,
        plan=plan,
        tokens_before=tokens,
        tokens_after=tokens,
        cache="none",
        overhead_ms=watch.total_ms,
        timings=dict(watch.steps),
    )
