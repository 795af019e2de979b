"""Design rule 5: what was sent once is sent in the same form ever after, on every replica."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from typing import Any

import pytest

from compressor.engine.fake import FakeEngine
from compressor.errors import Overloaded
from gateway.accounting.receipts import uncompressed_usage
from gateway.shapes import Compressed, Usage
from gateway.stores.base import Cache
from gateway.stores.breaker import Breaker
from gateway.stores.memory import MemoryCache
from gateway.stores.redis_cache import RedisCache
from gateway.stores.redis_link import RedisLink, Scripts, connect
from policies.shapes import RoleRule
from tests.support.chat_bodies import conversation, long_text
from tests.support.shortening import HALF_PRICE, TENTH_PRICE, Bench, agent_turn, messages_of
from tests.with_redis.server import RedisServer

TURNS = 30


def growing(
    seed: int = 1, turns: int = TURNS, sizes: tuple[int, ...] = (4, 30, 90)
) -> Iterator[dict[str, Any]]:
    """An agent's requests: each has one more tool call and its result; messages are the last key."""
    sizes_of = random.Random(seed)
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You are an agent."},
        {"role": "user", "content": f"Look at this first.\n\n{long_text(100)}\n\nThen fix the bug."},
    ]
    for turn in range(turns):
        yield {"model": "gpt-4o-mini", "temperature": 1.0, "messages": list(messages)}
        messages += agent_turn(turn, f"Run {turn}: " + long_text(sizes_of.choice(sizes)))


def goes_on(before: Compressed, after: Compressed) -> bool:
    """Whether the later body begins with the earlier one, to the byte, but for the brackets that close it."""
    return after.body.startswith(before.body[: -len("]}")])


async def test_thirty_turns_two_replicas_restarts_policy_changes_and_failures(cache: Cache) -> None:
    replicas = [Bench(store=cache, price=TENTH_PRICE), Bench(store=cache, price=TENTH_PRICE)]
    done: list[Compressed] = []
    for turn, raw in enumerate(growing()):
        if turn % 10 == 9:  # a restart forgets whatever the process knew
            replicas[turn % 2] = Bench(store=cache, price=TENTH_PRICE)
        bench = replicas[random.Random(turn).randrange(2)]
        if turn == 12:
            for each in replicas:
                each.with_policy(keep=0.8, roles={"tool": RoleRule(keep=0.7)}, protect=("numbers",))
        if turn == 20:
            for each in replicas:
                each.with_policy(trigger_tokens=100, keep=0.3, question_aware=True)
        bench.engine.error = Overloaded("full") if turn in (5, 17) else None
        bench.spent = turn / TURNS
        done.append(await bench.shorten(raw))
        await bench.observe(done[-1])
        bench.now += 20
    assert all(goes_on(before, after) for before, after in pairwise(done))
    assert not any(each.compacted for each in done)
    assert all(each.broken_prefix_tokens == 0 for each in done)
    assert done[-1].tokens_after < 0.75 * done[-1].tokens_before
    assert done[-1].frozen_messages == 2 * TURNS - 2
    assert sum(each.status == "failed-open" for each in done) >= 1


async def test_the_same_over_anthropic_with_a_marker_that_moves(cache: Cache) -> None:
    marker = {"type": "ephemeral"}
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Fix the bug."}]
    earlier: list[Any] = []
    shortened = 0
    for turn in range(12):
        last = messages[-1]["content"]
        blocks = [{"type": "text", "text": last}] if isinstance(last, str) else last
        marked = [*blocks[:-1], {**blocks[-1], "cache_control": marker}]
        raw = {
            "model": "claude",
            "max_tokens": 10,
            "system": [{"type": "text", "text": "Be kind.", "cache_control": marker}],
            "messages": [*messages[:-1], {"role": messages[-1]["role"], "content": marked}],
        }
        bench = Bench(store=cache, price=TENTH_PRICE)
        done = await bench.shorten(raw, "messages")
        sent = messages_of(done)
        # The marked block goes out as it came; all earlier ones have the form of the turn before.
        assert sent[-1]["content"][-1] == marked[-1]
        assert [strip(message) for message in sent[: len(earlier)]] == earlier
        earlier = [strip(message) for message in sent]
        shortened += done.tokens_before - done.tokens_after > 0
        results = [
            {"type": "tool_result", "tool_use_id": f"a{turn}", "content": long_text(90)},
            {"type": "tool_result", "tool_use_id": f"b{turn}", "content": long_text(20)},
        ]
        calls = [{"type": "tool_use", "id": f"{name}{turn}", "name": "run", "input": {}} for name in "ab"]
        messages += [{"role": "assistant", "content": calls}, {"role": "user", "content": results}]
    assert shortened == 11


def strip(message: dict[str, Any]) -> dict[str, Any]:
    """The message as the upstream's cache sees it: without markers, and with text as blocks."""
    content = message["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    unmarked = [{key: value for key, value in block.items() if key != "cache_control"} for block in blocks]
    return {"role": message["role"], "content": unmarked}


async def test_two_replicas_that_shorten_at_once_send_the_same(cache: Cache) -> None:
    one = Bench(store=cache, engine=FakeEngine(delay=0.02))
    other = Bench(store=cache, engine=FakeEngine(delay=0.02, fingerprint="newer"))
    other.with_policy(keep=0.7)
    for raw in growing(turns=4, sizes=(90,)):
        left, right = await asyncio.gather(one.shorten(raw), other.shorten(raw))
        assert left.body == right.body
        assert left.tokens_after == right.tokens_after


async def test_a_lost_store_breaks_the_prefix_once_and_says_so(cache: Cache) -> None:
    requests = list(growing(turns=12, sizes=(90,)))
    first = Bench(store=cache, price=TENTH_PRICE)
    for raw in requests[:10]:
        before = await first.shorten(raw)
    lost = Bench(price=TENTH_PRICE)
    after = await lost.shorten(requests[10])
    assert after.status == "applied"
    assert not goes_on(before, after)
    assert after.prefix_hit_rate > 0  # so the receipt sets the cache that the conversation had against us
    assert after.prefix_original_tokens > 10_000
    # The upstream finds nothing it knows; uncompressed it would have found the history.
    usage = Usage(after.tokens_after, 0, after.tokens_after, cache_reported=True)
    full = uncompressed_usage(after, usage)
    assert full.cached_input_tokens >= 0.45 * after.prefix_original_tokens
    assert goes_on(after, await lost.shorten(requests[11]))


async def test_a_compaction_is_deliberate_told_and_final(cache: Cache) -> None:
    """Results that went whole under an earlier policy: at half price for cached input it pays."""
    done: list[Compressed] = []
    for turn, raw in enumerate(growing(sizes=(20,))):
        bench = Bench(store=cache, price=HALF_PRICE)  # a fresh replica each turn
        bench.with_policy(old_results=None)
        if turn < 12:
            bench.with_policy(tools={"bash": RoleRule(mode="on")}, trigger_tokens=100_000)
        done.append(await bench.shorten(raw))
        await bench.observe(done[-1])
        if turn and not done[-1].compacted:
            assert goes_on(done[-2], done[-1])
    compactions = [each for each in done if each.compacted]
    assert len(compactions) == 1
    assert compactions[0].broken_prefix_tokens > 0
    assert any(step.startswith("compaction: ") for step in compactions[0].plan.steps)
    assert done[-1].tokens_after < 0.8 * done[-1].tokens_before


async def test_small_results_are_shortened_as_they_come_in_a_large_conversation(cache: Cache) -> None:
    done = []
    for raw in growing(sizes=(16,)):
        bench = Bench(store=cache, price=TENTH_PRICE)
        done.append(await bench.shorten(raw))
        await bench.observe(done[-1])
    assert all(goes_on(before, after) for before, after in pairwise(done))
    assert not any(each.compacted for each in done)
    assert done[-1].tokens_after < 0.65 * done[-1].tokens_before


async def test_how_long_an_upstream_remembers_is_learned_from_its_bills(cache: Cache) -> None:
    """After a pause a compaction is free where the cache has gone cold, and dear where it has not."""
    outcomes = {}
    for model, remembers in (("forgetful", 0.0), ("faithful", 1.0)):
        for seed in range(2):
            compacted = False
            for turn, raw in enumerate(growing(seed=seed, turns=9, sizes=(24,))):
                bench = Bench(store=cache, price=TENTH_PRICE, now=1_780_000_000.0 + 20 * turn)
                if turn < 8:
                    bench.with_policy(trigger_tokens=100_000)  # everything goes whole, until the pause
                else:
                    bench.now += 1200
                messages = [{"role": "system", "content": f"Session {seed}"}, *raw["messages"]]
                done = await bench.shorten({**raw, "model": model, "messages": messages})
                compacted = done.compacted
                await bench.observe(done, hit_rate=1.0 if turn < 8 else remembers)
            outcomes[model, seed] = compacted
    assert outcomes["forgetful", 1]
    assert not outcomes["faithful", 1]


async def test_an_edited_conversation_is_frozen_up_to_the_edit(cache: Cache) -> None:
    bench = Bench(store=cache, price=TENTH_PRICE)
    requests = list(growing(turns=8, sizes=(90,)))
    for raw in requests[:6]:
        before = await bench.shorten(raw)
    edited = dict(requests[7])
    edited["messages"] = [
        *edited["messages"][:5],
        {"role": "user", "content": "Stop."},
        *edited["messages"][7:],
    ]
    after = await bench.shorten(edited)
    assert messages_of(after)[:5] == messages_of(before)[:5]
    assert after.frozen_messages == 5
    assert goes_on(
        after, await bench.shorten({**edited, "messages": [*edited["messages"], *agent_turn(99, "x")]})
    )


async def test_a_turn_that_was_live_keeps_its_form_when_it_is_not(cache: Cache) -> None:
    bench = Bench(store=cache, price=TENTH_PRICE)
    turns = [("user", f"Read.\n\n{long_text()}\n\nWhen?")]
    first = await bench.shorten(conversation(turns))
    turns += [("assistant", "On Monday."), ("user", f"And this?\n\n{long_text(90)}\n\nWhere?")]
    second = await bench.shorten(conversation(turns))
    turns += [("assistant", "In Rotterdam."), ("user", "Thanks.")]
    third = await bench.shorten(conversation(turns))
    assert goes_on(first, second)
    assert goes_on(second, third)
    assert [message["content"][:6] for message in messages_of(third)[::2]] == ["Read.\n", "And th", "Thanks"]


async def test_small_beginnings_need_no_store_and_are_known_to_be_whole(cache: Cache) -> None:
    bench = Bench(store=cache, price=TENTH_PRICE)
    turns = [("system", "Be kind."), ("user", "Hello")]
    small = await bench.shorten(conversation(turns))
    assert small.skip_reason == "below-trigger"
    turns += [("assistant", "Hi."), ("user", f"Read.\n\n{long_text()}\n\nWhen?")]
    grown = await bench.shorten(conversation(turns))
    assert grown.status == "applied"
    assert goes_on(small, grown)
    assert grown.broken_prefix_tokens == 0


@pytest.fixture
async def breakable(own_redis: RedisServer) -> AsyncIterator[tuple[RedisServer, Cache]]:
    """A Redis cache whose server may be killed."""
    client = connect(own_redis.url)
    link = RedisLink(client, Scripts(), Breaker())
    yield own_redis, RedisCache(link)
    await link.close()
    await client.aclose()


async def test_redis_killed_in_mid_conversation(breakable: tuple[RedisServer, Cache]) -> None:
    server, store = breakable
    bench = Bench(store=store, price=TENTH_PRICE)
    requests = list(growing(turns=6, sizes=(90,)))
    done = [await bench.shorten(raw) for raw in requests[:3]]
    server.kill()
    # This process still knows the forms; what it decides now it cannot share.
    done += [await bench.shorten(raw) for raw in requests[3:]]
    assert all(each.status == "applied" for each in done)
    assert all(goes_on(before, after) for before, after in pairwise(done))


async def test_memory_of_a_whole_conversation_is_small() -> None:
    store = MemoryCache()
    bench = Bench(store=store, price=TENTH_PRICE)
    total = 0
    for raw in growing():
        total = (await bench.shorten(raw)).tokens_before
    # A compaction writes the forms of all messages under a new name; without any it is under 4.
    assert store.bytes_used < 5 * total
