from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.text import pieces
from compressor.text.pieces import join_bytes, join_pieces, part_of

# One of each width in which Python stores texts, and what cannot be written as UTF-8.
LETTERS = st.text(st.sampled_from("ab \x7f\x80é\xff\u0100가\ud800\udfff\uffff\U00010000😀"), max_size=12)


@pytest.mark.parametrize("step", [0, 1, 5, 1000])
@given(parts=st.lists(LETTERS, max_size=8))
def test_pieces_are_put_together_as_by_one_call(step: int, parts: list[str]) -> None:
    expected = "".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "_STEP", step)
        given_away = list(parts)
        joined = join_pieces(given_away)
    # A text stored wider than it must be is neither equal nor found in a mapping.
    assert joined == expected and expected == joined and {expected: 1}[joined] == 1
    assert hash(joined) == hash(expected) and joined.isascii() is expected.isascii()
    assert not joined or not given_away or len("".join(parts)) <= step


@pytest.mark.parametrize("step", [1, 4, 1000])
@given(text=LETTERS, bounds=st.tuples(st.integers(0, 14), st.integers(0, 14)))
def test_parts_are_cut_as_slices_are(step: int, text: str, bounds: tuple[int, int]) -> None:
    start, end = min(min(bounds), len(text)), min(max(bounds), len(text))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "_STEP", step)
        assert part_of(text, start, end) == text[start:end]


@pytest.mark.parametrize("letter", ["a", "é", "가", "😀"])
def test_a_long_text_of_each_width_is_the_same_text(letter: str) -> None:
    text = "abc " * 200_000 + letter
    part = part_of(text, 1, len(text))
    assert part == text[1:] and hash(part) == hash(text[1:]) and part.encode() == text[1:].encode()
    assert part.isascii() is text.isascii()


@pytest.mark.parametrize("step", [1, 5, 1000])
@given(parts=st.lists(st.binary(max_size=12), max_size=8))
def test_bytes_are_put_together_as_by_one_call(step: int, parts: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "_STEP", step)
        joined = join_bytes(parts)
    assert joined == b"".join(parts) and hash(joined) == hash(b"".join(parts))


def test_long_and_many_bytes_are_put_together() -> None:
    parts = [bytes([n % 251]) * (n % 700) for n in range(5_000)] + [b"end" * 400_000]
    assert join_bytes(parts) == b"".join(parts)
