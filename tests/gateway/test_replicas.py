"""`terse compressor serve --replicas`: one address, several encoder processes, over real sockets."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from compressor.config import CompressorConfig
from compressor.errors import EngineStopped
from compressor.shapes import WordScores
from compressor.startup import open_engine
from gateway.compression.remote_engine import RemoteEngine
from tests.support.tiny_encoder import TEXTS, tiny_encoder

COMMAND = [sys.executable, "-m", "gateway", "compressor", "serve"]
TEXT = "\n".join(TEXTS)


@contextmanager
def two_replicas(model: Path, socket: Path) -> Iterator[subprocess.Popen[bytes]]:
    options = ["--socket", str(socket), "--model", str(model), "--device", "cpu", "--threads", "1"]
    process = subprocess.Popen([*COMMAND, *options, "--replicas", "2"])
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


async def metrics(socket: Path) -> str:
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as session,
        session.get("http://compressor/metrics") as answer,
    ):
        return await answer.text()


async def until_ready(socket: Path, count: int) -> None:
    for _ in range(600):
        try:
            found = await metrics(socket)
        except aiohttp.ClientError:
            found = ""
        rows = [line for line in found.splitlines() if line.startswith("terse_compressor_process_ready{")]
        if [row.rpartition(" ")[2] for row in rows].count("1.0") == count:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"never {count} processes ready")


def descendants(parent: int) -> dict[int, bytes]:
    """Process ids and command lines of children and their children."""
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found: dict[int, bytes] = {}
    while more := {child for child, owner in parents.items() if owner in {parent, *found}} - set(found):
        for child in more:
            try:
                found[child] = Path(f"/proc/{child}/cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                found[child] = b""
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
async def test_a_killed_replica_is_stood_in_for_and_comes_back(tmp_path: Path) -> None:
    model = tiny_encoder(tmp_path / "model")
    local = open_engine(CompressorConfig(model=str(model), device="cpu", threads=1))
    texts = [f"{number} {TEXT}" for number in range(40)]
    expected = [(await local.score(text)).values for text in texts]
    await local.close()
    socket = tmp_path / "compressor.sock"
    with two_replicas(model, socket) as process:
        await until_ready(socket, 2)
        engine = RemoteEngine(f"unix://{socket}")
        try:
            await engine.connect()
            assert engine.device == "cpu" and engine.fingerprint

            async def all_scores() -> list[WordScores | BaseException]:
                return await asyncio.gather(*map(engine.score, texts), return_exceptions=True)

            for found, wanted in zip(await all_scores(), expected, strict=True):
                assert isinstance(found, WordScores) and np.array_equal(found.values, wanted)
            running = asyncio.create_task(all_scores())
            await asyncio.sleep(0.02)
            second = next(pid for pid, line in descendants(process.pid).items() if b"/1.sock" in line)
            os.kill(second, signal.SIGKILL)
            for found, wanted in zip(await running, expected, strict=True):
                # The other process takes over what was on its way; nobody gets wrong scores.
                assert isinstance(found, EngineStopped) or np.array_equal(found.values, wanted)
            assert np.array_equal((await engine.score(texts[0])).values, expected[0])
            for _ in range(100):
                if any(b"/1.sock" in line for line in descendants(process.pid).values()):
                    break
                await asyncio.sleep(0.1)
            else:
                raise AssertionError("it was not started again")
            await until_ready(socket, 2)
        finally:
            await engine.close()
    assert process.returncode == 0
    assert not descendants(process.pid)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gpus", "0,0"], "different indices"),
        (["--gpus", "x"], "different indices"),
        (["--gpus", "0", "--device", "cpu"], "either --device or --gpus"),
    ],
)
def test_bad_options_are_refused(options: list[str], message: str) -> None:
    run = [*COMMAND, "--port", "1", *options]
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    result = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert result.returncode == 2 and message in result.stderr
