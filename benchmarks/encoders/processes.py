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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.encoders.measuring import PROMPT_TOKENS, note

TEXTS_EACH = 24


@contextlib.contextmanager
def compressor_process(folder: Path, precision: str, replicas: int) -> Iterator[str]:
    """The URL of `terse compressor serve`, once it answers."""
    socket = Path(tempfile.mkdtemp()) / "compressor.sock"
    command = [sys.executable, "-m", "gateway.commands.compressor", "--socket", str(socket)]
    options = ["--model", str(folder), "--precision", precision, "--replicas", str(replicas)]
    server = subprocess.Popen([*command, *options])
    try:
        asyncio.run(wait_until_ready(f"unix://{socket}", server, replicas))
        yield f"unix://{socket}"
    finally:
        server.terminate()
        server.wait(30)


async def wait_until_ready(url: str, server: subprocess.Popen[bytes], replicas: int) -> None:
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
                    if replicas == 1 or sum(row.endswith(" 1.0") for row in rows) == replicas:
                        return
                if server.poll() is not None:
                    raise RuntimeError("the compressor process ended")
                await asyncio.sleep(0.1)
            raise RuntimeError("the compressor process never became ready")
    finally:
        await engine.close()


def client(url: str, texts: list[str], ready: Any, start: Any) -> None:
    """One gateway process's work: shortens its texts through the compressor process."""
    from compressor import Compressor
    from gateway.compression.remote_engine import RemoteEngine

    with Compressor(RemoteEngine(url)) as compressor:
        compressor.compress_batch(texts[:2], keep=0.33)
        ready.release()
        start.wait()
        compressor.compress_batch(texts, keep=0.33)


def bench_processes(
    name: str, folder: Path, prompt: str, processes: int, precision: str, replicas: int = 1
) -> None:
    """Text to text and one prompt's time, through the socket."""
    spawn = multiprocessing.get_context("spawn")
    ready, start = spawn.Semaphore(0), spawn.Event()
    with compressor_process(folder, precision, replicas) as url:
        what = f"{precision}: {processes} gateways, {replicas} encoder processes, one GPU"
        if replicas == 1:
            asyncio.run(bench_prompt(name, url, prompt, precision))
        texts = [[f"{one} {two} {prompt}" for two in range(TEXTS_EACH)] for one in range(processes)]
        clients = [
            spawn.Process(target=client, args=(url, texts[at], ready, start)) for at in range(processes)
        ]
        for process in clients:
            process.start()
        if not all(ready.acquire(timeout=60) for _ in clients):
            raise RuntimeError("a client did not start")
        begun = time.perf_counter()
        start.set()
        for process in clients:
            process.join(60)
        took = time.perf_counter() - begun
        total = processes * TEXTS_EACH * PROMPT_TOKENS
        note(name, f"{what}, text to text", total / took, "tokens/s")


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
