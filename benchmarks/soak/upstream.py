"""The provider: a short answer, a stream, a failure or half a stream, as it is asked."""

from __future__ import annotations

import asyncio

import orjson
from aiohttp import web


async def answer(request: web.Request) -> web.StreamResponse:
    """A short answer; a stream of twenty events in a second; a failure when the last message asks for one."""
    asked = orjson.loads(await request.read())
    last = str(asked["messages"][-1]["content"])[-40:]
    if "please fail" in last:
        return web.json_response({"error": {"message": "no", "type": "server_error"}}, status=500)
    message = {"role": "assistant", "content": "Fine."}
    if not asked.get("stream"):
        usage = {"prompt_tokens": 20, "completion_tokens": 2, "total_tokens": 22}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return web.json_response({"id": "1", "object": "chat.completion", "choices": choices, "usage": usage})
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for number in range(20):
        chunk = {"choices": [{"index": 0, "delta": {"content": f"word{number} "}}]}
        await response.write(b"data: " + orjson.dumps(chunk) + b"\n\n")
        if "please break" in last and number == 5 and request.transport is not None:
            request.transport.abort()
            return response
        await asyncio.sleep(0.05)
    await response.write(b"data: [DONE]\n\n")
    return response
