"""Answers the model's calls of `terse_retrieve` and lets it go on, until its answer is the client's.

Plain and streamed, on every API with tools. The client sees one answer: text as it comes, its own tool calls,
one usage that is the sum of all rounds. Where the model calls our tool and the client's at once, the client's
calls go out and ours is dropped: an upstream wants results for all of them together.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import orjson

from compressor.engine.protocol import ScoringEngine
from gateway.accounting.usage import read_usage
from gateway.chat.event_stream import EventSplitter
from gateway.chat.lenient_json import write_json
from gateway.errors import UpstreamBroke
from gateway.exchange import Admitted
from gateway.recovery.offering import Offer, offer
from gateway.recovery.recall import recall
from gateway.recovery.tool import NAME, Round
from gateway.recovery.vault import Vault
from gateway.releasing import LARGE
from gateway.shapes import Usage
from gateway.stores.base import Hold
from gateway.turns import at_work
from gateway.upstream.base import ReplyBody, UpstreamReply
from gateway.upstream.directory import Outgoing, Sent

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from gateway.services import Live

# Rounds in which the model may call the tool; then it has to answer.
MOST_ROUNDS = 3
_MOST_NAMES = 50  # in one header, 33 bytes each: proxies bound a header at 4 or 8 KB
_ANSWER_TOKENS = 2000  # of one call's result, for the reservation; recall.RETURNED_CHARACTERS at most


class Recovery:
    """One a process."""

    def __init__(self, vault: Vault, engine: ScoringEngine, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter

        self.vault = vault
        self.engine = engine
        self.calls = Counter(
            "terse_recovery_calls_total",
            "Calls of terse_retrieve by the model, by result: answered, limit, mixed, refused",
            ("policy", "result"),
            registry=registry,
        )

    async def send(self, admitted: Admitted, outgoing: Outgoing, live: Live) -> Sent:
        """As `Directory.send`; with the tool where the policy offers it. Raises GatewayError as that does."""
        large = len(admitted.compressed.body) >= LARGE
        offered = await at_work(large, offer, admitted.request, admitted.compressed, admitted.match.policy)
        if offered is None:
            return await live.directory.send(outgoing, admitted.model)
        names = await self.vault.put(admitted.caller.team.name, offered.originals)
        headers = [(name, value) for name, value in outgoing.headers if name != "accept-encoding"]
        body = await at_work(large, write_json, offered.raw)
        outgoing = replace(outgoing, body=body, wire=None, headers=headers)
        sent = await live.directory.send(outgoing, admitted.model)
        if sent.reply.status != 200:
            return sent
        rounds = Rounds(self, admitted, live, outgoing, offered, sent.reply)
        answer: ReplyBody = StreamedRounds(rounds) if sent.reply.event_stream else PlainRounds(rounds)
        told = ("x-terse-retrieve", ",".join(names[:_MOST_NAMES]))
        reply = replace(sent.reply, body=answer, headers=[*sent.reply.headers, told])
        return replace(sent, reply=reply, additional=rounds.additional)


@dataclass(slots=True)
class Rounds:
    """The rounds of one request, so far."""

    recovery: Recovery
    admitted: Admitted
    live: Live
    outgoing: Outgoing
    offered: Offer
    reply: UpstreamReply
    count: int = 1
    usages: list[Mapping[str, Any]] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)

    @property
    def may_go_on(self) -> bool:
        """Whether the model may still call the tool."""
        return self.count <= MOST_ROUNDS

    async def go_on(self, done: Round, *, restart: bool) -> bool:
        """Answers the calls and asks again; `reply` is the next one. True when the model goes on from there.

        An upstream that does not take the answer gets, with `restart`, the client's own request instead,
        unshortened and without the tool (False). Raises GatewayError: a spent budget, a broken upstream.
        """
        await self.reply.body.close()
        team = self.admitted.caller.team.name
        originals = await self._originals(team)
        calls, raw = done.calls, self.offered.raw
        answers = [await recall(call.query, originals, self.recovery.engine) for call in calls]
        self.tell("answered", len(calls))
        last = self.count == MOST_ROUNDS
        raw.update(self.offered.dialect.next_round(raw, done, answers, last=last))
        await self._admit(len(calls))
        self.count += 1
        large = len(self.outgoing.body) >= LARGE
        outgoing = replace(self.outgoing, body=await at_work(large, write_json, raw))
        sent = await self.live.directory.send(outgoing, self.admitted.model)
        goes_on = sent.reply.status == 200
        if not goes_on and restart:
            await sent.reply.body.close()
            self.tell("refused", len(calls))
            self.count = MOST_ROUNDS + 1
            request = self.admitted.request
            sent = await self.live.directory.send(
                replace(outgoing, body=request.body, wire=None), self.admitted.model
            )
        self.reply = sent.reply
        if self.reply.status != 200:
            status = self.reply.status
            await self.reply.body.close()
            raise UpstreamBroke(f"the upstream answered {status} after {NAME} had been called")
        return goes_on

    def tell(self, result: str, count: int = 1) -> None:
        """Counts calls of the tool."""
        self.recovery.calls.labels(self.admitted.match.policy.name, result).inc(count)

    def tell_dropped(self, done: Round) -> None:
        """Counts calls in the last round, which nobody answers."""
        if done.calls:
            self.tell("mixed" if done.others else "limit", len(done.calls))

    def note(self, usage: object) -> None:
        """Takes down the usage of one round."""
        if isinstance(usage, dict):
            self.usages.append(usage)

    def total(self) -> dict[str, Any] | None:
        """The usage of all rounds together, as the upstream writes it; None when it said nothing."""
        return added(self.usages) if self.usages else None

    def additional(self) -> Usage:
        """What the rounds after the first were billed, and the output of those before the last."""
        read = [read_usage(usage, self.admitted.request.surface) for usage in self.usages]
        return Usage(
            input_tokens=sum(usage.input_tokens for usage in read[1:]),
            cached_input_tokens=sum(usage.cached_input_tokens for usage in read[1:]),
            cache_write_tokens=sum(usage.cache_write_tokens for usage in read[1:]),
            output_tokens=sum(usage.output_tokens for usage in read[:-1]),
        )

    async def close(self) -> None:
        """Gives connection and holds back; the request's own hold is settled for all rounds. Never raises."""
        await self.reply.body.close()
        while self.holds:
            await self.live.admission.release(self.holds.pop())

    async def _originals(self, team: str) -> list[str]:
        """From the vault, under the team's key; what is gone from there, from the request itself."""
        given = self.offered.originals
        names = [self.recovery.vault.name_of(team, text) for text in given]
        kept = await self.recovery.vault.get(team, names)
        return [text if text is not None else own for text, own in zip(kept, given, strict=True)]

    async def _admit(self, calls: int) -> None:
        """Every round is held for like a request of its own."""
        admitted = self.admitted
        tokens = admitted.compressed.tokens_after + self.count * calls * _ANSWER_TOKENS
        compressed = replace(admitted.compressed, tokens_after=tokens)
        hold = await self.live.admission.admit(
            admitted.caller, admitted.match, admitted.request, compressed, admitted.price
        )
        self.holds.append(hold)


@dataclass(slots=True)
class PlainRounds:
    """The body of a plain reply: all rounds are over before its first byte."""

    rounds: Rounds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield await self.read()

    async def read(self) -> bytes:
        """The answer as one reply; the upstream's very bytes when the tool was not called."""
        rounds, dialect = self.rounds, self.rounds.offered.dialect
        shown: list[Any] = []
        while True:
            body = await rounds.reply.body.read()
            try:
                value = orjson.loads(body)
                done = dialect.read(value)
            except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
                return body  # no answer: the client's to judge
            rounds.note(value.get("usage"))
            if done.calls and not done.others and rounds.may_go_on:
                goes_on = await rounds.go_on(done, restart=True)
                shown = [*shown, *done.shown] if goes_on else []
                continue
            # Some APIs give back the tools of the request; ours is not the client's to see.
            if rounds.count == 1 and not done.calls and NAME.encode() not in body:
                return body
            rounds.tell_dropped(done)
            return orjson.dumps(dialect.finished(value, done, shown, rounds.total()))

    async def close(self) -> None:
        """As ReplyBody."""
        await self.rounds.close()


@dataclass(slots=True)
class StreamedRounds:
    """The body of a streamed reply: each round's text goes on as it comes."""

    rounds: Rounds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        rounds = self.rounds
        editor = rounds.offered.dialect.editor()
        said = False  # the client has text already: there is no way back
        while True:
            splitter = EventSplitter()
            async for chunk in rounds.reply.body:
                for event in splitter.feed(chunk):
                    for part in editor.take(event):
                        yield part
            rounds.note(editor.usage)
            done = editor.round()
            if done is None or not done.calls or done.others or not rounds.may_go_on:
                break
            said = said or bool(done.shown)
            await rounds.go_on(done, restart=not said)
            editor = editor.following()
        if done is not None:
            rounds.tell_dropped(done)
        for part in editor.ending(rounds.total(), rounds.offered.wants_usage):
            yield part

    async def read(self) -> bytes:
        """All events joined."""
        return b"".join([chunk async for chunk in self])

    async def close(self) -> None:
        """As ReplyBody."""
        await self.rounds.close()


def added(usages: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Usage objects summed, key by key, at every depth."""
    total: dict[str, Any] = {}
    for usage in usages:
        for key, value in usage.items():
            if isinstance(value, dict):
                before = total.get(key)
                total[key] = added([before, value]) if isinstance(before, dict) else dict(value)
            elif isinstance(value, int | float) and not isinstance(value, bool):
                total[key] = (total.get(key) or 0) + value
            else:
                total.setdefault(key, value)
    return total
