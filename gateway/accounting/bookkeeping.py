"""Hands receipts to the books in bundles, behind the answers that they belong to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from gateway.shapes import Receipt
from gateway.stores.base import Ledger
from gateway.stores.books import Row, entry_of

_log = logging.getLogger(__name__)
# One transaction (or round trip) and one change of threads for all that ended meanwhile: booking each alone
# took a fifth of the CPU at a thousand requests a second.
_EVERY_SECONDS = 0.1
# The store is far behind: what is older than this many receipts is dropped, and counted.
_MOST_WAITING = 50_000


class Bookkeeper:
    """Books receipts a tenth of a second late.

    A process that is killed loses that much of its books, and no money: budgets are settled at once.
    """

    def __init__(self, ledger: Ledger, failed: Callable[[str], None]) -> None:
        """`failed` is told the part that was survived: "books"."""
        self._ledger = ledger
        self._failed = failed
        self._waiting: list[Row] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, receipt: Receipt) -> None:
        """Takes a receipt; never waits and never raises."""
        if len(self._waiting) >= _MOST_WAITING:
            self._failed("books")
            return
        self._waiting.append(entry_of(receipt))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._book_soon())

    async def _book_soon(self) -> None:
        while self._waiting:
            await asyncio.sleep(_EVERY_SECONDS)
            await self.flush()
        self._task = None

    async def flush(self) -> None:
        """Books what waits. Trouble is logged and counted."""
        entries, self._waiting = self._waiting, []
        if not entries:
            return
        try:
            await self._ledger.book_many(entries)
        except Exception:  # noqa: BLE001 - the books must not take the gateway down
            _log.exception("%d receipts were not booked", len(entries))
            self._failed("books")

    async def close(self) -> None:
        """Books what is left."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self.flush()
