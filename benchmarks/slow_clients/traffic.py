"""What clients ask, and what the provider answers them."""

from __future__ import annotations

import json

PATH = "/v1/chat/completions"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"' + b"word " * 34 + b'"}}]}\n\n'
BURST = EVENT * (32768 // len(EVENT))
DONE = b"data: [DONE]\n\n"


def body_of(stream: bool) -> bytes:
    """A short chat request."""
    messages = [{"role": "user", "content": "Hello, who are you and what can you do for me today?"}]
    return json.dumps({"model": "gpt-4o-mini", "messages": messages, "stream": stream}).encode()


def chunk(data: bytes) -> bytes:
    """In HTTP's chunked encoding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def unchunked(reply: bytes) -> bytes:
    """The body of an HTTP reply, chunked or not, as far as it came."""
    head, _, rest = reply.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        return rest
    parts = []
    while b"\r\n" in rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        parts.append(rest[:length])
        rest = rest[length + 2 :]
    return b"".join(parts)
