"""`terse compress` and `terse inspect`: the compressor on the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from compressor.errors import CompressorError
from compressor.shapes import PROTECTABLE, Shortened
from gateway.commands.compress_many import Item, check_folder, file_items, line_items, shorten_all

if TYPE_CHECKING:
    from compressor.options import CompressOptions

_KINDS = ", ".join(sorted(PROTECTABLE))
REFUSED = 1  # exit code: the text, the budget or the model cannot be used; the message says why


def register(app: typer.Typer) -> None:
    """Adds `compress` and `inspect` to the command line."""
    app.command(
        "compress",
        epilog="Example: terse compress minutes.txt --keep 0.33 --show, "
        "or: cat build.log | terse compress - --target 2000, "
        "or: terse compress texts.jsonl --jsonl --processes 4 > short.jsonl",
    )(compress)
    app.command("inspect", epilog="Example: terse inspect default --json")(inspect)


def compress(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="UTF-8 texts; - reads standard input.")
    ],
    keep: Annotated[float | None, typer.Option(help="Share of the tokens that stays; default 0.5.")] = None,
    target: Annotated[int | None, typer.Option(help="At most so many tokens, instead of --keep.")] = None,
    question: Annotated[str | None, typer.Option(help="What the text will be asked.")] = None,
    tokenizer: Annotated[str, typer.Option(help="Whose tokens: encoding, model or folder.")] = "o200k_base",
    protect: Annotated[
        str | None,
        typer.Option(
            metavar="KINDS", help=f"What always stays: none, or some of {', '.join(sorted(PROTECTABLE))}."
        ),
    ] = None,
    force: Annotated[list[str] | None, typer.Option(help="A string that always stays; repeatable.")] = None,
    kind: Annotated[str, typer.Option(help="prose, log, json, code, ...; auto looks at the text.")] = "auto",
    unit: Annotated[str, typer.Option(help="auto, words or sentences.")] = "auto",
    model: Annotated[str, typer.Option(help="default, a folder, or a hub model on this disk.")] = "default",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    messages: Annotated[bool, typer.Option(help="FILE is JSON: a list of messages.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write each FILE's short form there, by its name.")
    ] = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="FILEs hold a JSON object a line.")] = False,
    field: Annotated[str, typer.Option(help="With --jsonl: where the text is in it.")] = "text",
    processes: Annotated[int, typer.Option(min=1, help="Worker processes, for many texts.")] = 1,
    show: Annotated[bool, typer.Option(help="Print the whole text, with what went struck out.")] = False,
    explain: Annotated[
        bool, typer.Option(help="With --json: every word, its score, and why it went.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Shorten texts to their most telling words; the short text goes to standard output, figures to stderr.

    Several files need --out; with --jsonl the lines go to standard output, their texts shortened. Of many
    texts one that cannot be shortened stays as it is and is named.

    Exit code 0: done; 1: refused, with the reason; 2: the command line has a mistake.
    """
    many = jsonl or out is not None
    _check_many(files, many, out is not None and jsonl, processes, messages or show or explain or as_json)
    if out is not None:
        check_folder(out, files)
    plain: CompressOptions = {"question": question, "tokenizer": tokenizer, "kind": kind, "explain": explain}
    options = _options(plain, keep, target, protect, force, unit)
    try:
        if many:
            items = _lines(files, field) if out is None else file_items(files, out)
            _shorten_many(items, options, (model, device, processes))
        elif messages:
            found = _run(_messages_of(_read(files[0])), options, model, device)
            _print_messages(found, as_json)
        else:
            content = _read(files[0])
            _print_text(content, _run(content, options, model, device), show, as_json)
    except CompressorError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise typer.Exit(REFUSED) from None


def inspect(
    model: Annotated[str, typer.Argument(help="default, a folder, or a hub model on this disk.")] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what an encoder is, from its files; the weights are not loaded.

    Exit code 0: it can be opened; 1: it cannot, with the reason.
    """
    from compressor.inspecting import inspect_model

    try:
        facts = inspect_model(model)
    except CompressorError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise typer.Exit(REFUSED) from None
    if as_json:
        typer.echo(json.dumps(facts))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        typer.echo(f"{name:<{width}}  {value}")


def _read(file: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return raw.decode("utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="FILE") from None
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{file}: not UTF-8 at byte {error.start}", param_hint="FILE") from None


def _options(
    plain: CompressOptions,
    keep: float | None,
    target: int | None,
    protect: str | None,
    force: list[str] | None,
    unit: str,
) -> CompressOptions:
    options = plain
    options["force_tokens"] = [each.replace("\\n", "\n") for each in force or []]
    options["unit"] = unit  # type: ignore[typeddict-item]  # checked by the compressor, which names the choices
    if keep is not None:
        options["keep"] = keep
    if target is not None:
        options["target_tokens"] = target
    if protect is not None:
        options["protect"] = [] if protect == "none" else [each.strip() for each in protect.split(",")]
    return options


def _check_many(files: list[str], many: bool, both: bool, processes: int, of_one: bool) -> None:
    if both:
        raise typer.BadParameter("--out is for files of text, --jsonl writes to standard output")
    if not many and len(files) > 1:
        raise typer.BadParameter("several files need --out FOLDER or --jsonl", param_hint="FILE...")
    if not many and processes > 1:
        raise typer.BadParameter("is for many texts: with --out or --jsonl", param_hint="--processes")
    if many and of_one:
        raise typer.BadParameter("--messages, --show, --explain and --json are for one text")


def _lines(files: list[str], field: str) -> Iterator[Item]:
    for file in files:
        try:
            with sys.stdin.buffer if file == "-" else Path(file).open("rb") as lines:
                yield from line_items(lines, file, field)
        except OSError as error:
            raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="FILE...") from None


def _shorten_many(items: Iterator[Item], options: CompressOptions, opening: tuple[str, str, int]) -> None:
    from compressor import Compressor

    model, device, processes = opening
    with Compressor.open(model, device=device) as compressor:
        totals = shorten_all(compressor, items, options, processes)
    for reason in totals.refused:
        typer.echo(reason, err=True)
    _print_figures(totals.before, totals.after, str(options["tokenizer"]), f"{totals.texts} texts")
    if totals.refused:
        raise typer.Exit(REFUSED)


def _messages_of(content: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint="FILE") from None
    found = found.get("messages") if isinstance(found, dict) else found
    if not isinstance(found, list):
        raise typer.BadParameter("expected a list of messages", param_hint="FILE")
    return found


def _run(content: Any, options: CompressOptions, model: str, device: str) -> Any:
    from compressor import Compressor

    with Console(stderr=True).status("Scoring"), Compressor.open(model, device=device) as compressor:
        return compressor.compress(content, **options)


def _print_text(text: str, result: Shortened, show: bool, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_as_data(result), ensure_ascii=False))
        return
    if show:
        Console(soft_wrap=True, highlight=False).print(_struck_out(text, result), end="")
        typer.echo()
    else:
        typer.echo(result.text)
    _print_figures(result.tokens_before, result.tokens_after, result.tokenizer, result.note)


def _print_messages(result: Any, as_json: bool) -> None:
    data: dict[str, Any] = {"messages": result.messages}
    if as_json:
        data |= {"tokens_before": result.tokens_before, "tokens_after": result.tokens_after}
    typer.echo(json.dumps(data if as_json else result.messages, ensure_ascii=False))
    _print_figures(result.tokens_before, result.tokens_after, result.tokenizer, "")


def _print_figures(before: int, after: int, tokenizer: str, note: str) -> None:
    share = f"{after / before:.1%}" if before else "all"
    typer.echo(
        f"{before} -> {after} tokens of {tokenizer}, {share} kept{'; ' + note if note else ''}", err=True
    )


def _as_data(result: Shortened) -> dict[str, Any]:
    data: dict[str, Any] = {
        "text": result.text,
        "tokens_before": result.tokens_before,
        "tokens_after": result.tokens_after,
        "tokenizer": result.tokenizer,
        "kept": [[span.start, span.end] for span in result.kept],
        "note": result.note,
    }
    if result.decisions:
        data["words"] = [
            {
                "start": one.span.start,
                "end": one.span.end,
                "score": round(one.score, 3),
                "kept": one.kept,
                "reason": one.reason,
            }
            for one in result.decisions
        ]
    return data


def _struck_out(text: str, result: Shortened) -> Text:
    """The whole text; what went is dim, red and struck out."""
    shown = Text()
    end = 0
    for span in result.kept:
        shown.append(text[end : span.start], "dim red strike")
        shown.append(text[span.start : span.end])
        end = span.end
    shown.append(text[end:], "dim red strike")
    return shown
