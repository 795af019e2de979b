"""Where slices begin and end: kept small, stored in a byte an edge, cut out in pieces."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.compression import bounds as bounds_module
from gateway.compression.bounds import (
    FEW,
    Bounds,
    compact,
    decode_bounds,
    encode_bounds,
    size_of,
    slices_of,
)
from gateway.compression.prefixes import Form, decode_form

# Words and what is left out between them; around the largest byte; far apart.
distances = st.lists(st.integers(0, 12) | st.integers(253, 257) | st.integers(0, 10**7), max_size=60)
risen = distances.map(lambda each: list(accumulate(each)))


def stored(edges: Bounds) -> tuple[bytes, int]:
    pieces, far = encode_bounds(edges)
    return b"".join(pieces), far


@pytest.mark.parametrize("at_once", [1, 7, 20_000])
@given(edges=st.lists(st.integers(0, 2**32 - 1), max_size=60))
def test_bounds_are_kept_small_and_stay_equal(at_once: int, edges: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds_module, "_AT_ONCE", at_once)
        bounds = compact(edges)
    assert list(bounds) == edges
    assert bounds == compact(tuple(edges))
    assert size_of(compact(range(1000))) < 5000 < size_of(tuple(range(1000)))


@pytest.mark.parametrize("edge", [-1, 2**32])
def test_what_is_no_place_in_a_text_is_refused(edge: int) -> None:
    with pytest.raises(OverflowError):
        compact([edge])
    assert decode_form(Form(1, 1, 0, ((0, 9, (0, 7)),)).encode().replace(b"7", str(edge).encode())) is None


@pytest.mark.parametrize("at_once", [1, 7, 20_000])
@given(edges=risen)
def test_stored_bounds_read_the_same(at_once: int, edges: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds_module, "_AT_ONCE", at_once)
        data, far = stored(compact(edges))
        read = decode_bounds(memoryview(data + b"what follows"), len(edges), far)
    assert read == compact(edges)
    assert len(data) == len(edges) + 4 * far


def test_an_edge_is_stored_in_a_byte() -> None:
    assert len(stored(compact(range(0, 5_000_000, 5)))[0]) == 1_000_000


@given(edges=risen)
def test_few_and_many_survive_the_store_within_a_form(edges: list[int]) -> None:
    few, many = tuple(edges[:FEW]), compact(range(0, 2000, 7))
    form = Form(9, 5, 0, ((0, 10**9, few), (1, 2000, many), (2, 10**9, compact(edges)), (3, 4, ())))
    assert decode_form(form.encode()) == form


@given(edges=risen.filter(bool), cut=st.integers(1, 9), data=st.data())
def test_damaged_bounds_are_refused(edges: list[int], cut: int, data: st.DataObject) -> None:
    whole, far = stored(compact(edges))
    with pytest.raises(ValueError, match="cut off"):
        decode_bounds(memoryview(whole)[:-cut], len(edges), far)
    if far:
        with pytest.raises(ValueError, match="damaged"):  # a far edge without its rest
            decode_bounds(memoryview(whole), len(edges), far - 1)
    if far < len(edges):
        with pytest.raises(ValueError, match="damaged"):  # a rest without its edge
            decode_bounds(memoryview(whole + bytes(4)), len(edges), far + 1)
    form = bytearray(Form(9, 5, 0, ((0, 10**9, compact([*edges, *([edges[-1]] * FEW)])),)).encode())
    form[data.draw(st.integers(0, len(form) - 1))] = data.draw(st.integers(0, 255))
    read = decode_form(bytes(form))
    if read is not None:  # then it is some other form, whose edges do not fall
        assert all(list(bounds) == sorted(bounds) for _, _, bounds in read.cuts if len(bounds) > FEW)


def test_edges_beyond_four_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="damaged"):
        decode_bounds(memoryview(b"\xff\xff" + b"\xff\xff\xff\xff" * 2), 2, 2)


def test_falling_edges_are_not_stored() -> None:
    with pytest.raises(ValueError, match="fall"):
        encode_bounds((0, 5, 3, 9))


def test_a_form_that_was_stored_as_numbers_alone_is_read() -> None:
    numbers = list(range(0, 200, 3))
    old = b"[9,5,0,[[1,200,%b]],1]" % str(numbers).encode()
    assert decode_form(old) == Form(9, 5, 0, ((1, 200, compact(numbers)),), aged=True)


@given(text=st.text(max_size=80), cuts=st.lists(st.integers(0, 80)), edges=st.integers(1, 4))
def test_slices_are_put_together_in_pieces(text: str, cuts: list[int], edges: int) -> None:
    cuts = sorted(min(cut, len(text)) for cut in cuts)
    bounds = tuple(cuts[: len(cuts) // 2 * 2])
    pairs = zip(bounds[::2], bounds[1::2], strict=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds_module, "_AT_ONCE", 2 * edges)
        assert slices_of(text, bounds) == "".join(text[start:end] for start, end in pairs)
        if len(set(bounds)) > 1:
            with pytest.raises(ValueError, match="damaged"):
                slices_of(text, bounds[::-1])
