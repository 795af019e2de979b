"""Spans as a collector gets them: over a real socket, in OTLP's protobuf."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from gateway.settings import Settings
from tests.support.chat_bodies import chat, rag
from tests.support.fake_upstream import FakeUpstream, Script
from tests.support.live_gateway import LiveGateway, live_gateway
from tests.support.live_server import free_port

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRET = "canary-in-the-prompt"
KEY = "sk-canary-key-0123456789"


class Collector:
    """`url` for OTEL_EXPORTER_OTLP_ENDPOINT; `raw` is every body that came."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.services: set[str] = set()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:
                assert handler.path == "/v1/traces"
                self.raw.append(handler.rfile.read(int(handler.headers["content-length"])))
                handler.send_response(200)
                handler.send_header("content-length", "0")
                handler.end_headers()

            def log_message(handler, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def spans(self) -> list[Span]:
        """All of them, in the order in which they ended."""
        found = []
        for body in self.raw:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.services |= {
                    a.value.string_value for a in resource.resource.attributes if a.key == "service.name"
                }
                found += [span for scope in resource.scope_spans for span in scope.spans]
        return sorted(found, key=lambda span: span.end_time_unix_nano)


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@contextmanager
def traced(upstream: FakeUpstream, endpoint: str, folder: Path) -> Iterator[LiveGateway]:
    """A gateway that sends what it has when the block ends."""
    with live_gateway(
        upstream, settings=Settings(data_dir=str(folder), otlp_endpoint=endpoint, service_name="terse-test")
    ) as gateway:
        yield gateway


def attributes(span: Span) -> dict[str, Any]:
    return {a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in span.attributes}


def test_one_span_a_request(upstream: FakeUpstream, collector: Collector, tmp_path: Path) -> None:
    with traced(upstream, collector.url, tmp_path) as gateway, gateway.client() as client:
        body = rag(f"Where is the {SECRET}?", max_tokens=77)
        headers = {"traceparent": PARENT, "tracestate": "vendor=1", "authorization": f"Bearer {KEY}"}
        reply = client.post("/v1/chat/completions", json=body, headers=headers)
        assert reply.status_code == 200
        assert reply.headers["x-terse-compression"] == "applied"
        sent = upstream.seen[-1].headers
    (span,) = collector.spans
    assert collector.services == {"terse-test"}
    assert span.trace_id.hex() == PARENT.split("-")[1]
    assert span.parent_span_id.hex() == PARENT.split("-")[2]
    assert span.name == "chat gpt-4o-mini"
    assert span.kind == Span.SPAN_KIND_SERVER
    assert sent["traceparent"] == f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01"
    assert sent["tracestate"] == "vendor=1"
    said = attributes(span)
    usage = reply.json()["usage"]
    assert said["gen_ai.operation.name"] == "chat"
    assert said["gen_ai.provider.name"] == "up"
    assert said["gen_ai.request.model"] == "gpt-4o-mini"
    assert said["gen_ai.request.max_tokens"] == 77
    assert said["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
    assert said["gen_ai.usage.output_tokens"] == usage["completion_tokens"]
    assert said["terse.tokens_before"] == int(reply.headers["x-terse-tokens-before"])
    assert said["terse.tokens_after"] == int(reply.headers["x-terse-tokens-after"])
    assert said["terse.tokens_after"] < said["terse.tokens_before"]
    assert said["terse.compression"] == "applied"
    assert said["terse.policy"] == "default"
    assert said["terse.cache"] == "miss"
    assert said["http.response.status_code"] == 200
    assert "error.type" not in said
    assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 20e9
    for word in (SECRET, KEY, "sk-upstream", "Rotterdam", upstream.answer_text):
        assert word.encode() not in b"".join(collector.raw)


def test_streams_surfaces_and_skips(upstream: FakeUpstream, collector: Collector, tmp_path: Path) -> None:
    with traced(upstream, collector.url, tmp_path) as gateway, gateway.client() as client:
        client.post("/v1/chat/completions", json=chat(stream=True, stream_options={"include_usage": True}))
        client.post("/v1/messages", json=chat(max_tokens=5))
        client.post("/v1/embeddings", json={"model": "gpt-4o-mini", "input": "a"})
        client.post("/v1/completions", json={"model": "gpt-4o-mini", "prompt": "a"})
    spans = collector.spans
    operations = [attributes(span)["gen_ai.operation.name"] for span in spans]
    assert operations == ["chat", "chat", "embeddings", "text_completion"]
    assert len({span.trace_id for span in spans}) == 4
    streamed = attributes(spans[0])
    assert streamed["gen_ai.request.stream"] is True
    assert streamed["gen_ai.usage.output_tokens"] == 10
    assert streamed["terse.skip_reason"]
    assert streamed["gen_ai.response.time_to_first_chunk"] > 0


def test_failures(upstream: FakeUpstream, collector: Collector, tmp_path: Path) -> None:
    event = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    stream = {"content-type": "text/event-stream"}
    with traced(upstream, collector.url, tmp_path) as gateway, gateway.client() as client:
        assert client.post("/v1/chat/completions", content=b"{").status_code == 400
        assert client.post("/v1/chat/completions", json=chat(model=SECRET)).status_code == 404
        upstream.then(Script(status=418, body=b"{}"))
        assert client.post("/v1/chat/completions", json=chat()).status_code == 418
        upstream.then(Script(headers=stream, chunks=[event, event], break_after=1))
        assert client.post("/v1/chat/completions", json=chat(stream=True)).status_code == 200
    said = [attributes(span) for span in collector.spans]
    assert [one.get("error.type") for one in said] == [
        "invalid_request",
        "model_not_found",
        "418",
        "upstream_broke",
    ]
    assert [one["http.response.status_code"] for one in said] == [400, 404, 418, 200]
    assert [span.status.code for span in collector.spans] == [0, 0, 0, 2]
    assert SECRET.encode() not in b"".join(collector.raw)


def test_a_client_that_leaves(upstream: FakeUpstream, collector: Collector, tmp_path: Path) -> None:
    with traced(upstream, collector.url, tmp_path) as gateway, gateway.client() as client:
        upstream.then(Script(hang=True))
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/chat/completions", json=chat(), timeout=0.5)
        assert upstream.client_left()
    (span,) = collector.spans
    assert attributes(span)["error.type"] == "client_left"
    assert attributes(span)["terse.outcome"] == "client-left"


@pytest.mark.parametrize(
    "header", ["", "rubbish", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "ff-" + PARENT[3:], "ü" * 70]
)
def test_a_bad_parent_starts_a_new_trace(
    upstream: FakeUpstream, collector: Collector, tmp_path: Path, header: str
) -> None:
    with traced(upstream, collector.url, tmp_path) as gateway, gateway.client() as client:
        headers = {"traceparent": header.encode()}
        assert client.post("/v1/chat/completions", json=chat(), headers=headers).status_code == 200
    (span,) = collector.spans
    assert span.parent_span_id == b""
    assert upstream.seen[-1].headers["traceparent"].startswith(f"00-{span.trace_id.hex()}-")


def test_a_parent_that_is_not_sampled(upstream: FakeUpstream, collector: Collector, tmp_path: Path) -> None:
    parent = PARENT[:-2] + "00"
    with traced(upstream, collector.url, tmp_path) as gateway, gateway.client() as client:
        assert client.post("/v1/chat/completions", json=chat(), headers={"traceparent": parent}).is_success
    assert collector.spans == []
    assert upstream.seen[-1].headers["traceparent"].startswith(parent[:36])
    assert upstream.seen[-1].headers["traceparent"].endswith("-00")


def test_a_collector_that_is_gone_costs_no_request(upstream: FakeUpstream, tmp_path: Path) -> None:
    with (
        traced(upstream, f"http://127.0.0.1:{free_port()}", tmp_path) as gateway,
        gateway.client() as client,
    ):
        assert client.post("/v1/chat/completions", json=chat()).is_success
    assert "last-spans" not in [thread.name for thread in threading.enumerate()], "it goes on trying"


def test_off_the_parent_passes_and_nothing_is_imported(upstream: FakeUpstream, gateway: LiveGateway) -> None:
    with gateway.client() as client:
        assert client.post("/v1/chat/completions", json=chat(), headers={"traceparent": PARENT}).is_success
    assert upstream.seen[-1].headers["traceparent"] == PARENT
    code = (
        "import sys, gateway.app, gateway.tracing as t; assert t.open_tracing('', 'terse') is None;"
        "names = ('opentelemetry.exporter', 'opentelemetry.sdk.trace');"
        "print([name for name in sys.modules if name.startswith(names)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_package_it_is_said_and_the_gateway_runs() -> None:
    code = (
        "import sys; sys.modules['opentelemetry.sdk.trace'] = None\n"
        "from gateway.tracing import open_tracing\n"
        "print(open_tracing('http://127.0.0.1:1', 'terse'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"
    assert "pip install 'terse-gateway[otel]'" in done.stderr
