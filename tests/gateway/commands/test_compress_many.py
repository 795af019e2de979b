"""`terse compress` over files and JSONL: in order, each alone, and what cannot be shortened left as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from compressor import Compressor
from compressor.engine.fake import FakeEngine
from gateway.commands import compress, compress_many
from tests.support.tiny_encoder import tiny_encoder

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
TEXT = "The council met on Tuesday. It did not agree on the price, and later they all went home again. " * 6
PLAIN = ["--keep", "0.5", "--protect", "none"]


def texts(number: int) -> list[str]:
    return [f"Number {at}. {TEXT}" for at in range(number)]


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    monkeypatch.setattr(Compressor, "open", classmethod(lambda cls, model, device: cls(FakeEngine())))
    return registered()


def registered() -> typer.Typer:
    made = typer.Typer()
    compress.register(made)
    return made


def alone(text: str) -> str:
    with Compressor(FakeEngine()) as opened:
        return opened.compress(text, keep=0.5, protect=()).text


def test_lines_keep_their_order_and_their_other_values(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compress_many, "_TEXTS", 2)  # several groups
    lines = [{"id": at, "body": text, "tags": ["é", None]} for at, text in enumerate(texts(5))]
    file = tmp_path / "texts.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    result = RUNNER.invoke(app, ["compress", str(file), "--jsonl", "--field", "body", *PLAIN])
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert found == [{**line, "body": alone(str(line["body"]))} for line in lines]
    assert "5 texts" in result.stderr and "tokens of o200k_base" in result.stderr


def test_lines_that_cannot_be_shortened_go_out_as_they_came(app: typer.Typer) -> None:
    good = json.dumps({"text": TEXT, "other": "\ud800"})
    bad = [b"no json", b'{"text": 5}', b'["text"]', b'{"text": "\\ud800 half"}', b"\xff\xfe"]
    raw = b"\n".join([good.encode(), *bad, good.encode()])
    result = RUNNER.invoke(app, ["compress", "-", "--jsonl", *PLAIN], input=raw)
    assert result.exit_code == 1
    lines = result.stdout_bytes.splitlines()
    assert lines[1:-1] == bad
    assert json.loads(lines[0]) == json.loads(lines[-1]) == {"text": alone(TEXT), "other": "\ud800"}
    for number in range(2, 7):
        assert f"-:{number}: left as it is" in result.stderr
    assert "-:1:" not in result.stderr


def test_a_budget_too_small_for_one_stays_with_that_one(app: typer.Typer) -> None:
    lines = [{"text": "7 8 9 " * 40}, {"text": TEXT}]
    raw = "\n".join(map(json.dumps, lines))
    options = ["compress", "-", "--jsonl", "--target", "30", "--protect", "numbers"]
    result = RUNNER.invoke(app, options, input=raw)
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert result.exit_code == 1 and "-:1: left as it is: BudgetTooSmall" in result.stderr
    assert first == lines[0] and 0 < len(second["text"]) < len(TEXT) / 2


def test_files_are_written_under_their_names(app: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "b.txt").write_bytes(b"\xff not UTF-8")
    out = tmp_path / "made" / "short"
    files = [str(tmp_path / name) for name in ("a.txt", "b.txt")]
    result = RUNNER.invoke(app, ["compress", *files, "--out", str(out), *PLAIN])
    assert result.exit_code == 1 and "b.txt: left as it is" in result.stderr and not result.stdout
    assert (out / "a.txt").read_text() == alone(TEXT)
    assert (out / "b.txt").read_bytes() == b"\xff not UTF-8"
    assert (tmp_path / "a.txt").read_text() == TEXT


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a.txt", "b/a.txt"], "several files need --out"),
        (["a.txt", "--processes", "2"], "--processes"),
        (["a.txt", "--processes", "0", "--jsonl"], "--processes"),
        (["a.txt", "--jsonl", "--show"], "for one text"),
        (["a.txt", "--out", "made", "--jsonl"], "standard output"),
        (["a.txt", "b/a.txt", "--out", "made"], "would get the name of a.txt"),
        (["a.txt", "--out", "."], "would be overwritten"),
        (["a.txt", "absent.txt", "--out", "made"], "no such file"),
        (["absent.jsonl", "--jsonl"], "absent.jsonl"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b").mkdir()
    for name in ("a.txt", "b/a.txt"):
        (tmp_path / name).write_text(TEXT)
    result = RUNNER.invoke(app, ["compress", *options])
    assert result.exit_code == 2 and message in result.stderr
    assert not (tmp_path / "made").exists() and (tmp_path / "a.txt").read_text() == TEXT


def test_options_that_are_wrong_for_all_end_it(app: typer.Typer, tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["compress", "-", "--jsonl", "--kind", "poem"], input=b'{"text": "a b c"}')
    assert result.exit_code == 1 and "poem" in result.stderr and not result.stdout


def test_worker_processes_give_what_one_gives(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path / "model")
    raw = "\n".join(json.dumps({"text": text}) for text in texts(6))
    told = ["compress", "-", "--jsonl", "--model", str(folder), "--device", "cpu", *PLAIN]
    one = RUNNER.invoke(registered(), told, input=raw)
    several = RUNNER.invoke(registered(), [*told, "--processes", "2"], input=raw)
    assert one.exit_code == several.exit_code == 0, several.output
    assert several.stdout == one.stdout and len(one.stdout) < 0.8 * len(raw)
