"""`terse policy …` as a script sees it: exit codes, output, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gateway.commands import policy
from tests.support.chat_bodies import rag

FILE = """\
upstreams: {openai: {base_url: 'https://api.openai.com/v1', api_key: env/NOT_SET_ANYWHERE}}
models: {"gpt-*": {context_window: 128000}}
policies:
  rag: {keep: 0.5, ranges: [{from: 8000, keep: 0.33}], max_input_tokens: 6000}
  night: {schedule: [{from: "22:00", to: "06:00"}], holdout: 0.1}
teams: {search: {budget: {usd: 200}, pressure: [{spent: 0.8, keep: 0.25}]}}
routes:
  - {match: {headers: {x-batch: "*"}}, policy: night}
  - {match: {model: "gpt-*", team: search}, policy: rag}
"""

app = typer.Typer()
policy.register(app)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "terse.yaml"
    path.write_text(FILE)
    return str(path)


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["policy", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_check_accepts_a_good_file_and_tells_what_is_unset(file: str) -> None:
    code, out, err = run("check", file)
    assert (code, out) == (0, f"{file}: ok: 1 upstream, 1 model, 4 policies, 1 team, 2 routes\n")
    unset = "upstreams.openai.api_key: the environment variable NOT_SET_ANYWHERE is not set (warning)"
    assert err == f"{file}:1: {unset}\n"
    assert run("check", file, "--strict")[0] == 0


def test_check_refuses_with_every_mistake(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("policies:\n  rag: {keep: 5}\nroutes:\n  - {match: {}, policy: rga}\n")
    code, out, err = run("check", str(path))
    assert (code, out) == (1, "")
    assert [line.split(": ")[1] for line in err.splitlines()] == ["policies.rag.keep", "routes[0].policy"]
    code, out, _ = run("check", str(path), "--json")
    said = json.loads(out)
    assert (code, said["ok"]) == (1, False)
    assert [(each["line"], each["key"]) for each in said["mistakes"]] == [
        (2, "policies.rag.keep"),
        (4, "routes[0].policy"),
    ]
    assert run("check", str(tmp_path / "gone.yaml"))[0] == 1


def test_strict_refuses_doubts(tmp_path: Path) -> None:
    path = tmp_path / "doubtful.yaml"
    path.write_text("routes: [{match: {}, policy: off}, {match: {}, policy: default}]")
    assert run("check", str(path))[0] == 0
    code, out, err = run("check", str(path), "--strict")
    assert code == 1
    assert ": refused: " in out and "never reached" in err


def test_explain_tells_route_reason_and_cut(file: str) -> None:
    code, out, _ = run(
        "explain",
        file,
        "--model",
        "gpt-4o",
        "--team",
        "search",
        "--tokens",
        "12000",
        "--compressible",
        "11000",
    )
    assert code == 0
    assert out.splitlines() == [
        "model gpt-4o -> upstream openai",
        "policy rag: route 1: model matches gpt-* and team matches search; policy rag",
        "   route 0 (night): header x-batch is absent",
        " * route 1 (rag): model matches gpt-* and team matches search",
        "kept: 3630 of 11000 compressible tokens (keep 0.33); input goes from 12000 to about 4630 tokens",
        "  - policy rag keeps 0.33 from 8000 tokens on: 3630 of 11000 compressible tokens",
    ]


def test_explain_as_json_with_pressure_header_and_time(file: str) -> None:
    base = ("explain", file, "--model", "gpt-4o", "--team", "search", "--tokens", "9000", "--json")
    said = json.loads(run(*base, "--spent", "0.9")[1])
    assert (said["policy"], said["target"], said["tokens_after"]) == ("rag", 2250, 2250)
    assert said["steps"][-1] == "90% of the budget is spent: keep at most 0.25, 2250 tokens"
    said = json.loads(run(*base, "--header", "X-Terse-Compress=off")[1])
    assert (said["compress"], said["skip_reason"]) == (False, "client-off")
    said = json.loads(run(*base, "--header", "x-batch=1", "--at", "2026-11-22T12:00")[1])
    assert (said["policy"], said["skip_reason"]) == ("night", "outside-schedule")
    said = json.loads(run(*base, "--header", "x-batch=1", "--at", "2026-11-22T23:00")[1])
    assert (said["compress"], said["target"]) == (True, 4500)
    assert any("sample and holdout" in note for note in said["notes"])
    said = json.loads(run(*base, "--header", "x-batch=1", "--at", "2026-11-22T23:00", "--draw", "0.05")[1])
    assert said["skip_reason"] == "holdout"
    assert [route["reason"] for route in said["routes"]][1].startswith("matches too")


def test_explain_refuses_what_is_not_in_the_file(file: str) -> None:
    code, _, err = run("explain", file, "--model", "claude", "--tokens", "5")
    assert (code, err) == (1, "unknown model 'claude'\n")
    assert run("explain", file, "--model", "gpt-4o", "--tokens", "5", "--header", "x")[0] == 2
    assert run("explain", file, "--model", "gpt-4o", "--tokens", "5", "--at", "noon")[0] == 2
    assert run("explain", file, "--model", "gpt-4o", "--tokens", "-5")[0] == 2


def test_every_command_has_help_with_an_example() -> None:
    for command in ("check", "explain", "replay"):
        code, out, _ = run(command, "--help")
        assert code == 0
        assert "Example: terse policy" in " ".join(out.split())


def test_replay_prints_what_would_have_been(file: str, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    line = {"at": "2026-11-21T10:00:00+00:00", "team": "search", "model": "gpt-4o", "surface": "chat"}
    entry = {
        **line,
        "request_id": "r",
        "tokens_before": 12000,
        "compressible_tokens": 10000,
        "cost_usd": 0.03,
    }
    log.write_text(json.dumps(entry) + "\nnonsense\n")
    code, out, err = run("replay", str(log), "--config", file, "--json")
    said = json.loads(out)
    assert code == 0
    assert (said["policies"]["rag"]["tokens_saved"], said["unreadable_lines"]) == (6700, 1)
    assert said["total"]["saved_usd"] == pytest.approx(6700 * 2.5e-6)  # gpt-4o in litellm's price map
    assert "1 lines are no receipts (lines 2 …)" in err
    code, out, _ = run("replay", str(log), "--config", file)
    assert code == 0
    assert "12000 input tokens, 6700 fewer (55.8 %); logged cost $0.0300, $0.0168 less" in out
    assert run("replay", str(tmp_path / "gone"), "--config", file)[0] == 1
    log.write_text("")
    code, _, err = run("replay", str(log), "--config", file)
    assert code == 1 and "no request that this configuration serves" in err


def test_explain_looks_at_the_texts_of_a_request(file: str, tmp_path: Path) -> None:
    path = tmp_path / "body.json"
    path.write_text(json.dumps(rag(model="gpt-4o", sentences=300)))
    code, out, _ = run("explain", file, "--request", str(path), "--team", "search", "--json")
    said = json.loads(out)
    assert code == 0
    assert said["policy"] == "rag" and said["compress"]
    assert said["tokens_before"] == sum(part["tokens"] for part in said["parts"])
    assert said["compressible"] == sum(part["tokens"] for part in said["parts"] if not part["stays"])
    assert {part["role"] for part in said["parts"]} == {"system", "user"}
    assert any(part["stays"] == "instruction" for part in said["parts"])
    code, out, _ = run("explain", file, "--request", str(path), "--team", "search")
    assert "message 0, system, prose" in out and ", stays (system)" in out and "shortened to about" in out
    path.write_text("[]")
    code, _, err = run("explain", file, "--request", str(path))
    assert (code, err) == (1, f"{path}: the body: expected a JSON object, got a list\n")
    assert run("explain", file, "--request", str(tmp_path / "gone"))[0] == 1
    assert run("explain", file, "--team", "search")[0] == 2
