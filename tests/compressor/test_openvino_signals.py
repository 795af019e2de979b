"""A process that let an encoder go still takes signals: OpenVINO must not unmap the stack that they need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import asyncio, faulthandler, gc, os, signal, sys
from compressor.config import CompressorConfig
from compressor.startup import open_engine

faulthandler.enable()  # asks for signals on a stack of their own, as any program may

async def main():
    for _ in range(2):
        engine = open_engine(CompressorConfig(device="cpu"))
        await engine.score("The council met on Tuesday and voted on the new budget.")
        await engine.close()
        del engine
        gc.collect()
    taken = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, taken.set)
    os.kill(os.getpid(), signal.SIGHUP)
    async with asyncio.timeout(10):
        await taken.wait()

asyncio.run(main())
print("taken")
"""


def test_a_signal_after_an_encoder_was_closed() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (ended.returncode, ended.stdout.strip()) == (0, "taken"), ended.stderr[-2000:]
