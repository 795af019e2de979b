"""The admin API in LiteLLM's shapes. The master key may do everything, the read-only key may look.

POST /key/{generate,update,delete,block,unblock,regenerate}   GET /key/info /key/list
POST /team/{new,update,delete,block,unblock}                  GET /team/info /team/list
POST /registry/import                                         GET /registry/export /spend/logs /usage
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.access.administration import Administration
from gateway.access.bodies import KeyBody, TeamBody, checked
from gateway.access.callers import key_id_of, key_of, same_secret
from gateway.errors import BadRequest, Forbidden, NotFound, Unauthorized
from gateway.stores.books import DEFAULT_GROUP, Row

if TYPE_CHECKING:
    from gateway.services import Services

Handler = Callable[[Administration, Request], Awaitable[Any]]
MOST_LOGS: Final = 10_000
PAGE: Final = 100
LONGEST_BODY: Final = 64 * 1024 * 1024  # an import of some 100,000 keys


def administration(request: Request) -> Administration:
    """The work behind this API, on the stores and the configuration of this moment."""
    services: Services = request.state.services
    live = services.live
    return Administration(live.config, services.stores, live.callers.forget)


def check_reader(request: Request) -> None:
    """Raises Unauthorized or Forbidden unless the master key or the read-only key was given."""
    services: Services = request.state.services
    if not same_secret(key_of(request.headers), services.settings.readonly_key):
        check_master(request)


def check_master(request: Request) -> None:
    """Raises Unauthorized or Forbidden unless the master key was given."""
    services: Services = request.state.services
    if services.settings.master_key is None:
        raise Forbidden("The admin API is off: set TERSE_MASTER_KEY.", code="admin_disabled")
    key = key_of(request.headers)
    if not key:
        raise Unauthorized("This needs the master key.", code="missing_api_key")
    if not same_secret(key, services.settings.master_key):
        raise Forbidden("This needs the master key.", code="not_master_key")


def reads(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """For whoever may look."""

    async def endpoint(request: Request) -> Response:
        check_reader(request)
        return _json(await handler(administration(request), request))

    return endpoint


def changes(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """For the master key alone."""

    async def endpoint(request: Request) -> Response:
        check_master(request)
        return _json(await handler(administration(request), request))

    return endpoint


# ---- keys


async def generate_key(admin: Administration, request: Request) -> Any:
    """A new key, shown this once."""
    return await admin.generate(checked(KeyBody, await _body(request)))


async def key_info(request: Request) -> Response:
    """One key. A key may look at itself."""
    admin, own = administration(request), key_of(request.headers)
    asked = request.query_params.get("key") or own
    try:
        check_reader(request)
    except Forbidden:
        try:
            info = await admin.key_info(key_id_of(own))
        except NotFound:
            raise Unauthorized("This key is not known.") from None
        if asked not in (own, info["token"]):
            raise
        return _json({"key": info["token"], "info": info})
    info = await admin.key_info(asked)
    return _json({"key": info["token"], "info": info})


async def list_keys(admin: Administration, request: Request) -> Any:
    """Hashes, or whole objects with `return_full_object=true`; a page at a time."""
    keys = await admin.list_keys(request.query_params.get("team_id"))
    size = _number(request, "size", PAGE, 1, MOST_LOGS)
    page = _number(request, "page", 1, 1, 1_000_000)
    shown = keys[(page - 1) * size : page * size]
    whole = request.query_params.get("return_full_object", "").lower() == "true"
    return {
        "keys": shown if whole else [key["token"] for key in shown],
        "total_count": len(keys),
        "current_page": page,
        "total_pages": -(-len(keys) // size),
    }


async def update_key(admin: Administration, request: Request) -> Any:
    """Changes what the body says."""
    body = await _key_body(request)
    return await admin.update_key(body.key or "", body)


async def delete_keys(admin: Administration, request: Request) -> Any:
    """`{"keys": [...]}` or `{"key_aliases": [...]}`. All that are found are deleted, or none is known."""
    body = await _body(request)
    names = _names(body, "keys") + _names(body, "key_aliases")
    if not names:
        raise BadRequest("which keys? give `keys` or `key_aliases`", param="keys")
    infos = [await admin.key_info(name) for name in names]
    return {"deleted_keys": [await admin.delete_key(info["token"]) for info in infos]}


def set_key_blocked(blocked: bool) -> Handler:
    """`{"key": ...}`"""

    async def handler(admin: Administration, request: Request) -> Any:
        key = (await _key_body(request)).key or ""
        return await admin.update_key(key, checked(KeyBody, {"blocked": blocked}))

    return handler


async def regenerate_key(admin: Administration, request: Request) -> Any:
    """A new key in the old one's place."""
    named = request.path_params.get("key")
    body = checked(KeyBody, await _body(request)) if named else await _key_body(request)
    return await admin.regenerate(named or body.key or "", body)


# ---- teams


async def new_team(admin: Administration, request: Request) -> Any:
    """A new team."""
    return await admin.new_team(checked(TeamBody, await _body(request)))


async def team_info(admin: Administration, request: Request) -> Any:
    """A team and its keys."""
    name = request.query_params.get("team_id", "")
    return {
        "team_id": name,
        "team_info": await admin.team_info(name),
        "keys": await admin.list_keys(name),
    }


async def list_teams(admin: Administration, request: Request) -> Any:
    """All teams."""
    return await admin.list_teams()


async def update_team(admin: Administration, request: Request) -> Any:
    """Changes what the body says."""
    body = checked(TeamBody, await _body(request))
    return await admin.update_team(body.team_id or "", body)


async def delete_teams(admin: Administration, request: Request) -> Any:
    """`{"team_ids": [...]}`"""
    names = _names(await _body(request), "team_ids")
    if not names:
        raise BadRequest("which teams? give `team_ids`", param="team_ids")
    return {"deleted_teams": [await admin.delete_team(name) for name in names]}


def set_team_blocked(blocked: bool) -> Handler:
    """`{"team_id": ...}`"""

    async def handler(admin: Administration, request: Request) -> Any:
        body = checked(TeamBody, await _body(request))
        return await admin.update_team(body.team_id or "", checked(TeamBody, {"blocked": blocked}))

    return handler


# ---- spending


async def spend_logs(admin: Administration, request: Request) -> Any:
    """The latest receipts; with `start_date` or `end_date` a sum a day, unless `summarize=false`."""
    asked = request.query_params
    team, key = asked.get("team_id"), asked.get("api_key")
    since, until = asked.get("start_date", ""), asked.get("end_date", "")
    if (since or until) and asked.get("summarize", "true").lower() != "false":
        rows = await admin.stores.ledger.totals(
            team=team, since=since[:10], until=until[:10], by=("day", "team", "model", "key_id")
        )
        by_team = await admin.stores.ledger.totals(
            team=team, since=since[:10], until=until[:10], by=("day", "team")
        )
        return _days(rows, by_team)
    entries = await admin.stores.ledger.recent(team=team, limit=_number(request, "limit", 100, 1, MOST_LOGS))
    hashes = {key, key_id_of(key)} if key else set()
    return [
        _log(entry)
        for entry in entries
        if (not key or entry.get("key_id") in hashes) and _within(str(entry.get("at", "")), since, until)
    ]


async def usage(admin: Administration, request: Request) -> Any:
    """The books: sums by `by=day,team,model,key_id,route`, from `since` to `until` (dates, both included)."""
    asked = request.query_params
    by = tuple(part.strip() for part in asked.get("by", ",".join(DEFAULT_GROUP)).split(",") if part.strip())
    try:
        rows = await admin.stores.ledger.totals(
            team=asked.get("team"), since=asked.get("since", ""), until=asked.get("until", ""), by=by
        )
    except ValueError as error:
        raise BadRequest(str(error), param="by") from None
    return {"by": list(by), "rows": rows}


async def export_registry(admin: Administration, request: Request) -> Any:
    """Every stored key (as its hash) and team."""
    return await admin.export()


async def import_registry(admin: Administration, request: Request) -> Any:
    """Takes an export over; `?replace=true` overwrites what is there."""
    replace = request.query_params.get("replace", "").lower() == "true"
    return await admin.restore(await _body(request), replace_known=replace)


# ---- the parts


def _json(data: Any) -> Response:
    return Response(orjson.dumps(data), media_type="application/json", headers={"cache-control": "no-store"})


async def _body(request: Request) -> dict[str, Any]:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > LONGEST_BODY:
            raise BadRequest(f"the body is over {LONGEST_BODY} bytes")
        chunks.append(chunk)
    text = b"".join(chunks)
    try:
        data = orjson.loads(text) if text.strip() else {}
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadRequest("the body must be a JSON object")
    return data


async def _key_body(request: Request) -> KeyBody:
    """A body whose `key` names a stored key: the key itself, its hash or its alias."""
    body = await _body(request)
    key = body.pop("key", None)
    if not isinstance(key, str) or not key:
        raise BadRequest("which key? give `key`: the key itself, its hash or its alias", param="key")
    return checked(KeyBody, body).model_copy(update={"key": key})


def _names(body: dict[str, Any], field: str) -> list[str]:
    names = body.get(field) or []
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise BadRequest(f"{field}: expected a list of names", param=field)
    return names


def _number(request: Request, name: str, default: int, least: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    try:
        number = int(text)
    except ValueError:
        raise BadRequest(f"{name}: expected a whole number, got {text!r}", param=name) from None
    if not least <= number <= most:
        raise BadRequest(f"{name}: expected a number from {least} to {most}, got {number}", param=name)
    return number


def _within(at: str, since: str, until: str) -> bool:
    return at[:10] >= since[:10] and (not until or at[:10] <= until[:10])


def _days(rows: list[Row], by_team: list[Row]) -> list[dict[str, Any]]:
    """LiteLLM's summary, spend by model and key for each day; and beside it what Terse saved, by team."""
    days: dict[str, dict[str, Any]] = {}
    teams: dict[str, dict[str, Any]] = {}
    for row in by_team:
        figures = {name: figure for name, figure in row.items() if name not in ("day", "team")}
        teams.setdefault(str(row["day"]), {})[str(row["team"])] = figures
    for row in rows:
        day = days.setdefault(
            str(row["day"]),
            {
                "startTime": row["day"],
                "spend": 0.0,
                "models": {},
                "api_keys": {},
                "users": {},
                "teams": teams.get(str(row["day"]), {}),
            },
        )
        cost = float(row["cost_usd"])
        day["spend"] = round(day["spend"] + cost, 6)
        for side, name in (("models", str(row["model"])), ("api_keys", str(row["key_id"]))):
            day[side][name] = round(day[side].get(name, 0.0) + cost, 6)
    return list(days.values())


def _log(entry: Row) -> dict[str, Any]:
    """One receipt with LiteLLM's names beside Terse's own."""
    tokens_in, tokens_out = int(entry.get("input_tokens", 0)), int(entry.get("output_tokens", 0))
    return {
        "request_id": entry.get("request_id"),
        "api_key": entry.get("key_id"),
        "team_id": entry.get("team"),
        "model": entry.get("model"),
        "call_type": entry.get("surface"),
        "spend": entry.get("cost_usd", 0.0),
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
        "startTime": entry.get("at"),
        "metadata": dict(entry),
    }


routes: list[Route] = [
    Route("/key/generate", changes(generate_key), methods=["POST"]),
    Route("/key/info", key_info, methods=["GET"]),
    Route("/key/list", reads(list_keys), methods=["GET"]),
    Route("/key/update", changes(update_key), methods=["POST"]),
    Route("/key/delete", changes(delete_keys), methods=["POST"]),
    Route("/key/block", changes(set_key_blocked(True)), methods=["POST"]),
    Route("/key/unblock", changes(set_key_blocked(False)), methods=["POST"]),
    Route("/key/regenerate", changes(regenerate_key), methods=["POST"]),
    Route("/key/{key}/regenerate", changes(regenerate_key), methods=["POST"]),
    Route("/team/new", changes(new_team), methods=["POST"]),
    Route("/team/info", reads(team_info), methods=["GET"]),
    Route("/team/list", reads(list_teams), methods=["GET"]),
    Route("/team/update", changes(update_team), methods=["POST"]),
    Route("/team/delete", changes(delete_teams), methods=["POST"]),
    Route("/team/block", changes(set_team_blocked(True)), methods=["POST"]),
    Route("/team/unblock", changes(set_team_blocked(False)), methods=["POST"]),
    Route("/spend/logs", reads(spend_logs), methods=["GET"]),
    Route("/usage", reads(usage), methods=["GET"]),
    Route("/registry/export", changes(export_registry), methods=["GET"]),
    Route("/registry/import", changes(import_registry), methods=["POST"]),
]
