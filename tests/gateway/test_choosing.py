from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.shapes import Shortened, Span, Spans
from gateway.compression import choosing
from gateway.compression.choosing import OMITTED
from gateway.shapes import Segment

Cuts = list[tuple[bool, list[int]]]


def shortened(kept: Spans) -> Shortened:
    return Shortened("", kept, np.zeros(0, np.uint8), 10, 5, "o200k_base")


@pytest.mark.parametrize("few", [0, 3, 1000])
@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 30), max_size=20)), max_size=4))
def test_the_slices_of_a_string_are_those_of_its_segments(few: int, cuts: Cuts) -> None:
    """Slices that touch are one, across segments too; empty ones are none."""
    parts, chosen, expected, start = [], {}, set(), 0
    for whole, places in cuts:
        places = sorted(places)[: len(places) // 2 * 2]
        spans = Spans(np.asarray(places, np.int64).reshape(-1, 2))
        parts.append((Segment(("a",), "x" * 30, 0, "user", "prose", "", "", start), 10))
        if not whole:
            chosen[("a",), start] = shortened(spans)
        for span in [Span(0, 30)] if whole else spans:
            expected |= {start + place for place in range(span.start, span.end)}
        start += 30
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choosing, "_FEW", few)
        patch.setattr(choosing, "_PORTION", 2)
        bounds, saved = choosing._bounds(parts, chosen)
    pairs = list(zip(bounds[::2], bounds[1::2], strict=True))
    assert {place for first, last in pairs for place in range(first, last)} == expected
    assert len(set(bounds)) == len(bounds)
    assert list(bounds) == sorted(bounds)
    assert saved == 5 * len(chosen)


def test_what_is_left_out_has_no_slices() -> None:
    segment = Segment(("a",), "text", 0, "tool", "prose", OMITTED)
    assert choosing._bounds([(segment, 7)], {}) == ([], 7)
