"""The receipts of a replay, summed, against what the simulated upstream really billed less."""

from __future__ import annotations

import random

import pytest

from benchmarks.bench_savings import MARKED, POLICY, Bill, open_tokens, run_conversation
from benchmarks.savings.senders import MemoEngine, Off, Terse
from benchmarks.savings.traffic import Conversation, agent
from benchmarks.savings.upstream import PROVIDERS, Provider, Upstream
from compressor.engine.fake import FakeEngine
from compressor.text.tokens import counter_for

_DRAW = random.Random(3)
WORDS = ["".join(_DRAW.choices(("ta", "re", "lo", "min", "sa", "ver", "den", "ka"), k=3)) for _ in range(400)]


def conversations(count: int) -> list[Conversation]:
    """Agents with results of 200 to 900 words, breaks of 20 minutes among them."""
    draw = random.Random(11)

    def result() -> str:
        lines = [" ".join(draw.choices(WORDS, k=12)) + "." for _ in range(draw.randint(16, 75))]
        return "\n".join(lines)

    return [
        agent(
            f"agent {n}", [(f"I look at table {n}.", result()) for n in range(draw.randint(8, 24))], draw, 20
        )
        for n in range(count)
    ]


async def replayed(provider: Provider) -> tuple[float, float]:
    """USD that the receipts claim, and USD that the two bills differ by."""
    tokens, counter = open_tokens(), counter_for("o200k_base")
    policy = MARKED if provider.kind == "markers" else POLICY
    terse = Terse(MemoEngine(FakeEngine()), provider.price, policy)
    bills = []
    for sender in (Off(), terse):
        bill, upstream, start = Bill("sender"), Upstream(provider, tokens), 1_780_000_000.0
        for conversation in conversations(6):
            await run_conversation(conversation, sender, upstream, bill, start, counter)
            start += 30
        bills.append(bill)
    return terse.claimed_usd, bills[0].usd - bills[1].usd


@pytest.mark.parametrize("provider", [p for p in PROVIDERS if p.name.startswith("gpt")], ids=lambda p: p.name)
async def test_receipts_say_what_was_saved_where_the_tokenizer_is_known(provider: Provider) -> None:
    claimed, saved = await replayed(provider)
    assert saved > 0
    assert claimed == pytest.approx(saved, rel=0.01)


@pytest.mark.parametrize(
    "provider", [p for p in PROVIDERS if not p.name.startswith("gpt")], ids=lambda p: p.name
)
async def test_receipts_say_about_what_was_saved_where_the_tokenizer_is_guessed(provider: Provider) -> None:
    claimed, saved = await replayed(provider)
    assert 0.95 * saved < claimed < 1.01 * saved
