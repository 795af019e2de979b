"""As deployed: gateway processes choose words, one compressor process owns the GPU, a socket between."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.encoders.measuring import PROMPT_TOKENS, note
from compressor.batching import for_each

TEXTS_EACH = 8
_START_SECONDS, _WORK_SECONDS = 60, 90


@contextlib.contextmanager
def compressor_process(folder: Path, precision: str, places: Sequence[str], encoders: int) -> Iterator[str]:
    """The URL of `terse compressor serve`, once all its encoders answer; `places` are options of it."""
    socket = Path(tempfile.mkdtemp()) / "compressor.sock"
    command = [sys.executable, "-m", "gateway.commands.compressor", "--socket", str(socket)]
    options = ["--model", str(folder), "--precision", precision, *places]
    server = subprocess.Popen([*command, *options])
    try:
        asyncio.run(wait_until_ready(f"unix://{socket}", server, encoders))
        yield f"unix://{socket}"
    finally:
        server.terminate()
        server.wait(30)


async def wait_until_ready(url: str, server: subprocess.Popen[bytes], encoders: int) -> None:
    """Returns once every encoder process answers. Its socket is there before its model is."""
    import aiohttp

    from compressor.errors import EngineStopped
    from gateway.compression.remote_engine import RemoteEngine

    engine = RemoteEngine(url)
    connector = aiohttp.UnixConnector(url.removeprefix("unix://"))
    try:
        async with aiohttp.ClientSession(connector=connector) as session:
            for _ in range(1200):
                with contextlib.suppress(EngineStopped, aiohttp.ClientError):
                    await engine.connect()
                    text = await (await session.get("http://compressor/metrics")).text()
                    rows = [
                        line for line in text.splitlines() if line.startswith("terse_compressor_process_r")
                    ]
                    if encoders == 1 or sum(row.endswith(" 1.0") for row in rows) == encoders:
                        return
                if server.poll() is not None:
                    raise RuntimeError("the compressor process ended")
                await asyncio.sleep(0.1)
            raise RuntimeError("the compressor process never became ready")
    finally:
        await engine.close()


def client(url: str, texts: list[str], chosen: bool, ready: Any, start: Any) -> None:
    """One gateway process's work: scores its texts in the compressor process, or shortens them by that."""
    from compressor import Compressor
    from gateway.compression.remote_engine import RemoteEngine

    with Compressor(RemoteEngine(url)) as compressor:
        compressor.compress_batch(texts[:2], keep=0.33)
        ready.release()
        start.wait()
        if chosen:
            compressor.compress_batch(texts, keep=0.33)
        else:
            compressor._runner.run(for_each(texts, compressor.engine.score))


def bench_processes(
    name: str, what: str, url: str, texts: Sequence[str], processes: int, *, chosen: bool = True
) -> None:
    """The rate of so many gateway processes that share the texts, through the socket."""
    spawn = multiprocessing.get_context("spawn")
    ready, start = spawn.Semaphore(0), spawn.Event()
    clients = [
        spawn.Process(target=client, args=(url, list(texts[at::processes]), chosen, ready, start))
        for at in range(processes)
    ]
    try:
        for process in clients:
            process.start()
        if not all(ready.acquire(timeout=_START_SECONDS) for _ in clients):
            raise RuntimeError("a client did not start")
        begun = time.perf_counter()
        start.set()
        for process in clients:
            process.join(_WORK_SECONDS)
        took = time.perf_counter() - begun
        if any(process.exitcode != 0 for process in clients):
            raise RuntimeError(f"clients ended with {[process.exitcode for process in clients]}")
    finally:
        for process in clients:
            process.kill()
    unit = "text to text" if chosen else "text to scores"
    note(name, f"{what}, {processes} gateways, {unit}", len(texts) * PROMPT_TOKENS / took, "tokens/s")


async def bench_prompt(name: str, url: str, prompt: str, precision: str) -> None:
    """One 10k-token prompt alone, from text to scores."""
    from gateway.compression.remote_engine import RemoteEngine

    engine = RemoteEngine(url)
    times = []
    for number in range(35):
        begun = time.perf_counter()
        await engine.score(f"{number} {prompt}")
        times.append(1000 * (time.perf_counter() - begun))
    await engine.close()
    what = f"{precision}: one 10k prompt, text to scores in `compressor serve`, p50"
    note(name, what, statistics.median(times[5:]), "ms")
