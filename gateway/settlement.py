"""Closes the account of one request exactly once, however it ends, and never fails it."""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from compressor.errors import CompressorError
from compressor.text.tokens import TokenCounter, counter_for
from gateway.accounting.receipts import NOTHING_USED, Exchange, receipt_headers, without, write_receipt
from gateway.accounting.usage import UsageWatch
from gateway.errors import GatewayError
from gateway.exchange import Admitted, Answer
from gateway.shapes import Compressed, Receipt, Usage
from gateway.upstream.directory import Sent

if TYPE_CHECKING:
    from gateway.services import Live, Services

_log = logging.getLogger(__name__)
_EITHER_ZLIB_OR_GZIP = 47
_MOST_INFLATED = 256 * 1024 * 1024  # bytes of a compressed reply that are looked at
_PIECE_BYTES = 1024 * 1024
_CLIENT_CLOSED = 499  # nginx's status for a client that left; no client ever sees it


class Settlement:
    """What one admitted request used, and what becomes of its hold."""

    def __init__(self, services: Services, live: Live, admitted: Admitted) -> None:
        self.outcome = "ok"
        self._services = services
        self._live = live
        self._admitted = admitted
        self._status = 0
        self._sent: Sent | None = None
        self._watch: UsageWatch | None = None
        self._receipt: Receipt | None = None
        self._forwarded = time.perf_counter()
        self._first_byte = 0.0
        self._first_token = 0.0  # of a stream: many servers send their headers long before
        self._ending = b"\n\n"
        self._closed = False
        self._decoder: Any = None  # of zlib, when the upstream's reply is compressed
        self._room = _MOST_INFLATED
        self._sample = services.quality.sample(admitted)  # this request's answers are compared

    async def receive(self, sent: Sent) -> Answer:
        """The answer for the client: whole where the upstream's is, else a stream that `feed` watches."""
        self._first_byte = time.perf_counter()
        self._sent, reply = sent, sent.reply
        self._status = reply.status
        admitted = self._admitted
        compressed, policy = admitted.compressed, admitted.match.policy.name
        model = admitted.model
        self._watch = UsageWatch(
            admitted.request.surface,
            stream=reply.event_stream,
            input_tokens=compressed.tokens_after,
            counter=_counter_of(model.tokenizer or model.model or admitted.request.model),
        )
        if reply.header("content-encoding") in ("gzip", "deflate"):
            self._decoder = zlib.decompressobj(_EITHER_ZLIB_OR_GZIP)
        if self._sample is not None:
            self._sample.stream = reply.event_stream
        if reply.event_stream:
            own = receipt_headers(compressed, policy=policy, price=self._live.price_of(sent.model))
            return Answer(reply.status, self._headers(own), self, chunks=reply.body)
        body = await reply.body.read()
        self._look_at(body)
        own = receipt_headers(compressed, policy=policy, receipt=self._write())
        return Answer(reply.status, self._headers(own), self, body=body)

    def feed(self, chunk: bytes) -> None:
        """Looks at one chunk of the stream in passing."""
        if not self._first_token:
            self._first_token = time.perf_counter()
        self._look_at(chunk)
        self._ending = (self._ending + chunk[-4:])[-4:]

    def _look_at(self, chunk: bytes) -> None:
        if self._watch is None:
            return
        for piece in (chunk,) if self._decoder is None else self._inflated(chunk):
            self._watch.feed(piece)
            if self._sample is not None:
                self._sample.feed(piece)

    def _inflated(self, chunk: bytes) -> Iterator[bytes]:
        """What a compressed reply says, piece by piece: a few bytes may stand for gigabytes."""
        try:
            while chunk and self._decoder is not None:
                piece = self._decoder.decompress(chunk, _PIECE_BYTES)
                self._room -= len(piece)
                if self._room < 0:
                    raise zlib.error("too large")
                yield piece
                chunk = self._decoder.unconsumed_tail
        except (
            zlib.error
        ):  # not what its header says, or a bomb: the client gets it as it is, usage is estimated
            self._decoder = None

    @property
    def separator(self) -> bytes:
        """What must stand before an event of ours: nothing where the stream is between two events."""
        return b"" if self._ending.replace(b"\r", b"").endswith(b"\n\n") else b"\n\n"

    async def fail(self, error: BaseException) -> None:
        """The request ends without an answer of the upstream."""
        if isinstance(error, GatewayError):
            self._status, self.outcome = error.status, "upstream-error"
            admitted = self._admitted
            own = receipt_headers(admitted.compressed, policy=admitted.match.policy.name)
            error.headers = {**own, **admitted.hold.rate_headers, **error.headers}
        elif isinstance(error, asyncio.CancelledError):
            self._status, self.outcome = _CLIENT_CLOSED, "client-left"
        else:
            self._status, self.outcome = 500, "internal-error"
        await self.close()

    async def close(self) -> None:
        """Settles, books, counts and logs. Safe to repeat; trouble is logged and counted, never raised."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._sent is not None:
                await self._sent.reply.body.close()
            receipt = self._write()
            await self._settle(receipt)
            own = without(receipt.usage, self._additional)
            await self._services.shortener.observe(self._observed, own)
            if self._first_token and self._additional == NOTHING_USED:
                seconds = self._first_token - self._forwarded
                self._services.shortener.note_first_token(self._admitted.request.model, own, seconds)
            self._services.books.add(receipt, self._attempts)
            self._services.quality.observe(self._admitted, receipt, self._sample, self._live)
            if self._admitted.received.span is not None:
                self._admitted.received.span.note(self._admitted.request, receipt)
        except Exception:  # noqa: BLE001 - the client has its answer; nothing here may take it away
            _log.exception("the account of request %s was not closed", self._admitted.received.request_id)
            self._services.metrics.failed("accounting")
            await self._live.admission.release(self._admitted.hold)

    async def _settle(self, receipt: Receipt) -> None:
        hold = self._admitted.hold
        if self._status >= 400 and self.outcome != "client-left":
            # Fairness is between teams; one alone gets whatever its upstream takes.
            throttled = self._status == 429 and not self._live.callers.is_anonymous
            await self._live.admission.release(hold, throttled=throttled)
        else:
            await self._live.admission.settle(hold, receipt.usage, receipt.cost_usd)

    def _write(self) -> Receipt:
        if self._receipt is None:
            self._receipt = self._written()
        return self._receipt

    def _written(self) -> Receipt:
        admitted, now = self._admitted, time.perf_counter()
        model = self._sent.model if self._sent else admitted.model
        started = admitted.received.started
        exchange = Exchange(
            request_id=admitted.received.request_id,
            request=admitted.request,
            caller=admitted.caller,
            match=admitted.match,
            compressed=admitted.compressed,
            upstream=model.upstream,
            price=self._live.price_of(model),
            status_code=self._status,
            upstream_ms=(now - self._forwarded) * 1000,
            first_byte_ms=(self._first_byte - started) * 1000 if self._first_byte else 0.0,
            outcome=self.outcome,
            arm=self._services.quality.arm_of(admitted),
            additional=self._additional,
        )
        return write_receipt(exchange, self._usage())

    def _usage(self) -> Usage:
        if self._watch is not None and self._status < 400:
            return self._watch.result()
        if self.outcome == "client-left":
            # The upstream reads the prompt, and bills it, before the first byte of its answer.
            return Usage(input_tokens=self._admitted.compressed.tokens_after, estimated=True)
        return Usage()

    def _headers(self, own: dict[str, str]) -> Sequence[tuple[str, str]]:
        assert self._sent is not None
        admitted = self._admitted
        return [
            *self._sent.reply.headers,
            ("x-request-id", admitted.received.request_id),
            *own.items(),
            *admitted.hold.rate_headers.items(),
        ]

    @property
    def _additional(self) -> Usage:
        told = self._sent.additional if self._sent else None
        return told() if told is not None else NOTHING_USED

    @property
    def _observed(self) -> Compressed:
        """What was sent; a fallback's bill says nothing of the tokenizer of the model that was asked for."""
        compressed = self._admitted.compressed
        if self._sent is None or self._sent.model.name == self._admitted.model.name:
            return compressed
        return replace(compressed, billing_name="")

    @property
    def _attempts(self) -> int:
        return self._sent.attempts if self._sent else 0


@lru_cache(maxsize=1024)  # finding out which tokenizer a name means looks at the disk
def _counter_of(name: str) -> TokenCounter | None:
    """Counts what a stream said where its upstream gives no usage; shortening has loaded it already."""
    try:
        return counter_for(name)
    except CompressorError:  # a tokenizer that is not there: usage is estimated by the letter
        return None
