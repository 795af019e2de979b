"""The simulated upstream decides what the savings report says, so it is held to the providers' rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.savings.senders import MASK, Mask
from benchmarks.savings.traffic import as_anthropic
from benchmarks.savings.upstream import PROVIDERS, Tokens, Upstream
from gateway.shapes import Usage

OPENAI, CLAUDE = PROVIDERS[0], PROVIDERS[3]


class Letters(Tokens):
    """One token a character."""

    def __init__(self) -> None:
        pass

    def ids(self, text: str, finer: int = 0) -> bytes:
        return np.frombuffer(text.encode("utf-32-le"), np.uint32).tobytes()


def chat(*contents: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content} for content in contents]}


def test_an_automatic_cache_reads_whole_steps_of_what_was_sent_before() -> None:
    upstream = Upstream(OPENAI, Letters())
    first = upstream.answer(chat("a" * 2000), 0, 5)
    assert first == Usage(2006, 0, 0, 5, cache_reported=True)
    assert upstream.answer(chat("a" * 2000, "b" * 500), 10, 5).cached_input_tokens == 1920
    assert upstream.answer(chat("a" * 1500 + "x", "b" * 500), 20, 5).cached_input_tokens == 1408
    assert upstream.answer(chat("x" + "a" * 1999), 30, 5).cached_input_tokens == 0


def test_too_small_and_too_old_prefixes_are_not_read() -> None:
    upstream = Upstream(OPENAI, Letters())
    upstream.answer(chat("a" * 900), 0, 5)
    assert upstream.answer(chat("a" * 900), 1, 5).cached_input_tokens == 0
    upstream.answer(chat("b" * 2000), 0, 5)
    assert upstream.answer(chat("b" * 2000), 299, 5).cached_input_tokens == 1920
    assert upstream.answer(chat("b" * 2000), 598, 5).cached_input_tokens == 1920
    assert upstream.answer(chat("b" * 2000), 899, 5).cached_input_tokens == 0


def turns(count: int, size: int = 1500) -> dict[str, Any]:
    messages = [{"role": "system", "content": "s" * 1200}]
    for number in range(count):
        messages += [{"role": "user", "content": f"{number}" * size}, {"role": "assistant", "content": "ok"}]
    return as_anthropic({"model": "claude", "messages": messages[:-1]})


def test_markers_write_what_they_mark_and_read_what_was_marked() -> None:
    upstream = Upstream(CLAUDE, Letters())
    first = upstream.answer(turns(1), 0, 5)
    assert (first.cached_input_tokens, first.cache_write_tokens) == (0, first.input_tokens)
    second = upstream.answer(turns(2), 10, 5)
    assert second.cached_input_tokens == first.input_tokens
    assert second.cache_write_tokens == second.input_tokens - first.input_tokens
    other = upstream.answer({**turns(2), "messages": turns(1, 1400)["messages"]}, 20, 5)
    assert other.cached_input_tokens == len("<system>") + 1200
    assert upstream.answer(turns(2), 1000, 5).cached_input_tokens == 0


def test_without_markers_nothing_is_cached() -> None:
    upstream = Upstream(CLAUDE, Letters())
    for now in (0, 1):
        usage = upstream.answer(chat("a" * 5000), now, 5)
        assert (usage.cached_input_tokens, usage.cache_write_tokens) == (0, 0)


def test_a_long_way_back_is_not_looked() -> None:
    upstream = Upstream(replace(CLAUDE, ttl=1e9), Letters())
    upstream.answer(turns(1), 0, 5)
    system = len("<system>") + 1200
    assert upstream.answer(turns(8), 1, 5).cached_input_tokens > system
    upstream = Upstream(replace(CLAUDE, ttl=1e9), Letters())
    upstream.answer(turns(1), 0, 5)
    assert upstream.answer(turns(12), 1, 5).cached_input_tokens == system


@pytest.mark.parametrize("anthropic", [False, True])
async def test_masking_keeps_the_newest(anthropic: bool) -> None:
    messages = [{"role": "system", "content": "s"}]
    messages += [{"role": "tool", "tool_call_id": f"{n}", "content": f"{n}" * 1500} for n in range(5)]
    raw: dict[str, Any] = {"model": "m", "messages": messages}
    sent = await Mask().send(as_anthropic(raw) if anthropic else raw, "chat", 0.0)
    text = str(sent["messages"])
    assert text.count(MASK) == 2
    assert [f"{n}" * 1500 in text for n in range(5)] == [False, False, True, True, True]
