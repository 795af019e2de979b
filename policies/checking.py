"""Plain data (as YAML or JSON gives it) into pydantic models, every mistake told in one sentence.

A field says what it expects with `Expect("…")`; pydantic's own wording never reaches a user.
"""

from __future__ import annotations

import difflib
import math
import typing
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

from policies.errors import Path, Problem

Model = TypeVar("Model", bound=BaseModel)

STRICT = ConfigDict(strict=True, extra="forbid", frozen=True, populate_by_name=False)

# Values under these keys are secrets: a complaint never repeats them.
SECRET_KEYS = frozenset({"api_key", "store", "headers", "webhook"})

_LONGEST_SHOWN = 60  # characters of a wrong value in a message


def Expect(what: str) -> WrapValidator:
    """Annotation: whatever is wrong with the value, the complaint is `expected <what>; got …`."""

    def check(value: Any, handler: Any) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise PydanticCustomError("expected", "{what}", {"what": what}) from None

    return WrapValidator(check)


def validate(model: type[Model], data: object, path: Path, problems: list[Problem]) -> Model | None:
    """`data` as `model`, or None with what is wrong appended to `problems`."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            problems.append(_problem(model, data, path, detail))
        return None


def suggest(name: object, known: Iterable[str]) -> str:
    """` (did you mean 'keep'?)`, or nothing when no known name is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def shown(value: object) -> str:
    """A wrong value as a message shows it: short, on one line, the way YAML writes it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, float) and not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinity"
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def _problem(model: type[BaseModel], data: object, path: Path, detail: Any) -> Problem:
    inner = _as_written(detail["loc"], data)
    where: Path = (*path, *inner)
    kind = detail["type"]
    if kind == "extra_forbidden":
        known = _keys_at(model, inner[:-1])
        listed = f"; known keys: {', '.join(known)}" if known else ""
        hint = suggest(inner[-1], known) or listed
        return Problem(where, f"unknown key{hint}")
    if kind == "missing":
        return Problem(where[:-1] or where, f"the key {inner[-1]!r} is missing")
    if kind == "expected":
        what = detail["ctx"]["what"]
    elif kind == "model_type":
        what = f"a mapping with keys of {', '.join(_keys_at(model, inner))}"
    else:
        what = {"dict_type": "a mapping", "list_type": "a list", "string_type": "text"}.get(
            kind, detail["msg"]
        )
    return Problem(where, f"expected {what}{_got(where, detail.get('input'))}")


def _got(where: Path, value: object) -> str:
    if SECRET_KEYS.intersection(str(step) for step in where):
        return ""
    return f"; got {shown(value)}"


def _as_written(location: Sequence[str | int], data: Any) -> Path:
    """pydantic's location without its mark of a failing key, and without the index of a list of one.

    `budget: {…}` is short for `budget: [{…}]`; nobody looks for `budget[0]` in the file then.
    """
    path: list[str | int] = []
    for step in location:
        if step == "[key]" or (isinstance(step, int) and not isinstance(data, list)):
            continue
        path.append(step)
        if isinstance(step, int):
            data = data[step] if isinstance(data, list) and step < len(data) else None
        else:
            data = data.get(step) if isinstance(data, dict) else None
    return tuple(path)


def _keys_at(model: type[BaseModel], steps: Sequence[str | int]) -> list[str]:
    """The keys that the model at `steps` below `model` knows, in the order of its fields."""
    here: type[BaseModel] | None = model
    for step in steps:
        # Indexes of lists and names in mappings lead to the same model as the field that holds them.
        fields = {field.alias or name: field for name, field in here.model_fields.items()} if here else {}
        if str(step) in fields:
            here = _model_in(fields[str(step)].annotation)
    return [field.alias or name for name, field in here.model_fields.items()] if here else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside `list[Model]`, `dict[str, Model]`, `Model | None`, `Annotated[…]`."""
    if typing.get_origin(annotation) is None:
        return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    for argument in typing.get_args(annotation):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
