"""The admin API: LiteLLM's shapes of keys and teams, who may do what, two admins at once."""

from __future__ import annotations

import asyncio
import json

from gateway.settings import Settings
from tests.gateway.admin.conftest import CONFIG, MASTER, READER, Api, OpenApi, auth

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
