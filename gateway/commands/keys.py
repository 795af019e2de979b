"""`terse keys create | list | info | update | block | unblock | delete | regenerate | export | import`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.commands.admin_client import AsJson, ConfigFile, Url, ask, note_if_open, rows_table, show, stop

keys = typer.Typer(
    no_args_is_help=True,
    help="Make, change and remove the keys that clients use.",
    epilog="Example: terse keys create --team search --budget 20 --per 30d",
)

Key = Annotated[str, typer.Argument(metavar="KEY", help="The key itself, its hash or its alias.")]
Alias = Annotated[str | None, typer.Option(help="A name to recognise the key by.")]
Model = Annotated[
    list[str] | None, typer.Option("--model", help="A model it may use, or a glob; repeatable.")
]
BudgetUsd = Annotated[float | None, typer.Option("--budget", help="USD it may spend.")]
Per = Annotated[str | None, typer.Option("--per", help="...per 1m, 1h, 1d, 7d or 30d; without it, in all.")]
Rpm = Annotated[int | None, typer.Option("--rpm", help="Requests per minute.")]
Tpm = Annotated[int | None, typer.Option("--tpm", help="Tokens per minute.")]
Parallel = Annotated[int | None, typer.Option("--parallel", help="Requests at the same time.")]
Lasts = Annotated[str | None, typer.Option("--expires-in", help="30m, 12h, 30d; -1 for never.")]
Override = Annotated[
    bool | None,
    typer.Option("--may-override/--may-not-override", help="May x-terse-compress change anything."),
]
Team = Annotated[str | None, typer.Option(help="The team that pays.")]


def register(app: typer.Typer) -> None:
    """Adds `keys` to the command line."""
    app.add_typer(keys, name="keys")


@keys.command(epilog='Example: terse keys create --team search --budget 20 --per 30d --model "gpt-*"')
def create(
    team: Team = None,
    alias: Alias = None,
    model: Model = None,
    budget: BudgetUsd = None,
    per: Per = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    parallel: Parallel = None,
    expires_in: Lasts = None,
    may_override: Override = None,
    url: Url = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is shown this once; only its hash is stored."""
    body = _body(team, alias, model, budget, per, rpm, tpm, parallel, expires_in, may_override)
    made = ask(url, config, "POST", "/key/generate", json=body)
    if not url:
        note_if_open(config)
    show(made, as_json, lambda data: typer.echo(data["key"]))


@keys.command(name="list", epilog="Example: terse keys list --team search --json")
def list_command(
    team: Team = None, url: Url = "", config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """List keys, by their hashes."""
    params = {"size": "10000", "return_full_object": "true", **({"team_id": team} if team else {})}
    found = ask(url, config, "GET", "/key/list", params=params)["keys"]
    show(found, as_json, lambda rows: rows_table(COLUMNS, rows))


@keys.command(epilog="Example: terse keys info ci-bot")
def info(key: Key, url: Url = "", config: ConfigFile = None) -> None:
    """Everything about one key, as JSON."""
    found = ask(url, config, "GET", "/key/info", params={"key": key})
    typer.echo(json.dumps(found["info"], indent=2, ensure_ascii=False))


@keys.command(epilog="Example: terse keys update ci-bot --budget 50 --per 30d --may-not-override")
def update(
    key: Key,
    team: Team = None,
    alias: Alias = None,
    model: Model = None,
    budget: BudgetUsd = None,
    per: Per = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    parallel: Parallel = None,
    expires_in: Lasts = None,
    may_override: Override = None,
    version: Annotated[
        int | None, typer.Option(help="Change it only if it is still at this version.")
    ] = None,
    url: Url = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Change what is named; the rest stays."""
    body = _body(team, alias, model, budget, per, rpm, tpm, parallel, expires_in, may_override)
    if version is not None:
        body["version"] = version
    changed = ask(url, config, "POST", "/key/update", json={**body, "key": key})
    show(changed, as_json, lambda row: rows_table(COLUMNS, [row]))


@keys.command(epilog="Example: terse keys block ci-bot")
def block(key: Key, url: Url = "", config: ConfigFile = None) -> None:
    """Refuse the key from now on; other gateways notice within five seconds."""
    ask(url, config, "POST", "/key/block", json={"key": key})


@keys.command(epilog="Example: terse keys unblock ci-bot")
def unblock(key: Key, url: Url = "", config: ConfigFile = None) -> None:
    """Accept the key again."""
    ask(url, config, "POST", "/key/unblock", json={"key": key})


@keys.command(epilog="Example: terse keys delete ci-bot --yes")
def delete(
    key: Key,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = "",
    config: ConfigFile = None,
) -> None:
    """Remove the key for good."""
    if not yes:
        typer.confirm(f"Delete {key}?", abort=True)
    ask(url, config, "POST", "/key/delete", json={"keys": [key]})


@keys.command(epilog="Example: terse keys regenerate ci-bot")
def regenerate(key: Key, url: Url = "", config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Put a new key in the old one's place: same settings, same budget. It is shown this once."""
    made = ask(url, config, "POST", "/key/regenerate", json={"key": key})
    show(made, as_json, lambda data: typer.echo(data["key"]))


@keys.command(epilog="Example: terse keys export backup.json")
def export(
    file: Annotated[Path, typer.Argument(help="Where to; - for standard output.")],
    url: Url = "",
    config: ConfigFile = None,
) -> None:
    """Write all stored keys (their hashes) and teams into a file."""
    text = json.dumps(ask(url, config, "GET", "/registry/export"), indent=1)
    if str(file) == "-":
        typer.echo(text)
        return
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)


@keys.command(name="import", epilog="Example: terse keys import backup.json")
def import_command(
    file: Annotated[Path, typer.Argument(help="What `terse keys export` wrote.", exists=True)],
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite what is there.")] = False,
    url: Url = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Take keys and teams over from a file; what is there already stays."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        stop(f"{file}: {error}")
    params = {"replace": "true"} if replace else {}
    counts = ask(url, config, "POST", "/registry/import", params=params, json=data)
    show(counts, as_json, lambda n: typer.echo(f"{n['teams']} teams and {n['keys']} keys, {n['kept']} kept"))


def budget_text(row: Mapping[str, Any]) -> str:
    """`$20/month`, `5000 tok/day~`; `~` is a sliding window."""
    parts = []
    for budget in row["budgets"]:
        ending = f"/{budget['per']}{'~' if budget['sliding'] else ''}"
        if budget["usd"] is not None:
            parts.append(f"${budget['usd']:g}{ending}")
        if budget["tokens"] is not None:
            parts.append(f"{budget['tokens']} tok{ending}")
    return ", ".join(parts)


def limits_text(row: Mapping[str, Any]) -> str:
    """`600 rpm, 400000 tpm, 50 at once`"""
    named = (("rpm_limit", "rpm"), ("tpm_limit", "tpm"), ("max_parallel_requests", "at once"))
    return ", ".join(f"{row[field]} {unit}" for field, unit in named if row[field] is not None)


COLUMNS = {
    "KEY": lambda row: row["token"][:12],
    "NAME": lambda row: row["key_name"],
    "ALIAS": lambda row: row["key_alias"] or "",
    "TEAM": lambda row: row["team_id"],
    "SPENT": lambda row: f"${row['spend']:.4f}",
    "BUDGET": budget_text,
    "LIMITS": limits_text,
    "MODELS": lambda row: ", ".join(row["models"]) or "all",
    "EXPIRES": lambda row: row["expires"] or "never",
    "STATE": lambda row: "blocked" if row["blocked"] else "active",
}


def _body(
    team: str | None,
    alias: str | None,
    models: list[str] | None,
    budget: float | None,
    per: str | None,
    rpm: int | None,
    tpm: int | None,
    parallel: int | None,
    expires_in: str | None,
    may_override: bool | None,
) -> dict[str, Any]:
    named = {
        "team_id": team,
        "key_alias": alias,
        "models": models or None,
        "max_budget": budget,
        "budget_duration": per,
        "rpm_limit": rpm,
        "tpm_limit": tpm,
        "max_parallel_requests": parallel,
        "duration": expires_in,
        "may_override": may_override,
    }
    return {field: value for field, value in named.items() if value is not None}
