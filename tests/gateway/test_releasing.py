"""Large requests let go of their objects in portions, and put off collections of all but young objects."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from gateway import releasing
from gateway.releasing import keep, keep_json, large_request
from tests.support.waiting import until


class Thing:
    """Something whose end can be seen."""


class Holder(dict[str, Thing]):
    """A mapping whose end can be seen."""


@pytest.fixture(autouse=True)
def nothing_left() -> None:
    until(lambda: releasing._collections._running == 0)


def test_what_is_kept_lives_until_the_request_is_over_and_not_for_long_after() -> None:
    things = [Thing() for _ in range(3 * 500 + 1)]
    seen = [weakref.ref(thing) for thing in things]
    with large_request():
        keep(things, {n: thing for n, thing in enumerate(things)})
        things = []
        assert all(one() is not None for one in seen)
    until(lambda: not any(one() is not None for one in seen))


def test_what_holds_the_elements_ends_before_them() -> None:
    """A list or mapping that ended last would take all of them along in one step."""
    ended: list[str] = []
    things = {str(n): Thing() for n in range(501)}
    for thing in things.values():
        weakref.finalize(thing, ended.append, "element")
    holder = Holder(things)
    weakref.finalize(holder, ended.append, "holder")
    del thing, things
    with large_request():
        keep(holder)
        del holder
    until(lambda: len(ended) == 502)
    assert ended[0] == "holder"


def test_only_the_inside_of_large_requests_is_kept() -> None:
    things = [Thing() for _ in range(501)]
    seen = weakref.ref(things[0])
    keep(things)
    keep_json(things)
    things = []
    assert seen() is None


def test_few_elements_and_short_texts_are_not_worth_it() -> None:
    with large_request():
        keep([Thing()] * 500, "a" * 1000, {1: 2}, range(5000))
        assert releasing._portions.get() == []
        keep("a" * 1024 * 1024, [1] * 501)
        assert [len(portion) for portion in releasing._portions.get() or []] == [1, 500, 1, 1]


def test_the_long_lists_of_a_document_are_found_wherever_they_are() -> None:
    parts = [{"type": "text", "text": str(n)} for n in range(501)]
    document = {"messages": [{"content": parts}] * 2, "input": "a" * (1024 * 1024), "tools": [1] * 499}
    with large_request():
        keep_json(document)
        assert sum(map(len, releasing._portions.get() or [])) == 2 * (501 + 1) + 1


def test_full_collections_come_back() -> None:
    usual = gc.get_threshold()
    with large_request():
        assert gc.get_threshold() == (releasing._YOUNG, releasing._NEVER, releasing._NEVER)
        with large_request():
            pass
        assert gc.get_threshold()[2] == releasing._NEVER
    until(lambda: gc.get_threshold() == usual)


def test_full_collections_come_back_where_large_requests_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = gc.get_threshold()
    monkeypatch.setattr(releasing, "_LONGEST_SECONDS", 0)
    with large_request():
        with large_request():
            pass
        until(lambda: gc.get_threshold() == usual)


def test_nothing_is_collected_while_huge_requests_run_and_what_lives_then_is_old() -> None:
    usual = gc.get_threshold()
    gc.collect()
    with large_request(releasing.HUGE):
        assert gc.get_threshold()[0] == 0
        with large_request():
            pass
        assert gc.get_threshold()[0] == 0
        living = [[n] for n in range(5000)]
    until(lambda: gc.get_threshold() == usual)
    assert len(living) == 5000 and gc.get_count()[0] < 5000
    old = set(map(id, gc.get_objects(generation=2)))
    assert all(id(one) in old for one in living)
    assert gc.get_freeze_count() == 0
    assert not any(
        isinstance(thread, threading.Timer) and not thread.finished.is_set()
        for thread in threading.enumerate()
    )


def test_young_objects_are_collected_where_huge_requests_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releasing, "_LONGEST_HUGE_SECONDS", 0.2)
    with large_request(releasing.HUGE):
        assert gc.get_threshold()[0] == 0
        until(lambda: gc.get_threshold()[0] == releasing._YOUNG)
        with large_request(releasing.HUGE):
            assert gc.get_threshold()[0] == releasing._YOUNG


def test_requests_of_other_threads_are_others() -> None:
    with large_request(), ThreadPoolExecutor(1) as threads:
        threads.submit(keep, [1] * 1000).result()
        assert releasing._portions.get() == []


def test_long_arrays_are_kept_and_short_ones_are_not() -> None:
    portions: list[list[object]] = []
    token = releasing._portions.set(portions)
    try:
        long, short = np.zeros(2 * 1024 * 1024, np.uint8), np.zeros(1000, np.uint8)
        keep(long, short)
    finally:
        releasing._portions.reset(token)
    assert [[one is long for one in portion] for portion in portions] == [[True]]


@pytest.mark.parametrize("value", ["plain " * 500_000, "gr\u00fc\u00dfe " * 500_000, b"bytes " * 500_000])
def test_memory_is_given_back_in_pieces_unless_somebody_else_holds_it(
    value: str | bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[int, int]] = []
    advise = releasing._advise
    assert advise is not None

    def watched(place: int, size: int, advice: int) -> int:
        given.append((place, size))
        return advise(place, size, advice)

    monkeypatch.setattr(releasing, "_advise", watched)
    own = value[:-1]  # another object
    with large_request():
        keep(own)
    until(lambda: releasing._collections._running == 0)
    assert not given and own == value[:-1]  # held here, so nothing happened to it
    address = id(own)
    with large_request():
        keep(own)
        del own
    until(lambda: releasing._collections._running == 0)
    assert sum(size for _, size in given) > 0.9 * 2_999_999
    assert max(size for _, size in given) <= 2 * 1024 * 1024
    least, most = min(place for place, _ in given), max(place + size for place, size in given)
    assert address < least and most < address + 100 + 2 * 3_000_000


def test_long_lists_and_mappings_are_emptied_in_pieces_unless_somebody_else_holds_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    emptied: list[int] = []
    empty = releasing._empty

    def watched(value: list[Any] | dict[Any, Any]) -> None:
        empty(value)
        emptied.append(len(value))

    monkeypatch.setattr(releasing, "_empty", watched)
    listed, named = [str(n) for n in range(3_000)], {n: str(n) for n in range(3_000)}
    with large_request():
        keep(listed, named)
    until(lambda: releasing._collections._running == 0)
    assert (len(listed), len(named), emptied) == (3_000, 3_000, [])
    with large_request():
        keep(listed, named)
        del listed, named
    until(lambda: releasing._collections._running == 0)
    assert emptied == [500, 500]
