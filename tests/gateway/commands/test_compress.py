"""`terse compress` and `terse inspect`, with an engine that needs no model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from compressor import Compressor
from compressor.engine.fake import FakeEngine
from gateway.commands import compress

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
TEXT = (
    "The council met on Tuesday. It did not agree on the price of 5 euros. Later they all went home again. "
    * 6
)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    monkeypatch.setattr(Compressor, "open", classmethod(lambda cls, model, device: cls(FakeEngine())))
    made = typer.Typer()
    compress.register(made)
    return made


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "text.txt").write_text(TEXT)
    return str(tmp_path / "text.txt")


def test_the_short_text_goes_to_stdout_and_figures_to_stderr(app: typer.Typer, file: str) -> None:
    result = RUNNER.invoke(app, ["compress", file, "--keep", "0.5", "--protect", "none"])
    assert result.exit_code == 0
    assert 0 < len(result.stdout) < 0.7 * len(TEXT)
    assert "tokens of o200k_base" in result.stderr


def test_standard_input_and_json(app: typer.Typer) -> None:
    options = ["compress", "-", "--target", "60", "--protect", "numbers", "--json", "--explain"]
    result = RUNNER.invoke(app, options, input=TEXT)
    data = json.loads(result.stdout)
    assert data["tokens_after"] <= 60
    assert "".join(TEXT[start:end] for start, end in data["kept"]) == data["text"]
    assert data["text"].count("5 euros") == 6
    assert {word["reason"] for word in data["words"]} >= {"protected:numbers", "score"}


def test_show_prints_the_whole_text(app: typer.Typer, file: str) -> None:
    result = RUNNER.invoke(app, ["compress", file, "--show", "--protect", "none"])
    assert result.stdout.split() == TEXT.split()


def test_messages(app: typer.Typer, tmp_path: Path) -> None:
    chat = tmp_path / "chat.json"
    chat.write_text(json.dumps([{"role": "tool", "content": TEXT}, {"role": "user", "content": "And now?"}]))
    result = RUNNER.invoke(app, ["compress", str(chat), "--messages", "--protect", "none"])
    tool, user = json.loads(result.stdout)
    assert len(tool["content"]) < len(TEXT)
    assert user["content"] == "And now?"
    chat.write_text("{}")
    assert RUNNER.invoke(app, ["compress", str(chat), "--messages"]).exit_code == 2


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--target", "3", "--protect", "numbers"], 1, "BudgetTooSmall"),
        (["--keep", "2"], 1, "InvalidBudget"),
        (["--keep", "0.5", "--target", "5"], 1, "exclude each other"),
        (["--unit", "letters"], 1, "letters"),
        (["--kind", "poem"], 1, "poem"),
        (["--protect", "verbs"], 1, "verbs"),
        (["--keep", "half"], 2, "Error"),
    ],
)
def test_refusals(app: typer.Typer, file: str, options: list[str], code: int, message: str) -> None:
    result = RUNNER.invoke(app, ["compress", file, *options])
    assert result.exit_code == code
    assert message in result.stderr


def test_files_that_cannot_be_read(app: typer.Typer, tmp_path: Path) -> None:
    assert "No such file" in RUNNER.invoke(app, ["compress", str(tmp_path / "none.txt")]).stderr
    (tmp_path / "bytes").write_bytes(b"ab\xff")
    assert "not UTF-8 at byte 2" in RUNNER.invoke(app, ["compress", str(tmp_path / "bytes")]).stderr


def test_inspect_reads_files_only(app: typer.Typer, tmp_path: Path) -> None:
    config = {
        "model_type": "bert",
        "architectures": ["BertForTokenClassification"],
        "num_hidden_layers": 2,
        "hidden_size": 8,
        "vocab_size": 100,
        "max_position_embeddings": 512,
        "id2label": {"0": "drop", "1": "keep"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordPiece"}}))
    facts = json.loads(RUNNER.invoke(app, ["inspect", str(tmp_path), "--json"]).stdout)
    assert (facts["family"], facts["layers"], facts["keep_label"]) == ("bert", 2, 1)
    assert facts["tokenizer"] == "WordPiece"
    assert "family" in RUNNER.invoke(app, ["inspect", str(tmp_path)]).stdout
    (tmp_path / "config.json").unlink()
    refused = RUNNER.invoke(app, ["inspect", str(tmp_path)])
    assert (refused.exit_code, "ModelLoadFailed" in refused.stderr) == (1, True)
