"""Time as well as money: how fast an upstream reads prompts, and policies that ask for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.engine.fake import FakeEngine
from gateway.compression.planner import USD_PER_SECOND, Costs, Rates, forecast
from gateway.compression.prefill import USUAL_TOKENS_PER_SECOND, PrefillSpeeds
from gateway.shapes import Usage
from tests.gateway.test_planner import BASE
from tests.support.chat_bodies import rag
from tests.support.fake_upstream import fake_upstream
from tests.support.live_gateway import live_gateway
from tests.support.shortening import Bench
from tests.support.waiting import until

DEAR = Rates(3e-6, 3e-7, 3.75e-6)
SLOW = Costs(DEAR, prefill_per_second=20_000, scored_per_second=2_500)  # 0.8 s of ours for 0.05 s of theirs
FAST = Costs(DEAR, prefill_per_second=20_000, scored_per_second=250_000)


@given(st.floats(50, 500_000), st.floats(0, 3), st.lists(st.integers(100, 100_000), min_size=10, max_size=60))
def test_the_speed_is_learnt_whatever_the_network_takes(
    speed: float, network: float, prompts: list[int]
) -> None:
    speeds = PrefillSpeeds()
    for tokens in prompts:
        speeds.note("m", tokens, network + tokens / speed)
    if max(prompts) > 1.5 * min(prompts):
        assert speeds.of("m") == pytest.approx(speed, rel=0.05)
    assert speeds.of("another") == USUAL_TOKENS_PER_SECOND


def test_too_little_or_senseless_figures_teach_nothing() -> None:
    speeds = PrefillSpeeds()
    for tokens in (1000, 2000, 3000):
        speeds.note("few", tokens, 1.0)
    for number in range(20):
        speeds.note("equal", 1000, 1.0 + number / 10)
        speeds.note("faster when longer", 1000 * (number + 1), 30.0 - number)
        speeds.note("nothing", 0, 1.0)
    for model in ("few", "equal", "faster when longer", "nothing"):
        assert speeds.of(model) == USUAL_TOKENS_PER_SECOND


def test_money_alone_counts_unless_the_policy_says_more() -> None:
    prospect = replace(BASE, old_tokens=0, old_kept=0, old_untouched=0, score_old=0)
    assert forecast(prospect, SLOW).choice == "new"
    bound = forecast(prospect, replace(SLOW, slower_never=True))
    assert (bound.choice, bound.too_slow) == ("as-is", True)
    assert bound.seconds["new"] < 0
    assert forecast(prospect, replace(FAST, slower_never=True)).choice == "new"
    # 0.75 s at $30 an hour is more than 1,000 tokens cost.
    assert forecast(prospect, replace(SLOW, usd_per_second=USD_PER_SECOND)).choice == "as-is"
    assert forecast(prospect, replace(FAST, usd_per_second=USD_PER_SECOND)).choice == "new"


async def test_a_policy_bounds_the_time_by_what_the_upstream_was_seen_to_take() -> None:
    bench = Bench(engine=FakeEngine(delay=0.2))
    for number in range(4):  # teaches the engine's own speed
        await bench.shorten(rag("Which colour?", sentences=190 + number))
    bench.with_policy(latency="bound")
    scored = bench.shortener._scores.expected_seconds(4000)
    assert scored is not None
    ours = 1000 / scored  # tokens a second
    for number in range(1, 20):
        tokens = 1000 * number
        bench.shortener.note_first_token("gpt-4o-mini", Usage(tokens), 0.2 + tokens / (100 * ours))
    slower = await bench.shorten(rag("Which price?", sentences=201))
    assert (slower.status, slower.skip_reason) == ("skipped", "latency")
    for number in range(1, 400):
        tokens = 1000 * (number % 20 + 1)
        bench.shortener.note_first_token("gpt-4o-mini", Usage(tokens), 0.2 + tokens / (ours / 100))
    assert (await bench.shorten(rag("Which day?", sentences=202))).status == "applied"


def test_streams_teach_the_gateway_and_plain_replies_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[tuple[str, int, float]] = []
    monkeypatch.setattr(PrefillSpeeds, "note", lambda self, *given: noted.append(given))
    with fake_upstream() as upstream, live_gateway(upstream) as running, running.client() as client:
        body = {**rag(), "stream": True, "stream_options": {"include_usage": True}}
        streamed = client.post("/v1/chat/completions", json=body)
        assert client.post("/v1/chat/completions", json=rag()).status_code == 200
        until(lambda: bool(noted))
        told = [event for event in streamed.text.split("\n") if '"usage"' in event][-1]
    [(model, tokens, seconds)] = noted
    assert model == "gpt-4o-mini"
    assert f'"prompt_tokens":{tokens}' in told
    assert 0 < seconds < 60
