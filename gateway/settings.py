"""Environment settings, in one table. Read once, by `load_settings`, never at import."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.config import Secret


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable: its name, what it is when unset, and what it does."""

    name: str
    default: str
    help: str


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "TERSE_CONFIG",
        "",
        "path of terse.yaml; empty: ./terse.yaml when there is one, else the built-in defaults",
    ),
    Setting("TERSE_MASTER_KEY", "", "the admin key; with it, every request needs a key"),
    Setting(
        "TERSE_READONLY_KEY", "", "a key that may look at the dashboard and the books, and change nothing"
    ),
    Setting("REDIS_URL", "", "Redis for cache, keys and budgets; empty: in-process and SQLite"),
    Setting(
        "TERSE_DATA_DIR", "~/.local/share/terse", "where a single process keeps keys, teams and the books"
    ),
    Setting("TERSE_LOG_LEVEL", "info", "debug, info, warning or error; logs are JSON lines on stderr"),
    Setting("TERSE_MAX_BODY_BYTES", "33554432", "largest request body that is read"),
    Setting(
        "TERSE_CACHE_BYTES",
        "33554432",
        "memory of each process for scores and forms (with Redis a half of it, for copies of the latest);"
        " forms, texts and counts at hand take two thirds as much again",
    ),
    Setting("OPENAI_API_KEY", "", "used when no terse.yaml names an upstream: requests go to api.openai.com"),
    Setting(
        "TERSE_ENCRYPTION_KEY",
        "",
        "32 bytes, base64: encrypts originals kept for recovery; empty: made at start",
    ),
    Setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "",
        "an OpenTelemetry collector (OTLP over HTTP) that gets one span a request; empty: no traces",
    ),
    Setting("OTEL_SERVICE_NAME", "terse", "the name of this service in traces"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The process's environment, read once."""

    config_file: str = ""
    master_key: Secret | None = None
    readonly_key: Secret | None = None
    redis_url: Secret | None = None
    data_dir: str = "~/.local/share/terse"
    log_level: str = "info"
    max_body_bytes: int = 32 * 1024 * 1024
    cache_bytes: int = 32 * 1024 * 1024
    openai_api_key: Secret | None = None
    encryption_key: Secret | None = None
    otlp_endpoint: str = ""
    service_name: str = "terse"


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process, or of the mapping given. ValueError names the variable at fault."""
    source = os.environ if environ is None else environ
    values = {setting.name: source.get(setting.name, "") or setting.default for setting in SETTINGS}

    def secret(name: str) -> Secret | None:
        return Secret(values[name]) if values[name] else None

    def positive(name: str) -> int:
        try:
            number = int(values[name])
        except ValueError:
            raise ValueError(f"{name}: expected a whole number of bytes, got {values[name]!r}") from None
        if number <= 0:
            raise ValueError(f"{name}: must be above 0")
        return number

    return Settings(
        config_file=values["TERSE_CONFIG"],
        master_key=secret("TERSE_MASTER_KEY"),
        readonly_key=secret("TERSE_READONLY_KEY"),
        redis_url=secret("REDIS_URL"),
        data_dir=os.path.expanduser(values["TERSE_DATA_DIR"]),
        log_level=values["TERSE_LOG_LEVEL"],
        max_body_bytes=positive("TERSE_MAX_BODY_BYTES"),
        cache_bytes=positive("TERSE_CACHE_BYTES"),
        openai_api_key=secret("OPENAI_API_KEY"),
        encryption_key=secret("TERSE_ENCRYPTION_KEY"),
        otlp_endpoint=values["OTEL_EXPORTER_OTLP_ENDPOINT"],
        service_name=values["OTEL_SERVICE_NAME"],
    )


def read_environment(name: str) -> str | None:
    """The value behind `env/NAME` in terse.yaml; None when the variable is unset."""
    return os.environ.get(name)


def set_environment(values: Mapping[str, str], *, unless_set: bool = False) -> None:
    """Sets variables that a library reads at its import (litellm, prometheus-client); before that import.

    With `unless_set` those that have a value keep it.
    """
    os.environ.update({**values, **(os.environ if unless_set else {})})
