"""Worth in runs: against all choices of short texts, and against the equation that its minimum obeys."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compressor.text.choice import Passage, _columns, shorten_passages
from compressor.text.passages import prepare
from compressor.text.runs import RUN_END, hold_together, worth_in_runs
from compressor.text.tokens import counter_for
from compressor.text.words import split_words

COUNTER = counter_for("o200k_base")
_WORTH = st.one_of(st.floats(-6, 6), st.integers(-3, 3).map(float))
_JOINTS = st.sampled_from([0.0, 0.5, 1.0])


def _chain(worth: list[float], joints: list[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    joint = np.asarray(joints[: len(worth)], np.float64)
    joint[:1] = 0.0
    return np.asarray(worth, np.float64), joint


def _price(
    kept: NDArray[np.bool_], threshold: float, worth: NDArray[np.float64], joint: NDArray[np.float64]
) -> float:
    ends = kept[1:] != kept[:-1]
    return float(((threshold - worth) * kept).sum() + (joint[1:] * ends).sum())


@settings(max_examples=200)
@given(st.lists(_WORTH, min_size=1, max_size=9), st.lists(_JOINTS, min_size=9, max_size=9), st.floats(-6, 6))
def test_at_every_threshold_no_other_choice_of_words_is_better(
    values: list[float], joints: list[float], threshold: float
) -> None:
    worth, joint = _chain(values, joints)
    series = hold_together(worth, joint)
    mine = _price(series > threshold, threshold, worth, joint)
    best = min(
        _price(np.asarray(kept), threshold, worth, joint)
        for kept in itertools.product((False, True), repeat=len(worth))
    )
    assert mine == pytest.approx(best, abs=1e-6)


@given(st.lists(_WORTH, max_size=80), st.lists(_JOINTS, min_size=80, max_size=80))
def test_the_series_is_the_minimum(values: list[float], joints: list[float]) -> None:
    """Its sums run inside a tube around those of the words' worth, and touch its side wherever it steps."""
    worth, joint = _chain(values, joints)
    series = hold_together(worth, joint)
    assert series.shape == worth.shape
    tension = np.cumsum(worth - series)  # behind each word
    sides = np.append(joint[1:], 0.0)
    assert np.all(np.abs(tension) <= sides + 1e-6) if len(worth) else True
    steps = np.diff(series)
    held = joint[1:] > 0
    up, down = held & (steps > 1e-6), held & (steps < -1e-6)
    assert np.allclose(tension[:-1][up], -sides[:-1][up], atol=1e-6)
    assert np.allclose(tension[:-1][down], sides[:-1][down], atol=1e-6)


@given(st.lists(st.lists(_WORTH, min_size=1, max_size=20), max_size=8))
def test_sentences_side_by_side_are_as_each_alone(sentences: list[list[float]]) -> None:
    alone = []
    joints = []
    for values in sentences:
        worth, joint = _chain(values, [RUN_END] * len(values))
        alone.append(hold_together(worth, joint))
        joints.append(joint)
    if sentences:
        together = hold_together(np.concatenate(sentences), np.concatenate(joints))
        assert np.array_equal(together, np.concatenate(alone))


def test_long_texts_go_in_portions_of_whole_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    worth = rng.normal(size=5000) * 3
    joint = np.where(rng.random(5000) < 0.03, 0.0, RUN_END)
    joint[0] = 0.0
    at_once = hold_together(worth, joint)
    for words in (1, 100, 4999, 5000):
        monkeypatch.setattr("compressor.text.runs._AT_ONCE", words)
        assert np.array_equal(hold_together(worth, joint), at_once)


@pytest.mark.parametrize("words", [0, 1, 2, 1000])
def test_equal_words_keep_their_worth(words: int) -> None:
    worth, joint = _chain([1.25] * words, [RUN_END] * words)
    assert np.array_equal(hold_together(worth, joint), worth)


def test_what_was_given_is_left_alone() -> None:
    worth, joint = _chain([3.0, -3.0, 2.0], [0.0, 0.5, 0.5])
    hold_together(worth, joint)
    assert worth.tolist() == [3.0, -3.0, 2.0]
    assert joint.tolist() == [0.0, 0.5, 0.5]


@pytest.mark.parametrize("shape", ["noise", "walk", "stairs", "growing", "saw"])
def test_a_sentence_without_end_takes_no_longer_a_word(shape: str) -> None:
    def series(words: int) -> NDArray[np.float64]:
        rng = np.random.default_rng(0)
        place = np.arange(words)
        return {
            "noise": lambda: rng.normal(size=words) * 3,
            "walk": lambda: np.cumsum(rng.normal(size=words)) / 10,
            "stairs": lambda: place // 100 % 12.0 - 6,
            "growing": lambda: 12.0 * np.exp2(-place / 50),
            "saw": lambda: place % 2 * 1.0,
        }[shape]()

    def seconds(words: int) -> float:
        worth, joint = _chain(series(words).tolist(), [RUN_END] * words)
        taken = []
        for _ in range(3):
            began = time.process_time()
            hold_together(worth, joint)
            taken.append(time.process_time() - began)
        return min(taken)

    assert seconds(100_000) < 40 * max(seconds(10_000), 0.002)


def passage_of(text: str, high: str, low: str, **options: object) -> Passage:
    values = [
        220 if word in high.split() else 20 if word in low.split() else 100
        for word in split_words(text).strings()
    ]
    return Passage(text, np.asarray(values, np.uint8), **options)  # type: ignore[arg-type]


def test_a_word_between_two_good_ones_stays_before_one_alone() -> None:
    text = "red ships carried heavy stones over quiet water toward some little towns"
    passage = passage_of(
        text, "ships heavy", "red stones over quiet water toward little", protect=frozenset()
    )
    assert shorten_passages([passage], 3, COUNTER)[0].text == "ships carried heavy"


def test_a_word_beside_one_that_must_stay_goes_before_one_alone() -> None:
    text = "red ships carried heavy stones 77 over quiet water toward some little towns"
    passage = passage_of(
        text, "ships stones", "red carried heavy over quiet water", protect=frozenset({"numbers"})
    )
    assert shorten_passages([passage], COUNTER.count("stones 77"), COUNTER)[0].text == "stones 77"


@pytest.mark.parametrize("kind", ["code", "log", "json"])
def test_other_kinds_go_by_their_scores(kind: str) -> None:
    text = "# one two three four five\n# six seven eight nine\nx = 1\n"
    values = np.random.default_rng(1).integers(0, 256, len(split_words(text))).astype(np.uint8)
    columns = _columns([prepare(Passage(text, values, kind=kind), COUNTER)])
    worth = worth_in_runs(columns)
    assert np.array_equal(np.argsort(worth, kind="stable"), np.argsort(columns.scores, kind="stable"))
