"""The client's JSON: read once, checked where we rely on it, and never changed but for the model's name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import orjson

from gateway.chat.large_json import LARGE_BYTES, load_json, strings_and_brackets
from gateway.errors import BadRequest
from gateway.shapes import ParsedRequest, Surface

SURFACES: Mapping[str, Surface] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
    "/v1/messages/count_tokens": "messages",
}

_LONGEST_MODEL = 512
# Where each surface says how long the answer may become; the first that is set counts.
_OUTPUT_LIMITS: Mapping[Surface, tuple[str, ...]] = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "messages": ("max_tokens",),
    "embeddings": (),
}


def parse_request(
    surface: Surface, path: str, body: bytes, headers: Mapping[str, str] | None = None
) -> ParsedRequest:
    """The typed view on one request body. Raises BadRequest that names what is wrong and where.

    Only what the gateway itself relies on is checked; everything else is the upstream's to judge.
    """
    raw = read_object(body)
    model = raw.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("model: expected the name of a model", param="model")
    if len(model) > _LONGEST_MODEL or not model.isprintable():  # an unpaired surrogate is not
        raise BadRequest(f"model: expected printable characters, {_LONGEST_MODEL} at most", param="model")
    stream = raw.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise BadRequest(f"stream: expected true or false, got {_shown(stream)}", param="stream")
    if surface in ("chat", "messages"):
        _check_messages(raw)
    return ParsedRequest(
        surface=surface,
        path=path,
        body=body,
        raw=raw,
        model=model,
        stream=bool(stream),
        headers=headers or {},
        max_output_tokens=_output_limit(surface, raw),
    )


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Raises BadRequest with line and column when there is none."""
    try:
        value = load_json(body)
    except orjson.JSONDecodeError as error:
        value = _read_again(body, error)
    if not isinstance(value, dict):
        raise BadRequest(f"the body: expected a JSON object, got {_shown(value)}")
    return value


def _read_again(body: bytes, error: orjson.JSONDecodeError) -> Any:
    """JSON allows escaped lone surrogates (`\\ud800`), orjson does not; such a request passes through."""
    if "surrogate" in error.msg:
        try:
            return json.loads(body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            pass
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as wrong:
        raise BadRequest(f"the body is not UTF-8: byte {wrong.start} is 0x{body[wrong.start]:02x}") from None
    place = f"line {error.lineno}, column {error.colno}"
    raise BadRequest(f"the body is not JSON: {error.msg.split(':')[0]} at {place}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_messages(raw: Mapping[str, Any]) -> None:
    messages = raw.get("messages")
    if not isinstance(messages, list):
        raise BadRequest(f"messages: expected a list, got {_shown(messages)}", param="messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            where = f"messages[{index}]"
            raise BadRequest(f"{where}: expected an object, got {_shown(message)}", param=where)
        if not isinstance(message.get("role"), str):
            where = f"messages[{index}].role"
            raise BadRequest(f"{where}: expected a string, got {_shown(message.get('role'))}", param=where)


def _output_limit(surface: Surface, raw: Mapping[str, Any]) -> int | None:
    for name in _OUTPUT_LIMITS[surface]:
        value = raw.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


_KINDS: Mapping[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


def _shown(value: Any) -> str:
    """What kind of JSON value it is, without quoting the client's text back."""
    return _KINDS[type(value)]


# One match a string or bracket, so that a long text costs one step.
_JSON_PIECES = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]', re.DOTALL)


def rename_model(body: bytes, new: str) -> bytes:
    """The same bytes with another value of the top-level `model`; `body` is an object that has one."""
    start, end = _model_span(body)
    return body[:start] + orjson.dumps(new) + body[end:]


def _model_span(body: bytes) -> tuple[int, int]:
    """Where the value of top-level `model` stands, quotes included; of duplicates the last counts."""
    depth = 0
    span = (0, 0)
    small = len(body) < LARGE_BYTES
    # The expression is faster, but does not let others in between while it reads one long text.
    pieces = map(re.Match.span, _JSON_PIECES.finditer(body)) if small else strings_and_brackets(body)
    for start, end in pieces:
        first = body[start]
        if first in b"{[":
            depth += 1
        elif first in b"}]":
            depth -= 1
        elif depth == 1 and _is_key(body, end) and _spells_model(body, start, end):
            span = next(pieces)
    return span


def _spells_model(body: bytes, start: int, end: int) -> bool:
    # A key may be written with escapes, six bytes a letter at most.
    return end - start <= 2 + 6 * len("model") and orjson.loads(body[start:end]) == "model"


def _is_key(body: bytes, position: int) -> bool:
    while body[position : position + 1] in (b" ", b"\t", b"\r", b"\n"):
        position += 1
    return body[position : position + 1] == b":"
