"""GET /v1/retrieve/{name}: an original that shortening left words out of, for the team that sent it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.errors import NotFound
from gateway.recovery.recall import recall
from gateway.services import Services


async def retrieve(request: Request) -> Response:
    """The whole text, or its passages for `?query=`. Raises NotFound, for another team's text too."""
    services: Services = request.state.services
    caller = await services.live.callers.authenticate(request.headers)
    name = request.path_params["name"]
    [text] = await services.recovery.vault.get(caller.team.name, [name])
    if text is None:
        raise NotFound("no such text is kept for this team (any more)")
    query = request.query_params.get("query")
    content = text if query is None else await recall(query, [text], services.engine)
    return JSONResponse({"hash": name, "content": content, "whole": query is None})


routes = [Route("/v1/retrieve/{name}", retrieve)]
