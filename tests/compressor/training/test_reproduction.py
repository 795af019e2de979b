"""One command makes an encoder from public texts: every step, and going on where a run stopped."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from compressor import Compressor
from compressor.errors import InvalidOption, ModelLoadFailed
from compressor.model.loading import find_folder
from compressor.training.distill import Message
from compressor.training.material import FEWEST_SCORED, Choice, read_measured
from compressor.training.recipe import DEFAULT, Passages, Recipe, Source, Stage, read_recipe
from compressor.training.records import is_held_back, read_answerable, read_chunks, read_labelled
from compressor.training.reproduction import Inputs, Reproduction, notes_of
from compressor.training.teacher import Reply
from tests.compressor.training.conftest import questions, town_text, write_rows

QUIET = Console(file=io.StringIO())


class AskingTeacher:
    """Asks for the year, in the form that it is told."""

    name = "asking"
    at_once = 4

    def __init__(self) -> None:
        self.asked = 0

    def replies(self, prompts: list[list[Message]]) -> list[Reply]:
        self.asked += len(prompts)
        return [
            Reply(f"1. When was it founded? || {self._year(prompt)}\nNothing at all") for prompt in prompts
        ]

    def _year(self, prompt: list[Message]) -> str:
        return prompt[-1]["content"].split("founded in ")[1][:4]

    def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        return None


def recipe() -> Recipe:
    stage = {"epochs": 2, "learning_rate": 3e-3, "batch_tokens": 1024}
    return Recipe(
        sources=(Source("towns", "answers", "made-up towns", "CC-BY-4.0", "https://example.org/towns"),),
        passages=(Passages("more", "texts", "more towns", "MIT", most=6),),
        large=Stage(layers=3, **stage),
        small=Stage(layers=2, seeds=(1, 2), **stage),
        vocabulary=280,
        documents={"Stadt 1": "town-1"},
    )


def inputs(folder: Path, base: Path, teacher: AskingTeacher | None) -> Inputs:
    rows = questions(24)
    for row in rows:
        row["doc"] = "Stadt 1" if row["doc"] == "town-1" else row["doc"]
    write_rows(folder / "towns.jsonl", rows)
    texts = [{"id": str(n), "text": town_text(n), "lic": "MIT", "lang": "en"} for n in range(16, 48)]
    write_rows(folder / "texts.jsonl", [*texts, {"id": "nc", "text": town_text(99), "lic": "CC-BY-NC-4.0"}])
    return Inputs(folder, base, folder / "made", teacher, "cpu")


def test_every_step_from_texts_to_the_folder_that_is_served(tmp_path: Path, tiny_base: Path) -> None:
    teacher = AskingTeacher()
    given = inputs(tmp_path, tiny_base, teacher)
    assert Reproduction(recipe(), given, QUIET).run("asked") is None
    assert teacher.asked == 6
    done = Reproduction(recipe(), given, QUIET).run()
    assert teacher.asked == 6  # what was asked is kept
    assert done is not None
    card = (done.folder / "README.md").read_text(encoding="utf-8")
    assert "made-up towns (CC-BY-4.0), https://example.org/towns" in card
    assert "questions of a teacher LLM about more towns (MIT)" in card
    labelled = list(read_labelled(given.out / "labelled" / "asked-more.jsonl"))
    assert all(any(span.whole for span in one.spans) for one in labelled)
    assert {path.name for path in given.out.iterdir()} >= {"large-7", "small-1", "small-2", "small-mean"}
    shortened = Compressor.open(str(done.folder), device="cpu").compress(town_text(3), keep=0.5, protect=[])
    assert shortened.tokens_after < shortened.tokens_before  # type: ignore[union-attr]


def test_no_passage_stands_in_a_held_back_text(tmp_path: Path, tiny_base: Path) -> None:
    given = inputs(tmp_path, tiny_base, None)
    Reproduction(recipe(), given, QUIET).run("passages")
    chosen = {chunk.text for chunk in read_chunks(given.out / "passages" / "more.jsonl")}
    held = [
        r for r in read_answerable(given.out / "questions" / "towns.jsonl") if is_held_back(r.origin, 0.2)
    ]
    assert held
    assert chosen
    assert not chosen & {record.context for record in held}
    assert not any("1299" in text for text in chosen)  # its licence forbids
    renamed = {record.origin.doc for record in read_answerable(given.out / "questions" / "towns.jsonl")}
    assert "town-1" in renamed
    assert "Stadt 1" not in renamed


def test_passages_that_nobody_asked_about_teach_without_labels(tmp_path: Path, tiny_base: Path) -> None:
    given = inputs(tmp_path, tiny_base, None)
    one = recipe()
    small = Stage(layers=1, epochs=1, passages_share=1.0, batch_tokens=1024)
    plain = Recipe(one.sources, small, one.large, one.passages, one.vocabulary)
    Reproduction(plain, given, QUIET).run("small")
    unlabelled = list(read_labelled(given.out / "unlabelled" / "more.jsonl"))
    assert [record.unknown for record in unlabelled] == [((0, len(record.text)),) for record in unlabelled]


def test_passages_that_are_not_to_be_asked_about_are_only_read_by_the_larger(
    tmp_path: Path, tiny_base: Path
) -> None:
    teacher = AskingTeacher()
    given = inputs(tmp_path, tiny_base, teacher)
    one = recipe()
    small = Stage(layers=1, epochs=1, passages_share=1.0, batch_tokens=1024)
    more = (*one.passages, Passages("read", "texts", "towns to read", "MIT", most=3, asked=False))
    done = Reproduction(replace(one, small=small, passages=more), given, QUIET).run()
    assert teacher.asked == 6
    assert [path.name for path in (given.out / "unlabelled").iterdir()] == ["read.jsonl"]
    assert done is not None
    card = (done.folder / "README.md").read_text(encoding="utf-8")
    assert "texts that the larger encoder read to it: towns to read (MIT)" in card
    assert "larger encoder read to it: more towns" not in card


def test_of_several_seeds_and_their_mean_the_best_is_taken(tmp_path: Path, tiny_base: Path) -> None:
    making = Reproduction(recipe(), inputs(tmp_path, tiny_base, None), QUIET)
    making.labelled()
    best = making.small()
    runs = [making.out / name for name in ("small-1", "small-2", "small-mean")]
    assert best == max(runs, key=lambda run: float(notes_of(run)["best"]))
    weights = [load_file(run / "model.safetensors") for run in runs]
    for name, value in weights[2].items():
        torch.testing.assert_close(value, (weights[0][name] + weights[1][name]) / 2)
    assert notes_of(runs[2])["averaged"] == ["small-1", "small-2"]
    before = (runs[2] / "model.safetensors").stat().st_mtime_ns
    assert making.small() == best  # nothing is trained or averaged again
    assert (runs[2] / "model.safetensors").stat().st_mtime_ns == before


def test_a_source_of_few_held_back_questions_does_not_decide(tmp_path: Path) -> None:
    rows = [row | {"doc": str(at)} for at, row in enumerate(questions(400))]
    rare = [row | {"source": "rare"} for row in rows[: FEWEST_SCORED // 2]]
    path = write_rows(tmp_path / "towns.jsonl", [*rows, *rare])
    assert {one.origin.source for one in read_measured(Choice((), (path,), 0.2))} == {"towns"}
    few = write_rows(tmp_path / "few.jsonl", rare)
    assert {one.origin.source for one in read_measured(Choice((), (few,), 0.5))} == {"rare"}


def test_the_embedded_recipe_is_that_of_the_shipped_encoder() -> None:
    found = read_recipe(DEFAULT)
    shipped = json.loads((find_folder("default") / "config.json").read_text(encoding="utf-8"))
    assert found.small.layers == shipped["num_hidden_layers"]
    assert found.vocabulary == shipped["vocab_size"]
    assert all(one.licence and one.about for one in (*found.sources, *found.passages))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("small: {layers: 6, epochs: 1}\nsources: [{file: a, kind: songs, about: x, licence: MIT}]", "songs"),
        ("small: {layers: 6}", "small"),
        ("small: {layers: 6, epochs: 1, colour: red}", "colour"),
        ("sources: 3\nsmall: {layers: 6, epochs: 1}", "sources"),
        ("[", "recipe.yaml"),
    ],
)
def test_a_broken_recipe_is_refused_by_name(tmp_path: Path, text: str, wrong: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidOption, match=wrong):
        read_recipe(path)


def test_a_missing_file_is_named(tmp_path: Path, tiny_base: Path) -> None:
    with pytest.raises(InvalidOption, match=r"towns\.jsonl"):
        Reproduction(recipe(), Inputs(tmp_path, tiny_base, tmp_path / "made"), QUIET).run()


def test_a_missing_openvino_is_said_before_the_training(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compressor.training.reproduction.find_spec", lambda name: None)
    making = Reproduction(recipe(), inputs(tmp_path, tiny_base, None), QUIET)
    with pytest.raises(ModelLoadFailed, match="OpenVINO"):
        making.run()
    assert not list(making.out.glob("*/*"))
