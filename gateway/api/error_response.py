"""Any failure as an HTTP response in the shape of the surface that was called."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.receiving import Send, request_id_of
from gateway.chat.event_stream import error_body
from gateway.chat.lenient_json import write_json
from gateway.errors import GatewayError, InternalError
from gateway.shapes import Surface

if TYPE_CHECKING:
    from gateway.services import Services

_log = logging.getLogger(__name__)
BUG = "something in Terse went wrong; the log has it under this request id"
_CLIENT_CLOSED = 499  # nginx's status


async def send_error(
    send: Send,
    surface: Surface | None,
    error: GatewayError,
    request_id: str,
    more_headers: Iterable[tuple[str, str]] = (),
) -> None:
    """The whole response."""
    body = write_json(error_body(surface, error, request_id))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id.encode("latin-1")),
    ]
    for name, value in (*error.headers.items(), *more_headers):
        headers.append((name.encode("latin-1"), value.encode("latin-1")))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def error_response(request: Request, error: Exception) -> Response:
    """For Starlette's handlers: our errors, and its own (unknown path, wrong method)."""
    if isinstance(error, HTTPException):
        shown = GatewayError(_HTTP_TEXTS.get(error.status_code, str(error.detail)))
        shown.status, shown.type = error.status_code, "invalid_request_error"
        shown.code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
        shown.headers = dict(error.headers or {})
    elif isinstance(error, GatewayError):
        shown = error
    else:
        raise error
    surface: Surface | None = "messages" if request.url.path.startswith("/v1/messages") else None
    request_id = request_id_of(request.scope["headers"])
    body = write_json(error_body(surface, shown, request_id))
    headers = {"x-request-id": request_id, **shown.headers}
    return Response(body, shown.status, headers=headers, media_type="application/json")


async def bug_response(request: Request, error: Exception) -> Response:
    """For what nobody expected, outside the surfaces: the same 500 as theirs. The server logs the rest."""
    services: Services = request.state.services
    services.metrics.failed("gateway")
    request_id = request_id_of(request.scope["headers"])
    _log.error("a bug: %s", type(error).__name__, extra={"fields": {"request_id": request_id}})
    return await error_response(request, InternalError(BUG))


async def nobody_left(_request: Request, _error: Exception) -> Response:
    """For a client that hung up while it sent its request: there is nobody to tell."""
    return Response(status_code=_CLIENT_CLOSED)


_HTTP_TEXTS = {404: "there is nothing at this path", 405: "this path does not take this method"}
