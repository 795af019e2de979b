"""A large request body for aiohttp, written in pieces straight out of the bytes."""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp.abc import AbstractStreamWriter

# aiohttp warns above this that one write blocks the loop. Its own way out is io.BytesIO, which it makes copy
# the whole at once.
_ONE_WRITE_BYTES = 1 << 18
_PIECE_BYTES = 1 << 16


def sendable(body: bytes) -> bytes | aiohttp.Payload:
    """The body as it is, or as a payload that lets others in between its pieces."""
    return body if len(body) <= _ONE_WRITE_BYTES else _LargeBody(body)


class _LargeBody(aiohttp.Payload):
    """Bytes that are there already."""

    _autoclose = True  # nothing to close

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self._size = len(body)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return str(self._value, encoding, errors)

    async def as_bytes(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return bytes(self._value)

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        with memoryview(self._value) as view:
            whole = view if content_length is None else view[:content_length]
            for start in range(0, len(whole), _PIECE_BYTES):
                # A copy: the transport keeps what the socket does not take at once.
                await writer.write(bytes(whole[start : start + _PIECE_BYTES]))
                await asyncio.sleep(0)
