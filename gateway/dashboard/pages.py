"""GET /dashboard and what it asks for: figures from the books, the latest receipts, the policy editor.

The page itself holds nothing secret and needs no key; every figure needs the admin key or the read-only key,
or no key at all where the gateway runs without any.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from gateway.access.callers import key_of, same_secret
from gateway.configuration.explaining import Question, answer_as_text, explain
from gateway.configuration_file import parse_config
from gateway.dashboard.figures import Filters, answer_lengths, summarise
from gateway.errors import BadRequest, NotFound, Unauthorized
from gateway.quality.report import read_rows
from gateway.services import Services
from gateway.settings import read_environment
from gateway.stores.base import Account
from policies.errors import ConfigurationError, PolicyError

STATIC = Path(__file__).with_name("static")
FILES = frozenset(path.name for path in STATIC.iterdir())
LONGEST_CONFIGURATION = 1 << 20  # bytes; far above any terse.yaml
MOST_DAYS = 400  # what the books keep
_URL_SCHEMES = frozenset(
    {"http", "https", "redis", "rediss", "redis+sentinel", "rediss+sentinel", "valkey", "unix"}
)
LATEST = 200  # receipts behind the latency chart: enough to see a trend, small enough to send

# Scripts and styles come from this origin only, nothing is inline, nobody may frame the page.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


async def page(_request: Request) -> Response:
    """The page."""
    return FileResponse(STATIC / "index.html", headers=PAGE_HEADERS)


async def static_file(request: Request) -> Response:
    """A script, style or picture of the page. Raises NotFound for anything that is not shipped."""
    name = request.path_params["name"]
    if name not in FILES:
        raise NotFound(f"the dashboard has no file {name!r}")
    return FileResponse(STATIC / name, headers=PAGE_HEADERS)


async def summary(request: Request) -> Response:
    """Savings and spend over time, per team, route and model; budgets; quality."""
    services = _for_reader(request)
    query = request.query_params
    filters = Filters(query.get("team", ""), query.get("model", ""), query.get("route", ""))
    since = (datetime.now(UTC) - timedelta(days=_days(query.get("days", "7")) - 1)).date().isoformat()
    ledger = services.stores.ledger
    rows = await ledger.totals(since=since, by=("day", "team", "model", "route"))
    receipts = await ledger.recent(limit=LATEST)
    figures = summarise(rows, receipts, filters)
    # Lengths of answers are compared over the whole time: their intervals cannot be added up by day.
    whole = await ledger.totals(since=since, by=("team", "route", "model"))
    figures["answers"] = answer_lengths(whole, filters)
    return _json({**figures, "budgets": await _budgets(services), "quality": await _quality(services)})


async def recent(request: Request) -> Response:
    """The latest receipts, newest first; no prompt text, no key."""
    services = _for_reader(request)
    given = request.query_params.get("limit", "100")
    limit = min(1000, int(given)) if given.isascii() and given.isdigit() else 100
    return _json({"receipts": await services.stores.ledger.recent(limit=limit)})


async def policy(request: Request) -> Response:
    """The configuration file in force, with references to secrets instead of secrets (`env/NAME`)."""
    services = _for_reader(request)
    file = services.live.config.file
    text = await asyncio.to_thread(Path(file).read_text, encoding="utf-8") if file else ""
    return _json({"file": file, "text": text})


async def policy_check(request: Request) -> Response:
    """What is wrong with the text of a configuration, line by line."""
    services = _for_reader(request)
    text = (await _body(request))["text"]
    try:
        reading = parse_config(
            text, "terse.yaml", services.settings, environment=_placeholder, secrets_needed=False
        )
    except ConfigurationError as error:
        return _json({"ok": False, "lines": [str(problem) for problem in error.problems]})
    warnings = [f"warning: {warning}" for warning in reading.warnings]
    return _json({"ok": True, "lines": [*warnings, "ok: this configuration can be used"]})


async def policy_explain(request: Request) -> Response:
    """Which route of the text a request would take, and how much of it would be kept."""
    services = _for_reader(request)
    body = await _body(request)
    tokens = body.get("tokens")
    if not isinstance(tokens, int) or tokens < 0:
        raise BadRequest("tokens: expected a whole number of at least 0", param="tokens")
    question = Question(
        model=str(body.get("model", "")),
        team=str(body.get("team", "default")),
        path="/v1/chat/completions",
        tokens=tokens,
        at=datetime.now(UTC),
    )
    try:
        reading = parse_config(
            body["text"], "terse.yaml", services.settings, environment=_placeholder, secrets_needed=False
        )
        answer = explain(reading.config, question)
    except ConfigurationError as error:
        return _json({"ok": False, "lines": [str(problem) for problem in error.problems]})
    except PolicyError as error:
        return _json({"ok": False, "lines": [str(error)]})
    return _json({"ok": True, "lines": answer_as_text(answer, question).splitlines()})


def _for_reader(request: Request) -> Services:
    services: Services = request.state.services
    settings = services.settings
    if services.live.callers.is_anonymous:
        return services
    given = key_of(request.headers)
    if not (same_secret(given, settings.master_key) or same_secret(given, settings.readonly_key)):
        raise Unauthorized("the dashboard needs the admin key or the read-only key")
    return services


async def _budgets(services: Services) -> list[dict[str, object]]:
    accounts = [
        Account(f"team:{team.name}", team.budgets)
        for team in services.live.config.teams.values()
        if team.budgets
    ]
    if not accounts:
        return []
    shares = (await services.stores.ledger.spent(accounts)).shares
    return [{"account": account.id, "share": shares.get(account.id, 0.0)} for account in accounts]


async def _quality(services: Services) -> list[dict[str, Any]]:
    rows = await read_rows(services.stores.registry, services.live.config.policies)
    return [row.as_data() for row in rows]


def _placeholder(name: str) -> str:
    """The editor's text may name any variable of the process: its value must not come back in a message.

    What stands for it is a URL of the same kind where it is one: configurations say what kind they need.
    """
    scheme, is_url, _ = (read_environment(name) or "").partition("://")
    if not is_url or scheme not in _URL_SCHEMES:
        return "set"
    return "unix:///set" if scheme == "unix" else f"{scheme}://set"


async def _body(request: Request) -> dict[str, Any]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_CONFIGURATION:
            raise BadRequest(f"a configuration of over {LONGEST_CONFIGURATION} bytes is not checked here")
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is no JSON: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("text"), str):
        raise BadRequest("expected a JSON object with the field text", param="text")
    return data


def _days(given: str) -> int:
    if not (given.isascii() and given.isdigit() and 1 <= int(given) <= MOST_DAYS):
        raise BadRequest(f"days: expected a whole number from 1 to {MOST_DAYS}", param="days")
    return int(given)


def _json(data: object) -> Response:
    return Response(orjson.dumps(data), media_type="application/json", headers={"cache-control": "no-store"})


routes = [
    Route("/dashboard", page),
    Route("/dashboard/static/{name}", static_file),
    Route("/dashboard/data/summary", summary),
    Route("/dashboard/data/recent", recent),
    Route("/dashboard/data/policy", policy),
    Route("/dashboard/data/policy/check", policy_check, methods=["POST"]),
    Route("/dashboard/data/policy/explain", policy_explain, methods=["POST"]),
]
