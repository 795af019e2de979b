"""`terse serve` as a process: workers, signals, draining, and what it refuses."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from gateway.serving import connections_of, is_loopback
from tests.support import chat_bodies
from tests.support.fake_upstream import FakeUpstream, Script
from tests.support.live_server import free_port

YAML = """
upstreams: {up: {base_url: "%s"}}
models: {gpt-4o-mini: {upstream: up}}
policies: {default: {mode: "off"}}
"""


@contextmanager
def terse_serve(folder: Path, yaml: str, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running `terse serve` and its URL."""
    (folder / "terse.yaml").write_text(yaml)
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "gateway",
        "serve",
        "--config",
        "terse.yaml",
        "--port",
        str(port),
        *options,
    ]
    environment = {**os.environ, "TERSE_DATA_DIR": str(folder), "TERSE_LOG_LEVEL": "info"}
    log = (folder / "log").open("w")
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=log, text=True)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: httpx.get(url + "/health/liveness", timeout=5).status_code == 200, 90)
        yield process, url
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def wait_for(condition: object, seconds: float = 15) -> None:
    """Until the condition holds; trouble of the network counts as not yet."""
    assert callable(condition)
    pause, end = threading.Event(), time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except httpx.TransportError:
            pass
        pause.wait(0.1)
    raise AssertionError("it never came true")


def test_sigterm_lets_running_requests_end(tmp_path: Path, upstream: FakeUpstream) -> None:
    chunks = [b"data: %d\n\n" % n for n in range(15)]
    upstream.then(Script(headers={"content-type": "text/event-stream"}, chunks=chunks, pause=0.1))
    got: list[bytes] = []
    with terse_serve(tmp_path, YAML % upstream.url) as (process, url):

        def ask() -> None:
            request = chat_bodies.chat(stream=True)
            got.append(httpx.post(url + "/v1/chat/completions", json=request, timeout=20).content)

        asking = threading.Thread(target=ask)
        asking.start()
        assert upstream.arrived(20)
        process.send_signal(signal.SIGTERM)
        asking.join(20)
        assert process.wait(20) == 0
    assert got == [b"".join(chunks)]


def test_sighup_reads_the_file_again_and_refuses_a_bad_one(tmp_path: Path, upstream: FakeUpstream) -> None:
    with terse_serve(tmp_path, YAML % upstream.url) as (process, url):

        def models() -> list[str]:
            return [m["id"] for m in httpx.get(url + "/v1/models", timeout=5).json()["data"]]

        (tmp_path / "terse.yaml").write_text("models: [")
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: httpx.get(url + "/health/readiness", timeout=5).json()["configuration_error"])
        assert models() == ["gpt-4o-mini"]
        (tmp_path / "terse.yaml").write_text((YAML % upstream.url).replace("gpt-4o-mini", "other"))
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: models() == ["other"])
        assert process.poll() is None


def test_two_workers_share_one_compressor_and_one_metrics_page(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    yaml = (YAML % upstream.url).replace('mode: "off"', "mode: on")
    with terse_serve(tmp_path, yaml, "--workers", "2") as (_, url):
        wait_for(lambda: httpx.get(url + "/health/readiness", timeout=5).status_code == 200, 120)
        for number in range(20):  # a connection each, so that both workers get some
            # A conversation each: what went out whole, since scores were late, stays whole in its own.
            asked = chat_bodies.body(chat_bodies.rag(f"When is delivery {number} due?"))
            reply = httpx.post(url + "/v1/chat/completions", content=asked, timeout=30)
            assert reply.status_code == 200
        assert reply.headers["x-terse-compression"] == "applied"

        def counted() -> float:
            page = httpx.get(url + "/metrics", timeout=10).text.splitlines()
            return sum(float(x.rsplit(" ", 1)[1]) for x in page if x.startswith("terse_requests_total{"))

        wait_for(lambda: counted() == 20)  # the other worker writes its counts down every tenth of a second
    log = (tmp_path / "log").read_text()
    assert "committee" not in log  # no prompt text
    assert "any" not in [word.strip('",:') for word in log.split()]


def compressor_of(server: int) -> int:
    """The process id of a server's compressor."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == server and b"compressor" in (folder / "cmdline").read_bytes():
                return int(folder.name)
        except (OSError, ValueError):
            continue  # it ended while we looked
    raise AssertionError("the server has no compressor")


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
def test_a_compressor_that_is_killed_is_started_again(tmp_path: Path, upstream: FakeUpstream) -> None:
    yaml = (YAML % upstream.url).replace('mode: "off"', "mode: on")

    def ask(what: str) -> str:
        asked = chat_bodies.body(chat_bodies.rag(f"When is {what} due?"))
        reply = httpx.post(url + "/v1/chat/completions", content=asked, timeout=30)
        assert reply.status_code == 200
        return reply.headers["x-terse-compression"]

    with terse_serve(tmp_path, yaml, "--workers", "2") as (process, url):
        wait_for(lambda: httpx.get(url + "/health/readiness", timeout=5).status_code == 200, 120)
        killed = compressor_of(process.pid)
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: ask(f"part {time.monotonic()}") != "applied", 30)  # meanwhile originals go out
        wait_for(lambda: ask(f"part {time.monotonic()}") == "applied", 120)
        assert compressor_of(process.pid) != killed
        assert "terse_compressor_restarts_total 1.0" in httpx.get(url + "/metrics", timeout=10).text
    assert "the compressor ended with code -9; it is started again" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("options", "yaml", "code", "said"),
    [
        (["--host", "0.0.0.0"], "", 2, "insecure"),
        ([], "models: 3", 1, "models"),
        (["--config", "missing.yaml"], "", 1, "no such file"),
        (["--port", "99999"], "", 2, "port"),
    ],
)
def test_what_is_refused(tmp_path: Path, options: list[str], yaml: str, code: int, said: str) -> None:
    if yaml:
        (tmp_path / "terse.yaml").write_text(yaml)
    result = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "200", "TERSE_DATA_DIR": str(tmp_path)},
    )
    assert result.returncode == code
    assert said in result.stderr


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


IDLE = 3000  # more than the backlog, granian's own bound


def test_idle_connections_shut_nobody_out(upstream: FakeUpstream, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard > IDLE + 1000
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, IDLE + 1000), hard))
    idle: list[socket.socket] = []
    try:
        with terse_serve(tmp_path, YAML % upstream.url) as (_process, url):
            address = ("127.0.0.1", int(url.rsplit(":", 1)[1]))
            for _ in range(IDLE):
                idle.append(socket.create_connection(address, timeout=10))
            assert httpx.get(f"{url}/health/liveness", timeout=10).status_code == 200
            answer = httpx.post(f"{url}/v1/chat/completions", json=chat_bodies.chat(), timeout=10)
            assert answer.status_code == 200
            for one in idle:
                one.close()
    finally:
        for one in idle:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("descriptors", "connections"), [(64, 16), (1024, 256), (20_000, 9744), (1 << 18, 130_816)]
)
def test_connections_fit_the_descriptors(descriptors: int, connections: int) -> None:
    assert connections_of(descriptors) == connections
