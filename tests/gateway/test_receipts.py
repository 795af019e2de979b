from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.accounting.receipts import (
    Exchange,
    cost_of,
    receipt_headers,
    uncompressed_usage,
    write_receipt,
)
from gateway.shapes import Caller, Compressed, Price, Usage
from policies import Match, Plan, Policy, Team
from tests.support.chat_bodies import chat
from tests.support.shortening import HALF_PRICE, TENTH_PRICE, parsed

PLAN = Plan(compress=True, mode="on", target=0, keep=0.5, reason="")


def compressed(before: int, after: int, **more: Any) -> Compressed:
    values: dict[str, Any] = {
        "body": b"{}",
        "status": "applied",
        "skip_reason": "",
        "plan": PLAN,
        "tokens_before": before,
        "tokens_after": after,
        "cache": "miss",
        "overhead_ms": 12.34,
    }
    return Compressed(**{**values, **more})


def exchange(done: Compressed, price: Price = HALF_PRICE) -> Exchange:
    match = Match("0", Policy("défaut"), "route 0: matches everything")
    caller = Caller(Team("search"), "anonymous")
    return Exchange("id", parsed(chat()), caller, match, done, "openai", price, 200, 100.0, 50.0)


def test_a_single_request_saves_the_price_of_what_was_left_out() -> None:
    receipt = write_receipt(exchange(compressed(3000, 1000)), Usage(1000, output_tokens=100))
    assert receipt.cost_usd == pytest.approx(1000 * 1.5e-7 + 100 * 6e-7)
    assert receipt.saved_usd == pytest.approx(2000 * 1.5e-7)
    assert receipt.counterfactual_usd == pytest.approx(receipt.cost_usd + receipt.saved_usd)


def test_cached_tokens_that_were_left_out_save_only_the_cached_price() -> None:
    done = compressed(12_000, 6_000, prefix_tokens=5_000, prefix_original_tokens=10_000, prefix_hit_rate=1.0)
    receipt = write_receipt(exchange(done), Usage(6_000, 5_000, cache_reported=True))
    # 5,000 of the prefix at half price, and 1,000 of the new messages in full.
    assert receipt.saved_usd == pytest.approx(5_000 * 0.75e-7 + 1_000 * 1.5e-7)


def test_a_broken_prefix_is_charged_and_may_cost_more_than_it_saves() -> None:
    done = compressed(
        11_000,
        9_000,
        prefix_tokens=200,
        prefix_original_tokens=10_000,
        prefix_hit_rate=0.9,
        broken_prefix_tokens=9_000,
    )
    usage = Usage(9_000, 0, 9_000, cache_reported=True)
    receipt = write_receipt(exchange(done, TENTH_PRICE), usage)
    assert receipt.counterfactual_usd == pytest.approx(10_000 * 3e-7 + 1_000 * 3.75e-6)
    assert receipt.saved_usd < -0.02
    assert receipt.broken_prefix_tokens == 9_000


def test_a_prompt_shortened_below_the_least_cached_size_is_charged() -> None:
    done = compressed(1_600, 800, prefix_tokens=700, prefix_original_tokens=1_400, prefix_hit_rate=1.0)
    receipt = write_receipt(exchange(done, TENTH_PRICE), Usage(800, 0, cache_reported=True))
    assert receipt.counterfactual_usd == pytest.approx(1_400 * 3e-7 + 200 * 3e-6)
    assert receipt.saved_usd < 0


def test_an_upstream_that_says_nothing_of_a_cache_has_none() -> None:
    done = compressed(1_600, 800, prefix_tokens=700, prefix_original_tokens=1_400, prefix_hit_rate=1.0)
    receipt = write_receipt(exchange(done, TENTH_PRICE), Usage(800))
    assert receipt.saved_usd == pytest.approx(800 * 3e-6)


def test_another_tokenizer_scales_the_saving() -> None:
    receipt = write_receipt(exchange(compressed(3000, 1000, untold_tokens=0)), Usage(1200))
    assert receipt.saved_usd == pytest.approx(2200 * 1.5e-7)  # half of the difference


def test_what_is_billed_beside_the_text_makes_no_saving() -> None:
    of_images = write_receipt(exchange(compressed(3000, 1000)), Usage(1800))
    assert of_images.saved_usd == pytest.approx(2000 * 1.5e-7)
    of_calls = write_receipt(exchange(compressed(3000, 1000, untold_tokens=200)), Usage(1300))
    assert of_calls.saved_usd == pytest.approx(2100 * 1.5e-7)


def test_the_last_step_of_a_cache_is_lost_once_not_in_proportion() -> None:
    done = compressed(8_000, 2_000, prefix_tokens=1_900, prefix_original_tokens=7_600, prefix_hit_rate=1.0)
    full = uncompressed_usage(done, Usage(2_000, 1_792, cache_reported=True))
    assert full.cached_input_tokens == 7_600 - 108
    # Half of the prefix is gone for another reason: then half of it would be gone uncompressed, too.
    half = uncompressed_usage(done, Usage(2_000, 896, cache_reported=True))
    assert 3_500 < half.cached_input_tokens < 4_500


def test_a_marked_prompt_that_became_too_small_would_have_been_written_to_the_cache() -> None:
    marked = compressed(1_500, 800, body=b'{"cache_control":{"type":"ephemeral"}}')
    assert uncompressed_usage(marked, Usage(800, cache_reported=True)).cache_write_tokens == 1_500
    assert uncompressed_usage(compressed(1_500, 800), Usage(800)).cache_write_tokens == 0


def test_nothing_billed_nothing_saved() -> None:
    receipt = write_receipt(exchange(compressed(3000, 1000)), Usage())
    assert (receipt.cost_usd, receipt.saved_usd) == (0.0, 0.0)


def test_holdout_is_marked() -> None:
    done = compressed(10, 10, plan=replace(PLAN, reason="holdout"), status="skipped", skip_reason="holdout")
    receipt = write_receipt(exchange(done), Usage(10))
    assert receipt.holdout
    assert receipt.saved_usd == 0


def test_unknown_cache_prices_are_those_of_input() -> None:
    assert cost_of(Usage(100, 60, 20), Price(input=1e-6)) == pytest.approx(1e-4)


def test_headers_of_a_reply_and_of_a_stream() -> None:
    done = compressed(3000, 1000)
    receipt = write_receipt(exchange(done), Usage(1000, output_tokens=100))
    plain = receipt_headers(done, policy="défaut", receipt=receipt)
    assert plain == {
        "x-terse-tokens-before": "3000",
        "x-terse-tokens-after": "1000",
        "x-terse-tokens-saved": "2000",
        "x-terse-compression": "applied",
        "x-terse-cache": "miss",
        "x-terse-policy": "d?faut",
        "x-terse-overhead-ms": "12.3",
        "x-terse-cost-usd": "0.00021000",
        "x-terse-saved-usd": "0.00030000",
    }
    stream = receipt_headers(done, policy="p", price=HALF_PRICE)
    assert stream["x-terse-estimated"] == "true"
    assert stream["x-terse-saved-usd"] == "0.00030000"
    skipped = receipt_headers(replace(done, skip_reason="no-saving"), policy="p")
    assert skipped["x-terse-skip-reason"] == "no-saving"
    assert "x-terse-cost-usd" not in skipped


TOKENS = st.integers(0, 200_000)


@given(TOKENS, TOKENS, TOKENS, TOKENS, TOKENS, st.floats(0, 1), st.booleans(), st.booleans())
def test_the_counterfactual_is_a_possible_bill(
    before: int, after: int, prefix: int, original: int, cached: int, rate: float, broken: bool, writes: bool
) -> None:
    before, original = max(before, after), max(original, prefix)
    done = compressed(
        before,
        after,
        prefix_tokens=min(prefix, after),
        prefix_original_tokens=min(original, before),
        prefix_hit_rate=rate,
        broken_prefix_tokens=int(broken),
    )
    cached = min(cached, after)
    usage = Usage(after, cached, after - cached if writes else 0, 10, cache_reported=True)
    full = uncompressed_usage(done, usage)
    assert full.input_tokens >= usage.input_tokens
    assert 0 <= full.cached_input_tokens + full.cache_write_tokens <= full.input_tokens
    assert full.output_tokens == usage.output_tokens
    if before == after and not broken:
        assert full == usage
