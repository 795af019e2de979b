"""Policies as a client of the running gateway meets them: pressure, fitting, audit, roles, reload."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import httpx

from compressor.engine.fake import FakeEngine
from gateway.app import create_app
from gateway.config import Secret
from gateway.configuration_file import load_config
from gateway.settings import Settings
from tests.support.chat_bodies import conversation, long_text, rag
from tests.support.fake_upstream import FakeUpstream, fake_upstream
from tests.support.live_gateway import live_gateway
from tests.support.live_server import live_server
from tests.support.waiting import recent, until

YAML = """
upstreams: {up: {base_url: "%(url)s", api_key: sk-upstream}}
models: {gpt-4o-mini: {upstream: up, input_price: 1e-6, output_price: 2e-6, context_window: %(window)s}}
policies: {default: {trigger_tokens: 256, %(policy)s}}
"""
TEAM = "teams: {search: {budget: {usd: 0.01, per: day}, pressure: [{spent: 0.5, keep: 0.25}]}}\n"


def yaml(policy: str = "keep: 0.5", window: int = 100_000) -> str:
    return YAML.replace("%(policy)s", policy).replace("%(window)s", str(window))


def share(reply: httpx.Response) -> float:
    return int(reply.headers["x-terse-tokens-after"]) / int(reply.headers["x-terse-tokens-before"])


def test_as_the_budget_empties_more_is_shortened_and_the_receipt_says_why(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path), master_key=Secret("sk-master"))
    with fake_upstream() as upstream:
        upstream.usage = {"prompt_tokens": 6000, "completion_tokens": 1, "total_tokens": 6001}
        with live_gateway(upstream, yaml() + TEAM, settings=settings) as running, running.client() as client:
            master = {"authorization": "Bearer sk-master"}
            key = client.post("/key/generate", json={"team_id": "search"}, headers=master).json()["key"]
            own = {"authorization": f"Bearer {key}"}
            first = client.post("/v1/chat/completions", json=rag("One?", max_tokens=1), headers=own)
            assert 0.45 < share(first) < 0.6
            until(lambda: len(recent(tmp_path)) == 1)
            upstream.usage = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}
            numbers = itertools.count()

            def kept() -> float:
                body = rag(f"And {next(numbers)}?", max_tokens=1)
                return share(client.post("/v1/chat/completions", json=body, headers=own))

            until(lambda: kept() < 0.35)  # the store is asked how full a budget is once a second at most
            until(lambda: any("of the budget is spent" in str(entry["steps"]) for entry in recent(tmp_path)))
    steps = [str(entry["steps"]) for entry in recent(tmp_path)]
    assert any("% of the budget is spent: keep at most 0.25" in each for each in steps)


def test_what_would_not_fit_is_shortened_to_fit(tmp_path: Path) -> None:
    body = rag(sentences=200)
    with (
        fake_upstream() as upstream,
        live_gateway(upstream, yaml("keep: 1.0", 3000)) as running,
        running.client() as client,
    ):
        reply = client.post("/v1/chat/completions", json={**body, "max_tokens": 100})
        assert reply.status_code == 200
        assert int(reply.headers["x-terse-tokens-before"]) > 3000
        assert int(reply.headers["x-terse-tokens-after"]) <= 2900


def test_max_input_tokens_holds_whatever_keep_says() -> None:
    policy = "keep: 0.9, max_input_tokens: 1500, protect: []"
    with (
        fake_upstream() as upstream,
        live_gateway(upstream, yaml(policy)) as running,
        running.client() as client,
    ):
        reply = client.post("/v1/chat/completions", json=rag(sentences=200))
        assert int(reply.headers["x-terse-tokens-after"]) <= 1500


def test_audit_sends_the_original_and_says_what_would_have_been(tmp_path: Path) -> None:
    body = rag()
    settings = Settings(data_dir=str(tmp_path))
    with (
        fake_upstream() as upstream,
        live_gateway(upstream, yaml("mode: audit"), settings=settings) as running,
        running.client() as client,
    ):
        reply = client.post("/v1/chat/completions", json=body)
        assert reply.headers["x-terse-compression"] == "audit"
        assert upstream.seen[0].json == body
        until(lambda: len(recent(tmp_path)) == 1)
    assert recent(tmp_path)[0]["compression"] == "audit"


def test_rules_by_role_and_tool() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "search_web", "arguments": "{}"}}
    kept = {"id": "c2", "type": "function", "function": {"name": "read_file", "arguments": "{}"}}
    body = conversation([("user", "Look at both, please.")])
    body["messages"] += [
        {"role": "assistant", "content": None, "tool_calls": [call, kept]},
        {"role": "tool", "tool_call_id": "c1", "content": long_text(80)},
        {"role": "tool", "tool_call_id": "c2", "content": long_text(90)},
    ]
    policy = 'tools: {"read_*": off}'
    with (
        fake_upstream() as upstream,
        live_gateway(upstream, yaml(policy)) as running,
        running.client() as client,
    ):
        client.post("/v1/chat/completions", json=body)
        sent = upstream.seen[0].json["messages"]
    assert sent[:2] == body["messages"][:2]
    assert len(sent[2]["content"]) < len(body["messages"][2]["content"])
    assert sent[3] == body["messages"][3]


def test_a_client_may_ask_for_less_or_more_within_the_policy() -> None:
    def ask(client: httpx.Client, wish: str, n: int) -> float:
        return share(
            client.post("/v1/chat/completions", json=rag(f"{n}?"), headers={"x-terse-compress": wish})
        )

    with (
        fake_upstream() as upstream,
        live_gateway(upstream, yaml("min_keep: 0.3")) as running,
        running.client() as client,
    ):
        assert ask(client, "off", 1) == 1.0
        assert 0.7 < ask(client, "keep=0.8", 2) < 0.9
        assert 0.25 < ask(client, "keep=0.01", 3) < 0.45
        assert 0.4 < ask(client, "nonsense", 4) < 0.6
        assert not any(name.startswith("x-terse") for seen in upstream.seen for name in seen.headers)


def app_of(upstream: FakeUpstream, file: Path, folder: Path, keep: float) -> Any:
    write(upstream, file, keep)
    settings = Settings(data_dir=str(folder))
    return create_app(load_config(str(file), settings), settings, engine=FakeEngine())


def write(upstream: FakeUpstream, file: Path, keep: float) -> None:
    new = file.with_suffix(".new")
    new.write_text(yaml(f"keep: {keep}").replace("%(url)s", upstream.url))
    new.replace(file)


def test_a_running_gateway_follows_its_file_and_survives_a_bad_one(tmp_path: Path) -> None:
    file = tmp_path / "terse.yaml"
    with (
        fake_upstream() as upstream,
        live_server(app_of(upstream, file, tmp_path, 0.8)) as url,
        httpx.Client(base_url=url, headers={"authorization": "Bearer x"}) as client,
    ):
        counter = iter(range(10_000))

        def kept() -> float:
            return share(client.post("/v1/chat/completions", json=rag(f"Question {next(counter)}?")))

        def metric(outcome: str) -> bool:
            return f'terse_configuration_reloads_total{{outcome="{outcome}"}}' in client.get("/metrics").text

        assert 0.7 < kept() < 0.9
        write(upstream, file, 0.4)
        until(lambda: kept() < 0.55)
        write(upstream, file, 40)
        until(lambda: metric("refused"))
        assert kept() < 0.55
        file.unlink()
        assert kept() < 0.55
        write(upstream, file, 0.8)
        until(lambda: kept() > 0.7)
        assert metric("applied")
