"""Makes, changes and removes keys and teams. Every change is a compare-and-set."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Final, TypeVar

from gateway.access.bodies import (
    NAME,
    KeyBody,
    TeamBody,
    changed_key,
    changed_team,
    shown_key,
    shown_team,
    stamp,
)
from gateway.access.callers import key_id_of, new_key
from gateway.access.records import DEFAULT_TEAM, KEYS, TEAMS, KeyRecord, TeamRecord
from gateway.config import Config
from gateway.errors import BadRequest, Conflict, NotFound
from gateway.stores.base import Record, Stores
from policies.shapes import Team

T = TypeVar("T")
# A change that says no version is tried again on what somebody else has just written; each says other fields.
TRIES: Final = 5
KEY_ID_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class Administration:
    """The work behind the admin API and `terse keys | teams`. `forget` tells this process's callers."""

    config: Config
    stores: Stores
    forget: Callable[[str | None], None] = lambda key_id: None

    # ---- keys

    async def generate(self, body: KeyBody) -> dict[str, Any]:
        """A new key; the answer is the only place that ever shows it."""
        key = body.key or new_key()
        now = _now()
        record = changed_key(_blank_key(key, now), body, now)
        await self._check(record.models, record.team)
        stored = await self._create(KEYS, record.key_id, record.encode(), "this key exists already")
        return {"key": key, **shown_key(record, 0, stored.version), "ignored": body.ignored}

    async def key_info(self, key: str) -> dict[str, Any]:
        """One key, by itself, by its hash or by its alias. Raises NotFound."""
        record, version = await self._key(key)
        return await self._shown_key(record, version)

    async def list_keys(self, team: str | None = None) -> list[dict[str, Any]]:
        """All keys, or those of a team, by hash."""
        stored = [record async for record in self.stores.registry.scan(KEYS)]
        found = [(KeyRecord.decode(record.data), record.version) for record in stored]
        found = [(key, version) for key, version in found if team is None or key.team == team]
        spend = await self.stores.ledger.spend_of([f"key:{key.key_id}" for key, _ in found])
        return [shown_key(key, spend[f"key:{key.key_id}"], version) for key, version in found]

    async def update_key(self, key: str, body: KeyBody) -> dict[str, Any]:
        """Changes what the body says. Raises Conflict when the body's version is not the stored one."""

        async def change() -> dict[str, Any]:
            record, version = await self._key(key)
            _check_version(body.version, version)
            changed = changed_key(record, body, _now())
            await self._check(changed.models, changed.team)
            stored = await self.stores.registry.put(KEYS, record.key_id, changed.encode(), version)
            self.forget(record.key_id)
            return {**await self._shown_key(changed, stored.version), "ignored": body.ignored}

        return await _retried(change, body.version is None)

    async def delete_key(self, key: str) -> str:
        """Removes it; returns its hash. Raises NotFound."""
        record, _ = await self._key(key)
        await self.stores.registry.delete(KEYS, record.key_id)
        self.forget(record.key_id)
        return record.key_id

    async def regenerate(self, key: str, body: KeyBody) -> dict[str, Any]:
        """A new key with the old one's settings and the old one's budget; the old one stops working."""
        record, version = await self._key(key)
        _check_version(body.version, version)
        fresh, now = new_key(), _now()
        changed = changed_key(record, body, now)
        await self._check(changed.models, changed.team)
        renewed = replace(
            changed, key_id=key_id_of(fresh), hint=_hint(fresh), account=record.account or record.key_id
        )
        stored = await self._create(KEYS, renewed.key_id, renewed.encode(), "this key exists already")
        await self.stores.registry.delete(KEYS, record.key_id)
        self.forget(record.key_id)
        return {"key": fresh, **await self._shown_key(renewed, stored.version), "ignored": body.ignored}

    # ---- teams

    async def new_team(self, body: TeamBody) -> dict[str, Any]:
        """A new team. Raises Conflict when there is one of that name, stored or in terse.yaml."""
        alias = body.team_alias or ""
        name = body.team_id or (alias if NAME.fullmatch(alias) else secrets.token_hex(8))
        if name in self.config.teams:
            raise Conflict(f"team {name!r} is defined in terse.yaml", param="team_id", code="already_exists")
        now = _now()
        record = changed_team(TeamRecord(Team(name), created=stamp(now)), body, now)
        self._check_models(record.team.models)
        stored = await self._create(TEAMS, name, record.encode(), f"there is a team {name!r} already")
        return {**shown_team(record, 0, stored.version), "ignored": body.ignored}

    async def team_info(self, name: str) -> dict[str, Any]:
        """One team, of terse.yaml or stored. Raises NotFound."""
        record, version = await self._team(name)
        spend = await self.stores.ledger.spend_of([f"team:{name}"])
        return shown_team(record, spend[f"team:{name}"], version)

    async def list_teams(self) -> list[dict[str, Any]]:
        """All teams: those of terse.yaml, then the stored ones."""
        found: list[tuple[TeamRecord, int | None]] = [
            (TeamRecord(team), None) for team in self.config.teams.values()
        ]
        async for record in self.stores.registry.scan(TEAMS):
            if record.name not in self.config.teams:
                found.append((TeamRecord.decode(record.data), record.version))
        spend = await self.stores.ledger.spend_of([f"team:{record.team.name}" for record, _ in found])
        return [shown_team(record, spend[f"team:{record.team.name}"], version) for record, version in found]

    async def update_team(self, name: str, body: TeamBody) -> dict[str, Any]:
        """Changes what the body says. Raises Conflict as `update_key` does, and for teams of terse.yaml."""

        async def change() -> dict[str, Any]:
            record, version = await self._team(name)
            if version is None:
                raise Conflict(f"team {name!r} is defined in terse.yaml; change it there", code="static_team")
            _check_version(body.version, version)
            changed = changed_team(record, body, _now())
            self._check_models(changed.team.models)
            stored = await self.stores.registry.put(TEAMS, name, changed.encode(), version)
            self.forget(None)
            spend = await self.stores.ledger.spend_of([f"team:{name}"])
            return {**shown_team(changed, spend[f"team:{name}"], stored.version), "ignored": body.ignored}

        return await _retried(change, body.version is None)

    async def delete_team(self, name: str) -> str:
        """Removes it; its keys stop working. Raises NotFound, Conflict for teams of terse.yaml."""
        _, version = await self._team(name)
        if version is None:
            raise Conflict(f"team {name!r} is defined in terse.yaml; remove it there", code="static_team")
        await self.stores.registry.delete(TEAMS, name)
        self.forget(None)
        return name

    # ---- all of it

    async def export(self) -> dict[str, Any]:
        """Every stored key (as its hash) and team."""
        data: dict[str, Any] = {"registry": 1, "exported_at": stamp(_now())}
        for collection in (TEAMS, KEYS):
            data[collection] = [
                {"name": record.name, "data": record.data.decode()}
                async for record in self.stores.registry.scan(collection)
            ]
        return data

    async def restore(self, data: object, *, replace_known: bool) -> dict[str, int]:
        """Takes an export over. What is there already stays, unless it is to be replaced."""
        if not isinstance(data, dict) or data.get("registry") != 1:
            raise BadRequest("this is no export of Terse", param="registry")
        counts = {"teams": 0, "keys": 0, "kept": 0}
        for collection, name, stored in _entries(data):
            known = await self.stores.registry.get(collection, name)
            if known is not None and not replace_known:
                counts["kept"] += 1
                continue
            await self.stores.registry.put(collection, name, stored, known.version if known else None)
            counts[collection] += 1
        self.forget(None)
        return counts

    # ---- the parts

    async def _create(self, collection: str, name: str, data: bytes, taken: str) -> Record:
        try:
            return await self.stores.registry.put(collection, name, data, None)
        except Conflict:
            raise Conflict(taken, code="already_exists") from None

    async def _key(self, key: str) -> tuple[KeyRecord, int]:
        if not key:
            raise BadRequest("which key? give it, its hash or its alias", param="key")
        candidates = [key_id_of(key)]
        if len(key) == KEY_ID_LENGTH:
            candidates.append(key)
        for key_id in candidates:
            record = await self.stores.registry.get(KEYS, key_id)
            if record is not None:
                return KeyRecord.decode(record.data), record.version
        named = [r async for r in self.stores.registry.scan(KEYS) if KeyRecord.decode(r.data).alias == key]
        if len(named) > 1:
            raise BadRequest(f"{len(named)} keys have the alias {key!r}: give the hash", param="key")
        if not named:
            raise NotFound("there is no such key", param="key", code="key_not_found")
        return KeyRecord.decode(named[0].data), named[0].version

    async def _team(self, name: str) -> tuple[TeamRecord, int | None]:
        static = self.config.teams.get(name)
        if static is not None:
            return TeamRecord(static), None
        record = await self.stores.registry.get(TEAMS, name)
        if record is None:
            raise NotFound(f"there is no team {name!r}", param="team_id", code="team_not_found")
        return TeamRecord.decode(record.data), record.version

    async def _shown_key(self, record: KeyRecord, version: int) -> dict[str, Any]:
        names = {f"key:{record.key_id}", f"key:{record.account or record.key_id}"}
        spend = await self.stores.ledger.spend_of(sorted(names))
        return shown_key(record, sum(spend.values()), version)

    async def _check(self, models: tuple[str, ...], team: str) -> None:
        self._check_models(models)
        if team != DEFAULT_TEAM:
            await self._team(team)

    def _check_models(self, models: tuple[str, ...]) -> None:
        known = self.config.models
        for model in models:
            if "*" in model or "?" in model or not known:
                continue
            if model not in known and not any(fnmatchcase(model, name) for name in known):
                raise BadRequest(
                    f"unknown model {model!r}; terse.yaml has {', '.join(sorted(known))}",
                    param="models",
                    code="model_not_found",
                )


def _blank_key(key: str, now: datetime.datetime) -> KeyRecord:
    return KeyRecord(key_id_of(key), hint=_hint(key), created=stamp(now))


def _hint(key: str) -> str:
    return f"{key[:3]}...{key[-4:]}"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _check_version(wanted: int | None, stored: int) -> None:
    if wanted is not None and wanted != stored:
        raise Conflict(f"it was changed meanwhile: version {wanted} was expected, it is at version {stored}")


async def _retried(change: Callable[[], Awaitable[dict[str, Any]]], may_retry: bool) -> dict[str, Any]:
    tries = TRIES if may_retry else 1
    while True:
        tries -= 1
        try:
            return await change()
        except Conflict as error:
            if error.code != "conflict" or tries == 0:
                raise


def _entries(data: dict[str, Any]) -> list[tuple[str, str, bytes]]:
    """The records of an export, each read once to see that it is one. Raises BadRequest."""
    entries = []
    readers: dict[str, Callable[[bytes], object]] = {TEAMS: TeamRecord.decode, KEYS: KeyRecord.decode}
    for collection, decode in readers.items():
        given = data.get(collection, [])
        if not isinstance(given, list):
            raise BadRequest(f"{collection}: expected a list of records", param=collection)
        for number, entry in enumerate(given):
            try:
                stored = str(entry["data"]).encode()
                decode(stored)
                entries.append((collection, str(entry["name"]), stored))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise BadRequest(f"{collection}[{number}] is no record: {error}", param=collection) from None
    return entries
