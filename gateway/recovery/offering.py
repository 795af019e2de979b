"""Which requests are offered the tool, and in the terms of which API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.chat.large_json import load_json
from gateway.recovery.chat import ChatDialect
from gateway.recovery.messages import MessagesDialect
from gateway.recovery.responses import ResponsesDialect
from gateway.recovery.tool import Dialect
from gateway.shapes import Compressed, ParsedRequest
from policies.shapes import Policy

_DIALECTS: Mapping[str, Dialect] = {
    "/v1/chat/completions": ChatDialect(),
    "/v1/responses": ResponsesDialect(),
    "/v1/messages": MessagesDialect(),
}


@dataclass(frozen=True, slots=True)
class Offer:
    """A request as it goes upstream with the tool, and the originals that the tool can read."""

    dialect: Dialect
    raw: dict[str, Any]
    originals: tuple[str, ...]
    wants_usage: bool  # the client asked for a usage chunk in its stream


def offer(request: ParsedRequest, compressed: Compressed, policy: Policy) -> Offer | None:
    """The request with the tool; None when nothing is to be recovered, or the client leaves no room."""
    dialect = _DIALECTS.get(request.path)
    if not policy.recovery or compressed.status != "applied" or dialect is None:
        return None
    raw = request.raw
    try:
        sent = load_json(compressed.body)
    except orjson.JSONDecodeError:  # an escaped lone surrogate: passed on, never written anew
        return None
    originals = tuple(dict.fromkeys(_changed(raw.get(dialect.texts), sent.get(dialect.texts))))
    offered = dialect.offered(raw, sent) if originals else None
    if offered is None:
        return None
    options = raw.get("stream_options")
    wants_usage = isinstance(options, dict) and bool(options.get("include_usage"))
    return Offer(dialect, offered, originals, wants_usage)


def _changed(original: Any, sent: Any) -> Iterator[str]:
    """The strings of the first that are not the same in the second."""
    if isinstance(original, str):
        if original != sent:
            yield original
    elif isinstance(original, list) and isinstance(sent, list):
        for before, after in zip(original, sent, strict=False):
            yield from _changed(before, after)
    elif isinstance(original, dict) and isinstance(sent, dict):
        for key, before in original.items():
            yield from _changed(before, sent.get(key))
