"""Keys and teams as they are stored: JSON in the registry, frozen data here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import orjson

from policies.shapes import Budget, Limits, PressureStep, Team

KEYS: Final = "keys"
TEAMS: Final = "teams"
DEFAULT_TEAM: Final = "default"


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key. `key_id` is its SHA-256 in hex; the key itself is nowhere. Times are ISO 8601, UTC."""

    key_id: str
    hint: str = ""  # "sk-terse-...AbCd", to recognise it by
    alias: str = ""
    team: str = DEFAULT_TEAM
    models: tuple[str, ...] = ()  # globs; empty allows what the team may use
    budgets: tuple[Budget, ...] = ()
    limits: Limits = field(default_factory=Limits)
    expires: str = ""
    blocked: bool = False
    may_override: bool = True  # may the client's x-terse-compress change anything
    metadata: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""
    updated: str = ""
    account: str = ""  # whose budget it spends: the key it replaced; "": its own

    def encode(self) -> bytes:
        """JSON for the registry."""
        return orjson.dumps(asdict(self))

    @staticmethod
    def decode(data: bytes) -> KeyRecord:
        """The record again. Fields of a newer Terse are ignored."""
        raw = orjson.loads(data)
        return KeyRecord(**{**_known(raw, KeyRecord), **_shared(raw)})


@dataclass(frozen=True, slots=True)
class TeamRecord:
    """One team made through the admin API."""

    team: Team
    alias: str = ""
    created: str = ""
    updated: str = ""

    def encode(self) -> bytes:
        """JSON for the registry."""
        return orjson.dumps(asdict(self))

    @staticmethod
    def decode(data: bytes) -> TeamRecord:
        """The record again. Fields of a newer Terse are ignored."""
        raw = orjson.loads(data)
        team = raw["team"]
        pressure = tuple(PressureStep(**step) for step in team.get("pressure", ()))
        return TeamRecord(
            team=Team(**{**_known(team, Team), **_shared(team), "pressure": pressure}),
            alias=raw.get("alias", ""),
            created=raw.get("created", ""),
            updated=raw.get("updated", ""),
        )


def _known(raw: Mapping[str, Any], cls: type) -> dict[str, Any]:
    return {name: raw[name] for name in cls.__dataclass_fields__ if name in raw}  # type: ignore[attr-defined]


def _shared(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "models": tuple(raw.get("models", ())),
        "budgets": tuple(Budget(**budget) for budget in raw.get("budgets", ())),
        "limits": Limits(**raw.get("limits", {})),
    }
