"""`terse evaluate` without its command line: read, shorten, ask, report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from compressor.errors import InvalidOption
from compressor.evaluation.datasets import (
    Item,
    dataset_name,
    held_back_items,
    read_items,
    read_prompts,
    sample_items,
)
from compressor.evaluation.readers import ReaderOptions, open_reader
from compressor.evaluation.report import ReportHead, render
from compressor.evaluation.rows import AnswerRow, ShortRow, read_answer_rows, read_short_rows
from compressor.evaluation.run import Answering, Progress, RunOptions, check_options, shorten_all
from compressor.evaluation.specs import Setup, parse_spec
from compressor.evaluation.summary import differences, summarise
from compressor.text.tokens import counter_for

if TYPE_CHECKING:
    from compressor.evaluation.metrics.similarity import EncoderSimilarity

Finished = Callable[[str, Sequence[ShortRow], Sequence[AnswerRow]], None]  # method, its texts, its answers


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """What the command line gives."""

    data: tuple[str, ...]  # files, or NAME=FILE
    methods: tuple[str, ...]
    out: Path
    keeps: tuple[float, ...] = (0.5, 0.33)
    limit: int = 150
    seed: int = 0
    prompts: Path | None = None  # few-shot prompts of reasoning sets
    trained_on: tuple[str, ...] = ()  # data sets of which only the held-back documents may be used
    reader: str = ""  # hf:FOLDER, litellm:MODEL, or none
    reader_options: ReaderOptions = field(default_factory=ReaderOptions)
    restore: int = 0
    tokenizer: str = ""  # of the budget; empty: the local reader's, else o200k_base
    device: str = "cpu"
    causal: str = ""
    model: str = "default"
    baseline: tuple[str, ...] = ()  # labels compared with all others; empty: every method of ours
    title: str = "Quality"
    command: str = "terse evaluate"
    remarks: tuple[str, ...] = ()
    plots: bool = True
    measured_on: str = ""  # machine and versions of rows that were made elsewhere
    remember: bool = False  # score each text once for all rates and methods; times then mean nothing
    similarity: str = ""  # encoder that compares summaries with their references, as BERTScore does
    report: bool = True  # else only rows are written, and OUT is what comes back


def evaluate(options: EvaluateOptions, progress: Progress, finished: Finished | None = None) -> Path:
    """Runs or resumes an evaluation; returns the report's path. Raises CompressorError.

    `finished` is told each method's rows as soon as it is through.
    """
    finished = finished or ignore
    datasets = load_datasets(options)
    methods = tuple(parse_spec(text) for text in options.methods)
    tokenizer = options.tokenizer or default_tokenizer(options.reader)
    setup = Setup(counter_for(tokenizer), options.device, options.causal, options.model, options.remember)
    run = RunOptions(methods, options.keeps, options.limit, options.out, options.restore)
    check_options(run)
    reader = open_reader(options.reader, options.reader_options) if options.reader else None
    answering = None
    if reader is not None:
        answering = Answering(datasets, run, setup, reader, open_similarity(options))
    short: list[ShortRow] = []
    answers: list[AnswerRow] = []
    for spec in methods:  # one after the other, so that a run that is cut off has whole methods
        fresh = shorten_all(datasets, replace(run, methods=(spec,)), setup, progress)
        short += fresh
        said = [] if answering is None else answering.ask(fresh, progress)
        finished(spec.label, fresh, [answer for answer in said if answer.key.method == spec.label])
    if answering is not None:
        if options.restore:
            answering.restore(short, progress)
        answers = answering.earlier()
    if not options.report:
        return options.out
    return write_report(options, short, answers, reader.name if reader else "", Path(tokenizer).name)


def ignore(method: str, short: Sequence[ShortRow], answers: Sequence[AnswerRow]) -> None:
    """Nobody wants to know which method is done."""


def open_similarity(options: EvaluateOptions) -> EncoderSimilarity | None:
    """What compares summaries, where one is wanted. Raises ModelLoadFailed."""
    if not options.similarity:
        return None
    from compressor.evaluation.metrics.similarity import EncoderSimilarity

    return EncoderSimilarity(options.similarity, options.device)


def report_rows(options: EvaluateOptions) -> Path:
    """The report over all rows of an earlier run, whatever its methods; nothing is loaded or asked.

    Rows of several readers are not mixed: those of the last one are taken. Raises InvalidRecord.
    """
    short = read_short_rows(options.out / "shortened.jsonl")
    answers = read_answer_rows(options.out / "answers.jsonl")
    reader = answers[-1].reader if answers else ""
    mine = [row for row in answers if row.reader == reader]
    tokenizer = options.tokenizer or default_tokenizer(options.reader)
    return write_report(options, short, mine, reader, Path(tokenizer).name)


def load_datasets(options: EvaluateOptions) -> list[list[Item]]:
    """The sampled items of every file. Raises InvalidRecord, InvalidOption."""
    prompts = read_prompts(options.prompts) if options.prompts else {}
    datasets = []
    for entry in options.data:
        name, equals, file = entry.partition("=")
        path = Path(file if equals else entry)
        name = name if equals else dataset_name(path)
        if not path.is_file():
            raise InvalidOption(f"{path}: no such file")
        items = read_items(path, name, prompts)
        if name in options.trained_on:
            items = held_back_items(items)
        datasets.append(sample_items(items, options.limit, options.seed))
    unknown = set(options.trained_on) - {item.dataset for items in datasets for item in items}
    if unknown:
        raise InvalidOption(f"trained-on names no data set of this run: {', '.join(sorted(unknown))}")
    return datasets


def default_tokenizer(reader: str) -> str:
    """The local reader's own tokenizer, else o200k_base."""
    kind, _, folder = reader.partition(":")
    return folder if kind == "hf" else "o200k_base"


def write_report(
    options: EvaluateOptions,
    short: Sequence[ShortRow],
    answers: Sequence[AnswerRow],
    reader: str,
    tokenizer: str,
) -> Path:
    """`OUT/report.md`, and a plot for each data set beside it."""
    cells = summarise(short, answers)
    totals = summarise(short, answers, together=True)
    ours = [label for label in dict.fromkeys(row.key.method for row in short) if label.startswith("terse")]
    plots: list[Path] = []
    if options.plots:
        from compressor.evaluation.plots import save_plots

        plots = save_plots(cells, options.out)
    device = options.device
    if device.startswith("cuda") and not options.measured_on:
        import torch

        device = torch.cuda.get_device_name(device)
    head = ReportHead(
        options.title, reader, tokenizer, device, options.command, options.remarks, options.measured_on
    )
    found = differences(short, answers, options.baseline or ours)
    path = options.out / "report.md"
    path.write_text(render(head, cells, totals, found, plots), encoding="utf-8")
    return path
