"""Who asks: from a key to a team, with as little waiting as is safe."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import hmac
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.access.records import DEFAULT_TEAM, KEYS, TEAMS, KeyRecord, TeamRecord
from gateway.config import Config, Secret
from gateway.errors import Forbidden, Unauthorized, Unavailable
from gateway.settings import Settings
from gateway.shapes import Caller
from gateway.stores.base import Record, Registry
from policies.shapes import Team

LOG = logging.getLogger(__name__)

KEY_PREFIX: Final = "sk-terse-"
ANONYMOUS: Final = "anonymous"
MASTER: Final = "master"
# A block, an expiry date or a limit changed by another process counts here after this long; in the process
# that changed it, at once.
FRESH_SECONDS: Final = 5.0
# Keys nobody knows are forgotten sooner: a key made a second ago must work.
UNKNOWN_SECONDS: Final = 1.0
# While the registry is gone, keys seen before go on working for this long.
STALE_SECONDS: Final = 3600.0
KNOWN_KEYS: Final = 20_000  # some 20 MB
LONGEST_KEY: Final = 512  # characters


def new_key() -> str:
    """A fresh key with 192 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(24)


def key_id_of(key: str) -> str:
    """What is stored of a key: its SHA-256 in hex. The key is random, so no salt is needed."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def same_secret(given: str, secret: Secret | None) -> bool:
    """Compares in constant time. False when no such secret is set."""
    if secret is None:
        return False
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), secret.reveal().encode())


def key_of(headers: Mapping[str, str]) -> str:
    """The key that a request brings, or "": `x-litellm-api-key`, `Authorization: Bearer`, `x-api-key`."""
    own = headers.get("x-litellm-api-key", "").strip()
    if own:
        return own[7:].strip() if own[:7].lower() == "bearer " else own
    authorization = headers.get("authorization", "").strip()
    if authorization[:7].lower() == "bearer ":
        return authorization[7:].strip()
    return headers.get("x-api-key", "").strip()


@dataclass(frozen=True, slots=True)
class _Known:
    """What the registry said of a key, and when. `caller` is built once."""

    record: KeyRecord | None
    team: Team | None
    caller: Caller | None
    expires: float  # Unix seconds
    read: float  # monotonic


class KnownKeys:
    """What this process knows of keys; outlives a change of configuration, which clears it."""

    def __init__(self) -> None:
        self.entries: OrderedDict[str, _Known] = OrderedDict()
        self.lookups: dict[str, asyncio.Task[_Known]] = {}


class Callers:
    """Authentication. A key seen in the last five seconds costs no round trip, another one."""

    def __init__(
        self,
        config: Config,
        settings: Settings,
        registry: Registry,
        *,
        along: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`along` is asked for in the same round trip as a key that has to be looked up."""
        self._config = config
        self._settings = settings
        self._registry = registry
        self._along = along
        self._known = KnownKeys()
        self.is_anonymous = not config.teams and settings.master_key is None

    async def authenticate(self, headers: Mapping[str, str]) -> Caller:
        """The caller. Raises Unauthorized, Forbidden for a blocked team, Unavailable without the registry."""
        if self.is_anonymous:
            return Caller(Team(DEFAULT_TEAM), ANONYMOUS)
        key = key_of(headers)
        if not key:
            raise Unauthorized(
                "No key was given: send it as `Authorization: Bearer sk-terse-...` or as `x-api-key`.",
                code="missing_api_key",
            )
        if len(key) > LONGEST_KEY:
            raise Unauthorized("This key is not known.")
        if same_secret(key, self._settings.master_key):
            return Caller(self._config.teams.get(DEFAULT_TEAM, Team(DEFAULT_TEAM)), MASTER)
        return self._admit(await self._look_up(key_id_of(key)))

    def forget(self, key_id: str | None = None) -> None:
        """One key, or all, is read anew next time; called by whoever changed it in this process."""
        if key_id is None:
            self._known.entries.clear()
        else:
            self._known.entries.pop(key_id, None)

    @staticmethod
    def _admit(known: _Known) -> Caller:
        record = known.record
        if record is None:
            raise Unauthorized("This key is not known.")
        if record.blocked:
            raise Unauthorized("This key is blocked.", code="key_blocked")
        if known.expires <= time.time():
            raise Unauthorized(f"This key expired at {record.expires}.", code="expired_key")
        if known.team is None or known.caller is None:
            raise Unauthorized(f"The team {record.team!r} of this key is gone.", code="unknown_team")
        if known.team.blocked:
            raise Forbidden(f"Team {known.team.name!r} is blocked.", code="team_blocked")
        return known.caller

    async def _look_up(self, key_id: str) -> _Known:
        known = self._known.entries.get(key_id)
        if known is not None:
            fresh = FRESH_SECONDS if known.record is not None else UNKNOWN_SECONDS
            if time.monotonic() - known.read < fresh:
                return known
        lookup = self._known.lookups.get(key_id)
        if lookup is None:
            lookup = asyncio.create_task(self._read(key_id))
            self._known.lookups[key_id] = lookup
            lookup.add_done_callback(lambda _: self._known.lookups.pop(key_id, None))
        try:
            # Many requests share one lookup; a client that leaves must not end it for the others.
            return await asyncio.shield(lookup)
        except Unavailable:
            if known is None or time.monotonic() - known.read > STALE_SECONDS:
                raise Unavailable(
                    "Keys cannot be looked up now.", code="store_unavailable", headers={"retry-after": "1"}
                ) from None
            return known

    async def _read(self, key_id: str) -> _Known:
        reading = self._registry.get_linked(KEYS, key_id, "team", TEAMS)
        if self._along is None:
            key, team = await reading
        else:
            (key, team), _ = await asyncio.gather(reading, self._along())
        known = self._understand(key_id, key, team)
        entries = self._known.entries
        entries[key_id] = known
        entries.move_to_end(key_id)
        if len(entries) > KNOWN_KEYS:
            entries.popitem(last=False)
        return known

    def _understand(self, key_id: str, key: Record | None, team: Record | None) -> _Known:
        now = time.monotonic()
        if key is None or not hmac.compare_digest(key.name, key_id):
            return _Known(None, None, None, float("inf"), now)
        record = KeyRecord.decode(key.data)
        owner = self._team_of(record, team)
        caller = None
        if owner is not None:
            caller = Caller(
                team=owner,
                key_id=key_id,
                key_alias=record.alias,
                may_override=record.may_override,
                models=record.models,
                metadata={k: v for k, v in record.metadata.items() if isinstance(v, str)},
                budgets=record.budgets,
                limits=record.limits,
                account=record.account,
            )
        return _Known(record, owner, caller, expiry_of(record.expires), now)

    def _team_of(self, record: KeyRecord, stored: Record | None) -> Team | None:
        static = self._config.teams.get(record.team)
        if static is not None:
            return static
        if stored is not None:
            return TeamRecord.decode(stored.data).team
        return Team(DEFAULT_TEAM) if record.team == DEFAULT_TEAM else None


def expiry_of(text: str) -> float:
    """Unix seconds of an ISO date; infinity for ""."""
    return datetime.datetime.fromisoformat(text).timestamp() if text else float("inf")
