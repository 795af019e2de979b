"""An HTTP request, read: its headers by name, its body under the limit and decoded."""

from __future__ import annotations

import random
import re
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import partial
from typing import Any

from compressor.text.pieces import join_bytes
from compressor.turns import let_go
from gateway.errors import BadRequest, BodyTooLarge
from gateway.exchange import Received
from gateway.releasing import LARGE
from gateway.shapes import Surface
from gateway.turns import on_thread

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# 15 + 32 lets zlib tell gzip from zlib by itself.
_EITHER_ZLIB_OR_GZIP = 47
_DECODED_HERE = 512  # bytes; they grow a thousandfold at most, which takes some milliseconds
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class ClientLeft(Exception):
    """The client hung up before it had its answer."""


class BodyEnded(ClientLeft):
    """The body ended before it was complete: the client hung up, or wrote no HTTP."""


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The client's `x-request-id` when it is a plain word, else a new one."""
    for name, value in headers:
        if name == b"x-request-id":
            given = value.decode("latin-1")
            if _REQUEST_ID.fullmatch(given):
                return given
    # Unique is enough, and the system's own randomness is a system call; forked workers draw apart. Time
    # comes first, as in UUID version 7: an index of receipts then grows at its end, not on every page.
    return f"{time.time_ns() // 1_000_000:012x}{random.getrandbits(80):020x}"


async def receive_request(
    surface: Surface, scope: Scope, receive: Receive, request_id: str, max_body_bytes: int
) -> Received:
    """The whole request. Raises BodyTooLarge, BadRequest for an encoding that cannot be read, BodyEnded."""
    started = time.perf_counter()
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    named = dict(reversed(headers))  # the first of duplicates counts
    body = await read_body(named, receive, max_body_bytes)
    encoding = named.get("content-encoding", "").strip().lower()
    wire = None
    if encoding not in ("", "identity"):
        small = len(body) <= _DECODED_HERE
        decode = partial(_decode, body, encoding, max_body_bytes)
        wire, body = body, decode() if small else await on_thread(decode)
    return Received(surface, scope["path"], headers, named, body, request_id, started, wire)


async def read_body(named: dict[str, str], receive: Receive, max_body_bytes: int) -> bytes:
    """The body as it came. Raises BodyTooLarge (at once, where the length is announced), BodyEnded."""
    announced = named.get("content-length", "")
    if announced.isdigit() and int(announced) > max_body_bytes:
        raise _too_large(max_body_bytes)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        whole: bytes = message.get("body", b"")
        if len(whole) > max_body_bytes:
            raise _too_large(max_body_bytes)
        return whole
    parts: list[bytes] = []
    size = 0
    while message["type"] == "http.request":
        part = message.get("body", b"")
        size += len(part)
        if size > max_body_bytes:
            raise _too_large(max_body_bytes)
        parts.append(part)
        if not message.get("more_body"):
            return _joined(parts) if size < LARGE else await on_thread(_joined, parts)
        message = await receive()
    raise BodyEnded


def _joined(parts: list[bytes]) -> bytes:
    """The whole; the parts are let go of."""
    body = join_bytes(parts)
    let_go(parts)
    return body


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {limit} bytes")


def _decode(body: bytes, encoding: str, limit: int) -> bytes:
    """A compressed body; a small one that grows beyond the limit is refused before it is unpacked."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise BadRequest(f"content-encoding: expected gzip, deflate or identity, got {encoding!r}")
    members: list[bytes] = []
    room = limit
    while body or not members:  # gzip may come in several members, one after another
        decoder = zlib.decompressobj(_EITHER_ZLIB_OR_GZIP)
        try:
            members.append(decoder.decompress(body, room + 1))
        except zlib.error:
            raise BadRequest(f"the body is no valid {encoding}") from None
        room -= len(members[-1])
        if room < 0 or decoder.unconsumed_tail:
            raise _too_large(limit)
        if not decoder.eof:
            raise BadRequest(f"the body is no complete {encoding}")
        body = decoder.unused_data
    return b"".join(members)
