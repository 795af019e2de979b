"""What a word is worth: repeated words less, first sentences of documents more, everything else its score."""

from __future__ import annotations

import string
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from compressor.text import worth
from compressor.text.choice import Passage, shorten_passages
from compressor.text.korean import particle_letters
from compressor.text.names import articles, find_names
from compressor.text.tokens import counter_for
from compressor.text.units import split_units
from compressor.text.words import Words, split_words
from compressor.text.worth import mentions_before, shift_of_words, weigh_words

SIGNS = ".,;:!?\"'()[]{}"
WORDS = st.lists(st.text(string.ascii_letters + "éÀß" + SIGNS, min_size=1, max_size=12), max_size=60)


def weighed(words: Words, scores: NDArray[np.uint8]) -> NDArray[np.float32]:
    units, article = split_units(words), articles(words)
    shift = shift_of_words(words, units, particle_letters(words), article)
    return weigh_words(shift, find_names(words, units, article), scores)


def worth_of(text: str, score: int = 100) -> list[float]:
    words = split_words(text)
    result: list[float] = weighed(words, np.full(len(words), score, np.uint8)).tolist()
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
    assert mentions_before(words, particle_letters(words)).tolist() == expected


@pytest.mark.parametrize("at_once", [1, 2, 5])
@given(parts=st.lists(st.sampled_from(["Ruf", "ruf.", "会議の", "(", "회의를", "—", "e\u0301s", "a" * 80])))
def test_mentions_are_the_same_some_words_at_a_time(at_once: int, parts: list[str]) -> None:
    words = split_words(" ".join(parts))
    particles = particle_letters(words)
    expected = mentions_before(words, particles)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worth, "_AT_ONCE", at_once)
        patch.setattr(worth, "_SORTED", at_once)
        assert np.array_equal(mentions_before(words, particles), expected)


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
    worth = weighed(words, scores)
    assert worth.dtype == np.float32 and worth.shape == scores.shape
    assert np.array_equal(worth, np.rint(worth)) and ((worth >= 0) & (worth <= 255)).all()


def worth_by_word(text: str, scores: dict[str, int], other: int = 100) -> dict[str, float]:
    words = split_words(text)
    given_scores = np.asarray([scores.get(word, other) for word in words.strings()], np.uint8)
    worth = weighed(words, given_scores)
    return dict(zip(words.strings(), worth.tolist(), strict=True))


def test_the_words_of_a_name_go_half_the_way_to_its_best_and_links_to_the_lesser_neighbour() -> None:
    text = "Under Mental Health Act rules the University of Aberdeen said no. Great Things, Small ones"
    worth = worth_by_word(text, {"Health": 200, "of": 10, "University": 180, "Aberdeen": 150, "Great": 200})
    assert 100 < worth["Mental"] < 200 and worth["Mental"] == worth["Act"] == worth["Under"]
    assert worth["Health"] == 200
    assert worth["of"] == worth["Aberdeen"] == 150  # no capitals next to each other: a link, no run
    assert worth["rules"] == worth["said"] == worth["ones"] == 100
    assert 100 < worth["Things,"] < 200
    assert worth["Small"] == 100  # a comma ends a name


def test_headlines_are_no_names() -> None:
    text = "One Two Three Four Five Six Seven eight"
    assert set(worth_by_word(text, {"One": 250}).values()) == {250, 100}


def test_english_articles_are_worth_less_and_other_languages_have_none() -> None:
    worth = worth_by_word("The boiler feeds a turbine and an engine", {})
    assert worth["The"] == worth["a"] == worth["an"] < 100 == worth["boiler"] == worth["and"]
    assert set(worth_by_word("Ella lleva a casa an Tisch y pan", {}).values()) == {100}


@pytest.mark.parametrize(
    ("word", "particle"),
    [
        ("로이터는", "는"),
        ("서울에서는", "에서는"),
        ("서울에서", "에서"),
        ("스코틀랜드의", "의"),
        ("NASA가", "가"),
        ("2013년을", "을"),
        ("민주주의", ""),  # -ism
        ("전문가", ""),  # -er
        ("국가", ""),
        ("서울까지", ""),  # until
        ("한국도", ""),  # also
        ("로이터는,", ""),
        ("hello", ""),
    ],
)
def test_korean_particles(word: str, particle: str) -> None:
    assert particle_letters(split_words(word)).tolist() == [len(particle)]


def test_korean_words_repeat_whatever_their_particle() -> None:
    first, again, other = worth_of("지휘자가 지휘자를 지휘대로")
    assert first == 100 > again and other == 100


def test_a_particle_goes_with_the_words_behind_it_and_stays_before_those_that_stay() -> None:
    text = "로이터는 오늘 터키 군인들이 앙카라의 방송사를 점령했다고 긴급하게 보도했다"
    words = split_words(text).strings()
    scores = [9 if word in ("오늘", "긴급하게", "보도했다", "점령했다고") else 200 for word in words]
    passage = Passage(text, np.asarray(scores, np.uint8), protect=frozenset())
    counter = counter_for("o200k_base")
    expected = "로이터 터키 군인들이 앙카라의 방송사"
    (short,) = shorten_passages([passage], counter.count(expected), counter)
    assert short.text == expected
    assert "".join(text[span.start : span.end] for span in short.kept) == short.text
