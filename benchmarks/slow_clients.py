"""Thousands of clients that read a few bytes a second: memory, descriptors, and a normal client beside them.

    python -m benchmarks.slow_clients [--clients 10000] [--workers 2] [--seconds 60] [--out REPORT.md]

Real processes and sockets: an upstream whose streams begin with 32 KiB at once and go on with an event every
ten seconds, `terse serve`, and clients with a receive buffer of 4 KiB that take 16 bytes every two seconds.
At the end some of them read on at full speed, and every byte is compared; the others hang up, and the
gateway's descriptors are counted again. Each stream costs the gateway two descriptors (client and upstream):
as many as the hard limit of RLIMIT_NOFILE allows are taken, and the clients are as many as fit.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import multiprocessing
import os
import platform
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.mock import REPLY
from benchmarks.processes import cpu_seconds, resident_mib, running

PATH = "/v1/chat/completions"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"' + b"word " * 34 + b'"}}]}\n\n'
BURST = EVENT * (32768 // len(EVENT))
DONE = b"data: [DONE]\n\n"
EVENT_SECONDS = 10.0
POOL_SECONDS = 95.0  # the gateway keeps an idle connection to an upstream for 45 s, and looks every 45 s
SIP_BYTES, SIP_SECONDS = 16, 2.0
RECEIVE_BUFFER = 4096
COMPARED = 100  # clients that read their stream to its end
SPARE_DESCRIPTORS = 400  # of a process: its libraries, log, listening sockets, the pool for normal clients
CONNECTING_AT_ONCE = 100
UNEVEN = 0.75  # workers do not get equally many connections
# An event stream is sent upstream as a request of its own; the policy is the default one.
YAML = """upstreams: {up: {base_url: "http://127.0.0.1:%d/v1", api_key: sk-x, read_timeout: 3600}}
models: {gpt-4o-mini: {upstream: up}}
"""

REPORT = """# Slow clients

`python -m benchmarks.slow_clients {command}`, {day}.
Terse {terse}, granian {granian}, Python {python}, {cores} cores with a load of {load:.1f} at the end, other
work on the machine included; {workers} gateway worker(s) and the embedded encoder, default policy.

Each slow client has a receive buffer of 4 KiB and takes 16 bytes every two seconds. Its stream begins with
{burst:,} bytes at once, an event follows every ten seconds. A process may have {limit:,}
descriptors (the hard limit here), and a stream takes two of the gateway's. A normal client asks beside them,
20 times a second at most.

**{there:,} slow clients at once** (of {tried:,} that tried and {aim:,} aimed at;
{connecting:.0f} s to connect); {lost} were lost in {seconds:g} s, in which they took {sipped:,} bytes.
Then {whole} of {compared} read on to the end and had every byte of their stream.

| | memory of all processes, MiB | descriptors | normal client: p50, ms | p99 | most | requests |
|---|---|---|---|---|---|---|
{table}

A slow client costs the gateway {each:.1f} KiB of memory (the kernel's socket buffers are not in it) and
{descriptors:.2f} descriptors. Two minutes after they left, {descriptors_left:+d} descriptors and
{memory_left:+,.0f} MiB were left of them. All this took {cpu:.0f} s of the gateway's CPU time.
"""


def body_of(stream: bool) -> bytes:
    """A short chat request."""
    messages = [{"role": "user", "content": "Hello, who are you and what can you do for me today?"}]
    return json.dumps({"model": "gpt-4o-mini", "messages": messages, "stream": stream}).encode()


# ---- the upstream


@dataclass(frozen=True)
class Upstream:
    """A provider that streams until it is told to end."""

    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests of one connection, one after the other."""
        whole = json.dumps(REPLY).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(whole)
        try:
            while True:
                asked = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = re.search(rb"content-length: (\d+)", asked)
                asked = await reader.readexactly(int(length[1]) if length else 0)
                if b'"stream": true' in asked:
                    await self._stream(writer)
                else:
                    writer.write(head + whole)
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            writer.close()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head + chunk(BURST))
        while True:
            await writer.drain()
            try:
                await asyncio.wait_for(self.ended.wait(), EVENT_SECONDS)
            except TimeoutError:
                writer.write(chunk(EVENT))
                continue
            writer.write(chunk(DONE) + b"0\r\n\r\n")
            return


def chunk(data: bytes) -> bytes:
    """In HTTP's chunked encoding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def serve_upstream(told: Connection) -> None:
    """The process of the upstream: tells its port, and ends its streams at a word."""
    raise_limit()

    async def main() -> None:
        upstream = Upstream()
        asyncio.get_running_loop().add_reader(told.fileno(), upstream.ended.set)
        server = await asyncio.start_server(upstream.answer, "127.0.0.1", 0, backlog=4096)
        told.send(server.sockets[0].getsockname()[1])
        async with server:
            await asyncio.Event().wait()

    asyncio.run(main())


# ---- the slow clients


@dataclass
class Crowd:
    """The slow clients, in one process: it sips from each socket in turn."""

    port: int
    sockets: list[socket.socket] = field(default_factory=list)
    read: dict[socket.socket, bytearray] = field(default_factory=dict)
    lost: int = 0

    async def connect(self, count: int) -> int:
        """Connects and asks; returns how many of them are there."""
        gate = asyncio.Semaphore(CONNECTING_AT_ONCE)
        await asyncio.gather(*(self._connect(gate) for _ in range(count)))
        return len(self.sockets)

    async def _connect(self, gate: asyncio.Semaphore) -> None:
        one = socket.socket()
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        asked = body_of(stream=True)
        head = f"POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(asked)}\r\n\r\n"
        loop = asyncio.get_running_loop()
        async with gate:
            try:
                await loop.sock_connect(one, ("127.0.0.1", self.port))
                await loop.sock_sendall(one, head.encode() + asked)
                first = await asyncio.wait_for(loop.sock_recv(one, SIP_BYTES), 120)
            except (OSError, TimeoutError):
                one.close()
                return
        self.sockets.append(one)
        self.read[one] = bytearray(first)

    async def sip(self, seconds: float) -> None:
        """A few bytes from each, again and again."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            started = time.monotonic()
            for number, one in enumerate(self.sockets):
                self._sip(one)
                if number % 500 == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(max(0.0, SIP_SECONDS - (time.monotonic() - started)))

    def _sip(self, one: socket.socket) -> None:
        try:
            part = one.recv(SIP_BYTES)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if part:
            self.read[one] += part
        else:
            self.lost += 1

    async def finish(self, count: int) -> int:
        """The first of them read on to the end; returns how many got every byte."""
        whole = await asyncio.gather(*(self._finish(one) for one in self.sockets[:count]))
        return sum(whole)

    async def _finish(self, one: socket.socket) -> bool:
        loop, got = asyncio.get_running_loop(), self.read[one]
        try:
            async with asyncio.timeout(60):
                while not got.endswith(b"0\r\n\r\n"):
                    part = await loop.sock_recv(one, 65536)
                    if not part:
                        break
                    got += part
        except (OSError, TimeoutError):
            return False
        body = unchunked(bytes(got))
        middle = body.removeprefix(BURST).removesuffix(DONE)
        return body == BURST + EVENT * (len(middle) // len(EVENT)) + DONE


def unchunked(reply: bytes) -> bytes:
    """The body of an HTTP reply, chunked or not, as far as it came."""
    head, _, rest = reply.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        return rest
    parts = []
    while b"\r\n" in rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        parts.append(rest[:length])
        rest = rest[length + 2 :]
    return b"".join(parts)


def run_clients(port: int, count: int, seconds: float, told: Connection) -> None:
    """The process of the slow clients: tells how many it has, who was lost, and who got everything."""
    raise_limit()

    async def main() -> None:
        crowd = Crowd(port)
        told.send(await crowd.connect(count))
        await crowd.sip(seconds)
        told.send((crowd.lost, sum(map(len, crowd.read.values()))))
        told.recv()
        told.send(await crowd.finish(min(COMPARED, len(crowd.sockets))))
        for one in crowd.sockets:
            one.close()

    asyncio.run(main())


# ---- what is measured


@dataclass(frozen=True)
class Figures:
    """The gateway at one moment."""

    name: str
    processes: int
    memory: float  # MiB, of all its processes
    descriptors: int
    latencies: tuple[float, ...]  # ms, of the normal client

    def row(self) -> str:
        """A line of the table."""
        ordered = sorted(self.latencies)
        p99 = ordered[int(len(ordered) * 0.99)]
        return (
            f"| {self.name} | {self.memory:,.0f} | {self.descriptors:,} | {statistics.median(ordered):.1f} "
            f"| {p99:.1f} | {ordered[-1]:.1f} | {len(ordered)} |"
        )


def measure(name: str, root: int, port: int, seconds: float) -> Figures:
    """A normal client asks for `seconds`; then memory and descriptors are read."""
    latencies, pause = [], threading.Event()
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        started = time.perf_counter()
        link.request("POST", PATH, body_of(stream=False), {"content-type": "application/json"})
        reply = link.getresponse()
        got = reply.read()
        latencies.append((time.perf_counter() - started) * 1000)
        if reply.status != 200 or json.loads(got) != REPLY:
            raise SystemExit(f"the normal client got {reply.status}: {got[:200]!r}")
        pause.wait(0.05)
    link.close()
    family = family_of(root)
    descriptors = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in family)
    return Figures(name, len(family), sum(map(resident_mib, family)), descriptors, tuple(latencies))


def family_of(pid: int) -> list[int]:
    """A process and all that it started."""
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [pid, *(one for child in children.stdout.split() for one in family_of(int(child)))]


def raise_limit() -> int:
    """As many descriptors as this process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def started(target: Callable[..., None], *arguments: Any) -> tuple[Any, Connection]:
    """A process of ours, and the pipe to it."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=target, args=(*arguments, theirs), daemon=True
    )
    process.start()
    return process, ours


def wait_for(pipe: Connection, seconds: float) -> Any:
    """What the other process says next."""
    if not pipe.poll(seconds):
        raise SystemExit(f"nothing was heard for {seconds} s")
    return pipe.recv()


def main() -> None:
    """Measures, prints the report and writes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    limit = raise_limit()
    fits = int((limit - SPARE_DESCRIPTORS) / 2 * max(1.0, options.workers * UNEVEN))
    count = min(options.clients, fits, limit - SPARE_DESCRIPTORS)
    upstream, upstream_pipe = started(serve_upstream)
    try:
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder, "terse.yaml")
            config.write_text(YAML % wait_for(upstream_pipe, 30))
            report = measure_all(config, count, upstream_pipe, options)
    finally:
        upstream.terminate()
    print(report)
    if options.out:
        options.out.write_text(report, encoding="utf-8")


def measure_all(config: Path, count: int, upstream: Connection, options: argparse.Namespace) -> str:
    """Runs the gateway and the crowd; returns the report."""
    port = free_port()
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(config), "--port", str(port)]
    command += ["--workers", str(options.workers)]
    inherited = {name: "" for name in os.environ if name.startswith(("TERSE_", "REDIS_"))}
    environment = {**inherited, "TERSE_DATA_DIR": str(config.parent / "data"), "TERSE_LOG_LEVEL": "warning"}
    with running(command, port, config.parent, **environment) as pid:
        measure("warm", pid, port, 3)
        rows = [measure("alone", pid, port, 10)]
        cpu = sum(map(cpu_seconds, family_of(pid)))
        began = time.monotonic()
        crowd, pipe = started(run_clients, port, count, options.seconds)
        there = wait_for(pipe, 300)
        connecting = time.monotonic() - began
        half = options.seconds / 2
        rows += [
            measure(f"with {there:,} slow clients, {n} half", pid, port, half - 2)
            for n in ("first", "second")
        ]
        lost, sipped = wait_for(pipe, 60)
        used = sum(map(cpu_seconds, family_of(pid))) - cpu
        upstream.send("end")
        pipe.send("finish")
        whole = wait_for(pipe, 120)
        crowd.join(30)
        threading.Event().wait(POOL_SECONDS)
        rows.append(measure("two minutes after they left", pid, port, 10))
    said = Outcome(options, raise_limit(), there, connecting, lost, sipped, whole, used, rows)
    return said.report(count)


@dataclass(frozen=True)
class Outcome:
    """Everything that the report says."""

    options: argparse.Namespace
    limit: int
    there: int
    connecting: float
    lost: int
    sipped: int
    whole: int
    cpu: float
    rows: list[Figures]

    def report(self, count: int) -> str:
        """Markdown."""
        before, during, after = self.rows[0], self.rows[2], self.rows[-1]
        options, there = self.options, max(self.there, 1)
        each = (during.memory - before.memory) * 1024 / there
        command = f"--clients {options.clients} --workers {options.workers} --seconds {options.seconds:g}"
        return REPORT.format(
            command=command,
            day=f"{datetime.now(UTC):%Y-%m-%d}",
            terse=version("terse-gateway"),
            granian=version("granian"),
            python=platform.python_version(),
            cores=os.cpu_count(),
            load=os.getloadavg()[0],
            workers=options.workers,
            burst=len(BURST),
            limit=self.limit,
            there=self.there,
            tried=count,
            aim=options.clients,
            connecting=self.connecting,
            lost=self.lost,
            seconds=options.seconds,
            sipped=self.sipped,
            whole=self.whole,
            compared=min(COMPARED, self.there),
            table="\n".join(row.row() for row in self.rows),
            each=each,
            descriptors=(during.descriptors - before.descriptors) / there,
            descriptors_left=after.descriptors - before.descriptors,
            memory_left=after.memory - before.memory,
            cpu=self.cpu,
        )


if __name__ == "__main__":
    main()
