"""What `upstreams:`, `models:`, `compressor:` and `store:` may say: one pydantic model an entry."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from policies.checking import STRICT, Expect
from policies.entries import Budgets, Flag, Globs, LimitsEntry, Milliseconds, Name, Rate, SomeTokens, Text

LARGEST_TOKEN_USD = (
    0.01  # the dearest model asks 0.0006 a token; above this, somebody wrote the price of a million
)
LONGEST_TIMEOUT = 86_400.0

Url = Annotated[
    str, Field(pattern=r"^https?://[^\s/]+"), Expect("a URL that starts with https:// or http://")
]
Seconds = Annotated[
    float,
    Field(gt=0, le=LONGEST_TIMEOUT, allow_inf_nan=False),
    Expect("a number of seconds above 0, at most 86400"),
]
TokenPrice = Annotated[
    float,
    Field(ge=0, le=LARGEST_TOKEN_USD, allow_inf_nan=False),
    Expect("USD for one token, from 0 to 0.01 (2.50 USD a million tokens is 2.5e-6)"),
]


class UpstreamEntry(BaseModel):
    """One entry of `upstreams:`."""

    model_config = STRICT
    base_url: Url | None = None
    litellm: Name | None = None
    anthropic: Flag = False
    api_key: Annotated[str, Expect("text, best env/NAME of an environment variable")] | None = None
    headers: dict[Name, Text] = {}
    connect_timeout: Seconds = 5.0
    read_timeout: Seconds = 600.0
    retries: Annotated[int, Field(ge=0, le=10), Expect("a whole number from 0 to 10")] = 2
    offline: Flag = False


class ModelEntry(BaseModel):
    """One entry of `models:`."""

    model_config = STRICT
    upstream: Name | None = None
    model: Name | None = None
    fallbacks: Globs = []
    tokenizer: Name | None = None
    input_price: TokenPrice | None = None
    output_price: TokenPrice | None = None
    cache_read_price: TokenPrice | None = None
    cache_write_price: TokenPrice | None = None
    context_window: SomeTokens | None = None
    budget: Budgets = []
    limits: LimitsEntry = LimitsEntry()


class CompressorEntry(BaseModel):
    """The block `compressor:`."""

    model_config = STRICT
    model: Name = "default"
    device: Annotated[
        str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$"), Expect("auto, cpu, cuda or cuda:0")
    ] = "auto"
    url: (
        Annotated[
            str,
            Field(pattern=r"^(unix:///.+|https?://[^\s/]+)"),
            Expect("unix:///path/of.sock or http://host:port"),
        ]
        | None
    ) = None
    deadline_ms: Milliseconds | None = None
    max_batch_tokens: Rate | None = None
    max_waiting_tokens: Rate | None = None


class StoreEntry(BaseModel):
    """The one value of `store:`, wrapped so that it is checked as the others are."""

    model_config = STRICT
    store: (
        Annotated[
            str,
            Field(pattern=r"^(rediss?(\+sentinel)?|unix|valkeys?)://.+"),
            Expect("redis://host:port, best env/REDIS_URL"),
        ]
        | None
    ) = None


class QualityEntry(BaseModel):
    """The block `quality:`."""

    model_config = STRICT
    judge: Name | None = None
    webhook: Url | None = None


BLOCKS = ("upstreams", "models", "compressor", "store", "policies", "teams", "routes", "quality")
