"""A whole conversation over sockets: stable bytes at the upstream, savings in the headers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import httpx
import orjson

from tests.support.chat_bodies import long_text
from tests.support.fake_upstream import FakeUpstream
from tests.support.live_gateway import LiveGateway
from tests.support.shortening import agent_turn


def usage(prompt: int, cached: int) -> dict[str, Any]:
    details = {"cached_tokens": cached}
    return {"prompt_tokens": prompt, "completion_tokens": 20, "prompt_tokens_details": details}


def ask(client: httpx.Client, messages: list[dict[str, Any]]) -> httpx.Response:
    done = client.post("/v1/chat/completions", json={"model": "gpt-4o-mini", "messages": messages})
    assert done.status_code == 200, done.text
    return done


def test_an_agents_conversation(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Fix the bug. " + "Be careful. " * 20}]
    saved = []
    with gateway.client() as client:
        for turn in range(6):
            upstream.usage = usage(2_000 + 500 * turn, 1_500 if turn else 0)
            done = ask(client, messages)
            saved.append(float(done.headers["x-terse-saved-usd"]))
            assert (done.headers["x-terse-compression"] == "applied") == (turn > 0)
            messages += agent_turn(turn, f"Run {turn}: {long_text(60)}")
    bodies = [seen.body for seen in upstream.seen]
    assert len(bodies) == 6
    assert all(after.startswith(before[: -len("]}")]) for before, after in pairwise(bodies))
    assert saved[0] == 0.0
    assert all(amount > 0 for amount in saved[1:])


def test_off_and_on_send_the_clients_bytes(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    body = orjson.dumps(
        {"model": "gpt-4o-mini", "messages": agent_turn(0, long_text(61)), "seed": 1},
        option=orjson.OPT_INDENT_2,
    )
    with gateway.client(**{"content-type": "application/json"}) as client:
        off = client.post("/v1/chat/completions", content=body, headers={"x-terse-compress": "off"})
        on = client.post("/v1/chat/completions", content=body)
    first, second = (seen.body for seen in upstream.seen)
    assert first == body
    assert off.headers["x-terse-compression"] == "off"
    assert on.headers["x-terse-compression"] == "applied"
    cut = body.index(b"(0)")
    assert second[:cut] == body[:cut]
    assert second.endswith(b'"seed": 1\n}')
