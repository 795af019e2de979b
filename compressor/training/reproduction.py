"""Make an encoder by a recipe, from public texts to the folder that is served, one step after another.

Each step leaves its files under `out` and is skipped when they are there, so that a run that was cut short
goes on. What a step needs beside the recipe is in `Inputs`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console

from compressor.errors import InvalidOption, ModelLoadFailed
from compressor.training.averaging import average
from compressor.training.chunks import chunk_documents
from compressor.training.distill import Job, ReplyCache, distill
from compressor.training.encoder import open_tokenizer
from compressor.training.export import Exported, export
from compressor.training.label_sources import (
    documents_of,
    label_answers,
    label_deletions,
    label_for_questions,
    label_highlights,
    label_summaries,
    label_turns,
)
from compressor.training.licences import may_ship
from compressor.training.material import Choice, Material, read_material, read_measured
from compressor.training.recipe import Passages, Recipe, Source, Stage
from compressor.training.records import (
    Answerable,
    Chunk,
    Labelled,
    Origin,
    answerable_line,
    chunk_line,
    is_held_back,
    labelled_line,
    origin_of,
    read_answerable,
    read_chunks,
    read_objects,
    write_lines,
)
from compressor.training.starting import Start, prepare
from compressor.training.teacher import Teacher
from compressor.training.train import TrainOptions, device_named, train

MATERIAL_SEED = 7  # draws the wrong passages of each question, for all runs alike
STEPS = ("passages", "asked", "labelled", "large", "small", "encoder")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a recipe is made from: the data folder, the base encoder, a teacher LLM to ask (None: whatever
    was asked before is used, and nothing else).
    """

    data: Path
    base: Path
    out: Path
    teacher: Teacher | None = None
    device: str = "auto"


class Reproduction:
    """A recipe with its inputs; each method is one step and returns what it wrote."""

    def __init__(self, recipe: Recipe, inputs: Inputs, console: Console) -> None:
        self.recipe, self.inputs, self.console = recipe, inputs, console
        self.out = inputs.out
        self._read: tuple[Choice, Material] | None = None
        self._taken: dict[str, Path] = {}  # of each stage, as later steps ask for it again

    def run(self, until: str = STEPS[-1]) -> Exported | None:
        """All steps up to and with `until`; what was exported, if that was the last.

        Raises InvalidOption for a missing file or an unknown step, InvalidRecord for a broken line,
        ModelLoadFailed for a base that cannot be used, or where the last step could not run.
        """
        if until not in STEPS:
            raise InvalidOption(f"until: expected one of {', '.join(STEPS)}, got {until!r}")
        if until == STEPS[-1] and find_spec("openvino") is None:  # said before the training, not behind it
            raise ModelLoadFailed("the last step calibrates with OpenVINO: pip install openvino")
        found: object = None
        for step in STEPS[: STEPS.index(until) + 1]:
            self.console.print(f"[bold]{step}[/bold]")
            found = getattr(self, step)()
        return found if isinstance(found, Exported) else None

    def passages(self) -> list[Path]:
        """Chunks to ask about, `passages/NAME.jsonl`; nothing that stands in a held-back text is among
        them.
        """
        tokenizer = open_tokenizer(self._base(0))
        hidden = self._held_back_texts() if self._missing("passages") else frozenset()
        for entry in self._missing("passages"):
            documents = self._documents(entry, hidden)
            chunks = chunk_documents(documents, tokenizer, self.recipe.chunk_tokens)
            lines = map(chunk_line, islice(chunks, entry.most or None))
            count = write_lines(self.out / "passages" / f"{entry.name}.jsonl", lines)
            self.console.print(f"{entry.name}: {count} passages")
        return self._files("passages")

    def asked(self) -> list[Path]:
        """Questions of the teacher LLM about each passage, `asked/NAME.jsonl`."""
        for entry in self._missing("asked"):
            if self.inputs.teacher is None or not entry.asked:
                continue
            chunks = list(read_chunks(self.out / "passages" / f"{entry.name}.jsonl"))
            to = self.out / "asked" / f"{entry.name}.jsonl"
            cache = ReplyCache(to.with_name(to.name + ".replies"))
            job = Job(self.inputs.teacher, "ask", cache, to, lambda what: True)
            report = distill(chunks, job, self.console)
            self.console.print(f"{entry.name}: {report.written} questions, of no use: {dict(report.useless)}")
        return self._files("asked")

    def labelled(self) -> list[Path]:
        """Labels of every source, and of what was asked, `labelled/NAME.jsonl`."""
        for number, source in enumerate(self.recipe.sources):
            to = self._labels_of(number, source)
            if not to.exists():
                count = write_lines(to, map(labelled_line, self._label(source)))
                self.console.print(f"{source.file} as {source.kind}: {count} texts")
        for path in self._files("asked"):
            to = self.out / "labelled" / f"asked-{path.name}"
            if not to.exists():
                count = write_lines(to, map(labelled_line, label_answers(read_answerable(path))))
                self.console.print(f"{path.stem}, asked: {count} texts")
        return sorted((self.out / "labelled").glob("*.jsonl"))

    def large(self) -> Path | None:
        """The large encoder, `large/`; None in a recipe without."""
        stage = self.recipe.large
        if stage is None:
            return None
        return self._best(stage, None, "large")

    def small(self) -> Path:
        """The small encoder: of one for each seed and their mean, what keeps most held-back answers."""
        return self._best(self.recipe.small, self.large(), "small")

    def encoder(self) -> Exported:
        """The folder to serve, `encoder/`, with its model card."""
        asked = {path.stem for path in self._files("asked")}
        texts = [entry for entry in self.recipe.passages if entry.name in asked]
        about = [f"{one.about} ({one.licence}){one.where and ', '}{one.where}" for one in self.recipe.sources]
        about += [
            f"questions of a teacher LLM about {one.about} ({one.licence}){one.where and ', '}{one.where}"
            for one in texts
        ]
        if self.recipe.large and self.recipe.small.passages_share:
            read = [entry for entry in self.recipe.passages if entry.name not in asked]
            about += [
                f"texts that the larger encoder read to it: {one.about} ({one.licence})" for one in read
            ]
        return export(self.small(), self.out / "encoder", list(dict.fromkeys(about)))

    def _trained(self, stage: Stage, seed: int, teacher: Path | None, name: str) -> Path:
        to = self.out / name
        if (to / "training.json").exists():
            return to
        options = TrainOptions(
            base=self._base(stage.layers),
            out=to,
            data=self._shares(stage if teacher else None),
            questions=tuple(self._questions(source) for source in self.recipe.sources if _ranks(source)),
            teacher=teacher,
            epochs=stage.epochs,
            patience=stage.epochs,
            learning_rate=stage.learning_rate,
            batch_tokens=stage.batch_tokens,
            held_back=self.recipe.held_back,
            seed=seed,
            label_share=stage.label_share,
            budget_share=stage.budget_share,
            imitation_share=stage.imitation_share,
            device=self.inputs.device,
        )
        train(options, self.console, self._material(options))
        return to

    def _material(self, options: TrainOptions) -> Material:
        """What the options read, kept for the next run: it takes longer than an epoch on a GPU."""
        if self._read is None or self._read[0] != options.choice:
            tokenizer = open_tokenizer(options.base)
            self._read = options.choice, read_material(options.choice, tokenizer, MATERIAL_SEED)
        return self._read[1]

    def _shares(self, imitating: Stage | None) -> tuple[tuple[Path, float], ...]:
        found = [(self._labels_of(at, one), one.share) for at, one in enumerate(self.recipe.sources)]
        asked = {path.stem for path in self._files("asked")}
        for entry in self.recipe.passages:
            if entry.name in asked:
                found.append((self.out / "labelled" / f"asked-{entry.name}.jsonl", entry.share))
            elif imitating and imitating.passages_share:
                found.append((self._unlabelled(entry), imitating.passages_share))
        return tuple(found)

    def _unlabelled(self, entry: Passages) -> Path:
        """The passages as texts whose every label is unknown: only imitation learns from them."""
        to = self.out / "unlabelled" / f"{entry.name}.jsonl"
        if not to.exists():
            chunks = read_chunks(self.out / "passages" / f"{entry.name}.jsonl")
            lines = (
                labelled_line(Labelled(one.id, one.text, (), one.origin, ((0, len(one.text)),)))
                for one in chunks
            )
            write_lines(to, lines)
        return to

    def _base(self, layers: int) -> Path:
        """The base encoder with the recipe's vocabulary and so many layers (0: all)."""
        names = [one.file for one in self.recipe.sources] + [one.file for one in self.recipe.passages]
        counted = dict.fromkeys(names) if self.recipe.vocabulary else ()
        texts = tuple(self._file(name) for name in counted)
        start = Start(self.inputs.base, layers, self.recipe.vocabulary, texts)
        return prepare(start, self.out / "start")

    def _label(self, source: Source) -> Iterator[Labelled]:
        path = self._file(source.file)
        if source.kind == "highlights":
            return label_highlights(path, source.licence)
        if source.kind == "turns":
            everything = label_turns(path, source.licence)
            return (
                record for record in everything if not record.question
            )  # a meeting for each question: vast
        if source.kind == "deletions":
            return label_deletions(path, source.licence)
        label = {"answers": label_answers, "questions": label_for_questions, "summaries": label_summaries}
        return label[source.kind](read_answerable(self._questions(source)))

    def _questions(self, source: Source) -> Path:
        """The source's questions with the recipe's names of documents, `questions/FILE.jsonl`."""
        to = self.out / "questions" / f"{source.file}.jsonl"
        if not to.exists():
            write_lines(
                to, map(answerable_line, map(self._renamed, read_answerable(self._file(source.file))))
            )
        return to

    def _renamed(self, record: Answerable) -> Answerable:
        doc = self.recipe.documents.get(record.origin.doc)
        return replace(record, origin=replace(record.origin, doc=doc)) if doc else record

    def _held_back_texts(self) -> frozenset[str]:
        """Documents of held-back contexts: no passage may be one of them."""
        found: set[str] = set()
        for source in self.recipe.sources:
            if _ranks(source):
                for record in read_answerable(self._questions(source)):
                    if is_held_back(record.origin, self.recipe.held_back):
                        found.update(_bare(text) for text in documents_of(record.context))
        return frozenset(found)

    def _documents(self, entry: Passages, hidden: frozenset[str]) -> Iterator[Chunk]:
        path = self._file(entry.file)
        seen: set[str] = set()
        for number, value in read_objects(path):
            text = value.get("text") or value.get("context") or ""
            origin = origin_of(value, f"{path}:{number}", text)
            if not _wanted(origin, entry) or is_held_back(origin, self.recipe.held_back):
                continue
            for at, document in enumerate(documents_of(text)):
                if (bare := _bare(document)) not in hidden | seen:
                    seen.add(bare)
                    yield Chunk(f"{value.get('id', number)}/{at}", document, origin)

    def _file(self, name: str) -> Path:
        for path in (self.inputs.data / f"{name}.jsonl", self.inputs.data / f"{name}.jsonl.gz"):
            if path.exists():
                return path
        raise InvalidOption(f"{self.inputs.data}: no {name}.jsonl or {name}.jsonl.gz, which the recipe reads")

    def _files(self, step: str) -> list[Path]:
        """What a step wrote, in the recipe's order."""
        every = [self.out / step / f"{entry.name}.jsonl" for entry in self.recipe.passages]
        return [path for path in every if path.exists()]

    def _missing(self, step: str) -> list[Passages]:
        there = {path.stem for path in self._files(step)}
        return [entry for entry in self.recipe.passages if entry.name not in there]

    def _labels_of(self, number: int, source: Source) -> Path:
        return self.out / "labelled" / f"{number:02}-{source.file}.jsonl"

    def _best(self, stage: Stage, teacher: Path | None, name: str) -> Path:
        if name in self._taken:
            return self._taken[name]
        trained = [self._trained(stage, seed, teacher, f"{name}-{seed}") for seed in stage.seeds]
        if len(trained) > 1:
            trained.append(self._averaged(trained, self.out / f"{name}-mean"))
        held_back = {path: float(notes_of(path)["best"]) for path in trained}
        best = max(trained, key=held_back.__getitem__)
        figures = ", ".join(f"{path.name} {figure:.4f}" for path, figure in held_back.items())
        self.console.print(f"held-back figures: {figures}; taken: {best.name}")
        self._taken[name] = best
        return best

    def _averaged(self, trained: list[Path], to: Path) -> Path:
        if not (to / "training.json").exists():
            questions = tuple(self._questions(source) for source in self.recipe.sources if _ranks(source))
            measured = read_measured(Choice((), questions, self.recipe.held_back))
            average(trained, to, measured, device_named(self.inputs.device))
        return to


def notes_of(trained: Path) -> dict[str, Any]:
    """What training wrote beside the weights."""
    found: dict[str, Any] = json.loads((trained / "training.json").read_text(encoding="utf-8"))
    return found


def _ranks(source: Source) -> bool:
    return source.rank and source.kind in ("answers", "questions")


def _wanted(origin: Origin, entry: Passages) -> bool:
    return (
        (not entry.sources or origin.source in entry.sources)
        and (not entry.languages or origin.lang in entry.languages)
        and may_ship(origin.lic)
    )


def _bare(document: str) -> str:
    """A document without its heading in a retrieval context, white space evened."""
    return " ".join(document.split(") ", 1)[-1].split()) if document.startswith("Document [") else document
