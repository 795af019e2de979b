"""Starting and stopping the gateway many times leaves no descriptor, thread or task behind."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

from compressor.engine.fake import FakeEngine
from gateway.app import create_app
from gateway.settings import Settings
from tests.support.live_gateway import read_yaml

TIMES = 30
SLACK = 3  # a pool's thread or a library's pipe that comes with the first use


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def open_and_close(folder: Path) -> None:
    settings = Settings(data_dir=str(folder))
    config = read_yaml("policies:\n  default: {keep: 0.5}\n", settings)
    app = create_app(config, settings, engine=FakeEngine())
    async with app.router.lifespan_context(app):
        pass


async def test_thirty_starts_leak_nothing(tmp_path: Path) -> None:
    for _ in range(3):
        await open_and_close(tmp_path)
    gc.collect()
    before = descriptors(), threading.active_count()
    for _ in range(TIMES):
        await open_and_close(tmp_path)
    gc.collect()
    after = descriptors(), threading.active_count()
    assert after[0] <= before[0] + SLACK, f"{before[0]} descriptors became {after[0]}"
    assert after[1] <= before[1] + SLACK, f"{before[1]} threads became {after[1]}"
