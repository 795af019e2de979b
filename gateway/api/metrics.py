"""GET /metrics, over all workers."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.services import Services
from gateway.telemetry import render_metrics


async def metrics(request: Request) -> Response:
    """Prometheus text."""
    services: Services = request.state.services
    services.books.tell()
    health = services.engine.health()
    services.metrics.engine_ready.set(1 if health.ready else 0)
    services.metrics.waiting.set(health.waiting_tokens)
    # With many workers this reads a file of each.
    page, kind = await asyncio.to_thread(render_metrics, services.metrics, services.metrics_directory)
    return Response(page, headers={"content-type": kind})


routes = [Route("/metrics", metrics)]
