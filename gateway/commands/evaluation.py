"""`terse evaluate`: every method side by side at equal tokens, on your questions and with your reader."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from compressor.errors import CompressorError
from gateway.settings import set_environment

if TYPE_CHECKING:
    from compressor.evaluation.evaluate import EvaluateOptions
    from compressor.evaluation.run import Progress as Report

# A reader behind litellm must not fetch a price map, nor wait for it to fail where there is no network.
OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
FAILED = 1  # exit code: the data, a model or an option cannot be used; the message says which
METHOD_HELP = (
    "NAME,option=value,… and repeatable: terse, sentences, llmlingua2, llmlingua, longllmlingua, "
    "selective-context, first, random, full, empty. All have keep=0.5+0.33, limit=50, question=yes, label=…; "
    "terse has unit=words and protect=all."
)


def register(app: typer.Typer) -> None:
    """Adds `evaluate` to the command line."""
    app.command(
        "evaluate",
        epilog="Example: terse evaluate questions.jsonl --method terse --method terse,question=yes "
        "--method first --keep 0.5,0.33 --reader litellm:gpt-4o-mini --limit 50 --out results",
    )(evaluate_command)


def evaluate_command(
    data: Annotated[list[str], typer.Argument(metavar="DATA.jsonl…", help="Question files, or NAME=FILE.")],
    out: Annotated[Path, typer.Option(help="Folder for rows, plots and report.md; an earlier run goes on.")],
    method: Annotated[list[str] | None, typer.Option(metavar="METHOD", help=METHOD_HELP)] = None,
    keep: Annotated[str, typer.Option(help="Shares of tokens to keep.")] = "0.5,0.33",
    reader: Annotated[str, typer.Option(help="hf:FOLDER or litellm:MODEL; default nobody.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Questions of each file; 0: all.")] = 150,
    restore: Annotated[int, typer.Option(min=0, help="Texts of each set that the reader restores.")] = 0,
    prompts: Annotated[Path | None, typer.Option(help="Few-shot prompts (prompt_id, prompt).")] = None,
    trained_on: Annotated[
        list[str] | None, typer.Option(help="A data set the model was trained on: only held-back documents.")
    ] = None,
    tokenizer: Annotated[str, typer.Option(help="Of the budget; default the reader's or o200k_base.")] = "",
    causal: Annotated[str, typer.Option(help="Folder of a causal LM for the methods that need one.")] = "",
    model: Annotated[str, typer.Option(help="Our encoder: default, a folder or a hub name.")] = "default",
    similarity: Annotated[
        str, typer.Option(help="Encoder that compares summaries: default or a folder.")
    ] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    base_url: Annotated[str, typer.Option(help="Of an OpenAI-compatible server, for openai/NAME.")] = "",
    api_key: Annotated[str, typer.Option(help="For the reader; default the provider's variable.")] = "",
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight to a provider.")] = 8,
    seed: Annotated[int, typer.Option(help="Which questions are drawn.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report's place and rows as JSON.")
    ] = False,
) -> None:
    """Measure what compression costs in answers, and compare methods at equal tokens.

    DATA: one object a line with id, context, question, answers. Exit code 0: the report is written, 1: not.
    """
    try:
        from compressor.evaluation.evaluate import EvaluateOptions
        from compressor.evaluation.readers import ReaderOptions

        asked = ReaderOptions(device=device, base_url=base_url, api_key=api_key, concurrency=concurrency)
        options = EvaluateOptions(
            data=tuple(data),
            methods=tuple(method or ["full", "first", "random", "terse"]),
            out=out,
            keeps=parse_keeps(keep),
            limit=limit,
            seed=seed,
            prompts=prompts,
            trained_on=tuple(trained_on or ()),
            reader="" if reader == "none" else reader,
            reader_options=asked,
            restore=restore,
            tokenizer=tokenizer,
            device=device,
            causal=causal,
            model=model,
            similarity=similarity,
        )
        path = run_evaluation(options)
    except (CompressorError, ImportError) as error:
        more = "; pip install 'terse-gateway[train]'" if isinstance(error, ImportError) else ""
        typer.echo(f"terse evaluate: {error}{more}", err=True)
        raise typer.Exit(FAILED) from None
    tell_place(path, as_json)


def tell_place(report: Path, as_json: bool) -> None:
    """Where the report lies, as JSON with the files of rows beside it."""
    rows = sorted(str(file) for file in report.parent.glob("*.jsonl"))
    typer.echo(json.dumps({"report": str(report), "rows": rows}) if as_json else str(report))


def run_evaluation(options: EvaluateOptions) -> Path:
    """The report's place, with a bar for each step on stderr meanwhile."""
    set_environment(OFFLINE)
    from compressor.evaluation.evaluate import evaluate

    with shown_progress() as report:
        return evaluate(options, report)


def parse_keeps(text: str) -> tuple[float, ...]:
    """`0.5,0.33` as numbers; the command line's error otherwise."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"--keep {text!r}: numbers with commas between them") from error


@contextmanager
def shown_progress() -> Iterator[Report]:
    """One bar for each step, on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield report
