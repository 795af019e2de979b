"""SIGTERM under load: what was taken is answered, what comes later is refused, nothing is cut."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.chat_bodies import chat
from tests.support.fake_upstream import FakeUpstream, Script, fake_upstream
from tests.support.terse_process import TerseProcess, terse_process
from tests.support.waiting import recent, until

YAML = """
upstreams:
  up: {base_url: env/FAKE_URL, api_key: sk-upstream, retries: 0}
models:
  gpt-4o-mini: {upstream: up}
policies:
  default: {mode: off}
"""
RUNNING = 16
EVENTS = [b'data: {"choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'] * 8 + [b"data: [DONE]\n\n"]


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with fake_upstream() as upstream:
        yield upstream


@pytest.fixture
def gateway(tmp_path: Path, upstream: FakeUpstream) -> Iterator[TerseProcess]:
    with terse_process(tmp_path, YAML, FAKE_URL=upstream.url) as gateway:
        yield gateway


def stream(url: str) -> bytes:
    body = chat(stream=True)
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=30) as reply:
        assert reply.status_code == 200
        return b"".join(reply.iter_raw())


def test_running_streams_end_whole(gateway: TerseProcess, upstream: FakeUpstream) -> None:
    gate = threading.Event()
    slow = Script(headers={"content-type": "text/event-stream"}, chunks=EVENTS, pause=0.1, gate=gate)
    upstream.then(*[slow] * RUNNING)
    with ThreadPoolExecutor(RUNNING) as pool:
        answers = [pool.submit(stream, gateway.url) for _ in range(RUNNING)]
        until(lambda: len(upstream.seen) == RUNNING)
        gateway.ask_to_end()
        gate.set()
        assert [answer.result(30) for answer in answers] == [b"".join(EVENTS)] * RUNNING
    assert gateway.process.wait(20) == 0
    receipts = recent(gateway.folder / "data")
    assert len(receipts) == RUNNING, "a drained request has no receipt"
    assert {receipt["outcome"] for receipt in receipts} == {"ok"}


def test_it_ends_at_once_when_nothing_runs(gateway: TerseProcess) -> None:
    gateway.ask_to_end()
    assert gateway.process.wait(10) == 0


def test_receipts_survive_a_kill_and_no_worker_does(gateway: TerseProcess, upstream: FakeUpstream) -> None:
    for _ in range(5):
        assert httpx.post(f"{gateway.url}/v1/chat/completions", json=chat(), timeout=30).status_code == 200
    until(lambda: len(recent(gateway.folder / "data")) == 5)
    gateway.process.kill()
    gateway.process.wait()
    until(lambda: not gateway.is_up())
    assert len(recent(gateway.folder / "data")) == 5
