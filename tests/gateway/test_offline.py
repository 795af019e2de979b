"""The built-in upstream: no key, no network, the same answer to the same request."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import openai
import pytest

from tests.support import chat_bodies
from tests.support.fake_upstream import FakeUpstream
from tests.support.live_gateway import LiveGateway, live_gateway

YAML = 'upstreams: {none: {offline: true}}\nmodels: {"*": {upstream: none}}\n'


@pytest.fixture(scope="module")
def offline(shared_upstream: FakeUpstream) -> Iterator[LiveGateway]:
    with live_gateway(shared_upstream, YAML) as gateway:
        yield gateway


def test_it_says_what_it_received_and_the_headers_what_was_saved(offline: LiveGateway) -> None:
    sent = chat_bodies.body(chat_bodies.rag(sentences=200))
    with offline.client() as client:
        first, second = (client.post("/v1/chat/completions", content=sent) for _ in range(2))
    answer = first.json()
    assert "no provider's key is configured" in answer["choices"][0]["message"]["content"]
    received = answer["usage"]["prompt_tokens"]
    assert f"I received {received} tokens" in answer["choices"][0]["message"]["content"]
    assert received < int(first.headers["x-terse-tokens-before"]) * 0.6
    assert first.content == second.content
    assert (first.headers["x-terse-compression"], second.headers["x-terse-cache"]) == ("applied", "hit")


def test_every_surface_answers_in_its_own_shape(offline: LiveGateway) -> None:
    hello = [{"role": "user", "content": "Hello"}]
    with openai.OpenAI(base_url=offline.url + "/v1", api_key="any", max_retries=0) as client:
        whole = client.chat.completions.create(model="m", messages=hello).choices[0].message.content
        stream = client.chat.completions.create(
            model="m", messages=hello, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole
        assert chunks[-1].usage is not None and chunks[-1].usage.prompt_tokens == 1
        assert client.completions.create(model="m", prompt="Hello").choices[0].text == whole
        assert client.responses.create(model="m", input="Hello").output_text == whole
        events = list(client.responses.create(model="m", input="Hello", stream=True))
        assert events[-1].response.output_text == whole
        vectors = client.embeddings.create(model="m", input=["a", "b"], encoding_format="float").data
        assert vectors[0].embedding != vectors[1].embedding
    with anthropic.Anthropic(base_url=offline.url, api_key="any", max_retries=0) as messages:
        assert messages.messages.create(model="m", max_tokens=9, messages=hello).content[0].text == whole
        with messages.messages.stream(model="m", max_tokens=9, messages=hello) as streamed:
            assert "".join(streamed.text_stream) == whole
        assert messages.messages.count_tokens(model="m", messages=hello).input_tokens == 1


def test_content_nested_deeper_than_python_calls(offline: LiveGateway) -> None:
    deep = b'{"model":"m","messages":[{"role":"user","content":' + b"[" * 1015 + b"]" * 1015 + b"}]}"
    with offline.client() as client:
        assert client.post("/v1/chat/completions", content=deep).status_code == 200
