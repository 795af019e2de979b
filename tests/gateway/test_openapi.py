"""The OpenAPI document is valid and complete, and the gateway keeps to it, whatever is thrown at it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.routing import Route

from compressor.engine.fake import FakeEngine
from compressor.engine.protocol import EngineHealth
from gateway.api.openapi import document
from gateway.app import create_app
from gateway.config import Config, Secret
from gateway.settings import Settings
from tests.support.fake_upstream import FakeUpstream
from tests.support.live_gateway import LiveGateway, live_gateway

ADMIN = "sk-admin-0123456789abcdef"
SURFACES = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/messages")
# Few of each, of forty operations; from a fixed seed, so that every run is the same.
EXAMPLES = settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
SCHEMA: Any = schemathesis.openapi.from_dict(document())


@pytest.fixture(scope="module")
def served(shared_upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    """A gateway with an admin key; its upstream is the built-in one, which answers whatever comes."""
    folder = str(tmp_path_factory.mktemp("data"))
    kept = Settings(data_dir=folder, master_key=Secret(ADMIN))
    with live_gateway(shared_upstream, "policies: {default: {trigger_tokens: 64}}", settings=kept) as running:
        yield running


def test_the_document_is_valid() -> None:
    OpenAPIV31SpecValidator(document()).validate()


def test_it_is_served_without_a_key(served: LiveGateway) -> None:
    reply = httpx.get(f"{served.url}/openapi.json", timeout=20)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.json() == document()


def test_every_path_is_in_it() -> None:
    app = create_app(Config(), Settings())
    routes = {
        (route.path.replace(":path}", "}"), method.lower())
        for route in app.routes
        if isinstance(route, Route) and not route.path.startswith("/dashboard")
        for method in (route.methods or {"POST"})
        if method != "HEAD"
    }
    described = {(path, method) for path, item in document()["paths"].items() for method in item}
    assert routes == described


@SCHEMA.parametrize()
@EXAMPLES
def test_no_request_is_a_bug_or_a_surprise(case: Any, served: LiveGateway) -> None:
    reply = case.call(base_url=served.url, headers={"authorization": f"Bearer {ADMIN}"}, timeout=20)
    case.validate_response(
        reply,
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ],
    )
    if (
        case.path in SURFACES and reply.status_code != 405
    ):  # `default` is the upstream's own error, and the built-in one has none
        assert str(reply.status_code) in document()["paths"][case.path]["post"]["responses"]


@pytest.mark.parametrize("records", [None, "a", 1, ["a"], [{"name": "a", "data": "[]"}], [{"data": "{}"}]])
def test_an_import_that_is_none(served: LiveGateway, records: Any) -> None:
    body = {"registry": 1, "keys": records}
    headers = {"authorization": f"Bearer {ADMIN}"}
    reply = httpx.post(f"{served.url}/registry/import", json=body, headers=headers, timeout=20)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "keys"


class BrokenEngine(FakeEngine):
    """Has a bug that no surface meets."""

    def health(self) -> EngineHealth:
        raise RuntimeError("canary")


def test_a_bug_outside_the_surfaces_is_an_error_like_theirs(upstream: FakeUpstream) -> None:
    with live_gateway(upstream, engine=BrokenEngine()) as running, running.client() as client:
        reply = client.get("/health/readiness", headers={"x-request-id": "r1"})
    assert reply.status_code == 500
    assert reply.headers["x-request-id"] == "r1"
    assert reply.json()["error"]["code"] == "internal_error"
    assert "canary" not in reply.text


@pytest.mark.parametrize(
    ("path", "method"),
    [
        (path, method)
        for path, item in document()["paths"].items()
        for method in item
        if "security" not in item[method]
    ],
)
def test_without_a_key_nothing_is_told(served: LiveGateway, path: str, method: str) -> None:
    with httpx.Client(base_url=served.url, timeout=20) as client:
        reply = client.request(
            method, path.replace("{name}", "a").replace("{key}", "a"), json={} if method == "post" else None
        )
    assert reply.status_code == 401
    assert "error" in reply.json()
