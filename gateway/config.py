"""The whole configuration as frozen data. `gateway.configuration_file` reads terse.yaml into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from policies.shapes import NO_LIMITS, Budget, Limits, Policy, Route, Team


class Secret(str):
    """A string that never shows itself: repr, str and formatting give `***`; `.reveal()` gives the value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def reveal(self) -> str:
        """The secret itself, for the one place that sends it."""
        return str.__str__(self)


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """Where requests go.

    Exactly one of `base_url` (OpenAI-compatible) and `litellm` (a provider's name) is set, or neither for the
    built-in offline upstream.
    """

    name: str
    base_url: str = ""
    litellm: str = ""
    anthropic: bool = False  # base_url speaks Anthropic's /v1/messages
    api_key: Secret | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    connect_timeout: float = 5.0  # seconds
    read_timeout: float = 600.0  # seconds between two bytes
    retries: int = 2  # before the first byte only
    offline: bool = False


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A model name as clients say it (a glob may stand for many), and where it goes."""

    name: str
    upstream: str
    model: str = ""  # what the upstream calls it; empty: the same
    fallbacks: tuple[str, ...] = ()
    tokenizer: str = ""  # empty: by the model's name
    input_price: float | None = None  # USD per token; None: litellm's price map
    output_price: float | None = None
    cache_read_price: float | None = None
    cache_write_price: float | None = None
    context_window: int | None = None
    budgets: tuple[Budget, ...] = ()  # of all teams together on this model
    limits: Limits = NO_LIMITS


@dataclass(frozen=True, slots=True)
class CompressorSettings:
    """The encoder. With `url` the gateway reaches a compressor process or fleet instead of opening one."""

    model: str = "default"
    device: str = "auto"
    url: str = ""  # unix:///run/terse.sock or http://host:port
    deadline_ms: int | None = None
    max_batch_tokens: int | None = None
    max_waiting_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class QualitySettings:
    """How answers are compared, and who hears of a fall-back."""

    judge: str = ""  # a model of this file that compares prose; "": the encoder alone
    webhook: Secret | None = None  # gets a POST with JSON when a policy falls back to audit


@dataclass(frozen=True, slots=True)
class Config:
    """Everything terse.yaml says, checked and resolved."""

    upstreams: Mapping[str, UpstreamConfig] = field(default_factory=dict)
    models: Mapping[str, ModelConfig] = field(default_factory=dict)
    compressor: CompressorSettings = CompressorSettings()
    store: Secret | None = None  # redis:// URL; None: in-process
    policies: Mapping[str, Policy] = field(default_factory=dict)
    teams: Mapping[str, Team] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    quality: QualitySettings = QualitySettings()
    file: str = ""  # where it was read from; "" for the built-in defaults
