"""Large work on a thread, in short turns: the event loop goes on beside it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Beside a busy thread the event loop waits so long for each turn. Python's default is 5 ms; a shorter turn
# all the time costs a fifth of the CPU of small requests: the threads that write books take turns, too.
_SHORT_TURN, _TURN = 0.0005, 0.005


class _Running:
    """How much large work is on threads now."""

    count = 0


async def on_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The function's result, from a thread."""
    _Running.count += 1
    sys.setswitchinterval(_SHORT_TURN)
    try:
        return await asyncio.to_thread(function, *args, **kwargs)
    finally:
        _Running.count -= 1
        if not _Running.count:
            sys.setswitchinterval(_TURN)
