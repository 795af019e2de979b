"""The one way from an ASGI request through the pipeline to the ASGI response, for every surface."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import nullcontext, suppress

from gateway.api.error_response import BUG, send_error
from gateway.api.receiving import (
    BodyEnded,
    ClientLeft,
    Message,
    Receive,
    Scope,
    Send,
    receive_request,
    request_id_of,
)
from gateway.chat.event_stream import error_event
from gateway.chat.large_json import LARGE_BYTES
from gateway.errors import BadRequest, GatewayError, InternalError
from gateway.exchange import Answer, Received
from gateway.pipeline import answer
from gateway.releasing import large_request
from gateway.services import Services
from gateway.shapes import Surface

_log = logging.getLogger(__name__)
# Proxies that buffer an event stream would hold its first words back; nginx obeys the first of these.
# Most answers of a cache or a small model are here by then; watching costs as much as a tenth of the rest.
_WATCH_AFTER_SECONDS = 0.02
_STREAM_HEADERS = [(b"x-accel-buffering", b"no"), (b"cache-control", b"no-cache")]


class Answering:
    """The endpoint of one surface, as an ASGI app: handlers of Starlette would build objects nobody reads."""

    def __init__(self, surface: Surface) -> None:
        self._surface: Surface = surface

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        services: Services = scope["state"]["services"]
        request_id = request_id_of(scope["headers"])
        services.metrics.in_flight.inc()
        try:
            await self._answer(services, request_id, scope, receive, send)
        except GatewayError as error:
            await send_error(send, self._surface, error, request_id)
        except BodyEnded:
            # Mostly nobody hears it; one that wrote no HTTP does, and gets no 500 from the server.
            with suppress(Exception):
                await send_error(send, self._surface, BadRequest("the body is not complete"), request_id)
        except ClientLeft:
            return
        except Exception:  # noqa: BLE001 - the last line of defence: a bug is a 500 in the right shape
            _log.exception("a bug", extra={"fields": {"request_id": request_id}})
            services.metrics.failed("gateway")
            await send_error(send, self._surface, InternalError(BUG), request_id)
        finally:
            services.metrics.in_flight.dec()

    async def _answer(
        self, services: Services, request_id: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        received = await receive_request(
            self._surface, scope, receive, request_id, services.settings.max_body_bytes
        )
        size = len(received.body)
        with large_request(size) if size >= LARGE_BYTES else nullcontext():
            await self._answer_traced(services, received, receive, send)

    async def _answer_traced(
        self, services: Services, received: Received, receive: Receive, send: Send
    ) -> None:
        if services.tracing is None:
            await self._answer_received(services, received, receive, send)
            return
        with services.tracing.request(received) as traced:
            await self._answer_received(services, traced, receive, send)

    async def _answer_received(
        self, services: Services, received: Received, receive: Receive, send: Send
    ) -> None:
        client = _Client(receive)
        try:
            answered = await answer(received, services)
            try:
                if answered.chunks is None:
                    client.stop()
                    await _send_whole(send, answered)
                else:
                    await _send_stream(send, answered, self._surface, client)
            finally:
                client.stop()
                await answered.settlement.close()
        except asyncio.CancelledError:
            if not client.left:
                raise
            raise ClientLeft from None
        finally:
            client.stop()


class _Client:
    """Cancels the request's task as soon as the client hangs up.

    It must be stopped before the last byte is sent: a server calls a completed answer a disconnect, too.
    """

    def __init__(self, receive: Receive) -> None:
        self.left = False
        self._receive = receive
        self._task = asyncio.current_task()
        self._watch: asyncio.Future[Message] | None = None
        self._timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_SECONDS, self._start)

    def _start(self) -> None:
        self._watch = asyncio.ensure_future(self._receive())
        self._watch.add_done_callback(self._gone)

    def _gone(self, watch: asyncio.Future[Message]) -> None:
        if not watch.cancelled() and self._task is not None:
            self.left = True
            self._task.cancel()

    def stop(self) -> None:
        """From here on nobody is cancelled."""
        self._timer.cancel()
        if self._watch is not None:
            self._watch.remove_done_callback(self._gone)
            self._watch.cancel()
            self._watch = None


async def _send_whole(send: Send, answered: Answer) -> None:
    headers = _encoded(answered.headers)
    headers.append((b"content-length", str(len(answered.body)).encode()))
    await send({"type": "http.response.start", "status": answered.status, "headers": headers})
    await send({"type": "http.response.body", "body": answered.body})


async def _send_stream(send: Send, answered: Answer, surface: Surface, client: _Client) -> None:
    """Each chunk as it comes; what breaks in the middle becomes an event of the surface's own shape."""
    assert answered.chunks is not None
    headers = _encoded(answered.headers) + _STREAM_HEADERS
    await send({"type": "http.response.start", "status": answered.status, "headers": headers})
    settlement = answered.settlement
    try:
        async for chunk in answered.chunks:
            settlement.feed(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        last = b""
    except GatewayError as error:
        settlement.outcome = "upstream-error"
        last = settlement.separator + error_event(surface, error)
    except asyncio.CancelledError:
        settlement.outcome = "client-left"
        raise
    client.stop()
    await send({"type": "http.response.body", "body": last})


def _encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
