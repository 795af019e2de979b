"""`terse teams create | list | info | update | block | unblock | delete`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from gateway.commands.admin_client import AsJson, ConfigFile, Url, ask, rows_table, show
from gateway.commands.keys import BudgetUsd, Model, Parallel, Per, Rpm, Tpm, budget_text, limits_text

teams = typer.Typer(
    no_args_is_help=True,
    help="Make, change and remove the teams that pay.",
    epilog="Example: terse teams create search --budget 200 --per 30d",
)

Name = Annotated[str, typer.Argument(metavar="TEAM", help="The team's name.")]
Pressure = Annotated[
    list[str] | None,
    typer.Option(metavar="SPENT=KEEP", help="Once 0.8 is spent keep at most 0.4: 0.8=0.4; repeatable."),
]


def register(app: typer.Typer) -> None:
    """Adds `teams` to the command line."""
    app.add_typer(teams, name="teams")


@teams.command(epilog="Example: terse teams create search --budget 200 --per 30d --pressure 0.8=0.4")
def create(
    team: Name,
    model: Model = None,
    budget: BudgetUsd = None,
    per: Per = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    parallel: Parallel = None,
    pressure: Pressure = None,
    url: Url = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a team. Teams of terse.yaml need not be made."""
    body = _body(model, budget, per, rpm, tpm, parallel, pressure)
    made = ask(url, config, "POST", "/team/new", json={**body, "team_id": team})
    show(made, as_json, lambda row: rows_table(COLUMNS, [row]))


@teams.command(name="list", epilog="Example: terse teams list --json")
def list_command(url: Url = "", config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List teams: those of terse.yaml and those made here."""
    show(ask(url, config, "GET", "/team/list"), as_json, lambda rows: rows_table(COLUMNS, rows))


@teams.command(epilog="Example: terse teams info search")
def info(team: Name, url: Url = "", config: ConfigFile = None) -> None:
    """Everything about one team and its keys, as JSON."""
    found = ask(url, config, "GET", "/team/info", params={"team_id": team})
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False))


@teams.command(epilog="Example: terse teams update search --budget 300 --per 30d")
def update(
    team: Name,
    model: Model = None,
    budget: BudgetUsd = None,
    per: Per = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    parallel: Parallel = None,
    pressure: Pressure = None,
    version: Annotated[
        int | None, typer.Option(help="Change it only if it is still at this version.")
    ] = None,
    url: Url = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Change what is named; the rest stays."""
    body = _body(model, budget, per, rpm, tpm, parallel, pressure)
    if version is not None:
        body["version"] = version
    changed = ask(url, config, "POST", "/team/update", json={**body, "team_id": team})
    show(changed, as_json, lambda row: rows_table(COLUMNS, [row]))


@teams.command(epilog="Example: terse teams block search")
def block(team: Name, url: Url = "", config: ConfigFile = None) -> None:
    """Refuse all keys of the team; other gateways notice within five seconds."""
    ask(url, config, "POST", "/team/block", json={"team_id": team})


@teams.command(epilog="Example: terse teams unblock search")
def unblock(team: Name, url: Url = "", config: ConfigFile = None) -> None:
    """Accept the team's keys again."""
    ask(url, config, "POST", "/team/unblock", json={"team_id": team})


@teams.command(epilog="Example: terse teams delete search --yes")
def delete(
    team: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = "",
    config: ConfigFile = None,
) -> None:
    """Remove the team; its keys stop working."""
    if not yes:
        typer.confirm(f"Delete team {team}?", abort=True)
    ask(url, config, "POST", "/team/delete", json={"team_ids": [team]})


COLUMNS = {
    "TEAM": lambda row: row["team_id"],
    "FROM": lambda row: "terse.yaml" if row["static"] else "store",
    "SPENT": lambda row: f"${row['spend']:.4f}",
    "BUDGET": budget_text,
    "LIMITS": limits_text,
    "PRESSURE": lambda row: ", ".join(f"{step['spent']:g}={step['keep']:g}" for step in row["pressure"]),
    "MODELS": lambda row: ", ".join(row["models"]) or "all",
    "STATE": lambda row: "blocked" if row["blocked"] else "active",
}


def _body(
    models: list[str] | None,
    budget: float | None,
    per: str | None,
    rpm: int | None,
    tpm: int | None,
    parallel: int | None,
    pressure: list[str] | None,
) -> dict[str, Any]:
    named = {
        "models": models or None,
        "max_budget": budget,
        "budget_duration": per,
        "rpm_limit": rpm,
        "tpm_limit": tpm,
        "max_parallel_requests": parallel,
        "pressure": [_step(text) for text in pressure] if pressure else None,
    }
    return {field: value for field, value in named.items() if value is not None}


def _step(text: str) -> dict[str, float]:
    spent, _, keep = text.partition("=")
    try:
        return {"spent": float(spent), "keep": float(keep)}
    except ValueError:
        raise typer.BadParameter(f"expected 0.8=0.4, got {text!r}", param_hint="--pressure") from None
