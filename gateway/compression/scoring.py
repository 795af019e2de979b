"""Gets the scores of texts: from the cache, or from the engine, each text once however many requests ask for
it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice
from typing import Any, ParamSpec, TypeVar

from compressor.engine.protocol import ScoringEngine
from compressor.errors import CompressorError, DeadlineExceeded
from compressor.shapes import ScoreTimings, WordScores
from compressor.text.units import question_units
from compressor.turns import in_turns
from gateway.compression.score_cache import ScoreCache, Scores, score_key
from gateway.compression.text_memory import TextMemory
from gateway.releasing import keep
from gateway.shapes import CacheState
from gateway.turns import on_thread

P = ParamSpec("P")
T = TypeVar("T")

# Naming so many texts takes a millisecond; more is work for a thread.
_INLINE_TEXTS, _INLINE_CHARACTERS = 64, 500_000
# Texts of one request on their way at once: enough for full batches, and few enough to hear of them all at
# once. Of a request that is too late no more than the first so many are scored in the background: a hundred
# thousand texts would keep others out for long.
_IN_FLIGHT, _IN_BACKGROUND = 64, 256
_STARTED_AT_ONCE = 16  # then others get their turn; those of one turn may travel together


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of some texts, in their order, and how they were come by."""

    scores: list[Scores]
    cache: CacheState
    wait_ms: float = 0.0  # longest wait in the engine's queue
    encode_ms: float = 0.0
    relevance: list[Scores | None] | None = None  # one byte a question unit; None: not asked, or too late


@dataclass(slots=True)
class _Flight:
    """One text on its way through the engine, and how many requests wait for it."""

    task: asyncio.Task[WordScores]
    waiters: int = 0
    keep: bool = False  # a request gave up at its deadline: the scores are for the cache


@dataclass(slots=True)
class _Waiting:
    """What one request waits for: texts on their way, and what has come of the others."""

    flights: dict[str, _Flight] = field(default_factory=dict)
    results: dict[str, WordScores] = field(default_factory=dict)
    failed: BaseException | None = None
    landed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, key: str, flight: _Flight) -> None:
        """Waits for one more."""
        flight.waiters += 1
        self.flights[key] = flight
        flight.task.add_done_callback(lambda task: self._take(key, task))

    def knows(self, key: str) -> bool:
        """Whether this text is on its way, or scored."""
        return key in self.flights or key in self.results

    async def until(self, most: int) -> None:
        """Returns when at most so many are on their way. Raises what one of them failed with."""
        while self.failed is None and len(self.flights) > most:
            self.landed.clear()
            await self.landed.wait()
        if self.failed is not None:
            raise self.failed

    def _take(self, key: str, task: asyncio.Task[WordScores]) -> None:
        flight = self.flights.pop(key, None)
        if flight is None:
            return  # nobody waits any more
        flight.waiters -= 1
        error = _error_of(task)
        if error is None:
            self.results[key] = task.result()
        elif self.failed is None:
            self.failed = error
        self.landed.set()


@dataclass(slots=True)
class _Speed:
    """Characters a millisecond that the engine has shown, smoothed."""

    rate: float = 0.0
    seen: int = 0

    def note(self, characters: int, milliseconds: float) -> None:
        if milliseconds <= 0 or characters < 500:
            return  # too short to say anything of long texts
        rate = characters / milliseconds
        self.rate = rate if not self.seen else 0.8 * self.rate + 0.2 * rate
        self.seen += 1


@dataclass(slots=True)
class ScoreSource:
    """The one place that asks the engine. `deadline` in seconds is the caller's."""

    engine: ScoringEngine
    cache: ScoreCache
    memory: TextMemory = field(default_factory=TextMemory)
    _flights: dict[str, _Flight] = field(default_factory=dict)
    _speed: _Speed = field(default_factory=_Speed)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def scores_of(
        self, texts: Sequence[str], salt: bytes, deadline: float, question: str = ""
    ) -> Scored:
        """Scores of each text, and with a question how much each of its units bears on it.

        Raises DeadlineExceeded when they are not there in time (scoring goes on and fills the cache), and
        whatever the engine raises: Overloaded, EngineStopped, InvalidText, ScoringFailed.
        """
        if not question:
            return await self._scores_of(texts, salt, deadline)
        ranking = asyncio.create_task(self._rank(question, texts))
        try:
            scored, relevance = await asyncio.gather(
                self._scores_of(texts, salt, deadline), self._in_time(ranking, deadline)
            )
        finally:
            ranking.cancel()
        return replace(scored, relevance=relevance)

    async def _rank(self, question: str, texts: Sequence[str]) -> list[Scores | None]:
        """All units of all texts in one call, which the engine can batch."""
        units = await asyncio.to_thread(lambda: [question_units(text).passages for text in texts])
        values = await self.engine.rank(question, [unit for parts in units for unit in parts])
        ends = list(accumulate(map(len, units)))
        return [values[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    async def _in_time(
        self, ranking: asyncio.Task[list[Scores | None]], deadline: float
    ) -> list[Scores | None] | None:
        """The ranking, or None: without it the scores alone decide, which is worse, not wrong."""
        try:
            return await asyncio.wait_for(ranking, max(0.0, deadline))
        except (TimeoutError, CompressorError):
            return None

    async def _scores_of(self, texts: Sequence[str], salt: bytes, deadline: float) -> Scored:
        fingerprint, memory = self.engine.fingerprint, self.memory.of_team(salt)

        def named() -> list[str]:
            return [score_key(salt, fingerprint, memory.of(text).digest) for text in in_turns(texts)]

        quick = len(texts) < _INLINE_TEXTS and memory.new_characters(texts) < _INLINE_CHARACTERS
        keys = named() if quick else await on_thread(named)
        cached = await self.cache.get(keys)
        known, missing = await self._at_work(len(keys), _sorted_out, keys, cached, texts)
        if not missing:
            return Scored(cached, "hit")  # type: ignore[arg-type]  # none is missing
        fresh = await self._score(missing, deadline)
        return await self._at_work(len(keys), _scored, keys, known, fresh)

    async def _at_work(self, texts: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result; with many texts it is work for a thread."""
        if texts > _INLINE_TEXTS:
            return await on_thread(function, *args, **kwargs)
        return function(*args, **kwargs)

    def expected_seconds(self, characters: int) -> float | None:
        """How long the engine would take for so much text, from what it has shown; None before it has."""
        if self._speed.seen < 3 or self._speed.rate <= 0:
            return None
        return characters / self._speed.rate / 1000

    async def close(self) -> None:
        """Drops what is still being scored."""
        tasks = [flight.task for flight in self._flights.values()] + list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _score(self, missing: dict[str, str], deadline: float) -> dict[str, WordScores]:
        waiting = _Waiting()
        late = False
        ahead = iter(missing.items())
        try:
            for number, (key, text) in enumerate(islice(ahead, _IN_FLIGHT), 1):
                waiting.add(key, self._flight(key, text))
                if number % _STARTED_AT_ONCE == 0:
                    await asyncio.sleep(0)
            async with asyncio.timeout(max(0.0, deadline)):
                await self._go_on(waiting, ahead)
            return waiting.results
        except TimeoutError:
            late = True
            left = len(missing) - len(waiting.results)
            first = islice(missing.items(), _IN_BACKGROUND)
            if rest := [one for one in first if not waiting.knows(one[0])]:
                self._in_background(self._score_later(rest))
            raise DeadlineExceeded(f"{left} of {len(missing)} texts were not scored in time") from None
        finally:
            self._leave(waiting.flights, late)

    async def _go_on(self, waiting: _Waiting, ahead: Iterable[tuple[str, str]]) -> None:
        """Returns when all texts are scored, `_IN_FLIGHT` at a time."""
        for key, text in ahead:
            await waiting.until(_IN_FLIGHT - 1)
            values = self.cache.peek(key)  # another request may have had it scored meanwhile
            if values is None:
                waiting.add(key, self._flight(key, text))
            else:
                waiting.results[key] = WordScores(values, self.engine.fingerprint, ScoreTimings(0, 0))
        await waiting.until(0)

    async def _score_later(self, texts: Sequence[tuple[str, str]]) -> None:
        """For the cache; trouble ends it."""
        waiting = _Waiting()
        try:
            await self._go_on(waiting, texts)
        except CompressorError:
            pass  # whoever needs these texts will hear of it
        finally:
            self._leave(waiting.flights, late=False)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _leave(self, flights: dict[str, _Flight], late: bool) -> None:
        """A text that nobody waits for any more is dropped, unless it was only too late."""
        for flight in flights.values():
            flight.waiters -= 1
            flight.keep = flight.keep or late
            if flight.waiters == 0 and not flight.keep and not flight.task.done():
                flight.task.cancel()
        flights.clear()

    def _flight(self, key: str, text: str) -> _Flight:
        flight = self._flights.get(key)
        if flight is None or flight.task.cancelling():
            flight = self._flights[key] = _Flight(asyncio.create_task(self._ask(text)))
            asked_of = self.engine.fingerprint
            flight.task.add_done_callback(lambda task: self._landed(key, asked_of, task))
        return flight

    async def _ask(self, text: str) -> WordScores:
        start = time.perf_counter()
        result = await self.engine.score(text)
        self._speed.note(len(text), (time.perf_counter() - start) * 1000)
        return result

    def _landed(self, key: str, asked_of: str, task: asyncio.Task[WordScores]) -> None:
        flight = self._flights.get(key)
        if flight is not None and flight.task is task:
            del self._flights[key]
        if task.cancelled() or task.exception() is not None:
            return  # who waited got the error; who did not, needs none
        if task.result().fingerprint != asked_of:
            return  # a fleet that changes its model: another encoder answered than the key names
        self._in_background(self.cache.put({key: task.result().values}))


def _sorted_out(
    keys: Sequence[str], cached: Sequence[Scores | None], texts: Sequence[str]
) -> tuple[dict[str, Scores | None], dict[str, str]]:
    """What is known under each key, and the texts of those of which nothing is."""
    keep(keys, cached)
    known = {key: scores for key, scores in in_turns(zip(keys, cached, strict=True))}
    missing = {key: text for key, text in in_turns(zip(keys, texts, strict=True)) if known[key] is None}
    keep(missing)
    return known, missing


def _scored(keys: Sequence[str], known: dict[str, Scores | None], fresh: Mapping[str, WordScores]) -> Scored:
    """All scores together. `fresh` has those that were missing."""
    keep(fresh)
    state: CacheState = "miss" if len(fresh) == len(known) else "partial"
    for key, result in in_turns(fresh.items()):  # one by one: |= is one step
        known[key] = result.values
    timings = [result.timings for result in fresh.values()]
    scores = [known[key] for key in in_turns(keys)]
    keep(known, scores)
    return Scored(
        scores,  # type: ignore[arg-type]  # all there now
        state,
        max(each.wait_ms for each in timings),
        max(each.encode_ms for each in timings),
    )


def _error_of(task: asyncio.Task[WordScores]) -> BaseException | None:
    if task.cancelled():
        return CompressorError("scoring was dropped")
    return task.exception()
