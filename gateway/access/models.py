"""Which models a caller may use."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from gateway.errors import Forbidden
from gateway.shapes import Caller


def allows(patterns: Sequence[str], model: str) -> bool:
    """Whether one of the globs matches; no globs at all allow everything."""
    return not patterns or any(fnmatchcase(model, pattern) for pattern in patterns)


def check_model(caller: Caller, model: str) -> None:
    """Raises Forbidden when the key or its team may not use the model."""
    if not allows(caller.models, model):
        raise Forbidden(
            f"This key may not use the model {model!r}; it may use {', '.join(caller.models)}.",
            param="model",
            code="key_model_access_denied",
        )
    if not allows(caller.team.models, model):
        raise Forbidden(
            f"Team {caller.team.name!r} may not use the model {model!r}; "
            f"it may use {', '.join(caller.team.models)}.",
            param="model",
            code="team_model_access_denied",
        )
