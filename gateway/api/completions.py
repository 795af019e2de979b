"""POST /v1/chat/completions and its predecessor /v1/completions."""

from __future__ import annotations

from starlette.routing import Route

from gateway.api.answering import Answering

routes = [
    Route("/v1/chat/completions", Answering("chat"), methods=["POST"]),
    Route("/v1/completions", Answering("completions"), methods=["POST"]),
]
