"""Each fuzzing target over its seeds, over what once broke it, and over seeds broken in simple ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, Target

# Inputs that a run of the fuzzer found; what they broke is mended.
FOUND: dict[str, tuple[bytes, ...]] = {
    # A line end that was cut into chunks was shortened twice.
    "event_stream": (b'\x00data: {"choices":[]}\r\r\n mata: [DONE]\n\n',),
    # A list cut into pieces was taken although it ended with a comma.
    "request_body": (b'\x00{"model":"m","messages":[{"role":"user"},],"n":1}',),
    "tags": (
        b"<llmlingua, rate=1.4>text</llmlingua> rest",  # refused by an error that was not announced
        b"<llmlinguA, rate=0.4>text</llmlinguA> rest",  # no tag for one function, a tag for the other
    ),
}


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_finds(name: str) -> None:
    target = TARGETS[name]
    for seed in (*target.seeds, *FOUND.get(name, ()), b"", b"\x00", b"\xff" * 40):
        target.run(seed)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
def test_broken_seeds(name: str, data: st.DataObject) -> None:
    target: Target = TARGETS[name]
    seed = data.draw(st.sampled_from(target.seeds))
    at = data.draw(st.integers(0, len(seed)))
    end = data.draw(st.integers(at, len(seed)))
    word = data.draw(st.one_of(st.sampled_from(target.words).map(str.encode), st.binary(max_size=8)))
    target.run(seed[:at] + word + seed[end:])
