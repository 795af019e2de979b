"""Prices: litellm's map from its file, terse.yaml over it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gateway.accounting.prices import Prices, dearest, litellm_prices, price_of
from gateway.config import ModelConfig, UpstreamConfig
from gateway.shapes import Price

OPENAI = UpstreamConfig("openai", base_url="https://api.openai.com/v1")
CLAUDE = UpstreamConfig("claude", litellm="anthropic")


def test_the_map_is_read() -> None:
    assert len(litellm_prices()) > 1000
    mini = Prices().of(ModelConfig("gpt-4o-mini", "openai"), OPENAI)
    assert mini.known
    assert 0 < mini.cache_read < mini.input < mini.output
    assert mini.context_window == 128_000
    assert mini.max_output == 16_384


def test_the_name_at_the_upstream_counts() -> None:
    sonnet = Prices().of(ModelConfig("sonnet", "claude", model="claude-sonnet-4-5"), CLAUDE)
    assert sonnet.known
    assert sonnet.cache_write > sonnet.input > sonnet.cache_read


def test_providers_come_first() -> None:
    prices = Prices({"azure/m": Price(input=2.0), "m": Price(input=1.0)})
    assert prices.of(ModelConfig("m", "u"), UpstreamConfig("u", litellm="azure")).input == 2.0
    assert prices.of(ModelConfig("m", "u"), OPENAI).input == 1.0
    assert prices.of(ModelConfig("vendor/m", "u"), OPENAI).input == 1.0


def test_an_unknown_model_costs_nothing_and_says_so() -> None:
    assert Prices({}).of(ModelConfig("mine", "u"), OPENAI) == Price(known=False)


def test_terse_yaml_comes_first() -> None:
    model = ModelConfig("gpt-4o-mini", "openai", input_price=1e-6, cache_read_price=0.0, context_window=1000)
    price = Prices().of(model, OPENAI)
    assert (price.input, price.cache_read, price.context_window) == (1e-6, 0.0, 1000)
    assert price.output > 0


def test_a_price_of_ones_own() -> None:
    price = Prices({}).of(ModelConfig("mine", "u", input_price=1e-6, output_price=2e-6), OPENAI)
    assert price == Price(1e-6, 2e-6, 1e-6, 1e-6)


@pytest.mark.parametrize("broken", [None, "free", -1.0, {}])
def test_broken_entries(broken: object) -> None:
    price = price_of({"input_cost_per_token": broken, "max_input_tokens": broken})
    assert price == Price()


def test_a_reservation_covers_the_dearest_fallback() -> None:
    one, two = Price(1e-6, 9e-6, max_output=100), Price(2e-6, 3e-6, cache_write=4e-6, max_output=None)
    assert dearest([one]) is one
    assert dearest([one, two]) == Price(2e-6, 9e-6, cache_write=4e-6)
    assert dearest([one, one]).max_output == 100


def test_litellm_is_not_imported() -> None:
    code = (
        "import sys; from gateway.accounting.prices import Prices; Prices(); print('litellm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
