"""What a large request leaves behind, let go of in small portions on a thread.

A hundred thousand objects that die together hold Python's lock for tens of milliseconds, in which the event
loop stands still; so does a full collection of cycles that comes upon them while they live.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from compressor.turns import in_turns

# Bytes of a body from which on a request is a large one, and a huge one: it takes some seconds.
LARGE, HUGE = 512 * 1024, 4 * 1024 * 1024
_PORTION = 500  # objects: a tenth of a millisecond or two
_LARGE_TEXT = 1024 * 1024  # characters or bytes: giving so much memory back takes as long
# By then the request's own frames are gone, so that nothing but the portions holds these objects.
_AFTER_SECONDS = 0.05
_PAUSE_SECONDS = 0.0002
_LONGEST_SECONDS = 60  # where large requests never end, full collections come back all the same
# Young objects are looked at for cycles after so many: half a millisecond. The usual 50,000 take up to 20.
_YOUNG = 2_000
_NEVER = 1_000_000  # rounds of the youngest generation before older ones are looked at
_NONE = (0, _NEVER, _NEVER)  # thresholds without any collection
_LONGEST_HUGE_SECONDS = 600  # where huge ones never end, those of young objects do, too

_GIVEN_BACK = 2 * 1024 * 1024  # bytes of memory given back in one call
_LEAST_HEAD, _LARGEST_HEAD = sys.getsizeof(b"") - 1, 128  # bytes in front of what an object holds

_portions: ContextVar[list[list[Any]] | None] = ContextVar("portions", default=None)
_size: ContextVar[int] = ContextVar("size", default=0)


class _Collections:
    """Has collections take short steps while large requests run: of young objects only, 2,000 at a time.

    While huge ones run there are none: a list of 100,000 elements alone takes 20 ms, and requests make hardly
    a cycle. What lives when they come back counts as old, so that nobody looks at all of it then.
    """

    def __init__(self) -> None:
        self._running = self._huge = 0
        self._since = self._huge_since = 0.0
        self._usual = gc.get_threshold()
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def put_off(self, *, huge: bool) -> None:
        with self._lock:
            now = time.monotonic()
            if not self._running:
                self._since, self._usual = now, gc.get_threshold()
            if huge and not self._huge:
                self._huge_since = now
                self._timer = threading.Timer(_LONGEST_HUGE_SECONDS, self._look)
                self._timer.daemon = True
                self._timer.start()
            self._running += 1
            self._huge += huge
            self._adjust()

    def resume(self, *, huge: bool) -> None:
        with self._lock:
            self._running -= 1
            self._huge -= huge
            if self._timer is not None and not self._huge:
                self._timer.cancel()
                self._timer = None
            self._adjust()

    def _look(self) -> None:
        with self._lock:
            self._adjust()

    def _adjust(self) -> None:
        now = time.monotonic()
        wanted = self._usual
        if self._huge and now - self._huge_since < _LONGEST_HUGE_SECONDS:
            wanted = _NONE
        elif self._running and now - self._since <= _LONGEST_SECONDS:
            wanted = (_YOUNG, _NEVER, _NEVER)
        if gc.get_threshold() == _NONE != wanted:
            gc.freeze()  # these two move everything into the oldest generation, and look at nothing
            gc.unfreeze()
        gc.set_threshold(*wanted)


_collections = _Collections()


@contextmanager
def large_request(size: int = LARGE) -> Iterator[None]:
    """Around a request whose body is large, of so many bytes: what `keep` is told of is released some time
    after it.
    """
    portions: list[list[Any]] = []
    tokens = _portions.set(portions), _size.set(size)
    huge = size >= HUGE
    _collections.put_off(huge=huge)
    try:
        yield
    finally:
        _portions.reset(tokens[0])
        _size.reset(tokens[1])
        threading.Thread(target=_release, args=(portions, huge), name="terse-release", daemon=True).start()


def size_of_request() -> int:
    """Bytes of the large request that this is part of; 0 for others."""
    return _size.get()


def keep(*values: Any) -> None:
    """Holds long sequences and mappings with their elements, and long texts and arrays, until the large
    request is over.

    Does nothing outside of one. Elements that are added later are not held.
    """
    portions = _portions.get()
    if portions is None:
        return
    for value in values:
        if isinstance(value, str | bytes | np.ndarray):
            portions += [[value]] if _is_large(value) else []
        elif len(value) > _PORTION and not isinstance(value, range):  # which holds nothing
            parts = (list(value), list(value.values())) if isinstance(value, Mapping) else (value,)
            for part in parts:
                portions += [list(part[start : start + _PORTION]) for start in range(0, len(part), _PORTION)]
            portions += [[value]]  # released before its elements are, so that none of them ends with it


def keep_json(value: Any) -> None:
    """Holds the elements of the long lists and the long texts of a JSON document."""
    if _portions.get() is None:
        return
    waiting = [value]
    while waiting:
        node = waiting.pop()
        keep(node)
        if not isinstance(node, str):
            inner = node.values() if isinstance(node, dict) else in_turns(node)
            waiting += [each for each in inner if isinstance(each, dict | list) or _is_large(each)]


def _is_large(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return bool(value.nbytes >= _LARGE_TEXT)
    return isinstance(value, str | bytes) and len(value) >= _LARGE_TEXT


def _release(portions: list[list[Any]], huge: bool) -> None:
    never = threading.Event()
    never.wait(_AFTER_SECONDS)
    try:
        for portion in reversed(portions):
            if len(portion) == 1:
                _give_back(portion)
            portion.clear()
            never.wait(_PAUSE_SECONDS)
    finally:
        _collections.resume(huge=huge)


def _give_back(portion: list[Any]) -> None:
    """Empties what a portion alone holds, in pieces: ending, it would do so in one call under Python's lock.

    What such a large text, bytes, list or mapping holds is lost, so the one reference to it must be the
    portion's; in a Python without its lock nobody can tell.
    """
    if not _LOCKED or _references(portion) > _OWN_REFERENCES:
        return
    if type(portion[0]) in (list, dict):
        _empty(portion[0])
    elif _advise is not None and isinstance(portion[0], str | bytes) and _is_large(portion[0]):
        _give_pages_back(portion[0], _advise)


def _empty(value: list[Any] | dict[Any, Any]) -> None:
    """Whatever it holds is still in the portions: 129,000 of them take 4 ms to let go of."""
    never = threading.Event()
    while len(value) > _PORTION:
        if isinstance(value, list):
            del value[-_PORTION:]
        else:
            for _ in range(_PORTION):
                value.popitem()
        never.wait(_PAUSE_SECONDS)


def _give_pages_back(value: str | bytes, advise: Callable[[int, int, int], int]) -> None:
    """Gives the memory of a text to the system: 32 MB take 7 to 9 ms. The call lets go of the lock."""
    # Whole pages behind the object's own fields. A text that is not ASCII takes one byte a letter, or two or
    # four: one is certain.
    start = -(-(id(value) + _LARGEST_HEAD) // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (id(value) + _LEAST_HEAD + len(value)) // mmap.PAGESIZE * mmap.PAGESIZE
    never = threading.Event()
    for place in range(start, end, _GIVEN_BACK):
        advise(place, min(_GIVEN_BACK, end - place), mmap.MADV_DONTNEED)
        never.wait(_PAUSE_SECONDS)


def _references(portion: list[Any]) -> int:
    value = portion[0]
    return sys.getrefcount(value)


_LOCKED: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
# Of an object that is in its portion and nowhere else; how many that are differs between Python's versions.
_OWN_REFERENCES = _references([bytes(1000)])


def _find_advise() -> Callable[[int, int, int], int] | None:
    """The system's `madvise`, where there is one that drops pages at once."""
    if sys.platform != "linux":
        return None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes, advise.restype = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int), ctypes.c_int
    return advise


_advise = _find_advise()
