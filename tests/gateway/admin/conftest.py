"""Fixtures: the admin API of a gateway of the test's own, without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from gateway.access.callers import Callers
from gateway.api import admin
from gateway.api.error_response import error_response
from gateway.config import Config, ModelConfig, Secret
from gateway.errors import GatewayError
from gateway.settings import Settings
from gateway.stores.base import Stores
from gateway.stores.open import FILE_NAME, open_local
from policies.shapes import Team

MASTER, READER = "sk-master-of-the-tests", "sk-reader-of-the-tests"
CONFIG = Config(
    models={"gpt-4o": ModelConfig("gpt-4o", "u"), "claude-*": ModelConfig("claude-*", "u")},
    teams={"red": Team("red", models=("gpt-*",))},
)
SETTINGS = Settings(master_key=Secret(MASTER), readonly_key=Secret(READER))


@dataclass
class Live:
    """What the API reads of a gateway's configuration."""

    config: Config
    callers: Callers


@dataclass
class Services:
    """What the API reads of a gateway."""

    settings: Settings
    stores: Stores
    live: Live


@dataclass
class Api:
    """Calls the API with one key."""

    client: httpx.AsyncClient
    stores: Stores

    async def __call__(self, path: str, body: Any = None, key: str = MASTER, **params: Any) -> Any:
        response = await self.raw(path, body, key, **params)
        assert response.status_code == 200, response.text
        return response.json()

    async def raw(self, path: str, body: Any = None, key: str = MASTER, **params: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        if body is None:
            return await self.client.get(path, params=params, headers=headers)
        return await self.client.post(path, params=params, headers=headers, json=body)

    async def refused(self, status: int, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        """The error object of a call that must fail."""
        response = await self.raw(path, body, **more)
        assert response.status_code == status, response.text
        error: dict[str, Any] = response.json()["error"]
        assert set(error) >= {"message", "type", "param", "code"}
        return error


def auth(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


OpenApi = Callable[[Config, Settings], Api]


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    stores = open_local(tmp_path / FILE_NAME)
    yield stores
    await stores.close()


@pytest.fixture
async def open_api(stores: Stores) -> AsyncIterator[OpenApi]:
    clients = []

    def opening(config: Config, settings: Settings) -> Api:
        services = Services(settings, stores, Live(config, Callers(config, settings, stores.registry)))
        app = Starlette(routes=admin.routes, exception_handlers={GatewayError: error_response})

        async def with_services(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": {"services": services}}, receive, send)

        client = httpx.AsyncClient(transport=httpx.ASGITransport(with_services), base_url="http://gateway")
        clients.append(client)
        return Api(client, stores)

    yield opening
    for client in clients:
        await client.aclose()


@pytest.fixture
def api(open_api: OpenApi) -> Api:
    return open_api(CONFIG, SETTINGS)
