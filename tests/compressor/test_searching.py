from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.text import searching
from compressor.text.searching import (
    all_places,
    are_same,
    begin_of,
    between_feeds,
    end_of,
    find_all,
    find_short,
    has_match,
    is_blank,
    lines_of,
    place_of,
    same_items,
    stands_in,
)

LETTERS = st.text(st.sampled_from("ab <\n\t\u3000é\x1c"), max_size=40)


@pytest.mark.parametrize("step", [1, 3, 1000])
@given(text=LETTERS, word=st.text(st.sampled_from("ab <"), min_size=1, max_size=4))
def test_long_texts_are_looked_into_as_short_ones_are(step: int, text: str, word: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "_STEP", step)
        assert stands_in(text, word) is (word in text)
        assert stands_in(text.encode(), word.encode()) is (word in text)
        assert [place_of(text, word, start) for start in (0, 1, 5)] == [
            text.find(word, start) for start in (0, 1, 5)
        ]
        assert list(all_places(text, word)) == [found.start() for found in re.finditer(re.escape(word), text)]
        assert are_same(text, "".join(list(text)))
        assert are_same(text, word) is (text == word)
        assert is_blank(text) is (not text.strip())
        assert text[begin_of(text) :] == text.lstrip()
        assert text[: end_of(text)] == text.rstrip()


LINES = st.text(st.sampled_from("|xy \n\r#=-<>ab\x0b\u2028"), max_size=60)
LONG_TAGS = re.compile(r"<[a-z][^<>]*>(?=\n)")
SHORT_TAGS = re.compile(r"\b[xy]\b|<[a-z]{0,4}>|(?<=[\n|])#+?(?!=)")
TAGS = re.compile(r"<(?:/?[a-z][^<>]{0,20})>|#+")


@pytest.mark.parametrize("step", [1, 7, 1000])
@given(text=LINES)
def test_patterns_find_the_same_piece_by_piece(step: int, text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "_SCAN", step)
        patch.setattr(searching, "_AHEAD", 4)
        for found, pattern in (
            (find_all(TAGS, text, "<#"), TAGS),
            (find_all(LONG_TAGS, text, re.compile("<[a-z]")), LONG_TAGS),
            (find_short(SHORT_TAGS, text, 8), SHORT_TAGS),
        ):
            assert [one.span() for one in found] == [one.span() for one in pattern.finditer(text)]
        assert list(lines_of(text)) == text.splitlines()
        assert list(between_feeds(text)) == text.split("\n")


@pytest.mark.parametrize("step", [1, 7, 1000])
@given(text=LINES)
def test_a_match_is_told_wherever_it_stands(step: int, text: str) -> None:
    pattern = re.compile(r"\bxy?\b|(?<!a)a(?!b)|yx$")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "_SCAN", step)
        patch.setattr(searching, "_AHEAD", 4)
        assert has_match(pattern, text) is (pattern.search(text) is not None)


def test_items_are_the_same_in_number_and_order() -> None:
    assert same_items(iter("ab"), iter("ab"))
    assert not same_items("ab", "ba") and not same_items("ab", "abc") and not same_items("abc", "ab")
