"""The tool in Anthropic's API and in OpenAI's Responses API, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import orjson
import pytest

from gateway.chat.event_stream import write_event
from gateway.recovery import messages, responses
from gateway.recovery.rounds import MOST_ROUNDS
from gateway.recovery.tool import NAME
from gateway.settings import Settings
from tests.support.chat_bodies import rag
from tests.support.fake_upstream import FakeUpstream, Script, fake_upstream
from tests.support.live_gateway import LiveGateway, live_gateway
from tests.support.waiting import recent, until

YAML = """
upstreams:
  up: {base_url: "%(url)s", api_key: sk-upstream}
  claude: {base_url: "%(root)s", anthropic: true, api_key: sk-upstream}
models:
  gpt-4o-mini: {upstream: up, input_price: 1e-6, output_price: 2e-6, context_window: 100000}
  claude: {upstream: claude, input_price: 1e-6, output_price: 2e-6, context_window: 100000}
policies: {default: {trigger_tokens: 256, recovery: true}}
"""
ASKED = {"query": "Invoice EUR approved delivery Rotterdam"}
FOUND = "Invoice 4711 of 12,500.75 EUR was approved, and the delivery is due on 2026-03-14 in Rotterdam."
JSON_TYPE = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream"}
CLIENTS_TOOL = {"name": "weather", "description": "Tells it.", "input_schema": {"type": "object"}}


@contextmanager
def gateway(upstream: FakeUpstream, folder: Path) -> Iterator[LiveGateway]:
    yaml = YAML % {"url": upstream.url, "root": upstream.root}
    with live_gateway(upstream, yaml, settings=Settings(data_dir=str(folder))) as running:
        yield running


def document() -> str:
    content = rag()["messages"][1]["content"]
    assert isinstance(content, str)
    return content


def to_messages(**more: Any) -> dict[str, Any]:
    turn = {"role": "user", "content": document()}
    return {"model": "claude", "max_tokens": 100, "messages": [turn], **more}


def to_responses(**more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "input": document(), **more}


def used(name: str = NAME, id: str = "toolu_1") -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": ASKED if name == NAME else {}}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def message(*blocks: dict[str, Any], stop: str = "tool_use") -> Script:
    value = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": list(blocks),
        "stop_reason": stop, "stop_sequence": None,
        "usage": {"input_tokens": 400, "cache_read_input_tokens": 600, "output_tokens": 20},
    }  # fmt: skip
    return Script(headers=JSON_TYPE, body=orjson.dumps(value))


def streamed_message(*blocks: dict[str, Any], stop: str = "tool_use") -> Script:
    started: dict[str, Any] = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [],
        "stop_reason": None, "stop_sequence": None,
        "usage": {"input_tokens": 400, "cache_read_input_tokens": 600, "output_tokens": 1},
    }  # fmt: skip
    values: list[dict[str, Any]] = [{"type": "message_start", "message": started}, {"type": "ping"}]
    for index, block in enumerate(blocks):
        if block["type"] == "text":
            opened, deltas = text(""), [{"type": "text_delta", "text": w} for w in block["text"].split(" ")]
        else:
            data = orjson.dumps(block["input"]).decode()
            opened = {**block, "input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": p} for p in (data[:5], data[5:])]
        values.append({"type": "content_block_start", "index": index, "content_block": opened})
        values += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        values.append({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": stop, "stop_sequence": None}
    values.append({"type": "message_delta", "delta": ended, "usage": {"output_tokens": 20}})
    values.append({"type": "message_stop"})
    return Script(headers=EVENTS, chunks=[named(value) for value in values])


def named(value: dict[str, Any]) -> bytes:
    return write_event(value, value["type"])


def call_item(name: str = NAME) -> dict[str, Any]:
    arguments = orjson.dumps(ASKED).decode()
    return {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": name, "arguments": arguments,
            "status": "completed"}  # fmt: skip


def said_item(said: str, id: str = "msg_1") -> dict[str, Any]:
    part = {"type": "output_text", "text": said, "annotations": []}
    return {"id": id, "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def response(*items: dict[str, Any], number: int = 1) -> dict[str, Any]:
    return {
        "id": f"resp_{number}", "object": "response", "created_at": 1_700_000_000, "status": "completed",
        "model": "gpt-4o-mini", "output": list(items), "parallel_tool_calls": True, "tool_choice": "auto",
        "tools": [dict(responses.DEFINITION)], "error": None, "incomplete_details": None,
        "instructions": None, "metadata": {}, "temperature": 1.0, "top_p": 1.0,
        "usage": {"input_tokens": 1000, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 20,
                  "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 1020},
    }  # fmt: skip


def plain_response(*items: dict[str, Any], number: int = 1) -> Script:
    return Script(headers=JSON_TYPE, body=orjson.dumps(response(*items, number=number)))


def streamed_response(*items: dict[str, Any], number: int = 1) -> Script:
    whole = response(*items, number=number)
    values: list[dict[str, Any]] = [{"type": "response.created", "response": {**whole, "output": []}}]
    for index, item in enumerate(items):
        values.append({"type": "response.output_item.added", "output_index": index, "item": item})
        place = {"output_index": index, "item_id": item["id"]}
        if item["type"] == "message":
            part = item["content"][0]
            place = {**place, "content_index": 0}
            values.append({"type": "response.content_part.added", **place, "part": {**part, "text": ""}})
            values.append({"type": "response.output_text.delta", **place, "delta": part["text"]})
            values.append({"type": "response.output_text.done", **place, "text": part["text"]})
        else:
            delta = {"delta": item["arguments"]}
            values.append({"type": "response.function_call_arguments.delta", **place, **delta})
        values.append({"type": "response.output_item.done", "output_index": index, "item": item})
    values.append({"type": "response.completed", "response": whole})
    chunks = [named({**value, "sequence_number": n}) for n, value in enumerate(values)]
    return Script(headers=EVENTS, chunks=chunks)


def ask(running: LiveGateway, path: str, body: dict[str, Any]) -> httpx.Response:
    with running.client() as client:
        return client.post(path, json=body)


def events(reply: httpx.Response) -> list[dict[str, Any]]:
    return [orjson.loads(line[6:]) for line in reply.text.split("\n") if line.startswith("data: ")]


def test_anthropics_tool_is_answered_and_the_model_goes_on(tmp_path: Path) -> None:
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running:
        thought = {"type": "thinking", "thinking": "Hm.", "signature": "sig"}
        upstream.then(message(thought, text("One moment."), used()))
        upstream.then(message(text("On 2026-03-14."), stop="end_turn"))
        reply = ask(running, "/v1/messages", to_messages()).json()
        until(lambda: len(recent(tmp_path)) == 1)
    first, second = (seen.json for seen in upstream.seen)
    assert first["tools"] == [messages.DEFINITION]
    # What the model said goes back as it came, thinking and its signature included.
    assert second["messages"][1]["content"] == [thought, text("One moment."), used()]
    [result] = second["messages"][2]["content"]
    assert (result["type"], result["tool_use_id"]) == ("tool_result", "toolu_1")
    assert FOUND in result["content"]
    assert reply["content"] == [thought, text("One moment."), text("On 2026-03-14.")]
    assert reply["stop_reason"] == "end_turn"
    assert reply["usage"] == {"input_tokens": 800, "cache_read_input_tokens": 1200, "output_tokens": 40}
    assert recent(tmp_path)[0]["input_tokens"] == 2000


def test_anthropics_stream_is_one_answer(tmp_path: Path) -> None:
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running:
        upstream.then(streamed_message(text("One moment."), used()))
        upstream.then(streamed_message(text("On 2026-03-14."), stop="end_turn"))
        got = events(ask(running, "/v1/messages", to_messages(stream=True)))
        until(lambda: len(recent(tmp_path)) == 1)
    assert [value["type"] for value in got].count("message_start") == 1
    starts = [value for value in got if value["type"] == "content_block_start"]
    assert [(value["index"], value["content_block"]["type"]) for value in starts] == [
        (0, "text"),
        (1, "text"),
    ]
    deltas = [v["delta"]["text"] for v in got if v["type"] == "content_block_delta" and v["index"] == 1]
    assert " ".join(deltas) == "On 2026-03-14."
    assert got[-1]["type"] == "message_stop" and got[-2]["delta"]["stop_reason"] == "end_turn"
    assert got[-2]["usage"] == {"input_tokens": 800, "cache_read_input_tokens": 1200, "output_tokens": 40}
    second = upstream.seen[1].json
    assert second["messages"][1]["content"] == [text("Onemoment."), used()]
    assert recent(tmp_path)[0]["input_tokens"] == 2000


def test_anthropics_official_client_sees_nothing_of_it(tmp_path: Path) -> None:
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running:
        upstream.then(streamed_message(used()), streamed_message(text("Done."), stop="end_turn"))
        client = anthropic.Anthropic(base_url=running.url, api_key="x", max_retries=0)
        body = to_messages()
        with client.messages.stream(**body) as stream:
            final = stream.get_final_message()
    assert [block.type for block in final.content] == ["text"]
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", 40)


@pytest.mark.parametrize("stream", [False, True])
def test_anthropics_rounds_are_bounded_and_the_tool_stays_declared(tmp_path: Path, stream: bool) -> None:
    script = streamed_message if stream else message
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running:
        upstream.then(*[script(used(id=f"toolu_{n}")) for n in range(MOST_ROUNDS + 1)])
        reply = ask(running, "/v1/messages", to_messages(stream=stream))
    assert len(upstream.seen) == MOST_ROUNDS + 1
    last = upstream.seen[-1].json
    assert last["tool_choice"] == {"type": "none"} and last["tools"] == [messages.DEFINITION]
    shown = events(reply)[-2]["delta"] if stream else reply.json()
    assert shown["stop_reason"] == "end_turn"
    assert NAME not in reply.text


def test_anthropics_client_keeps_its_own_calls(tmp_path: Path) -> None:
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running:
        upstream.then(streamed_message(used(), used("weather", "toolu_2")))
        got = events(ask(running, "/v1/messages", to_messages(stream=True, tools=[CLIENTS_TOOL])))
    assert len(upstream.seen) == 1
    starts = [value for value in got if value["type"] == "content_block_start"]
    assert [(v["index"], v["content_block"]["name"]) for v in starts] == [(0, "weather")]
    assert got[-2]["delta"]["stop_reason"] == "tool_use"


def test_a_model_of_another_api_behind_anthropics(tmp_path: Path) -> None:
    call = {"id": "call_1", "type": "function",
            "function": {"name": NAME, "arguments": orjson.dumps(ASKED).decode()}}  # fmt: skip
    usage = {"prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1020}

    def chat(said: str | None, finish: str, **more: Any) -> Script:
        choice = {"index": 0, "message": {"role": "assistant", "content": said, **more}}
        value = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": usage,
                 "choices": [{**choice, "finish_reason": finish}]}  # fmt: skip
        return Script(headers=JSON_TYPE, body=orjson.dumps(value))

    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running:
        upstream.then(chat(None, "tool_calls", tool_calls=[call]), chat("Done.", "stop"))
        reply = ask(running, "/v1/messages", {**to_messages(), "model": "gpt-4o-mini"}).json()
    assert FOUND in orjson.dumps(upstream.seen[1].json["messages"]).decode()
    assert [block["text"] for block in reply["content"]] == ["Done."]


def test_the_responses_api_is_answered_and_the_model_goes_on(tmp_path: Path) -> None:
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running:
        reasoning = {"type": "reasoning", "id": "rs_1", "summary": []}
        upstream.then(plain_response(reasoning, call_item()), plain_response(said_item("Done."), number=2))
        reply = ask(running, "/v1/responses", to_responses()).json()
        until(lambda: len(recent(tmp_path)) == 1)
    first, second = (seen.json for seen in upstream.seen)
    assert first["tools"] == [responses.DEFINITION] and first["input"] != document()
    assert second["input"][0] == {"role": "user", "content": first["input"]}
    assert second["input"][1:3] == [reasoning, call_item()]
    assert second["input"][3]["call_id"] == "call_1" and FOUND in second["input"][3]["output"]
    assert reply["id"] == "resp_2" and reply["output"] == [reasoning, said_item("Done.")]
    assert (reply["usage"]["input_tokens"], reply["usage"]["output_tokens"]) == (2000, 40)
    assert reply["tools"] == []
    assert recent(tmp_path)[0]["input_tokens"] == 2000


def test_the_responses_stream_is_one_answer(tmp_path: Path) -> None:
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running:
        upstream.then(streamed_response(said_item("One moment."), call_item()))
        upstream.then(streamed_response(said_item("Done.", "msg_2"), number=2))
        client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="x", max_retries=0)
        got = list(client.responses.create(model="gpt-4o-mini", input=document(), stream=True))
    assert [event.sequence_number for event in got] == list(range(len(got)))
    assert [event.type for event in got].count("response.created") == 1
    deltas = [(e.output_index, e.delta) for e in got if e.type == "response.output_text.delta"]
    assert deltas == [(0, "One moment."), (1, "Done.")]
    end = got[-1]
    assert end.type == "response.completed"
    assert [item.id for item in end.response.output] == ["msg_1", "msg_2"]
    assert end.response.usage is not None and end.response.usage.input_tokens == 2000
    assert NAME not in "".join(event.to_json() for event in got)


@pytest.mark.parametrize("stream", [False, True])
def test_the_responses_rounds_are_bounded(tmp_path: Path, stream: bool) -> None:
    script = streamed_response if stream else plain_response
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running:
        upstream.then(*[script(call_item()) for _ in range(MOST_ROUNDS + 1)])
        reply = ask(running, "/v1/responses", to_responses(stream=stream))
    assert len(upstream.seen) == MOST_ROUNDS + 1
    assert upstream.seen[-1].json["tool_choice"] == "none"
    assert (events(reply)[-1]["response"] if stream else reply.json())["output"] == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", to_messages(tool_choice={"type": "any"}, tools=[CLIENTS_TOOL])),
        ("/v1/messages", to_messages(tools=[{**CLIENTS_TOOL, "name": NAME}])),
        ("/v1/responses", to_responses(tool_choice="required", tools=[dict(responses.DEFINITION)])),
        ("/v1/responses", to_responses(background=True)),
    ],
)
def test_where_the_client_leaves_no_room_nothing_is_offered(
    tmp_path: Path, path: str, body: dict[str, Any]
) -> None:
    with fake_upstream() as upstream, gateway(upstream, tmp_path) as running:
        ask(running, path, body)
    assert upstream.seen[0].json.get("tools") == body.get("tools")


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_without_a_call_passes_to_the_byte(tmp_path: Path, stream: bool) -> None:
    for path, body, script in (
        ("/v1/messages", to_messages(stream=stream), streamed_message if stream else message),
        ("/v1/responses", to_responses(stream=stream), streamed_response if stream else plain_response),
    ):
        with fake_upstream() as upstream, gateway(upstream, tmp_path) as running:
            part = text("Done.") if path == "/v1/messages" else said_item("Done.")
            answer = script(part)
            upstream.then(answer)
            reply = ask(running, path, body)
        assert NAME not in reply.text
        if not stream:
            assert orjson.loads(reply.content) | {"tools": []} == orjson.loads(answer.body) | {"tools": []}
