"""`terse serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.configuration_file import load_config
from gateway.settings import load_settings
from policies.errors import ConfigurationError

REFUSED = 1


def register(app: typer.Typer) -> None:
    """Adds `serve` to the command line."""
    app.command(epilog="Example: terse serve --config terse.yaml --port 4000 --workers 2")(serve)


def serve(
    config: Annotated[
        str | None,
        typer.Option(help="The configuration; without it TERSE_CONFIG, ./terse.yaml, or defaults."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 4000,
    workers: Annotated[
        int, typer.Option(min=1, help="Gateway processes; above 1 they share one encoder.")
    ] = 1,
    drain: Annotated[int, typer.Option(min=1, help="Seconds running requests get after SIGTERM.")] = 60,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond this machine although no key is configured.")
    ] = False,
) -> None:
    """Run the gateway until SIGTERM; SIGHUP reads the configuration again.

    Exit code 0: ended as asked; 1: the configuration is refused; 2: the command line is.
    """
    from gateway.recovery.vault import with_key
    from gateway.serving import ServeOptions, is_loopback
    from gateway.serving import serve as run

    try:
        settings = with_key(load_settings())
        loaded = load_config(config, settings)
    except (ConfigurationError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(REFUSED) from None
    if not (loaded.teams or settings.master_key):
        if not is_loopback(host) and not insecure:
            raise typer.BadParameter(
                f"without teams and TERSE_MASTER_KEY anybody who reaches {host} could spend your money; "
                "configure them, or add --insecure",
                param_hint="--host",
            )
        typer.echo("warning: no keys are configured: every bearer key is team `default`", err=True)
    if workers > 1 and not (loaded.store or settings.redis_url):
        typer.echo(
            "warning: without REDIS_URL each worker has a cache, limits and rates of its own", err=True
        )
    typer.echo(f"Terse listens on http://{host}:{port}", err=True)
    run(loaded, settings, ServeOptions(host=host, port=port, workers=workers, drain_seconds=drain))
