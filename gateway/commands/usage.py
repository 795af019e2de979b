"""`terse usage`: what was spent and what was saved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from gateway.commands.admin_client import AsJson, ConfigFile, Url, ask, rows_table, show

TITLES = {"day": "DAY", "team": "TEAM", "key_id": "KEY", "model": "MODEL", "route": "ROUTE"}
FIGURES = {
    "REQUESTS": lambda row: f"{row['requests']:,}",
    "SHORTENED": lambda row: f"{row['compressed']:,}",
    "TOKENS BEFORE": lambda row: f"{row['tokens_before']:,}",
    "AFTER": lambda row: f"{row['tokens_after']:,}",
    "OUTPUT": lambda row: f"{row['output_tokens']:,}",
    "COST": lambda row: f"${row['cost_usd']:.4f}",
    "SAVED": lambda row: f"${row['saved_usd']:.4f}",
    "NET OF LONGER ANSWERS": lambda row: f"${row['net_saved_usd']:.4f}",
}


def register(app: typer.Typer) -> None:
    """Adds `usage` to the command line."""
    app.command(epilog="Example: terse usage --by team,model --days 30")(usage)


def usage(
    by: Annotated[
        str, typer.Option(help="Add up by some of day, team, model, key, route; separated by commas.")
    ] = "day,team,model",
    team: Annotated[str | None, typer.Option(help="Of this team alone.")] = None,
    days: Annotated[int, typer.Option(min=1, max=400, help="The last so many days, today included.")] = 7,
    since: Annotated[str, typer.Option(metavar="DATE", help="From this day (UTC); instead of --days.")] = "",
    until: Annotated[str, typer.Option(metavar="DATE", help="Up to this day, included.")] = "",
    url: Url = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the books: requests, tokens, cost, and what compression saved after everything it cost.

    Exit code 0: shown, be it nothing; 1: refused, or nobody answers.
    """
    group = ["key_id" if part.strip() == "key" else part.strip() for part in by.split(",")]
    first = _day(since, "--since") or f"{datetime.now(UTC) - timedelta(days=days - 1):%Y-%m-%d}"
    params: dict[str, Any] = {"by": ",".join(group), "since": first, "until": _day(until, "--until")}
    if team:
        params["team"] = team
    found = ask(url, config, "GET", "/usage", params=params)
    show(found, as_json, lambda data: _table(data["by"], data["rows"]))


def _table(by: list[str], rows: list[dict[str, Any]]) -> None:
    if not rows:
        typer.echo("Nothing was booked in this time.")
        return
    names = {TITLES[name]: (lambda row, name=name: str(row[name])[:24]) for name in by}
    total: dict[str, Any] = {name: "" for name in by}
    total[by[0]] = "TOTAL"
    for figure in ("requests", "compressed", "tokens_before", "tokens_after", "output_tokens"):
        total[figure] = sum(row[figure] for row in rows)
    for figure in ("cost_usd", "saved_usd", "net_saved_usd"):
        total[figure] = sum(row[figure] for row in rows)
    rows_table({**names, **FIGURES}, [*rows, total] if len(rows) > 1 else rows)


def _day(text: str, option: str) -> str:
    if not text:
        return ""
    try:
        return f"{datetime.strptime(text, '%Y-%m-%d'):%Y-%m-%d}"
    except ValueError:
        raise typer.BadParameter("expected a date such as 2026-11-22", param_hint=option) from None
