from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.text.tokens import counter_for
from gateway.accounting.usage import UsageWatch, read_usage
from gateway.shapes import Surface, Usage

OPENAI = {
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 64},
}
RESPONSES = {
    "input_tokens": 328,
    "input_tokens_details": {"cached_tokens": 128},
    "output_tokens": 52,
    "output_tokens_details": {"reasoning_tokens": 10},
    "total_tokens": 380,
}
ANTHROPIC = {
    "input_tokens": 21,
    "cache_creation_input_tokens": 500,
    "cache_read_input_tokens": 10_000,
    "output_tokens": 40,
}


@pytest.mark.parametrize(
    ("surface", "usage", "expected"),
    [
        ("chat", OPENAI, Usage(2006, 1920, 0, 300, 64, cache_reported=True)),
        ("responses", RESPONSES, Usage(328, 128, 0, 52, 10, cache_reported=True)),
        ("messages", ANTHROPIC, Usage(10_521, 10_000, 500, 40, cache_reported=True)),
        ("messages", {"input_tokens": 7, "output_tokens": 3}, Usage(7, 0, 0, 3)),
        # DeepSeek
        (
            "chat",
            {
                "prompt_tokens": 100,
                "completion_tokens": 9,
                "prompt_cache_hit_tokens": 64,
                "prompt_cache_miss_tokens": 36,
            },
            Usage(100, 64, 0, 9, cache_reported=True),
        ),
        # Gemini's own shape: thoughts are counted apart
        (
            "chat",
            {
                "promptTokenCount": 50,
                "cachedContentTokenCount": 20,
                "candidatesTokenCount": 5,
                "thoughtsTokenCount": 7,
            },
            Usage(50, 20, 0, 12, 7, cache_reported=True),
        ),
        # Anthropic behind an OpenAI-shaped bridge
        (
            "chat",
            {**OPENAI, "cache_creation_input_tokens": 50, "cache_read_input_tokens": 1920},
            Usage(2006, 1920, 50, 300, 64, cache_reported=True),
        ),
        # xAI: reasoning is not among the completion tokens
        (
            "chat",
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 45,
                "completion_tokens_details": {"reasoning_tokens": 30},
            },
            Usage(10, 0, 0, 35, 30),
        ),
        ("embeddings", {"prompt_tokens": 8, "total_tokens": 8}, Usage(8)),
        ("chat", {"prompt_tokens": -5, "completion_tokens": "9", "prompt_tokens_details": None}, Usage()),
    ],
)
def test_shapes(surface: Surface, usage: dict[str, Any], expected: Usage) -> None:
    assert read_usage(usage, surface) == expected


def event(value: Any, name: str = "") -> bytes:
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + (value if isinstance(value, bytes) else orjson.dumps(value)) + b"\n\n"


def watch(surface: Surface, chunks: Sequence[bytes], *, stream: bool) -> Usage:
    watching = UsageWatch(surface, stream=stream, input_tokens=77, counter=counter_for("o200k_base"))
    for chunk in chunks:
        watching.feed(chunk)
    return watching.result()


def openai_stream(usage: Any = OPENAI) -> bytes:
    deltas = [
        event({"choices": [{"delta": {"content": word}}], "usage": None}) for word in ("Hello", " world")
    ]
    last = [event({"choices": [], "usage": usage})] if usage else []
    return b": ping\n\n" + b"".join([*deltas, *last, event(b"[DONE]")])


ANTHROPIC_STREAM = (
    event({"type": "message_start", "message": {"usage": {**ANTHROPIC, "output_tokens": 1}}}, "message_start")
    + event(
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}}, "content_block_delta"
    )
    + event({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 40}}, "message_delta")
    + event({"type": "message_stop"}, "message_stop")
)
RESPONSES_STREAM = event({"type": "response.output_text.delta", "delta": "Hi there"}) + event(
    {"type": "response.completed", "response": {"usage": RESPONSES}}, "response.completed"
)


@pytest.mark.parametrize(
    ("surface", "body", "expected"),
    [
        ("chat", openai_stream(), Usage(2006, 1920, 0, 300, 64, cache_reported=True)),
        (
            "chat",
            openai_stream().replace(b"\n\n", b"\r\n\r\n"),
            Usage(2006, 1920, 0, 300, 64, cache_reported=True),
        ),
        ("messages", ANTHROPIC_STREAM, Usage(10_521, 10_000, 500, 40, cache_reported=True)),
        ("responses", RESPONSES_STREAM, Usage(328, 128, 0, 52, 10, cache_reported=True)),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_streams_in_chunks_of_any_size(surface: Surface, body: bytes, expected: Usage, size: int) -> None:
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    assert watch(surface, chunks, stream=True) == expected


def test_a_stream_without_usage_is_counted() -> None:
    assert watch("chat", [openai_stream(None)], stream=True) == Usage(77, 0, 0, 2, estimated=True)


def test_tool_calls_and_reasoning_of_a_stream_are_counted() -> None:
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"city": "Paris"}'}}
    deltas = [{"reasoning_content": "Let me think."}, {"tool_calls": [call]}]
    body = b"".join(event({"choices": [{"delta": delta}]}) for delta in deltas)
    counted = counter_for("o200k_base").count('Let me think.{"city": "Paris"}')
    assert watch("chat", [body], stream=True).output_tokens == counted


def test_a_stream_that_broke_off_is_counted_as_far_as_it_came() -> None:
    whole = RESPONSES_STREAM
    usage = watch("responses", [whole[: whole.index(b"event: response.completed")], b"data: {"], stream=True)
    assert usage == Usage(77, 0, 0, 2, estimated=True)


def test_plain_replies() -> None:
    body = orjson.dumps({"choices": [{"message": {"content": "Hi"}}], "usage": OPENAI})
    assert watch("chat", [body[:9], body[9:]], stream=False).input_tokens == 2006
    silent = orjson.dumps({"choices": [{"message": {"content": "Hello world"}}]})
    assert watch("chat", [silent], stream=False) == Usage(77, 0, 0, 2, estimated=True)
    assert watch("chat", [], stream=False) == Usage(77, estimated=True)
    assert watch("chat", [b"<html>"], stream=False) == Usage(77, estimated=True)


def test_usage_is_found_behind_a_reply_too_large_to_keep() -> None:
    chunk = b'{"data": "' + b"x" * (1 << 20)
    body = [chunk, *[b"x" * (1 << 20)] * 17, b'", "usage": {"prompt_tokens": 5, "total_tokens": 5}}']
    assert watch("embeddings", body, stream=False) == Usage(5)


@given(
    st.binary(max_size=300), st.booleans(), st.sampled_from(["chat", "messages", "responses", "completions"])
)
def test_never_raises(data: bytes, stream: bool, surface: Surface) -> None:
    usage = watch(surface, [b'data: {"usage":', data, b"\n\n"], stream=stream)
    assert usage.input_tokens >= 0


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["usage", "choices", "delta", "message", "text", "response"]), inner
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_survived(value: Any) -> None:
    try:
        data = orjson.dumps(value)
    except orjson.JSONEncodeError:
        return
    assert watch("chat", [data], stream=False).output_tokens >= 0
    assert watch("chat", [b"data: " + data + b"\n\n"], stream=True).output_tokens >= 0
