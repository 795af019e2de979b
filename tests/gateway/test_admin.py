"""The admin API: LiteLLM's shapes, named errors for bad input, two admins at once, and the command line."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from typer.testing import CliRunner

from gateway.access.callers import Callers
from gateway.api import admin
from gateway.api.error_response import error_response
from gateway.cli import app as terse
from gateway.config import Config, ModelConfig, Secret
from gateway.errors import GatewayError
from gateway.settings import Settings
from gateway.stores.base import Stores
from gateway.stores.open import FILE_NAME, open_local
from policies.shapes import Team
from tests.support.fake_upstream import fake_upstream
from tests.support.live_gateway import live_gateway

MASTER, READER = "sk-master-of-the-tests", "sk-reader-of-the-tests"
CONFIG = Config(
    models={"gpt-4o": ModelConfig("gpt-4o", "u"), "claude-*": ModelConfig("claude-*", "u")},
    teams={"red": Team("red", models=("gpt-*",))},
)
SETTINGS = Settings(master_key=Secret(MASTER), readonly_key=Secret(READER))


@dataclass
class Live:
    """What the API reads of a gateway's configuration."""

    config: Config
    callers: Callers


@dataclass
class Services:
    """What the API reads of a gateway."""

    settings: Settings
    stores: Stores
    live: Live


@dataclass
class Api:
    """Calls the API with one key."""

    client: httpx.AsyncClient
    stores: Stores

    async def __call__(self, path: str, body: Any = None, key: str = MASTER, **params: Any) -> Any:
        response = await self.raw(path, body, key, **params)
        assert response.status_code == 200, response.text
        return response.json()

    async def raw(self, path: str, body: Any = None, key: str = MASTER, **params: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        if body is None:
            return await self.client.get(path, params=params, headers=headers)
        return await self.client.post(path, params=params, headers=headers, json=body)

    async def refused(self, status: int, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        """The error object of a call that must fail."""
        response = await self.raw(path, body, **more)
        assert response.status_code == status, response.text
        error: dict[str, Any] = response.json()["error"]
        assert set(error) >= {"message", "type", "param", "code"}
        return error


OpenApi = Callable[[Config, Settings], Api]


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    stores = open_local(tmp_path / FILE_NAME)
    yield stores
    await stores.close()


@pytest.fixture
async def open_api(stores: Stores) -> AsyncIterator[OpenApi]:
    clients = []

    def opening(config: Config, settings: Settings) -> Api:
        services = Services(settings, stores, Live(config, Callers(config, settings, stores.registry)))
        app = Starlette(routes=admin.routes, exception_handlers={GatewayError: error_response})

        async def with_services(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": {"services": services}}, receive, send)

        client = httpx.AsyncClient(transport=httpx.ASGITransport(with_services), base_url="http://gateway")
        clients.append(client)
        return Api(client, stores)

    yield opening
    for client in clients:
        await client.aclose()


@pytest.fixture
def api(open_api: OpenApi) -> Api:
    return open_api(CONFIG, SETTINGS)


# ---- keys


async def test_the_life_of_a_key(api: Api) -> None:
    made = await api(
        "/key/generate",
        {"key_alias": "ci", "team_id": "red", "models": ["gpt-4o"], "max_budget": 20.5,
         "budget_duration": "30d",
         "tpm_limit": 1000, "rpm_limit": 10, "max_parallel_requests": 3, "duration": "7d",
         "metadata": {"a": 1}, "may_override": False, "user_id": "u1"},
    )  # fmt: skip
    key, token = made["key"], made["token"]
    assert key.startswith("sk-terse-")
    assert made["ignored"] == ["user_id"]
    info = (await api.client.get("/key/info", params={"key": key}, headers=auth(MASTER))).json()
    assert info["key"] == token
    assert info["info"]["max_budget"] == 20.5
    assert info["info"]["budget_duration"] == "30d"
    assert info["info"]["budgets"] == [{"usd": 20.5, "tokens": None, "per": "month", "sliding": False}]
    assert (info["info"]["spend"], info["info"]["may_override"]) == (0.0, False)
    assert key not in json.dumps(info)
    changed = await api("/key/update", {"key": key, "rpm_limit": None, "max_budget": 30})
    assert (changed["rpm_limit"], changed["tpm_limit"], changed["max_budget"]) == (None, 1000, 30.0)
    assert (await api("/key/block", {"key": token}))["blocked"] is True
    assert (await api("/key/unblock", {"key": "ci"}))["blocked"] is False
    fresh = await api(f"/key/{token}/regenerate", {})
    assert fresh["key"] != key
    assert fresh["key_alias"] == "ci"
    assert (await api("/key/delete", {"keys": [fresh["key"]]})) == {"deleted_keys": [fresh["token"]]}
    assert (await api.refused(404, "/key/block", {"key": key}))["code"] == "key_not_found"


def auth(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_lists_of_keys(api: Api) -> None:
    for number in range(5):
        await api("/key/generate", {"key_alias": f"k{number}", "team_id": "red" if number else "default"})
    page = await api("/key/list", size=2, page=3)
    assert (len(page["keys"]), page["total_count"], page["total_pages"]) == (1, 5, 3)
    whole = await api("/key/list", team_id="red", return_full_object="true")
    assert {key["key_alias"] for key in whole["keys"]} == {"k1", "k2", "k3", "k4"}


async def test_a_key_may_look_at_itself_alone(api: Api) -> None:
    mine = await api("/key/generate", {"team_id": "red"})
    other = await api("/key/generate", {"team_id": "red"})
    assert (await api("/key/info", key=mine["key"]))["key"] == mine["token"]
    asked = await api.client.get("/key/info", params={"key": other["key"]}, headers=auth(mine["key"]))
    assert asked.status_code == 403
    assert (await api.client.get("/key/info", headers=auth("sk-unknown-to-all"))).status_code == 401


async def test_who_may_what(api: Api) -> None:
    assert (await api.refused(401, "/team/list", key=""))["code"] == "missing_api_key"
    assert (await api.refused(403, "/team/list", key="sk-wrong-key-of-all"))["code"] == "not_master_key"
    assert (await api.raw("/team/list", key=READER)).status_code == 200
    assert (await api.raw("/usage", key=READER)).status_code == 200
    assert (await api.refused(403, "/key/generate", {}, key=READER))["code"] == "not_master_key"
    assert (await api.refused(403, "/registry/export", key=READER))["code"] == "not_master_key"


async def test_without_a_master_key_the_api_is_off(open_api: OpenApi) -> None:
    api = open_api(CONFIG, Settings())
    assert (await api.refused(403, "/key/generate", {}, key="anything"))["code"] == "admin_disabled"


# ---- bad input

BAD_KEYS: list[tuple[dict[str, Any], str | None]] = [
    ({"max_budget": -1}, "max_budget"),
    ({"max_budget": 0}, "max_budget"),
    ({"max_budget": 1e12}, "max_budget"),
    ({"max_budget": "a lot"}, "max_budget"),
    ({"budget_duration": "3 fortnights", "max_budget": 1}, "budget_duration"),
    ({"budgets": [{"usd": 1, "per": "year"}]}, "budgets.0.per"),
    ({"budgets": [{"per": "day"}]}, "budgets.0"),
    ({"budgets": [{"tokens": 0}]}, "budgets.0.tokens"),
    ({"budgets": [{"usd": 1}], "max_budget": 1}, None),
    ({"rpm_limit": 0}, "rpm_limit"),
    ({"tpm_limit": 1.5}, "tpm_limit"),
    ({"max_parallel_requests": -3}, "max_parallel_requests"),
    ({"duration": "soon"}, "duration"),
    ({"duration": "0d"}, "duration"),
    ({"models": "gpt-4o"}, "models"),
    ({"models": ["gpt-5000"]}, "models"),
    ({"key": "short"}, "key"),
    ({"metadata": []}, "metadata"),
]


@pytest.mark.parametrize(("body", "param"), BAD_KEYS)
async def test_bad_keys_are_refused_by_field(api: Api, body: dict[str, Any], param: str | None) -> None:
    error = await api.refused(400, "/key/generate", body)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert (await api("/key/list"))["keys"] == []


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-0.0"])
async def test_numbers_that_are_none(api: Api, number: str) -> None:
    response = await api.client.post(
        "/key/generate", content=f'{{"max_budget": {number}}}'.encode(), headers=auth(MASTER)
    )
    assert response.status_code == 400


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"', b"\xff", b'{"key": 5}', b'{"key": ""}'])
async def test_bodies_that_are_none(api: Api, body: bytes) -> None:
    response = await api.client.post("/key/update", content=body, headers=auth(MASTER))
    assert response.status_code == 400
    assert response.json()["error"]["message"]


async def test_unknown_teams_and_models(api: Api) -> None:
    assert (await api.refused(404, "/key/generate", {"team_id": "nope"}))["code"] == "team_not_found"
    assert (await api.refused(404, "/team/info", team_id="nope"))["code"] == "team_not_found"
    error = await api.refused(400, "/team/new", {"team_id": "t", "models": ["gpt-5000"]})
    assert "claude-*" in error["message"]
    await api("/team/new", {"team_id": "t", "models": ["claude-3", "new-*"]})
    for name in ("with space", "-x", "a" * 200, "a/b", ""):
        assert (await api.refused(400, "/team/new", {"team_id": name}))["param"] == "team_id"


async def test_lists_with_bad_numbers(api: Api) -> None:
    for params in ({"size": "0"}, {"page": "x"}, {"size": "99999999"}):
        await api.refused(400, "/key/list", **params)
    await api.refused(400, "/usage", by="colour")


# ---- teams


async def test_the_life_of_a_team(api: Api) -> None:
    made = await api(
        "/team/new",
        {"team_alias": "blue", "max_budget": 100, "budget_duration": "1mo",
         "pressure": [{"spent": 0.9, "keep": 0.3}, {"spent": 0.5, "keep": 0.5}]},
    )  # fmt: skip
    assert (made["team_id"], made["version"], made["static"]) == ("blue", 1, False)
    assert [step["spent"] for step in made["pressure"]] == [0.5, 0.9]
    await api("/key/generate", {"team_id": "blue"})
    info = await api("/team/info", team_id="blue")
    assert len(info["keys"]) == 1
    changed = await api(
        "/team/update", {"team_id": "blue", "budgets": [{"tokens": 5, "per": "minute", "sliding": True}]}
    )
    assert changed["max_budget"] is None
    assert changed["budgets"][0]["tokens"] == 5
    assert {team["team_id"] for team in await api("/team/list")} == {"red", "blue"}
    assert (await api("/team/delete", {"team_ids": ["blue"]})) == {"deleted_teams": ["blue"]}


async def test_teams_of_the_file_are_changed_there(api: Api) -> None:
    assert (await api.refused(409, "/team/new", {"team_id": "red"}))["code"] == "already_exists"
    assert (await api.refused(409, "/team/update", {"team_id": "red"}))["code"] == "static_team"
    assert (await api.refused(409, "/team/delete", {"team_ids": ["red"]}))["code"] == "static_team"
    assert (await api("/team/info", team_id="red"))["team_info"]["static"] is True


# ---- two admins at once


async def test_of_two_admins_with_one_version_one_gets_409(api: Api) -> None:
    made = await api("/key/generate", {"rpm_limit": 1})
    bodies = [{"key": made["key"], "rpm_limit": n, "version": made["version"]} for n in range(2, 12)]
    responses = await asyncio.gather(*[api.raw("/key/update", body) for body in bodies])
    assert sorted(response.status_code for response in responses) == [200] + [409] * 9
    won = next(response.json() for response in responses if response.status_code == 200)
    assert (await api("/key/info", key=made["key"]))["info"]["rpm_limit"] == won["rpm_limit"]


async def test_changes_of_different_fields_without_a_version_all_stay(api: Api) -> None:
    await api("/team/new", {"team_id": "blue"})
    await asyncio.gather(
        api("/team/update", {"team_id": "blue", "rpm_limit": 5}),
        api("/team/update", {"team_id": "blue", "tpm_limit": 6}),
        api("/team/update", {"team_id": "blue", "max_budget": 7}),
    )
    team = (await api("/team/info", team_id="blue"))["team_info"]
    assert (team["rpm_limit"], team["tpm_limit"], team["max_budget"]) == (5, 6, 7.0)


async def test_a_key_is_made_once(api: Api) -> None:
    body = {"key": "sk-my-very-own-key"}
    await api("/key/generate", body)
    assert (await api.refused(409, "/key/generate", body))["code"] == "already_exists"


# ---- spending


async def test_spending_in_litellms_shape(api: Api) -> None:
    made = await api("/key/generate", {"team_id": "red"})
    for number, day in enumerate(("2026-06-01", "2026-06-01", "2026-06-02")):
        await api.stores.ledger.book(
            {"request_id": f"r{number}", "at": f"{day}T10:00:00Z", "team": "red", "key_id": made["token"],
             "model": "gpt-4o", "route": "r", "cost_usd": 0.25, "input_tokens": 10, "output_tokens": 5,
             "counterfactual_usd": 0.3, "saved_usd": 0.05, "broken_prefix_tokens": 2}
        )  # fmt: skip
    logs = await api("/spend/logs", limit=2)
    assert [(log["request_id"], log["spend"], log["total_tokens"]) for log in logs] == [
        ("r2", 0.25, 15),
        ("r1", 0.25, 15),
    ]
    days = await api("/spend/logs", start_date="2026-06-01", end_date="2026-06-02")
    assert [(day["startTime"], day["spend"]) for day in days] == [("2026-06-01", 0.5), ("2026-06-02", 0.25)]
    assert days[0]["models"] == {"gpt-4o": 0.5}
    red = days[0]["teams"]["red"]
    assert (red["counterfactual_usd"], red["saved_usd"], red["cost_usd"]) == (0.6, 0.1, 0.5)
    assert (red["input_tokens"], red["output_tokens"], red["broken_prefix_tokens"]) == (20, 10, 4)
    raw = await api("/spend/logs", start_date="2026-06-02", summarize="false", api_key=made["key"])
    assert [log["request_id"] for log in raw] == ["r2"]
    assert await api("/spend/logs", api_key="sk-of-somebody-else") == []
    assert (await api("/usage", by="team"))["rows"][0]["cost_usd"] == 0.75
    assert (await api("/key/info", key=made["key"]))["info"]["spend"] == 0.75
    assert (await api("/team/info", team_id="red"))["team_info"]["spend"] == 0.75


# ---- export and import


async def test_export_and_import(api: Api, tmp_path: Path) -> None:
    made = await api("/key/generate", {"key_alias": "ci", "max_budget": 5, "duration": "3d"})
    await api("/team/new", {"team_id": "blue", "pressure": [{"spent": 0.5, "keep": 0.5}]})
    before = await api("/key/info", key=made["key"])
    data = await api("/registry/export")
    assert made["key"] not in json.dumps(data)
    assert await api("/registry/import", data) == {"teams": 0, "keys": 0, "kept": 2}
    await api("/key/delete", {"key_aliases": ["ci"]})
    await api("/team/update", {"team_id": "blue", "rpm_limit": 1})
    assert await api("/registry/import", data) == {"teams": 0, "keys": 1, "kept": 1}
    assert await api("/registry/import", data, replace="true") == {"teams": 1, "keys": 1, "kept": 0}
    after = await api("/key/info", key=made["key"])
    assert {**after["info"], "version": 0} == {**before["info"], "version": 0}
    assert (await api("/team/info", team_id="blue"))["team_info"]["rpm_limit"] is None


@pytest.mark.parametrize(
    "data",
    [{}, {"registry": 2}, {"registry": 1, "keys": [{"name": "x"}]},
     {"registry": 1, "teams": [{"name": "x", "data": "{}"}]}, {"registry": 1, "keys": ["x"]}],
)  # fmt: skip
async def test_imports_that_are_none(api: Api, data: dict[str, Any]) -> None:
    await api.refused(400, "/registry/import", data)


# ---- the command line


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`terse ...` on a store of the test's own."""
    monkeypatch.setenv("TERSE_DATA_DIR", str(tmp_path / "data"))
    for name in ("REDIS_URL", "TERSE_CONFIG", "TERSE_MASTER_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def running(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(terse, list(words))
        assert result.exit_code == code, (words, result.output, result.stderr)
        return result.stdout if code == 0 else result.stderr

    return running


def test_keys_and_teams_from_the_command_line(run: Callable[..., str], tmp_path: Path) -> None:
    run("teams", "create", "blue", "--budget", "9", "--per", "30d", "--pressure", "0.8=0.4")
    key = run("keys", "create", "--team", "blue", "--alias", "ci", "--budget", "2", "--rpm", "5").strip()
    assert key.startswith("sk-terse-")
    listed = json.loads(run("keys", "list", "--json"))
    assert [(entry["key_alias"], entry["rpm_limit"]) for entry in listed] == [("ci", 5)]
    table = run("keys", "list")
    assert "ci" in table
    assert "$2/total" in table
    assert "$9/month" in run("teams", "list")
    run("keys", "update", "ci", "--rpm", "6", "--may-not-override", "--version", "1")
    assert "version 1 was expected" in run("keys", "update", "ci", "--rpm", "7", "--version", "1", code=1)
    run("keys", "block", "ci")
    assert json.loads(run("keys", "info", "ci"))["blocked"] is True
    run("keys", "unblock", key)
    run("teams", "update", "blue", "--rpm", "50")
    run("teams", "block", "blue")
    run("teams", "unblock", "blue")
    assert json.loads(run("teams", "info", "blue"))["team_info"]["rpm_limit"] == 50
    run("keys", "export", "backup.json")
    fresh = run("keys", "regenerate", "ci").strip()
    assert fresh != key
    run("keys", "delete", "ci", "--yes")
    run("teams", "delete", "blue", "--yes")
    assert json.loads(run("keys", "import", "backup.json", "--json"))["keys"] == 1
    assert "$9/month" in run("teams", "list")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("keys", "info", "nobody"), 1, "no such key"),
        (("keys", "create", "--budget", "-5"), 1, "max_budget"),
        (("keys", "create", "--team", "nope"), 1, "no team 'nope'"),
        (("keys", "create", "--url", "http://127.0.0.1:1"), 1, "TERSE_MASTER_KEY"),
        (("keys", "list", "--config", "none.yaml"), 1, "no such file"),
        (("teams", "create", "x", "--pressure", "half"), 2, "0.8=0.4"),
        (("usage", "--since", "yesterday"), 2, "date"),
        (("usage", "--by", "colour"), 1, "group by"),
        (("keys", "import", "bad.json"), 1, "bad.json"),
    ],
)
def test_mistakes_on_the_command_line(
    run: Callable[..., str], tmp_path: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    (tmp_path / "bad.json").write_text("{")
    assert says in run(*words, code=code)


def test_the_same_commands_on_a_running_gateway(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERSE_MASTER_KEY", MASTER)
    with tempfile.TemporaryDirectory() as folder, fake_upstream() as upstream:
        settings = Settings(master_key=Secret(MASTER), data_dir=folder)
        with live_gateway(upstream, settings=settings) as gateway:
            to = ("--url", gateway.url + "/")
            run("teams", "create", "blue", *to)
            key = run("keys", "create", "--team", "blue", "--alias", "ci", *to).strip()
            with gateway.client(authorization=f"Bearer {key}") as client:
                assert client.get("/v1/models").status_code == 200
                run("keys", "block", "ci", *to)
                refused = client.get("/v1/models")
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "key_blocked")
            assert json.loads(run("keys", "list", "--json", *to))[0]["team_id"] == "blue"
            assert "no team 'red'" in run("teams", "info", "red", *to, code=1)
            assert "Nothing" in run("usage", *to)
            monkeypatch.setenv("TERSE_MASTER_KEY", "sk-some-other-key")
            assert "master key" in run("keys", "list", *to, code=1)


def test_nobody_at_the_url(run: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERSE_MASTER_KEY", MASTER)
    assert "no gateway answers" in run("usage", "--url", "http://127.0.0.1:1", code=1)


def test_usage_as_a_table_and_as_json(run: Callable[..., str], tmp_path: Path) -> None:
    assert "Nothing was booked" in run("usage")

    async def book() -> None:
        stores = open_local(tmp_path / "data" / FILE_NAME)
        for number, team in enumerate(("red", "blue")):
            await stores.ledger.book(
                {"request_id": f"r{number}", "at": "2026-06-01T00:00:00Z", "team": team, "model": "m",
                 "cost_usd": 1.5, "saved_usd": -0.25, "tokens_before": 2000, "tokens_after": 500}
            )  # fmt: skip
        await stores.close()

    asyncio.run(book())
    table = run("usage", "--since", "2026-06-01", "--by", "team")
    assert "TOTAL" in table
    assert "$3.0000" in table
    assert "$-0.5000" in table
    rows = json.loads(run("usage", "--since", "2026-06-01", "--by", "team,key", "--json"))["rows"]
    assert [(row["team"], row["tokens_saved"]) for row in rows] == [("blue", 1500), ("red", 1500)]
