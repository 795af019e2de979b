from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.text import searching
from compressor.text.searching import begin_of, end_of, is_blank, stands_in

LETTERS = st.text(st.sampled_from("ab <\n\t\u3000é\x1c"), max_size=40)


@pytest.mark.parametrize("step", [1, 3, 1000])
@given(text=LETTERS, word=st.text(st.sampled_from("ab <"), min_size=1, max_size=4))
def test_long_texts_are_looked_into_as_short_ones_are(step: int, text: str, word: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "_STEP", step)
        assert stands_in(text, word) is (word in text)
        assert stands_in(text.encode(), word.encode()) is (word in text)
        assert is_blank(text) is (not text.strip())
        assert text[begin_of(text) :] == text.lstrip()
        assert text[: end_of(text)] == text.rstrip()
