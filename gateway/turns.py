"""Large work on a thread, in short turns: the event loop goes on beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from compressor.turns import short_turns

P = ParamSpec("P")
T = TypeVar("T")


async def on_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The function's result, from a thread."""
    with short_turns():
        return await asyncio.to_thread(function, *args, **kwargs)
