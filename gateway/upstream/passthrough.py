"""Bytes in, bytes out: the pooled way to every upstream that speaks the client's own API."""

from __future__ import annotations

import urllib.request
from collections.abc import AsyncIterator

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from gateway.config import UpstreamConfig
from gateway.large_body import sendable
from gateway.upstream.base import UpstreamCall, UpstreamReply
from gateway.upstream.error_map import CLIENT_ERRORS, map_error
from gateway.upstream.headers import from_upstream

# Providers close idle connections after 60 s and more; a younger one is almost never stale.
_IDLE_SECONDS = 45.0
_ANTHROPIC_VERSION = "2023-06-01"
# aiohttp would add these where the client sent none.
_NOT_OURS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


def open_session() -> aiohttp.ClientSession:
    """The one pool of a worker. Nothing is decoded, no cookie is kept, no redirect is followed."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60, keepalive_timeout=_IDLE_SECONDS),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=_NOT_OURS,
        # Looking for proxies in the environment costs time in each request; only where there are any.
        trust_env=bool(urllib.request.getproxies()),
    )


class PassthroughUpstream:
    """One OpenAI- or Anthropic-compatible base URL."""

    def __init__(self, config: UpstreamConfig, session: aiohttp.ClientSession) -> None:
        self._config = config
        self._session = session
        self._base = config.base_url.rstrip("/")
        self._urls: dict[str, URL] = {}
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=None, sock_connect=config.connect_timeout, sock_read=config.read_timeout
        )
        self._own_names = frozenset(name.lower() for name in config.headers)

    async def send(self, call: UpstreamCall) -> UpstreamReply:
        """One POST; returns once the reply's headers are there."""
        try:
            response = await self._session.post(
                self._url(call.path),
                data=sendable(call.body),
                headers=self._headers(call),
                timeout=self._timeout,
                allow_redirects=False,
            )
        except CLIENT_ERRORS as error:
            raise map_error(error, self._config.name) from error
        return UpstreamReply(
            response.status, from_upstream(response.raw_headers), _ResponseBody(response, self._config.name)
        )

    async def close(self) -> None:
        """The session belongs to the worker, not to one upstream."""

    def _url(self, path: str) -> URL:
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = URL(self._base + path)
        return url

    def _headers(self, call: UpstreamCall) -> CIMultiDict[str]:
        headers = CIMultiDict((n, v) for n, v in call.headers if n not in self._own_names)
        for name, value in self._config.headers.items():
            headers.add(name, value)
        key = self._config.api_key.reveal() if self._config.api_key else call.client_key
        if self._config.anthropic:
            if key and "x-api-key" not in headers:
                headers["x-api-key"] = key
            headers.setdefault("anthropic-version", _ANTHROPIC_VERSION)
        elif key and "authorization" not in headers:
            headers["authorization"] = f"Bearer {key}"
        return headers


class _ResponseBody:
    """The body of one aiohttp response."""

    __slots__ = ("_name", "_response")

    def __init__(self, response: aiohttp.ClientResponse, name: str) -> None:
        self._response = response
        self._name = name

    async def __aiter__(self) -> AsyncIterator[bytes]:
        content = self._response.content
        try:
            while chunk := await content.readany():
                yield chunk
        except CLIENT_ERRORS as error:
            raise map_error(error, self._name) from error

    async def read(self) -> bytes:
        try:
            return await self._response.read()
        except CLIENT_ERRORS as error:
            raise map_error(error, self._name) from error

    async def close(self) -> None:
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()
