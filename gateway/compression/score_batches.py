"""Short texts that are asked for together travel to the compressor process together.

A call over HTTP costs each side half a millisecond, more than the encoder takes for a short message on a GPU;
a conversation may have thousands.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence

from compressor.errors import CompressorError, DeadlineExceeded, EngineStopped, Overloaded
from compressor.shapes import WordScores

SHORT_BYTES = 8 * 1024  # a longer text is worth a call of its own
MOST_TEXTS = 16  # of one call: what many processes or replicas can share is not all given to one
# What one text is refused for, all of them are.
_OF_ALL = (Overloaded, EngineStopped, DeadlineExceeded)

_Waiting = tuple[str, "asyncio.Future[WordScores]"]


class ScoreBatches:
    """Gathers the texts of one turn of the event loop. `ask` has one scored, `ask_all` several."""

    def __init__(
        self,
        ask: Callable[[str], Awaitable[WordScores]],
        ask_all: Callable[[Sequence[str]], Awaitable[Sequence[WordScores]]],
        processes: Callable[[], int] = lambda: 1,
    ) -> None:
        """`processes` says how many may share the work now."""
        self._processes = processes
        self._ask = ask
        self._ask_all = ask_all
        self._gathered: list[_Waiting] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def score(self, text: str) -> WordScores:
        """Its scores. Raises what the engine raises; a batch that nobody waits for is cancelled there."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[WordScores] = loop.create_future()
        if not self._gathered:
            loop.call_soon(self._send)
        self._gathered.append((text, future))
        return await future

    def _send(self) -> None:
        gathered, self._gathered = [one for one in self._gathered if not one[1].done()], []
        size = min(MOST_TEXTS, max(1, math.ceil(len(gathered) / max(1, self._processes()))))
        for start in range(0, len(gathered), size):
            batch = gathered[start : start + size]
            task = asyncio.create_task(self._score(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            _cancel_when_nobody_waits(task, batch)

    async def close(self) -> None:
        """Drops what is on its way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _score(self, batch: Sequence[_Waiting]) -> None:
        try:
            if len(batch) == 1 or not await self._score_together(batch):
                await asyncio.gather(*(self._score_one(text, future) for text, future in batch))
        finally:
            _fail(batch, EngineStopped("the engine is closed"))  # whom nobody has answered

    async def _score_together(self, batch: Sequence[_Waiting]) -> bool:
        """False where one of them may be at fault, or the process knows no such call: each for itself."""
        try:
            scores = await self._ask_all([text for text, _ in batch])
        except _OF_ALL as error:
            _fail(batch, error)
            return True
        except CompressorError:
            return False
        for (_, future), values in zip(batch, scores, strict=True):
            if not future.done():
                future.set_result(values)
        return True

    async def _score_one(self, text: str, future: asyncio.Future[WordScores]) -> None:
        try:
            scores = await self._ask(text)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the waiter's
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(scores)


def _cancel_when_nobody_waits(task: asyncio.Task[None], batch: Sequence[_Waiting]) -> None:
    waiting = len(batch)

    def gone(future: asyncio.Future[WordScores]) -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting and future.cancelled():
            task.cancel()

    for _, future in batch:
        future.add_done_callback(gone)


def _fail(batch: Sequence[_Waiting], error: BaseException) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
