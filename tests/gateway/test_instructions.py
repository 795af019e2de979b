from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat import instructions
from gateway.chat.instructions import Kept, closing, merge, opening, tagged_passages

LONG = "This sentence is about the weather of that day. " * 60


def cut(text: str, kept: Kept) -> str:
    return text[kept.start : kept.end]


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("", "", ""),
        ("One line.", "One line.", "One line."),
        ("First.\n\nMiddle.\n\nLast?", "First.", "Last?"),
        ("\n\n  First.\n \t\nLast?\n\n", "\n\n  First.", "Last?\n\n"),
        (LONG + "Why?", "This sentence is about the weather of that day.", " Why?"),
        (LONG + "\nWhy?", "This sentence is about the weather of that day.", "Why?"),
        ("これは長い文です。" * 300 + "なぜですか？", "これは長い文です。", "なぜですか？"),
    ],
)
def test_opening_and_closing(text: str, first: str, last: str) -> None:
    assert cut(text, opening(text)) == first
    assert cut(text, closing(text)) == last


def test_without_any_sentence_a_fixed_piece_has_to_do() -> None:
    text = "word " * 2000
    assert len(cut(text, opening(text))) <= 1200
    assert 0 < len(cut(text, closing(text))) <= 1200
    solid = "x" * 5000
    assert 0 < len(cut(solid, opening(solid))) <= 1200
    assert 0 < len(cut(solid, closing(solid))) <= 1200


def test_tags() -> None:
    text = "a <Rules strict='1'>keep\nall</Rules> b <b>bold</b> <task>go</task> <task>unclosed"
    assert [cut(text, kept) for kept in tagged_passages(text)] == [
        "<Rules strict='1'>keep\nall</Rules>",
        "<task>go</task>",
    ]


PIECES = (
    "<",
    "</",
    ">",
    " ",
    "a='1'",
    "-",
    "_",
    "x",
    *instructions._TAGS.split("|"),
    "TASK",
    "ſystem",
    "div",
)


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_looking_ahead_changes_no_tag(text: str) -> None:
    plain = re.compile(rf"<(/?)({instructions._TAGS})(?:\s[^<>]{{0,500}})?>", re.IGNORECASE)
    found = [tag.groups() + tag.span() for tag in instructions._TAG.finditer(text)]
    assert found == [tag.groups() + tag.span() for tag in plain.finditer(text)]


def test_a_text_of_open_tags_costs_little_time() -> None:
    assert tagged_passages("<task>" * 100_000 + "</") == []


@given(
    st.text(st.sampled_from("ab \n"), max_size=60),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=5),
)
def test_merged_passages_are_in_order_apart_and_end_in_words(text: str, spans: list[tuple[int, int]]) -> None:
    kept = [Kept(min(pair), min(max(pair), len(text)), "x") for pair in spans if min(pair) <= len(text)]
    merged = merge(text, kept)
    for before, after in itertools.pairwise(merged):
        assert before.end < after.start
        between = text[before.end : after.start]
        assert between == between.strip()
    covered = {at for each in merged for at in range(each.start, each.end)}
    assert all(at in covered for each in kept for at in range(each.start, each.end))
