"""Events are found wherever the chunks are cut."""

from __future__ import annotations

import itertools

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat.event_stream import EventSplitter, data_of, error_event, write_event
from gateway.errors import UpstreamBroke

STREAM = (
    b'event: a\ndata: {"x":1}\n\n: ping\n\ndata: one\ndata: two\n\n'
    b'data:{"y":"\xc3\xa9"}\r\n\r\ndata: [DONE]\n\n'
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_any_cut_gives_the_same_events(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    splitter = EventSplitter()
    events = [e for a, b in itertools.pairwise(edges) for e in splitter.feed(STREAM[a:b])]
    assert [data_of(event) for event in events] == [
        b'{"x":1}',
        b"",
        b"one\ntwo",
        '{"y":"é"}'.encode(),
        b"[DONE]",
    ]
    assert splitter.clean


def test_what_is_not_complete_is_kept() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: 1") == []
    assert not splitter.clean
    assert splitter.feed(b"2\n\n") == [b"data: 12"]


def test_written_events_are_read() -> None:
    (event,) = EventSplitter().feed(write_event({"a": "b\nc"}, "name"))
    assert event.startswith(b"event: name\n")
    assert orjson.loads(data_of(event)) == {"a": "b\nc"}


def test_error_events() -> None:
    error = UpstreamBroke("it broke")
    assert orjson.loads(data_of(error_event("chat", error)))["error"]["message"] == "it broke"
    assert orjson.loads(data_of(error_event("responses", error, 7)))["sequence_number"] == 7
    assert orjson.loads(data_of(error_event("messages", error)))["error"]["type"] == "api_error"
