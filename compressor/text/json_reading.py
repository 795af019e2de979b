"""Tells where JSON ends, in short steps: what is short Python's decoder reads, what is long is entered.

The decoder takes 20 ms of one step for 8 MB, in which all other threads stand still.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from compressor.text.searching import place_of
from compressor.turns import give_way

LONG = 64 * 1024  # characters that the decoder takes at once: some 0.2 ms
# Long containers inside of long ones; those that lie deeper are read in one step, so that a text of nothing
# but brackets is not read over and over.
_DEEPEST = 64
_EDGE = 8  # characters before the end of a piece in which a number, a name or an escape may be cut off
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
_COLON = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")
_FOLLOWS = re.compile(r"[ \t\n\r]*([,\]}])[ \t\n\r]*")
_INSIDE = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)  # of a string
_CLOSER = {"[": "]", "{": "}"}
_OPENER = {"]": "[", "}": "{"}


class NotJson(ValueError):
    """No JSON stands there; `place` is where that shows."""

    def __init__(self, place: int) -> None:
        super().__init__(f"no JSON at character {place}")
        self.place = place


def is_document(text: str) -> bool:
    """Whether `json.loads` reads it."""
    try:
        start = _skip(text, 0)
        return _skip(text, JsonReader(text).end_of_value(start)) == len(text)
    except (ValueError, RecursionError):
        return False


def find_strings(text: str) -> Iterator[tuple[int, int]]:
    """Where strings begin and end, quotes included. One that is never closed is none."""
    start = place_of(text, '"')
    while start >= 0 and (last := _closing_quote(text, start + 1)) >= 0:
        give_way()
        yield start, last + 1
        start = place_of(text, '"', last + 1)


def begin_of_string(text: str, start: int, end: int) -> str:
    """What the string between these quotes says, of a long one the first 64,000 characters of JSON. Raises
    ValueError where it is not valid up to there.
    """
    if end - start > LONG:
        return str(json.loads(f'"{text[start : _before_escape(text, start, start + LONG)]}"'))
    return str(json.loads(text[start - 1 : end + 1]))


def _closing_quote(text: str, at: int) -> int:
    while at < len(text):
        give_way()
        found = _INSIDE.match(text, at, at + LONG)
        end = at if found is None else found.end()
        if end < at + LONG and text[end : end + 1] == '"':
            return end
        if end == at:
            break
        at = end
    return -1


class JsonReader:
    """Reads values of one text, of which it holds a piece to give to the decoder."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._piece, self._from, self._upto = "", 0, 0
        self._alone_until = 0  # up to there items are looked at one by one

    def end_of_value(self, start: int) -> int:
        """Where the value ends that begins at `start`, as `JSONDecoder.raw_decode` says.

        Raises NotJson where there is none, ValueError for a number of more digits than Python converts, and
        RecursionError for one nested too deep.
        """
        if len(self._text) <= LONG:
            return self._end_at_once(start)
        text, open_ones, at = self._text, "", start  # `open_ones`: the signs that close what was entered
        while True:
            give_way()
            end = self._end_of_short(at)
            if end < 0 and text[at] in _CLOSER and len(open_ones) < _DEEPEST:
                open_ones += _CLOSER[text[at]]
                first = _skip(text, at + 1)
                if text[first : first + 1] != open_ones[-1]:
                    at = self._next_value(first, open_ones[-1])
                    continue
                open_ones, end = open_ones[:-1], first + 1
            elif end < 0:
                end = self._end_of_string(at) if text[at] == '"' else self._end_at_once(at)
            while open_ones:
                found = _FOLLOWS.match(text, end)
                if found is None or (found[1] != "," and found[1] != open_ones[-1]):
                    raise NotJson(end)
                if found[1] == ",":
                    at = self._next_value(found.end(), open_ones[-1])
                    break
                open_ones, end = open_ones[:-1], found.end(1)
            else:
                return end

    def _next_value(self, at: int, closer: str) -> int:
        """Where the next value begins that has to be looked at by itself; at `at` begins the next item."""
        text = self._text
        while at >= self._alone_until and len(text) - at > LONG:
            give_way()
            # If what lies between brackets and ends before some comma is a document, so many items are read.
            comma = text.rfind(",", at, at + LONG)
            try:
                _DECODER.decode(f"{_OPENER[closer]}{text[at : max(at, comma)]}{closer}")
            except (ValueError, RecursionError):
                comma = -1
            if comma <= at:
                self._alone_until = at + LONG // 2
                break
            at = _skip(text, comma + 1)
        return self._behind_key(at) if closer == "}" else at

    def _behind_key(self, at: int) -> int:
        """Where the value begins whose key stands at `at`."""
        if self._text[at : at + 1] != '"':
            raise NotJson(at)
        end = self._end_of_short(at)
        colon = _COLON.match(self._text, self._end_of_string(at) if end < 0 else end)
        if colon is None:
            raise NotJson(at)
        return colon.end()

    def _end_of_short(self, at: int) -> int:
        """Where the value ends; -1 when it is too long to be read at once."""
        if not self._from <= at < self._upto - LONG // 2:
            self._take(at)
        end = self._try(at)
        if end < 0 and self._from < at and self._upto < len(self._text):
            self._take(at)
            end = self._try(at)
        return end

    def _take(self, at: int) -> None:
        self._from, self._upto = at, min(at + LONG, len(self._text))
        self._piece = self._text[at : self._upto]

    def _try(self, at: int) -> int:
        whole = self._upto == len(self._text)
        try:
            _, end = _DECODER.raw_decode(self._piece, at - self._from)
        except json.JSONDecodeError as error:
            cut_off = error.msg.startswith("Unterminated") or error.pos >= len(self._piece) - _EDGE
            if whole or not cut_off:
                raise NotJson(self._from + error.pos) from None
            return -1
        if not whole and end >= len(self._piece) - _EDGE:
            return -1  # a number may go on: "12" reads as the whole of "12e" there
        return self._from + end

    def _end_at_once(self, at: int) -> int:
        try:
            _, end = _DECODER.raw_decode(self._text, at)
        except json.JSONDecodeError as error:
            raise NotJson(error.pos) from None
        return end

    def _end_of_string(self, start: int) -> int:
        """Where a long string ends; it is read in pieces that cut no escape."""
        text, at, last = self._text, start + 1, _closing_quote(self._text, start + 1)
        if last < 0:
            raise NotJson(start)
        while True:
            give_way()
            cut = last if last - at <= LONG else _before_escape(text, at, at + LONG)
            try:
                _DECODER.raw_decode(f'"{text[at:cut]}"')
            except json.JSONDecodeError as error:
                raise NotJson(at + error.pos) from None
            if cut == last:
                return last + 1
            at = cut


def _before_escape(text: str, start: int, end: int) -> int:
    """The end, or where an escape begins that may go on behind it."""
    at = max(text.rfind("\\u", max(start, end - 5), end), end - 1 if text[end - 1] == "\\" else -1)
    first = at
    while first > start and text[first - 1] == "\\":
        first -= 1
    return end if at < 0 or (at - first) % 2 else at


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()
