"""The whole way on a made-up corpus: distil, annotate, filter, train, export, open, shorten."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console
from transformers import AutoTokenizer
from typer.testing import CliRunner

from compressor import Compressor
from compressor.errors import InvalidOption, ModelLoadFailed
from compressor.training.annotate import annotate_all
from compressor.training.distill import Job, ReplyCache, RunDeclined, distill
from compressor.training.encoder import open_tokenizer
from compressor.training.export import export
from compressor.training.filter_pairs import filter_pairs
from compressor.training.instructions import Message, Variant
from compressor.training.records import (
    Chunk,
    Origin,
    labelled_line,
    read_answerable,
    read_distilled,
    read_labelled,
    write_lines,
)
from compressor.training.starting import Start, expand, prepare
from compressor.training.teacher import Reply
from compressor.training.train import TrainOptions, train
from gateway.cli import app
from tests.compressor.training.conftest import questions, town_text, write_rows

QUIET = Console(file=io.StringIO())
FILLER = {"so", "people", "say", "as", "many", "other", "do", "in", "that", "quietly", "rather", "usually"}


class ScriptedTeacher:
    """Deletes filler; some of its replies are refusals, inventions, timeouts or nothing."""

    name = "scripted"
    at_once = 8

    def __init__(self) -> None:
        self.asked = 0

    def replies(self, prompts: Sequence[list[Message]]) -> list[Reply]:
        return [self._reply(prompt[-1]["content"].split("Text:\n", 1)[1]) for prompt in prompts]

    def _reply(self, text: str) -> Reply:
        self.asked += 1
        troubles = {3: Reply("I'm sorry, I cannot do that."), 5: Reply("", "timeout"), 7: Reply("  ")}
        if self.asked in troubles:
            return troubles[self.asked]
        if self.asked == 9:
            return Reply("Purely invented nonsense about whales.")
        kept = [word for word in text.split() if word.strip(",.").lower() not in FILLER]
        return Reply(" ".join(kept), "", len(text), len(kept))

    def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        return None


def job(teacher: ScriptedTeacher, folder: Path, variant: Variant = "delete", *, approve: bool = True) -> Job:
    return Job(teacher, variant, ReplyCache(folder / "replies"), folder / "pairs.jsonl", lambda what: approve)


def chunks(count: int) -> list[Chunk]:
    return [
        Chunk(f"c{number}", town_text(number), Origin(f"town-{number}", "towns", "en", "MIT"))
        for number in range(count)
    ]


def options(base: Path, folder: Path, **changes: object) -> TrainOptions:
    given: dict[str, object] = {
        "base": base,
        "out": folder / "trained",
        "data": ((folder / "labelled.jsonl", 1.0),),
        "questions": (folder / "qa.jsonl",),
        "epochs": 6,
        "learning_rate": 3e-3,
        "batch_tokens": 1024,
        "window_sizes": (128,),
        "budget_share": 0.5,
        "rank_batch": 4,
        "patience": 9,
        "device": "cpu",
    }
    return TrainOptions(**(given | changes))  # type: ignore[arg-type]


def test_troubles_are_counted_and_nothing_is_paid_twice(tmp_path: Path) -> None:
    teacher = ScriptedTeacher()
    report = distill(chunks(12), job(teacher, tmp_path), QUIET)
    assert report.written == 9
    assert report.useless == {"refused": 1, "timeout": 1, "empty": 1}
    with (tmp_path / "replies").open("ab") as torn:
        torn.write(b'{"key": "half a li')
    again = distill(chunks(12), job(teacher, tmp_path), QUIET)
    assert teacher.asked == 13  # only the timeout is asked again
    assert (again.cached, again.written) == (11, 10)


def test_nothing_is_sent_when_the_estimate_is_declined(tmp_path: Path) -> None:
    teacher = ScriptedTeacher()
    with pytest.raises(RunDeclined):
        distill(chunks(2), job(teacher, tmp_path, approve=False), QUIET)
    assert teacher.asked == 0


def test_the_whole_pipeline(tmp_path: Path, tiny_base: Path) -> None:
    distill(chunks(24), job(ScriptedTeacher(), tmp_path), QUIET)
    labelled = list(annotate_all(read_distilled(tmp_path / "pairs.jsonl")))
    kept, report = filter_pairs(labelled)
    assert report.dropped_variation >= 1
    assert not any("whales" in one.text for one in kept)
    qa = write_rows(tmp_path / "qa.jsonl", questions(48))
    runner = CliRunner()
    annotated = runner.invoke(
        app, ["annotate", str(qa), "--kind", "answers", "--out", str(tmp_path / "answers.jsonl")]
    )
    assert annotated.exit_code == 0, annotated.output
    answers = list(read_labelled(tmp_path / "answers.jsonl"))
    write_lines(tmp_path / "labelled.jsonl", map(labelled_line, [*kept, *answers]))
    base = prepare(Start(tiny_base, layers=2, vocabulary=280, vocabulary_texts=(qa,)), tmp_path / "start")
    notes = train(options(base, tmp_path), QUIET)
    first, best = notes["history"][0], max(one["figure"] for one in notes["history"])
    assert best > 0.5
    assert AutoTokenizer.from_pretrained(tmp_path / "trained").cls_token == "<s>"  # its settings came along
    assert notes["history"][-1]["losses"]["label"] < first["losses"]["label"]
    done = export(tmp_path / "trained", tmp_path / "encoder", ["made-up towns, MIT"])
    assert done.layer_error < 0.02
    card = (tmp_path / "encoder" / "README.md").read_text(encoding="utf-8")
    assert "made-up towns, MIT" in card
    assert "held-back" in card
    compressor = Compressor.open(str(tmp_path / "encoder"), device="cpu")
    shortened = compressor.compress(town_text(3), keep=0.5, protect=[])
    assert shortened.tokens_after <= 0.5 * shortened.tokens_before + 1  # type: ignore[union-attr]


def test_a_run_that_was_cut_short_goes_on(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "qa.jsonl", questions(12))
    rows = annotate_rows(tmp_path / "qa.jsonl")
    write_lines(tmp_path / "labelled.jsonl", rows)
    from compressor.training import train as module

    real = module._Run._judge
    seen: list[int] = []

    def stopping(run: module._Run, losses: dict[str, float]) -> None:
        real(run, losses)
        seen.append(run.state.epoch)
        if len(seen) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(module._Run, "_judge", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(options(tiny_base, tmp_path, epochs=3), QUIET)
    notes = train(options(tiny_base, tmp_path, epochs=3), QUIET)
    assert seen == [1, 2, 3]
    assert [one["epoch"] for one in notes["history"]] == [0, 1, 2]
    assert not (tmp_path / "trained" / "checkpoint.pt").exists()


def annotate_rows(qa: Path) -> list[bytes]:
    from compressor.training.label_sources import label_answers

    return [labelled_line(record) for record in label_answers(read_answerable(qa))]


def test_a_larger_encoder_teaches_and_a_shipped_one_is_adapted(tmp_path: Path, tiny_base: Path) -> None:
    write_rows(tmp_path / "qa.jsonl", questions(12))
    write_lines(tmp_path / "labelled.jsonl", annotate_rows(tmp_path / "qa.jsonl"))
    train(options(tiny_base, tmp_path, epochs=1), QUIET)
    small = prepare(Start(tiny_base, layers=1), tmp_path / "small")
    notes = train(
        options(small, tmp_path, epochs=1, out=tmp_path / "student", teacher=tmp_path / "trained"), QUIET
    )
    assert "imitation" in notes["history"][0]["losses"]
    export(tmp_path / "student", tmp_path / "encoder")
    back = expand(tmp_path / "encoder", tmp_path / "back")
    assert open_tokenizer(back).get_vocab_size() == open_tokenizer(tiny_base).get_vocab_size()
    again = train(options(back, tmp_path, epochs=1, out=tmp_path / "adapted"), QUIET)
    assert again["history"]


def test_data_that_may_not_be_given_away_is_refused(tmp_path: Path, tiny_base: Path) -> None:
    rows = [row | {"lic": "CC-BY-NC-4.0"} for row in questions(6)]
    write_rows(tmp_path / "qa.jsonl", rows)
    write_lines(tmp_path / "labelled.jsonl", annotate_rows(tmp_path / "qa.jsonl"))
    with pytest.raises(InvalidOption, match=r"CC-BY-NC-4\.0"):
        train(options(tiny_base, tmp_path), QUIET)


def test_an_encoder_without_a_fast_tokenizer_is_refused_at_once(tmp_path: Path, tiny_base: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((tiny_base / name).read_bytes())
    with pytest.raises(ModelLoadFailed, match="fast tokenizer"):
        train(options(tmp_path, tmp_path), QUIET)


def test_the_commands_say_what_is_wrong(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"text": "a", "compressed": "a"}\n{', encoding="utf-8")
    runner = CliRunner()
    result = runner.invoke(app, ["annotate", str(broken), "--out", str(tmp_path / "out.jsonl")])
    assert result.exit_code == 1
    assert ":2:notJSON" in "".join(result.output.split())  # wherever the terminal's width breaks it
    assert not (tmp_path / "out.jsonl").exists()
    missing = runner.invoke(app, ["train", "--out", str(tmp_path / "t"), "--data", "x"])
    assert missing.exit_code == 2
    assert "--base" in missing.output
