"""`upstreams:` and `models:` as plain data into frozen configuration, with their references checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.config import ModelConfig, Secret, UpstreamConfig
from gateway.configuration.entries import ModelEntry, UpstreamEntry
from policies.checking import suggest, validate
from policies.errors import Path, Problem
from policies.globs import compile_glob
from policies.load import budgets_of, entries_of
from policies.shapes import Limits

OPENAI_URL = "https://api.openai.com/v1"


def built_in_upstream(openai_api_key: Secret | None) -> UpstreamConfig:
    """Where requests go when no file says so: OpenAI with a key, else the offline upstream."""
    if openai_api_key is None:
        return UpstreamConfig(name="offline", offline=True)
    return UpstreamConfig(name="openai", base_url=OPENAI_URL, api_key=openai_api_key)


def read_upstreams(
    data: object, openai_api_key: Secret | None, problems: list[Problem]
) -> dict[str, UpstreamConfig]:
    """The block `upstreams:`; the built-in one when it is absent."""
    if data is None:
        only = built_in_upstream(openai_api_key)
        return {only.name: only}
    upstreams = {}
    for name, body in entries_of(data, "upstreams", problems).items():
        path: Path = ("upstreams", name)
        entry = validate(UpstreamEntry, body, path, problems)
        # A refused upstream keeps its name, so that models which use it are no second mistake.
        upstreams[name] = UpstreamConfig(name=name)
        if entry is not None:
            upstreams[name] = _upstream(name, entry)
            _check_upstream(entry, path, problems)
    if not upstreams and data == {}:
        problems.append(Problem(("upstreams",), "expected at least one upstream, or no such block"))
    return upstreams


def _upstream(name: str, entry: UpstreamEntry) -> UpstreamConfig:
    return UpstreamConfig(
        name=name,
        base_url=(entry.base_url or "").rstrip("/"),
        litellm=entry.litellm or "",
        anthropic=entry.anthropic,
        api_key=Secret(entry.api_key) if entry.api_key else None,
        headers=dict(entry.headers),
        connect_timeout=entry.connect_timeout,
        read_timeout=entry.read_timeout,
        retries=entry.retries,
        offline=entry.offline,
    )


def _check_upstream(entry: UpstreamEntry, path: Path, problems: list[Problem]) -> None:
    kinds = [name for name in ("base_url", "litellm", "offline") if getattr(entry, name)]
    if len(kinds) != 1:
        got = " and ".join(kinds) or "none of them"
        problems.append(
            Problem(path, f"expected exactly one of base_url, litellm and offline: true; got {got}")
        )
    if entry.anthropic and not entry.base_url:
        problems.append(
            Problem((*path, "anthropic"), "expected a base_url beside it, which speaks /v1/messages")
        )


def read_models(
    data: object, upstreams: Mapping[str, UpstreamConfig], problems: list[Problem]
) -> dict[str, ModelConfig]:
    """The block `models:`; with one upstream and no block, every model goes there."""
    if data is None:
        if len(upstreams) == 1:
            return {"*": ModelConfig(name="*", upstream=next(iter(upstreams)))}
        if upstreams:
            listed = ", ".join(upstreams)
            problems.append(Problem(("models",), f"expected models that say to which of {listed} they go"))
        return {}
    models = {}
    only = next(iter(upstreams)) if len(upstreams) == 1 else ""
    for name, body in entries_of(data, "models", problems).items():
        path: Path = ("models", name)
        entry = validate(ModelEntry, body, path, problems)
        model = _model(name, entry, path, problems) if entry is not None else _refused(name, body)
        if entry is not None and not model.upstream and not only:
            problems.append(Problem(path, f"the key 'upstream' is missing; one of {', '.join(upstreams)}"))
        models[name] = replace(model, upstream=model.upstream or only)
        _check_reference(models[name], upstreams, path, problems)
    if not models and data == {}:
        problems.append(Problem(("models",), "expected at least one model, or no such block"))
    _check_fallbacks(models, problems)
    return models


def _refused(name: str, body: Any) -> ModelConfig:
    """What an entry with mistakes refers to, so that its references are checked all the same."""
    given = body if isinstance(body, dict) else {}
    upstream, fallbacks = given.get("upstream"), given.get("fallbacks")
    names = [each for each in fallbacks if isinstance(each, str)] if isinstance(fallbacks, list) else []
    return ModelConfig(name, upstream if isinstance(upstream, str) else "", fallbacks=tuple(names))


def _check_reference(
    model: ModelConfig, upstreams: Mapping[str, UpstreamConfig], path: Path, problems: list[Problem]
) -> None:
    if model.upstream and model.upstream not in upstreams:
        what = f"unknown upstream {model.upstream!r}{suggest(model.upstream, upstreams)}"
        problems.append(Problem((*path, "upstream"), what))


def _model(name: str, entry: ModelEntry, path: Path, problems: list[Problem]) -> ModelConfig:
    plain: dict[str, Any] = entry.model_dump(
        include={"input_price", "output_price", "cache_read_price", "cache_write_price", "context_window"}
    )
    return ModelConfig(
        name=name,
        upstream=entry.upstream or "",
        model=entry.model or "",
        fallbacks=tuple(entry.fallbacks),
        tokenizer=entry.tokenizer or "",
        budgets=budgets_of(entry.budget, (*path, "budget"), problems),
        limits=Limits(**entry.limits.model_dump()),
        **plain,
    )


def _check_fallbacks(models: Mapping[str, ModelConfig], problems: list[Problem]) -> None:
    """Each names a model that some entry serves, and no chain comes back to where it began."""
    for name, model in models.items():
        for index, fallback in enumerate(model.fallbacks):
            path: Path = ("models", name, "fallbacks", index)
            entry = model_named(fallback, models)
            if entry is None:
                problems.append(Problem(path, f"unknown model {fallback!r}{suggest(fallback, models)}"))
                continue
            loop = _loop(name, entry.name, models)
            if loop and name == min(loop):  # told once per loop, at its alphabetically first model
                problems.append(Problem(path, f"expected no loop; got {' -> '.join([*loop, loop[0]])}"))


def _loop(start: str, first: str, models: Mapping[str, ModelConfig]) -> list[str]:
    """The chain of fallbacks from `start` over `first` back to `start`; empty when there is none."""
    chains = [[start, first]]
    seen = {first}
    while chains:
        chain = chains.pop()
        if chain[-1] == start:
            return chain[:-1]
        for fallback in models[chain[-1]].fallbacks:
            entry = model_named(fallback, models)
            if entry is not None and (entry.name == start or entry.name not in seen):
                seen.add(entry.name)
                chains.append([*chain, entry.name])
    return []


def model_named(name: str, models: Mapping[str, ModelConfig]) -> ModelConfig | None:
    """The entry that serves a model: the one of that very name, else the first glob that matches."""
    exact = models.get(name)
    if exact is not None:
        return exact
    return next((model for glob, model in models.items() if compile_glob(glob)(name)), None)
