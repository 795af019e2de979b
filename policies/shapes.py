"""Frozen data of the rules: what a policy says, what a request looks like to it, what it decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Mode = Literal["off", "audit", "on"]
Latency = Literal["ignore", "weigh", "bound"]
Period = Literal["minute", "hour", "day", "week", "month", "total"]  # total: never starts anew


@dataclass(frozen=True, slots=True)
class KeepRange:
    """From this many compressible tokens on (target model's tokenizer), keep this share."""

    from_tokens: int
    keep: float


@dataclass(frozen=True, slots=True)
class PressureStep:
    """Once this share of the budget is spent, keep at most this share of the tokens."""

    spent: float
    keep: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """Hours of the week (UTC unless `timezone`) in which a policy's `mode` applies; `off` outside of them."""

    days: tuple[int, ...]  # 0 is Monday
    start_minute: int
    end_minute: int
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class RoleRule:
    """What happens to messages of one role, or to the results of one tool; None inherits from the policy."""

    mode: Mode | None = None
    keep: float | None = None


@dataclass(frozen=True, slots=True)
class OldResults:
    """What becomes of a conversation's old tool results, when writing the prefix anew pays."""

    newest: int = 3  # so many stay as they are
    keep: float = 0.25  # share of the others that stays; 0: a note stands in their place


@dataclass(frozen=True, slots=True)
class Policy:
    """How one route is compressed. Every key of `policies:` in terse.yaml, resolved through `extends`."""

    name: str
    mode: Mode = "on"
    trigger_tokens: int = 1024  # below this many compressible tokens nothing is done
    keep: float = 0.5
    ranges: tuple[KeepRange, ...] = ()
    max_input_tokens: int | None = None  # compress to fit, whatever `keep` says
    protect: tuple[str, ...] = ("system", "instruction", "code", "json", "numbers", "identifiers", "urls")
    force_tokens: tuple[str, ...] = ()
    question_aware: bool = False
    roles: Mapping[str, RoleRule] = field(default_factory=dict)  # role -> rule
    tools: Mapping[str, RoleRule] = field(default_factory=dict)  # tool name (glob) -> rule
    sample: float = 1.0  # share of requests that the policy touches
    holdout: float = 0.0  # share sent uncompressed for comparison
    shadow: float = 0.0  # share whose original is also sent, in the background
    min_quality: float | None = None  # below this lower confidence bound: falls back to audit
    fail: Literal["open", "closed"] = "open"
    store_fail: Literal["open", "closed"] = "open"  # when Redis is slow or gone
    deadline_ms: int | None = None  # None: 400 on a GPU, 5000 on a CPU
    min_keep: float = 0.1  # the least a client header or pressure may ask for
    client_override: bool = True  # may x-terse-compress change anything
    recovery: bool = False  # offer the terse_retrieve tool
    latency: Latency = "ignore"  # what the time to the first token may say to a plan
    fold: bool = True  # in results of tools: layout of JSON and what lines of logs repeat go first
    old_results: OldResults | None = OldResults()  # None: nothing is shortened a second time
    schedule: tuple[Schedule, ...] = ()
    fingerprint: str = ""  # of everything above; part of every cached form


@dataclass(frozen=True, slots=True)
class Budget:
    """So many USD or tokens per period; either may be None."""

    usd: float | None = None
    tokens: int | None = None
    per: Period = "month"
    sliding: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """Rates; None is unlimited. Tokens are those billed: input after compression plus output."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Team:
    """Who pays. Static (terse.yaml) or made through the admin API."""

    name: str
    budgets: tuple[Budget, ...] = ()
    limits: Limits = NO_LIMITS
    models: tuple[str, ...] = ()  # globs; empty allows all
    pressure: tuple[PressureStep, ...] = ()
    blocked: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """The `match:` of a route: globs; an absent key matches anything."""

    model: str = "*"
    team: str = "*"
    path: str = "*"
    headers: Mapping[str, str] = field(default_factory=dict)  # lower-case name -> glob
    metadata: Mapping[str, str] = field(default_factory=dict)  # of the request body or the key


@dataclass(frozen=True, slots=True)
class Route:
    """Requests that match take this policy; the first match wins."""

    name: str
    match: RouteMatch
    policy: str
    budgets: tuple[Budget, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """All that a rule may look at. Header names are lower-case; secrets are not among them."""

    model: str
    team: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Match:
    """Which route and policy apply, and the sentence that says why."""

    route: str
    policy: Policy
    reason: str


@dataclass(frozen=True, slots=True)
class ClientWish:
    """The parsed `x-terse-compress` header: off, on, keep=0.5 or target=2000."""

    off: bool = False
    keep: float | None = None
    target: int | None = None
    on: bool = False  # said "on": takes part even where only a sample does
    note: str = ""  # what was not understood; told in the plan's steps


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of the compressible text to keep. `target` in tokens of the target model's tokenizer."""

    compress: bool
    mode: Mode
    target: int
    keep: float
    reason: str  # "" when compress; else why not: below-trigger, mode-off, client-off, sampled-out, holdout
    steps: tuple[str, ...] = ()  # how the number came about, one sentence each (explain, receipts)
    compressible: int = 0  # tokens that `target` was chosen from
    earlier: int = 0  # compressible tokens of earlier messages, as the client sends them
