"""Python's threads take short turns while somebody wants it, and as long ones as before afterwards; work of
many small steps gives its turn away between them.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from compressor.engine.engine import Engine, EngineLimits
from compressor.engine.tokenizing import TextTokenizer
from compressor.engine.windows import WindowShape
from compressor.text import choice
from compressor.text.choice import Passage, shorten_passages
from compressor.text.passages import Prepared
from compressor.text.tokens import counter_for
from compressor.text.words import split_words
from compressor.turns import SHORT_TURN, give_way, giving_way, in_turns, let_go, short_turns
from gateway import turns
from gateway.releasing import LARGE, large_request
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


def test_the_shortest_that_is_wanted_counts() -> None:
    with short_turns():
        with short_turns(0.0001):
            assert turn() == 0.0001
        with short_turns(0.0003):
            assert turn() == 0.0001  # until the last has ended
    assert turn() == USUAL


async def test_work_on_a_thread_beside_other_work() -> None:
    with short_turns():
        assert await on_thread(turn) < SHORT_TURN
        assert turn() < SHORT_TURN  # until both have ended
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


def test_nothing_is_given_away_unless_promised_in_this_thread() -> None:
    given: list[int] = []
    others = threading.Thread(target=give_way)
    with giving_way(lambda: given.append(1)):
        others.start()
        others.join()
        assert not given
        assert list(in_turns("ab")) == ["a", "b"] and len(given) == 2
        let_go(portions := list(range(120)))
        assert not portions and len(given) == 5
    give_way()
    assert len(given) == 5


async def test_the_event_loop_has_its_turn_whenever_a_thread_gives_it_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "_TURN_SECONDS", 0)
    rounds, ended = 0, False

    def work() -> list[int]:
        return [rounds for _ in in_turns(range(50))]

    async def others() -> None:
        nonlocal rounds
        while not ended:
            rounds += 1
            await asyncio.sleep(0)

    beside = asyncio.ensure_future(others())
    seen = await on_thread(work)
    ended = True
    await beside
    assert all(later > earlier for earlier, later in pairwise(seen))


@pytest.mark.parametrize("closed", [True, False])
def test_work_goes_on_where_the_event_loop_has_ended(monkeypatch: pytest.MonkeyPatch, closed: bool) -> None:
    monkeypatch.setattr(turns, "_TURN_SECONDS", 0)
    monkeypatch.setattr(turns, "_LONGEST_SECONDS", 0.05)
    begun, ended, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        ended.wait(30)
        for _ in in_turns(range(1000)):  # a second where each one waited
            pass
        done.set()

    loop = asyncio.new_event_loop()
    task = loop.create_task(on_thread(work))
    loop.run_until_complete(asyncio.sleep(0))
    assert begun.wait(10)
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    if closed:
        loop.close()
    ended.set()
    assert done.wait(10)
    loop.close()


async def test_each_size_of_requests_has_a_thread_of_its_own() -> None:
    def name() -> str:
        return threading.current_thread().name

    assert {await on_thread(name) for _ in range(3)} == {"terse-work_0"}
    with large_request(LARGE):
        assert await on_thread(name) == "terse-large_0"
    with large_request(32 * LARGE):
        assert await on_thread(name) == "terse-huge_0"


def test_shortening_many_texts_gives_way_before_each_step_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """What numpy does with short texts shuts others out; see `compressor.turns`."""
    given = 0
    steps: dict[str, list[int]] = {}

    def watch(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            steps.setdefault(name, []).append(given)
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)

    def give() -> None:
        nonlocal given
        given += 1

    watch(choice, "prepare")
    watch(Prepared, "rendered")
    texts = [f"{n} and so on, as was said before, and once more after that." for n in range(30)]
    sizes = [len(split_words(text)) for text in texts]
    scores = np.random.default_rng(0)
    passages = [
        Passage(text, scores.integers(0, 256, size, np.uint8))
        for text, size in zip(texts, sizes, strict=True)
    ]
    with giving_way(give):
        shorten_passages(passages, 250, counter_for("o200k_base"))
    assert len(steps["prepare"]) == 30 and len(steps["rendered"]) >= 30
    for counts in steps.values():
        assert len(set(counts)) == len(counts)


def test_threads_that_count_tokens_give_way_as_their_caller_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compressor.text.tokens._THREADS", 2)
    gave: set[str] = set()
    counter = counter_for("o200k_base")
    texts = [f"{n} " + "and so on, " * 400 for n in range(60)]  # more than one thread is worth
    with giving_way(lambda: gave.add(threading.current_thread().name)):
        counts = counter.count_many(texts)
    assert counts == [counter.count(text) for text in texts]
    assert gave - {threading.current_thread().name}
    gave.clear()
    counter.count_many(texts)
    assert not gave


def test_short_texts_are_counted_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compressor.text.tokens._THREADS", 2)
    counter = counter_for("o200k_base")
    short = [f"{n} " + "and so on, " * 40 for n in range(600)]
    counts = [counter.count(text) for text in short]
    with monkeypatch.context() as patch:
        patch.setattr("compressor.text.tokens.ThreadPoolExecutor", None)  # handing over costs more
        assert counter.count_many(short) == counts
    long = [f"{n} " + "and so on, " * 400 for n in range(60)]
    assert counter.count_many([*short, *long, *short]) == [*counts, *map(counter.count, long), *counts]


async def test_giving_way_lasts_for_a_whole_round_of_the_event_loop() -> None:
    """What a step of the loop leads to next is over, too, when the thread goes on."""
    loop = asyncio.get_running_loop()
    done: list[str] = []

    def second() -> None:
        time.sleep(0.01)
        done.append("second")

    def work() -> list[str]:
        time.sleep(0.002)  # so that a turn is due
        loop.call_soon_threadsafe(loop.call_soon, second)
        give_way()
        return list(done)

    assert await on_thread(work) == ["second"]
