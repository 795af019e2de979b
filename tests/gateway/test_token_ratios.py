"""How many tokens are billed for one of ours, learnt from bills."""

from __future__ import annotations

import random

import pytest

from gateway.accounting.receipts import uncompressed_usage
from gateway.accounting.token_ratios import TokenRatios
from gateway.config import ModelConfig
from gateway.shapes import Caller, Usage
from gateway.stores.base import Spent
from gateway.stores.memory import MemoryCache
from policies import Match, Team
from tests.support.chat_bodies import rag
from tests.support.shortening import POLICY, TENTH_PRICE, Bench, parsed


def bills(ratio: float, count: int, seed: int = 1) -> list[tuple[int, int, int]]:
    """(counted, estimated beside, billed): a third of the estimate is there, and 30 tokens a request."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        counted, beside = draw.randint(800, 30_000), draw.randint(0, 900)
        made.append((counted, beside, round(counted * ratio * draw.gauss(1, 0.02) + beside / 3 + 30)))
    return made


@pytest.mark.parametrize("ratio", [0.9, 1.0, 1.2, 1.5])
async def test_the_ratio_is_found_beside_what_is_no_text(ratio: float) -> None:
    ratios = TokenRatios(MemoryCache())
    assert await ratios.of("claude") is None
    for bill in bills(ratio, 60):
        await ratios.note("claude", *bill)
    assert await ratios.of("claude") == pytest.approx(ratio, rel=0.02)
    assert await ratios.of("other") is None


async def test_the_first_bills_are_believed_in_part() -> None:
    ratios = TokenRatios(MemoryCache())
    await ratios.note("claude", 10_000, 0, 13_000)
    first = await ratios.of("claude")
    assert first is not None and 1.05 < first < 1.15


async def test_a_model_that_is_replaced_is_learnt_anew() -> None:
    ratios = TokenRatios(MemoryCache())
    for bill in [*bills(1.0, 300), *bills(1.3, 600, seed=2)]:
        await ratios.note("claude", *bill)
    assert await ratios.of("claude") == pytest.approx(1.3, rel=0.02)


async def test_restarts_and_replicas_begin_with_what_is_known() -> None:
    store = MemoryCache()
    ratios = TokenRatios(store)
    for bill in bills(1.25, 40):
        await ratios.note("claude", *bill)
    assert await TokenRatios(store).of("claude") == await ratios.of("claude")
    await store.set_many({"r:claude": b"[[1],2"}, 60)
    assert await TokenRatios(store).of("claude") is None


@pytest.mark.parametrize("bill", [(50, 0, 60), (1000, 0, 100_000), (1000, 0, 3), (0, 0, 0)])
async def test_bills_that_cannot_be_of_this_text_teach_nothing(bill: tuple[int, int, int]) -> None:
    ratios = TokenRatios(MemoryCache())
    await ratios.note("claude", *bill)
    assert await ratios.of("claude") is None


async def test_receipts_of_a_model_with_a_foreign_tokenizer_use_what_was_learnt() -> None:
    bench = Bench(price=TENTH_PRICE)

    async def ask(number: int, model: str, tokenizer: str | None = None) -> float | None:
        request = parsed({**rag(f"Question {number}?", stream=False), "model": model})
        done = await bench.shortener.shorten(
            request,
            Caller(Team("t"), "k"),
            Match("0", POLICY, ""),
            model=ModelConfig(model, "up", tokenizer=tokenizer),
            price=TENTH_PRICE,
            spent=Spent(0.0),
        )
        usage = Usage(round(1.3 * done.tokens_after), output_tokens=10)
        await bench.shortener.observe(done, usage)
        whole = uncompressed_usage(done, usage).input_tokens
        left_out = done.tokens_before - done.tokens_after
        assert left_out > 200
        if tokenizer is None and done.billed_per_token is not None:
            assert whole - usage.input_tokens == round(left_out * done.billed_per_token)
        return done.billed_per_token

    assert await ask(0, "claude-sonnet-4-5") is None
    for number in range(1, 30):
        learnt = await ask(number, "claude-sonnet-4-5")
    assert learnt is not None and 1.2 < learnt < 1.31  # requests of one size: some of it may be no text
    assert await ask(40, "gpt-4o-mini") is None  # its tokenizer is here
    assert await ask(41, "claude-sonnet-4-5", "o200k_base") is None  # and here the file says which to use
    assert await ask(42, "claude-haiku") is None
