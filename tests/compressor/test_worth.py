"""What a word is worth: repeated words less, first sentences of documents more, everything else its score."""

from __future__ import annotations

import string
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compressor.text.units import split_units
from compressor.text.words import split_words
from compressor.text.worth import mentions_before, shift_of_words, weigh_words

SIGNS = ".,;:!?\"'()[]{}"
WORDS = st.lists(st.text(string.ascii_letters + "éÀß" + SIGNS, min_size=1, max_size=12), max_size=60)


def worth_of(text: str, score: int = 100) -> list[float]:
    words = split_words(text)
    shift = shift_of_words(words, split_units(words))
    result: list[float] = weigh_words(shift, np.full(len(words), score, np.uint8)).tolist()
    return result


@given(parts=WORDS)
def test_mentions_are_counted_without_case_and_signs(parts: list[str]) -> None:
    words = split_words(" ".join(parts))
    seen: Counter[str] = Counter()
    expected = []
    for word in words.strings():
        bare = "".join(sign.lower() for sign in word if sign not in SIGNS)
        expected.append(seen[bare] if bare else 0)
        seen[bare] += 1
    assert mentions_before(words).tolist() == expected


def test_a_repeated_word_is_worth_less_each_time() -> None:
    first, other, again, third = worth_of('Steam rises. "steam", STEAM')
    assert first == other == 100
    assert first > again > third > 0


def test_characters_of_scripts_without_spaces_may_repeat() -> None:
    assert set(worth_of("東京の東京の東京")) == {100}


def test_the_first_sentence_of_each_of_several_documents_is_worth_more() -> None:
    one = "Document [1] Apples grow here. Pears do not.\n\n"
    assert max(worth_of(one)) == 100
    text = "".join(
        f"Document [{number}] {a} grow. {b} rot.\n\n" for number, (a, b) in enumerate(["AB", "CD", "EF"])
    )
    words = split_words(text).strings()
    worth = dict(zip(words, worth_of(text), strict=True))
    assert all(worth[word] > 100 for word in "ACE")
    assert all(worth[word] == 100 for word in "BDF")


@given(parts=WORDS, seed=st.integers(0, 100))
def test_worth_is_a_whole_number_of_a_byte(parts: list[str], seed: int) -> None:
    words = split_words(" ".join(parts))
    scores = np.random.default_rng(seed).integers(0, 256, len(words)).astype(np.uint8)
    worth = weigh_words(shift_of_words(words, split_units(words)), scores)
    assert worth.dtype == np.float32 and worth.shape == scores.shape
    assert np.array_equal(worth, np.rint(worth)) and ((worth >= 0) & (worth <= 255)).all()
