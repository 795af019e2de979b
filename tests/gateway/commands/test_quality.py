"""`terse quality` as a script sees it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gateway.commands import quality
from gateway.configuration_file import parse_config
from gateway.quality.evidence import COLLECTION, Evidence, record_name
from gateway.settings import Settings
from gateway.stores.open import open_local

FILE = """\
policies:
  rag: {holdout: 0.05, shadow: 0.01, min_quality: 0.8}
  plain: {}
  new: {shadow: 0.01}
"""

app = typer.Typer()
quality.register(app)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TERSE_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("REDIS_URL", raising=False)
    path = tmp_path / "terse.yaml"
    path.write_text(FILE)
    return str(path)


def store(folder: Path, evidence: Evidence) -> None:
    policy = parse_config(FILE, "terse.yaml", Settings()).config.policies["rag"]

    async def put() -> None:
        stores = open_local(folder / "terse.db")
        try:
            await stores.registry.put(COLLECTION, record_name(policy), evidence.encode(), None)
            await stores.registry.put(COLLECTION, "rag@000000000000", Evidence(treated=(0.0,)).encode(), None)
        finally:
            await stores.close()

    asyncio.run(put())


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["quality", *arguments], terminal_width=250, env={"COLUMNS": "250"})
    return result.exit_code, result.stdout, result.stderr


def test_policies_without_evidence_are_listed(file: str) -> None:
    code, out, _ = run("--config", file, "--json")
    said = json.loads(out)
    assert code == 0
    assert [(row["policy"], row["state"], row["quality"]) for row in said] == [
        ("new", "on, unmeasured", None),
        ("rag", "on, unmeasured", None),
    ]


def test_figures_with_their_intervals(file: str, tmp_path: Path) -> None:
    found = Evidence(
        treated=(1.0,) * 45 + (0.0,) * 5,
        baseline=(1.0,) * 38 + (0.0,) * 2,
        treated_lengths=(110, 130) * 20,
        holdout_lengths=(90, 110) * 20,
        treated_requests=40,
        holdout_requests=2,
        kinds=(("json", 50),),
    )
    store(tmp_path, found)
    code, out, _ = run("--config", file, "--json")
    row = json.loads(out)[1]
    assert code == 0
    assert row["quality"]["mean"] == pytest.approx(0.95) and row["quality"]["low"] == pytest.approx(
        0.832, abs=0.01
    )
    assert row["agreement_with_original"]["mean"] == 0.9
    assert row["agreement_of_originals"]["n"] == 40
    assert row["output_length_ratio"]["mean"] == 1.2
    code, out, _ = run("--config", file)
    assert "0.950 [0.8" in out and "(min 0.8)" in out and "+20.0 %" in out and "50 json" in out
    assert "000000000000" not in out
    assert "000000000000" in run("--config", file, "--all")[1]


def test_a_fall_back_has_its_own_exit_code_and_can_be_undone(file: str, tmp_path: Path) -> None:
    store(tmp_path, Evidence(treated=(0.0,) * 20, fallen_back_at="2026-11-22T20:00:00+00:00", reason="bad"))
    code, out, _ = run("--config", file)
    assert code == 3
    assert "audit since 2026-11-22T20:00:00+00:00" in out
    assert run("reset", "rag", "--config", file)[:2] == (0, "rag: 2 records forgotten\n")
    assert run("--config", file)[0] == 0
    assert run("reset", "rag", "--config", file)[1] == "rag: 0 records forgotten\n"


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    code, _, err = run("--config", str(tmp_path / "gone.yaml"))
    assert (code, err) == (1, f"{tmp_path}/gone.yaml: no such file\n")


def test_help_has_examples() -> None:
    for command in ((), ("reset",)):
        code, out, _ = run(*command, "--help")
        assert code == 0 and "Example: terse quality" in " ".join(out.split())
