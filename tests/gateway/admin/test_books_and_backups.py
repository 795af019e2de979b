"""The admin API: spending in LiteLLM's shape, export and import of keys and teams."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.admin.conftest import Api

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
