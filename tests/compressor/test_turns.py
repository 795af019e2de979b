"""Python's threads take short turns while somebody wants it, and as long ones as before afterwards."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import pytest

from compressor.engine.engine import Engine, EngineLimits
from compressor.engine.tokenizing import TextTokenizer
from compressor.engine.windows import WindowShape
from compressor.turns import SHORT_TURN, short_turns
from gateway.turns import on_thread
from tests.compressor.test_engine import WORDS, ScriptedScorer, until
from tests.support.tiny_encoder import unigram_tokenizer

USUAL = 0.004


@pytest.fixture(autouse=True)
def usual_turns() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(USUAL)
    yield
    sys.setswitchinterval(before)


def turn() -> float:
    return round(sys.getswitchinterval(), 5)


def test_turns_are_short_until_the_last_has_ended() -> None:
    first, second = short_turns(), short_turns()
    with first:
        assert turn() == SHORT_TURN
        second.__enter__()
    assert turn() == SHORT_TURN
    second.__exit__(None, None, None)
    assert turn() == USUAL


def test_turns_that_are_shorter_already_stay() -> None:
    sys.setswitchinterval(0.0002)
    with short_turns():
        assert turn() == 0.0002
    assert turn() == 0.0002


async def test_work_on_a_thread_beside_other_work() -> None:
    with short_turns():
        assert await on_thread(turn) == SHORT_TURN
        assert turn() == SHORT_TURN
    assert turn() == USUAL


@pytest.mark.parametrize(("device", "expected"), [("cuda:0", SHORT_TURN), ("cpu", USUAL)])
async def test_an_engine_on_a_gpu_wants_them_while_it_scores(device: str, expected: float) -> None:
    seen: list[float] = []
    scorer = ScriptedScorer(device=device, on_launch=lambda windows: seen.append(turn()))
    tokenizer = TextTokenizer(unigram_tokenizer())
    shape = WindowShape(32, 3, tokenizer.prefix, tokenizer.suffix)
    engine = Engine(scorer, tokenizer, shape, EngineLimits(64, 100_000))
    await engine.score(WORDS)
    assert set(seen) == {expected} and turn() == USUAL
    scorer.gate.clear()
    launched = len(scorer.batches)
    cancelled = asyncio.ensure_future(engine.score(WORDS))
    await until(lambda: len(scorer.batches) > launched)
    assert turn() == expected
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert turn() == USUAL
    scorer.gate.set()
    await engine.close()
