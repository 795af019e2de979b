"""What is kept of long texts: by content, bounded in bytes, and never of another text that looks alike."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.compression import text_memory
from gateway.compression.text_memory import LONG_CHARACTERS, TextMemory, digest_of

LONG = "The meeting of the board was moved to Friday. " * 60


def bounds_of(cuts: list[int]) -> tuple[int, ...]:
    cuts = sorted(cuts)
    return tuple(cuts[: len(cuts) // 2 * 2])


def test_a_text_is_met_again() -> None:
    memory = TextMemory()
    first = memory.of(LONG)
    first.counts["o200k_base"] = 7
    again = memory.of("".join(list(LONG)))  # equal, and another object
    assert again is first
    assert again.digest == hashlib.sha256(LONG.encode()).digest()
    assert memory.counts_of(LONG) == {"o200k_base": 7}
    assert memory.new_characters([LONG, "short"]) == len("short")


def test_texts_that_look_alike_are_told_apart() -> None:
    memory = TextMemory()
    other = LONG[:1501] + "X" + LONG[1502:]  # same length, ends and samples
    assert memory.of(LONG).digest != memory.of(other).digest
    assert memory.shortened(other, (1500, 1503)) == other[1500:1503]
    assert memory.shortened(LONG, (1500, 1503)) == LONG[1500:1503]
    assert memory.new_characters([other]) in (0, len(other))


def test_memory_is_bounded() -> None:
    memory = TextMemory(kept_bytes=200_000)
    texts = [f"{number} " * 4000 for number in range(50)]
    for text in texts:
        memory.of(text)
        memory.shortened(text, (0, 5000))
    assert memory.new_characters(texts) > 0.5 * sum(map(len, texts))
    assert memory.new_characters(texts[-1:]) == 0  # the latest are here
    assert memory.kept_bytes <= 200_000


def test_a_huge_text_pushes_nothing_out() -> None:
    memory = TextMemory(kept_bytes=200_000)
    memory.of(LONG)
    huge = "word " * 100_000
    assert memory.of(huge).digest == digest_of(huge)
    assert memory.new_characters([LONG]) == 0
    assert memory.new_characters([huge]) == len(huge)


def test_several_forms_of_one_text() -> None:
    memory = TextMemory()
    memory.of(LONG)
    for end in (100, 200, 300, 400, 500, 600, 100):
        assert memory.shortened(LONG, (0, end)) == LONG[:end]


@pytest.mark.parametrize("kept_bytes", [8 * len(LONG), len(LONG)])  # so that it is kept, or only its digest
def test_what_has_passed_a_check_is_not_looked_at_again(kept_bytes: int) -> None:
    memory, looked = TextMemory(kept_bytes), []

    def is_shorter(text: str, shortened: str) -> bool:
        looked.append(shortened)
        return len(shortened) < len(text)

    memory.of(LONG)
    short = memory.shortened(LONG, (0, 1500))
    for _ in range(3):
        assert memory.passes("".join(list(LONG)), short, is_shorter)
    assert len(looked) == 1
    other = LONG[:700] + "X" + LONG[701:]
    assert memory.passes(other, other[:1500], is_shorter)  # another text is looked at
    assert memory.of_team(b"else").passes(LONG, short, is_shorter)  # and another team's
    assert len(looked) == 3
    for _ in range(2):
        assert not memory.passes(LONG, short, lambda text, shortened: False)  # and by another check
    for _ in range(2):
        assert not memory.passes(LONG, LONG, is_shorter)  # what fails is never remembered
    assert len(looked) == 5


def test_what_has_passed_is_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_memory, "_PASSED", 3)
    memory, looked = TextMemory(kept_bytes=0), []

    def is_shorter(text: str, shortened: str) -> bool:
        looked.append(shortened)
        return True

    for end in (1, 2, 3, 4, 4, 1):
        memory.passes(LONG, LONG[:end], is_shorter)
    assert looked == [LONG[:end] for end in (1, 2, 3, 4, 1)]


@pytest.mark.parametrize("bounds", [(0,), (5, 1), (0, 5, 3, 9), (0, len(LONG) + 1)])
def test_bounds_of_another_text_are_refused(bounds: tuple[int, ...]) -> None:
    memory = TextMemory()
    memory.of(LONG)
    with pytest.raises(ValueError, match="damaged"):
        memory.shortened(LONG, bounds)


@given(st.text(min_size=1, max_size=40), st.lists(st.integers(0, 3 * LONG_CHARACTERS), max_size=12))
def test_remembered_or_not_the_slices_are_the_same(piece: str, cuts: list[int]) -> None:
    text = piece * (3 * LONG_CHARACTERS // len(piece) + 1)
    memory, bounds = TextMemory(), bounds_of(cuts)
    expected = "".join(text[a:b] for a, b in zip(bounds[::2], bounds[1::2], strict=True))
    assert memory.shortened(text, bounds) == expected  # not met before
    memory.of(text)
    assert memory.shortened(text, bounds) == expected
    assert memory.shortened(text, tuple(bounds)) == expected


@given(st.text(max_size=80) | st.just("\ud800 lone"))
def test_long_texts_are_hashed_in_pieces(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_memory, "_PIECE", 3)
        assert digest_of(text) == hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def test_a_team_meets_its_own_texts_only() -> None:
    memory = TextMemory(kept_bytes=200_000)
    red, blue = memory.of_team(b"red"), memory.of_team(b"blue")
    text = "confidential " * 200
    red.of(text).counts["o200k_base"] = 401
    assert red.counts_of(text) == memory.of_team(b"red").counts_of(text) == {"o200k_base": 401}
    assert blue.counts_of(text) == memory.counts_of(text) == {}
    assert blue.new_characters([text]) == len(text) and red.new_characters([text]) == 0
    blue.of(text)
    assert memory.kept_bytes == red.kept_bytes == blue.kept_bytes > 2 * len(text)


def test_teams_share_the_room() -> None:
    memory = TextMemory(kept_bytes=200_000)
    for team in range(60):
        memory.of_team(b"%d" % team).of(f"{team} " * 5_000)
    assert memory.kept_bytes <= 200_000
