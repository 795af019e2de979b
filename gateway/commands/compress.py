"""`terse compress` and `terse inspect`: the compressor on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from compressor.errors import CompressorError
from compressor.shapes import PROTECTABLE, Shortened

if TYPE_CHECKING:
    from compressor.options import CompressOptions

_KINDS = ", ".join(sorted(PROTECTABLE))
REFUSED = 1  # exit code: the text, the budget or the model cannot be used; the message says why


def register(app: typer.Typer) -> None:
    """Adds `compress` and `inspect` to the command line."""
    app.command(
        "compress",
        epilog="Example: terse compress minutes.txt --keep 0.33 --show, "
        "or: cat build.log | terse compress - --target 2000",
    )(compress)
    app.command("inspect", epilog="Example: terse inspect default --json")(inspect)


def compress(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A UTF-8 text; - reads standard input.")],
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
    show: Annotated[bool, typer.Option(help="Print the whole text, with what went struck out.")] = False,
    explain: Annotated[
        bool, typer.Option(help="With --json: every word, its score, and why it went.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Shorten a text to its most telling words; the short text goes to standard output, figures to stderr.

    Exit code 0: done; 1: refused, with the reason; 2: the command line has a mistake.
    """
    content: Any = _read(file)
    options: CompressOptions = {
        "question": question,
        "tokenizer": tokenizer,
        "kind": kind,
        "explain": explain,
    }
    options["force_tokens"] = [each.replace("\\n", "\n") for each in force or []]
    options["unit"] = unit  # type: ignore[typeddict-item]  # checked by the compressor, which names the choices
    if keep is not None:
        options["keep"] = keep
    if target is not None:
        options["target_tokens"] = target
    if protect is not None:
        options["protect"] = [] if protect == "none" else [each.strip() for each in protect.split(",")]
    try:
        if messages:
            _print_messages(_run(_messages_of(content), options, model, device), as_json)
        else:
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
