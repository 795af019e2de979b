"""An event loop on a thread of its own, so that coroutines can be called from anywhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")


class LoopThread:
    """Runs coroutines for callers without a loop, or with one that they must not block on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Waits for the coroutine; its exception is raised here. Safe to call from many threads at once."""
        future = self.start(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C, say: drop what still waits
            raise

    def start(self, coroutine: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Lets the coroutine run; does not wait."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._started())

    def stop(self) -> None:
        """Ends the thread; a later `run` starts a new one."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="terse-compress", daemon=True
                )
                self._thread.start()
            return self._loop
