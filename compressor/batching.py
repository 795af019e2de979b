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
    held: list[int] = []  # characters of each text that has begun
    running = ended = 0

    async def one(text: str) -> Result:
        nonlocal running, ended
        size = len(text) if isinstance(text, str) else 0  # what is no text is refused by the work itself
        async with changed:
            await changed.wait_for(lambda: not held or sum(held) + size <= CHARACTERS_AT_ONCE)
            held.append(size)
        try:
            while True:
                before = ended
                running += 1
                try:
                    return await work(text)
                except Overloaded:
                    if running == 1 and ended == before:
                        raise
                finally:
                    running -= 1
                async with changed:  # trying again sooner would keep the engine busy with refusals
                    while ended == before:
                        await changed.wait()
        finally:
            held.remove(size)
            ended += 1
            async with changed:
                changed.notify_all()

    tasks = [asyncio.ensure_future(one(text)) for text in texts]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
