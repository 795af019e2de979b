from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.text import json_reading
from compressor.text.json_reading import JsonReader, is_document

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers(-(10**12), 10**12)
    | st.text(st.sampled_from('ab "\\\n\x7fé😀\ud83d/'), max_size=30),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)
SIGNS = st.text(st.sampled_from('[]{},:"\\ 1e+-.tn\n'), max_size=3)


def reads(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@st.composite
def nearly_json(draw: st.DrawFn) -> str:
    """A document, mostly with something put in, left out or cut off."""
    value: Any = draw(VALUES)
    layout = draw(st.sampled_from([None, 1]))
    text = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=layout)
    at, gone = draw(st.integers(0, len(text))), draw(st.integers(0, 3))
    return draw(st.sampled_from([text, text[:at] + draw(SIGNS) + text[at + gone :], f" {text}\n", text[:at]]))


@pytest.mark.parametrize("size", [16, 40, 1000])
@given(text=nearly_json())
def test_documents_are_told_as_by_the_decoder(size: int, text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_reading, "LONG", size)
        assert is_document(text) is reads(text)


@pytest.mark.parametrize("size", [16, 40, 1000])
@given(before=SIGNS, text=nearly_json(), after=SIGNS)
def test_values_end_where_the_decoder_says(size: int, before: str, text: str, after: str) -> None:
    whole, start = before + text.lstrip() + after, len(before)
    try:
        _, expected = json.JSONDecoder().raw_decode(whole, start)
    except ValueError:
        expected = -1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_reading, "LONG", size)
        try:
            end = JsonReader(whole).end_of_value(start)
        except ValueError:
            end = -1
    assert end == expected


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([{"id": n, "text": "and so on " * 5} for n in range(3000)]),
        json.dumps({"results": {"rows": [[n, str(n)] for n in range(20_000)]}, "done": True}),
        json.dumps({"content": "a line of text\n" * 20_000}),
        json.dumps("é" * 200_000),
        json.dumps(list(range(100_000))),
        "[" * 90 + "1" + " " * 100_000 + "]" * 90,
    ],
)
def test_long_documents(text: str) -> None:
    assert is_document(text)
    assert not is_document(text[:-1])
    assert not is_document(text + "]")
    assert JsonReader("x" + text + " and so on").end_of_value(1) == len(text) + 1


def test_nothing_but_brackets_is_refused_in_good_time() -> None:
    assert not is_document("[" * 1_000_000)
    assert not is_document('[{"a":' * 200_000)
