from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from compressor.training.annotate import align, annotate, annotate_all, measure
from compressor.training.matching import match_words
from compressor.training.records import Chunk, Distilled, Origin


def pair(text: str, compressed: str) -> Distilled:
    return Distilled(Chunk("1", text, Origin("d")), compressed, "teacher")


def kept_words(text: str, compressed: str) -> list[str]:
    record = annotate(pair(text, compressed))
    return [text[span.start : span.end] for span in record.spans]


def test_deleted_words_are_dropped_and_runs_joined_with_their_marks() -> None:
    assert kept_words("So, um, move the release (2.3) to May 4, please.", "move release 2.3 May 4") == [
        "move",
        "release (2.3",
        "May 4",
    ]


def test_inflection_is_matched_in_korean_and_german() -> None:
    assert kept_words("그는 서울에서 태어났다", "서울 태어났다") == ["서울에서 태어났다"]
    assert kept_words("das Dach der alten Brücken", "Dach Brücke") == ["Dach", "Brücken"]


def test_the_nearest_of_two_equal_words_is_taken_and_none_twice() -> None:
    words = match_words("red cat and red dog")
    assert align(words, match_words("red dog red")) == [True, False, False, True, True]


def test_a_word_outside_the_window_is_not_found() -> None:
    text = "start " + "filler " * 50 + "goal"
    assert align(match_words(text), match_words("goal"), window=20).count(True) == 0
    assert align(match_words(text), match_words("goal"), window=200)[-1] is True


def test_measures_are_the_papers() -> None:
    original = match_words("alpha bravo charlie delta")
    shortened = match_words("alpha delta zulu yankee")
    kept = align(original, shortened)
    measured = measure(original, shortened, kept)
    assert measured.variation == 0.5  # zulu and yankee are new
    assert measured.hitting == 0.5  # two of its words, over four
    assert measured.matching == 0.5
    assert measured.gap == 0.0


def test_a_word_said_more_often_than_the_original_has_it_opens_a_gap() -> None:
    original, shortened = match_words("alpha bravo charlie delta"), match_words("alpha alpha alpha")
    measured = measure(original, shortened, align(original, shortened))
    assert (measured.variation, measured.hitting, measured.matching, measured.gap) == (0.0, 0.75, 0.25, 0.5)


def test_garbage_gives_no_labels_and_full_variation() -> None:
    record = annotate(pair("alpha bravo", "!!! ???"))
    assert record.spans == ()
    assert annotate(pair("alpha bravo", "quite other things")).metrics["variation"] == 1.0
    assert list(annotate_all([pair("  ...  ", "x")])) == []


@given(st.text(max_size=200), st.text(max_size=100))
def test_any_text_is_annotated(text: str, compressed: str) -> None:
    record = annotate(pair(text, compressed))
    assert all(0 <= span.start < span.end <= len(text) for span in record.spans)
    assert record.metrics["matching"] <= 1


@given(
    st.lists(st.sampled_from(["alpha", "bravo", "charlie", "delta", "echo"]), min_size=1, max_size=40),
    st.data(),
)
def test_a_true_deletion_is_found_whole(words: list[str], data: st.DataObject) -> None:
    keep = [data.draw(st.booleans()) for _ in words]
    short = " ".join(word for word, stays in zip(words, keep, strict=True) if stays)
    record = annotate(pair(" ".join(words), short))
    assert record.metrics["variation"] == 0
    assert record.metrics["gap"] <= 1e-9
