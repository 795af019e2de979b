"""Whole evaluations on a handful of questions: rows, resuming, reports, the command line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from compressor.config import CompressorConfig
from compressor.engine.fake import FakeEngine
from compressor.errors import InvalidOption
from compressor.evaluation import evaluate as evaluate_module
from compressor.evaluation.datasets import held_back_items, read_items, sample_items
from compressor.evaluation.evaluate import EvaluateOptions, evaluate
from compressor.evaluation.loading import load_causal
from compressor.evaluation.methods import ours
from compressor.evaluation.metrics.answers import first_line
from compressor.evaluation.readers import ReaderOptions, Reply, open_reader
from compressor.evaluation.readers.local import LineEnds
from compressor.evaluation.rows import read_answer_rows, read_short_rows
from compressor.evaluation.tasks import judge, kind_of, prompt_for
from compressor.training.records import InvalidRecord, is_held_back
from gateway.commands.evaluation import register
from tests.compressor.evaluation.tiny_causal import QUESTION, TEXT


def quiet(what: str, done: int, total: int) -> None:
    assert 0 < done <= total and what


class EchoReader:
    """Answers with the year it finds, and fails on demand."""

    name = "echo"

    def __init__(self, *, failing: bool = False) -> None:
        self.failing = failing
        self.asked: list[tuple[str, int]] = []

    def answer(self, prompts: Sequence[str], max_tokens: int, *, first_line: bool = False) -> list[Reply]:
        assert first_line == (max_tokens == 20)
        self.asked += [(prompt, max_tokens) for prompt in prompts]
        if self.failing:
            return [Reply("", 0.0, error="TimeoutError: no answer") for _ in prompts]
        return [Reply("In 1831" if "1831" in prompt else "unknown", 0.01, 5) for prompt in prompts]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "qa_dev_reaper.jsonl.gz"
    rows = [
        {
            "id": f"q{n}",
            "context": TEXT + f"Note {n}.",
            "question": QUESTION,
            "answers": ["1831"],
            "doc": f"d{n % 5}",
        }
        for n in range(8)
    ]
    rows.append(
        {"id": "s0", "context": TEXT, "question": "Summarise.", "answers": ["A reaper."], "task": "summ"}
    )
    rows.append({"id": "j0", "context": '{"a": [1, 2]}', "question": "a?", "answers": ["1"], "task": "kv"})
    with gzip.open(path, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)
    return path


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_fake(config: CompressorConfig) -> FakeEngine:
        return FakeEngine()

    monkeypatch.setattr(ours, "open_engine", open_fake)
    ours.shared_engine.cache_clear()


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> EchoReader:
    echo = EchoReader()
    monkeypatch.setattr(evaluate_module, "open_reader", lambda spec, options: echo)
    return echo


def options(data: Path, out: Path, **more: object) -> EvaluateOptions:
    methods = ("full", "empty", "first", "terse", "terse,question=yes", "sentences")
    return EvaluateOptions(data=(str(data),), methods=methods, out=out, **more)  # type: ignore[arg-type]


def test_rows_and_report(data: Path, tmp_path: Path, no_weights: None, reader: EchoReader) -> None:
    out = tmp_path / "out"
    report = evaluate(options(data, out, reader="litellm:echo", restore=2), quiet).read_text()
    short, answers = read_short_rows(out / "shortened.jsonl"), read_answer_rows(out / "answers.jsonl")
    assert len(short) == 10 * (2 + 4 * 2)
    assert len([a for a in answers if a.task != "restore"]) == len(short)
    assert len([a for a in answers if a.task == "restore"]) == 2 * (
        1 + 4 * 2
    )  # an empty text is not restored
    full = [row for row in short if row.key.method == "full"]
    assert all(row.text and row.tokens == row.tokens_before for row in full)
    assert [row.kept for row in full if row.key.item == "q0"] == [True]
    assert [row.kept for row in full if row.key.item == "s0"] == [None]
    assert [row.json_valid for row in full if row.key.item == "j0"] == [True]
    assert all(row.tokens <= row.target for row in short if row.key.method == "first")
    for expected in (
        "## reaper",
        "| full |",
        "| terse question |",
        "EM (answer kept), %",
        "ROUGE-L",
        "facts",
        "## Facts that survive",
        "## Tokens, time, memory",
        "## Paired differences",
        "score-reaper.svg",
    ):
        assert expected in report  # fmt: skip
    assert (out / "score-reaper.svg").stat().st_size < 100_000
    assert {limit for _, limit in reader.asked} >= {20, 200}


def test_a_second_run_asks_nothing_again(
    data: Path, tmp_path: Path, no_weights: None, reader: EchoReader
) -> None:
    out = tmp_path / "out"
    first = evaluate(options(data, out, reader="litellm:echo"), quiet).read_text()
    asked = len(reader.asked)
    with (out / "answers.jsonl").open("ab") as rows:
        rows.write(b'{"key": {"dataset": "rea')  # as a killed run leaves it
    again = evaluate(options(data, out, reader="litellm:echo", keeps=(0.5, 0.33, 0.2)), quiet).read_text()
    assert len(reader.asked) == asked + 4 * 10
    assert "| 0.2 |" in again.replace("0.2 |", "| 0.2 |") and len(again) > len(first)


def test_failed_requests_are_asked_again_next_time(
    data: Path, tmp_path: Path, no_weights: None, reader: EchoReader
) -> None:
    out = tmp_path / "out"
    reader.failing = True
    report = evaluate(options(data, out, reader="litellm:echo"), quiet).read_text()
    assert "Answer kept, %" in report  # nothing was answered, so only the texts are reported
    reader.failing = False
    report = evaluate(options(data, out, reader="litellm:echo"), quiet).read_text()
    assert "EM (answer kept), %" in report


def test_without_a_reader_the_texts_are_measured(data: Path, tmp_path: Path, no_weights: None) -> None:
    report = evaluate(options(data, tmp_path / "out", plots=False), quiet).read_text()
    assert "Answer kept, %" in report and "reader: none" in report and "svg" not in report


def test_a_local_reader_answers_in_batches_as_alone(causal_folder: Path) -> None:
    local = open_reader(f"hf:{causal_folder}", ReaderOptions(batch_tokens=120))
    prompts = [TEXT[:80], "in 1831", TEXT * 20, ""]
    together = local.answer(prompts, 5)
    assert [reply.text for reply in together] == [local.answer([p], 5)[0].text for p in prompts]
    assert all(reply.prompt_tokens > 0 and reply.seconds > 0 for reply in together)
    assert together[2].prompt_tokens == 256 - 5  # the model's window, less the answer


@pytest.mark.parametrize(
    ("said", "until"),
    [("in 1831\nand more", "in 1831\n"), ("\n\n in 1831\nand\n", "\n\n in 1831\n"), ("in 1831", "in 1831")],
)
def test_an_answer_ends_behind_its_first_line(causal_folder: Path, said: str, until: str) -> None:
    _, tokenizer = load_causal(str(causal_folder), "cpu")
    ends = LineEnds(tokenizer, len(tokenizer) + 7, 2, "cpu")  # embeddings may have more rows than words
    ids, other = tokenizer(said)["input_ids"], tokenizer("a")["input_ids"]
    stopped = len(ids)
    for length in range(1, len(ids) + 1):
        done = ends(torch.tensor([ids[:length], other * length]), None)
        assert not done[1]
        if done[0]:
            stopped = length
            break
    assert tokenizer.decode(ids[:stopped]) == until


def test_a_reader_may_stop_early(causal_folder: Path) -> None:
    local = open_reader(f"hf:{causal_folder}", ReaderOptions())
    prompts = [TEXT[:80], "in 1831"]
    whole = [first_line(reply.text) for reply in local.answer(prompts, 30)]
    assert [first_line(reply.text) for reply in local.answer(prompts, 30, first_line=True)] == whole


def test_methods_are_told_one_after_the_other(data: Path, tmp_path: Path, reader: EchoReader) -> None:
    told: list[tuple[str, int, int]] = []
    methods = ("full", "first,keep=0.5")
    chosen = EvaluateOptions(
        data=(str(data),), methods=methods, out=tmp_path / "out", reader="litellm:echo", report=False
    )
    evaluate(chosen, quiet, lambda method, short, said: told.append((method, len(short), len(said))))
    assert told == [("full", 10, 10), ("first", 10, 10)]
    assert not (tmp_path / "out" / "report.md").exists()


def test_summaries_are_compared_by_an_encoder(data: Path, tmp_path: Path, reader: EchoReader) -> None:
    out = tmp_path / "out"
    chosen = EvaluateOptions(
        data=(str(data),),
        methods=("full",),
        out=out,
        reader="litellm:echo",
        report=False,
        similarity="default",
    )
    evaluate(chosen, quiet)
    scores = {row.key.item: row.scores for row in read_answer_rows(out / "answers.jsonl")}
    assert 0 < scores["s0"]["similarity"] < 1 and "similarity" not in scores["q0"]


@pytest.mark.parametrize("spec", ["", "hf:", "gpt-4o", "litellm:"])
def test_a_wrong_reader_is_refused(spec: str) -> None:
    with pytest.raises(InvalidOption):
        open_reader(spec, ReaderOptions())


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"id": "x", "context": "c", "question": "q", "answers": ["a"]', "not JSON"),
        ("[1]", "object"),
        ('{"id": "x", "context": 3, "question": "q", "answers": ["a"]}', "'context' must be a string"),
        ('{"id": "x", "context": "c", "answers": ["a"]}', "'question' must be a string"),
        ('{"id": "x", "context": "c", "question": "q", "answers": []}', "'answers' must be"),
        ('{"id": "x", "context": "c", "question": "q", "answers": [1]}', "'answers' must be"),
        ('{"id": "x", "prompt_id": "p", "question": "q", "answers": ["a"]}', "no prompt 'p'"),
    ],
)
def test_a_bad_line_is_named(line: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"id": "0", "context": "c", "question": "q", "answers": "a"}\n\n' + line + "\n")
    with pytest.raises(InvalidRecord, match=f"bad.jsonl:3: .*{complaint}"):
        read_items(path)


def test_sampling_is_stable_and_held_back_items_are_trainings(data: Path) -> None:
    items = read_items(data)
    assert sample_items(items, 3) == sample_items(list(reversed(items)), 3)
    assert len(sample_items(items, 0)) == len(items)
    assert [i for i in items if is_held_back(i.origin, 0.2)] == held_back_items(items)


def test_reasoning_sets_take_their_prompt_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text(
        '{"prompt_id": "p", "prompt": "Question: 1+1? The answer is 2"}\n'
    )
    row = {"id": "g", "prompt_id": "p", "task": "gsm8k", "question": "2+2?", "answers": ["4"]}
    (tmp_path / "icl.jsonl").write_text(json.dumps(row) + "\n")
    from compressor.evaluation.datasets import read_prompts

    (item,) = read_items(tmp_path / "icl.jsonl", prompts=read_prompts(tmp_path / "prompts.jsonl"))
    assert item.context.startswith("Question: 1+1?") and kind_of(item.task) == "reasoning"
    assert "2+2?" in prompt_for(item, item.context)
    assert judge(item, "2 and 2 make 4. The answer is 4") == {"em": 1.0}


def test_command_line(data: Path, tmp_path: Path, no_weights: None) -> None:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    runner = CliRunner()
    out = tmp_path / "out"
    arguments = [
        "evaluate",
        str(data),
        "--method",
        "first",
        "--method",
        "terse",
        "--keep",
        "0.5",
        "--out",
        str(out),
    ]
    done = runner.invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["report"] == str(out / "report.md")
    for wrong in (["--method", "magic"], ["--reader", "nonsense"], ["--trained-on", "other"]):
        failed = runner.invoke(app, [*arguments, *wrong])
        assert failed.exit_code == 1 and "terse evaluate:" in failed.stderr
    assert runner.invoke(app, ["evaluate", str(tmp_path / "no.jsonl"), "--out", str(out)]).exit_code == 1
    assert runner.invoke(app, [*arguments, "--keep", "half"]).exit_code == 2
    assert runner.invoke(app, [*arguments, "--keep", "1.5"]).exit_code == 1
