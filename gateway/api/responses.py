"""POST /v1/responses."""

from __future__ import annotations

from starlette.routing import Route

from gateway.api.answering import Answering

routes = [Route("/v1/responses", Answering("responses"), methods=["POST"])]
