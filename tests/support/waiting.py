"""Waiting for what happens in the background, and looking at the books from outside."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.stores.open import open_local


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Returns when the condition holds. Raises AssertionError when it does not in time."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        pause.wait(0.02)


def recent(folder: Path) -> list[dict[str, Any]]:
    """The latest receipts of a gateway whose data folder this is, newest first."""

    async def read() -> list[dict[str, Any]]:
        stores = open_local(folder / "terse.db")
        try:
            return [dict(entry) for entry in await stores.ledger.recent(limit=1000)]
        finally:
            await stores.close()

    return asyncio.run(read())
