"""The ASGI application: routes, error shapes, and the services that open and close with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from compressor.engine.protocol import ScoringEngine
from gateway.api import completions, compress, embeddings, health, messages, metrics, models, responses
from gateway.api.error_response import error_response
from gateway.config import Config
from gateway.dashboard import pages as dashboard
from gateway.errors import GatewayError
from gateway.services import open_services
from gateway.settings import Settings


def create_app(
    config: Config,
    settings: Settings,
    *,
    engine: ScoringEngine | None = None,
    metrics_directory: str = "",
) -> Starlette:
    """One worker's application. Its services are opened when the server starts it, not before.

    `engine` replaces the configured one; `metrics_directory` is where several workers share their metrics.
    """

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, Any]]:
        opening = open_services(config, settings, engine=engine, metrics_directory=metrics_directory)
        async with opening as services:
            yield {"services": services}

    return Starlette(
        routes=_routes(),
        lifespan=lifespan,
        exception_handlers={HTTPException: error_response, GatewayError: error_response},
    )


def _routes() -> list[BaseRoute]:
    """The busiest first: Starlette asks them in order."""
    return [
        *completions.routes,
        *responses.routes,
        *messages.routes,
        *embeddings.routes,
        *models.routes,
        *compress.routes,
        *health.routes,
        *metrics.routes,
        *dashboard.routes,
    ]
