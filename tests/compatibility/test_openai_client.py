"""The official `openai` client, unchanged, against the gateway over a socket."""

from __future__ import annotations

import openai
import pytest

from tests.support import chat_bodies
from tests.support.fake_upstream import ANSWER, FakeUpstream, Script
from tests.support.live_gateway import LiveGateway

MODEL = "gpt-4o-mini"
HELLO = [{"role": "user", "content": "Hello"}]


def client_of(gateway: LiveGateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.url + "/v1", api_key="any", max_retries=0)


def test_chat(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    with client_of(gateway) as client:
        reply = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO, n=2)
        answer = reply.parse()
    assert [choice.message.content for choice in answer.choices] == [ANSWER, ANSWER]
    assert answer.usage is not None and answer.usage.completion_tokens == 10
    assert reply.headers["x-terse-compression"] == "skipped"
    assert reply.headers["x-request-id"] == reply.request_id


def test_chat_stream(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    with client_of(gateway) as client:
        stream = client.chat.completions.create(
            model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.strip() == ANSWER
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 10


def test_a_long_prompt_is_shortened_for_the_same_client(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    request = chat_bodies.rag()
    with client_of(gateway) as client:
        reply = client.chat.completions.with_raw_response.create(**request)
    assert int(reply.headers["x-terse-tokens-saved"]) > 500
    assert len(upstream.seen[-1].body) < len(chat_bodies.body(request)) * 0.7


def test_tools(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    with client_of(gateway) as client:
        answer = client.chat.completions.create(model=MODEL, messages=HELLO, tools=[chat_bodies.WEATHER_TOOL])
        call = answer.choices[0].message.tool_calls[0]
        follow_up = [
            *HELLO,
            answer.choices[0].message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
        ]
        client.chat.completions.create(model=MODEL, messages=follow_up, tools=[chat_bodies.WEATHER_TOOL])
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city":"Paris"}')
    assert upstream.seen[-1].json["messages"] == follow_up


def test_tools_stream(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    with (
        client_of(gateway) as client,
        client.chat.completions.stream(
            model=MODEL, messages=HELLO, tools=[chat_bodies.WEATHER_TOOL]
        ) as stream,
    ):
        answer = stream.get_final_completion()
    assert answer.choices[0].message.tool_calls[0].function.arguments == '{"city":"Paris"}'


def test_responses(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    with client_of(gateway) as client:
        assert client.responses.create(model=MODEL, input="Hello").output_text == ANSWER
        events = list(client.responses.create(model=MODEL, input="Hello", stream=True))
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage.output_tokens == 10


def test_completions_embeddings_models(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    with client_of(gateway) as client:
        assert client.completions.create(model=MODEL, prompt="Hello").choices[0].text == ANSWER
        embedded = client.embeddings.create(model=MODEL, input="Hello", encoding_format="float")
        assert embedded.data[0].embedding == [0.1, 0.2, 0.3]
        assert [model.id for model in client.models.list()] == [MODEL, "renamed"]
        assert client.models.retrieve(MODEL).owned_by == "up"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("no-such")


async def test_async_client(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    async with openai.AsyncOpenAI(base_url=gateway.url + "/v1", api_key="any") as client:
        answer = await client.chat.completions.create(model=MODEL, messages=HELLO)
        stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        words = [chunk.choices[0].delta.content async for chunk in stream if chunk.choices]
    assert answer.choices[0].message.content == ANSWER
    assert "".join(word or "" for word in words).strip() == ANSWER


def test_errors_are_the_clients_own(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    error = b'{"error":{"message":"too hot","type":"invalid_request_error","param":"temperature","code":"x"}}'
    upstream.then(Script(status=400, headers={"content-type": "application/json"}, body=error))
    with client_of(gateway) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model=MODEL, messages=HELLO, temperature=9)
        with pytest.raises(openai.NotFoundError) as unknown:
            client.chat.completions.create(model="no-such", messages=HELLO)
    assert (refused.value.param, refused.value.code) == ("temperature", "x")
    assert unknown.value.code == "model_not_found"


def test_a_broken_stream_raises(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    chunk = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}\n\n'
    headers = {"content-type": "text/event-stream"}
    upstream.then(Script(headers=headers, chunks=[chunk, chunk], pause=0.02, break_after=1))
    with client_of(gateway) as client:
        stream = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        with pytest.raises(openai.APIError, match="broke off"):
            list(stream)
