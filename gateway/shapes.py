"""Frozen data that passes between the steps of the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from policies.shapes import NO_LIMITS, Budget, Limits, Plan, Team

Surface = Literal["chat", "completions", "responses", "messages", "embeddings"]
Status = Literal["applied", "skipped", "off", "audit", "failed-open"]
CacheState = Literal["hit", "partial", "miss", "none"]
SegmentKind = Literal[
    "prose",
    "code",
    "json",
    "log",
    "diff",
    "table",
    "html",
    "markdown",
    "base64",
    "stack-trace",
    "tool-call",
    "image",
    "other",
]


CACHE_MARK = b'"cache_control"'


def _is_marked(body: bytes, known: bool | None) -> bool:
    """Whether the client marks what the upstream shall keep in its prompt cache. A small body is looked
    through at each call; of a large one that is known since it was read.
    """
    return CACHE_MARK in body if known is None else known


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A typed view on the client's JSON. `body` is what arrived, to the byte; `raw` is never changed."""

    surface: Surface
    path: str
    body: bytes
    raw: dict[str, Any]
    model: str
    stream: bool
    headers: Mapping[str, str] = field(
        default_factory=dict
    )  # lower-case, without authorization and hop-by-hop ones
    max_output_tokens: int | None = None
    marked: bool | None = None  # whether CACHE_MARK stands in the body; None: nobody has looked yet

    @property
    def is_marked(self) -> bool:
        """Whether the client marks what the upstream shall keep in its prompt cache."""
        return _is_marked(self.body, self.marked)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `key_id` is the SHA-256 of the key (or "anonymous"), never the key."""

    team: Team
    key_id: str
    key_alias: str = ""
    may_override: bool = True
    models: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    budgets: tuple[Budget, ...] = ()  # of the key itself, beside its team's
    limits: Limits = NO_LIMITS
    account: str = ""  # the key whose budget this one goes on spending; "": its own


@dataclass(frozen=True, slots=True)
class Segment:
    """One string of the request, where it stands, and whether it may be shortened."""

    path: tuple[str | int, ...]  # into ParsedRequest.raw
    text: str
    message: int  # index of its message, in the order the upstream reads them; -1 for top-level instructions
    role: str
    kind: SegmentKind
    protected: str = (
        ""  # why it stays whole ("" when free): system, instruction, tool-call, cache-control, frozen, ...
    )
    tool: str = ""
    start: int = 0  # `text` begins at this character of the string at `path`; several segments may share one


@dataclass(frozen=True, slots=True)
class Compressed:
    """What goes upstream, and how it came about. With nothing shortened `body` is the client's bytes."""

    body: bytes
    status: Status
    skip_reason: str
    plan: Plan
    tokens_before: int  # whole input, tokens of the target model's tokenizer
    tokens_after: int
    cache: CacheState
    overhead_ms: float
    frozen_messages: int = 0  # messages whose form an earlier turn fixed
    broken_prefix_tokens: int = 0  # tokens the upstream had cached and now reads anew because of us
    timings: Mapping[str, float] = field(default_factory=dict)  # milliseconds a step
    tokens_would_be: int | None = None  # audit: what would have been sent
    compacted: bool = False  # old messages were shortened anew, deliberately; `plan.steps` says why
    conversation: str = ""  # its name in the prefix store; "" when nothing is to be remembered
    prefix_tokens: int = 0  # sent before in this very form, so that the upstream may have it cached
    prefix_original_tokens: int = 0  # the same messages as the client sends them
    idle_seconds: float = 0.0  # since the conversation's last request
    prefix_hit_rate: float = 0.0  # how likely the upstream still had it cached, 0..1
    observed_hit_rate: float | None = None  # what earlier turns have shown; None: nothing yet
    begins: bool = False  # the first request of its conversation that the prefix store hears of
    # Where the model's own tokenizer is not here: at most so many billed tokens are not text that we counted,
    untold_tokens: int | None = None
    billed_per_token: float | None = None  # what earlier bills have taught: so many for one of ours
    billing_name: str = ""  # under which this bill teaches; "" when it holds what nobody counts
    marked: bool | None = None  # as in the request

    @property
    def is_marked(self) -> bool:
        """As of the request, whose marks are never shortened."""
        return _is_marked(self.body, self.marked)


@dataclass(frozen=True, slots=True)
class Usage:
    """What the upstream says it billed; `estimated` when it said nothing and we counted."""

    input_tokens: int = 0  # all of them, cached ones included
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0  # part of output_tokens
    estimated: bool = False
    cache_reported: bool = False  # the upstream speaks of cached tokens at all, be they none


@dataclass(frozen=True, slots=True)
class Price:
    """USD per token of one model."""

    input: float = 0.0
    output: float = 0.0
    cache_read: float = 0.0
    cache_write: float = 0.0
    context_window: int | None = None
    max_output: int | None = None
    known: bool = True


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one request cost, what it would have cost, and why. No prompt text, no key."""

    request_id: str
    at: str  # ISO 8601, UTC
    team: str
    key_id: str
    route: str
    policy: str
    model: str
    upstream: str
    surface: Surface
    status_code: int
    compression: Status
    skip_reason: str
    cache: CacheState
    tokens_before: int
    tokens_after: int
    usage: Usage
    cost_usd: float
    counterfactual_usd: float
    saved_usd: float  # counterfactual minus cost; negative when we cost money
    overhead_ms: float
    upstream_ms: float
    first_byte_ms: float
    stream: bool
    match: str = ""  # the sentence of the matcher
    outcome: str = "ok"  # ok, upstream-error, client-left, ...
    holdout: bool = False
    frozen_messages: int = 0
    broken_prefix_tokens: int = 0
    compacted: bool = False
    steps: str = ""  # how the number of tokens came about: `Plan.steps` in one line
    compressible_tokens: int = 0  # that could be shortened when this request came; 0 also when nobody looked
    earlier_tokens: int = 0  # compressible ones of earlier messages, as the client sends them
    arm: str = ""  # treated or holdout, where the policy has a holdout; "": in neither
    output_usd: float = 0.0  # of cost_usd, what the answer cost
