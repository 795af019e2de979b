"""Large bodies are read in pieces to the very value that one call of the parser gives."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.chat import large_json
from gateway.chat.large_json import load_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=60),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=40,
)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that every example is cut in many places."""
    monkeypatch.setattr(large_json, "LARGE_BYTES", 1)
    monkeypatch.setattr(large_json, "_PIECE_BYTES", 8)
    monkeypatch.setattr(large_json, "_TEXT_BYTES", 8)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
@settings(max_examples=150)
@given(value=st.dictionaries(st.text(max_size=8), VALUES, max_size=5))
def test_objects(value: object, ascii_only: bool, indent: int | None) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert load_json(body) == orjson.loads(body)
    assert list(load_json(body)) == list(orjson.loads(body))


@settings(max_examples=300)
@given(st.text(alphabet='[]{}",:\\ \n1axé😀', max_size=60))
def test_anything_is_read_or_refused_alike(text: str) -> None:
    body = text.encode()
    try:
        expected = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        with pytest.raises(orjson.JSONDecodeError) as refused:
            load_json(body)
        assert str(refused.value) == str(error)
    else:
        assert load_json(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":[{"a":1},{"b":2},{"c":3}],"messages":[{"d":4},{"e":5},{"f":6}]}',
        b'{"messages":[{"a":1},{"b":2},{"c":3}],"messages":[]}',
        b'{"x":"messages","messages":[[1,2,3,4],[5,6,7,8],[9]],"y":[[],[],[],[{}]]}',
        b'{"text":"nothing but letters"}',
        b'{"text":"letters, then\\ud83d\\ude00\\ud83d\\ude00\\ud83d\\ude00\\u00e9\\u00e9\\u00e9\\\\u00e9"}',
        '{"text":"市議会は予算について話し合い、秋までに道路を完成させることを決めた。"}'.encode(),
        b'{"text":"a \\" b \\\\\\" c \\\\","other":"\\ud83d\\ude00 and \\u00e9 and so on and on"}',
        b'[{"a":[1,2,3]},{"b":[4,5,6]}]',
        b'{"messages":[{"a":1} , {"b":2}\n,\n{"c":3}  ]}',
    ],
)
def test_odd_ones(body: bytes) -> None:
    assert load_json(body) == orjson.loads(body)


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from(['"', "\\", "\\\\", "a", "é", "\n", '\\"']), min_size=10, max_size=200),
    st.sampled_from([2, 7, 64]),
)
def test_strings_full_of_escaped_quotes(letters: list[str], piece: int) -> None:
    body = orjson.dumps({"text": "".join(letters), "next": '"', "last": ["\\"]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_json, "_PIECE_BYTES", piece)
        assert load_json(body) == orjson.loads(body)
        spans = list(large_json.strings_and_brackets(body))
        quoted = [body[start:end] for start, end in spans if body[start : start + 1] == b'"']
        assert quoted == [
            b'"text"',
            orjson.dumps("".join(letters)),
            b'"next"',
            b'"\\""',
            b'"last"',
            b'"\\\\"',
        ]
        with pytest.raises(ValueError, match="does not end"):
            list(large_json.strings_and_brackets(body[: spans[2][1] - 1]))


@pytest.mark.parametrize(
    "body", [b'{"m":[{"a":1},,{"b":2}]}', b'{"m":[{"a":1},]}', b'{"m":[{"a":"\\ud800 aaaaaaaa"}]}']
)
def test_what_is_no_json(body: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        load_json(body)


def test_what_is_nested_deeper_than_python_calls() -> None:
    body = b'{"text":"long enough","deep":' + b"[" * 900 + b"]" * 900 + b"}"
    assert load_json(body)["text"] == "long enough"
