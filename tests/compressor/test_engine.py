"""The engine's rules: batches, order, bounds, cancellation, failures and death."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compressor.engine.engine import Engine, EngineLimits, Ranking
from compressor.engine.scorer import OutOfDeviceMemory, Scored, Task, Window, pool_words
from compressor.engine.tokenizing import TextTokenizer
from compressor.engine.windows import WindowShape
from compressor.errors import EngineStopped, InvalidText, Overloaded, ScoringFailed
from compressor.shapes import WordScores
from compressor.text.words import split_words
from tests.support.tiny_encoder import unigram_tokenizer

WORDS = "The meeting began at ten. Everybody agreed that the budget was too small for this year! "


@dataclass
class ScriptedScorer:
    """P(keep) of a token is its id modulo 100, in per cent. Every hook may be replaced by a test."""

    fingerprint: str = "scripted"
    device: str = "cpu"
    batches: list[list[Window]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)  # closed: batches wait for it
    on_launch: Callable[[Sequence[Window]], None] = lambda windows: None
    probability: Callable[[Window], NDArray[np.float32]] = lambda w: (w.ids % 100 / 100).astype(np.float32)
    closed: bool = False

    def __post_init__(self) -> None:
        self.gate.set()

    def launch(self, windows: Sequence[Window], task: Task) -> ScriptedBatch:
        self.batches.append(list(windows))
        self.on_launch(windows)
        return ScriptedBatch(self, windows)

    def close(self) -> None:
        self.closed = True


@dataclass
class ScriptedBatch:
    scorer: ScriptedScorer
    windows: Sequence[Window]

    def scores(self) -> Scored:
        assert self.scorer.gate.wait(10)
        return pool_words(np.concatenate([self.scorer.probability(w) for w in self.windows]), self.windows)

    def embeddings(self) -> NDArray[np.float32]:
        rows = [np.bincount(window.ids, minlength=512).astype(np.float32) for window in self.windows]
        return np.stack([row / np.linalg.norm(row) for row in rows])


@asynccontextmanager
async def running(
    scorer: ScriptedScorer, *, batch: int = 64, waiting: int = 100_000, ranking: Ranking | None = None
) -> AsyncIterator[Engine]:
    tokenizer = TextTokenizer(unigram_tokenizer())
    shape = WindowShape(32, 3, tokenizer.prefix, tokenizer.suffix)
    engine = Engine(scorer, tokenizer, shape, EngineLimits(batch, waiting), ranking)
    try:
        yield engine
    finally:
        scorer.gate.set()
        await engine.close()


def launched(scorer: ScriptedScorer) -> int:
    """Tokens that went to the model."""
    return sum(window.ids.size for batch in scorer.batches for window in batch)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it never came true")


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
async def test_texts_without_a_token(text: str) -> None:
    async with running(ScriptedScorer()) as engine:
        scores = await engine.score(text)
        assert scores.values.size == len(split_words(text))
        assert not scores.values.any()


async def test_one_byte_a_word_with_timings_and_counts() -> None:
    async with running(ScriptedScorer()) as engine:
        scores = await engine.score(WORDS * 5)
        assert scores.values.dtype == np.uint8
        assert scores.values.size == len(split_words(WORDS * 5))
        assert len(set(scores.values.tolist())) > 3
        assert scores.fingerprint == "scripted"
        assert scores.timings.wait_ms > 0 and scores.timings.encode_ms > 0
        health = engine.health()
        assert health.ready and health.scored_texts == 1 and health.scored_tokens > 100 and health.batches > 1
        assert health.waiting_tokens == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.sampled_from("abde \n.会é"), max_size=300), min_size=2, max_size=6))
def test_batch_result_is_single_result(texts: list[str]) -> None:
    async def check() -> None:
        async with (
            running(ScriptedScorer(), batch=40) as alone,
            running(ScriptedScorer(), batch=400) as crowd,
        ):
            together = await asyncio.gather(*(crowd.score(text) for text in texts))
            for text, scores in zip(texts, together, strict=True):
                assert (await alone.score(text)).values.tolist() == scores.values.tolist()

    asyncio.run(check())


async def test_batches_are_bounded_by_tokens_and_keep_the_order() -> None:
    scorer = ScriptedScorer()
    scorer.gate.clear()
    async with running(scorer, batch=64) as engine:
        calls = [asyncio.create_task(engine.score(f"{WORDS} number {number}. ")) for number in range(6)]
        await until(lambda: engine.health().waiting_tokens > 100)
        scorer.gate.set()
        await asyncio.gather(*calls)
    sizes = [sum(window.ids.size for window in batch) for batch in scorer.batches]
    assert max(sizes) <= 64
    assert max(len(batch) for batch in scorer.batches) > 1


async def test_what_waits_is_taken_at_once_in_one_batch() -> None:
    scorer = ScriptedScorer()
    scorer.gate.clear()
    async with running(scorer, batch=10_000) as engine:
        first = [asyncio.create_task(engine.score("the budget")) for _ in range(2)]
        await until(lambda: len(scorer.batches) >= 1)
        rest = [asyncio.create_task(engine.score("too small")) for _ in range(20)]
        # Four tokens a text; those that are still being tokenised count by an estimate, so wait for the last.
        await until(lambda: engine.health().waiting_tokens + launched(scorer) == 22 * 4)
        await until(lambda: engine._line._announced == 0)
        scorer.gate.set()
        await asyncio.gather(*first, *rest)
    assert len(scorer.batches) <= 4


async def test_cancelled_texts_are_dropped() -> None:
    scorer = ScriptedScorer()
    scorer.gate.clear()
    async with running(scorer, batch=32) as engine:
        kept = asyncio.create_task(engine.score(WORDS))
        await until(lambda: len(scorer.batches) >= 1)
        dropped = asyncio.create_task(engine.score("zzzz " * 500))
        await until(lambda: engine.health().waiting_tokens > 500)
        dropped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dropped
        scorer.gate.set()
        await kept
        await until(lambda: engine.health().waiting_tokens == 0)
    assert len(scorer.batches) < 8  # of more than 20


async def test_overload_is_answered_at_once() -> None:
    scorer = ScriptedScorer()
    scorer.gate.clear()
    async with running(scorer, waiting=200) as engine:
        running_calls = [asyncio.create_task(engine.score(WORDS)) for _ in range(30)]
        done, pending = await asyncio.wait(running_calls, timeout=1)
        assert done and pending
        assert all(isinstance(task.exception(), Overloaded) for task in done)
        scorer.gate.set()
        for scores in await asyncio.gather(*pending):
            assert isinstance(scores, WordScores)
        assert (await engine.score(WORDS)).values.size  # and it goes on


async def test_a_lone_text_may_be_longer_than_the_bound() -> None:
    async with running(ScriptedScorer(), waiting=50) as engine:
        assert (await engine.score(WORDS * 50)).values.size == len(split_words(WORDS * 50))


async def test_a_failed_batch_answers_every_waiter_and_the_engine_goes_on() -> None:
    scorer = ScriptedScorer()
    scorer.gate.clear()

    def fail(windows: Sequence[Window]) -> None:
        raise ValueError("cuBLAS is unhappy")

    async with running(scorer, batch=10_000) as engine:
        first = asyncio.create_task(engine.score(WORDS))
        await until(lambda: len(scorer.batches) == 1)
        scorer.on_launch = fail
        rest = [asyncio.create_task(engine.score(WORDS)) for _ in range(5)]
        await until(lambda: engine.health().waiting_tokens > 100 or len(scorer.batches) > 1)
        scorer.gate.set()
        await first
        for result in await asyncio.gather(*rest, return_exceptions=True):
            assert isinstance(result, ScoringFailed)
            assert "cuBLAS is unhappy" in str(result)
        scorer.on_launch = lambda windows: None
        assert (await engine.score(WORDS)).values.size
        assert engine.health().ready


async def test_not_a_number_fails_that_text_alone() -> None:
    scorer = ScriptedScorer()

    def probability(window: Window) -> NDArray[np.float32]:
        values = (window.ids % 100 / 100).astype(np.float32)
        return np.full_like(values, np.nan) if window.words == 2 else values

    scorer.probability = probability
    async with running(scorer, batch=10_000) as engine:
        bad, good = await asyncio.gather(
            engine.score("two words"), engine.score("now three words"), return_exceptions=True
        )
    assert isinstance(bad, ScoringFailed) and "not numbers" in str(bad)
    assert isinstance(good, WordScores)


async def test_out_of_memory_halves_the_batch() -> None:
    scorer = ScriptedScorer()

    def too_big(windows: Sequence[Window]) -> None:
        if len(windows) > 2:
            raise OutOfDeviceMemory

    scorer.on_launch = too_big
    async with running(scorer, batch=10_000) as engine:
        async with running(ScriptedScorer()) as reference:
            expected = (await reference.score(WORDS * 20)).values
        assert (await engine.score(WORDS * 20)).values.tolist() == expected.tolist()
        batches = len(scorer.batches)
        await engine.score(WORDS * 20)
        assert max(len(batch) for batch in scorer.batches[batches:]) <= 16  # it has learnt


async def test_out_of_memory_at_one_window_is_an_error() -> None:
    scorer = ScriptedScorer()

    def never(windows: Sequence[Window]) -> None:
        raise OutOfDeviceMemory

    scorer.on_launch = never
    async with running(scorer) as engine:
        with pytest.raises(ScoringFailed, match="out of memory at batch size one"):
            await engine.score(WORDS)
        assert engine.health().ready


async def test_a_dead_worker_answers_everybody_and_turns_health_red() -> None:
    scorer = ScriptedScorer()
    scorer.gate.clear()
    async with running(scorer, batch=32) as engine:
        calls = [asyncio.create_task(engine.score(WORDS)) for _ in range(5)]
        await until(lambda: engine.health().waiting_tokens > 50)

        def die(windows: Sequence[Window]) -> None:
            raise SystemExit

        scorer.on_launch = die
        scorer.gate.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert any(isinstance(result, EngineStopped) for result in results)
        assert all(isinstance(result, EngineStopped | WordScores) for result in results)
        assert not engine.health().ready and "died" in engine.health().detail
        with pytest.raises(EngineStopped):
            await engine.score(WORDS)


async def test_close_fails_what_waits() -> None:
    scorer = ScriptedScorer()
    scorer.gate.clear()
    async with running(scorer, batch=32) as engine:
        calls = [asyncio.create_task(engine.score(WORDS * 3)) for _ in range(3)]
        await until(lambda: engine.health().waiting_tokens > 100)
        closing = asyncio.create_task(engine.close())
        await until(lambda: not engine.health().ready)
        scorer.gate.set()
        await closing
        for result in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(result, EngineStopped)
        assert scorer.closed
        with pytest.raises(EngineStopped):
            await engine.score("more")


async def test_an_unpaired_surrogate_is_refused() -> None:
    async with running(ScriptedScorer()) as engine:
        with pytest.raises(InvalidText, match="character 2"):
            await engine.score("ab\udc00")
        with pytest.raises(InvalidText):
            await engine.rank("what?", ["\udc00"])


async def test_callers_on_several_event_loops() -> None:
    async with running(ScriptedScorer()) as engine:
        expected = (await engine.score(WORDS)).values.tolist()
        found = await asyncio.gather(
            *(asyncio.to_thread(lambda: asyncio.run(engine.score(WORDS)).values.tolist()) for _ in range(4))
        )
        assert found == [expected] * 4


@pytest.mark.parametrize("ranking", [Ranking(), Ranking("cosine", "query: ", "passage: ", 0.2)])
async def test_rank_puts_the_answer_first(ranking: Ranking) -> None:
    passages = ["meeting began at ten", "wir haben gestern gesprochen", "会议在上午十点开始"]
    async with running(ScriptedScorer(), ranking=ranking) as engine:
        ranks = await engine.rank("meeting began", passages)
        assert ranks.dtype == np.uint8 and ranks.shape == (3,)
        assert ranks.argmax() == 0 and ranks[0] > ranks[1]
        assert (await engine.rank("anything", [])).size == 0
