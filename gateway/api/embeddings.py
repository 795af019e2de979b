"""POST /v1/embeddings: forwarded and accounted, never shortened (its text is what is embedded)."""

from __future__ import annotations

from starlette.routing import Route

from gateway.api.answering import Answering

routes = [Route("/v1/embeddings", Answering("embeddings"), methods=["POST"])]
