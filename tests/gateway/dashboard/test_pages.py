"""The dashboard's page and figures over a socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.config import Secret
from gateway.dashboard.pages import STATIC
from gateway.settings import Settings
from tests.support.fake_upstream import FakeUpstream
from tests.support.live_gateway import MODELS, LiveGateway, live_gateway
from tests.support.waiting import until

ADMIN, READER = "sk-admin-canary-1", "sk-reader-canary-2"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    settings = Settings(
        data_dir=str(tmp_path_factory.mktemp("data")), master_key=Secret(ADMIN), readonly_key=Secret(READER)
    )
    from tests.support.fake_upstream import fake_upstream

    with fake_upstream() as upstream, live_gateway(upstream, settings=settings) as gateway:
        yield gateway


def test_the_page_needs_no_key_and_has_a_strict_policy(guarded: LiveGateway) -> None:
    reply = httpx.get(f"{guarded.url}/dashboard")
    policy = reply.headers["content-security-policy"]
    assert reply.status_code == 200
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    page = reply.text
    assert "<script>" not in page and "onclick" not in page and 'style="' not in page


def test_the_page_asks_nobody_else_and_stays_under_300_kb() -> None:
    files = list(STATIC.iterdir())
    assert sum(path.stat().st_size for path in files) < 300_000
    for path in files:
        if path.suffix in {".html", ".css"} or (path.suffix == ".js" and path.name != "uplot.js"):
            text = path.read_text(encoding="utf-8").replace("https://audit.example.com", "")
            assert "https://" not in text.replace("http://www.w3.org", ""), path.name


@pytest.mark.parametrize("name", ["index.html", "dashboard.js", "uplot.css", "icon.svg"])
def test_static_files_are_served(guarded: LiveGateway, name: str) -> None:
    reply = httpx.get(f"{guarded.url}/dashboard/static/{name}")
    assert reply.status_code == 200
    assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["pages.py", "..%2Fpages.py", "%2e%2e%2fpages.py", "nothing"])
def test_nothing_else_is_served(guarded: LiveGateway, name: str) -> None:
    reply = httpx.get(f"{guarded.url}/dashboard/static/{name}")
    assert reply.status_code == 404
    assert "STATIC" not in reply.text


@pytest.mark.parametrize("path", ["summary", "recent", "policy"])
@pytest.mark.parametrize("key", ["", "sk-wrong", ADMIN + "x"])
def test_figures_need_a_key(guarded: LiveGateway, path: str, key: str) -> None:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    reply = httpx.get(f"{guarded.url}/dashboard/data/{path}", headers=headers)
    assert reply.status_code == 401
    assert reply.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("key", [ADMIN, READER])
def test_both_keys_read_the_figures(guarded: LiveGateway, key: str) -> None:
    reply = httpx.get(
        f"{guarded.url}/dashboard/data/summary?days=1", headers={"authorization": f"Bearer {key}"}
    )
    assert reply.status_code == 200
    assert reply.json()["total"]["requests"] == 0
    assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("days", ["0", "-1", "401", "x", "١", ""])
def test_absurd_days_are_refused(guarded: LiveGateway, days: str) -> None:
    reply = httpx.get(
        f"{guarded.url}/dashboard/data/summary?days={days}", headers={"authorization": f"Bearer {READER}"}
    )
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "days"


def test_the_read_only_key_cannot_call_models(guarded: LiveGateway) -> None:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}
    reply = httpx.post(
        f"{guarded.url}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {READER}"}
    )
    assert reply.status_code == 401


def test_a_request_shows_up_in_figures_and_tail(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "canary-prompt hello"}]}
    with gateway.client() as client:
        assert client.post("/v1/chat/completions", json=body).status_code == 200
        # The books are written behind the answer.
        until(lambda: bool(client.get("/dashboard/data/recent").json()["receipts"]))
        receipts = client.get("/dashboard/data/recent").json()["receipts"]
        figures = client.get("/dashboard/data/summary").json()
    assert receipts[0]["model"] == "gpt-4o-mini"
    assert figures["total"]["requests"] >= 1
    assert "canary-prompt" not in str(receipts) + str(figures)


def ask(gateway: LiveGateway, path: str, **body: object) -> httpx.Response:
    with gateway.client() as client:
        return client.post(f"/dashboard/data/policy{path}", json=body)


def test_the_editor_checks_and_explains(gateway: LiveGateway) -> None:
    text = MODELS.replace("%(url)s", "http://127.0.0.1:1/v1")
    assert ask(gateway, "/check", text=text).json()["ok"] is True
    wrong = ask(gateway, "/check", text=text.replace("trigger_tokens", "triger_tokens")).json()
    assert wrong["ok"] is False
    assert "triger_tokens" in wrong["lines"][0]
    told = ask(gateway, "/explain", text=text, model="gpt-4o-mini", team="default", tokens=9000).json()
    assert told["ok"] is True and told["lines"]


def test_the_editor_takes_urls_from_the_environment(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("A_UPSTREAM", "https://canary.example/v1"),
        ("A_KEY", "sk-canary"),
        ("A_STORE", "redis://:canary@host:6379"),
        ("A_SOCKET", "unix:///run/canary.sock"),
    ):
        monkeypatch.setenv(name, value)
    text = (
        "upstreams: {up: {base_url: env/A_UPSTREAM, api_key: env/A_KEY}}\nmodels: {m: {upstream: up}}\n"
        "store: env/A_STORE\ncompressor: {url: env/A_SOCKET}\n"
    )
    reply = ask(gateway, "/check", text=text)
    assert reply.json()["ok"] is True, reply.text
    told = ask(gateway, "/explain", text=text, model="m", team="default", tokens=9000)
    assert told.json()["ok"] is True
    assert "canary" not in reply.text + told.text


def test_the_editor_never_shows_the_environment(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERSE_CANARY", "canary-secret-3")
    text = "upstreams:\n  up: {base_url: env/TERSE_CANARY}\npolicies:\n  default: {keep: env/TERSE_CANARY}\n"
    reply = ask(gateway, "/check", text=text)
    assert reply.json()["ok"] is False
    assert "canary-secret-3" not in reply.text


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"text": 3}', b"x" * (1 << 21)])
def test_a_broken_body_is_refused(gateway: LiveGateway, body: bytes) -> None:
    with gateway.client() as client:
        assert client.post("/dashboard/data/policy/check", content=body).status_code == 400


def test_the_shipped_page_names_only_files_that_exist() -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    for line in page.split('"'):
        if line.startswith("/dashboard/static/"):
            assert (STATIC / Path(line).name).exists()
