from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.training.matching import everyday_words, match_words, same_word, shared_spans


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("compress", "compressed", True),
        ("brücke", "brücken", True),
        ("haus", "hauses", False),
        ("서울에서", "서울", True),
        ("международный", "международного", True),
        ("in", "into", False),
        ("1999", "1998", False),
        ("1999", "1999", True),
        ("house", "mouse", False),
    ],
)
def test_inflection_is_forgiven_and_nothing_else(one: str, other: str, same: bool) -> None:
    assert same_word(one, other) is same
    assert same_word(other, one) is same


@given(st.text())
def test_words_lie_in_the_text_in_order(text: str) -> None:
    words = match_words(text)
    assert all(0 <= word.start < word.end <= len(text) for word in words)
    assert all(a.end <= b.start for a, b in pairwise(words))


def test_characters_of_scripts_without_spaces_are_words_of_their_own() -> None:
    assert [word.folded for word in match_words("東京 tower 3.14")] == ["東", "京", "tower", "3.14"]


def test_shared_words_are_found_inflected_and_everyday_ones_left_out() -> None:
    text = "The bridges were painted when the mayor resigned."
    found = [
        text[a:b] for a, b in shared_spans(text, "When did the mayor paint the bridge?", frozenset({"when"}))
    ]
    assert found == ["bridges", "painted", "mayor"]


def test_two_characters_in_a_row_are_shared_in_chinese() -> None:
    text = "王明在北京大学学习"
    assert [text[a:b] for a, b in shared_spans(text, "谁在北京?", frozenset())] == ["在北", "北京"]


def test_everyday_words_need_enough_questions() -> None:
    questions = [f"What is the name of place{number}?" for number in range(60)]
    assert {"what", "is", "the", "name", "of"} <= everyday_words(questions)
    assert "place3" not in everyday_words(questions)
    assert everyday_words(questions[:10]) == frozenset()
