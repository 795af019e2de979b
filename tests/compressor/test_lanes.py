"""Texts share few threads: no two of a size are worked on side by side, and none waits behind megabytes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import compressor.compress
from compressor import Compressor, EngineStopped, Shortened
from compressor.engine.fake import FakeEngine
from compressor.lanes import LONG_TEXT, Lanes

TEXT = "The council met on Tuesday to talk about the bridge, and Anna paid for the lunch of all. " * 20
LONG = TEXT * (LONG_TEXT // len(TEXT) + 1)


@pytest.fixture
def shortener() -> Iterator[Compressor]:
    with Compressor(FakeEngine(delay=0.01)) as opened:
        yield opened


def test_texts_at_once_are_chosen_one_after_the_other(
    shortener: Compressor, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, at_work, most = compressor.compress.shorten_passages, 0, 0

    def counted(*given: Any, **options: Any) -> list[Shortened]:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        try:
            return chosen(*given, **options)
        finally:
            at_work -= 1

    monkeypatch.setattr(compressor.compress, "shorten_passages", counted)
    texts = [f"{number} {TEXT}" for number in range(24)]
    found = shortener.compress_batch(texts, keep=0.5)
    assert most == 1
    assert [one.text[:1] for one in found] == [text[:1] for text in texts]


async def test_a_short_text_overtakes_a_long_one(
    shortener: Compressor, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, let_go, begun = compressor.compress.shorten_passages, threading.Event(), threading.Event()

    def held(passages: Any, *given: Any, **options: Any) -> list[Shortened]:
        if len(passages[0].text) > LONG_TEXT:
            begun.set()
            assert let_go.wait(30)
        return chosen(passages, *given, **options)

    monkeypatch.setattr(compressor.compress, "shorten_passages", held)
    long = asyncio.create_task(shortener.acompress(LONG, keep=0.5))
    assert await asyncio.to_thread(begun.wait, 30)
    short = await asyncio.wait_for(shortener.acompress(TEXT, keep=0.5), 30)
    assert short.tokens_after < short.tokens_before and not long.done()
    let_go.set()
    assert (await long).tokens_after > short.tokens_after


async def test_what_comes_after_the_end_is_told_so() -> None:
    shortener = Compressor(FakeEngine())
    shortener.close()
    for content in (" ", TEXT):
        with pytest.raises(EngineStopped):
            await shortener.acompress(content, keep=0.5)


def test_threads_are_started_when_there_is_work() -> None:
    lanes = Lanes("terse-test-lane")
    try:
        assert not [one for one in threading.enumerate() if one.name.startswith("terse-test-lane")]
        assert lanes.of(LONG_TEXT).submit(lambda: threading.current_thread().name).result(30) == (
            "terse-test-lane_0"
        )
        name = lanes.of(LONG_TEXT + 1).submit(lambda: threading.current_thread().name).result(30)
        assert name == "terse-test-lane-long_0"
    finally:
        lanes.close()
