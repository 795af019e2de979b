"""`terse quality`: what shortening does to answers, as holdout and shadow pairs show it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from gateway.configuration_file import read_config
from gateway.errors import GatewayError
from gateway.quality.report import Row, read_rows, reset
from gateway.settings import load_settings
from gateway.stores.base import Stores
from gateway.stores.open import open_stores
from policies.errors import ConfigurationError
from policies.shapes import Policy

REFUSED = 1  # the configuration or the store cannot be used
FALLEN_BACK = 3  # some policy is in audit because of its quality

quality = typer.Typer(invoke_without_command=True, help="Show what shortening does to answers.")

Config = Annotated[
    str, typer.Option("--config", metavar="FILE", help="terse.yaml; default as for `terse serve`.")
]


def register(app: typer.Typer) -> None:
    """Adds `quality` to the command line."""
    app.add_typer(quality, name="quality")


@quality.callback(epilog="Example: terse quality --config terse.yaml --json | jq '.[].quality'")
def show(
    context: typer.Context,
    config: Config = "",
    every: Annotated[
        bool, typer.Option("--all", help="Also policy versions that are no longer in the file.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print each measured policy's quality with its 95 % interval, and how answers change in length.

    Exit code 0: all in force; 1: the file or the store cannot be used; 3: a policy fell back to audit.
    """
    if context.invoked_subcommand is not None:
        return
    rows = _with_stores(config, lambda stores, policies: read_rows(stores.registry, policies, every=every))
    if as_json:
        typer.echo(json.dumps([row.as_data() for row in rows]))
    elif not rows:
        typer.echo("no policy has a holdout, a shadow share or min_quality")
    else:
        Console().print(_table(rows))
    if any(row.in_force and row.evidence.fallen_back_at for row in rows):
        raise typer.Exit(FALLEN_BACK)


@quality.command(name="reset", epilog="Example: terse quality reset rag --config terse.yaml")
def reset_command(
    policy: Annotated[str, typer.Argument(help="The policy's name.")],
    config: Config = "",
) -> None:
    """Forget the evidence on a policy: after a fall-back it is in force again within ten seconds."""
    count = _with_stores(config, lambda stores, _: reset(stores.registry, policy))
    typer.echo(f"{policy}: {count} record{'' if count == 1 else 's'} forgotten")


def _with_stores(path: str, work: Callable[[Stores, dict[str, Policy]], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        settings = load_settings()
        # The providers' keys are not needed to read the evidence.
        config = read_config(path or None, settings, secrets_needed=False).config
        stores = open_stores(settings, config)
        try:
            return await work(stores, dict(config.policies))
        finally:
            await stores.close()

    try:
        return asyncio.run(run())
    except (ConfigurationError, GatewayError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(REFUSED) from None


def _table(rows: list[Row]) -> Table:
    table = Table(
        "policy", "state", "quality [95 %]", "pairs", "same model twice", "output length", "requests"
    )
    for row in rows:
        said = row.as_data()
        found = row.evidence
        bound = f" (min {row.min_quality:g})" if row.min_quality is not None else ""
        since = f" since {found.fallen_back_at}" if found.fallen_back_at else ""
        table.add_row(
            row.policy + ("" if row.in_force else f" ({row.fingerprint})"),
            row.state + since,
            _shown(said["quality"]) + bound,
            ", ".join(f"{count} {kind}" for kind, count in found.kinds) or "0",
            _shown(said["agreement_of_originals"]),
            _change(said["output_length_ratio"]),
            f"{found.treated_requests} shortened, {found.holdout_requests} held out",
        )
    return table


def _shown(interval: dict[str, float] | None) -> str:
    if interval is None:
        return "-"
    return f"{interval['mean']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def _change(ratio: dict[str, float] | None) -> str:
    """A ratio of 1.08 as +8.0 %."""
    if ratio is None:
        return "-"
    mean, low, high = (100 * (ratio[key] - 1) for key in ("mean", "low", "high"))
    return f"{mean:+.1f} % [{low:+.1f}, {high:+.1f}]"
