"""`terse keys`, `terse teams` and `terse usage`, on a store and on a running gateway."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli import app as terse
from gateway.config import Secret
from gateway.settings import Settings
from gateway.stores.open import FILE_NAME, open_local
from tests.support.fake_upstream import fake_upstream
from tests.support.live_gateway import live_gateway

MASTER = "sk-master-of-the-tests"


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
