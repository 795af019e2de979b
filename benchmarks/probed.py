"""Terse's application with a probe beside it: how late the event loop comes, and what was computed then.

`GET /probe` tells the longest delays since it was last asked, in milliseconds: `late` by the clock, and
`busy`, the part of a delay in which this process itself was computing (the rest is the machine's other work).
`compressor` is a compressor process whose encoder answers at once.
"""

from __future__ import annotations

import asyncio
import os
import time
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
_longest = {"late": 0.0, "busy": 0.0}


async def _watch() -> None:
    while True:
        clock, processor = time.perf_counter(), time.process_time()
        await asyncio.sleep(_EVERY_SECONDS)
        late = time.perf_counter() - clock - _EVERY_SECONDS
        busy = min(late, time.process_time() - processor)
        _longest["late"] = max(_longest["late"], 1000 * late)
        _longest["busy"] = max(_longest["busy"], 1000 * busy)


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
        _longest.update(late=0.0, busy=0.0)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return
    if not _tasks and scope["type"] == "http":
        _tasks.append(asyncio.create_task(_watch()))
    await _terse(scope, receive, send)
