"""The guard over real sockets: arms, shadow pairs, the books, the fall-back, its alert and its reset."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from gateway.chat.request import parse_request
from gateway.quality.evidence import COLLECTION, KEPT_PAIRS, Evidence, decode, record_name
from gateway.quality.shadow import original_of, repeatable
from gateway.settings import Secret, Settings
from gateway.stores.open import open_local
from policies.load import default_policy
from policies.planning import draw_of
from tests.support.chat_bodies import chat, long_text, rag
from tests.support.fake_upstream import FakeUpstream, Script, fake_upstream
from tests.support.live_gateway import LiveGateway, live_gateway
from tests.support.waiting import recent, until

YAML = """
upstreams: {up: {base_url: "%(url)s", api_key: sk-upstream}}
models:
  gpt-4o-mini: {upstream: up, input_price: 1e-6, output_price: 2e-6}
  judge-model: {upstream: up, input_price: 1e-6, output_price: 2e-6}
policies:
  default: {trigger_tokens: 256, %(policy)s}
"""


def said(text: str, tokens: int = 20, **more: Any) -> Script:
    usage = {"prompt_tokens": 1000, "completion_tokens": tokens, "total_tokens": 1000 + tokens}
    message = {"role": "assistant", "content": text}
    body = {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini",
        "usage": usage,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        **more,
    }
    return Script(headers={"content-type": "application/json"}, body=orjson.dumps(body))


def evidence(folder: Path, name: str = "") -> Evidence:
    async def read() -> Evidence:
        stores = open_local(folder / "terse.db")
        try:
            names = [record.name async for record in stores.registry.scan(COLLECTION)]
            record = await stores.registry.get(COLLECTION, name or names[0]) if names else None
            return decode(record.data) if record else Evidence()
        finally:
            await stores.close()

    return asyncio.run(read())


def gateway(upstream: FakeUpstream, folder: Path, policy: str, more: str = "") -> Any:
    yaml = YAML.replace("%(policy)s", policy) + more
    return live_gateway(upstream, yaml, settings=Settings(data_dir=str(folder)))


def ask(running: LiveGateway, body: dict[str, Any], **headers: str) -> httpx.Response:
    with running.client(**headers) as client:
        return client.post("/v1/chat/completions", json=body)


@pytest.fixture(autouse=True)
def quick_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.quality.guard.FLUSH_SECONDS", 0.05)


def test_a_conversation_stays_in_its_arm(tmp_path: Path) -> None:
    with fake_upstream() as upstream, gateway(upstream, tmp_path, "holdout: 0.5") as running:
        arms = set()
        for n in range(12):
            first = rag(f"Question {n}?")
            turns = {ask(running, first).headers.get("x-terse-skip-reason", "") for _ in range(2)}
            longer = {
                **first,
                "messages": [
                    *first["messages"],
                    {"role": "assistant", "content": "Yes."},
                    {"role": "user", "content": long_text(60)},
                ],
            }
            turns.add(ask(running, longer).headers.get("x-terse-skip-reason", ""))
            assert len(turns) == 1
            arms |= turns
        assert arms == {"", "holdout"}


def test_the_original_is_sent_too_and_booked(tmp_path: Path) -> None:
    body = rag(stream=False)
    with fake_upstream() as upstream, gateway(upstream, tmp_path, "shadow: 1.0") as running:
        upstream.then(said("On 2026-03-14."), said("On 2026-03-14."))
        reply = ask(running, body)
        assert reply.headers["x-terse-compression"] == "applied"
        until(lambda: evidence(tmp_path).treated == (1.0,))
        assert [len(seen.json["messages"][1]["content"]) for seen in upstream.seen][1] == len(
            body["messages"][1]["content"]
        )
        assert upstream.seen[0].json["messages"] != body["messages"] == upstream.seen[1].json["messages"]
        assert upstream.seen[1].headers["authorization"] == "Bearer sk-upstream"
        until(lambda: len(recent(tmp_path)) == 2)
    shadow, own = sorted(recent(tmp_path), key=lambda entry: entry["outcome"] == "ok")
    assert (shadow["outcome"], own["outcome"]) == ("shadow", "ok")
    assert shadow["cost_usd"] == pytest.approx(1000e-6 + 20 * 2e-6)
    assert (shadow["counterfactual_usd"], shadow["saved_usd"]) == (0.0, -shadow["cost_usd"])
    assert shadow["request_id"] == f"{own['request_id']}-shadow"


def test_streams_are_compared_as_well(tmp_path: Path) -> None:
    with fake_upstream() as upstream, gateway(upstream, tmp_path, "shadow: 1.0") as running:
        upstream.answer_text = "Due on 2026-03-14."
        body = rag(stream=True, stream_options={"include_usage": True})
        assert ask(running, body).text.endswith("data: [DONE]\n\n")
        until(lambda: len(evidence(tmp_path).treated) == 1)
        original = upstream.seen[1].json
        assert "stream" not in original and "stream_options" not in original
    assert evidence(tmp_path).treated == (1.0,)
    assert dict(evidence(tmp_path).kinds) == {"prose": 1}


def test_what_is_not_shortened_is_not_compared(tmp_path: Path) -> None:
    with fake_upstream() as upstream, gateway(upstream, tmp_path, "shadow: 1.0") as running:
        ask(running, chat("short"))
        ask(running, rag(), **{"x-terse-compress": "off"})
        upstream.then(
            Script(status=500, body=b"{}"), Script(status=500, body=b"{}"), Script(status=500, body=b"{}")
        )
        ask(running, rag("Another?"))
        until(lambda: len(recent(tmp_path)) == 3)
        sent = len(upstream.seen)
    assert sent == 2 + 3  # three attempts at the failing one, no shadow anywhere
    assert evidence(tmp_path).treated == ()


def test_a_failing_shadow_hurts_nobody(tmp_path: Path) -> None:
    with fake_upstream() as upstream, gateway(upstream, tmp_path, "shadow: 1.0") as running:
        upstream.then(said("fine"), Script(status=400, body=b'{"error":{"message":"no"}}'))
        assert ask(running, rag()).status_code == 200
        with running.client() as client:
            until(
                lambda: (
                    'terse_shadow_pairs_total{policy="default",result="failed"} 1.0'
                    in client.get("/metrics").text
                )
            )
    assert [entry["outcome"] for entry in recent(tmp_path)] == ["ok"]


def test_quality_falls_and_the_policy_goes_to_audit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    alerts: list[Any] = []
    with fake_upstream() as upstream, fake_upstream() as hook:
        hook.then(Script(status=204))
        more = f"quality: {{webhook: '{hook.url}/hook'}}"
        with gateway(upstream, tmp_path, "shadow: 1.0, min_quality: 0.6", more) as running:
            for n in range(6):  # least_pairs(0.6) is 6
                upstream.then(said('{"answer": 41}'), said('{"answer": 42}'))
                reply = ask(running, rag(f"Question {n}?"))
                assert reply.headers["x-terse-compression"] == "applied"
                until(lambda: len(evidence(tmp_path).treated) == n + 1)  # noqa: B023
            until(lambda: bool(evidence(tmp_path).fallen_back_at))
            until(lambda: ask(running, rag("And now?")).headers["x-terse-compression"] == "audit")
            seen = upstream.seen[-1].json["messages"]
            assert seen == rag("And now?")["messages"]
            with running.client() as client:
                assert 'terse_quality_fallback{policy="default"} 1.0' in client.get("/metrics").text
            until(lambda: len(hook.seen) == 1)
            alerts.append(hook.seen[0].json)
    assert alerts[0]["event"] == "quality-fallback"
    assert (alerts[0]["policy"], alerts[0]["pairs"], alerts[0]["min_quality"]) == ("default", 6, 0.6)
    assert "policy default fell back to audit: quality 0.000 over 6 pairs" in caplog.text
    # Another process, started later, knows; and a policy that forms text differently starts afresh.
    with fake_upstream() as upstream:
        with gateway(upstream, tmp_path, "shadow: 1.0, min_quality: 0.6") as running:
            assert ask(running, rag()).headers["x-terse-compression"] == "audit"
        with gateway(upstream, tmp_path, "shadow: 1.0, min_quality: 0.6, keep: 0.7") as running:
            assert ask(running, rag()).headers["x-terse-compression"] == "applied"


def test_a_flawless_policy_stays_on(tmp_path: Path) -> None:
    with fake_upstream() as upstream, gateway(upstream, tmp_path, "shadow: 1.0, min_quality: 0.6") as running:
        for n in range(8):
            assert ask(running, rag(f"Question {n}?")).headers["x-terse-compression"] == "applied"
            until(lambda: len(evidence(tmp_path).treated) == n + 1)  # noqa: B023
        assert ask(running, rag()).headers["x-terse-compression"] == "applied"
    assert evidence(tmp_path).verdict(0.6) == "good"


def test_a_judge_grades_prose_and_is_paid_for(tmp_path: Path) -> None:
    judge = "quality: {judge: judge-model}"
    with fake_upstream() as upstream, gateway(upstream, tmp_path, "shadow: 1.0", judge) as running:
        upstream.then(said("It is due in March."), said("March, I think."), said("Grade: 8"))
        ask(running, rag("When is it due?"))
        until(lambda: evidence(tmp_path).treated == (0.8,))
        judged = upstream.seen[2].json
        until(lambda: len(recent(tmp_path)) == 3)
    assert judged["model"] == "judge-model"
    assert "When is it due?" in judged["messages"][1]["content"]
    assert "<answer A>\nMarch, I think." in judged["messages"][1]["content"]
    assert dict(evidence(tmp_path).kinds) == {"judged": 1}
    assert sorted(entry["outcome"] for entry in recent(tmp_path)) == ["judge", "ok", "shadow"]


def test_the_books_are_net_of_longer_answers(tmp_path: Path) -> None:
    """The upstream answers shortened requests with 30 tokens, whole ones with 20."""
    whole = len(orjson.dumps(rag("Question 1?", stream=False)))

    def usage(asked: dict[str, Any]) -> dict[str, Any]:
        tokens = 20 if len(orjson.dumps(asked)) > 0.9 * whole else 30
        return {"prompt_tokens": 1000, "completion_tokens": tokens, "total_tokens": 1000 + tokens}

    settings = Settings(data_dir=str(tmp_path), master_key=Secret("sk-master-of-the-tests"))
    yaml = YAML.replace("%(policy)s", "holdout: 0.5")
    with fake_upstream() as upstream, live_gateway(upstream, yaml, settings=settings) as running:
        upstream.usage = usage
        with running.client(authorization="Bearer sk-master-of-the-tests") as admin:
            admin.post("/team/new", json={"team_id": "search"})
            key = admin.post("/key/generate", json={"team_id": "search"}).json()["key"]
            counts = {"": 0, "holdout": 0}
            for n in range(48):
                body = rag(f"Question {n}?", stream=n % 2 == 0)
                if body["stream"]:
                    body["stream_options"] = {"include_usage": True}
                reply = ask(running, body, authorization=f"Bearer {key}")
                counts[reply.headers.get("x-terse-skip-reason", "")] += 1
            assert min(counts.values()) >= 10
            until(lambda: len(recent(tmp_path)) == 48)
            days = admin.get("/spend/logs", params={"start_date": "2020-01-01", "team_id": "search"}).json()
            receipts = admin.get("/spend/logs", params={"limit": 48}).json()
            metrics = admin.get("/metrics").text
            rows = admin.get("/usage", params={"by": "day,team", "since": "2020-01-01"}).json()["rows"]
    (team,) = [day["teams"]["search"] for day in days]
    assert (team["compared_requests"], team["holdout_requests"]) == (counts[""], counts["holdout"])
    assert team["output_change_tokens"] == 10 * counts[""]
    assert team["output_change_usd"] == pytest.approx(10 * counts[""] * 2e-6)
    assert team["net_saved_usd"] == pytest.approx(team["saved_usd"] - team["output_change_usd"])
    assert team["saved_usd"] > 0
    assert rows[0]["net_saved_usd"] == team["net_saved_usd"]
    arms = [receipt["metadata"]["arm"] for receipt in receipts]
    assert (arms.count("treated"), arms.count("holdout")) == (counts[""], counts["holdout"])
    assert (
        f'arm="treated",model="gpt-4o-mini",policy="default",team="search"}} {30.0 * counts[""]}' in metrics
    )
    assert (
        f'arm="holdout",model="gpt-4o-mini",policy="default",team="search"}} {20.0 * counts["holdout"]}'
        in metrics
    )
    assert 'terse_output_length_ratio{policy="default"} 1.5' in metrics


def test_output_lengths_of_both_arms(tmp_path: Path) -> None:
    with fake_upstream() as upstream, gateway(upstream, tmp_path, "holdout: 0.5, shadow: 0.0001") as running:
        seen = {"": 0, "holdout": 0}
        for n in range(16):
            upstream.then(said("fine"))
            seen[ask(running, rag(f"Question {n}?")).headers.get("x-terse-skip-reason", "")] += 1
        ask(running, chat("too short to be looked at"))
    found = evidence(tmp_path)
    assert (found.treated_requests, found.holdout_requests) == (seen[""], seen["holdout"])
    assert len(found.treated_lengths) == seen[""] and set(found.treated_lengths) == {20}
    ratio = found.length_ratio()
    assert ratio is not None and ratio.mean == 1.0


def test_evidence_keeps_the_latest_and_survives_its_store() -> None:
    old = Evidence(treated=(0.0,) * KEPT_PAIRS, kinds=(("json", 500),), treated_requests=500)
    new = old.with_more(Evidence(treated=(1.0, 0.5), kinds=(("json", 1), ("prose", 1)), treated_requests=2))
    assert (len(new.treated), new.treated[-2:], new.treated_requests) == (KEPT_PAIRS, (1.0, 0.5), 502)
    assert dict(new.kinds) == {"json": 501, "prose": 1}
    assert decode(new.encode()) == new
    assert decode(b"garbage") == decode(b"[]") == decode(b"{}") == Evidence()


def test_the_models_own_variation_is_not_blamed_on_shortening() -> None:
    half = (1.0, 0.0) * 100
    alone = Evidence(treated=half)
    with_baseline = Evidence(treated=half, baseline=half)
    assert alone.verdict(0.8) == "bad"
    assert with_baseline.quality().mean == 1.0
    assert with_baseline.verdict(0.8) == "good"
    assert Evidence(treated=half, baseline=(1.0,) * 19).quality() == alone.quality()
    assert Evidence(treated=(0.0,) * 3).verdict(0.8) == "too-few"
    assert Evidence().verdict(0.8) == alone.verdict(None) == "unmeasured"


def test_only_what_may_be_sent_twice_is() -> None:
    def may(path: str, surface: Any, **more: Any) -> bool:
        return repeatable(parse_request(surface, path, orjson.dumps({"model": "m", "messages": [], **more})))

    function = {"type": "function", "function": {"name": "x"}}
    assert may("/v1/chat/completions", "chat", tools=[function])
    assert may("/v1/messages", "messages", tools=[{"name": "x", "input_schema": {}}])
    assert not may("/v1/responses", "responses", tools=[{"type": "web_search"}])
    assert not may("/v1/responses", "responses", previous_response_id="resp_1")
    assert not may("/v1/responses", "responses", background=True)
    assert not may("/v1/messages", "messages", mcp_servers=[{"url": "x"}])
    assert not may("/v1/messages/count_tokens", "messages")
    assert not may("/v1/embeddings", "embeddings")
    again = original_of(
        parse_request("responses", "/v1/responses", b'{"model":"m","store":true,"stream":true,"n":3}')
    )
    assert orjson.loads(again.body) == {"model": "m", "store": False}
    assert not again.stream


def test_shadow_draws_are_even() -> None:
    share = sum(draw_of(f"shadow:{n}") < 0.01 for n in range(20_000)) / 20_000
    assert 0.007 < share < 0.013
    assert record_name(default_policy()).startswith("default@")
