"""`make pin-images` against a registry on a real socket: token, digest, files."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.deployment.dockerfiles import FOLDER
from tests.support.live_server import live_server

TOKEN = "of-this-registry"


def digest(repository: str, tag: str) -> str:
    return "sha256:" + sha256(f"{repository}:{tag}".encode()).hexdigest()


async def manifest(request: Request) -> Response:
    """Asks for a token first, as Docker Hub does; knows every image but one."""
    repository, tag = request.path_params["repository"], request.path_params["tag"]
    if request.headers.get("authorization") != f"Bearer {TOKEN}":
        realm = f"http://{request.headers['host']}/token"
        challenge = f'Bearer realm="{realm}",service="here",scope="repository:{repository}:pull"'
        return Response(status_code=401, headers={"www-authenticate": challenge})
    if "index.v1+json" not in request.headers["accept"] or tag == "unknown":
        return Response(status_code=404)
    return Response(headers={"docker-content-digest": digest(repository, tag)})


async def token(request: Request) -> Response:
    assert request.query_params["service"] == "here"
    return JSONResponse({"token": TOKEN})


async def alive(_request: Request) -> Response:
    return Response()


@pytest.fixture
def registry() -> Iterator[str]:
    routes = [
        Route("/v2/{repository:path}/manifests/{tag}", manifest, methods=["HEAD"]),
        Route("/token", token),
        Route("/health/liveness", alive),
    ]
    with live_server(Starlette(routes=routes)) as url:
        yield url.removeprefix("http://")


@pytest.fixture
def pinning() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pin_images", FOLDER / "pin_images.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pin_images"] = module
    spec.loader.exec_module(module)
    return module


def test_tags_get_their_digest_twice_over(pinning: ModuleType, registry: str, tmp_path: Path) -> None:
    docker, compose = tmp_path / "Dockerfile.cpu", tmp_path / "compose.yaml"
    docker.write_text(f"ARG PYTHON={registry}/library/python:3.11\nFROM ${{PYTHON}}\n")
    compose.write_text(
        f"services:\n  a:\n    image: {registry}/b/c:7\n  d:\n    image: terse-gateway:0.1.0\n"
    )
    for _ in range(2):  # again: the old digest is replaced, not added to
        with httpx.Client() as client:
            pinning.pin(client, [docker, compose], "http")
        pinned = f"{registry}/library/python:3.11@{digest('library/python', '3.11')}"
        assert docker.read_text() == f"ARG PYTHON={pinned}\nFROM ${{PYTHON}}\n"
        assert f"image: {registry}/b/c:7@{digest('b/c', '7')}\n" in compose.read_text()
        assert "image: terse-gateway:0.1.0\n" in compose.read_text()


def test_nothing_is_written_when_one_is_unknown(pinning: ModuleType, registry: str, tmp_path: Path) -> None:
    docker = tmp_path / "Dockerfile.cpu"
    text = f"ARG ONE={registry}/a/b:1\nARG TWO={registry}/a/b:unknown\n"
    docker.write_text(text)
    with httpx.Client() as client, pytest.raises(httpx.HTTPStatusError):
        pinning.pin(client, [docker], "http")
    assert docker.read_text() == text


def test_every_image_of_ours_is_found(pinning: ModuleType) -> None:
    files = [*FOLDER.glob("Dockerfile.*"), *FOLDER.glob("compose*.yaml")]
    names = {m["image"] for path in files for m in pinning._NAMED.finditer(path.read_text(encoding="utf-8"))}
    assert {name.partition(":")[0] for name in names} == {
        "python", "pytorch/pytorch", "redis", "prom/prometheus", "grafana/grafana", "terse-gateway",
        "terse-compressor", "otel/opentelemetry-collector-contrib", "jaegertracing/jaeger",
    }  # fmt: skip
    assert pinning.parse_image("python:3.11") == pinning.Image(pinning.HUB, "library/python", "3.11")
    assert pinning.parse_image("ghcr.io/a/b:1").registry == "ghcr.io"
