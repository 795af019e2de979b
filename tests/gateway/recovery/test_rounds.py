"""The tool over real sockets: plain and streamed, with the client's own tools, bounded, paid for, private."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import orjson
import pytest

from gateway.config import Secret
from gateway.recovery.rounds import MOST_ROUNDS, added
from gateway.recovery.tool import DEFINITION, NAME
from gateway.settings import Settings
from tests.support.chat_bodies import WEATHER_TOOL, chat, rag
from tests.support.fake_upstream import FakeUpstream, Script, fake_upstream
from tests.support.live_gateway import LiveGateway, live_gateway
from tests.support.waiting import recent, until

YAML = """
upstreams: {up: {base_url: "%(url)s", api_key: sk-upstream}}
models: {gpt-4o-mini: {upstream: up, input_price: 1e-6, output_price: 2e-6, context_window: 100000}}
policies: {default: {trigger_tokens: 256, recovery: true}}
"""
USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 20,
    "total_tokens": 1020,
    "prompt_tokens_details": {"cached_tokens": 0},
}
ASKED = '{"query": "Invoice EUR approved delivery Rotterdam"}'


def call(name: str = NAME, arguments: str = ASKED, id: str = "call_1") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def plain(content: str | None = None, *calls: dict[str, Any]) -> Script:
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if calls:
        message["tool_calls"] = list(calls)
    finish = "tool_calls" if calls else "stop"
    value = {
        "id": "chatcmpl-7",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini",
        "usage": USAGE,
    }
    value["choices"] = [{"index": 0, "message": message, "finish_reason": finish}]
    return Script(
        headers={"content-type": "application/json"}, body=orjson.dumps(value, option=orjson.OPT_INDENT_2)
    )


def streamed(
    *deltas: dict[str, Any], finish: str = "stop", id: str = "chatcmpl-1", usage: bool = True
) -> Script:
    base = {"id": id, "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
    values: list[dict[str, Any]] = [
        {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in ({"role": "assistant", "content": ""}, *deltas)
    ]
    values.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if usage:
        values.append({**base, "choices": [], "usage": USAGE})
    chunks = [b"data: " + orjson.dumps(value) + b"\n\n" for value in values] + [b"data: [DONE]\n\n"]
    return Script(headers={"content-type": "text/event-stream"}, chunks=chunks)


def parts(name: str = NAME, arguments: str = ASKED, index: int = 0) -> list[dict[str, Any]]:
    """A tool call in three deltas."""
    head = {
        "index": index,
        "id": f"call_{index}",
        "type": "function",
        "function": {"name": name, "arguments": ""},
    }
    halves = (arguments[:7], arguments[7:])
    return [
        {"tool_calls": [head]},
        *({"tool_calls": [{"index": index, "function": {"arguments": half}}]} for half in halves),
    ]


@contextmanager
def gateway(upstream: FakeUpstream, folder: Path, yaml: str = YAML) -> Iterator[LiveGateway]:
    with live_gateway(upstream, yaml, settings=Settings(data_dir=str(folder))) as running:
        yield running


def ask(running: LiveGateway, body: dict[str, Any], **headers: str) -> httpx.Response:
    with running.client(**headers) as client:
        return client.post("/v1/chat/completions", json=body)


def events(text: str) -> list[dict[str, Any]]:
    lines = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    return [orjson.loads(line) for line in lines if line != "[DONE]"]


def test_the_gateway_answers_the_call_and_the_model_goes_on(tmp_path: Path) -> None:
    body = rag()
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running:
        upstream.then(plain(None, call()), plain("It is due on 2026-03-14."))
        reply = ask(running, body)
        until(lambda: len(recent(tmp_path)) == 1)
    first, second = (seen.json for seen in upstream.seen)
    assert first["tools"] == [DEFINITION] and first["messages"][1] != body["messages"][1]
    assert second["messages"][:2] == first["messages"]
    assert second["messages"][2]["tool_calls"][0]["id"] == "call_1"
    result = second["messages"][3]
    assert (result["role"], result["tool_call_id"]) == ("tool", "call_1")
    assert (
        "Invoice 4711 of 12,500.75 EUR was approved, and the delivery is due on 2026-03-14 in Rotterdam."
        in result["content"]
    )
    value = reply.json()
    assert value["choices"][0]["message"] == {"role": "assistant", "content": "It is due on 2026-03-14."}
    assert value["choices"][0]["finish_reason"] == "stop"
    assert value["usage"] == {
        "prompt_tokens": 2000,
        "completion_tokens": 40,
        "total_tokens": 2040,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    [entry] = recent(tmp_path)
    assert (entry["input_tokens"], entry["output_tokens"]) == (2000, 40)
    assert entry["cost_usd"] == pytest.approx(2000e-6 + 40 * 2e-6)
    # Uncompressed there had been one call, and its output had been that of the last round.
    kept = entry["tokens_after"] / entry["tokens_before"]
    assert entry["counterfactual_usd"] < (1000 / kept * 1.1) * 1e-6 + 20 * 2e-6 + 1e-9


def test_a_stream_is_one_answer_for_the_client(tmp_path: Path) -> None:
    body = rag(stream=True, stream_options={"include_usage": True})
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running:
        upstream.then(
            streamed({"content": "Let me see. "}, *parts(), finish="tool_calls"),
            streamed({"content": "It is due "}, {"content": "in March."}, id="chatcmpl-2"),
        )
        text = ask(running, body).text
        until(lambda: len(recent(tmp_path)) == 1)
    assert text.endswith("data: [DONE]\n\n") and text.count("[DONE]") == 1
    seen = events(text)
    assert (
        "".join(choice["delta"].get("content") or "" for event in seen for choice in event["choices"])
        == "Let me see. It is due in March."
    )
    assert {event["id"] for event in seen} == {"chatcmpl-1"}
    assert [
        choice["finish_reason"] for event in seen for choice in event["choices"] if choice["finish_reason"]
    ] == ["stop"]
    assert NAME not in text
    assert seen[-1]["choices"] == [] and seen[-1]["usage"]["prompt_tokens"] == 2000
    again = upstream.seen[1].json["messages"]
    assert (
        again[2]["content"] == "Let me see. " and again[2]["tool_calls"][0]["function"]["arguments"] == ASKED
    )
    assert recent(tmp_path)[0]["input_tokens"] == 2000


def test_text_comes_before_the_rounds_are_over(tmp_path: Path) -> None:
    gate = threading.Event()
    first = streamed({"content": "Let me see. "}, *parts(), finish="tool_calls")
    late = Script(headers=first.headers, chunks=[b"".join(first.chunks[:2]), *first.chunks[2:]], gate=gate)
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running, running.client() as client:
        upstream.then(late, streamed({"content": "March."}))
        with client.stream("POST", "/v1/chat/completions", json=rag(stream=True)) as reply:
            chunks = reply.iter_text()
            seen = ""
            while "Let me see." not in seen:
                seen += next(chunks)
            gate.set()
            seen += "".join(chunks)
    assert "March." in seen and seen.count("[DONE]") == 1


def test_a_stream_that_asked_for_no_usage_gets_no_usage_chunk_but_is_booked(tmp_path: Path) -> None:
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running:
        upstream.then(streamed(*parts(), finish="tool_calls"), streamed({"content": "March."}))
        seen = events(ask(running, rag(stream=True)).text)
        until(lambda: len(recent(tmp_path)) == 1)
    assert all(event["choices"] for event in seen)
    assert recent(tmp_path)[0]["input_tokens"] == 2000


def test_the_official_client_sees_nothing_of_it(tmp_path: Path) -> None:
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running:
        client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0)
        upstream.then(plain(None, call()), plain("March."))
        whole = client.chat.completions.create(**rag())
        assert (whole.choices[0].message.content, whole.choices[0].message.tool_calls) == ("March.", None)
        upstream.then(streamed(*parts(), finish="tool_calls"), streamed({"content": "March."}))
        chunks = list(client.chat.completions.create(**rag("Again?"), stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "March."
        client.close()


def test_an_answer_without_the_call_is_byte_exact(tmp_path: Path) -> None:
    script = plain("March.")
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running:
        upstream.then(script)
        assert ask(running, rag()).content == script.body


def test_the_clients_own_tools_go_out_and_ours_does_not(tmp_path: Path) -> None:
    body = rag(tools=[WEATHER_TOOL])
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running:
        upstream.then(plain(None, call("get_weather", '{"city":"Paris"}', "call_9")))
        alone = ask(running, body).json()["choices"][0]
        upstream.then(plain("Hm.", call(), call("get_weather", '{"city":"Paris"}', "call_9")))
        mixed = ask(running, body).json()["choices"][0]
        upstream.then(streamed(*parts(), *parts("get_weather", '{"city":"Paris"}', 1), finish="tool_calls"))
        text = ask(running, {**body, "stream": True}).text
    assert [tool["function"]["name"] for tool in upstream.seen[0].json["tools"]] == ["get_weather", NAME]
    assert len(upstream.seen) == 3
    assert [each["id"] for each in alone["message"]["tool_calls"]] == ["call_9"]
    assert [each["id"] for each in mixed["message"]["tool_calls"]] == ["call_9"]
    assert (mixed["finish_reason"], mixed["message"]["content"]) == ("tool_calls", "Hm.")
    calls = [
        part
        for event in events(text)
        for choice in event["choices"]
        for part in choice["delta"].get("tool_calls") or []
    ]
    assert {part["index"] for part in calls} == {0} and NAME not in text
    assert "".join(part["function"].get("arguments") or "" for part in calls) == '{"city":"Paris"}'


@pytest.mark.parametrize("stream", [False, True])
def test_rounds_are_bounded(tmp_path: Path, stream: bool) -> None:
    again = streamed(*parts(), finish="tool_calls") if stream else plain(None, call())
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running:
        upstream.then(*[again] * 20)
        reply = ask(running, rag(stream=stream))
    assert len(upstream.seen) == MOST_ROUNDS + 1
    assert upstream.seen[-1].json["tool_choice"] == "none"
    finishes = [
        choice["finish_reason"]
        for value in (events(reply.text) if stream else [reply.json()])
        for choice in value["choices"]
        if choice["finish_reason"]
    ]
    assert reply.status_code == 200 and finishes == ["stop"] and NAME not in reply.text


def test_the_last_round_takes_the_tool_away_where_there_are_others(tmp_path: Path) -> None:
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running:
        upstream.then(*[plain(None, call())] * MOST_ROUNDS, plain("March."))
        assert ask(running, rag(tools=[WEATHER_TOOL])).json()["choices"][0]["message"]["content"] == "March."
    last = upstream.seen[-1].json
    assert (last["tools"], last["tool_choice"]) == ([WEATHER_TOOL], "auto")


@pytest.mark.parametrize(
    "more",
    [
        {"tool_choice": "required", "tools": [WEATHER_TOOL]},
        {"tool_choice": "none"},
        {"n": 2},
        {"tools": [DEFINITION]},
        {"functions": [{"name": "x"}]},
    ],
)
def test_where_the_client_leaves_no_room_nothing_is_offered(tmp_path: Path, more: dict[str, Any]) -> None:
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running:
        reply = ask(running, rag(**more))
    assert reply.headers["x-terse-compression"] == "applied"
    assert upstream.seen[0].json.get("tools") == more.get("tools")


def test_what_is_not_shortened_is_sent_as_it_came(tmp_path: Path) -> None:
    body = orjson.dumps(chat("short"), option=orjson.OPT_INDENT_2)
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running, running.client() as client:
        client.post("/v1/chat/completions", content=body)
        assert upstream.seen[0].body == body
    off = YAML.replace("recovery: true", "recovery: false")
    with fake_upstream() as upstream, gateway(upstream, tmp_path, off) as running:
        ask(running, rag())
        assert "tools" not in upstream.seen[0].json


NO = Script(status=400, headers={"content-type": "application/json"}, body=b'{"error":{"message":"no"}}')


@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_that_refuses_the_answer_gets_the_clients_own_request(
    tmp_path: Path, stream: bool
) -> None:
    body = rag(stream=stream)
    first = streamed(*parts(), finish="tool_calls") if stream else plain("Hm.", call())
    last = streamed({"content": "March."}) if stream else plain("March.")
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running:
        upstream.then(first, NO, last)
        reply = ask(running, body)
        until(lambda: len(recent(tmp_path)) == 1)
        with running.client() as client:
            assert (
                'terse_recovery_calls_total{policy="default",result="refused"} 1.0'
                in client.get("/metrics").text
            )
    assert reply.status_code == 200
    values = events(reply.text) if stream else [reply.json()]
    told = [choice.get("message") or choice["delta"] for value in values for choice in value["choices"]]
    assert "".join(each.get("content") or "" for each in told) == "March."
    assert NAME not in reply.text
    assert upstream.seen[2].json == body
    assert recent(tmp_path)[0]["input_tokens"] == 2000


def test_a_broken_later_round_is_an_error_and_no_hold_stays(tmp_path: Path) -> None:
    yaml = YAML.replace("input_price", "limits: {concurrent_requests: 4}, input_price")
    with fake_upstream() as upstream, gateway(upstream, tmp_path, yaml) as running:
        for _ in range(4):
            upstream.then(plain(None, call()), NO, NO)
            reply = ask(running, rag())
            assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_broke")
            # Text is out already, so there is no way back.
            upstream.then(streamed({"content": "Let me see."}, *parts(), finish="tool_calls"), NO)
            text = ask(running, rag(stream=True)).text
            assert '"upstream_broke"' in text and "Let me see." in text
        # The last stream's holds go back just after its last byte.
        until(lambda: ask(running, rag()).status_code == 200)


def test_every_round_is_admitted_and_a_spent_budget_ends_them(tmp_path: Path) -> None:
    yaml = YAML.replace("input_price", "limits: {requests_per_minute: 3}, input_price")
    with fake_upstream() as upstream, gateway(upstream, tmp_path, yaml) as running:
        upstream.then(plain(None, call()), plain("March."))
        assert ask(running, rag()).status_code == 200
        upstream.then(plain(None, call()), plain("March."))
        reply = ask(running, rag())
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert len(upstream.seen) == 3


def test_a_client_that_leaves_ends_the_later_round(tmp_path: Path) -> None:
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running, running.client() as client:
        upstream.then(streamed({"content": "Let me see."}, *parts(), finish="tool_calls"), Script(hang=True))
        with client.stream("POST", "/v1/chat/completions", json=rag(stream=True)) as reply:
            chunks = reply.iter_text()
            while "Let me see." not in next(chunks):
                pass
            until(lambda: len(upstream.seen) == 2)
        assert upstream.client_left()


def test_calls_are_counted(tmp_path: Path) -> None:
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running:
        upstream.then(plain(None, call(), call(arguments="not json", id="call_2")), plain("March."))
        ask(running, rag())
        with running.client() as client:
            assert (
                'terse_recovery_calls_total{policy="default",result="answered"} 2.0'
                in client.get("/metrics").text
            )
    assert len(upstream.seen[1].json["messages"]) == 5


def test_usages_are_added_at_every_depth() -> None:
    assert added([{"a": 1, "d": {"x": 1}}, {"a": 2.5, "b": None, "d": {"x": 2, "y": 3}}]) == {
        "a": 3.5,
        "b": None,
        "d": {"x": 3, "y": 3},
    }


def test_the_client_can_read_the_original_and_other_teams_cannot(tmp_path: Path) -> None:
    keys = Settings(data_dir=str(tmp_path), master_key=Secret("sk-master"))
    with fake_upstream() as upstream, live_gateway(upstream, YAML, settings=keys) as running:
        master = {"authorization": "Bearer sk-master"}
        with running.client() as client:
            made = [
                client.post("/key/generate", json={"team_id": team}, headers=master).json()["key"]
                for team in ("search", "ads")
                if client.post("/team/new", json={"team_id": team}, headers=master).status_code == 200
            ]
            own, other = ({"authorization": f"Bearer {key}"} for key in made)
            body = rag()
            name = client.post("/v1/chat/completions", json=body, headers=own).headers["x-terse-retrieve"]
            whole = client.get(f"/v1/retrieve/{name}", headers=own)
            assert whole.json() == {"hash": name, "content": body["messages"][1]["content"], "whole": True}
            part = client.get(
                f"/v1/retrieve/{name}", params={"query": "Invoice Rotterdam"}, headers=own
            ).json()
            assert "Invoice 4711" in part["content"] and not part["whole"]
            assert client.get(f"/v1/retrieve/{name}", headers=other).status_code == 404
            assert client.get(f"/v1/retrieve/{name}").status_code == 401
