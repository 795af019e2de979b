"""Many texts through one engine: enough at once to keep it busy, never more than its line takes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from compressor.errors import Overloaded

Result = TypeVar("Result")

# Some 40k tokens: one batch of a GPU is full while the next texts are tokenised and the last put together.
# More would only hold memory: texts are tokenised and put together one after the other (`lanes.py`).
CHARACTERS_AT_ONCE = 160_000


async def for_each(texts: Sequence[str], work: Callable[[str], Awaitable[Result]]) -> list[Result]:
    """Results in order. The first error ends the rest and is raised.

    A text that the engine is too busy for waits until another of these has ended; alone, it raises
    Overloaded, since then others keep the engine busy.
    """
    changed = asyncio.Condition()
    at_work: list[int] = []  # characters of each text
    ended = 0

    async def one(text: str) -> Result:
        nonlocal ended
        size = len(text) if isinstance(text, str) else 0  # what is no text is refused by the work itself
        while True:
            async with changed:
                await changed.wait_for(lambda: not at_work or sum(at_work) + size <= CHARACTERS_AT_ONCE)
                at_work.append(size)
            try:
                return await work(text)
            except Overloaded:
                if len(at_work) == 1:
                    raise
            finally:
                at_work.remove(size)
                ended += 1
                before = ended
                async with changed:
                    changed.notify_all()
            async with changed:
                while ended == before:  # none of the others' since
                    await changed.wait()

    tasks = [asyncio.ensure_future(one(text)) for text in texts]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
