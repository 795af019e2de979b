"""POST /v1/messages, Anthropic's API, and /v1/messages/count_tokens."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.access.callers import ANONYMOUS, key_of
from gateway.access.models import check_model
from gateway.api.answering import Answering
from gateway.api.receiving import receive_request, request_id_of
from gateway.chat.request import parse_request
from gateway.services import Services
from gateway.upstream.directory import Outgoing


async def count_tokens(request: Request) -> Response:
    """How many tokens the client's messages are as it sent them: nothing is shortened and nothing billed."""
    services: Services = request.state.services
    live = services.live
    request_id = request_id_of(request.scope["headers"])
    received = await receive_request(
        "messages", request.scope, request.receive, request_id, services.settings.max_body_bytes
    )
    caller = await live.callers.authenticate(received.named)
    parsed = parse_request("messages", received.path, received.body)
    model = live.directory.find(parsed.model)
    check_model(caller, parsed.model)
    key = key_of(received.named) if caller.key_id == ANONYMOUS else ""
    outgoing = Outgoing(parsed, received.body, received.headers, received.wire, key)
    sent = await live.directory.send(outgoing, model)
    try:
        body = await sent.reply.body.read()
    finally:
        await sent.reply.body.close()
    response = Response(body, sent.reply.status)
    for name, value in sent.reply.headers:
        response.headers[name] = value
    response.headers["x-request-id"] = request_id
    return response


routes = [
    Route("/v1/messages", Answering("messages"), methods=["POST"]),
    Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
]
