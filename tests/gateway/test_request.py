"""The client's JSON: what is read, what is refused, and that a rename changes nothing else."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat import request as requests
from gateway.chat.request import parse_request, read_object, rename_model
from gateway.errors import BadRequest

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(["model", "messages", "a", '"model"', "x\\", "modelé"])


@given(st.dictionaries(KEYS, JSON, max_size=5), st.text(max_size=12), st.sampled_from([None, 0, 2]))
def test_rename_changes_the_model_alone(others: dict[str, Any], new: str, indent: int | None) -> None:
    value = {**others, "model": "old", "tail": ["model", {"model": "inner"}]}
    for ascii_only in (True, False):
        body = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        renamed = rename_model(body, new)
        assert json.loads(renamed) == {**value, "model": new}
        start = body.index(b'"old"')
        assert renamed.endswith(body[start + 5 :]) or body.count(b'"old"') > 1


def test_rename_takes_the_last_of_duplicates_as_parsers_do() -> None:
    body = b'{"model": "first", "nested": {"model": "n"}, "m\\u006fdel" : "last"}'
    assert orjson.loads(body)["model"] == "last"
    assert orjson.loads(rename_model(body, "new"))["model"] == "new"
    assert rename_model(body, "new").startswith(b'{"model": "first", "nested": {"model": "n"}')


@pytest.mark.parametrize(
    ("surface", "raw", "limit"),
    [
        ("chat", {"max_tokens": 5}, 5),
        ("chat", {"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ("responses", {"max_output_tokens": 9, "max_tokens": 1}, 9),
        ("messages", {"max_tokens": 3}, 3),
        ("completions", {"max_tokens": True}, None),
        ("completions", {"max_tokens": -1}, None),
        ("embeddings", {"max_tokens": 5}, None),
    ],
)
def test_output_limits(surface: Any, raw: dict[str, Any], limit: int | None) -> None:
    body = orjson.dumps({"model": "m", "messages": [], **raw})
    assert parse_request(surface, "/v1/x", body).max_output_tokens == limit


def test_the_body_stays_what_it_was() -> None:
    body = b'{ "model":"m", "stream":null,"messages": [ ],"big": 123456789012345678901234567890 }'
    request = parse_request("chat", "/v1/chat/completions", body)
    assert request.body is body
    assert (request.model, request.stream) == ("m", False)


def test_lone_surrogates_are_read() -> None:
    assert read_object(b'{"a": "\\ud83d"}') == {"a": "\ud83d"}
    with pytest.raises(BadRequest, match="not JSON"):
        read_object(b'{"a": "\\ud83d", "b": NaN}')


@given(st.binary(max_size=60))
def test_any_bytes_give_an_object_or_a_bad_request(body: bytes) -> None:
    try:
        assert isinstance(read_object(body), dict)
    except BadRequest as error:
        assert error.message.startswith("the body")


@pytest.mark.parametrize("surface", ["chat", "messages"])
@pytest.mark.parametrize(
    ("messages", "param"),
    [(None, "messages"), ({}, "messages"), ([[]], "messages[0]"), ([{"role": 1}], "messages[0].role")],
)
def test_messages_are_checked(surface: Any, messages: Any, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_request(surface, "/", orjson.dumps({"model": "m", "messages": messages}))
    assert refused.value.param == param


@pytest.mark.parametrize("key", ["model", "m\\u006fdel"])
@given(
    before=st.dictionaries(st.text(max_size=8), st.text(max_size=20) | st.lists(st.text()), max_size=4),
    after=st.dictionaries(st.text(max_size=8), st.dictionaries(st.text(), st.text(), max_size=2), max_size=4),
)
def test_a_large_body_gets_its_new_name_as_a_small_one_does(
    key: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    body = b'{%b"%b" : "old", "inner": {"model": "old"}%b}' % (
        b"".join(orjson.dumps({k: v})[1:-1] + b", " for k, v in before.items()),
        key.encode(),
        b"".join(b", " + orjson.dumps({k: v})[1:-1] for k, v in after.items()),
    )
    small = rename_model(body, "new")
    assert orjson.loads(small)["model"] == ("new" if "model" not in after else orjson.loads(small)["model"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests, "LARGE_BYTES", 1)
        assert rename_model(body, "new") == small
