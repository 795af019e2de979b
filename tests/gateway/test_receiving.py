"""Bodies: how large, in how many parts, in which encoding."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable

import pytest

from gateway.api.receiving import ClientLeft, Message, receive_request, request_id_of
from gateway.errors import BadRequest, BodyTooLarge
from gateway.exchange import Received


async def receive(parts: Iterable[bytes | None], limit: int = 100, **headers: str) -> Received:
    messages: list[Message] = [
        {"type": "http.disconnect"}
        if part is None
        else {"type": "http.request", "body": part, "more_body": True}
        for part in parts
    ]
    if messages and messages[-1]["type"] == "http.request":
        messages[-1]["more_body"] = False

    async def next_message() -> Message:
        return messages.pop(0)

    encoded = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"path": "/v1/chat/completions", "headers": encoded}
    return await receive_request("chat", scope, next_message, "id", limit)


async def test_parts_are_joined() -> None:
    assert (await receive([b"ab", b"", b"cd"])).body == b"abcd"
    assert (await receive([b""])).body == b""


async def test_the_limit_holds_however_the_body_comes() -> None:
    assert len((await receive([b"x" * 100])).body) == 100
    for parts in ([b"x" * 101], [b"x" * 60, b"x" * 60]):
        with pytest.raises(BodyTooLarge):
            await receive(parts)
    with pytest.raises(BodyTooLarge):
        await receive([], content_length="101")  # before anything is read


async def test_a_small_bomb_is_not_unpacked() -> None:
    with pytest.raises(BodyTooLarge):
        await receive([gzip.compress(b"0" * 10_000_000)], limit=20_000, content_encoding="gzip")


async def test_encodings() -> None:
    for packed, name in ((gzip.compress(b"{}"), "gzip"), (zlib.compress(b"{}"), "Deflate")):
        received = await receive([packed], content_encoding=name)
        assert (received.body, received.wire) == (b"{}", packed)
    assert (await receive([b"{}"], content_encoding="identity")).wire is None


@pytest.mark.parametrize(
    ("body", "encoding", "said"),
    [
        (b"{}", "br", "got 'br'"),
        (b"{}", "gzip", "no valid gzip"),
        (gzip.compress(b"{}", mtime=0)[:-9], "gzip", "no complete"),
    ],
)
async def test_encodings_that_cannot_be_read(body: bytes, encoding: str, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        await receive([body], content_encoding=encoding)


async def test_a_client_that_leaves() -> None:
    for parts in ([None], [b"x", None]):
        with pytest.raises(ClientLeft):
            await receive(parts)


def test_request_ids() -> None:
    assert request_id_of([(b"x-request-id", b"mine-1.2_3")]) == "mine-1.2_3"
    for bad in (b"", b"a b", b"x" * 129, b"a\r\nb", "é".encode()):
        assert len(request_id_of([(b"x-request-id", bad)])) == 32
    ours = [request_id_of([]) for _ in range(1000)]
    assert len(set(ours)) == 1000
    assert [one[:12] for one in ours] == sorted(one[:12] for one in ours)  # by the millisecond


async def test_the_first_of_duplicate_headers_counts() -> None:
    scope = {"path": "/", "headers": [(b"x-a", b"1"), (b"x-a", b"2")]}

    async def whole() -> Message:
        return {"type": "http.request", "body": b"{}"}

    received = await receive_request("chat", scope, whole, "id", 10)
    assert received.named["x-a"] == "1"
    assert list(received.headers) == [("x-a", "1"), ("x-a", "2")]
