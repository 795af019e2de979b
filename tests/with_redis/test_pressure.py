"""Budgets steer compression, over a real socket: more is cut as they empty, and what fits is not refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway.config import Secret
from gateway.settings import Settings
from tests.support.fake_upstream import FakeUpstream, fake_upstream
from tests.support.live_gateway import LiveGateway, live_gateway
from tests.with_redis.server import RedisServer

MASTER = "sk-master-of-the-tests"
YAML = """
upstreams: {up: {base_url: "%(url)s", api_key: sk-upstream}}
models: {gpt-4o-mini: {upstream: up, input_price: 1.0e-6, output_price: 1.0e-6}}
policies: {default: {mode: on, trigger_tokens: 200, keep: 0.8, min_keep: 0.1, protect: []}}
teams:
  eased: {budget: {usd: 0.1, per: total}, pressure: [{spent: 0.5, keep: 0.3}]}
  tight: {budget: {usd: 0.0022, per: total}, pressure: [{spent: 0.99, keep: 0.7}]}
  plain: {budget: {usd: 0.0022, per: total}}
"""
WORDS = "the meeting went on and then somebody said something about the weather and the plans for spring "


@pytest.fixture(scope="module")
def running(redis_server: RedisServer) -> Iterator[tuple[LiveGateway, FakeUpstream]]:
    settings = Settings(master_key=Secret(MASTER), redis_url=Secret(redis_server.url))
    with fake_upstream() as upstream, live_gateway(upstream, YAML, settings=settings) as gateway:
        yield gateway, upstream


def ask(gateway: LiveGateway, team: str, text: str, output: int = 100) -> httpx.Response:
    with gateway.client(authorization=f"Bearer {MASTER}") as admin:
        key = admin.post("/key/generate", json={"team_id": team}).json()["key"]
    body = {
        "model": "gpt-4o-mini",
        "max_tokens": output,
        "messages": [{"role": "user", "content": text}, {"role": "user", "content": "So what was said?"}],
    }
    with gateway.client(authorization=f"Bearer {key}") as client:
        return client.post("/v1/chat/completions", json=body)


def kept(response: httpx.Response) -> float:
    before, after = (int(response.headers[f"x-terse-tokens-{side}"]) for side in ("before", "after"))
    return after / before


def transcript(number: int) -> str:
    return f"Meeting {number}. " + WORDS * 120


def test_more_is_cut_as_the_budget_empties(running: tuple[LiveGateway, FakeUpstream]) -> None:
    gateway, upstream = running
    upstream.reset()
    upstream.usage = {"prompt_tokens": 60_000, "completion_tokens": 10, "total_tokens": 60_010}
    first = ask(gateway, "eased", transcript(1))
    assert first.status_code == 200, first.text
    assert 0.7 < kept(first) < 0.85
    second = ask(gateway, "eased", transcript(2))
    assert kept(second) < 0.35
    reasons = json.dumps(receipts(gateway, "eased")[0])
    assert "budget" in reasons


def test_what_can_be_made_to_fit_is_not_refused(running: tuple[LiveGateway, FakeUpstream]) -> None:
    gateway, upstream = running
    upstream.reset()
    # 2,200 tokens are left, the answer may take 1,000; 0.8 of the transcript are some 1,700.
    refused = ask(gateway, "plain", transcript(3), 1000)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "budget_exceeded")
    assert not upstream.seen
    fitted = ask(gateway, "tight", transcript(3), 1000)
    assert fitted.status_code == 200, fitted.text
    assert int(fitted.headers["x-terse-tokens-after"]) <= 1200


def receipts(gateway: LiveGateway, team: str) -> list[dict[str, Any]]:
    with gateway.client(authorization=f"Bearer {MASTER}") as admin:
        for _ in range(100):
            logs: list[dict[str, Any]] = admin.get("/spend/logs", params={"team_id": team}).json()
            if len(logs) == 2:
                return logs
    raise TimeoutError("the receipts were not booked")
