"""What was worked out of long texts, kept by their content, so that a text met again costs a comparison.

Clients send a conversation anew at every turn. Hashing half a megabyte takes half a millisecond, and putting
its shortened form together another; comparing it with the copy kept here takes some microseconds.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from compressor.text.searching import are_same
from gateway.chat.validation import Check
from gateway.compression.bounds import Bounds, size_of, slices_of

_Name = tuple[bytes, int, str]  # team, length, sample

# Shorter texts are hashed in a microsecond or two; keeping them would only push longer ones out.
LONG_CHARACTERS = 1024
_KEPT_BYTES = 8 * 1024 * 1024  # a dozen conversations of 100,000 tokens, or a hundred of 10,000
_SAMPLES = 64  # characters that a text is looked up by; then it is compared as a whole
_SHORTENED = 4  # forms kept of one text: those of teams or policies that use it at the same time
_PASSED = 1_000  # pairs that have passed a check, of texts that are too long to be kept
_PIECE = 256 * 1024  # characters encoded in one step: no longer one shuts all other threads out
_ENTRY_BYTES = 1000  # of an entry besides its texts


@dataclass(slots=True)
class _Shortened:
    """One form of a text."""

    bounds: Bounds
    text: str
    passed: Check | None = None


@dataclass(slots=True)
class Remembered:
    """One text and what is known of it."""

    text: str
    digest: bytes  # SHA-256
    counts: dict[str, int] = field(default_factory=dict)  # tokenizer -> tokens
    shortened: tuple[_Shortened, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of memory."""
        shortened = sum(sys.getsizeof(one.text) + size_of(one.bounds) for one in self.shortened)
        return _ENTRY_BYTES + sys.getsizeof(self.text) + shortened


@dataclass(slots=True, eq=False)
class _Shelf:
    """What the views of all teams stand on."""

    most: int
    room: int
    known: OrderedDict[_Name, Remembered] = field(default_factory=OrderedDict)
    passed: OrderedDict[tuple[object, ...], None] = field(default_factory=OrderedDict)  # of texts not kept
    lock: threading.Lock = field(default_factory=threading.Lock)


class TextMemory:
    """The texts seen last, bounded in bytes. Safe from any thread.

    Each team sees what it sent itself: a text that is known is answered sooner, and when another team's text
    did so, its clients could find out by the clock what others send.
    """

    def __init__(self, kept_bytes: int = _KEPT_BYTES) -> None:
        self._shelf = _Shelf(kept_bytes, kept_bytes)
        self._team = b""

    def of_team(self, salt: bytes) -> TextMemory:
        """The view of the team that has this salt; all share the room."""
        view = TextMemory.__new__(TextMemory)  # `copy` takes ten times as long, and each request has a view
        view._shelf, view._team = self._shelf, salt
        return view

    @property
    def most_bytes(self) -> int:
        """Bytes that all teams may use together."""
        return self._shelf.most

    @property
    def kept_bytes(self) -> int:
        """Bytes in use, by all teams."""
        return self._shelf.most - self._shelf.room

    def new_characters(self, texts: Iterable[str]) -> int:
        """How many characters are in none of the texts that are here."""
        return sum(
            len(text)
            for text in texts
            if len(text) < LONG_CHARACTERS or self._find(self._name_of(text), text) is None
        )

    def counts_of(self, text: str) -> Mapping[str, int]:
        """Tokens of a long text by tokenizer; empty when it is not here."""
        known = self._find(self._name_of(text), text)
        return known.counts if known is not None else {}

    def of(self, text: str) -> Remembered:
        """What is known of the text: at least its digest. Texts that are short or huge are not kept."""
        if len(text) < LONG_CHARACTERS:
            return Remembered(text, digest_of(text))
        name = self._name_of(text)
        known = self._find(name, text)
        if known is None:
            known = Remembered(text, digest_of(text))
            if 4 * known.size <= self._shelf.most:
                self._keep(name, known)
        return known

    def shortened(self, text: str, bounds: Bounds) -> str:
        """The slices of the text within these bounds. Raises ValueError when these are none of the text's."""
        if len(text) < LONG_CHARACTERS:
            return slices_of(text, bounds)
        name = self._name_of(text)
        known = self._find(name, text)
        if known is None:
            return slices_of(text, bounds)
        for form in known.shortened:
            if form.bounds is bounds:  # comparing thousands of numbers takes as long as slicing
                return form.text
        others = [form for form in known.shortened if form.bounds != bounds][-_SHORTENED + 1 :]
        equal = next((form for form in known.shortened if form.bounds == bounds), None)
        form = _Shortened(bounds, slices_of(text, bounds)) if equal is None else replace(equal, bounds=bounds)
        with self._shelf.lock:
            if self._shelf.known.get(name) is known:
                before = known.size
                known.shortened = (*others, form)
                self._shelf.room += before - known.size
                self._make_room()
        return form.text

    def passes(self, text: str, shortened: str, check: Check) -> bool:
        """The check's answer. A pair that has passed it is not looked at again while that is remembered."""
        if len(text) < LONG_CHARACTERS:
            return check(text, shortened)
        known = self._find(self._name_of(text), text)
        form = next((one for one in known.shortened if one.text is shortened), None) if known else None
        if form is not None:
            if form.passed is not check and check(text, shortened):
                form.passed = check
            return form.passed is check
        name = (self._team, digest_of(text), digest_of(shortened), check.__qualname__)
        if name not in self._shelf.passed:
            if not check(text, shortened):
                return False
            with self._shelf.lock:
                self._shelf.passed[name] = None
                if len(self._shelf.passed) > _PASSED:
                    self._shelf.passed.popitem(last=False)
        return True

    def _find(self, name: _Name, text: str) -> Remembered | None:
        with self._shelf.lock:
            known = self._shelf.known.get(name)
            if known is None or not are_same(known.text, text):
                return None
            self._shelf.known.move_to_end(name)
            return known

    def _keep(self, name: _Name, known: Remembered) -> None:
        with self._shelf.lock:
            other = self._shelf.known.pop(name, None)
            if other is not None:
                self._shelf.room += other.size
            self._shelf.known[name] = known
            self._shelf.room -= known.size
            self._make_room()

    def _make_room(self) -> None:
        while self._shelf.room < 0 and self._shelf.known:
            _, dropped = self._shelf.known.popitem(last=False)
            self._shelf.room += dropped.size

    def _name_of(self, text: str) -> _Name:
        return self._team, len(text), text[:: len(text) // _SAMPLES + 1]


def digest_of(text: str) -> bytes:
    """SHA-256 of the text."""
    if len(text) <= _PIECE:
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    digest = hashlib.sha256()
    for start in range(0, len(text), _PIECE):
        digest.update(text[start : start + _PIECE].encode("utf-8", "surrogatepass"))
    return digest.digest()
