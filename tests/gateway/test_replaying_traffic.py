"""`policy replay` and `policy explain` against what the gateway really did to one conversation."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.accounting.receipts import write_receipt
from gateway.config import Config, ModelConfig
from gateway.configuration.explaining import Question, explain
from gateway.configuration.replaying import Replay, read_log, replay_as_data, replay_traffic
from gateway.configuration_file import parse_config
from gateway.settings import Settings
from gateway.shapes import Caller, Usage
from gateway.stores.base import Spent
from gateway.stores.books import entry_of
from policies import Match
from policies.shapes import PressureStep, Team
from tests.gateway.test_receipts import exchange
from tests.support.chat_bodies import long_text
from tests.support.shortening import HALF_PRICE, Bench, agent_turn, parsed

YAML = """
models: {gpt-4o-mini: {upstream: up}}
upstreams: {up: {base_url: "http://127.0.0.1:9"}}
policies: {default: {trigger_tokens: 2000, keep: 0.4, old_results: off}}  # replay cannot know of compactions
"""
SIZES = (4, 30, 2, 60, 3, 25, 70, 5, 40, 90)  # sentences of each result: some below an eighth of the trigger
AT = datetime(2026, 11, 22, 12, tzinfo=UTC)


def configuration() -> Config:
    return parse_config(YAML, "terse.yaml", Settings()).config


def replayed(line: bytes, tmp_path: Path) -> dict[str, Any]:
    """What the same policy would have done to one logged request."""
    log = tmp_path / "log.jsonl"
    log.write_bytes(line)
    outcome = Replay()
    replay_traffic(configuration(), read_log(str(log), outcome), outcome, compressible_share=0.8)
    total = replay_as_data(outcome)["total"]
    assert total["requests"] == 1
    return dict(total)


async def test_replay_says_of_each_turn_what_the_gateway_did(tmp_path: Path) -> None:
    bench = Bench(price=HALF_PRICE, policy=configuration().policies["default"])
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Find out why the job fails."}]
    saved_before, shortened = 0, []
    for turn, sentences in enumerate(SIZES):
        messages += agent_turn(turn, long_text(sentences))
        bench.now += 20
        sent = await bench.shorten({"model": "gpt-4o-mini", "messages": messages})
        await bench.observe(sent)
        receipt = write_receipt(exchange(sent), Usage(sent.tokens_after, cache_reported=True))
        said = replayed(orjson.dumps(entry_of(receipt)) + b"\n", tmp_path)
        saved = sent.tokens_before - sent.tokens_after - saved_before
        saved_before += saved
        shortened.append(saved > 0)
        assert bool(said["shortened"]) == (saved > 0), (turn, sent.plan, said)
        # The gateway reaches the planned number within two of a hundred, and a word.
        assert said["tokens_saved"] == pytest.approx(saved, rel=0.03, abs=8)
    # The small ones were left alone, before and after the conversation had reached the trigger.
    assert shortened == [False, False, False, True, False, True, True, False, True, True]


async def test_explain_tells_the_plan_of_a_request_in_the_middle_of_a_conversation() -> None:
    config = configuration()
    policy = config.policies["default"]
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Find out why the job fails."}]
    messages += agent_turn(0, long_text(150))
    bench = Bench(price=HALF_PRICE, policy=policy)
    await bench.shorten({"model": "gpt-4o-mini", "messages": messages})
    messages += agent_turn(1, long_text(40))
    team = Team("search", pressure=(PressureStep(0.8, 0.25),))
    for spent in (0.0, 0.9):
        request = parsed({"model": "gpt-4o-mini", "messages": messages})
        sent = await Bench(price=HALF_PRICE, policy=policy, store=bench.store).shortener.shorten(
            request,
            Caller(team, "anonymous"),
            Match("0", policy, ""),
            model=ModelConfig("gpt-4o-mini", "up"),
            price=HALF_PRICE,
            spent=Spent(spent),
        )
        question = Question("gpt-4o-mini", "search", request.path, 0, AT, spent=spent, request=request)
        told = explain(replace(config, teams={"search": team}), question)
        assert (told.plan.compress, told.plan.target) == (sent.plan.compress, sent.plan.target)
        assert sent.plan.steps[: len(told.plan.steps)] == told.plan.steps
        assert told.plan.earlier > 0 and told.plan.compressible == sent.plan.compressible
        assert [part.earlier for part in told.parts if not part.stays] == [True, False]
        bench = Bench(price=HALF_PRICE, policy=policy)
        await bench.shorten({"model": "gpt-4o-mini", "messages": messages[:3]})
