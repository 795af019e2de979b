"""`terse policy check | explain | replay`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TextColumn
from rich.table import Table

from compressor.errors import CompressorError
from gateway.chat.request import SURFACES, parse_request
from gateway.configuration.explaining import Question, answer_as_data, answer_as_text, explain
from gateway.configuration.replaying import Past, Replay, read_log, replay_as_data, replay_traffic
from gateway.configuration_file import Reading, read_config
from gateway.errors import BadRequest
from gateway.settings import load_settings
from gateway.shapes import ParsedRequest
from policies.errors import ConfigurationError, PolicyError

REFUSED = 1  # exit code: the file has mistakes (2 is typer's: the command line has)

policy = typer.Typer(
    no_args_is_help=True,
    help="Check, explain and try out the rules of terse.yaml.",
    epilog="Example: terse policy check terse.yaml",
)

File = Annotated[str, typer.Argument(metavar="FILE", help="The configuration, usually terse.yaml.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Adds `policy` to the command line."""
    app.add_typer(policy, name="policy")


@policy.command(
    epilog="Example: terse policy check terse.yaml --strict && kubectl rollout restart deploy/terse"
)
def check(
    file: File,
    strict: Annotated[bool, typer.Option(help="Warnings count as mistakes.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with a configuration: file, line, key, and what was expected.

    Exit code 0: it can be used; 1: it is refused. Environment variables need not be set for this.
    """
    try:
        reading = _read(file)
    except ConfigurationError as error:
        _report(file, error.problems, (), as_json)
        raise typer.Exit(REFUSED) from None
    _report(file, (), (*reading.unset, *reading.warnings), as_json)
    if not as_json:
        typer.echo(f"{file}: {'refused' if strict and reading.warnings else 'ok'}: {_summary(reading)}")
    if strict and reading.warnings:  # unset variables are no fault of the file
        raise typer.Exit(REFUSED)


@policy.command(
    name="explain",
    epilog="Example: terse policy explain terse.yaml --model gpt-4o-mini --team search --tokens 12000",
)
def explain_command(
    file: File,
    request: Annotated[
        str, typer.Option(metavar="FILE", help="A request body; its texts are looked at.")
    ] = "",
    model: Annotated[str, typer.Option(help="The model that the client names.")] = "",
    tokens: Annotated[int | None, typer.Option(min=0, help="Tokens of the whole input.")] = None,
    team: Annotated[str, typer.Option(help="The team of the key.")] = "default",
    path: Annotated[str, typer.Option(help="The endpoint.")] = "/v1/chat/completions",
    compressible: Annotated[
        int | None, typer.Option(min=0, help="Of the tokens, those that may be shortened.")
    ] = None,
    earlier: Annotated[
        int, typer.Option(min=0, help="Of the others, those that earlier messages could have had shortened.")
    ] = 0,
    header: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A request header; repeatable.")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Of the request; repeatable.")
    ] = None,
    spent: Annotated[float, typer.Option(min=0, help="Share of the team's budget that is spent.")] = 0.0,
    draw: Annotated[
        float | None, typer.Option(min=0, max=1, help="What the conversation draws for the shares.")
    ] = None,
    at: Annotated[str, typer.Option(metavar="ISO-TIME", help="The moment, for schedules; default now.")] = "",
    as_json: AsJson = False,
) -> None:
    """Say which route a request takes and why, and how much of it would be kept.

    Either --model and --tokens, or --request with a request's JSON: then every text of it is listed.

    Exit code 0: explained; 1: the file or the request is refused, or the model is not in the file.
    """
    parsed = _request(request, path) if request else None
    if parsed is None and (not model or tokens is None):
        raise typer.BadParameter("expected --model and --tokens, or --request")
    question = Question(
        model=model or (parsed.model if parsed else ""),
        team=team,
        path=path,
        tokens=tokens or 0,
        at=_moment(at),
        compressible=compressible,
        earlier=earlier,
        headers=_pairs(header, "--header"),
        metadata=_pairs(metadata, "--metadata"),
        spent=spent,
        draw=draw,
        request=parsed,
    )
    try:
        answer = explain(_read(file).config, question)
    except (PolicyError, CompressorError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(REFUSED) from None
    typer.echo(json.dumps(answer_as_data(answer, question)) if as_json else answer_as_text(answer, question))


@policy.command(epilog="Example: terse policy replay gateway.log.gz --config terse.yaml")
def replay(
    log: Annotated[
        str, typer.Argument(metavar="LOG", help="The gateway's JSON log, or an export of receipts.")
    ],
    config: Annotated[str, typer.Option("--config", metavar="FILE", help="The configuration to try.")],
    compressible: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of a prompt that may be shortened, where the log is silent."),
    ] = 0.8,
    as_json: AsJson = False,
) -> None:
    """Say what a configuration would have done to logged traffic, in tokens and USD.

    Reads JSON lines (`.gz` too) or one JSON array. Savings count where a text first appears; later turns that
    send it again are not counted. Routes on headers or metadata match nothing: logs hold neither.

    Exit code 0: replayed; 1: the file or the log cannot be used.
    """
    outcome = Replay()
    try:
        loaded = _read(config).config
        with _progress(log) as followed:
            traffic = followed(read_log(log, outcome))
            replay_traffic(loaded, traffic, outcome, compressible_share=compressible)
    except PolicyError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(REFUSED) from None
    for message in _doubts(outcome, log):
        typer.echo(message, err=True)
    if not outcome.total.requests:
        typer.echo(f"{log}: no request that this configuration serves", err=True)
        raise typer.Exit(REFUSED)
    if as_json:
        typer.echo(json.dumps(replay_as_data(outcome)))
    else:
        _print_replay(outcome, compressible)


def _print_replay(outcome: Replay, share: float) -> None:
    total = outcome.total
    percent = 100 * total.tokens_saved / max(1, total.tokens_before)
    typer.echo(f"{total.requests} requests from {outcome.first} to {outcome.last}")
    typer.echo(
        f"{total.tokens_before} input tokens, {total.tokens_saved} fewer ({percent:.1f} %); "
        f"logged cost ${total.usd_logged:.4f}, ${total.usd_saved:.4f} less"
    )
    table = Table("policy", "requests", "shortened", "audited", "tokens", "fewer", "USD less", "left alone")
    for name, sums in sorted(outcome.policies.items()):
        alone = ", ".join(
            f"{n} {why}" for why, n in sums.reasons.items() if why not in ("shortened", "audit")
        )
        figures = (sums.requests, sums.shortened, sums.audited, sums.tokens_before, sums.tokens_saved)
        table.add_row(name, *map(str, figures), f"{sums.usd_saved:.4f}", alone)
    Console().print(table)
    if outcome.assumed:
        typer.echo(
            f"{outcome.assumed} requests do not say what could be shortened; taken: {share:.0%} of each"
        )


def _doubts(outcome: Replay, log: str) -> Iterator[str]:
    if outcome.unreadable_count:
        lines = ", ".join(map(str, outcome.unreadable))
        yield f"{log}: {outcome.unreadable_count} lines are no receipts (lines {lines} …)"
    for model, count in sorted(outcome.unknown_models.items()):
        yield f"{count} requests for {model!r} left out: no such model in the configuration"
    if outcome.unpriced:
        yield f"{outcome.unpriced} requests for models without a known price count as free"


@contextmanager
def _progress(log: str) -> Iterator[Callable[[Iterator[Past]], Iterator[Past]]]:
    """A count of requests on stderr, for whoever waits at a terminal."""
    console = Console(stderr=True)
    with Progress(TextColumn("{task.completed} requests of " + log), console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def follow(traffic: Iterator[Past]) -> Iterator[Past]:
            for count, past in enumerate(traffic, start=1):
                if count % 5000 == 0:
                    bar.update(task, completed=count)
                yield past

        yield follow


def _read(file: str) -> Reading:
    return read_config(file, load_settings(), secrets_needed=False)


def _request(file: str, path: str) -> ParsedRequest:
    try:
        return parse_request(SURFACES.get(path, "chat"), path, Path(file).read_bytes())
    except OSError as error:
        typer.echo(f"{file}: {error.strerror}", err=True)
    except BadRequest as error:
        typer.echo(f"{file}: {error.message}", err=True)
    raise typer.Exit(REFUSED)


def _moment(text: str) -> datetime:
    if not text:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("expected a time such as 2026-11-22T21:30", param_hint="--at") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _pairs(given: list[str] | None, option: str) -> dict[str, str]:
    pairs = {}
    for each in given or []:
        key, sign, value = each.partition("=")
        if not sign or not key:
            raise typer.BadParameter(f"expected KEY=VALUE; got {each!r}", param_hint=option)
        pairs[key] = value
    return pairs


def _summary(reading: Reading) -> str:
    config = reading.config
    blocks = (
        ("upstream", len(config.upstreams)),
        ("model", len(config.models)),
        ("policy", len(config.policies)),
        ("team", len(config.teams)),
        ("route", len(config.routes)),
    )
    plural = {"policy": "policies"}
    return ", ".join(f"{n} {name if n == 1 else plural.get(name, name + 's')}" for name, n in blocks)


def _report(
    file: str, problems: tuple[PolicyError, ...], warnings: tuple[PolicyError, ...], as_json: bool
) -> None:
    if as_json:
        found = {"mistakes": problems, "warnings": warnings}
        plain = {
            kind: [{"line": each.line, "key": each.key, "message": str(each)} for each in errors]
            for kind, errors in found.items()
        }
        typer.echo(json.dumps({"file": file, "ok": not problems, **plain}))
        return
    for problem in problems:
        typer.echo(str(problem), err=True)
    for warning in warnings:
        typer.echo(f"{warning} (warning)", err=True)
