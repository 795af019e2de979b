"""The admin API: bad input is refused, and the error names the field."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.admin.conftest import MASTER, Api, auth

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
