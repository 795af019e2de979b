from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from compressor.engine.fake import FakeEngine
from compressor.errors import DeadlineExceeded, Overloaded
from compressor.shapes import WordScores
from gateway.compression.score_cache import ScoreCache, team_salt
from gateway.compression.scoring import ScoreSource
from gateway.compression.token_counts import TokenCounts
from gateway.stores.memory import MemoryCache
from tests.support.chat_bodies import long_text

SALT = team_salt(b"", "search")
TEXT = long_text(20)


def source(engine: FakeEngine) -> ScoreSource:
    return ScoreSource(engine, ScoreCache(MemoryCache()))


async def test_hit_partial_miss() -> None:
    scores = source(FakeEngine())
    assert (await scores.scores_of(["a b", "c"], SALT, 1)).cache == "miss"
    assert (await scores.scores_of(["a b", "d"], SALT, 1)).cache == "partial"
    hit = await scores.scores_of(["d", "a b", "d"], SALT, 1)
    assert hit.cache == "hit"
    assert [len(values) for values in hit.scores] == [1, 2, 1]


async def test_nothing_to_score() -> None:
    assert (await source(FakeEngine()).scores_of([], SALT, 1)).scores == []


async def test_an_error_reaches_every_waiter_and_is_not_cached() -> None:
    engine = FakeEngine(delay=0.02, error=Overloaded("full"))
    scores = source(engine)
    results = await asyncio.gather(
        *(scores.scores_of(["text"], SALT, 1) for _ in range(5)), return_exceptions=True
    )
    assert all(isinstance(result, Overloaded) for result in results)
    engine.error = None
    assert (await scores.scores_of(["text"], SALT, 1)).cache == "miss"


async def test_a_deadline_does_not_stop_the_work() -> None:
    engine = FakeEngine(delay=0.05)
    scores = source(engine)
    with pytest.raises(DeadlineExceeded):
        await scores.scores_of(["one", "two"], SALT, 0.01)
    await asyncio.sleep(0.1)
    assert (await scores.scores_of(["one", "two"], SALT, 0.0)).cache == "hit"


async def test_a_second_request_may_have_more_time() -> None:
    scores = source(FakeEngine(delay=0.06))
    early = asyncio.create_task(scores.scores_of(["text"], SALT, 0.01))
    late = asyncio.create_task(scores.scores_of(["text"], SALT, 1.0))
    with pytest.raises(DeadlineExceeded):
        await early
    assert (await late).cache == "miss"
    assert isinstance(scores.engine, FakeEngine)
    assert scores.engine.scored == ["text"]


async def test_a_question_ranks_the_units_of_each_text() -> None:
    text = "The cat sat. The dog ran. Saffron is the secret of the soup."
    found = await source(FakeEngine()).scores_of([text, "Other."], SALT, 1, "secret of the soup")
    assert found.relevance is not None
    ranks = found.relevance[0]
    assert ranks is not None
    assert int(ranks.argmax()) >= 1
    assert len(found.relevance) == 2


async def test_a_ranking_that_is_late_is_done_without() -> None:
    class SlowRank(FakeEngine):
        async def rank(self, question: str, passages: object) -> object:  # type: ignore[override]
            await asyncio.sleep(5)
            return None

    scores = source(SlowRank())
    found = await scores.scores_of(["some text"], SALT, 0.05, "question")
    assert found.relevance is None
    assert len(found.scores[0]) == 2


async def test_closing_leaves_nothing_behind() -> None:
    scores = source(FakeEngine(delay=10))
    with pytest.raises(DeadlineExceeded):
        await scores.scores_of(["text"], SALT, 0.0)
    await scores.close()
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_counts_are_remembered_and_right() -> None:
    counts = TokenCounts(entries=3)
    counter = await counts.counter("o200k_base")
    texts = [long_text(n) for n in (1, 2, 200, 1)] + ["", "hi", "\ud800"]
    for _ in range(2):
        assert await counts.count_many(texts, counter) == [counter.count(text) for text in texts]


async def test_scores_of_a_fleet_that_changes_its_model_are_used_and_not_cached() -> None:
    engine = FakeEngine(fingerprint="old", delay=0.02)
    scores = source(engine)
    asked = asyncio.create_task(scores.scores_of([TEXT], SALT, 5))
    await asyncio.sleep(0)
    engine.fingerprint = "new"  # answers with this one
    assert (await asked).cache == "miss"
    engine.fingerprint = "old"
    assert (await scores.scores_of([TEXT], SALT, 5)).cache == "miss", (
        "the new model's scores under the old key"
    )
    assert (await scores.scores_of([TEXT], SALT, 5)).cache == "hit"


class CountingEngine(FakeEngine):
    """Knows how many texts were with it at once."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.here = self.most = 0

    async def score(self, text: str) -> WordScores:
        self.here += 1
        self.most = max(self.most, self.here)
        try:
            return await super().score(text)
        finally:
            self.here -= 1


MANY = [f"text number {n}" for n in range(1000)]


async def test_thousands_of_texts_are_not_all_with_the_engine_at_once() -> None:
    engine = CountingEngine(delay=0.05)
    scored = await source(engine).scores_of(MANY, SALT, 30)
    assert (scored.cache, len(scored.scores), engine.most) == ("miss", 1000, 64)
    assert sorted(engine.scored) == sorted(MANY)
    again = await source(FakeEngine()).scores_of(MANY, SALT, 30)
    assert all(map(np.array_equal, scored.scores, again.scores))


async def test_of_too_many_texts_the_first_are_scored_in_the_background() -> None:
    engine = CountingEngine(delay=0.05)
    scores = source(engine)
    with pytest.raises(DeadlineExceeded, match="1000 of 1000"):
        await scores.scores_of(MANY, SALT, 0.0)
    await asyncio.sleep(1)
    assert engine.most == 2 * 64  # those that were late, and the next
    assert sorted(engine.scored) == sorted(MANY[:256])
    assert (await scores.scores_of(MANY[:256], SALT, 0.0)).cache == "hit"


async def test_the_first_failure_of_thousands_ends_them_all() -> None:
    engine = CountingEngine(delay=0.01, error=Overloaded("full"))
    with pytest.raises(Overloaded):
        await source(engine).scores_of(MANY, SALT, 30)
    await asyncio.sleep(0)
    assert engine.here == 0
    assert engine.most == 64


async def test_two_requests_with_the_same_thousand_texts_have_each_scored_once() -> None:
    engine = CountingEngine(delay=0.001)
    scores = source(engine)
    first = asyncio.create_task(scores.scores_of(MANY, SALT, 30))
    second = asyncio.create_task(scores.scores_of(MANY[::-1], SALT, 30))
    left = asyncio.create_task(scores.scores_of(MANY[::2], SALT, 30))
    await asyncio.sleep(0.05)
    left.cancel()
    assert len((await first).scores) == len((await second).scores) == 1000
    assert len(engine.scored) <= 1000 + 256  # what one dropped as the other came to it
    assert not scores._flights
