"""An engine in another process: a `ScoringEngine` over a Unix socket or HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import aiohttp
import numpy as np
import orjson
from numpy.typing import NDArray

from compressor import errors
from compressor.engine.protocol import EngineHealth
from compressor.errors import CompressorError, EngineStopped, InvalidText, Overloaded, ScoringFailed
from compressor.shapes import ScoreTimings, WordScores
from compressor.text.pieces import join_bytes
from gateway.compression.score_batches import SHORT_BYTES, ScoreBatches
from gateway.large_body import sendable
from gateway.turns import at_work

# A process that is gone is noticed by the next call anyway; this bounds how long readiness stays wrong.
_HEALTH_SECONDS = 1.0
_CONNECT_SECONDS = 2.0
# Calls in flight to one process. Beyond it they would only wait in its queue, out of reach of its own bound.
_MAX_IN_FLIGHT = 512

_PIECE = 256 * 1024  # characters that are encoded in one step


class _NotItsAnswer(Exception):
    """An error that no compressor process has written."""


@dataclass(slots=True, eq=False)
class _Process:
    """One compressor process and what is known of it."""

    url: str
    base: str  # of HTTP requests
    socket: str  # path of the Unix socket; "" for TCP
    session: aiohttp.ClientSession | None = None
    fingerprint: str = ""
    health: EngineHealth = field(default_factory=lambda: EngineHealth(False, "not asked yet"))
    in_flight: int = 0
    bytes_in_flight: int = 0


class RemoteEngine:
    """Reaches `unix:///run/terse.sock` or `http://host:port`; several, comma-separated, share the work.

    Each text goes to the ready process with the fewest bytes in flight. `connect` asks the processes once and
    keeps asking every second; without it the first call does so. Lost connections are made anew.
    """

    def __init__(self, url: str, *, deadline_ms: int | None = None) -> None:
        self._url = url
        self._processes = [_parse(part.strip()) for part in url.split(",") if part.strip()]
        if not self._processes:
            raise ValueError("no URL of a compressor")
        self._headers = {"x-terse-deadline-ms": str(deadline_ms)} if deadline_ms else {}
        self._batches = ScoreBatches(self._score_one, self._score_all, self._ready)
        self._watch: asyncio.Task[None] | None = None
        self._first: asyncio.Task[None] | None = (
            None  # the first round of questions, which all calls wait for
        )
        self._closed = False

    @property
    def fingerprint(self) -> str:
        """The encoder's; empty until a process has answered."""
        return next((process.fingerprint for process in self._processes if process.fingerprint), "")

    @property
    def device(self) -> str:
        """The device of the first process that answered; before that, the address."""
        return next((p.health.device for p in self._processes if p.health.device), self._url)

    async def connect(self) -> None:
        """Asks every process for its health and keeps doing so. Raises EngineStopped when none is ready."""
        if self._closed:
            raise EngineStopped("the engine is closed")
        started = self._first is not None
        await self._first_round()
        if started:
            await self._ask_all()
        if not any(process.health.ready for process in self._processes):
            raise EngineStopped(self.health().detail)

    async def score(self, text: str) -> WordScores:
        """As the engine over there. Cancelling the call cancels it there."""
        body = await at_work(len(text) > _PIECE, _encoded, text)
        if len(body) <= SHORT_BYTES:
            return await self._batches.score(text)
        return await self._score_one(body)

    async def _score_one(self, text: str | bytes) -> WordScores:
        answer, headers = await self._call("/v1/score", text.encode() if isinstance(text, str) else text)
        return WordScores(np.frombuffer(answer, np.uint8), headers["x-terse-fingerprint"], _timings(headers))

    async def _score_all(self, texts: Sequence[str]) -> list[WordScores]:
        answer, headers = await self._call("/v1/scores", orjson.dumps({"texts": list(texts)}))
        ends = list(accumulate(map(int, headers["x-terse-words"].split(","))))
        values, timings = np.frombuffer(answer, np.uint8), _timings(headers)
        if len(ends) != len(texts) or ends[-1] != len(values):
            raise ScoringFailed("the compressor answered for other texts")
        bounds = zip([0, *ends], ends, strict=False)
        return [WordScores(values[s:e], headers["x-terse-fingerprint"], timings) for s, e in bounds]

    async def rank(self, question: str, passages: Sequence[str]) -> NDArray[np.uint8]:
        """As the engine over there."""
        if not passages:
            return np.zeros(0, np.uint8)
        try:
            body = orjson.dumps({"question": question, "passages": list(passages)})
        except orjson.JSONEncodeError as error:
            raise InvalidText(f"the question or a passage: {error}") from None
        answer, _ = await self._call("/v1/rank", body)
        return np.frombuffer(answer, np.uint8)

    def health(self) -> EngineHealth:
        """What the processes said last, at most about a second ago; sums of their counts."""
        if self._closed:
            return EngineHealth(False, "the engine is closed", device=self.device)
        known = [process.health for process in self._processes]
        ready = [health for health in known if health.ready]
        bad = [f"{p.url}: {p.health.detail}" for p in self._processes if not p.health.ready]
        return EngineHealth(
            ready=bool(ready),
            detail="; ".join(bad) or "ok",
            waiting_tokens=sum(health.waiting_tokens for health in ready),
            device=self.device,
            scored_texts=sum(health.scored_texts for health in known),
            scored_tokens=sum(health.scored_tokens for health in known),
            batches=sum(health.batches for health in known),
        )

    def healths(self) -> list[EngineHealth]:
        """What each process said last, in the order of the URLs."""
        return [process.health for process in self._processes]

    async def close(self) -> None:
        """Closes the connections; the processes go on."""
        self._closed = True
        await self._batches.close()
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        for process in self._processes:
            if process.session is not None:
                await process.session.close()

    async def _call(self, path: str, body: bytes) -> tuple[bytes | bytearray, Mapping[str, str]]:
        """The body and headers of a good answer; raises what the engine over there raised."""
        if self._closed:
            raise EngineStopped("the engine is closed")
        await self._first_round()
        tried: list[_Process] = []
        while True:
            process = self._choose(tried)
            try:
                return await self._post(process, path, body)
            except _NotItsAnswer as error:
                # Behind that address a replica ended with our text; the address itself is well.
                tried.append(process)
                if len(tried) > len(self._processes):
                    raise ScoringFailed(f"{process.url}: {error}") from None
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                # Scoring has no side effects, so another process (or the same one, restarted) may try again.
                process.health = EngineHealth(False, f"{error or type(error).__name__}")
                tried.append(process)
                await self._ask(process)
                if len(tried) > len(self._processes):
                    raise EngineStopped(f"{process.url}: {error or type(error).__name__}") from None

    def _ready(self) -> int:
        return sum(process.health.ready for process in self._processes) or len(self._processes)

    def _choose(self, tried: Sequence[_Process]) -> _Process:
        ready = [process for process in self._processes if process.health.ready]
        if not ready:
            raise EngineStopped(self.health().detail)
        process = min(ready, key=lambda p: (p in tried, p.bytes_in_flight))
        if process.in_flight >= _MAX_IN_FLIGHT:
            raise Overloaded(f"{process.in_flight} texts are on their way to {process.url}")
        return process

    async def _post(
        self, process: _Process, path: str, body: bytes
    ) -> tuple[bytes | bytearray, Mapping[str, str]]:
        process.in_flight += 1
        process.bytes_in_flight += len(body)
        try:
            session = _session(process)
            async with session.post(
                process.base + path, data=sendable(body), headers=self._headers
            ) as response:
                answer = await _whole(response)
                if response.status == 200:
                    return answer, response.headers
                raise _error(answer, response.status)
        finally:
            process.in_flight -= 1
            process.bytes_in_flight -= len(body)

    async def _keep_asking(self) -> None:
        while True:
            await asyncio.sleep(_HEALTH_SECONDS)
            await self._ask_all()

    async def _first_round(self) -> None:
        """Makes sure that every process was asked once; all calls wait for the same questions."""
        if self._first is None:
            self._first = asyncio.create_task(self._ask_all())
            self._watch = asyncio.create_task(self._keep_asking())
        await asyncio.shield(self._first)

    async def _ask_all(self) -> None:
        await asyncio.gather(*(self._ask(process) for process in self._processes))

    async def _ask(self, process: _Process) -> None:
        """Brings one process's health and fingerprint up to date."""
        timeout = aiohttp.ClientTimeout(total=_CONNECT_SECONDS)
        try:
            async with _session(process).get(f"{process.base}/health", timeout=timeout) as response:
                told = orjson.loads(await response.read())
            process.fingerprint = str(told.pop("fingerprint"))
            process.health = EngineHealth(**told)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, TypeError, KeyError) as error:
            process.health = EngineHealth(
                False, f"unreachable: {error or type(error).__name__}", device=process.health.device
            )


async def _whole(response: aiohttp.ClientResponse) -> bytes | bytearray:
    """The body. A large one is written to its place as it comes: joining megabytes at the end is one step of
    the event loop, of some milliseconds.
    """
    size = response.content_length
    if size is None or size <= _PIECE:
        return await response.read()
    body, position = bytearray(size), 0
    async for chunk in response.content.iter_any():
        body[position : position + len(chunk)] = chunk
        position += len(chunk)
    del body[position:]
    return body


def _timings(headers: Mapping[str, str]) -> ScoreTimings:
    return ScoreTimings(float(headers.get("x-terse-wait-ms", 0)), float(headers.get("x-terse-encode-ms", 0)))


def _encoded(text: str) -> bytes:
    """The text as UTF-8. Raises InvalidText."""
    pieces: list[bytes] = []
    for start in range(0, len(text), _PIECE):
        try:
            pieces.append(text[start : start + _PIECE].encode())
        except UnicodeEncodeError as error:
            raise InvalidText(f"unpaired surrogate at character {start + error.start}") from None
    return join_bytes(pieces)


def _parse(url: str) -> _Process:
    scheme, _, rest = url.partition("://")
    if scheme == "unix" and rest.startswith("/"):
        return _Process(url, "http://compressor", rest)
    if scheme in ("http", "https") and rest:
        return _Process(url, url.rstrip("/"), "")
    raise ValueError(f"compressor url {url!r}: expected unix:///path or http://host:port")


def _session(process: _Process) -> aiohttp.ClientSession:
    """The process's connection pool, made on the loop that uses it."""
    if process.session is None or process.session.closed:
        connector: aiohttp.BaseConnector
        if process.socket:
            connector = aiohttp.UnixConnector(process.socket, limit=_MAX_IN_FLIGHT)
        else:
            connector = aiohttp.TCPConnector(limit=_MAX_IN_FLIGHT)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
        process.session = aiohttp.ClientSession(connector=connector, timeout=timeout)
    return process.session


def _error(answer: bytes | bytearray, status: int) -> Exception:
    """The exception that the other side names; what stands before it (a fleet's proxy) names none."""
    try:
        told: Any = orjson.loads(answer)["error"]
        name, message = str(told["type"]), str(told["message"])
    except (ValueError, KeyError, TypeError):
        words = f"the compressor answered {status}"
        return _NotItsAnswer(words) if status >= 500 else ScoringFailed(words)
    kind = getattr(errors, name, None)
    known = isinstance(kind, type) and issubclass(kind, CompressorError) and name != "BudgetTooSmall"
    return kind(message) if known and kind is not None else ScoringFailed(message)
