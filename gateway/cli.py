"""The command line: `terse`. Each area registers its own commands."""

from __future__ import annotations

import typer

from gateway.commands import (
    compress,
    compressor,
    evaluation,
    keys,
    policy,
    quality,
    recipe,
    serve,
    teams,
    training,
    usage,
)

app = typer.Typer(
    name="terse",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="An OpenAI-compatible gateway that makes long prompts cheaper without making answers worse.",
)
for area in (serve, policy, keys, teams, usage, quality, compress, compressor, evaluation, training, recipe):
    area.register(app)


def main() -> None:
    """The console command."""
    app()
