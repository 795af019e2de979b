"""GET /v1/models and /v1/models/{id}: what this caller may ask for."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.access.models import check_model
from gateway.errors import Forbidden, NotFound
from gateway.services import Services
from gateway.shapes import Caller

_CREATED = 1_767_225_600  # clients want a number; what we know is when the gateway learned to speak


async def list_models(request: Request) -> Response:
    """The models with names of their own that the key and its team may use."""
    services: Services = request.state.services
    caller = await services.live.callers.authenticate(request.headers)
    names = [name for name in services.live.directory.names() if _may_use(name, caller)]
    return JSONResponse({"object": "list", "data": [_model(services, name) for name in names]})


async def one_model(request: Request) -> Response:
    """One model, a glob's included. Raises NotFound, also for what the caller may not use."""
    services: Services = request.state.services
    caller = await services.live.callers.authenticate(request.headers)
    name = request.path_params["name"]
    services.live.directory.find(name)
    if not _may_use(name, caller):
        raise NotFound(f"the model {name!r} does not exist", param="model", code="model_not_found")
    return JSONResponse(_model(services, name))


def _may_use(name: str, caller: Caller) -> bool:
    try:
        check_model(caller, name)
    except Forbidden:
        return False
    return True


def _model(services: Services, name: str) -> dict[str, Any]:
    owner = services.live.directory.find(name).upstream
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": owner}


routes = [Route("/v1/models", list_models), Route("/v1/models/{name:path}", one_model)]
