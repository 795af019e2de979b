"""GET /openapi.json: what Terse's paths take and say, as far as Terse itself checks and writes it.

Bodies of OpenAI's and Anthropic's APIs are described loosely: what is not named is the upstream's to judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import orjson
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.access.bodies import KeyBody, TeamBody
from gateway.errors import (
    BadRequest,
    BodyTooLarge,
    Conflict,
    Forbidden,
    GatewayError,
    InternalError,
    NotFound,
    RateLimited,
    Unauthorized,
    Unavailable,
    UpstreamBroke,
    UpstreamTimeout,
)

Json = dict[str, Any]
Failures = Sequence[type[GatewayError]]

_REF = "#/components/schemas/"
_ANY: Json = {"type": "object"}
_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_KEY_NEEDED: Failures = (Unauthorized, Forbidden, Unavailable, InternalError)
_READ: Failures = (BadRequest, BodyTooLarge)
_SURFACE: Failures = (*_READ, *_KEY_NEEDED, NotFound, RateLimited, UpstreamBroke, UpstreamTimeout)
_COMPRESS: Failures = (*_READ, *_KEY_NEEDED, NotFound, RateLimited)
_ADMIN: Failures = (BadRequest, *_KEY_NEEDED, NotFound, Conflict)
_DATE: Json = {"type": "string", "description": "YYYY-MM-DD"}


@lru_cache(maxsize=1)
def document() -> Json:
    """The OpenAPI 3.1 document, the same for every configuration."""
    try:
        release = version("terse-gateway")
    except PackageNotFoundError:  # run from a folder that was never installed
        release = "0"
    return {
        "openapi": "3.1.0",
        "info": {"title": "Terse", "version": release, "license": {"name": "Apache-2.0"}},
        "security": [{"bearer": []}, {"x-api-key": []}],
        "paths": {
            **_surfaces(),
            **_compression(),
            **_reading(),
            **_keys(),
            **_teams(),
            **_books(),
            **_public(),
        },
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


async def openapi(_request: Request) -> Response:
    """The document; needs no key."""
    return Response(_encoded(), media_type="application/json")


@lru_cache(maxsize=1)
def _encoded() -> bytes:
    return orjson.dumps(document())


# ---- paths


def _surfaces() -> Json:
    """OpenAI's and Anthropic's APIs. An upstream's own error keeps its status and its body: `default`."""

    def surface(summary: str, body: str, errors: str = "Error", *, streams: bool = True) -> Json:
        operation = _post(summary, _ref(body), _SURFACE, error=errors)
        if streams:
            operation["responses"]["200"]["content"]["text/event-stream"] = {}
        operation["responses"]["default"] = {"description": "The upstream's own error, as it came"}
        operation["parameters"] = [
            _parameter("x-terse-compress", _TEXT, "`off`, `on`, `keep=0.5` or `target=2000`", place="header")
        ]
        return {"post": operation}

    counting = surface(
        "Count the tokens of an Anthropic request", "Messages", "AnthropicError", streams=False
    )
    return {
        "/v1/chat/completions": surface("OpenAI chat completions", "Chat"),
        "/v1/completions": surface("OpenAI completions", "Named"),
        "/v1/responses": surface("OpenAI responses", "Named"),
        "/v1/embeddings": surface("OpenAI embeddings, never shortened", "Named", streams=False),
        "/v1/messages": surface("Anthropic messages", "Messages", "AnthropicError"),
        "/v1/messages/count_tokens": counting,
    }


def _compression() -> Json:
    return {
        "/v1/compress": {"post": _post("Shorten messages", _ref("Chat"), _COMPRESS)},
        "/v1/compress/preview": {"post": _post("Every word, and why it stays", _ref("Preview"), _COMPRESS)},
        "/llm/v1/compressPrompt": {"post": _post("Kong's compressor", _ref("KongPrompts"), _COMPRESS)},
    }


def _reading() -> Json:
    missing = (*_KEY_NEEDED, NotFound)
    name, asked = _parameter("name", _TEXT, place="path"), _parameter("query", _TEXT)
    return {
        "/v1/models": {"get": _get("The models of this key", _KEY_NEEDED)},
        "/v1/models/{name}": {"get": _get("One model", missing, name)},
        "/v1/retrieve/{name}": {"get": _get("An original that words were left out of", missing, name, asked)},
    }


def _keys() -> Json:
    named = {**_ref("NamedKey"), "description": "`key`: the key itself, its hash or its alias; and changes"}
    page = (
        _parameter("team_id", _TEXT),
        _parameter("size", {"type": "integer", "minimum": 1, "maximum": 10_000}),
        _parameter("page", {"type": "integer", "minimum": 1, "maximum": 1_000_000}),
        _parameter("return_full_object", {"type": "boolean"}),
    )
    again = _post("A new key in its place", _ref("KeyBody"), _ADMIN, required=False)
    again["parameters"] = [_parameter("key", _TEXT, place="path")]
    return {
        "/key/generate": {
            "post": _post("A new key, shown this once", _ref("KeyBody"), _ADMIN, required=False)
        },
        "/key/info": {"get": _get("One key", _ADMIN, _parameter("key", _TEXT))},
        "/key/list": {"get": _get("Keys, a page at a time", _ADMIN, *page)},
        "/key/update": {"post": _post("Change a key", named, _ADMIN)},
        "/key/delete": {"post": _post("Delete keys", _ref("DeletedKeys"), _ADMIN)},
        "/key/block": {"post": _post("Block a key", named, _ADMIN)},
        "/key/unblock": {"post": _post("Unblock a key", named, _ADMIN)},
        "/key/regenerate": {"post": _post("A new key in its place", named, _ADMIN)},
        "/key/{key}/regenerate": {"post": again},
    }


def _teams() -> Json:
    team = _ref("TeamBody")
    return {
        "/team/new": {"post": _post("A new team", team, _ADMIN, required=False)},
        "/team/info": {"get": _get("A team and its keys", _ADMIN, _parameter("team_id", _TEXT, needed=True))},
        "/team/list": {"get": _listing(_get("All teams", _ADMIN))},
        "/team/update": {"post": _post("Change a team", team, _ADMIN)},
        "/team/delete": {"post": _post("Delete teams", _ref("DeletedTeams"), _ADMIN)},
        "/team/block": {"post": _post("Block a team", team, _ADMIN)},
        "/team/unblock": {"post": _post("Unblock a team", team, _ADMIN)},
    }


def _books() -> Json:
    spend = [
        _parameter(name, schema)
        for name, schema in (
            ("team_id", _TEXT),
            ("api_key", _TEXT),
            ("start_date", _DATE),
            ("end_date", _DATE),
            ("summarize", {"type": "boolean"}),
            ("limit", {"type": "integer", "minimum": 1, "maximum": 10_000}),
        )
    ]
    sums = [
        _parameter(name, schema) for name, schema in (("team", _TEXT), ("since", _DATE), ("until", _DATE))
    ]
    by = _parameter("by", _TEXT, "day, team, model, key_id and route, with commas between")
    restore = _post("Take an export over", _ref("Registry"), _ADMIN)
    restore["parameters"] = [_parameter("replace", {"type": "boolean"})]
    rows = _get("The latest receipts, or a sum a day", _ADMIN, *spend)
    return {
        "/spend/logs": {"get": _listing(rows)},
        "/usage": {"get": _get("Sums of the books", _ADMIN, *sums, by)},
        "/registry/export": {"get": _get("Every stored key (as its hash) and team", _ADMIN)},
        "/registry/import": {"post": restore},
    }


def _public() -> Json:
    alive = {"get": {**_get("200 while the process answers"), "security": []}}
    ready = {**_get("200 while texts can be scored"), "security": []}
    ready["responses"]["503"] = {
        "description": "Texts cannot be scored; requests pass unshortened",
        "content": {"application/json": {"schema": _ANY}},
    }
    page = {**_get("Prometheus metrics"), "security": []}
    page["responses"]["200"]["content"] = {"text/plain": {"schema": _TEXT}}
    return {
        "/health/liveliness": alive,
        "/health/liveness": alive,
        "/health/readiness": {"get": ready},
        "/metrics": {"get": page},
        "/openapi.json": {"get": {**_get("This document"), "security": []}},
    }


# ---- the parts


def _get(summary: str, failures: Failures = (), *parameters: Json) -> Json:
    operation: Json = {"summary": summary, "responses": _answers(failures)}
    if parameters:
        operation["parameters"] = list(parameters)
    return operation


def _listing(operation: Json) -> Json:
    """The same operation, which answers with a list."""
    operation["responses"]["200"]["content"]["application/json"]["schema"] = {"type": "array", "items": _ANY}
    return operation


def _post(
    summary: str, body: Json, failures: Failures, *, error: str = "Error", required: bool = True
) -> Json:
    return {
        "summary": summary,
        "requestBody": {"required": required, "content": {"application/json": {"schema": body}}},
        "responses": _answers(failures, error),
    }


def _answers(failures: Failures, error: str = "Error") -> Json:
    answers: Json = {"200": {"description": "OK", "content": {"application/json": {"schema": _ANY}}}}
    for failure in failures:
        answers[str(failure.status)] = {
            "description": (failure.__doc__ or "").strip().splitlines()[0],
            "content": {"application/json": {"schema": _ref(error)}},
        }
    return answers


def _parameter(
    name: str, schema: Json, description: str = "", *, place: str = "query", needed: bool = False
) -> Json:
    parameter: Json = {"name": name, "in": place, "schema": schema, "required": needed or place == "path"}
    if description:
        parameter["description"] = description
    return parameter


def _ref(name: str) -> Json:
    return {"$ref": _REF + name}


def _object(properties: Mapping[str, Any], *required: str) -> Json:
    return {"type": "object", "properties": dict(properties), "required": list(required)}


def _schemas() -> Json:
    """What is checked of each body; the admin API's are those that check it."""
    _, checked = models_json_schema(
        [(KeyBody, "validation"), (TeamBody, "validation")], ref_template=_REF + "{model}"
    )
    model, names = (
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}},
    )
    stream = {"type": ["boolean", "null"]}
    key = checked["$defs"]["KeyBody"]
    messages = {"type": "array", "items": _object({"role": _TEXT}, "role")}
    failure = {
        "message": _TEXT,
        "type": _TEXT,
        "param": {"type": ["string", "null"]},
        "code": {"type": ["string", "null"]},
    }
    prompt = _object({"text": _TEXT}, "text")
    preview = {
        "text": _TEXT,
        "messages": {"type": "array", "items": _ANY},
        "question": {"type": ["string", "null"]},
    }
    return {
        **checked["$defs"],
        "NamedKey": {**key, "properties": {**key["properties"], "key": model}, "required": ["key"]},
        "Named": _object({"model": model, "stream": stream}, "model"),
        "Chat": _object({"model": model, "stream": stream, "messages": messages}, "model", "messages"),
        "Messages": _object({"model": model, "stream": stream, "messages": messages}, "model", "messages"),
        "Preview": {**_object(preview), "anyOf": [{"required": ["text"]}, {"required": ["messages"]}]},
        "KongPrompts": _object(
            {
                "text": {"type": "array", "items": prompt},
                "compress_type": {"enum": ["rate", "target_token"]},
                "compress_ranges": {"type": "array", "items": _ref("KongRange")},
            },
            "text",
        ),
        "KongRange": _object(
            {"min_tokens": _COUNT, "max_tokens": _COUNT, "value": {"type": "number", "exclusiveMinimum": 0}},
            "value",
        ),
        "DeletedKeys": {**_object({"keys": names, "key_aliases": names}), "minProperties": 1},
        "DeletedTeams": _object({"team_ids": names}, "team_ids"),
        "Registry": _object(
            {"registry": {"const": 1}, "teams": {"type": "array"}, "keys": {"type": "array"}}, "registry"
        ),
        "Error": _object({"error": _object(failure, "message", "type", "code")}, "error"),
        "AnthropicError": _object(
            {
                "type": {"const": "error"},
                "error": _object({"type": _TEXT, "message": _TEXT}, "type", "message"),
            },
            "type",
            "error",
        ),
    }


routes = [Route("/openapi.json", openapi)]
