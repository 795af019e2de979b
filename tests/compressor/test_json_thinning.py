"""Old JSON without what it repeats: still a document, and part of the one that it was."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.text.json_thinning import thin_json
from gateway.chat.validation import part_of_json

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=6), st.just("https://x.org/a")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=12), st.dictionaries(st.sampled_from("abcdef"), inner, max_size=6)
    ),
    max_leaves=60,
)


def thinned(text: str) -> str:
    return "".join(text[start:end] for start, end in thin_json(text))


@given(st.one_of(st.lists(VALUES), st.dictionaries(st.text(max_size=4), VALUES)), st.integers(0, 2))
def test_what_stays_is_part_of_the_document(value: Any, indent: int) -> None:
    text = json.dumps(value, indent=indent or None)
    after = thinned(text)
    json.loads(after)
    assert part_of_json(text, after)


@given(st.lists(VALUES, min_size=1), st.integers(1, 200), st.integers(0, 2))
def test_a_document_that_was_cut_off_loses_whole_members_only(value: Any, cut: int, indent: int) -> None:
    text = json.dumps(value, indent=indent or None)[:-cut]
    spans = thin_json(text)
    assert all(start < end for start, end in spans)
    assert all(one[1] <= other[0] for one, other in pairwise(spans))


def test_rows_urls_and_empty_members_go_and_errors_stay() -> None:
    rows = [{"id": i, "state": "ok", "note": None, "tags": []} for i in range(50)]
    rows[20]["state"] = "failed: disk full"
    text = json.dumps(
        {"url": "https://a.org/1", "html_url": "https://a.org/2", "total": 50, "rows": rows}, indent=1
    )
    after = json.loads(thinned(text))
    assert after == {
        "url": "https://a.org/1",
        "total": 50,
        "rows": [
            {"id": 0, "state": "ok"},
            {"id": 1, "state": "ok"},
            {"id": 20, "state": "failed: disk full"},
            {"id": 49, "state": "ok"},
        ],
    }


def test_long_lists_of_figures_keep_their_ends() -> None:
    assert json.loads(thinned(json.dumps(list(range(40))))) == [0, 1, 2, 39]


@pytest.mark.parametrize(
    "text", ["", "prose", "[1, 2", "{a: b}", "}{", '{"a": 1} {"b": 2}', "[1] x", "]", "[[}"]
)
def test_what_is_no_document_is_left_alone_or_stays_whole(text: str) -> None:
    assert all(piece in text for piece in [text[start:end] for start, end in thin_json(text)])


@pytest.mark.parametrize("unit", ["[", "{", '"', '{"a":', "[1,", ",", "\\", "]"])
def test_linear_time_on_hostile_text(unit: str) -> None:
    began = time.process_time()
    thin_json(unit * (300_000 // len(unit)))
    assert time.process_time() - began < 4
