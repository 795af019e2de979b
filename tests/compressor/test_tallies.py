from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.text import rendering, tallies
from compressor.text.characters import codepoints
from compressor.text.tallies import joined, running_count, totals
from compressor.text.words import split_words


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("size", [0, 1, 1000])
def test_counts_as_cumsum_does(dtype: type[np.signedinteger], size: int) -> None:
    marks = np.random.default_rng(size).random(size) < 0.3
    counts = running_count(marks, dtype)
    assert counts.dtype == dtype
    assert (counts == np.cumsum(marks)).all()
    steps = np.random.default_rng(size).integers(-1, 2, size, dtype=np.int8)
    assert (running_count(steps, dtype) == np.cumsum(steps, dtype=np.int64)).all()
    assert size == 0 or not np.shares_memory(steps, running_count(steps, dtype))


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 200_000])
def test_long_counts_are_those_of_one_step(size: int) -> None:
    draw = np.random.default_rng(size)
    marks, costs = draw.random(size) < 0.3, draw.random(size).astype(np.float32)
    assert np.array_equal(running_count(marks), np.cumsum(marks))
    assert np.array_equal(running_count(costs, np.float64), np.cumsum(costs, dtype=np.float64))
    edges = np.resize(np.array([1, 0, -1, 0, 0], np.int8), size)
    assert np.array_equal(running_count(edges, np.int8), np.cumsum(edges, dtype=np.int8))


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@given(sizes=st.lists(st.integers(0, 9), max_size=30), step=st.integers(1, 40), more=st.integers(0, 3))
def test_totals_are_those_of_one_step(
    dtype: type[np.signedinteger], sizes: list[int], step: int, more: int
) -> None:
    units = np.repeat(np.arange(len(sizes), dtype=dtype), sizes)  # some have nothing
    weights = np.random.default_rng(len(units)).random(len(units)).astype(np.float32)
    least = int(units[-1]) + 1 if len(units) else 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tallies, "_STEP", step)
        assert np.array_equal(totals(units, weights), np.bincount(units, weights))
        count = least + more
        assert np.array_equal(totals(units, weights, count), np.bincount(units, weights, count))


@pytest.mark.parametrize("step", [1, 3, 7])
def test_a_text_is_put_together_in_steps(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    words = split_words("ein Wört, 会議 \ud800 🙂 and more of it")
    slices = np.array([[0, 4], [10, 19], [25, 29]])
    monkeypatch.setattr(rendering, "_STEP", step)
    expected = "".join(words.text[start:end] for start, end in slices.tolist())
    assert rendering.render(words, slices) == expected


@pytest.mark.parametrize("size", [256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 600_000])
def test_code_points_of_a_long_text_are_those_of_its_characters(size: int) -> None:
    text = ("ein Wört, 会議 \ud800 🙂 " * (size // 10))[:size]
    assert codepoints(text).tolist() == [ord(character) for character in text]


@pytest.mark.parametrize("count", [1, 499, 500, 501, 1001])
def test_many_arrays_are_joined_as_by_concatenate(count: int) -> None:
    arrays = [np.arange(n % 4, dtype=np.uint8) for n in range(count)]
    whole = joined(given := list(arrays))
    assert whole.dtype == np.uint8 and not given
    assert np.array_equal(whole, np.concatenate(arrays))
