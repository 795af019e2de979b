"""One OpenTelemetry span a request, with the GenAI semantic conventions. No prompt text, no answer, no key.

Off unless OTEL_EXPORTER_OTLP_ENDPOINT is set; only then its exporter is imported. Attribute names:
https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/ (1.40); those of Terse begin with
`terse.`. Everything else that OpenTelemetry's SDK reads from its own variables (sampling, headers, batches,
resource attributes) it reads here, too.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from gateway.api.receiving import ClientLeft
from gateway.errors import GatewayError
from gateway.exchange import Received
from gateway.shapes import ParsedRequest, Receipt, Surface

_log = logging.getLogger(__name__)

_OPERATIONS: Mapping[Surface, str] = {
    "chat": "chat",
    "completions": "text_completion",
    "responses": "chat",
    "messages": "chat",
    "embeddings": "embeddings",
}
_CONTEXT_HEADERS = frozenset({"traceparent", "tracestate"})
# What is left of the spans when the process ends: a collector that is gone may not hold up a restart.
_CLOSE_SECONDS = 5.0


class Tracing:
    """Makes the spans and sends them, in batches, from a thread of its own."""

    def __init__(self, endpoint: str, service: str) -> None:
        """`endpoint` is OTLP/HTTP's base URL. Raises ImportError without the `otel` extra."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._propagator: Any = TraceContextTextMapPropagator()
        # Not OpenTelemetry's global one: two gateways in a process are two services.
        self._provider: Any = TracerProvider(
            resource=Resource.create({"service.name": service}), shutdown_on_exit=False
        )
        self._exporter: Any = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer: Any = self._provider.get_tracer("terse")

    @contextmanager
    def request(self, received: Received) -> Iterator[Received]:
        """The span of one request, for as long as the block runs.

        Yields the request with the span in it, and with the span's `traceparent` for the upstream in place
        of the client's. What the block raises is noted and raised on.
        """
        from opentelemetry.trace import SpanKind, set_span_in_context

        operation = _OPERATIONS[received.surface]
        span: Any = self._tracer.start_span(
            operation,
            context=self._propagator.extract(received.named),
            kind=SpanKind.SERVER,
            attributes={
                "gen_ai.operation.name": operation,
                "http.request.method": "POST",
                "http.route": received.path,
                "terse.request_id": received.request_id,
                "terse.surface": received.surface,
            },
            start_time=time.time_ns() - int((time.perf_counter() - received.started) * 1e9),
        )
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, context=set_span_in_context(span))
        others = [header for header in received.headers if header[0] not in _CONTEXT_HEADERS]
        traced = RequestSpan(span)
        try:
            yield replace(received, headers=[*others, *carrier.items()], span=traced)
        except BaseException as error:
            traced.fail(error)
            raise
        finally:
            span.end()

    async def close(self) -> None:
        """Sends what waits, for some seconds at most. Never raises."""
        # A daemon: the process does not wait for a collector that does not answer.
        sending = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        sending.start()
        await asyncio.to_thread(sending.join, _CLOSE_SECONDS)
        if sending.is_alive():
            self._exporter.shutdown()  # wakes it where it waits between two tries
            await asyncio.to_thread(sending.join, _CLOSE_SECONDS)


class RequestSpan:
    """The span of one request, while it runs."""

    def __init__(self, span: Any) -> None:
        self._span = span

    def note(self, request: ParsedRequest, receipt: Receipt) -> None:
        """Writes down what was asked, what compression did, and what was billed."""
        if not self._span.is_recording():
            return
        usage = receipt.usage
        self._span.update_name(f"{_OPERATIONS[receipt.surface]} {receipt.model}")
        attributes: dict[str, Any] = {
            "gen_ai.provider.name": receipt.upstream,
            "gen_ai.request.model": receipt.model,
            "gen_ai.request.stream": receipt.stream,
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_input_tokens,
            "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
            "terse.team": receipt.team,
            "terse.route": receipt.route,
            "terse.policy": receipt.policy,
            "terse.compression": receipt.compression,
            "terse.cache": receipt.cache,
            "terse.tokens_before": receipt.tokens_before,
            "terse.tokens_after": receipt.tokens_after,
            "terse.overhead_ms": receipt.overhead_ms,
            "terse.upstream_ms": receipt.upstream_ms,
            "terse.cost_usd": receipt.cost_usd,
            "terse.saved_usd": receipt.saved_usd,
            "terse.usage_estimated": usage.estimated,
            "terse.outcome": receipt.outcome,
        }
        if request.max_output_tokens is not None:
            attributes["gen_ai.request.max_tokens"] = request.max_output_tokens
        if receipt.skip_reason:
            attributes["terse.skip_reason"] = receipt.skip_reason
        if receipt.first_byte_ms:
            attributes["gen_ai.response.time_to_first_chunk"] = receipt.first_byte_ms / 1000
        self._span.set_attributes(attributes)
        if receipt.outcome == "upstream-error" and receipt.status_code < 400:
            self._end_with(receipt.status_code, "upstream_broke")  # in the middle of a stream
        else:
            self._end_with(receipt.status_code, str(receipt.status_code))

    def fail(self, error: BaseException) -> None:
        """The request ends with this error. Its message stays out: it may name what the client wrote."""
        if isinstance(error, GatewayError):
            self._end_with(error.status, error.code or error.type)
        elif isinstance(error, ClientLeft | asyncio.CancelledError):
            self._span.set_attribute("error.type", "client_left")
        else:
            self._end_with(500, type(error).__name__)

    def _end_with(self, status: int, error: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attribute("http.response.status_code", status)
        broke = error == "upstream_broke"
        if status >= 400 or broke:
            self._span.set_attribute("error.type", error)
        if status >= 500 or broke:
            self._span.set_status(Status(StatusCode.ERROR))


def open_tracing(endpoint: str, service: str) -> Tracing | None:
    """None without an endpoint.

    None, too, without the package, which is logged: that variable is often set for a whole cluster.
    """
    if not endpoint:
        return None
    try:
        return Tracing(endpoint, service)
    except ImportError as error:
        _log.error(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but traces need: pip install 'terse-gateway[otel]' (%s)",
            error,
        )
        return None
