"""A shortener with the fake engine, and requests to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from compressor.engine.fake import FakeEngine
from gateway.chat.request import parse_request
from gateway.compression.shortening import Shortener
from gateway.config import ModelConfig
from gateway.shapes import Caller, Compressed, ParsedRequest, Price, Surface, Usage
from gateway.stores.base import Cache, Spent
from gateway.stores.memory import MemoryCache
from policies import Match, Policy, Team

PATHS: dict[Surface, str] = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "embeddings": "/v1/embeddings",
}
POLICY = Policy("default")
# Of gpt-4o-mini: cached input at half the price.
HALF_PRICE = Price(input=1.5e-7, output=6e-7, cache_read=0.75e-7)
# Of Claude Sonnet: at a tenth, but writing costs a quarter more.
TENTH_PRICE = Price(input=3e-6, output=1.5e-5, cache_read=3e-7, cache_write=3.75e-6)
NO_DISCOUNT = Price(input=1e-6, output=2e-6, cache_read=1e-6, cache_write=1e-6)


def parsed(raw: dict[str, Any], surface: Surface = "chat", **headers: str) -> ParsedRequest:
    """A request as the parser gives it; `x_terse_compress="off"` sets that header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return parse_request(surface, PATHS[surface], json.dumps(raw).encode(), named)


@dataclass
class Bench:
    """One shortener and what its calls share; `store` may be that of another bench (another replica)."""

    policy: Policy = POLICY
    price: Price = HALF_PRICE
    store: Cache = field(default_factory=MemoryCache)
    engine: FakeEngine = field(default_factory=FakeEngine)
    team: str = "search"
    now: float = 1_780_000_000.0
    context_window: int | None = None
    spent: float = 0.0
    deadline_ms: int | None = None

    def __post_init__(self) -> None:
        self.shortener = Shortener(
            self.engine, self.store, deadline_ms=self.deadline_ms, clock=lambda: self.now
        )

    def with_policy(self, **changes: Any) -> None:
        """Another policy from now on."""
        self.policy = replace(self.policy, **changes)

    async def shorten(self, raw: dict[str, Any], surface: Surface = "chat", **headers: str) -> Compressed:
        """What becomes of a request."""
        return await self.shorten_parsed(parsed(raw, surface, **headers))

    async def shorten_parsed(self, request: ParsedRequest) -> Compressed:
        """The same for a request that is there already."""
        return await self.shortener.shorten(
            request,
            Caller(Team(self.team), "anonymous"),
            Match("0", self.policy, "everything"),
            model=ModelConfig(request.model, "openai", context_window=self.context_window),
            price=self.price,
            spent=Spent(self.spent),
        )

    async def observe(self, compressed: Compressed, *, hit_rate: float = 1.0, output: int = 50) -> Usage:
        """What an upstream with a prefix cache would report, told to the shortener."""
        cached = round(compressed.prefix_tokens * hit_rate) if compressed.prefix_tokens >= 1024 else 0
        usage = Usage(compressed.tokens_after, cached, 0, output, cache_reported=True)
        await self.shortener.observe(compressed, usage)
        return usage


def messages_of(compressed: Compressed) -> list[Any]:
    """The messages that go upstream."""
    messages: list[Any] = orjson.loads(compressed.body)["messages"]
    return messages


def agent_turn(number: int, output: str) -> list[dict[str, Any]]:
    """An assistant's tool call and the tool's answer, as OpenAI's clients send them."""
    call = {
        "id": f"call_{number}",
        "type": "function",
        "function": {"name": "bash", "arguments": '{"cmd": "ls"}'},
    }
    return [
        {"role": "assistant", "content": f"Step {number}.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"call_{number}", "content": output},
    ]


def texts(messages: Sequence[dict[str, Any]]) -> list[Any]:
    """Their contents."""
    return [message.get("content") for message in messages]
