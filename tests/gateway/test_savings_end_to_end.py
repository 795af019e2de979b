"""A whole conversation over sockets: stable bytes at the upstream, savings in the headers."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import httpx
import orjson
import pytest

from tests.support.chat_bodies import long_text
from tests.support.fake_upstream import FakeUpstream, fake_upstream
from tests.support.live_gateway import LiveGateway, live_gateway
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


PRICED = """
upstreams:
  up: {base_url: "%(url)s", api_key: sk-upstream}
  native: {base_url: "%(url)s", anthropic: true, api_key: sk-ant}
models:
  gpt-4o-mini: {upstream: up, input_price: 1.5e-6, output_price: 2e-6, cache_read_price: 0.75e-6}
  claude:
    {upstream: native, tokenizer: o200k_base, input_price: 1.5e-6, cache_read_price: 0.75e-6}
policies:
  default: {trigger_tokens: 256}
"""
ROWS = [{"id": 7000 + n, "state": "done", "note": None, "at": {"rack": n % 9, "unit": n}} for n in range(80)]
LOG = "\n".join(
    f"2026-11-24 10:{n // 60:02d}:{n % 60:02d} INFO worker-{n % 4} finished job {9000 + n} in {n} ms"
    for n in range(120)
)


def of_turn(surface: str, turn: int) -> list[dict[str, Any]]:
    """A call and its result, JSON and a log in turn, as each API writes them."""
    text = json.dumps(ROWS, indent=1) if turn % 2 else f"{LOG}\nERROR db-{turn}.internal refused\n{LOG}"
    name, arguments = "bash", {"command": f"look {turn}"}
    if surface == "chat":
        function = {"name": name, "arguments": json.dumps(arguments)}
        call = {"id": f"c{turn}", "type": "function", "function": function}
        return [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{turn}", "content": text},
        ]
    if surface == "responses":
        call = {
            "type": "function_call",
            "call_id": f"c{turn}",
            "name": name,
            "arguments": json.dumps(arguments),
        }
        return [call, {"type": "function_call_output", "call_id": f"c{turn}", "output": text}]
    use = {"type": "tool_use", "id": f"c{turn}", "name": name, "input": arguments}
    result = {"type": "tool_result", "tool_use_id": f"c{turn}", "content": [{"type": "text", "text": text}]}
    return [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]


def results_in(surface: str, body: dict[str, Any]) -> list[str]:
    if surface == "chat":
        return [each["content"] for each in body["messages"] if each["role"] == "tool"]
    if surface == "responses":
        return [each["output"] for each in body["input"] if each.get("type") == "function_call_output"]
    blocks = [block for each in body["messages"] for block in each["content"] if each["role"] == "user"]
    return [block["content"][0]["text"] for block in blocks if block["type"] == "tool_result"]


@pytest.mark.parametrize(
    ("surface", "path"),
    [("chat", "/v1/chat/completions"), ("responses", "/v1/responses"), ("messages", "/v1/messages")],
)
def test_an_agents_old_results_over_each_api(surface: str, path: str) -> None:
    start = [
        {"role": "user", "content": [{"type": "text", "text": "Why?"}] if surface == "messages" else "Why?"}
    ]
    items, client_sent = list(start), []
    with fake_upstream() as upstream, live_gateway(upstream, PRICED) as running, running.client() as client:
        for turn in range(14):
            items += of_turn(surface, turn)
            body: dict[str, Any] = {"model": "claude" if surface == "messages" else "gpt-4o-mini"}
            body["input" if surface == "responses" else "messages"] = list(items)
            if surface == "messages":
                body["max_tokens"] = 100
            client_sent.append(body)
            reply = client.post(path, json=body)
            assert reply.status_code == 200, reply.text
            assert reply.headers["x-terse-compression"] == "applied"
        sent = [seen.json for seen in upstream.seen]
    key = "input" if surface == "responses" else "messages"
    assert [len(each[key]) for each in sent] == [len(each[key]) for each in client_sent]
    last = results_in(surface, sent[-1])
    original = results_in(surface, client_sent[-1])
    assert all(f"ERROR db-{turn}.internal refused" in last[turn] for turn in range(0, 14, 2))
    rows = [json.loads(text) for text in last[1::2]]
    said = [{key: value for key, value in row.items() if value is not None} for row in ROWS]
    assert all(row in (*ROWS, *said) for some in rows for row in some)
    assert rows[-1] == ROWS and "\n" not in last[-1]  # a new one loses its layout, and nothing else
    assert len(rows[0]) < 10  # an old one its rows
    assert len(last[0]) < 0.75 * len(last[12])
    assert sum(map(len, last)) < 0.4 * sum(map(len, original))
    changed = [
        results_in(surface, after)[: len(results_in(surface, before))] != results_in(surface, before)
        for before, after in pairwise(sent)
    ]
    assert 1 <= sum(changed) <= 5  # compactions, and stable in between
