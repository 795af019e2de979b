"""The encoder fleet on a Ray of this machine, under load: scaled, a replica killed, another model rolled out.

    python -m benchmarks.bench_fleet --shape xlmr-large --gpus 0.25 --clients 64     # on a GPU
    python -m benchmarks.bench_fleet --clients 4 --prompt-tokens 1500                # anywhere

Clients are those of a gateway (RemoteEngine): each sends a new text once the one before is scored. First
`terse compressor serve` alone, then `terse compressor deploy` with one replica, with two, two of which one is
killed, two whose model is replaced. A text that is not scored is counted with its reason; a gateway would
send that original.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.encoders.models import SHAPES, make_model
from tests.support.live_server import free_port

MINUTES = Path("docs/minutes.txt")
DEPLOY = [
    sys.executable,
    "-c",
    "import typer; from gateway.commands import fleet; typer.run(fleet.deploy)",
]
SERVE = [sys.executable, "-m", "gateway.commands.compressor"]
# Old, new and surging replicas side by side.
PLACES = 4
STARTED = time.perf_counter()


@dataclass(frozen=True, slots=True)
class Answer:
    """One text, sent and answered or not."""

    at: float
    ms: float
    outcome: str
    fingerprint: str


@dataclass(slots=True)
class Load:
    """Clients that ask without a pause, and what they were told."""

    url: str
    clients: int
    prompt: str
    answers: list[Answer] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Clients ask while the block runs."""
        from gateway.compression.remote_engine import RemoteEngine

        engine = RemoteEngine(self.url)
        await _until(engine.connect)
        over = asyncio.Event()
        asking = [asyncio.create_task(self._ask(engine, over)) for _ in range(self.clients)]
        try:
            yield
        finally:
            over.set()
            await asyncio.gather(*asking)
            await engine.close()

    async def _ask(self, engine: Any, over: asyncio.Event) -> None:
        while not over.is_set():
            begun = time.perf_counter()
            outcome, fingerprint = "ok", ""
            try:
                fingerprint = (await engine.score(f"{secrets.token_hex(4)} {self.prompt}")).fingerprint
            except Exception as error:  # noqa: BLE001 every kind is counted
                outcome = f"{type(error).__name__}: {error}"[:100]
                await asyncio.sleep(0.05)  # a gateway has something else to do then
            now = time.perf_counter()
            self.answers.append(Answer(now, 1000 * (now - begun), outcome, fingerprint))


@dataclass(slots=True)
class Report:
    """Figures as they come."""

    prompt_tokens: int
    rows: list[dict[str, Any]] = field(default_factory=list)

    def note(self, what: str, load: Load, since: float, **more: Any) -> None:
        """What the clients saw since then."""
        taken = [answer for answer in load.answers if answer.at >= since]
        good = sorted(answer.ms for answer in taken if answer.outcome == "ok")
        seconds = time.perf_counter() - since
        self.say(
            what,
            seconds=round(seconds, 1),
            texts=len(taken),
            tokens_per_second=round(len(good) * self.prompt_tokens / seconds),
            p50_ms=round(good[len(good) // 2], 1) if good else None,
            p99_ms=round(good[int(len(good) * 0.99)], 1) if good else None,
            not_scored=dict(Counter(answer.outcome for answer in taken if answer.outcome != "ok")),
            **more,
        )

    def say(self, what: str, **figures: Any) -> None:
        """Prints and keeps."""
        self.rows.append({"what": what, **figures})
        print(f"{time.perf_counter() - STARTED:6.1f} s  {what}: {figures}", flush=True)


async def measure(options: argparse.Namespace, report: Report) -> None:
    """Every step in turn."""
    with tempfile.TemporaryDirectory(prefix="terse-fleet-") as folder:
        model, other, prompt = prepared(Path(folder), options)
        report.say("models are made", model=options.shape or "default")
        if not options.skip_serve:
            with serving(Path(folder), model) as url:
                load = Load(url, options.clients, prompt)
                await plain(load, options.seconds, report, "terse compressor serve")
        with fleet(Path(folder), model, options) as (url, cluster):
            report.say("the fleet is up", replicas=len(replicas()))
            load = Load(url, options.clients, prompt)
            await plain(load, options.seconds, report, "fleet, 1 replica")
            await asyncio.to_thread(deploy_again, cluster, url, model, 2, options)
            report.say("two replicas", replicas=len(replicas()))
            await plain(load, options.seconds, report, "fleet, 2 replicas")
            await killed(load, report)
            await rolled(load, report, lambda: deploy_again(cluster, url, other, 2, options))


async def plain(load: Load, seconds: float, report: Report, what: str) -> None:
    """Load alone, after a second of it."""
    before = scored_texts(load.url)
    async with load.running():
        await asyncio.sleep(1.0)
        since = time.perf_counter()
        await asyncio.sleep(seconds)
        report.note(what, load, since)
    spread = {name: value - before.get(name, 0) for name, value in scored_texts(load.url).items()}
    report.say(f"{what}: texts by replica", **spread)


async def killed(load: Load, report: Report) -> None:
    """One of two replicas is killed under load, until there are two again."""
    async with load.running():
        await asyncio.sleep(1.0)
        since = time.perf_counter()
        victim = replicas()[0]
        os.kill(victim, signal.SIGKILL)
        await _until(lambda: _two_but(victim), 60)
        back = time.perf_counter() - since
        await asyncio.sleep(2.0)
        report.note("a replica killed under load", load, since, two_again_after_seconds=round(back, 1))


async def rolled(load: Load, report: Report, deploy: Callable[[], None]) -> None:
    """Another model under load."""
    async with load.running():
        await asyncio.sleep(1.0)
        since = time.perf_counter()
        refused = ""
        try:
            await asyncio.to_thread(deploy)
        except RuntimeError as error:  # the old replicas stay: what clients saw meanwhile counts all the same
            refused = str(error)[-300:]
        took = time.perf_counter() - since
        await asyncio.sleep(2.0)
        seen = Counter(answer.fingerprint[:8] for answer in load.answers if answer.at >= since)
        report.note(
            "another model under load",
            load,
            since,
            seconds_to_roll=round(took, 1),
            encoders=dict(seen),
            refused=refused,
        )


async def _two_but(victim: int) -> None:
    if len({*replicas()} - {victim}) != 2:
        raise RuntimeError("not yet")


async def _until(work: Callable[[], Any], seconds: float = 120.0) -> None:
    """Repeats `work` until it raises nothing."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await work()  # type: ignore[no-any-return]
        except Exception:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


def prepared(folder: Path, options: argparse.Namespace) -> tuple[str, str, str]:
    """The model to serve, the one to roll out, and a prompt of so many tokens of the encoder."""
    import lzma

    from tokenizers import Tokenizer

    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    packed = Path("compressor/weights/default/tokenizer.json.xz").read_bytes()
    (tokenizer / "tokenizer.json").write_bytes(lzma.decompress(packed))
    (tokenizer / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    text = MINUTES.read_text(encoding="utf-8") * 20
    offsets = Tokenizer.from_file(str(tokenizer / "tokenizer.json")).encode(text).offsets
    prompt = text[: offsets[options.prompt_tokens][1]]
    if options.shape:
        return str(make_model(folder / options.shape, options.shape, tokenizer)), "default", prompt
    return "default", str(make_model(folder / "other", "embedded", tokenizer)), prompt


@contextlib.contextmanager
def serving(folder: Path, model: str) -> Iterator[str]:
    """`terse compressor serve`, for comparison."""
    port = free_port()
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen([*SERVE, "--port", str(port), "--model", model], stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(lambda: _get(f"{url}/health"), process, folder / "serve.log")
        yield url
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def fleet(folder: Path, model: str, options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """`terse compressor deploy` with a Ray of its own: the fleet's URL and the cluster's address."""
    port = free_port()
    log = folder / "fleet.log"
    with log.open("wb") as file:
        command = [*DEPLOY, "--port", str(port), "--model", model, *_size(1, options)]
        process = subprocess.Popen(command, stdout=file, stderr=file)

    def told() -> str:
        return re.search(r"--address (\S+)", log.read_text())[1]  # type: ignore[index]

    try:
        _wait_for(told, process, log)
        yield f"http://127.0.0.1:{port}", told()
    finally:
        process.terminate()
        process.wait(60)


def deploy_again(cluster: str, url: str, model: str, replicas: int, options: argparse.Namespace) -> None:
    """Brings the running fleet to this model and number."""
    at = ["--address", cluster, "--port", url.rsplit(":", 1)[1], "--model", model]
    environment = {**os.environ, "RAY_AUTH_MODE": "token"}
    done = subprocess.run(
        [*DEPLOY, *at, *_size(replicas, options)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)


def replicas() -> list[int]:
    """The replicas' processes; Ray gives them their names."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cmdline").read_bytes().startswith(b"ray::ServeReplica:terse-compressor"):
                found.append(int(entry.name))
    return found


def scored_texts(url: str) -> dict[str, float]:
    """Texts scored so far, by replica."""
    rows = re.findall(r"^terse_compressor_texts_total(\{.*\})? (\S+)$", _get(f"{url}/metrics"), re.MULTILINE)
    return {label or "process": float(value) for label, value in rows}


def _size(number: int, options: argparse.Namespace) -> list[str]:
    bounds = ["--min-replicas", str(number), "--max-replicas", str(number)]
    return [*bounds, "--gpus-per-replica", str(options.gpus), "--cpus-per-replica", str(options.cpus)]


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        return str(response.read().decode())


def _wait_for(ready: Callable[[], Any], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        with contextlib.suppress(OSError, TypeError):
            ready()
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(log.read_text())
        time.sleep(0.1)


def main() -> None:
    """Runs it, prints and writes its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, help="random weights of it; none: the embedded encoder")
    parser.add_argument("--gpus", type=float, default=0.0, help=f"of a replica; {PLACES} must fit")
    parser.add_argument("--cpus", type=float, default=0.2)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--prompt-tokens", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--skip-serve", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.gpus * PLACES > 1:
        parser.error(
            f"--gpus {options.gpus}: {PLACES} replicas must fit on one GPU while a model is rolled out"
        )
    report = Report(options.prompt_tokens)
    try:
        asyncio.run(measure(options, report))
    finally:
        if options.json:
            options.json.write_text(json.dumps({"argv": sys.argv[1:], "rows": report.rows}, indent=1))


if __name__ == "__main__":
    main()
