"""The compressor process: an engine, or several processes, behind HTTP on a Unix socket or TCP port.

    POST /v1/score   UTF-8 text            -> one byte a word
    POST /v1/scores  {texts}               -> the same of each, one after another; x-terse-words: how many
    POST /v1/rank    {question, passages}  -> one byte a passage
    GET  /health     what EngineHealth says; 503 when not ready. Also at /health/readiness, for probes
    GET  /health/liveness   that the process answers
    GET  /metrics    Prometheus

`x-terse-deadline-ms` on a request bounds it; a client that leaves cancels it, and what still waits is
dropped. Errors carry the name of the class in compressor/errors.py, so that the client raises the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Any, TypeVar

import orjson
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from compressor.engine.protocol import ScoringEngine
from compressor.errors import (
    CompressorError,
    DeadlineExceeded,
    EngineStopped,
    InvalidText,
    Overloaded,
    ScoringFailed,
)
from compressor.shapes import WordScores
from gateway.compression.compressor_metrics import CompressorMetrics
from gateway.compression.remote_engine import RemoteEngine

T = TypeVar("T")
MAX_BODY_BYTES = 64 * 1024 * 1024  # twice the gateway's default for a whole request
_STATUS = {"Overloaded": 429, "InvalidText": 400, "DeadlineExceeded": 504, "EngineStopped": 503}
_CLIENT_GONE = Response(status_code=499)


def create_compressor_app(
    engine: ScoringEngine,
    metrics: CompressorMetrics | None = None,
    exposition: Callable[[], Awaitable[bytes]] | None = None,
) -> Starlette:
    """The ASGI app around an engine, which it closes when it shuts down.

    `exposition` answers `/metrics` where this app is one of several that are scraped as one; else `metrics`.
    """
    server = _CompressorServer(engine, metrics or CompressorMetrics(engine), exposition)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        if isinstance(engine, RemoteEngine):
            with suppress(EngineStopped):  # it goes on asking; until one answers, /health says why
                await engine.connect()
        yield
        await engine.close()

    routes = [
        Route("/v1/score", server.score, methods=["POST"]),
        Route("/v1/scores", server.scores, methods=["POST"]),
        Route("/v1/rank", server.rank, methods=["POST"]),
        Route("/health", server.health),
        Route("/health/readiness", server.health),
        Route("/health/liveness", server.liveness),
        Route("/metrics", server.metrics),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


class _CompressorServer:
    def __init__(
        self,
        engine: ScoringEngine,
        metrics: CompressorMetrics,
        exposition: Callable[[], Awaitable[bytes]] | None,
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._exposition = exposition

    async def score(self, request: Request) -> Response:
        """Scores the body."""
        return await self._answer(request, self._score(request))

    async def scores(self, request: Request) -> Response:
        """Scores each text of the body."""
        return await self._answer(request, self._scores(request))

    async def rank(self, request: Request) -> Response:
        """Ranks the passages of the body."""
        return await self._answer(request, self._rank(request))

    async def health(self, _request: Request) -> Response:
        """Readiness, device, fingerprint and counts."""
        health = self._engine.health()
        body = {**asdict(health), "device": self._engine.device, "fingerprint": self._engine.fingerprint}
        return JSONResponse(body, 200 if health.ready else 503)

    async def liveness(self, _request: Request) -> Response:
        """That the process answers, whatever its engine does."""
        return JSONResponse({"status": "alive"})

    async def metrics(self, _request: Request) -> Response:
        """Prometheus text."""
        text = await self._exposition() if self._exposition else self._metrics.text()
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _score(self, request: Request) -> Response:
        try:
            text = (await _read_body(request)).decode()
        except UnicodeDecodeError as error:
            raise InvalidText(f"the body is not UTF-8 at byte {error.start}") from None
        return self._scored([await _bounded(request, self._engine.score(text))])

    async def _scores(self, request: Request) -> Response:
        try:
            texts = [str(text) for text in orjson.loads(await _read_body(request))["texts"]]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise InvalidText(f"expected {{texts}}: {error}") from None
        if not texts:
            raise InvalidText("expected at least one text")
        scored = await _bounded(request, _all_of([self._engine.score(text) for text in texts]))
        if len({one.fingerprint for one in scored}) > 1:
            raise ScoringFailed("the encoder was changed meanwhile")
        return self._scored(scored)

    def _scored(self, scored: Sequence[WordScores]) -> Response:
        for one in scored:
            self._metrics.scored(one.timings)
        headers = {
            "x-terse-fingerprint": scored[0].fingerprint,
            "x-terse-wait-ms": f"{max(one.timings.wait_ms for one in scored):.3f}",
            "x-terse-encode-ms": f"{max(one.timings.encode_ms for one in scored):.3f}",
            "x-terse-words": ",".join(str(len(one.values)) for one in scored),
        }
        values = b"".join(one.values.tobytes() for one in scored)
        return Response(values, headers=headers, media_type="application/octet-stream")

    async def _rank(self, request: Request) -> Response:
        try:
            body = orjson.loads(await _read_body(request))
            question, passages = str(body["question"]), [str(passage) for passage in body["passages"]]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise InvalidText(f"expected {{question, passages}}: {error}") from None
        ranks = await _bounded(request, self._engine.rank(question, passages))
        return Response(ranks.tobytes(), media_type="application/octet-stream")

    async def _answer(self, request: Request, work: Awaitable[Response]) -> Response:
        try:
            response = await work
            outcome = "ok"
        except ClientDisconnect:
            response, outcome = _CLIENT_GONE, "ClientGone"
        except CompressorError as error:
            outcome = type(error).__name__
            headers = {"retry-after": "1"} if isinstance(error, Overloaded) else {}
            body = {"error": {"type": outcome, "message": str(error)}}
            response = JSONResponse(body, _STATUS.get(outcome, 500), headers)
        self._metrics.answered(outcome)
        return response


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise InvalidText(f"the text is over {MAX_BODY_BYTES} bytes")
    return bytes(body)


async def _bounded(request: Request, work: Awaitable[T]) -> T:
    """Awaits `work` until the deadline passes or the client leaves; both cancel it."""
    deadline = request.headers.get("x-terse-deadline-ms")
    seconds = float(deadline) / 1000 if deadline and deadline.isascii() and deadline.isdigit() else None
    task = asyncio.ensure_future(work)
    gone = asyncio.create_task(_wait_for_disconnect(request))
    try:
        await asyncio.wait({task, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise ClientDisconnect
        raise DeadlineExceeded(f"no scores within {deadline} ms")
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def _all_of(calls: Sequence[Coroutine[Any, Any, WordScores]]) -> list[WordScores]:
    """The results of all; the first failure ends the others."""
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _wait_for_disconnect(request: Request) -> None:
    message: Any = {}
    while message.get("type") != "http.disconnect":
        message = await request.receive()
