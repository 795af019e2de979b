"""Clients that send too much, too slowly or two things at once: they are refused, and others go on."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.chat_bodies import body, chat
from tests.support.fake_upstream import FakeUpstream, Script, fake_upstream
from tests.support.terse_process import TerseProcess, terse_process

YAML = """
upstreams:
  up: {base_url: env/FAKE_URL, api_key: sk-upstream, retries: 0}
models:
  gpt-4o-mini: {upstream: up}
policies:
  default: {mode: off}
"""
MOST_BODY = 1_000_000
PATIENCE = 20.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TerseProcess, FakeUpstream]]:
    folder: Path = tmp_path_factory.mktemp("limits")
    with (
        fake_upstream() as upstream,
        terse_process(folder, YAML, FAKE_URL=upstream.url, TERSE_MAX_BODY_BYTES=str(MOST_BODY)) as gateway,
    ):
        yield gateway, upstream


def exchange(gateway: TerseProcess, *sent: bytes) -> bytes:
    """What a bare socket is told until the server closes it or has answered once."""
    port = int(gateway.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        try:
            for piece in sent:
                client.sendall(piece)
        except OSError:
            pass  # it has heard enough
        told = b""
        try:
            while b"\r\n\r\n" not in told and (piece := client.recv(65536)):
                told += piece
        except ConnectionResetError:
            pass
        return told


def still_serves(gateway: TerseProcess) -> None:
    assert httpx.post(f"{gateway.url}/v1/chat/completions", json=chat(), timeout=PATIENCE).status_code == 200


def head(*lines: str) -> bytes:
    return "\r\n".join(["POST /v1/chat/completions HTTP/1.1", "host: x", *lines, "", ""]).encode()


@pytest.mark.parametrize(
    "lines",
    [
        [f"x-long: {'a' * 1_000_000}"],
        [f"x-{number}: a" for number in range(20_000)],
        [f"authorization: Bearer {'k' * 2_000_000}"],
    ],
    ids=["one long header", "many headers", "a long key"],
)
def test_headers_are_bounded(running: tuple[TerseProcess, FakeUpstream], lines: list[str]) -> None:
    gateway, upstream = running
    seen = len(upstream.seen)
    told = exchange(gateway, head(*lines, "content-length: 2"), b"{}")
    assert told == b"" or told.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431")), told[:100]
    assert len(upstream.seen) == seen
    still_serves(gateway)


def test_a_length_and_chunks_at_once_are_one_request(running: tuple[TerseProcess, FakeUpstream]) -> None:
    gateway, upstream = running
    seen = len(upstream.seen)
    smuggled = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
    lines = head("content-length: 5", "transfer-encoding: chunked", "connection: close")
    told = exchange(gateway, lines, b"0\r\n\r\n", smuggled)
    assert told.count(b"HTTP/1.1 ") <= 1 and b" 200 " not in told
    assert len(upstream.seen) == seen
    still_serves(gateway)


def test_a_bomb_is_refused_at_its_size_and_not_at_its_wire_size(
    running: tuple[TerseProcess, FakeUpstream],
) -> None:
    gateway, upstream = running
    seen = len(upstream.seen)
    bomb = gzip.compress(body(chat("a" * 200_000_000)), 9)
    assert len(bomb) < MOST_BODY
    before = peak_of(gateway)
    reply = httpx.post(
        f"{gateway.url}/v1/chat/completions",
        content=bomb,
        headers={"content-encoding": "gzip", "content-type": "application/json"},
        timeout=PATIENCE,
    )
    assert reply.status_code == 413
    assert len(upstream.seen) == seen
    assert peak_of(gateway) < before + 100_000, "the bomb was unpacked"  # what an encoder takes varies
    still_serves(gateway)


def test_a_bomb_of_the_upstream_passes_unopened(running: tuple[TerseProcess, FakeUpstream]) -> None:
    gateway, upstream = running
    bomb = gzip.compress(b"a" * 600_000_000, 9)
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    upstream.then(Script(headers=headers, body=bomb))
    url = f"{gateway.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=chat(), timeout=PATIENCE) as reply:
        assert reply.status_code == 200
        assert b"".join(reply.iter_raw()) == bomb
    assert peak_of(gateway) < 500_000, "the bomb was unpacked"
    still_serves(gateway)


def peak_of(gateway: TerseProcess) -> int:
    """The most memory that the worker ever had, in kB."""
    status = Path(f"/proc/{_worker_of(gateway)}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def _worker_of(gateway: TerseProcess) -> int:
    """The child that has most memory: the worker."""
    children = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children").read_text().split()

    def resident(pid: str) -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])

    return int(max(children, key=resident))
