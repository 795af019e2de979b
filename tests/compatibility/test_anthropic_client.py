"""The official `anthropic` client, unchanged, in front of Anthropic's API and, translated, of OpenAI's."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import pytest

from tests.support import chat_bodies
from tests.support.fake_upstream import ANSWER, FakeUpstream, Script
from tests.support.live_gateway import LiveGateway, live_gateway

YAML = """
upstreams:
  native: {base_url: "%(url)s", anthropic: true, api_key: sk-ant}
  translated: {base_url: "%(url)s", api_key: sk-openai, retries: 0}
models:
  claude-test: {upstream: native}
  gpt-4o-mini: {upstream: translated}
policies:
  default: {trigger_tokens: 256}
"""
HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"name": "get_weather", "description": "d", "input_schema": {"type": "object", "properties": {}}}
BOTH = pytest.mark.parametrize("model", ["claude-test", "gpt-4o-mini"])


@pytest.fixture(scope="module")
def two(shared_upstream: FakeUpstream) -> Iterator[LiveGateway]:
    with live_gateway(shared_upstream, YAML) as gateway:
        yield gateway


def client_of(gateway: LiveGateway) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=gateway.url, api_key="any", max_retries=0)


@BOTH
def test_message(two: LiveGateway, upstream: FakeUpstream, model: str) -> None:
    with client_of(two) as client:
        answer = client.messages.create(model=model, max_tokens=10, messages=HELLO, system="Be brief.")
    assert answer.content[0].text == ANSWER
    assert (answer.stop_reason, answer.usage.output_tokens) == ("end_turn", 10)


@BOTH
def test_stream(two: LiveGateway, upstream: FakeUpstream, model: str) -> None:
    with (
        client_of(two) as client,
        client.messages.stream(model=model, max_tokens=10, messages=HELLO) as stream,
    ):
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text.strip() == ANSWER
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", 10)


@BOTH
def test_tools(two: LiveGateway, upstream: FakeUpstream, model: str) -> None:
    with client_of(two) as client:
        answer = client.messages.create(model=model, max_tokens=10, messages=HELLO, tools=[TOOL])
    assert answer.stop_reason == "tool_use"
    assert (answer.content[0].name, answer.content[0].input) == ("get_weather", {"city": "Paris"})


@BOTH
def test_tools_stream(two: LiveGateway, upstream: FakeUpstream, model: str) -> None:
    with (
        client_of(two) as client,
        client.messages.stream(model=model, max_tokens=10, messages=HELLO, tools=[TOOL]) as stream,
    ):
        final = stream.get_final_message()
    assert (final.content[0].name, final.content[0].input) == ("get_weather", {"city": "Paris"})


@BOTH
def test_count_tokens(two: LiveGateway, upstream: FakeUpstream, model: str) -> None:
    with client_of(two) as client:
        counted = client.messages.count_tokens(model=model, messages=HELLO, system="Be brief.")
    assert counted.input_tokens >= 3


@BOTH
def test_errors(two: LiveGateway, upstream: FakeUpstream, model: str) -> None:
    body = b'{"type":"error","error":{"type":"invalid_request_error","message":"no"}}'
    upstream.then(Script(status=400, headers={"content-type": "application/json"}, body=body))
    with client_of(two) as client, pytest.raises(anthropic.BadRequestError, match="no"):
        client.messages.create(model=model, max_tokens=10, messages=HELLO)


def test_unknown_model(two: LiveGateway) -> None:
    with client_of(two) as client, pytest.raises(anthropic.NotFoundError) as unknown:
        client.messages.create(model="no-such", max_tokens=10, messages=HELLO)
    assert unknown.value.body["error"]["type"] == "not_found_error"


def test_native_bytes_and_headers(two: LiveGateway, upstream: FakeUpstream) -> None:
    sent = b'{"model" : "claude-test", "max_tokens": 5, "messages": [{"role":"user", "content":"h\\u00e9"}]}'
    with two.client(**{"anthropic-beta": "b1", "x-api-key": "mine"}) as client:
        client.post("/v1/messages", content=sent)
    got = upstream.seen[-1]
    assert (got.path, got.body) == ("/v1/messages", sent)
    assert (got.headers["x-api-key"], got.headers["anthropic-beta"]) == ("sk-ant", "b1")
    assert got.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in got.headers


def test_a_long_message_is_shortened(two: LiveGateway, upstream: FakeUpstream) -> None:
    question = chat_bodies.long_text(120) + "\n\nWhen is the delivery due?"
    with client_of(two) as client:
        reply = client.messages.with_raw_response.create(
            model="claude-test", max_tokens=10, messages=[{"role": "user", "content": question}]
        )
    assert int(reply.headers["x-terse-tokens-saved"]) > 500
    assert len(upstream.seen[-1].json["messages"][0]["content"]) < len(question)


def test_translation_of_a_whole_conversation(two: LiveGateway, upstream: FakeUpstream) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}, image]},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "t1", "name": "get_weather", "input": {"city": "Paris"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "go on"},
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "sunny"}]},
            ],
        },
    ]
    with client_of(two) as client:
        client.messages.create(
            model="gpt-4o-mini",
            max_tokens=10,
            messages=messages,
            system=[{"type": "text", "text": "Be brief."}],
            stop_sequences=["END"],
            tool_choice={"type": "any", "disable_parallel_tool_use": True},
            tools=[TOOL],
            metadata={"user_id": "u1"},
        )
    assert upstream.seen[-1].json == {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Weather?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                ],
            },
            {
                "role": "assistant",
                "content": "Let me look.",
                "tool_calls": [
                    {
                        "id": "t1",
                        "type": "function",
                        "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "t1", "content": "sunny"},
            {"role": "user", "content": "go on"},
        ],
        "max_tokens": 10,
        "stop": ["END"],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "get_weather",
                    "description": "d",
                    "parameters": {"type": "object", "properties": {}},
                },
            }
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "user": "u1",
    }


def test_what_cannot_be_translated_is_refused(two: LiveGateway, upstream: FakeUpstream) -> None:
    with client_of(two) as client, pytest.raises(anthropic.BadRequestError, match="web_search"):
        client.messages.create(
            model="gpt-4o-mini",
            max_tokens=10,
            messages=HELLO,
            tools=[{"type": "web_search_20250305", "name": "web_search"}],
        )
    assert upstream.seen == []
