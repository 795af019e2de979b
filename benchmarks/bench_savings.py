"""What is saved net of prompt caches: real multi-turn traffic against an upstream that bills as providers do.

    python -m benchmarks.bench_savings --data FOLDER [--engine fake|default|FOLDER] [--conversations 20]

FOLDER holds the development data. Writes benchmarks/results/savings.md unless --output says otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import tiktoken

from benchmarks.savings.facts import Facts
from benchmarks.savings.report import write_report
from benchmarks.savings.senders import (
    Mask,
    MemoEngine,
    Off,
    PerTurn,
    Sender,
    Terse,
    llmlingua_policy,
    naive_policy,
)
from benchmarks.savings.traffic import (
    Conversation,
    Message,
    airline_agents,
    as_anthropic,
    log_agents,
    meetings,
    rag_sessions,
    short_chats,
    swe_agents,
)
from benchmarks.savings.upstream import OPENAI, PROVIDERS, Provider, Tokens, Upstream
from compressor.engine.fake import FakeEngine
from compressor.engine.protocol import ScoringEngine
from compressor.text.tokens import TokenCounter, counter_for
from gateway.accounting.receipts import cost_of
from gateway.compression.planner import scoring_price
from policies import Policy
from policies.shapes import OldResults, RoleRule

POLICY = Policy("default")
SENT_ONCE = replace(POLICY, name="nothing twice", old_results=None)
NOTED = replace(POLICY, name="old results left out", old_results=OldResults(newest=3, keep=0.0))
MARKED = Policy("marked freed", roles={"tool": RoleRule(mode="on"), "user": RoleRule(mode="on")})
SHORT_CHATS = "short chats (NQ, pasted once)"
SCENARIOS: dict[str, Callable[[Path, int, int], list[Conversation]]] = {
    "coding agents (SWE-agent)": swe_agents,
    "log-reading agents": log_agents,
    "airline agents (tau-bench)": airline_agents,
    "RAG sessions (NQ)": rag_sessions,
    "meetings (QMSum)": meetings,
    SHORT_CHATS: short_chats,
}


@dataclass
class Bill:
    """What one way of sending cost over one scenario."""

    sender: str
    usd: float = 0.0  # the upstream's bill
    own_usd: float = 0.0  # our scoring, at the price of the machine
    input_tokens: int = 0
    cached_tokens: int = 0
    kept: list[float] = field(default_factory=list)  # share of the last request's tokens, one a conversation
    by_conversation: list[float] = field(default_factory=list)
    claimed_usd: float | None = None
    compactions: int = 0
    broken_tokens: int = 0
    facts: Facts = field(default_factory=Facts.none)

    @property
    def net(self) -> float:
        return self.usd + self.own_usd


async def run_conversation(
    conversation: Conversation,
    sender: Sender,
    upstream: Upstream,
    bill: Bill,
    start: float,
    counter: TokenCounter,
) -> None:
    """One conversation through one sender, billed."""
    now, before = start, bill.usd
    surface = "messages" if upstream.provider.kind == "markers" else "chat"
    original = sent = {}
    requests = list(conversation.requests(upstream.provider.name))
    for number, (raw, gap) in enumerate(zip(requests, conversation.gaps, strict=True)):
        now += gap
        original = as_anthropic(raw) if surface == "messages" else raw
        sent = await sender.send(original, surface, now)
        following = conversation.turns[number + 1] if number + 1 < len(conversation.turns) else ()
        output = counter.count(str(following[0]["content"])) + 20 if following else 60
        if following:
            bill.facts.ask_quoted(original, sent, said_in(following))
        usage = upstream.answer(sent, now, output)
        await sender.billed(usage)
        bill.usd += cost_of(usage, upstream.provider.price)
        bill.input_tokens += usage.input_tokens
        bill.cached_tokens += usage.cached_input_tokens
    bill.facts.ask_held(original, sent)
    bill.kept.append(counter.count(str(sent["messages"])) / counter.count(str(original["messages"])))
    bill.by_conversation.append(bill.usd - before)


def said_in(turn: tuple[Message, ...]) -> str:
    """What the recorded model says and calls at the head of a turn."""
    own = [message for message in turn if message["role"] == "assistant"]
    return " ".join(f"{message['content'] or ''} {message.get('tool_calls', '')}" for message in own)


async def run_scenario(
    conversations: list[Conversation],
    provider: Provider,
    engine: MemoEngine,
    tokens: Tokens,
    forgetful: tuple[PerTurn, PerTurn],
) -> list[Bill]:
    """Every way of sending, over the same conversations."""
    counter = counter_for("o200k_base")
    policies = {
        "Terse": POLICY,
        "Terse, `old_results: off`": SENT_ONCE,
        "Terse, old results left out": NOTED,
    }
    if provider.kind == "markers":
        policies = {
            "Terse": POLICY,
            "Terse, marked results freed": MARKED,
            "Terse, freed, `old_results: off`": replace(SENT_ONCE, roles=MARKED.roles),
            "Terse, freed, old results left out": replace(NOTED, roles=MARKED.roles),
        }
    bills = []

    async def go(name: str, sender: Sender, characters: Callable[[], int]) -> Bill:
        bill, upstream, before = Bill(name), Upstream(provider, tokens), characters()
        start = 1_780_000_000.0
        for conversation in conversations:
            await run_conversation(conversation, sender, upstream, bill, start, counter)
            start += 30  # conversations overlap little, but share what is common to all
        bill.own_usd = (characters() - before) / 4 * scoring_price(engine.device)
        bills.append(bill)
        return bill

    await go("off", Off(), lambda: 0)
    for name, policy in policies.items():
        terse = Terse(engine, provider.price, policy)
        bill = await go(name, terse, lambda: engine.asked_characters)
        bill.claimed_usd, bill.compactions = terse.claimed_usd, terse.compactions
        bill.broken_tokens = terse.broken_tokens
    naive, lingua = forgetful
    await go("naive, anew each turn", naive, lambda: naive.scored_characters)
    await go("LLMLingua-like", lingua, lambda: lingua.scored_characters)
    await go("mask old results", Mask(), lambda: 0)
    return bills


def open_scorer(name: str) -> ScoringEngine:
    """The engine that was asked for."""
    if name == "fake":
        return FakeEngine()
    from compressor.config import CompressorConfig
    from compressor.startup import open_engine

    return open_engine(CompressorConfig(model=name))


def open_tokens() -> Tokens:
    """o200k_base from the files that come with litellm."""
    spec = importlib.util.find_spec("litellm")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent / "litellm_core_utils" / "tokenizers"
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    return Tokens(tiktoken.get_encoding("o200k_base"))


def machine() -> str:
    """What it ran on."""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


async def run(arguments: argparse.Namespace) -> None:
    """All scenarios; the report is written after each."""
    started = time.perf_counter()
    engine, tokens = MemoEngine(open_scorer(arguments.engine), arguments.scores), open_tokens()
    results: dict[str, dict[str, list[Bill]]] = {}
    try:
        for scenario, build in SCENARIOS.items():
            if arguments.only not in scenario:
                continue
            conversations = build(arguments.data, arguments.conversations, arguments.seed)
            counter = counter_for("o200k_base")
            forgetful = (
                PerTurn(engine, counter, naive_policy(POLICY)),
                PerTurn(engine, counter, llmlingua_policy(POLICY), plain=True, cached_scores=False),
            )
            for provider in OPENAI if scenario == SHORT_CHATS else PROVIDERS:
                begun = time.perf_counter()
                bills = await run_scenario(conversations, provider, engine, tokens, forgetful)
                results.setdefault(scenario, {})[provider.name] = bills
                off = bills[0]
                print(
                    f"{scenario}, {provider.name}: off ${off.usd:.4f}, {time.perf_counter() - begun:.0f} s",
                    flush=True,
                )
                for bill in bills[1:]:
                    change, hit = (
                        100 * (bill.net / off.net - 1),
                        bill.cached_tokens / max(1, bill.input_tokens),
                    )
                    print(f"   {bill.sender:30} {change:+6.1f} %  hit {hit:.2f}", flush=True)
            made = f"{machine()}, encoder {engine.fingerprint[:12]}"
            write_report(arguments.output, results, arguments, made, time.perf_counter() - started)
    finally:
        await engine.close()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the development data")
    parser.add_argument("--engine", default="fake", help="fake, default, or a model folder")
    parser.add_argument("--conversations", type=int, default=20, help="of each scenario")
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--scores", type=Path, help="folder that keeps scores between runs")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "savings.md")
    arguments = parser.parse_args()
    asyncio.run(run(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
