"""The same answer is read out of every shape that an upstream gives it."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.quality.replies import Said, canonical, read_reply
from gateway.shapes import Surface
from tests.support import fake_upstream as fake

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}
CALL = Said("", (("weather", '{"city":"Paris"}'),))


@pytest.mark.parametrize("surface", ["chat", "completions", "responses", "messages"])
def test_plain_and_streamed_replies_say_the_same(surface: Surface) -> None:
    build = fake._SHAPES["/chat/completions" if surface == "chat" else f"/{surface}"]
    events, whole = build({"model": "m", "messages": []}, "The total is 42.", None)
    plain = read_reply(surface, orjson.dumps(whole), stream=False)
    streamed = read_reply(surface, b"".join(events), stream=True)
    assert plain == Said("The total is 42.")
    assert streamed is not None and streamed.text.strip() == "The total is 42."


@pytest.mark.parametrize("surface", ["chat", "messages"])
def test_tool_calls(surface: Surface) -> None:
    tool = TOOL if surface == "chat" else {"name": "weather", "input_schema": {}}
    build = fake._SHAPES["/chat/completions" if surface == "chat" else "/messages"]
    events, whole = build({"model": "m", "tools": [tool]}, "", None)
    assert read_reply(surface, orjson.dumps(whole), stream=False) == CALL
    assert read_reply(surface, b"".join(events), stream=True) == CALL


def test_function_calls_of_responses() -> None:
    item = {"type": "function_call", "name": "weather", "arguments": '{ "city": "Paris" }'}
    assert read_reply("responses", orjson.dumps({"output": [item]}), stream=False) == CALL


def test_only_the_first_choice_counts() -> None:
    choices = [
        {"index": 1, "message": {"content": "b"}},
        {"index": 0, "message": {"content": [{"type": "text", "text": "a"}]}},
    ]
    assert read_reply("chat", orjson.dumps({"choices": choices}), stream=False) == Said("a")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"no json",
        b'{"error":{"message":"x"}}',
        b'{"choices":[]}',
        b'{"choices":[{"index":0}]}',
        b'{"choices":5}',
    ],
)
def test_what_is_no_reply(body: bytes) -> None:
    for surface in ("chat", "completions", "responses", "messages"):
        assert read_reply(surface, body, stream=False) is None  # type: ignore[arg-type]
        assert read_reply(surface, b"data: " + body + b"\n\n", stream=True) is None  # type: ignore[arg-type]


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_read_or_not(body: bytes, stream: bool) -> None:
    said = read_reply("chat", body, stream=stream)
    assert said is None or isinstance(said.text, str)


def test_spacing_and_order_of_arguments_are_no_difference() -> None:
    assert canonical('{"b": 1, "a": [2]}') == canonical({"a": [2], "b": 1}) == '{"a":[2],"b":1}'
    assert canonical("not json ") == "not json"
