"""What the admin API takes: LiteLLM's fields, checked, and a few of Terse's own beside them."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from gateway.access.records import KeyRecord, TeamRecord
from gateway.errors import BadRequest
from policies.shapes import Budget, Limits, Period, PressureStep, Team

M = TypeVar("M", bound=BaseModel)

LARGEST_USD: Final = 1e9  # as in terse.yaml; above it, somebody slipped
LARGEST_TOKENS: Final = 10**15
LARGEST_RATE: Final = 10**9
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}")
SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "mo": 30 * 86_400}
# LiteLLM's budget durations, by the window of Terse that they stand for.
PERIODS: Final[dict[str, Period]] = {
    "60s": "minute",
    "1m": "minute",
    "60m": "hour",
    "1h": "hour",
    "24h": "day",
    "1d": "day",
    "7d": "week",
    "1w": "week",
    "30d": "month",
    "1mo": "month",
}
DURATIONS: Final[dict[Period, str]] = {
    "minute": "1m",
    "hour": "1h",
    "day": "1d",
    "week": "7d",
    "month": "30d",
}
ALL_MODELS: Final = {"all-team-models", "all-proxy-models", "*"}  # LiteLLM's words for "any"


class BudgetBody(BaseModel):
    """`{"usd": 20, "per": "month", "sliding": false}`; USD, tokens or both."""

    model_config = ConfigDict(extra="forbid")
    usd: float | None = Field(None, gt=0, le=LARGEST_USD, allow_inf_nan=False)
    tokens: int | None = Field(None, ge=1, le=LARGEST_TOKENS)
    per: Period = "month"
    sliding: bool = False

    @model_validator(mode="after")
    def _bounds_something(self) -> BudgetBody:
        if self.usd is None and self.tokens is None:
            raise ValueError("a budget needs usd or tokens")
        return self


class PressureBody(BaseModel):
    """`{"spent": 0.8, "keep": 0.4}`"""

    model_config = ConfigDict(extra="forbid")
    spent: float = Field(ge=0, le=1, allow_inf_nan=False)
    keep: float = Field(gt=0, le=1, allow_inf_nan=False)


class LimitsBody(BaseModel):
    """What keys and teams share. `None` removes a limit; an absent field leaves it as it is."""

    model_config = ConfigDict(extra="allow")
    models: list[str] | None = None
    max_budget: float | None = Field(None, gt=0, le=LARGEST_USD, allow_inf_nan=False)
    budget_duration: str | None = None
    budgets: list[BudgetBody] | None = Field(None, max_length=16)
    tpm_limit: int | None = Field(None, ge=1, le=LARGEST_RATE)
    rpm_limit: int | None = Field(None, ge=1, le=LARGEST_RATE)
    max_parallel_requests: int | None = Field(None, ge=1, le=LARGEST_RATE)
    metadata: dict[str, Any] | None = None
    blocked: bool | None = None
    version: int | None = Field(None, ge=1)

    @field_validator("budget_duration")
    @classmethod
    def _is_a_period(cls, value: str | None) -> str | None:
        if value is not None and value not in PERIODS:
            raise ValueError(f"expected one of {', '.join(PERIODS)}; for others use budgets with sliding")
        return value

    @model_validator(mode="after")
    def _says_one_thing(self) -> LimitsBody:
        if self.budgets is not None and (self.max_budget is not None or self.budget_duration is not None):
            raise ValueError("give max_budget and budget_duration, or budgets, not both")
        return self

    @property
    def ignored(self) -> list[str]:
        """Fields of LiteLLM that mean nothing to Terse."""
        return sorted(self.model_extra or ())


class KeyBody(LimitsBody):
    """`/key/generate`, `/key/update`, `/key/regenerate`."""

    key: str | None = Field(None, min_length=16, max_length=512)
    key_alias: str | None = Field(None, max_length=256)
    team_id: str | None = Field(None, max_length=128)
    duration: str | None = None
    may_override: bool | None = None

    @field_validator("duration")
    @classmethod
    def _is_a_duration(cls, value: str | None) -> str | None:
        if value not in (None, "-1"):
            seconds_of(str(value))
        return value


class TeamBody(LimitsBody):
    """`/team/new`, `/team/update`."""

    team_id: str | None = None
    team_alias: str | None = Field(None, max_length=256)
    pressure: list[PressureBody] | None = Field(None, max_length=16)

    @field_validator("team_id")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        if value is not None and not NAME.fullmatch(value):
            raise ValueError("expected letters, digits and ._@:- after a letter or digit, at most 128")
        return value


def checked(body: type[M], raw: object) -> M:
    """The body as data. Raises BadRequest that names the field and what was expected."""
    try:
        return body.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        message = f"{field}: {first['msg']}" if field else str(first["msg"])
        raise BadRequest(message, param=field or None) from None


def seconds_of(duration: str) -> int:
    """`30s`, `15m`, `2h`, `30d`, `1w` or `1mo` in seconds. Raises ValueError for anything else."""
    found = re.fullmatch(r"(\d{1,6})(s|m|h|d|w|mo)", duration)
    if found is None or int(found[1]) == 0:
        raise ValueError("expected a duration such as 30s, 15m, 2h, 30d, 1w or 1mo")
    return int(found[1]) * SECONDS[found[2]]


def changed_key(record: KeyRecord, body: KeyBody, now: datetime.datetime) -> KeyRecord:
    """The record with what the body says; what it does not say stays."""
    said = body.model_fields_set
    changes: dict[str, Any] = {**_changed_limits(record.budgets, record.limits, body), "updated": stamp(now)}
    if "key_alias" in said:
        changes["alias"] = body.key_alias or ""
    if "team_id" in said and body.team_id:
        changes["team"] = body.team_id
    if "duration" in said:
        never = body.duration in (None, "-1")
        ends = None if never else now + datetime.timedelta(seconds=seconds_of(str(body.duration)))
        changes["expires"] = "" if ends is None else stamp(ends)
    if body.may_override is not None:
        changes["may_override"] = body.may_override
    return replace(record, **changes)


def changed_team(record: TeamRecord, body: TeamBody, now: datetime.datetime) -> TeamRecord:
    """The record with what the body says; what it does not say stays."""
    changes = _changed_limits(record.team.budgets, record.team.limits, body)
    if "metadata" in changes:
        changes["metadata"] = {name: str(value) for name, value in changes["metadata"].items()}
    if body.pressure is not None:
        steps = sorted(body.pressure, key=lambda step: step.spent)
        changes["pressure"] = tuple(PressureStep(step.spent, step.keep) for step in steps)
    alias = record.alias if body.team_alias is None else body.team_alias
    return replace(record, team=replace(record.team, **changes), alias=alias, updated=stamp(now))


def _changed_limits(budgets: tuple[Budget, ...], limits: Limits, body: LimitsBody) -> dict[str, Any]:
    said = body.model_fields_set
    changes: dict[str, Any] = {}
    if "models" in said:
        models = body.models or []
        changes["models"] = () if ALL_MODELS & set(models) else tuple(dict.fromkeys(models))
    if body.budgets is not None:
        changes["budgets"] = tuple(Budget(**budget.model_dump()) for budget in body.budgets)
    elif said & {"max_budget", "budget_duration"}:
        changes["budgets"] = _litellm_budget(budgets, body)
    rates = {
        "tokens_per_minute": "tpm_limit",
        "requests_per_minute": "rpm_limit",
        "concurrent_requests": "max_parallel_requests",
    }
    changes["limits"] = replace(
        limits, **{ours: getattr(body, theirs) for ours, theirs in rates.items() if theirs in said}
    )
    if body.metadata is not None:
        changes["metadata"] = body.metadata
    if body.blocked is not None:
        changes["blocked"] = body.blocked
    return changes


def _litellm_budget(known: tuple[Budget, ...], body: LimitsBody) -> tuple[Budget, ...]:
    """LiteLLM knows one budget: without a duration it never starts anew."""
    said = body.model_fields_set
    first = next((budget for budget in known if budget.usd is not None), None)
    usd = body.max_budget if "max_budget" in said else (first.usd if first else None)
    if usd is None:
        return ()
    if "budget_duration" in said:
        per: Period = PERIODS[body.budget_duration] if body.budget_duration else "total"
    else:
        per = first.per if first else "total"
    return (Budget(usd=usd, per=per),)


def stamp(moment: datetime.datetime) -> str:
    """ISO 8601 in UTC, to the second."""
    return moment.astimezone(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def shown_key(record: KeyRecord, spend_micro: int, version: int) -> dict[str, Any]:
    """A key in LiteLLM's shape, never the key itself."""
    return {
        "token": record.key_id,
        "token_id": record.key_id,
        "key_name": record.hint,
        "key_alias": record.alias or None,
        "team_id": record.team,
        "expires": record.expires or None,
        "may_override": record.may_override,
        "created_at": record.created,
        **_shown_limits(record.models, record.budgets, record.limits, spend_micro),
        "metadata": dict(record.metadata),
        "blocked": record.blocked,
        "updated_at": record.updated,
        "version": version,
    }


def shown_team(record: TeamRecord, spend_micro: int, version: int | None) -> dict[str, Any]:
    """A team in LiteLLM's shape. Teams of terse.yaml have no version: they cannot be changed here."""
    team: Team = record.team
    return {
        "team_id": team.name,
        "team_alias": record.alias or team.name,
        "pressure": [asdict(step) for step in team.pressure],
        "created_at": record.created or None,
        **_shown_limits(team.models, team.budgets, team.limits, spend_micro),
        "metadata": dict(team.metadata),
        "blocked": team.blocked,
        "updated_at": record.updated or None,
        "version": version,
        "static": version is None,
    }


def _shown_limits(
    models: tuple[str, ...], budgets: tuple[Budget, ...], limits: Limits, spend_micro: int
) -> Mapping[str, Any]:
    first = next((budget for budget in budgets if budget.usd is not None), None)
    return {
        "models": list(models),
        "spend": spend_micro / 1_000_000,
        "max_budget": first.usd if first and first.usd is not None and math.isfinite(first.usd) else None,
        "budget_duration": DURATIONS.get(first.per) if first else None,
        "budgets": [asdict(budget) for budget in budgets],
        "tpm_limit": limits.tokens_per_minute,
        "rpm_limit": limits.requests_per_minute,
        "max_parallel_requests": limits.concurrent_requests,
    }
