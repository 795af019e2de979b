"""Chats that are long enough to be cached as they come and too short once they are halved: never dearer."""

from __future__ import annotations

import random
from typing import Any

import pytest

from benchmarks.bench_savings import POLICY, Bill, open_tokens, run_conversation
from benchmarks.savings.senders import MemoEngine, Off, Terse
from benchmarks.savings.traffic import Conversation
from benchmarks.savings.upstream import GPT_41, OPENAI, Provider, Upstream
from compressor.engine.fake import FakeEngine
from compressor.text.tokens import counter_for
from gateway.accounting.receipts import cost_of
from gateway.shapes import Usage
from tests.benchmarks.test_savings_receipts import WORDS
from tests.support.fake_upstream import fake_upstream
from tests.support.live_gateway import live_gateway

CONFIGURATION = """
upstreams:
  up: {base_url: "%(url)s", api_key: sk-upstream}
models:
  gpt-4.1: {upstream: up, input_price: 2.0e-6, output_price: 8.0e-6, cache_read_price: 0.5e-6}
"""


def pasted(draw: random.Random) -> str:
    """Some 1,250 to 2,500 tokens."""
    lines = [" ".join(draw.choices(WORDS, k=12)) + "." for _ in range(draw.randint(34, 66))]
    return "\n".join(lines)


def chats(count: int, turns: tuple[int, int]) -> list[Conversation]:
    draw = random.Random(5)
    found = []
    for number in range(count):
        first = {"role": "user", "content": f"{pasted(draw)}\n\nWhat is this about?"}
        said: list[tuple[dict[str, Any], ...]] = [({"role": "system", "content": "Answer."}, first)]
        for turn in range(draw.randint(*turns) - 1):
            answer = {"role": "assistant", "content": f"About {draw.choice(WORDS)}."}
            said.append((answer, {"role": "user", "content": f"And {WORDS[turn]}?"}))
        found.append(Conversation(f"chat {number}", tuple(said), (20.0,) * len(said)))
    return found


async def replayed(
    provider: Provider, conversations: list[Conversation], upstream: type[Upstream] = Upstream
) -> tuple[Bill, Bill]:
    """The bills of sending as is and through Terse."""
    tokens, counter = open_tokens(), counter_for("o200k_base")
    terse = Terse(MemoEngine(FakeEngine()), provider.price, POLICY)
    bills = []
    for sender in (Off(), terse):
        bill, cache, start = Bill("sender"), upstream(provider, tokens), 1_780_000_000.0
        for conversation in conversations:
            await run_conversation(conversation, sender, cache, bill, start, counter)
            start += 1000
        bills.append(bill)
    bills[1].claimed_usd = terse.claimed_usd
    return bills[0], bills[1]


@pytest.mark.parametrize("provider", OPENAI, ids=lambda p: p.name)
@pytest.mark.parametrize("turns", [(2, 4), (3, 3), (1, 1), (1, 4)], ids=str)
async def test_never_dearer_than_off(provider: Provider, turns: tuple[int, int]) -> None:
    off, terse = await replayed(provider, chats(30, turns))
    assert terse.usd < off.usd
    # What cannot be known is taken against us, and no more is claimed than was saved.
    assert terse.claimed_usd is not None
    assert terse.claimed_usd <= 1.01 * (off.usd - terse.usd)


async def test_single_requests_are_soon_shortened_to_the_budget() -> None:
    conversations = chats(40, (1, 1))
    _, first = await replayed(GPT_41, conversations[:10])
    _, all_of_them = await replayed(GPT_41, conversations)
    later = (all_of_them.input_tokens - first.input_tokens) / 30
    assert later < 1_024 < first.input_tokens / 10


class NothingCached(Upstream):
    """Speaks of cached tokens, and has none: many servers with OpenAI's API do."""

    def answer(self, raw: dict[str, Any], now: float, output_tokens: int) -> Usage:
        usage = super().answer(raw, now, output_tokens)
        return Usage(usage.input_tokens, 0, 0, output_tokens, cache_reported=True)


class SilentAboutCaches(Upstream):
    """Says nothing of cached tokens."""

    def answer(self, raw: dict[str, Any], now: float, output_tokens: int) -> Usage:
        return Usage(super().answer(raw, now, output_tokens).input_tokens, 0, 0, output_tokens)


@pytest.mark.parametrize("kind", [NothingCached, SilentAboutCaches])
async def test_no_loss_is_claimed_of_a_cache_that_is_not_there(kind: type[Upstream]) -> None:
    off, terse = await replayed(GPT_41, chats(40, (3, 3)), kind)
    assert terse.claimed_usd is not None
    assert 0.9 * (off.usd - terse.usd) < terse.claimed_usd < 1.01 * (off.usd - terse.usd)
    if kind is NothingCached:  # what it showed is believed: shortened to the budget
        assert terse.input_tokens < 0.65 * off.input_tokens


def test_over_a_socket_the_books_show_no_loss() -> None:
    tokens, saved, billed = open_tokens(), 0.0, 0.0
    direct, through = Upstream(GPT_41, tokens), Upstream(GPT_41, tokens)
    uncompressed, now = 0.0, [0.0]
    usages: list[Usage] = []

    def usage(body: dict[str, Any]) -> dict[str, Any]:
        usages.append(through.answer(body, now[0], 20))
        details = {"cached_tokens": usages[-1].cached_input_tokens}
        return {
            "prompt_tokens": usages[-1].input_tokens,
            "completion_tokens": 20,
            "prompt_tokens_details": details,
        }

    with fake_upstream() as upstream, live_gateway(upstream, CONFIGURATION) as gateway:
        upstream.usage = usage
        with gateway.client() as client:
            for chat in chats(12, (3, 3)):
                for raw in chat.requests("gpt-4.1"):
                    now[0] += 10
                    reply = client.post("/v1/chat/completions", json=raw)
                    assert reply.status_code == 200, reply.text
                    saved += float(reply.headers["x-terse-saved-usd"])
                    uncompressed += cost_of(direct.answer(raw, now[0], 20), GPT_41.price)
                now[0] += 1000
    billed = sum(cost_of(each, GPT_41.price) for each in usages)
    assert any(each.cached_input_tokens for each in usages)
    assert 0 < saved <= 1.01 * (uncompressed - billed)
