"""What a model's tokens cost: terse.yaml first, else litellm's price map, read without importing litellm."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.config import ModelConfig, UpstreamConfig
from gateway.shapes import Price

LOG = logging.getLogger(__name__)

MAP_FILE: Final = "model_prices_and_context_window_backup.json"  # in the litellm wheel
UNKNOWN: Final = Price(known=False)


class Prices:
    """Prices of models by their names, in USD per token."""

    def __init__(self, price_map: Mapping[str, Price] | None = None) -> None:
        """Reads litellm's map (about 20 ms, once a process) unless another is given."""
        self._map = litellm_prices() if price_map is None else price_map
        self._found: dict[tuple[str, str, str], Price] = {}

    def of(self, model: ModelConfig, upstream: UpstreamConfig) -> Price:
        """The model's price. Nobody knows it: `known` is False and everything costs zero."""
        called = model.model or model.name
        name = (called, upstream.litellm, upstream.base_url)
        if name not in self._found:
            if len(self._found) > 10_000:
                self._found.clear()  # names come from clients
            self._found[name] = self._look_up(called, upstream)
        return overridden(self._found[name], model)

    def _look_up(self, called: str, upstream: UpstreamConfig) -> Price:
        names = [f"{upstream.litellm}/{called}"] if upstream.litellm else []
        names += [called, called.rsplit("/", 1)[-1]]
        for name in names:
            price = self._map.get(name) or self._map.get(name.lower())
            if price is not None:
                return price
        return UNKNOWN


def overridden(price: Price, model: ModelConfig) -> Price:
    """The price with what terse.yaml says of this model."""
    given = {
        "input": model.input_price,
        "output": model.output_price,
        "cache_read": model.cache_read_price,
        "cache_write": model.cache_write_price,
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if not price.known and "input" in changes:
        # Nothing is known of the upstream's cache: what is not said costs what input costs.
        changes = {"cache_read": changes["input"], "cache_write": changes["input"], **changes}
    if "input" in changes or "output" in changes:
        changes["known"] = True
    if model.context_window is not None:
        changes["context_window"] = model.context_window
    return replace(price, **changes) if changes else price


def dearest(prices: Sequence[Price]) -> Price:
    """What to reserve when any of several models may answer: the most that one of them asks."""
    first = prices[0]
    if len(prices) == 1:
        return first
    outputs = [price.max_output for price in prices]
    bounded = [longest for longest in outputs if longest is not None]
    return replace(
        first,
        input=max(price.input for price in prices),
        output=max(price.output for price in prices),
        cache_write=max(price.cache_write for price in prices),
        max_output=max(bounded) if len(bounded) == len(outputs) else None,
        context_window=None,
    )


@lru_cache(maxsize=1)
def litellm_prices() -> Mapping[str, Price]:
    """Every model of the map that came with the installed litellm; empty, with a warning, without one."""
    spec = importlib.util.find_spec("litellm")
    if spec is None or spec.origin is None:
        LOG.warning("litellm is not installed: prices come from terse.yaml alone")
        return {}
    try:
        entries = orjson.loads((Path(spec.origin).parent / MAP_FILE).read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        LOG.warning("litellm's price map cannot be read, prices come from terse.yaml alone: %s", error)
        return {}
    return {
        name: price_of(entry)
        for name, entry in entries.items()
        if isinstance(entry, dict) and name != "sample_spec" and "input_cost_per_token" in entry
    }


def price_of(entry: Mapping[str, Any]) -> Price:
    """One entry of litellm's map. Without a price of its own the cache costs what input costs."""
    whole = _usd(entry.get("input_cost_per_token"))
    return Price(
        input=whole,
        output=_usd(entry.get("output_cost_per_token")),
        cache_read=_usd(entry.get("cache_read_input_token_cost"), whole),
        cache_write=_usd(entry.get("cache_creation_input_token_cost"), whole),
        context_window=_tokens(entry.get("max_input_tokens")) or _tokens(entry.get("max_tokens")),
        max_output=_tokens(entry.get("max_output_tokens")),
    )


def _usd(value: object, otherwise: float = 0.0) -> float:
    return float(value) if isinstance(value, (int, float)) and value >= 0 else otherwise


def _tokens(value: object) -> int | None:
    return int(value) if isinstance(value, (int, float)) and value > 0 else None
