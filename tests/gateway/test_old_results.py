"""Old results of tools, shortened once more where writing the prefix anew pays."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from gateway.chat.conversation import LEFT_OUT
from gateway.compression.prefixes import Form, decode_form
from gateway.shapes import Compressed
from policies import Policy
from policies.load import read_rules
from policies.shapes import OldResults
from tests.support.chat_bodies import long_text
from tests.support.shortening import HALF_PRICE, TENTH_PRICE, Bench, agent_turn, messages_of, texts

ROWS = json.dumps([{"id": number, "state": "open", "size": 10 * number} for number in range(150)])


def start() -> list[dict[str, Any]]:
    return [{"role": "user", "content": "Find out why the job fails."}]


async def conversation(
    bench: Bench, turns: int, messages: list[dict[str, Any]], sentences: int = 40
) -> list[Compressed]:
    """An agent that reads prose and JSON in turn."""
    done = []
    for turn in range(turns):
        messages += agent_turn(turn, f"Run {turn}. {long_text(sentences)}" if turn % 2 else ROWS)
        bench.now += 20
        sent = await bench.shorten({"model": "gpt-4o-mini", "messages": messages})
        await bench.observe(sent)
        done.append(sent)
    return done


def results(sent: Compressed) -> list[str]:
    return [message["content"] for message in messages_of(sent) if message["role"] == "tool"]


async def test_old_results_are_left_out_with_a_note_when_that_pays_and_the_newest_stay() -> None:
    bench = Bench(price=HALF_PRICE)
    bench.with_policy(old_results=OldResults(newest=3, keep=0.0))
    messages = start()
    done = await conversation(bench, 14, messages)
    compactions = [number for number, sent in enumerate(done) if sent.compacted]
    assert 1 <= len(compactions) <= 7  # not at every turn
    last = done[compactions[-1]]
    assert LEFT_OUT in results(last)
    assert all(LEFT_OUT not in text for text in results(last)[-3:])
    assert "compaction" in " ".join(last.plan.steps)
    # Calls and their ids stay, and so does what the model said.
    kept = [message for message in messages_of(done[-1]) if message["role"] != "tool"]
    assert kept == [message for message in messages if message["role"] != "tool"]
    # Between two compactions every request begins with the one before it.
    for earlier, later in pairwise(done):
        if not later.compacted:
            before = texts(messages_of(earlier))
            assert texts(messages_of(later))[: len(before)] == before


async def test_old_results_that_are_kept_in_part_stay_what_they_were() -> None:
    bench = Bench(price=HALF_PRICE)
    bench.with_policy(old_results=OldResults(newest=1, keep=0.1), keep=0.8)
    done = await conversation(bench, 20, start(), sentences=150)
    compacted = next(sent for sent in done if sent.compacted)
    earlier = done[done.index(compacted) - 1]
    shorter = [
        (before, after)
        for before, after in zip(results(earlier), results(compacted), strict=False)
        if before != after
    ]
    assert shorter
    assert all(len(after) < len(before) for before, after in shorter)
    assert LEFT_OUT not in results(done[-1])
    # JSON still parses: rows of it went, and no row changed.
    rows = [json.loads(text) for text in results(done[-1]) if text.startswith("[")]
    assert all(row in json.loads(ROWS) for some in rows for row in some)
    assert min(map(len, rows)) < len(json.loads(ROWS))
    assert rows[-1] == json.loads(ROWS)  # the newest


async def test_where_the_cache_is_worth_more_nothing_is_written_anew() -> None:
    bench = Bench(price=TENTH_PRICE)
    bench.with_policy(old_results=OldResults(newest=3, keep=0.0))
    many, few = await conversation(bench, 14, start()), Bench(price=HALF_PRICE)
    few.with_policy(old_results=OldResults(newest=3, keep=0.0))
    often = await conversation(few, 14, start())
    assert sum(sent.compacted for sent in many) < sum(sent.compacted for sent in often)


async def test_another_replica_sends_the_same_bytes() -> None:
    bench = Bench(price=HALF_PRICE)
    bench.with_policy(old_results=OldResults(newest=3, keep=0.0))
    messages = start()
    await conversation(bench, 12, messages)
    raw = {"model": "gpt-4o-mini", "messages": messages}
    other = Bench(price=HALF_PRICE, store=bench.store, now=bench.now)
    assert (await other.shorten(raw)).body == (await bench.shorten(raw)).body


async def test_results_of_tools_that_the_policy_leaves_alone_stay() -> None:
    bench = Bench(price=HALF_PRICE)
    rules = read_rules(
        {"agents": {"old_results": {"keep": 0}, "tools": {"bash": "off"}}}, {}, [], []
    ).policies
    bench.policy = rules["agents"]
    done = await conversation(bench, 10, start())
    assert not any(sent.compacted for sent in done)
    assert all(sent.body == done[0].body or LEFT_OUT not in results(sent) for sent in done)


@pytest.mark.parametrize("form", [Form(10, 4, 0, ((0, 5, ()),), True), Form(10, 4, 0, ((0, 5, (0, 2)),))])
def test_forms_survive_the_store(form: Form) -> None:
    assert decode_form(form.encode()) == form


def test_the_key_in_a_file() -> None:
    rules = {
        "a": {},
        "b": {"old_results": {"newest": 5}},
        "c": {"old_results": False},
        "d": {"old_results": "off"},
    }
    read = read_rules(rules, {}, [], []).policies
    assert read["a"].old_results == Policy("a").old_results == OldResults(3, 0.25)
    assert read["b"].old_results == OldResults(5, 0.25)
    assert read["c"].old_results is read["d"].old_results is None
    assert read["c"].fingerprint == read["d"].fingerprint
    assert len({read[name].fingerprint for name in "abc"}) == 3


LOG = "\n".join(
    f"2026-11-24 10:{i // 60:02d}:{i % 60:02d} INFO worker-{i % 4} finished job {9000 + i} of mail in {i} ms"
    for i in range(160)
)


async def test_by_default_an_agents_old_logs_keep_their_errors_and_fewer_lines() -> None:
    bench = Bench(price=HALF_PRICE)
    messages, done = start(), []
    for turn in range(16):
        error = f"2026-11-24 10:05:00 ERROR connection to db-{turn}.internal:5432 refused"
        messages += agent_turn(turn, f"{LOG}\n{error}\n{LOG}")
        bench.now += 20
        done.append(await bench.shorten({"model": "gpt-4o-mini", "messages": messages}))
        await bench.observe(done[-1])
    assert 1 <= sum(sent.compacted for sent in done) <= 6
    last = results(done[-1])
    assert all(f"db-{turn}.internal:5432 refused" in text for turn, text in enumerate(last))
    assert LEFT_OUT not in last
    assert len(last[0]) < 0.6 * len(last[-1])
    for before, after in pairwise(done):  # stable between compactions
        if not after.compacted:
            assert results(after)[: len(results(before))] == results(before)


CODE = "\n".join(
    f"{line}\tdef step_{line}(self):"
    if line % 10 == 1
    else f"{line}\t    total += self.rates[{line}] * count"
    for line in range(1, 161)
)


async def test_old_listings_of_code_become_outlines_and_new_ones_stay_whole() -> None:
    bench = Bench(price=HALF_PRICE)
    messages, done = start(), []
    for turn in range(14):
        messages += agent_turn(turn, CODE)
        bench.now += 20
        done.append(await bench.shorten({"model": "gpt-4o-mini", "messages": messages}))
        await bench.observe(done[-1])
    assert any(sent.compacted for sent in done)
    first, newest = results(done[-1])[0], results(done[-1])[-3:]
    assert newest == [CODE] * 3
    assert set(first.splitlines()) < set(CODE.splitlines())  # whole lines
    assert [line for line in first.splitlines() if "def " in line] == [
        line for line in CODE.splitlines() if "def " in line
    ]


async def test_compactions_in_vain_are_not_tried_again_at_every_turn() -> None:
    """Results that look as if three quarters could go, of which nothing goes."""
    bench = Bench(price=HALF_PRICE)
    base64 = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo5ODc2NTQzMjEw" * 90
    messages, tried = start(), 0
    for turn in range(24):
        messages += agent_turn(turn, base64)
        bench.now += 20
        sent = await bench.shorten({"model": "gpt-4o-mini", "messages": messages})
        await bench.observe(sent)
        tried += "compaction" in " ".join(sent.plan.steps)
        assert not sent.compacted
    assert tried <= 8
