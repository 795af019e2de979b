"""The encoder on a real local Ray: it grows with the load, loses a replica, changes its model, and no request
of a gateway before it fails. One Ray, one gateway, one test: each start takes longer than all the rest.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from compressor.shapes import WordScores
from compressor.startup import open_engine
from tests.support.chat_bodies import chat, long_text
from tests.support.constant_load import ConstantLoad
from tests.support.fake_upstream import fake_upstream
from tests.support.live_server import free_port
from tests.support.terse_process import terse_process
from tests.support.tiny_encoder import tiny_encoder
from tests.support.waiting import until

YAML = """
upstreams:
  up: {base_url: env/FAKE_URL, api_key: sk-upstream, retries: 0}
models:
  gpt-4o-mini: {upstream: up}
compressor: {url: env/FLEET_URL, deadline_ms: 5000}
policies:
  default: {mode: on, trigger_tokens: 100, keep: 0.5}
"""
TEXT = long_text(60)
CLIENTS = 4
PATIENCE = 90  # of a machine that is busy with other work
TEXTS = "terse_compressor_texts_total"
DEPLOY = [sys.executable, "-m", "gateway", "compressor", "deploy"]
# Small shares of the cores, so that old and new replicas fit side by side on any machine.
SIZE = [
    "--cpus-per-replica",
    "0.2",
    "--max-replicas",
    "2",
    "--target-ongoing",
    "0.1",
    "--upscale-delay",
    "0.5",
]


# Ray's own authentication: whoever does not know the token cannot deploy to the cluster.
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TERSE_", "RAY_"))}
    return {**inherited, **TOKEN}


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=180, check=False
    )


@contextmanager
def fleet(folder: Path) -> Iterator[tuple[str, str, subprocess.Popen[bytes]]]:
    """A local Ray with the encoder on it: its URL, the cluster's address, the process."""
    port = free_port()
    log = folder / "fleet.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*DEPLOY, "--port", str(port), *SIZE], env=environment(), stdout=file, stderr=file
        )
    try:
        until(lambda: b"--address" in log.read_bytes() or process.poll() is not None, 120)
        told = re.search(r"--address (\S+)", log.read_text())
        assert told is not None, log.read_text()
        yield f"http://127.0.0.1:{port}", told[1], process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def replicas(above: int) -> list[int]:
    """The replicas' processes; Ray gives them their names."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if command.startswith(b"ray::ServeReplica:terse-compressor") and _is_below(int(entry.name), above):
            found.append(int(entry.name))
    return found


def _is_below(pid: int, above: int) -> bool:
    while pid > 1 and pid != above:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            return False
    return pid == above


def scored(client: httpx.Client) -> dict[str, float]:
    """How many texts each replica has scored, from one scrape of whichever of them answers."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    texts = [sample for family in families for sample in family.samples if sample.name == TEXTS]
    return {sample.labels["replica"]: sample.value for sample in texts}


class Load(ConstantLoad):
    """Clients that each send a new long text soon after the one before is answered.

    Without a pause they would leave a new replica hardly any time to start on a machine with two cores.
    """

    def __init__(self, url: str) -> None:
        super().__init__(CLIENTS, self._send)
        self.seen: Counter[tuple[int, str, str]] = Counter()
        self.broken: list[str] = []
        self._url = url

    def compressed(self) -> int:
        return sum(n for (_, how, _), n in self.seen.items() if how == "applied")

    def _send(self, client: int, over: threading.Event) -> None:
        with httpx.Client(timeout=60) as session:
            number = 0
            while not over.wait(0.02):
                number += 1
                # New all the way through: what came before is in the score cache, out of the fleet's reach.
                text = TEXT.replace("(", f"({client}.{number}.")
                body = chat(f"{text}\n\nWhat is due?")
                try:
                    reply = session.post(f"{self._url}/v1/chat/completions", json=body)
                except httpx.HTTPError as error:
                    self.broken.append(repr(error))
                    continue
                headers = reply.headers
                self.seen[
                    reply.status_code,
                    headers.get("x-terse-compression", ""),
                    headers.get("x-terse-skip-reason", ""),
                ] += 1


def test_grows_loses_a_replica_and_changes_its_model_without_a_failed_request(tmp_path: Path) -> None:
    with (
        fleet(tmp_path) as (url, cluster, process),
        fake_upstream() as upstream,
        terse_process(tmp_path, YAML, FAKE_URL=upstream.url, FLEET_URL=url) as gateway,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        first = client.post("/v1/score", content=TEXT)
        _assert_like_a_local_engine(first)
        assert client.post("/v1/score", content=b"\xff").json()["error"]["type"] == "InvalidText"
        assert len(replicas(process.pid)) == 1
        with Load(gateway.url) as load:
            until(lambda: len(replicas(process.pid)) == 2, PATIENCE)
            until(lambda: len(scored(client)) == 2, PATIENCE)
            before = load.compressed()
            assert sum(scored(client).values()) >= before

            before = load.compressed()
            killed = replicas(process.pid)[0]
            os.kill(killed, signal.SIGKILL)
            until(lambda: load.compressed() > before + 2 * CLIENTS, PATIENCE)
            until(lambda: len({*replicas(process.pid)} - {killed}) == 2, PATIENCE)

            model = tiny_encoder(tmp_path / "model")
            again = [*DEPLOY, "--address", cluster, "--port", url.rsplit(":", 1)[1], *SIZE]
            rolled = run([*again, "--model", str(model)])
            assert rolled.returncode == 0, rolled.stderr
            old = first.headers["x-terse-fingerprint"]
            until(lambda: client.get("/health").json()["fingerprint"] != old, PATIENCE)
            before = load.compressed()
            until(lambda: load.compressed() > before, PATIENCE)
        print(load.seen)
        assert not load.broken
        assert {status for status, _, _ in load.seen} == {200}, load.seen
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert httpx.post(
            f"{gateway.url}/v1/chat/completions", json=chat(TEXT + "\n\nEnd?"), timeout=30
        ).headers["x-terse-compression"] in ("failed-open", "skipped")


def _assert_like_a_local_engine(reply: httpx.Response) -> None:
    scores = asyncio.run(_score_here())
    assert reply.headers["x-terse-fingerprint"] == scores.fingerprint
    assert np.frombuffer(reply.content, np.uint8).tolist() == scores.values.tolist()


async def _score_here() -> WordScores:
    engine = open_engine()
    try:
        return await engine.score(TEXT)
    finally:
        await engine.close()


def test_says_what_is_missing(tmp_path: Path) -> None:
    ended = run([*DEPLOY, "--model", str(tmp_path / "none")])
    assert ended.returncode == 1
    assert "none" in ended.stderr
    assert run([*DEPLOY, "--min-replicas", "2"]).returncode == 2
