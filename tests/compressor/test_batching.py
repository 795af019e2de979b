"""Many texts of one call: order, bounds, and an engine that is too busy."""

from __future__ import annotations

import asyncio

import pytest

from compressor import Compressor, InvalidText, Overloaded
from compressor.batching import CHARACTERS_AT_ONCE, for_each
from compressor.engine.engine import Engine, EngineLimits
from compressor.engine.tokenizing import TextTokenizer
from compressor.engine.windows import WindowShape
from tests.compressor.test_engine import WORDS, ScriptedScorer
from tests.support.tiny_encoder import unigram_tokenizer


async def test_results_are_in_order_and_no_more_characters_at_work_than_allowed() -> None:
    texts = [letter * size for letter in "ab" for size in (90_000, 80_000, 70_000, 5, 200_000)]
    now: list[str] = []
    most: list[list[str]] = []

    async def work(text: str) -> str:
        now.append(text)
        most.append(list(now))
        await asyncio.sleep(len(text) % 3 / 1000)
        now.remove(text)
        return text.upper()

    assert await for_each(texts, work) == [text.upper() for text in texts]
    assert all(len(some) == 1 or sum(map(len, some)) <= CHARACTERS_AT_ONCE for some in most)
    assert max(map(len, most)) > 1


async def test_an_error_cancels_the_rest() -> None:
    ended: list[str] = []

    async def work(text: str) -> str:
        if text == "bad":
            await asyncio.sleep(0.001)
            raise InvalidText("bad")
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(text)
        return text

    with pytest.raises(InvalidText):
        await for_each(["one", "bad", "two"], work)
    assert ended == ["one", "two"]


async def test_a_busy_engine_is_waited_for_unless_others_keep_it_busy() -> None:
    at_work = 0
    tries = 0

    async def only_one_at_a_time(text: str) -> str:
        nonlocal at_work, tries
        tries += 1
        if at_work:
            raise Overloaded("full")
        at_work += 1
        await asyncio.sleep(0.001)
        at_work -= 1
        return text

    assert await for_each(list("abcd"), only_one_at_a_time) == list("abcd")
    assert 4 < tries <= 4 + 3 + 2 + 1  # once more at the end of each other, and no more

    async def always_full(text: str) -> str:
        raise Overloaded("full")

    with pytest.raises(Overloaded):
        await for_each(["a", "b"], always_full)


def test_a_batch_beyond_the_line_of_the_engine_is_shortened_all_the_same() -> None:
    tokenizer = TextTokenizer(unigram_tokenizer())
    shape = WindowShape(32, 3, tokenizer.prefix, tokenizer.suffix)
    engine = Engine(ScriptedScorer(), tokenizer, shape, EngineLimits(64, 600))
    texts = [f"{number} {WORDS * 8}" for number in range(12)]
    with Compressor(engine) as compressor:
        results = compressor.compress_batch(texts, keep=0.5)
        assert [one.text for one in results] == [compressor.compress(text, keep=0.5).text for text in texts]
