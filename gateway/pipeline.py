"""One request, top to bottom. Each line of `answer` is one step, each step one module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from compressor.text.searching import stands_in
from gateway.access.callers import ANONYMOUS, key_of
from gateway.access.models import check_model
from gateway.chat.large_json import LARGE_BYTES
from gateway.chat.request import parse_request
from gateway.exchange import Admitted, Answer, Received
from gateway.releasing import keep, keep_json
from gateway.services import Services
from gateway.settlement import Settlement
from gateway.shapes import CACHE_MARK, Caller, ParsedRequest, Surface
from gateway.turns import on_thread
from gateway.upstream.directory import Outgoing
from policies.shapes import RequestFacts

_SECRET_HEADERS = frozenset({"authorization", "x-api-key", "x-litellm-api-key", "api-key", "cookie"})


async def answer(received: Received, services: Services) -> Answer:
    """Raises GatewayError; whatever it raises, no hold and no connection stays behind."""
    live = services.live
    caller = await live.callers.authenticate(received.named)
    request = await parse(received)
    model = live.directory.find(request.model)
    check_model(caller, request.model)
    match = services.quality.guarded(live.policies.match(facts_of(request, caller)))
    price = live.price_of(model)
    spent = await live.admission.pressure(caller, match, model)
    compressed = await services.shortener.shorten(
        request, caller, match, model=model, price=price, spent=spent
    )
    hold = await live.admission.admit(caller, match, request, compressed, live.dearest_of(model))
    admitted = Admitted(received, request, caller, match, model, price, compressed, hold)
    settlement = Settlement(services, live, admitted)
    try:
        sent = await services.recovery.send(admitted, outgoing(admitted), live)
        return await settlement.receive(sent)
    except BaseException as error:
        await settlement.fail(error)
        raise


async def parse(received: Received) -> ParsedRequest:
    """The client's JSON; a large body is read on a thread."""
    parts = (received.surface, received.path, received.body, without_secrets(received.named))
    if len(received.body) < LARGE_BYTES:
        return parse_request(*parts)
    return await on_thread(_parse_large, *parts)


def _parse_large(surface: Surface, path: str, body: bytes, headers: Mapping[str, str]) -> ParsedRequest:
    request = parse_request(surface, path, body, headers)
    keep(body)
    keep_json(request.raw)
    return replace(request, marked=stands_in(body, CACHE_MARK))


def without_secrets(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that rules may look at and plans may keep."""
    return {name: value for name, value in headers.items() if name not in _SECRET_HEADERS}


def facts_of(request: ParsedRequest, caller: Caller) -> RequestFacts:
    """What rules may look at; of the request's metadata the strings, under the key's own."""
    given = request.raw.get("metadata")
    metadata = {k: v for k, v in given.items() if isinstance(v, str)} if isinstance(given, dict) else {}
    return RequestFacts(
        model=request.model,
        team=caller.team.name,
        path=request.path,
        headers=request.headers,
        metadata={**metadata, **caller.metadata},
    )


def outgoing(admitted: Admitted) -> Outgoing:
    """What goes upstream: the client's very bytes unless something was shortened."""
    received = admitted.received
    # Without teams and keys of our own, the client's key is the upstream's.
    key = key_of(received.named) if admitted.caller.key_id == ANONYMOUS else ""
    return Outgoing(admitted.request, admitted.compressed.body, received.headers, received.wire, key)
