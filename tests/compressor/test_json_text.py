"""Long documents are checked without being read; both checks must say the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.text import json_text
from compressor.text.json_text import check_json

NAMES = st.text(st.sampled_from("ab"), min_size=1, max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 30) | st.text(st.sampled_from('ab \\"\n]},:'), max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
LAYOUTS: list[dict[str, Any]] = [{}, {"indent": 1}, {"separators": (",", ":")}]


def changed(draw: st.DrawFn, value: Any) -> Any:
    """The value with something changed in it, now and then."""
    if draw(st.integers(0, 5)) == 0:
        return draw(VALUES)
    if isinstance(value, str):
        return value[: draw(st.integers(0, len(value)))]
    if isinstance(value, list):
        return [changed(draw, one) for one in value]
    if isinstance(value, dict):
        return {key: changed(draw, one) for key, one in value.items()}
    return value


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, str]:
    """Lines of JSON, and the same with something changed, laid out otherwise, or put together."""
    values = draw(st.lists(VALUES, min_size=1, max_size=3))
    lines = len(values) > 1
    before = "\n".join(json.dumps(one, **({} if lines else draw(st.sampled_from(LAYOUTS)))) for one in values)
    after = draw(st.sampled_from(["\n", "\n\n", " ", ""])).join(
        json.dumps(changed(draw, one), **draw(st.sampled_from(LAYOUTS[:1] if lines else LAYOUTS)))
        for one in values
    )
    return before, after


@pytest.mark.parametrize("shortest", [0, 6])
@given(pair=documents())
def test_both_checks_say_the_same(shortest: int, pair: tuple[str, str]) -> None:
    short = check_json(*pair, shortest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "LONG", 0)
        long = check_json(*pair, shortest)
    assert bool(long) is bool(short), (short, long)


@pytest.mark.parametrize("broken", ['{"a": "x', '"a": 1}, {"b": "y"}', 'x": 1, "b": "y'])
def test_of_a_long_fragment_only_the_insides_of_strings_may_change(broken: str) -> None:
    text = '[{"text": "' + "and so on " * 10_000 + '"}, ' + broken
    assert not check_json(text, text.replace("and so on ", "and on ", 100))
    assert not check_json(text, text.replace("}, ", "},", 1))
    assert "structure" in check_json(text, text.replace("}, ", "} ", 1))
    assert "short" in check_json(text, text.replace('"text"', '"tex"'))
    assert "keys" in check_json(text, text.replace('"text"', '"tex"'), shortest=0)
