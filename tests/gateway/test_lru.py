"""A mapping bounded in bytes: who goes first, and how many at once."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from gateway import lru
from gateway.lru import LruCache
from gateway.turns import PAUSE_SECONDS


def sized(max_bytes: int) -> LruCache[int]:
    """Values that are their own size."""
    return LruCache(max_bytes, lambda _, value: value)


def test_the_longest_unused_goes_first() -> None:
    cache = sized(10)
    for key in "abc":
        cache.put(key, 3)
    assert (cache.get("a"), cache.peek("b")) == (3, 3)  # only the first is a use
    cache.put("d", 3)
    assert [cache.peek(key) for key in "abcd"] == [3, None, 3, 3]
    assert (len(cache), cache.bytes_used, cache.evictions) == (3, 9, 1)


def test_a_value_replaces_its_like_and_one_too_large_is_not_kept() -> None:
    cache = sized(10)
    cache.put("a", 4)
    cache.put("a", 5)
    cache.put("b", 5)
    assert (cache.bytes_used, cache.evictions) == (10, 0)
    cache.put("b", 11)
    assert (cache.get("a"), cache.get("b"), cache.bytes_used) == (5, None, 5)
    cache.drop("a")
    cache.drop("a")
    assert (len(cache), cache.bytes_used) == (0, 0)


def test_without_an_event_loop_there_is_room_at_once() -> None:
    cache = sized(5_000)
    for number in range(5_000):
        cache.put(str(number), 1)
    cache.put("large", 4_000)
    assert (cache.bytes_used, len(cache)) == (5_000, 1_001)
    cache.clear()
    assert (cache.bytes_used, len(cache)) == (0, 0)


async def test_what_a_large_value_pushes_out_leaves_in_turns_of_the_event_loop() -> None:
    cache = sized(5_000)
    for number in range(5_000):
        cache.put(str(number), 1)
    cache.put("large", 4_000)
    steps = [cache.evictions]
    cache.put("another", 500)  # meanwhile: room is being made already
    while cache.bytes_used > 5_000:
        assert cache.peek("large") == 4_000
        await asyncio.sleep(PAUSE_SECONDS)
        steps.append(cache.evictions - sum(steps))
    assert max(steps) <= 3 * lru._AT_ONCE  # of a timer that came late
    assert sum(steps) == 4_500 and len(steps) > 20
    assert cache.peek("4999") == 1 and cache.peek("4499") is None
    cache.put("more", 500)  # and it is made again the next time
    for _ in range(1_000):
        if cache.bytes_used > 5_000:
            await asyncio.sleep(PAUSE_SECONDS)
    assert cache.bytes_used == 5_000


async def test_at_twice_the_bound_nothing_is_put_off() -> None:
    cache = sized(5_000)
    for number in range(5_000):
        cache.put(str(number), 1)
    for number in range(20):
        cache.put(f"large {number}", 2_000)
        assert cache.bytes_used <= 10_000


@given(st.lists(st.tuples(st.sampled_from(["put", "get", "drop"]), st.integers(0, 30), st.integers(1, 6))))
def test_it_keeps_what_a_plain_list_of_uses_would(steps: list[tuple[str, int, int]]) -> None:
    cache, used = sized(40), dict[str, int]()  # the longest unused first
    for step, number, size in steps:
        key = f"k{number}"
        if step == "put":
            cache.put(key, size)
            used.pop(key, None)
            used[key] = size
            while sum(used.values()) > 40:
                del used[next(iter(used))]
        elif step == "drop":
            cache.drop(key)
            used.pop(key, None)
        elif cache.get(key) is not None:
            used[key] = used.pop(key)
        kept = {f"k{n}": cache.peek(f"k{n}") for n in range(31)}
        assert {key: size for key, size in kept.items() if size is not None} == used
        assert cache.bytes_used == sum(used.values())
