"""What is found in arrays is what the patterns find, character by character."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compressor.shapes import Span, Spans
from compressor.text.characters import codepoints
from compressor.text.line_heads import line_heads, match_heads
from compressor.text.negations import NEGATIONS, is_negation, negation_candidates
from compressor.text.rendering import render
from compressor.text.words import TAG, cover, split_words, tag_places, words_at

_TAGGED = st.lists(
    st.sampled_from(["<", ">", "/", "a", "Z", "!", "?", " ", "1", "é", "<b>", "</b>", "<!-- x -->", "\n"])
).map("".join)
_NEGATIVE = st.lists(
    st.sampled_from(
        [
            *sorted(NEGATIONS),
            *(word.upper() for word in sorted(NEGATIONS)),
            "don’t",
            "n'est",
            "qu'aucun",
            "نمی‌دانم",
            "않았다",
            "못했어요",
            "하지마",
            "on",
            "İno",
            "plain",
        ]
    )
).flatmap(
    lambda words: st.lists(
        st.sampled_from([" ", ". ", ' "', "\n", "(", "—", ","]), min_size=len(words), max_size=len(words)
    ).map(lambda gaps: "".join(word + gap for word, gap in zip(words, gaps, strict=True)))
)
_HEADS = re.compile(r"^[ \t]*(?:-|\w{1,3}:)(?=[ \t])", re.MULTILINE)
_LINED = st.lists(
    st.sampled_from(["- a", "x: y", " - ", "\tno: z", "\n", "\r\n", "a", " ", "\u3000- b", "é: \n"])
).map("".join)


@given(_TAGGED)
def test_tags_are_those_of_the_pattern(text: str) -> None:
    assert tag_places(codepoints(text)).tolist() == [list(tag.span()) for tag in TAG.finditer(text)]


def test_a_tag_has_at_most_two_thousand_characters() -> None:
    for inside in (
        "a" * 2001,
        "a" * 2002,
        "/" + "a" * 2001,
        "/" + "a" * 2002,
        "!" + "a" * 2000,
        "!" + "a" * 2001,
    ):
        text = f"<{inside}>"
        assert len(tag_places(codepoints(text))) == len(TAG.findall(text))


@given(_NEGATIVE)
def test_no_negation_is_missed(text: str) -> None:
    words = split_words(text)
    candidates = set(negation_candidates(words).tolist())
    longest = max(map(len, NEGATIONS)) + 4
    for index, word in enumerate(words.strings()):
        assert index in candidates or not is_negation(word) or len(word) > longest, word


def test_a_negation_is_found_in_any_case_and_between_any_signs() -> None:
    for word in sorted(NEGATIONS):
        for form in (word, word.upper(), word.title(), f'"{word}".', f"({word}),"):
            words = split_words(form)
            if len(words) == 1 and is_negation(form):
                assert negation_candidates(words).tolist() == [0], form


@given(_LINED)
def test_matches_at_line_heads_are_all_matches(text: str) -> None:
    words = split_words(text)
    assert list(match_heads(_HEADS, words, line_heads(words))) == [
        found.span() for found in _HEADS.finditer(text)
    ]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=6))
def test_cover(spans: list[tuple[int, int]]) -> None:
    covered = cover(np.asarray(spans, np.int64).reshape(-1, 2), 20).tolist()
    assert covered == [any(start <= at < end for start, end in spans) for at in range(20)]


def test_words_at_places_of_spaces_and_words() -> None:
    words = split_words(" one  two")
    assert words_at(words, np.asarray([0, 1, 3, 4, 5, 6, 8])).tolist() == [0, 1]


def test_slices_render_with_every_kind_of_character() -> None:
    text = "a\ud800 é👍中\x00z"
    slices = np.asarray([[0, 2], [3, 6], [7, 8]])
    assert render(split_words(text), slices) == "a\ud800é👍中z"


def test_spans_are_a_sequence_of_spans() -> None:
    spans = Spans(np.asarray([[0, 2], [3, 5]]))
    assert len(spans) == 2
    assert spans[-1] == Span(3, 5)
    assert spans == (Span(0, 2), Span(3, 5)) == tuple(spans)
    assert spans[:1] == Spans(np.asarray([[0, 2]]))
    assert spans != "no"
    assert hash(spans) == hash(Spans(np.asarray([[0, 2], [3, 5]])))
