from __future__ import annotations

import pytest

from gateway.compression.habits import NO_HABITS, Habits, decode_habits
from gateway.compression.prefixes import PrefixStore
from gateway.stores.memory import MemoryCache


def after(habits: Habits, turns: int, conversations: int) -> Habits:
    for _ in range(conversations):
        for turn in range(turns):
            habits = habits.after(begins=turn == 0, read=None)
    return habits


def test_turns_ahead_are_those_that_followed() -> None:
    assert NO_HABITS.turns_ahead == 2
    assert after(NO_HABITS, 1, 12).turns_ahead == pytest.approx(0.8)
    assert after(NO_HABITS, 3, 400).turns_ahead == pytest.approx(2)
    assert after(NO_HABITS, 30, 200).turns_ahead > 25


def test_what_was_long_ago_counts_less() -> None:
    agents = after(NO_HABITS, 20, 500)
    assert after(agents, 1, 5_000).turns_ahead < 0.1
    assert after(agents, 1, 5_000).begun <= 501


def test_one_miss_says_nothing_and_four_do() -> None:
    habits = NO_HABITS
    for count in range(1, 5):
        habits = habits.after(begins=False, read=0.0)
        assert habits.read == (0.0 if count == 4 else None)
    for _ in range(8):
        habits = habits.after(begins=False, read=1.0)
    assert habits.read is not None and 0.5 < habits.read < 1


@pytest.mark.parametrize("data", [None, b"", b"{", b"[1,2]", b'["a",1,2,0.5]', b"7", b"null"])
def test_what_cannot_be_read_is_not_known(data: bytes | None) -> None:
    assert decode_habits(data) == NO_HABITS


async def test_replicas_share_them() -> None:
    store = MemoryCache()
    one, other = PrefixStore(store), PrefixStore(store)
    for begins in (True, False, False):
        await one.note_turn("space", begins=begins, read=0.5)
        await other.note_turn("space", begins=begins, read=0.5)
    kept = decode_habits((await store.get_many(["h:space"]))[0])
    assert (kept.begun, kept.further, kept.read) == (2, 4, 0.5)
