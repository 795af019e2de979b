"""The least a Python gateway can do, one app per HTTP client: a body in, one POST, the reply out."""

from __future__ import annotations

from typing import Any

import aiohttp
import httpx
import httpx_aiohttp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

UPSTREAM = "http://127.0.0.1:9100/v1/chat/completions"
PATH = "/v1/chat/completions"
HEADERS = {"content-type": "application/json"}

_open: dict[str, Any] = {}


async def _by_aiohttp(request: Request) -> Response:
    session = _open.get("session")
    if session is None:
        session = _open["session"] = aiohttp.ClientSession(
            auto_decompress=False, connector=aiohttp.TCPConnector(limit=0)
        )
    async with session.post(UPSTREAM, data=await request.body(), headers=HEADERS) as reply:
        return Response(await reply.read(), reply.status, media_type="application/json")


async def _by_httpx(request: Request) -> Response:
    client = _open.get("client")
    if client is None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        transport = httpx_aiohttp.AiohttpTransport(limits=limits)
        client = _open["client"] = httpx.AsyncClient(transport=transport)
    async with client.stream("POST", UPSTREAM, content=await request.body(), headers=HEADERS) as reply:
        body = b"".join([part async for part in reply.aiter_raw()])
    return Response(body, reply.status_code, media_type="application/json")


aiohttp_app = Starlette(routes=[Route(PATH, _by_aiohttp, methods=["POST"])])
httpx_app = Starlette(routes=[Route(PATH, _by_httpx, methods=["POST"])])
