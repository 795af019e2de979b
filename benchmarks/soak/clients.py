"""Clients that ask, leave, are refused and fail, in fixed shares."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from contextlib import suppress

import aiohttp
import orjson

PATH = "/v1/chat/completions"
REPEATED = 8  # documents that come again and again
WORDS = (
    "machine",
    "invoice",
    "harbour",
    "committee",
    "budget",
    "green",
    "delivery",
    "protocol",
    "winter",
    "engine",
    "report",
    "window",
)
# What a client does, and how many of ten thousand requests do it. A new document costs the encoder a second.
SHARES = {
    "short": 5000,
    "stream": 2000,
    "repeated 10k": 1000,
    "new 10k": 160,
    "cancelled": 700,
    "refused key": 400,
    "bad body": 340,
    "upstream 500": 250,
    "upstream cut": 150,
}


class Clients:
    """Sends one request of a kind and counts how it ended."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, key: str, outcomes: Counter[tuple[str, str]]
    ) -> None:
        self._session, self._url, self._outcomes = session, url + PATH, outcomes
        self._headers = {"authorization": f"Bearer {key}"}
        self._random = random.Random(7)
        self._serial = itertools.count()
        self._documents = [self.document() for _ in range(REPEATED)]

    def document(self) -> str:
        """About ten thousand tokens that nobody sent before."""
        words = [f"{self._random.choice(WORDS)}" for _ in range(8000)]
        lines = [" ".join(words[i : i + 16]) + "." for i in range(0, len(words), 16)]
        return f"Document {next(self._serial)}.\n" + "\n".join(lines)

    async def send(self, kind: str) -> None:
        """One request; whatever happens is counted."""
        try:
            outcome = await asyncio.wait_for(self._send(kind), 60)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            outcome = type(error).__name__
        self._outcomes[kind, outcome] += 1

    async def _send(self, kind: str) -> str:
        if kind == "cancelled":
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ask("Tell me all.", stream=True), 0.3)
                return "ended before it was left"
            return "left"
        if kind in ("short", "stream"):
            return await self._ask("Hello, who are you?", stream=kind == "stream")
        if kind.endswith("10k"):
            text = self.document() if kind == "new 10k" else self._random.choice(self._documents)
            return await self._ask(f"{text}\n\nWhat is point {self._random.randrange(4)} about?")
        if kind == "refused key":
            return await self._ask("Hello", headers={"authorization": "Bearer sk-terse-wrong"})
        if kind == "upstream 500":
            return await self._ask("please fail")
        if kind == "upstream cut":
            return await self._ask("please break", stream=True)
        async with self._session.post(self._url, data=b'{"model": ', headers=self._headers) as reply:
            return str(reply.status)

    async def _ask(self, text: str, *, stream: bool = False, headers: dict[str, str] | None = None) -> str:
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}], "stream": stream}
        async with self._session.post(
            self._url, data=orjson.dumps(body), headers=headers or self._headers
        ) as reply:
            answer = await reply.read()
            how = reply.headers.get("x-terse-compression", "")
            why = reply.headers.get("x-terse-skip-reason", "")
            ended = ", error event" if stream and b'"error"' in answer else ""
            return " ".join(part for part in (str(reply.status), how, why) if part) + ended
