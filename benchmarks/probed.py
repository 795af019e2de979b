"""Terse's application with a probe beside it: how late the event loop comes, and what was computed then.

`GET /probe` tells the longest delays since it was last asked, in milliseconds: `late` by the clock; `busy`,
the part of a delay in which this process was computing, on whatever thread; and `held`, of that no more
than the delay less the time in which the loop's thread just waited for a core, as Linux accounts it
(`schedstat`).
`compressor` is a compressor process whose encoder answers at once.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from compressor.engine.fake import FakeEngine
from gateway.allocation import limit_arenas
from gateway.app import create_app
from gateway.compression.compressor_server import create_compressor_app
from gateway.configuration_file import load_config
from gateway.settings import load_settings
from gateway.telemetry import configure_logs

_EVERY_SECONDS = 0.001
_longest = {"late": 0.0, "busy": 0.0, "held": 0.0}


def _queueing() -> Callable[[], float]:
    """Tells the seconds in which this thread has waited for a core; 0 where the system does not say."""
    path = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
    if not path.exists():
        return lambda: 0.0
    file = path.open("rb", buffering=0)
    return lambda: int(os.pread(file.fileno(), 64, 0).split()[1]) / 1e9


async def _watch() -> None:
    queued = _queueing()
    while True:
        clock, processor, waited = time.perf_counter(), time.process_time(), queued()
        await asyncio.sleep(_EVERY_SECONDS)
        late = time.perf_counter() - clock - _EVERY_SECONDS
        busy = min(late, time.process_time() - processor)
        held = min(busy, late - max(0.0, queued() - waited))
        for name, seconds in (("late", late), ("busy", busy), ("held", held)):
            _longest[name] = max(_longest[name], 1000 * seconds)


limit_arenas(encoder=False)  # as `terse serve` does
_settings = load_settings()
configure_logs("warning")
_terse = create_app(load_config(os.environ["TERSE_CONFIG"], _settings), _settings)
compressor = create_compressor_app(FakeEngine())
_tasks: list[asyncio.Task[None]] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Terse, but for `/probe`."""
    if scope.get("path") == "/probe":
        body = orjson.dumps(_longest)
        _longest.update(dict.fromkeys(_longest, 0.0))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return
    if not _tasks and scope["type"] == "http":
        _tasks.append(asyncio.create_task(_watch()))
    await _terse(scope, receive, send)
