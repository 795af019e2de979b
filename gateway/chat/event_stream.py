"""Server-sent events: cut a byte stream into events, and write one. Never holds a chunk back."""

from __future__ import annotations

from typing import Any

from gateway.chat.lenient_json import write_json
from gateway.errors import GatewayError
from gateway.shapes import Surface

DONE = b"data: [DONE]\n\n"


class EventSplitter:
    """Feeds on chunks as they come and gives the events that they complete, without the blank line."""

    __slots__ = ("_rest", "_return")

    def __init__(self) -> None:
        self._rest = b""  # line ends are `\n` already
        self._return = b""  # a `\r` that ended the last chunk; a `\n` may follow it

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that end in this chunk, in order; line ends are `\\n` afterwards."""
        chunk = self._return + chunk
        self._return = chunk[-1:] if chunk.endswith(b"\r") else b""
        pending = self._rest + chunk[: len(chunk) - len(self._return)].replace(b"\r\n", b"\n")
        *events, self._rest = pending.split(b"\n\n")
        return [event for event in events if event]

    @property
    def clean(self) -> bool:
        """Whether the bytes so far end at the end of an event."""
        return not self._rest.strip(b"\r\n")


def data_of(event: bytes) -> bytes:
    """The `data` of one event, its lines joined; empty when it has none (a comment, a ping)."""
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)


def write_event(value: Any, name: str = "") -> bytes:
    """One event with JSON data."""
    head = b"event: " + name.encode() + b"\n" if name else b""
    return head + b"data: " + write_json(value) + b"\n\n"


def error_body(surface: Surface | None, error: GatewayError, request_id: str = "") -> dict[str, Any]:
    """The error as the clients of this surface expect it."""
    if surface == "messages":
        inner = {"type": _ANTHROPIC_TYPES.get(error.status, "api_error"), "message": error.message}
        return {"type": "error", "error": inner, "request_id": request_id or None}
    shown = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return {"error": shown}


def error_event(surface: Surface, error: GatewayError, sequence: int = 0) -> bytes:
    """The event that ends a broken stream, in the surface's shape."""
    if surface == "responses":
        shown = {"type": "error", "code": error.code, "message": error.message, "param": error.param}
        return write_event({**shown, "sequence_number": sequence}, "error")
    return write_event(error_body(surface, error), "error" if surface == "messages" else "")


# https://docs.anthropic.com/en/api/errors
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
