"""terse.yaml into `Config`: read, checked as a whole, refused with every mistake at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from gateway.config import CompressorSettings, Config, ModelConfig, QualitySettings, Secret
from gateway.configuration.connections import built_in_upstream, model_named, read_models, read_upstreams
from gateway.configuration.document import LARGEST_FILE_BYTES, Document, read_document
from gateway.configuration.entries import BLOCKS, CompressorEntry, QualityEntry, StoreEntry
from gateway.settings import Settings, read_environment
from policies.checking import suggest, validate
from policies.errors import ConfigurationError, Path, PolicyError, Problem
from policies.globs import compile_glob, is_glob
from policies.load import Rules, read_rules
from policies.match import never_reached

DEFAULT_FILE = "terse.yaml"

_log = logging.getLogger(__name__)

Lookup = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Reading:
    """A configuration that can be used, and what looks wrong about it all the same."""

    config: Config
    warnings: tuple[PolicyError, ...] = ()
    unset: tuple[PolicyError, ...] = ()  # references to environment variables that are not set


def load_config(path: str | None, settings: Settings, *, environment: Lookup = read_environment) -> Config:
    """The configuration to run with.

    Args:
        path: The file; None: `TERSE_CONFIG`, else ./terse.yaml when there is one, else the built-in defaults.
        settings: Of this process.
        environment: Gives the value behind an `env/NAME` reference.

    Raises:
        ConfigurationError: With every mistake, each as `file:line: key: what was expected`.
    """
    reading = read_config(path, settings, environment=environment)
    for warning in reading.warnings:
        _log.warning("configuration: %s", warning)
    return reading.config


def read_config(
    path: str | None,
    settings: Settings,
    *,
    environment: Lookup = read_environment,
    secrets_needed: bool = True,
) -> Reading:
    """As `load_config`, with the warnings in hand.

    Without `secrets_needed` an unset environment variable is no mistake, so that a file can be checked where
    its keys are not at hand.
    """
    file = file_of(path, settings)
    if file is None:
        return Reading(built_in_config(settings))
    return parse_config(
        _text_of(file), file, settings, environment=environment, secrets_needed=secrets_needed
    )


def file_of(path: str | None, settings: Settings) -> str | None:
    """The file that `load_config` would read; None for the built-in defaults."""
    named = path or settings.config_file
    if named:
        return named
    return DEFAULT_FILE if FilePath(DEFAULT_FILE).exists() else None


def built_in_config(settings: Settings) -> Config:
    """What a gateway without a file runs with: one upstream for every model, policy `default`."""
    rules = read_rules(None, None, None, [])
    upstream = built_in_upstream(settings.openai_api_key)
    return Config(
        upstreams={upstream.name: upstream},
        models={"*": ModelConfig(name="*", upstream=upstream.name)},
        store=settings.redis_url,
        policies=rules.policies,
    )


def parse_config(
    text: str,
    file: str,
    settings: Settings,
    *,
    environment: Lookup = read_environment,
    secrets_needed: bool = True,
) -> Reading:
    """The text of a file as configuration. Raises ConfigurationError."""
    try:
        document = read_document(text, file, environment)
    except PolicyError as error:
        raise ConfigurationError([error]) from None
    problems = [*document.problems, *_unknown_blocks(document)]
    unset = _unset(document, "store")
    if secrets_needed:
        problems += unset
    data = document.data
    upstreams = read_upstreams(data.get("upstreams"), settings.openai_api_key, problems)
    models = read_models(data.get("models"), upstreams, problems)
    compressor = _read_compressor(data.get("compressor"), problems)
    store = validate(StoreEntry, {"store": data.get("store")}, (), problems)
    quality = _read_quality(data.get("quality"), models, problems)
    rules = read_rules(data.get("policies"), data.get("teams"), data.get("routes"), problems)
    if problems:
        raise ConfigurationError(_in_order(document, problems))
    config = Config(
        upstreams=upstreams,
        models=models,
        compressor=compressor,
        store=_store(document, store, settings),
        policies=rules.policies,
        teams=rules.teams,
        routes=rules.routes,
        quality=quality,
        file=file,
    )
    warnings = _in_order(document, _doubts(config, rules))
    return Reading(config, tuple(warnings), tuple(_in_order(document, unset)))


def _text_of(file: str) -> str:
    try:
        data = FilePath(file).read_bytes()
    except FileNotFoundError:
        raise ConfigurationError([PolicyError("no such file", file=file)]) from None
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise ConfigurationError([PolicyError(reason, file=file)]) from None
    if len(data) > LARGEST_FILE_BYTES:
        what = f"expected at most {LARGEST_FILE_BYTES} bytes; got {len(data)}"
        raise ConfigurationError([PolicyError(what, file=file)])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationError([PolicyError("expected UTF-8", file=file, line=line)]) from None


def _unknown_blocks(document: Document) -> list[Problem]:
    listed = ", ".join(BLOCKS)
    return [
        Problem((name,), f"unknown key{suggest(name, BLOCKS) or f'; known keys: {listed}'}")
        for name in document.data
        if name not in BLOCKS
    ]


def _unset(document: Document, *optional: str) -> list[Problem]:
    """References to unset variables, but for blocks whose absence has a meaning (no `store`: in-process)."""
    return [
        Problem(path, f"the environment variable {name} is not set")
        for path, name in document.unset.items()
        if path[:1] not in [(block,) for block in optional]
    ]


def _in_order(document: Document, problems: list[Problem]) -> list[PolicyError]:
    """As the file reads, each once; values that came from the environment are never repeated."""
    unique = dict.fromkeys(_without_secrets(document, problem) for problem in problems)
    return sorted((document.error(problem) for problem in unique), key=lambda error: error.line)


def _without_secrets(document: Document, problem: Problem) -> Problem:
    name = document.references.get(problem.path)
    if name is None or "; got " not in problem.message:
        return problem
    return Problem(problem.path, f"{problem.message.partition('; got ')[0]}; got the value of {name}")


def _read_compressor(data: Any, problems: list[Problem]) -> CompressorSettings:
    entry = validate(CompressorEntry, {} if data is None else data, ("compressor",), problems)
    if entry is None:
        return CompressorSettings()
    return CompressorSettings(
        model=entry.model,
        device=entry.device,
        url=entry.url or "",
        deadline_ms=entry.deadline_ms,
        max_batch_tokens=entry.max_batch_tokens,
        max_waiting_tokens=entry.max_waiting_tokens,
    )


def _read_quality(data: Any, models: Mapping[str, ModelConfig], problems: list[Problem]) -> QualitySettings:
    entry = validate(QualityEntry, {} if data is None else data, ("quality",), problems)
    if entry is None:
        return QualitySettings()
    if entry.judge and model_named(entry.judge, models) is None:
        what = f"unknown model {entry.judge!r}{suggest(entry.judge, models)}"
        problems.append(Problem(("quality", "judge"), what))
    return QualitySettings(entry.judge or "", Secret(entry.webhook) if entry.webhook else None)


def _store(document: Document, entry: StoreEntry | None, settings: Settings) -> Secret | None:
    """The file decides; where it is silent, `REDIS_URL` does."""
    if "store" not in document.data:
        return settings.redis_url
    return Secret(entry.store) if entry is not None and entry.store else None


def _doubts(config: Config, rules: Rules) -> list[Problem]:
    """What is allowed and yet looks like a slip."""
    doubts = []
    for later, earlier in never_reached(rules.routes):
        where: Path = ("routes", later)
        doubts.append(Problem(where, f"never reached: routes[{earlier}] takes all of its requests"))
    for index, route in enumerate(rules.routes):
        team, model = route.match.team, route.match.model
        if config.teams and not is_glob(team) and team not in config.teams:
            what = (
                f"no team {team!r} in this file{suggest(team, config.teams)}; it may come from the admin API"
            )
            doubts.append(Problem(("routes", index, "match", "team"), what))
        if not is_glob(model) and not any(compile_glob(name)(model) for name in config.models):
            what = f"no model {model!r} in this file{suggest(model, config.models)}"
            doubts.append(Problem(("routes", index, "match", "model"), what))
    for name, each in config.teams.items():
        for index, glob in enumerate(each.models):
            if not is_glob(glob) and not any(compile_glob(known)(glob) for known in config.models):
                what = f"no model {glob!r} in this file{suggest(glob, config.models)}"
                doubts.append(Problem(("teams", name, "models", index), what))
    return doubts
