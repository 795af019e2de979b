"""One request as it came in over HTTP, as it was admitted, and its answer as it goes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.config import ModelConfig
from gateway.shapes import Caller, Compressed, ParsedRequest, Price, Surface
from gateway.stores.base import Hold
from gateway.upstream.base import ReplyBody
from policies.shapes import Match

if TYPE_CHECKING:
    from gateway.settlement import Settlement
    from gateway.tracing import RequestSpan


@dataclass(frozen=True, slots=True)
class Received:
    """What a client sent. `body` is decoded; `wire` is what came over the socket, when that was encoded."""

    surface: Surface
    path: str
    headers: Sequence[tuple[str, str]]  # lower-case names, in order, duplicates kept
    named: Mapping[str, str]  # the same by name
    body: bytes
    request_id: str
    started: float  # time.perf_counter()
    wire: bytes | None = None
    span: RequestSpan | None = None  # only where requests are traced


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may go upstream: who asks, what for, in which form, and what it may cost."""

    received: Received
    request: ParsedRequest
    caller: Caller
    match: Match
    model: ModelConfig
    price: Price
    compressed: Compressed
    hold: Hold


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and headers, and the body: here already, or coming in chunks."""

    status: int
    headers: Sequence[tuple[str, str]]
    settlement: Settlement
    body: bytes = b""
    chunks: ReplyBody | None = None
