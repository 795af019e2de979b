"""Real servers for tests: an ASGI app on granian in a thread, on a free port of the loopback."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

START_SECONDS = 30.0


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LoopThread:
    """An event loop in a thread of its own, so that servers and a test's own loop never share one."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def call(self, coroutine: Any, timeout: float = START_SECONDS) -> Any:
        """Runs the coroutine on the loop, from any other thread, and returns what it returns."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def close(self) -> None:
        """Ends what still runs, then the loop and the thread."""
        self.call(self._cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(START_SECONDS)
        self.loop.close()

    async def _cancel_all(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.loop.shutdown_asyncgens()


@contextmanager
def live_server(app: Any) -> Iterator[str]:
    """Serves the ASGI app (lifespan included) until the block ends; yields `http://127.0.0.1:PORT`."""
    port = free_port()
    thread = LoopThread("live-server")

    async def start() -> tuple[Server, asyncio.Task[None]]:
        server = Server(
            app, address="127.0.0.1", port=port, interface=Interfaces.ASGI, http=HTTPModes.http1,
            websockets=False, log_enabled=False,
        )  # fmt: skip
        serving = asyncio.get_running_loop().create_task(server.serve())
        return server, serving

    async def stop(server: Server, serving: asyncio.Task[None]) -> None:
        server.stop()
        await serving

    server, serving = thread.call(start())
    try:
        _wait_for_port(port, serving)
        yield f"http://127.0.0.1:{port}"
    finally:
        if not serving.done():
            thread.call(stop(server, serving))
        thread.close()


def _wait_for_port(port: int, serving: asyncio.Task[None]) -> None:
    """Returns once the server answers; raises if it ended instead."""
    waiter = threading.Event()
    for _ in range(int(START_SECONDS / 0.02)):
        if serving.done():
            raise RuntimeError(f"the server ended before it served: {serving.exception()!r}")
        try:
            httpx.get(f"http://127.0.0.1:{port}/health/liveness", timeout=START_SECONDS)
            return
        except httpx.TransportError:
            waiter.wait(0.02)
    raise TimeoutError(f"nothing listens on port {port}")
