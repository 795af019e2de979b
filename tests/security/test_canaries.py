"""No prompt, answer or key shows up where it does not belong: canaries go through everything.

A real `terse serve` process with keys, receipts, metrics and the SQLite files; then the same with Redis.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import httpx
import pytest

from tests.support.fake_upstream import FakeUpstream, Script, fake_upstream
from tests.support.terse_process import TerseProcess, terse_process
from tests.with_redis.server import RedisServer

PROMPT, ANSWER, TOOL = "canaryprompt7f3a", "canaryanswer91bd", "canarytool55e0"
ADMIN, UPSTREAM, UNKNOWN = "sk-canaryadmin0c4e", "sk-canaryupstream8a2f", "sk-canaryunknown6d1b"
PAGES = (
    "/metrics",
    "/dashboard/data/recent?limit=1000",
    "/dashboard/data/summary",
    "/dashboard/data/policy",
    "/spend/logs",
    "/key/list",
    "/team/list",
    "/health/readiness",
    "/v1/models",
)
SENTENCE = f"The committee talked about {PROMPT} and the budget of the coming year at some length. "
LONG = SENTENCE * 80
YAML = """
upstreams:
  up: {base_url: env/CANARY_URL, api_key: env/CANARY_KEY, retries: 0}
models:
  gpt-4o-mini: {upstream: up}
policies:
  default: {trigger_tokens: 64}
teams:
  writers: {budget: {usd: 100, per: day}}
"""


@dataclass
class Running:
    """One gateway process, what clients were told, and the key of a client."""

    gateway: TerseProcess
    upstream: FakeUpstream
    told: list[str] = field(default_factory=list)
    key: str = ""

    @property
    def url(self) -> str:
        return self.gateway.url

    def ask(self, path: str, body: object, key: str | None = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {key or self.key}"}
        return httpx.post(f"{self.url}{path}", json=body, headers=headers, timeout=30)

    def look(self, path: str) -> str:
        return httpx.get(f"{self.url}{path}", headers={"authorization": f"Bearer {ADMIN}"}, timeout=30).text


@pytest.fixture(params=["local", "redis"], scope="module")
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway through which every canary has gone."""
    tmp_path = tmp_path_factory.mktemp(request.param)
    redis = RedisServer(tmp_path) if request.param == "redis" else None
    environment = {
        "TERSE_MASTER_KEY": ADMIN,
        "TERSE_LOG_LEVEL": "debug",
        "REDIS_URL": redis.url if redis else "",
        "CANARY_KEY": UPSTREAM,
    }
    with ExitStack() as stack:
        if redis:
            stack.callback(redis.kill)
        upstream = stack.enter_context(fake_upstream())
        environment["CANARY_URL"] = upstream.url
        running = Running(stack.enter_context(terse_process(tmp_path, YAML, **environment)), upstream)
        send_everything(running)
        if redis:
            with redis.client() as client:
                client.config_set("rdbcompression", "no")  # a compressed canary would not be found
                client.save()
            assert (tmp_path / "dump.rdb").stat().st_size > 1000
        yield running


def send_everything(running: Running) -> None:
    made = running.ask("/key/generate", {"team_id": "writers", "key_alias": "alias"}, ADMIN)
    running.key = made.json()["key"]
    upstream = running.upstream
    upstream.answer_text = f"{ANSWER} is what was decided."
    user = {"role": "user", "content": LONG}
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": f'{{"q": "{TOOL}"}}'}}
    agent = [user, {"role": "assistant", "content": None, "tool_calls": [call]},
             {"role": "tool", "tool_call_id": "c1", "content": f"{TOOL} {LONG}"}]  # fmt: skip
    bodies: list[tuple[str, dict[str, object]]] = [
        ("/v1/chat/completions", {"messages": [user]}),
        ("/v1/chat/completions", {"messages": [user], "stream": True}),
        ("/v1/chat/completions", {"messages": agent}),
        ("/v1/completions", {"prompt": LONG}),
        ("/v1/responses", {"input": LONG}),
        ("/v1/embeddings", {"input": LONG}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": {PROMPT: 1}}]}),
        ("/v1/chat/completions", {"messages": PROMPT}),
    ]
    for path, body in bodies:
        running.told.append(running.ask(path, {"model": "gpt-4o-mini", **body}).headers.__repr__())
    for script in (
        Script(status=500, body=f'{{"error": {{"message": "{ANSWER}"}}}}'.encode()),
        Script(chunks=[f"data: {ANSWER}\n\n".encode()], break_after=1),
        Script(break_after=0),
        Script(body=f"<html>{ANSWER}".encode()),
    ):
        upstream.then(script)
        running.ask("/v1/chat/completions", {"model": "gpt-4o-mini", "messages": [user]})
    running.ask("/v1/chat/completions", {"model": "gpt-4o-mini", "messages": [user]}, UNKNOWN)
    broken = f'{{"model": "gpt-4o-mini", "messages": [{PROMPT}'.encode()
    headers = {"authorization": f"Bearer {running.key}"}
    running.told.append(
        httpx.post(f"{running.url}/v1/chat/completions", content=broken, headers=headers).text
    )
    assert len(upstream.seen) >= 9, "the canaries did not get through: the test would prove nothing"


def test_canaries_stay_where_they_belong(running: Running) -> None:
    shown = {path: running.look(path) for path in PAGES}
    assert "writers" in shown["/dashboard/data/recent?limit=1000"], "no receipt was written"
    assert (
        '"message"' in running.gateway.log or "msg" in running.gateway.log or "request" in running.gateway.log
    ), "no log was written"
    for canary in (PROMPT, ANSWER, TOOL, ADMIN, UPSTREAM, UNKNOWN, running.key):
        assert canary not in running.gateway.log, f"{canary} is in the log"
        for path, text in shown.items():
            assert canary not in text, f"{canary} is in {path}"
        for told in running.told:
            assert canary not in told, f"{canary} is in a reply's headers or error"
        for path in running.gateway.folder.rglob("*"):
            if path.is_file() and path.name != "terse.yaml":
                assert canary.encode() not in path.read_bytes(), f"{canary} is in {path.name}"


def test_the_upstream_gets_its_own_key_and_none_of_ours(running: Running) -> None:
    for seen in running.upstream.seen:
        assert seen.headers["authorization"] == f"Bearer {UPSTREAM}"
        assert not [name for name in seen.headers if name.startswith("x-terse")]
        assert running.key not in str(seen.headers) and ADMIN not in str(seen.headers)
