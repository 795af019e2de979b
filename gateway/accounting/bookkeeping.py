"""Hands receipts to the books, the metrics and the log in bundles, behind the answers that they belong to."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from gateway.stores.base import Ledger
from gateway.stores.books import entry_of
from gateway.telemetry import Ended, Metrics, log_requests

if TYPE_CHECKING:
    from gateway.shapes import Receipt

_log = logging.getLogger(__name__)
# One transaction (or round trip), one write of log lines and one look at each metric for all that ended
# meanwhile: doing it for each alone took a third of the CPU at a thousand requests a second.
_EVERY_SECONDS = 0.1
# The store is far behind: what is older than this many receipts is dropped, and counted.
_MOST_WAITING = 50_000
_AT_ONCE = 250  # some three milliseconds of the event loop


class Bookkeeper:
    """Books, counts and logs receipts a tenth of a second late.

    A process that is killed loses that much of its books, metrics and log, and no money: budgets are settled
    at once.
    """

    def __init__(self, ledger: Ledger, metrics: Metrics) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._waiting: list[Ended] = []
        self._told = 0  # of those that wait, how many are counted and logged already
        self._task: asyncio.Task[None] | None = None

    def add(self, receipt: Receipt, attempts: int = 0) -> None:
        """Takes a receipt, and how often its upstream was tried; never waits and never raises."""
        if len(self._waiting) >= _MOST_WAITING:
            self._metrics.failed("books")
            return
        self._waiting.append((receipt, attempts))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._book_soon())

    async def _book_soon(self) -> None:
        while self._waiting:
            await asyncio.sleep(_EVERY_SECONDS)
            await self.flush()
        self._task = None

    def tell(self, most: int = _MOST_WAITING) -> None:
        """Counts and logs what waits, so that `/metrics` has every request that has ended."""
        ended = self._waiting[self._told : self._told + most]
        self._told += len(ended)
        try:
            self._metrics.record(ended)
            log_requests(ended)
        except Exception:  # noqa: BLE001 - neither may keep receipts out of the books
            _log.exception("%d requests were not counted or logged", len(ended))
            self._metrics.failed("accounting")

    async def flush(self) -> None:
        """Counts, logs and books what waits. Trouble is logged and counted."""
        while self._waiting:
            self.tell(_AT_ONCE)
            told, self._waiting, self._told = self._waiting[: self._told], self._waiting[self._told :], 0
            try:
                await self._ledger.book_many([entry_of(receipt) for receipt, _ in told])
            except Exception:  # noqa: BLE001 - the books must not take the gateway down
                _log.exception("%d receipts were not booked", len(told))
                self._metrics.failed("books")

    async def close(self) -> None:
        """Books what is left."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self.flush()
