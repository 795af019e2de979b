"""The ASGI application: routes, error shapes, and the services that open and close with it."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route

from compressor.engine.protocol import ScoringEngine
from gateway.allocation import settle
from gateway.api import (
    admin,
    completions,
    compress,
    embeddings,
    health,
    messages,
    metrics,
    models,
    openapi,
    responses,
    retrieve,
)
from gateway.api.answering import Answering
from gateway.api.error_response import bug_response, error_response, nobody_left
from gateway.api.receiving import ClientLeft, Receive, Scope, Send
from gateway.config import Config
from gateway.dashboard import pages as dashboard
from gateway.errors import GatewayError
from gateway.services import open_services
from gateway.settings import Settings

# A request makes some 700 objects and hardly a cycle; Python's default looks for cycles at each 700th, which
# took a tenth of the time.
_COLLECT_EVERY = 50_000


class Application(Starlette):
    """Starlette, with a direct way to the endpoints that carry the load.

    Those answer every error themselves, so they need neither Starlette's middleware nor its router: 60 µs of
    a request.
    """

    def __init__(self, routes: list[BaseRoute], **more: Any) -> None:
        super().__init__(routes=routes, **more)
        self._direct = {
            ("POST", route.path): route.app
            for route in routes
            if isinstance(route, Route) and isinstance(route.app, Answering)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        direct = self._direct.get((scope.get("method", ""), scope.get("path", "")))
        if direct is not None and scope["type"] == "http":
            await direct(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(
    config: Config,
    settings: Settings,
    *,
    engine: ScoringEngine | None = None,
    metrics_directory: str = "",
) -> Application:
    """One worker's application. Its services are opened when the server starts it, not before.

    `engine` replaces the configured one; `metrics_directory` is where several workers share their metrics.
    """

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, Any]]:
        opening = open_services(config, settings, engine=engine, metrics_directory=metrics_directory)
        async with opening as services:
            settle()
            gc.set_threshold(_COLLECT_EVERY, 20, 50)
            yield {"services": services}

    return Application(
        _routes(),
        lifespan=lifespan,
        exception_handlers={
            HTTPException: error_response,
            GatewayError: error_response,
            ClientLeft: nobody_left,
            Exception: bug_response,
        },
    )


def _routes() -> list[BaseRoute]:
    return [
        *completions.routes,
        *responses.routes,
        *messages.routes,
        *embeddings.routes,
        *models.routes,
        *compress.routes,
        *retrieve.routes,
        *health.routes,
        *metrics.routes,
        *openapi.routes,
        *admin.routes,
        *dashboard.routes,
    ]
