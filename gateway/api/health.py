"""GET /health/liveliness (LiteLLM's spelling), /health/liveness and /health/readiness."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.services import Services


async def liveness(_request: Request) -> Response:
    """200 while the process answers at all."""
    return JSONResponse({"status": "alive"})


async def readiness(request: Request) -> Response:
    """200 while requests are served well; 503 when the encoder is dead.

    Without the encoder requests still pass, uncompressed: a load balancer should prefer another replica.
    """
    services: Services = request.state.services
    health = services.engine.health()
    reloader = services.reloader
    body = {
        "status": "ready" if health.ready else "not ready",
        "engine": health.detail,
        "device": health.device,
        "waiting_tokens": health.waiting_tokens,
        "store": services.stores.kind,
        "configuration_error": bool(reloader and reloader.error),
    }
    return JSONResponse(body, 200 if health.ready else 503)


routes = [
    Route("/health/liveliness", liveness),
    Route("/health/liveness", liveness),
    Route("/health/readiness", readiness),
]
