"""How `terse keys`, `terse teams` and `terse usage` work: by the admin API, of a running gateway or in here.

Without `--url` the same handlers run in this process, on the store that the configuration names; so a command
does the same to either.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, NoReturn

import httpx
import typer

from gateway.config import Config, Secret
from gateway.configuration_file import load_config
from gateway.settings import Settings, load_settings
from gateway.stores.base import Stores
from policies.errors import ConfigurationError

FAILED = 1  # exit code: refused, not found, or nobody answers (2 is typer's: the command line is wrong)

Url = Annotated[
    str,
    typer.Option(
        "--url", help="A running gateway, asked with TERSE_MASTER_KEY; without it the store itself is opened."
    ),
]
ConfigFile = Annotated[
    str | None, typer.Option("--config", help="The configuration; as for `terse serve`. Not used with --url.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True, slots=True)
class _Callers:
    """Stands in for the callers of a gateway: nothing is remembered, so nothing has to be forgotten."""

    def forget(self, key_id: str | None = None) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class _Live:
    """What the admin API reads of a gateway's configuration."""

    config: Config
    callers: _Callers = _Callers()


@dataclass(frozen=True, slots=True)
class _Services:
    """What the admin API reads of a gateway."""

    settings: Settings
    stores: Stores
    live: _Live


def ask(url: str, config: str | None, method: str, path: str, **call: Any) -> Any:
    """The JSON that the admin API answers. Ends the command with exit code 1 and the reason otherwise.

    `call` takes `params` and `json`, as httpx does.
    """
    settings = load_settings()
    try:
        if url:
            return _answer(_ask_gateway(url, settings, method, path, call))
        return _answer(asyncio.run(_ask_store(settings, config, method, path, call)))
    except (ConfigurationError, ValueError, OSError) as error:
        stop(str(error))
    except httpx.HTTPError as error:
        stop(f"{url}: no gateway answers there: {error}")


def note_if_open(config: str | None) -> None:
    """Says so when a gateway with this configuration would ask nobody for a key."""
    settings = load_settings()
    if settings.master_key is None and not load_config(config, settings).teams:
        typer.echo(
            "note: keys are asked for once TERSE_MASTER_KEY is set or terse.yaml has teams; until then "
            "everybody is team `default`",
            err=True,
        )


def stop(message: str) -> NoReturn:
    """Says why and ends the command."""
    typer.echo(message, err=True)
    raise typer.Exit(FAILED)


def show(data: Any, as_json: bool, table: Callable[[Any], None]) -> None:
    """Prints JSON or a table."""
    if as_json:
        typer.echo(json.dumps(data, ensure_ascii=False))
    else:
        table(data)


def rows_table(columns: Mapping[str, Callable[[Mapping[str, Any]], str]], rows: list[dict[str, Any]]) -> None:
    """A table on standard output; numbers to the right. In a pipe it is as wide as it has to be."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    shown = [{name: cell(row) for name, cell in columns.items()} for row in rows]
    for name in columns:
        numeric = all(line[name][:1] in "0123456789-$" for line in shown if line[name])
        table.add_column(name, justify="right" if numeric and shown else "left", no_wrap=True)
    for line in shown:
        table.add_row(*line.values())
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=400)
    console.print(table)


def _ask_gateway(
    url: str, settings: Settings, method: str, path: str, call: Mapping[str, Any]
) -> httpx.Response:
    if settings.master_key is None:
        raise ValueError("set TERSE_MASTER_KEY to the gateway's master key")
    headers = {"authorization": f"Bearer {settings.master_key.reveal()}"}
    return httpx.request(method, url.rstrip("/") + path, headers=headers, timeout=30.0, **call)


async def _ask_store(
    settings: Settings, config: str | None, method: str, path: str, call: Mapping[str, Any]
) -> httpx.Response:
    import sqlite3

    from starlette.applications import Starlette

    from gateway.api import admin
    from gateway.api.error_response import error_response
    from gateway.errors import GatewayError
    from gateway.stores.open import open_stores

    loaded = load_config(config, settings)
    # Whoever can open the store needs no key.
    own = Secret("in-process")
    try:
        stores = open_stores(settings, loaded)
    except sqlite3.Error as error:
        raise OSError(str(error)) from None
    services = _Services(replace(settings, master_key=own), stores, _Live(loaded))
    app = Starlette(routes=admin.routes, exception_handlers={GatewayError: error_response})

    async def with_services(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": {"services": services}}, receive, send)

    transport = httpx.ASGITransport(app=with_services)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://store") as client:
            headers = {"authorization": f"Bearer {own.reveal()}"}
            return await client.request(method, path, headers=headers, **call)
    finally:
        await stores.close()


def _answer(response: httpx.Response) -> Any:
    if response.is_success:
        return response.json()
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = response.text[:200]
    raise ValueError(f"{response.status_code}: {message}")
