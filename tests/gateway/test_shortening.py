from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import orjson
import pytest

from compressor.engine.fake import FakeEngine
from compressor.errors import CompressorError, EngineStopped, Overloaded, ScoringFailed
from compressor.shapes import WordScores
from gateway.chat.request import parse_request
from gateway.compression.sending import _has_media
from gateway.errors import Unavailable
from gateway.stores.memory import MemoryCache
from policies.shapes import RoleRule
from tests.support.chat_bodies import chat, conversation, long_text, rag
from tests.support.shortening import NO_DISCOUNT, Bench, agent_turn, messages_of, parsed
from tests.support.waiting import until


async def test_a_long_document_is_shortened_to_the_budget_and_its_question_is_not() -> None:
    bench = Bench()
    done = await bench.shorten(rag())
    assert (done.status, done.skip_reason, done.cache) == ("applied", "", "miss")
    assert done.plan.target * 0.98 - 60 <= done.tokens_after <= done.plan.target + 60
    content = messages_of(done)[1]["content"]
    assert content.endswith("\n\nWhen is the delivery due?")
    assert "12,500.75" in content
    assert "2026-03-14" in content
    assert {"read", "look_up", "score", "choose", "rebuild", "fix"} <= set(done.timings)
    assert 0 < sum(done.timings.values()) <= done.overhead_ms


async def test_the_rest_of_the_body_stays_to_the_byte() -> None:
    raw = rag(temperature=1.0, tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}], n=2)
    done = await Bench().shorten(raw)
    before, after = parsed(raw).body, done.body
    cut = before.index(b"(0) ")
    assert after[:cut] == before[:cut]
    tail = before[before.index(b"When is the delivery due?") :]
    assert after.endswith(tail)


async def test_a_repeated_request_is_a_hit_and_gives_the_same_bytes() -> None:
    bench = Bench()
    first, second = await bench.shorten(rag()), await bench.shorten(rag())
    assert second.body == first.body
    assert second.cache == "hit"
    assert len(bench.engine.scored) == 1


async def test_a_repeated_request_that_does_not_fit_is_not_decided_anew() -> None:
    code = "".join(f"def rate_{n}(x):\n    return x * {n}\n\n\n" for n in range(150))
    turns = [("user", "Please answer a question about a module, will you?"), ("assistant", "I will.")]
    raw = conversation([*turns, ("user", f"```python\n{code}```\n{long_text(10)}\n\nWhat is wrong?")])
    bench = Bench(context_window=2000)
    first, second = await bench.shorten(raw), await bench.shorten(raw)
    assert first.status == "applied"
    assert first.tokens_after > 2000
    assert "score" in first.timings
    assert "score" not in second.timings
    assert second.body == first.body


async def test_scores_from_the_cache_give_the_same_text_as_fresh_ones() -> None:
    first = Bench()
    await first.shorten(rag())
    # Another first message makes another conversation with the same document: no form of it, but its scores.
    other = conversation([("system", "Another system."), ("user", rag()["messages"][1]["content"])])
    second, alone = Bench(store=first.store), Bench()
    hit, miss = await second.shorten(other), await alone.shorten(other)
    assert (hit.cache, miss.cache) == ("hit", "miss")
    assert second.engine.scored == []
    assert hit.body == miss.body


async def test_teams_share_no_scores() -> None:
    search = Bench()
    await search.shorten(rag())
    other = Bench(store=search.store, team="billing")
    assert (await other.shorten(rag())).cache == "miss"


async def test_below_the_trigger_nothing_is_touched_or_looked_up() -> None:
    class NoStore(MemoryCache):
        async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
            raise AssertionError("a short request needs no store")

    bench = Bench(store=NoStore())
    request = parsed(chat("Hi"))
    done = await bench.shorten_parsed(request)
    assert done.body is request.body
    assert (done.status, done.skip_reason, done.cache) == ("skipped", "below-trigger", "none")
    assert done.tokens_before == done.tokens_after > 0


@pytest.mark.parametrize(
    ("headers", "changes", "status", "reason"),
    [
        ({"x_terse_compress": "off"}, {}, "off", "client-off"),
        ({}, {"mode": "off"}, "off", "mode-off"),
        ({}, {"sample": 0.0}, "skipped", "sampled-out"),
        ({}, {"holdout": 1.0}, "skipped", "holdout"),
        ({}, {"trigger_tokens": 1_000_000}, "skipped", "below-trigger"),
        ({}, {"keep": 1.0}, "skipped", "nothing-to-cut"),
    ],
)
async def test_skipped_requests_go_out_as_they_came(
    headers: dict[str, str], changes: dict[str, object], status: str, reason: str
) -> None:
    bench = Bench()
    bench.with_policy(**changes)
    request = parsed(rag(), **headers)
    done = await bench.shorten_parsed(request)
    assert done.body is request.body
    assert (done.status, done.skip_reason) == (status, reason)
    assert done.tokens_before == done.tokens_after > 2000


async def test_the_client_may_ask_for_a_share_or_a_size() -> None:
    share = await Bench().shorten(rag(), x_terse_compress="keep=0.8")
    size = await Bench().shorten(rag(), x_terse_compress="target=1200")
    assert 0.75 < share.tokens_after / share.tokens_before < 0.85
    assert 1170 < size.tokens_after < 1270


async def test_audit_computes_and_sends_the_original() -> None:
    bench = Bench()
    bench.with_policy(mode="audit")
    request = parsed(rag())
    done = await bench.shorten_parsed(request)
    assert done.body is request.body
    assert done.status == "audit"
    assert done.tokens_after == done.tokens_before
    assert done.tokens_would_be is not None
    assert done.tokens_would_be < 0.6 * done.tokens_before


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Overloaded("full"), "overloaded"),
        (EngineStopped("gone"), "engine-stopped"),
        (ScoringFailed("NaN"), "scoring-failed"),
        (CompressorError("?"), "scoring-failed"),
    ],
)
async def test_trouble_of_the_engine_sends_the_original(error: CompressorError, reason: str) -> None:
    bench = Bench(engine=FakeEngine(error=error))
    request = parsed(rag())
    done = await bench.shorten_parsed(request)
    assert done.body is request.body
    assert (done.status, done.skip_reason) == ("failed-open", reason)
    bench.with_policy(fail="closed")
    with pytest.raises(Unavailable, match=reason):
        await bench.shorten(conversation([("user", long_text(100))]))


class GatedEngine(FakeEngine):
    """Answers once its gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def score(self, text: str) -> WordScores:
        await self.gate.wait()
        return await super().score(text)


async def test_late_scores_go_on_in_the_background_and_serve_the_next_conversation() -> None:
    engine = GatedEngine()
    store = MemoryCache()
    bench = Bench(engine=engine, store=store)
    bench.with_policy(deadline_ms=30)
    request = parsed(rag())
    done = await bench.shorten_parsed(request)
    assert (done.status, done.skip_reason) == ("failed-open", "deadline")
    assert done.body is request.body
    assert engine.scored == []  # nobody waited for it
    kept = store.bytes_used
    engine.gate.set()
    await asyncio.to_thread(until, lambda: store.bytes_used > kept)
    # Sent whole it stays whole in this conversation; in another one its scores are there.
    again = await bench.shorten_parsed(request)
    assert again.body is request.body
    other = await bench.shorten(conversation([("user", rag()["messages"][1]["content"])]))
    assert (other.status, other.cache) == ("applied", "hit")
    assert len(bench.engine.scored) == 1


async def test_equal_texts_in_flight_are_scored_once() -> None:
    bench = Bench(engine=FakeEngine(delay=0.05))
    document = rag()["messages"][1]["content"]
    requests = [conversation([("system", f"Caller {n}."), ("user", document)]) for n in range(8)]
    done = await asyncio.gather(*(bench.shorten(request) for request in requests))
    assert all(each.status == "applied" for each in done)
    assert len({messages_of(each)[1]["content"] for each in done}) == 1
    assert len(bench.engine.scored) == 1


async def test_a_client_that_leaves_takes_its_scoring_along() -> None:
    bench = Bench(engine=FakeEngine(delay=0.2))
    task = asyncio.create_task(bench.shorten(rag()))
    await asyncio.sleep(0.08)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.25)
    assert bench.engine.scored == []


async def test_a_client_that_leaves_does_not_disturb_another_one() -> None:
    bench = Bench(engine=FakeEngine(delay=0.1))
    first, second = (asyncio.create_task(bench.shorten(rag())) for _ in range(2))
    await asyncio.sleep(0.05)
    first.cancel()
    assert (await second).status == "applied"


async def test_a_hopeless_text_is_not_waited_for() -> None:
    bench = Bench(engine=FakeEngine(delay=0.05))
    bench.with_policy(deadline_ms=60)
    for number in range(3):  # the engine shows its speed: about 50 ms for 3,000 characters
        await bench.shorten(conversation([("system", f"{number}"), ("user", long_text(60 + number))]))
    bench.engine.delay = 5.0
    done = await bench.shorten(conversation([("user", long_text(3000))]))
    assert (done.status, done.skip_reason) == ("failed-open", "deadline")
    assert done.timings["score"] < 50
    await bench.shortener.close()


async def test_a_broken_store_is_only_slower() -> None:
    class Broken(MemoryCache):
        async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
            return [None for _ in keys]

        async def add_many(self, items: Mapping[str, bytes], ttl_seconds: int) -> list[bytes]:
            return list(items.values())

        async def set_many(self, items: Mapping[str, bytes], ttl_seconds: int) -> None:
            return None

    done = await Bench(store=Broken()).shorten(rag())
    assert done.status == "applied"
    assert done.body == (await Bench().shorten(rag())).body


async def test_a_bug_of_ours_breaks_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()

    def explode(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("gateway.compression.shortening.chain_of", explode)
    request = parsed(rag())
    done = await bench.shorten_parsed(request)
    assert done.body is request.body
    assert (done.status, done.skip_reason) == ("failed-open", "internal-error")


async def test_a_doubtful_result_goes_out_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.compression.sending.find_damage", lambda *_: "invalid-structure")
    bench = Bench()
    request = parsed(rag())
    done = await bench.shorten_parsed(request)
    assert done.body is request.body
    assert (done.status, done.skip_reason) == ("failed-open", "invalid-structure")
    assert done.tokens_after == done.tokens_before


async def test_a_rule_for_a_tool_has_its_own_share() -> None:
    bench = Bench()
    bench.with_policy(tools={"bash": RoleRule(keep=0.2)})
    turns = [{"role": "user", "content": "Go."}, *agent_turn(1, long_text(100))]
    own = await bench.shorten({"model": "gpt-4o-mini", "messages": turns})
    common = await Bench().shorten({"model": "gpt-4o-mini", "messages": turns})
    assert own.tokens_after < 0.7 * common.tokens_after


async def test_what_must_fit_is_made_to_fit() -> None:
    bench = Bench(context_window=1800)
    done = await bench.shorten(rag())
    assert done.tokens_after <= 1800
    bench = Bench()
    bench.with_policy(max_input_tokens=1300, keep=0.9)
    assert (await bench.shorten(rag())).tokens_after <= 1300


async def test_the_question_decides_when_the_policy_asks_it_to() -> None:
    bench = Bench(price=NO_DISCOUNT)
    bench.with_policy(question_aware=True, keep=0.3)
    sentences = [
        f"Sentence number {n} tells of nothing at all but the weather of that day." for n in range(200)
    ]
    sentences[77] = "The secret ingredient of the famous soup is saffron from the valley."
    question = "What is the secret ingredient of the famous soup?"
    done = await bench.shorten(conversation([("user", " ".join(sentences) + "\n\n" + question)]))
    assert sentences[77] in messages_of(done)[0]["content"]


async def test_unpaired_surrogates_pass_through() -> None:
    body = b'{"model": "m", "messages": [{"role": "user", "content": "' + b"one \\ud800 two " * 2000 + b'"}]}'
    request = parse_request("chat", "/v1/chat/completions", body)
    done = await Bench().shorten_parsed(request)
    assert done.body is request.body
    assert done.status == "failed-open"


@pytest.mark.parametrize("surface", ["completions", "responses"])
async def test_other_surfaces(surface: str) -> None:
    field = {"completions": "prompt", "responses": "input"}[surface]
    text = f"{long_text()}\n\nWhen?"
    done = await Bench().shorten({"model": "gpt-4o-mini", field: text}, surface)  # type: ignore[arg-type]
    assert done.status == "applied"
    assert orjson.loads(done.body)[field].endswith("\n\nWhen?")


async def test_embeddings_are_counted_and_never_touched() -> None:
    request = parsed({"model": "e", "input": [long_text(), "b"]}, "embeddings")
    done = await Bench().shorten_parsed(request)
    assert done.body is request.body
    assert (done.status, done.skip_reason) == ("off", "surface")
    assert done.tokens_after > 1000


async def test_no_message_becomes_empty() -> None:
    bench = Bench()
    bench.with_policy(protect=(), keep=0.1, trigger_tokens=50)
    turns = [turn for number in range(60) for turn in agent_turn(number, "nothing")]
    turns += agent_turn(99, long_text(40))
    done = await bench.shorten({"model": "gpt-4o-mini", "messages": turns})
    assert done.status == "applied"
    assert all(message["content"] for message in messages_of(done))


async def test_json_results_stay_json() -> None:
    rows = [{"id": n, "name": f"item {n}", "note": long_text(4), "ok": n % 2 == 0} for n in range(60)]
    bench = Bench()
    bench.with_policy(keep=0.4)
    turns = agent_turn(1, orjson.dumps(rows).decode())
    done = await bench.shorten({"model": "gpt-4o-mini", "messages": turns})
    result = orjson.loads(messages_of(done)[1]["content"])
    assert [(row["id"], row["ok"], list(row)) for row in result] == [
        (row["id"], row["ok"], list(row)) for row in rows
    ]
    assert done.status == "applied"


@pytest.mark.parametrize(
    ("node", "media"),
    [
        ({"role": "user", "content": 'an image, "image"'}, False),
        ({"role": "user", "content": [{"type": "text", "text": "x"}]}, False),
        ({"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url"}]}, True),
        ({"role": "user", "content": [{"type": "tool_result", "content": [{"type": "image"}]}]}, True),
        ({"type": "function_call_output", "output": [{"type": "input_image"}]}, True),
        ({"role": "user", "content": [5, None, [], {"type": ["x"]}]}, False),
        ("text", False),
    ],
)
def test_what_is_no_text_is_seen_where_it_stands(node: object, media: bool) -> None:
    assert _has_media(node) is media
