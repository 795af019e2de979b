"""The compressor process and its client over real sockets: scores, errors, cancellation, death and return."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.responses import PlainTextResponse

from compressor.config import CompressorConfig
from compressor.engine.fake import FakeEngine
from compressor.errors import DeadlineExceeded, EngineStopped, InvalidText, Overloaded, ScoringFailed
from compressor.shapes import WordScores
from compressor.startup import open_engine
from gateway.compression import remote_engine
from gateway.compression.compressor_server import create_compressor_app
from gateway.compression.remote_engine import RemoteEngine
from tests.support.live_server import free_port, live_server
from tests.support.processes import children_of
from tests.support.tiny_encoder import TEXTS, tiny_encoder


class SlowEngine(FakeEngine):
    """Remembers which calls were cancelled."""

    def __init__(self) -> None:
        super().__init__(delay=30)
        self.cancelled = 0

    async def score(self, text: str) -> WordScores:
        try:
            return await super().score(text)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@asynccontextmanager
async def remote(url: str, deadline_ms: int | None = None) -> AsyncIterator[RemoteEngine]:
    engine = RemoteEngine(url, deadline_ms=deadline_ms)
    try:
        yield engine
    finally:
        await engine.close()


async def until(condition: object) -> None:
    assert callable(condition)
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


async def test_scores_ranks_and_health_come_back() -> None:
    local = FakeEngine(fingerprint="abc")
    with live_server(create_compressor_app(local)) as url:
        async with remote(url) as engine:
            assert engine.fingerprint == "" and not engine.health().ready
            await engine.connect()
            assert engine.fingerprint == "abc" and engine.health().ready and engine.device == "cpu"
            for text in (*TEXTS, "", "one", "null \x00 byte"):
                expected = await FakeEngine().score(text)
                found = await engine.score(text)
                assert found.values.tolist() == expected.values.tolist()
                assert found.fingerprint == "abc"
            ranks = await engine.rank("the budget", ["the budget is small", "cheese"])
            assert ranks.tolist() == [255, 0]
            assert (await engine.rank("x", [])).size == 0


@pytest.mark.parametrize("error", [Overloaded("full"), ScoringFailed("NaN"), EngineStopped("dead")])
async def test_errors_arrive_as_themselves(error: Exception) -> None:
    local = FakeEngine()
    with live_server(create_compressor_app(local)) as url:
        async with remote(url) as engine:
            await engine.connect()
            local.error = error  # type: ignore[assignment]
            with pytest.raises(type(error), match=str(error)):
                await engine.score("text")
            local.error = None
            assert (await engine.score("text")).values.size == 1


async def test_invalid_text_stays_here() -> None:
    with live_server(create_compressor_app(FakeEngine())) as url:
        async with remote(url) as engine:
            with pytest.raises(InvalidText, match="character 1"):
                await engine.score("a\ud800")
            with pytest.raises(InvalidText):
                await engine.rank("q", ["\ud800"])
            async with httpx.AsyncClient() as client:
                bad = await client.post(f"{url}/v1/score", content=b"\xff\xfe")
                assert bad.status_code == 400 and bad.json()["error"]["type"] == "InvalidText"
                bad = await client.post(f"{url}/v1/rank", content=b"[]")
                assert bad.status_code == 400


async def test_the_deadline_is_kept() -> None:
    local = SlowEngine()
    with live_server(create_compressor_app(local)) as url:
        async with remote(url, deadline_ms=100) as engine:
            with pytest.raises(DeadlineExceeded, match="100 ms"):
                await engine.score("text")
            await until(lambda: local.cancelled == 1)


async def test_a_client_that_leaves_cancels_the_work() -> None:
    local = SlowEngine()
    with live_server(create_compressor_app(local)) as url:
        async with remote(url) as engine:
            call = asyncio.create_task(engine.score("text"))
            await asyncio.sleep(0.3)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await until(lambda: local.cancelled == 1)


async def test_metrics() -> None:
    with live_server(create_compressor_app(FakeEngine())) as url:
        async with remote(url) as engine, httpx.AsyncClient() as client:
            await engine.score("two words")
            text = (await client.get(f"{url}/metrics")).text
    assert "terse_compressor_ready 1.0" in text
    assert 'terse_compressor_answers_total{outcome="ok"} 1.0' in text
    assert "terse_compressor_texts_total 1.0" in text


class BrokenProxy:
    """A fleet whose proxy answers 500 itself for the first texts, as Ray's does when a replica dies."""

    def __init__(self, answers: int, status: int = 500) -> None:
        self.asked = 0
        self._answers, self._status = answers, status
        self._fleet = create_compressor_app(FakeEngine())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") == "/v1/score":
            self.asked += 1
            if self.asked <= self._answers:
                reply = PlainTextResponse("Internal Server Error", self._status)
                await reply(scope, receive, send)
                return
        await self._fleet(scope, receive, send)


async def test_a_replica_that_ends_behind_a_proxy_is_made_up_for() -> None:
    proxy = BrokenProxy(1)
    with live_server(proxy) as url:
        async with remote(url) as engine:
            scores = await engine.score("two words")
            assert scores.values.size == 2 and engine.health().ready
    assert proxy.asked == 2


@pytest.mark.parametrize(("status", "asked"), [(503, 2), (413, 1)], ids=["no replica", "a refusal is final"])
async def test_a_proxy_that_has_no_replica_is_asked_twice(status: int, asked: int) -> None:
    proxy = BrokenProxy(1000, status)
    with live_server(proxy) as url:
        async with remote(url) as engine:
            with pytest.raises(ScoringFailed, match=f"answered {status}"):
                await engine.score("text")
    assert proxy.asked == asked


async def test_nobody_there() -> None:
    async with remote(f"http://127.0.0.1:{free_port()}") as engine:
        with pytest.raises(EngineStopped, match="unreachable"):
            await engine.score("text")
        assert not engine.health().ready


async def test_several_processes_share_and_stand_in() -> None:
    engines = [FakeEngine(), FakeEngine()]
    with (
        live_server(create_compressor_app(engines[0])) as first,
        live_server(create_compressor_app(engines[1])) as second,
    ):
        async with remote(f"{first}, {second}") as engine:
            for local in engines:
                local.delay = 0.05
            await asyncio.gather(*(engine.score(f"text {number}") for number in range(20)))
            assert all(len(local.scored) >= 5 for local in engines)
            engines[0].error = EngineStopped("gone")
            await until(lambda: "gone" in engine.health().detail)
            assert engine.health().ready
            assert (await engine.score("still works")).values.size == 2


@pytest.mark.parametrize("url", ["", "ftp://x", "unix:relative", "unix://relative.sock", "http://"])
def test_bad_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"url|URL"):
        RemoteEngine(url)


@contextmanager
def compressor_process(model: Path, socket: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "gateway.commands.compressor", "--socket", str(socket)]
    command += ["--model", str(model), "--device", "cpu", "--threads", "1"]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


async def connected(engine: RemoteEngine) -> None:
    for _ in range(300):
        try:
            await engine.connect()
        except EngineStopped:
            await asyncio.sleep(0.1)
        else:
            return
    raise AssertionError("the process did not start")


async def test_the_real_process_is_killed_and_comes_back(tmp_path: Path) -> None:
    """Over a Unix socket, with a real encoder; its worker is killed in the middle of a text."""
    model = tiny_encoder(tmp_path / "model")
    text = "\n".join(TEXTS)
    socket = tmp_path / "compressor.sock"
    with compressor_process(model, socket) as process:
        async with remote(f"unix://{socket}") as engine:
            await connected(engine)
            scores = await engine.score(text)
            local = open_engine(CompressorConfig(model=str(model), device="cpu", threads=1))
            try:
                expected = await local.score(text)
            finally:
                await local.close()
            assert np.array_equal(scores.values, expected.values)
            assert scores.fingerprint == expected.fingerprint == engine.fingerprint
            long = asyncio.create_task(engine.score(text * 1000))
            await asyncio.sleep(0.3)
            for child in children_of(process.pid):
                os.kill(child, signal.SIGKILL)
            # A new worker that is there within two seconds takes the text over; otherwise the caller is told.
            (outcome,) = await asyncio.gather(long, return_exceptions=True)
            assert isinstance(outcome, EngineStopped | WordScores)
            await until(lambda: engine.health().ready)
            assert np.array_equal((await engine.score(text)).values, expected.values)
    assert process.returncode == 0


def test_the_command_refuses_what_it_cannot_load(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    run = [sys.executable, "-m", "gateway.commands.compressor", "--port", "1", "--model", str(tmp_path)]
    result = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1 and "not a token classifier" in result.stderr
    result = subprocess.run(run[:3], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2


async def test_long_texts_are_sent_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "ein langer Text, в котором 🙂 " * 20_000
    whole = await FakeEngine().score(text)
    monkeypatch.setattr(remote_engine, "_PIECE", 1000)
    with live_server(create_compressor_app(FakeEngine())) as url:
        async with remote(url) as engine:
            assert np.array_equal((await engine.score(text)).values, whole.values)
            with pytest.raises(InvalidText, match="at character 2500"):
                await engine.score("a" * 2500 + "\ud800" + "b" * 2500)
