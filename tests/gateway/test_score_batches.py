"""Short texts travel together; each still gets its own scores, its own error, and its own cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from compressor.engine.fake import FakeEngine
from compressor.errors import EngineStopped, Overloaded, ScoringFailed
from compressor.shapes import WordScores
from gateway.compression.compressor_server import create_compressor_app
from gateway.compression.remote_engine import RemoteEngine
from tests.support.live_server import live_server

TEXTS = [f"message number {n} and so on" for n in range(150)] + ["", " ", "Ω 🙂", "long " * 5000]


class Watched(FakeEngine):
    """Knows how many calls were cancelled; fails for texts that say so."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.cancelled = 0

    async def score(self, text: str) -> WordScores:
        if "full" in text:
            raise Overloaded("full")
        if "bad" in text:
            raise ScoringFailed(f"cannot score {text!r}")
        try:
            return await super().score(text)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class Calls:
    """Counts the requests to each path on their way to an app."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.paths: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            self.paths.append(scope["path"])
        await self.app(scope, receive, send)


@asynccontextmanager
async def behind(app: Any) -> AsyncIterator[RemoteEngine]:
    with live_server(app) as url:
        engine = RemoteEngine(url)
        try:
            yield engine
        finally:
            await engine.close()


async def test_texts_of_one_turn_are_a_few_calls_and_have_the_scores_they_have_alone() -> None:
    local, calls = FakeEngine(), Calls(create_compressor_app(FakeEngine()))
    async with behind(calls) as engine:
        scored = await asyncio.gather(*map(engine.score, TEXTS))
        assert sorted(calls.paths) == ["/v1/score", *["/v1/scores"] * 10]  # the long one goes alone
        for text, one in zip(TEXTS, scored, strict=True):
            assert np.array_equal(one.values, (await local.score(text)).values)
            assert one.fingerprint == "fake"
        await engine.score("one alone")
        assert sorted(calls.paths) == [*["/v1/score"] * 2, *["/v1/scores"] * 10]


async def test_one_text_that_cannot_be_scored_is_nobody_elses_trouble() -> None:
    async with behind(create_compressor_app(Watched())) as engine:
        results = await asyncio.gather(*map(engine.score, ["one", "bad", "two"]), return_exceptions=True)
    assert [type(result) for result in results] == [WordScores, ScoringFailed, WordScores]
    assert "cannot score 'bad'" in str(results[1])


async def test_an_engine_that_is_full_is_asked_once() -> None:
    calls = Calls(create_compressor_app(Watched()))
    async with behind(calls) as engine:
        results = await asyncio.gather(*map(engine.score, [*TEXTS[:15], "full"]), return_exceptions=True)
    assert {type(result) for result in results} == {Overloaded}
    assert calls.paths == ["/v1/scores"]


async def test_a_batch_that_nobody_waits_for_is_cancelled_over_there() -> None:
    far = Watched(delay=30)
    async with behind(create_compressor_app(far)) as engine:
        tasks = [asyncio.create_task(engine.score(text)) for text in ("one", "two", "three")]
        await asyncio.sleep(0.5)
        tasks[0].cancel()
        await asyncio.sleep(0.3)
        assert far.cancelled == 0
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(100):
            if far.cancelled == 3:
                break
            await asyncio.sleep(0.05)
        assert far.cancelled == 3


async def test_closing_answers_whoever_waits() -> None:
    async with behind(create_compressor_app(Watched(delay=30))) as engine:
        tasks = [asyncio.create_task(engine.score(text)) for text in ("one", "two")]
        await asyncio.sleep(0.5)
        await engine.close()
        for result in await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5):
            assert isinstance(result, EngineStopped)


async def test_a_process_that_knows_no_batches_is_asked_for_each() -> None:
    new = create_compressor_app(FakeEngine())
    routes = [route for route in new.routes if isinstance(route, Route) and route.path != "/v1/scores"]
    calls = Calls(Starlette(routes=routes))
    async with behind(calls) as engine:
        scored = await asyncio.gather(*map(engine.score, TEXTS[:5]))
    assert [len(one.values) for one in scored] == [6] * 5
    assert sorted(calls.paths) == [*["/v1/score"] * 5, "/v1/scores"]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"texts": []}', b'{"texts": 5}', b'{"text": ["a"]}', b"\xff"])
async def test_what_is_no_batch_is_refused(body: bytes) -> None:
    import httpx

    with live_server(create_compressor_app(FakeEngine())) as url:
        async with httpx.AsyncClient() as client:
            reply = await client.post(url + "/v1/scores", content=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == "InvalidText"
