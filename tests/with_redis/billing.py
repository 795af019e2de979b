"""A provider that bills what it serves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.support.live_server import LoopThread, free_port

ANSWER_TOKENS = 100
INPUT_PRICE, OUTPUT_PRICE = 1e-6, 10e-6  # USD a token


@dataclass
class Bill:
    """Tokens billed, per model. Failed requests are free, abandoned ones cost their input."""

    requests: Counter[str] = field(default_factory=Counter)
    input_tokens: Counter[str] = field(default_factory=Counter)
    output_tokens: Counter[str] = field(default_factory=Counter)

    def micro_usd(self, model: str) -> int:
        """As the price list says; both prices are whole micro-dollars."""
        return round(
            (self.input_tokens[model] * INPUT_PRICE + self.output_tokens[model] * OUTPUT_PRICE) * 1e6
        )

    @property
    def total(self) -> int:
        """Micro-USD of all models."""
        return sum(self.micro_usd(model) for model in set(self.input_tokens) | set(self.output_tokens))


class BillingUpstream:
    """Answers after `seconds`. The field `user` of a request says how: ok, stream, fail, leave."""

    def __init__(self, seconds: float = 0.5) -> None:
        self.bill = Bill()
        self.prompt_tokens = 0
        self.seconds = seconds
        self.seen = threading.Semaphore(0)

    def reset(self) -> None:
        """A new bill, and nobody seen."""
        self.bill = Bill()
        while self.seen.acquire(blocking=False):
            pass

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        model, way = body["model"], str(body.get("user", "ok")).split("-")[0]
        self.seen.release()
        if way == "leave":
            self._charge(model, 0)  # a provider bills what it has read
            await asyncio.sleep(3600)
        await asyncio.sleep(self.seconds)
        if way == "fail":
            return web.json_response({"error": {"message": "no", "type": "server_error"}}, status=500)
        # Whoever serves counts what it has sent; a gateway that dies afterwards has been billed all the same.
        self._charge(model, ANSWER_TOKENS)
        usage = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": ANSWER_TOKENS,
            "total_tokens": self.prompt_tokens + ANSWER_TOKENS,
        }
        if way == "stream":
            with contextlib.suppress(ConnectionResetError):  # a gateway that was killed reads no further
                return await self._stream(request, model, usage)
            return web.Response()
        message = {"role": "assistant", "content": "so be it"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response(
            {"id": "c", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}
        )

    def _charge(self, model: str, output_tokens: int) -> None:
        self.bill.requests[model] += 1
        self.bill.input_tokens[model] += self.prompt_tokens
        self.bill.output_tokens[model] += output_tokens

    async def _stream(self, request: web.Request, model: str, usage: dict[str, int]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        head = {"id": "c", "object": "chat.completion.chunk", "model": model}
        chunk = {**head, "choices": [{"index": 0, "delta": {"content": "so be it"}}]}
        for event in (chunk, {**head, "choices": [], "usage": usage}):
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


@contextmanager
def billing_upstream(seconds: float = 0.5) -> Iterator[tuple[BillingUpstream, str]]:
    """The provider, in a thread, and its base URL."""
    upstream, port, thread = BillingUpstream(seconds), free_port(), LoopThread("billing-upstream")

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", upstream.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=2048).start()
        return runner

    runner = thread.call(start())
    try:
        yield upstream, f"http://127.0.0.1:{port}/v1"
    finally:
        thread.call(runner.cleanup())
        thread.close()


def most_of(upstream: BillingUpstream) -> int:
    """Micro-USD that one request of the load may cost."""
    return round((upstream.prompt_tokens * INPUT_PRICE + ANSWER_TOKENS * OUTPUT_PRICE) * 1e6)
