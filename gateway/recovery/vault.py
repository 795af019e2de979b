"""Originals, encrypted in the cache for a while; each team can read its own and nobody else's.

Every team has a key of its own (HKDF-SHA-256 of the gateway's), and the team and the name of a text are bound
into the ciphertext (AES-256-GCM's associated data): a text copied under another team's name does not open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.config import Secret
from gateway.releasing import LARGE
from gateway.settings import Settings
from gateway.stores.base import Cache
from gateway.turns import at_work

if TYPE_CHECKING:
    from gateway.recovery.cipher import TeamCipher

TTL_SECONDS = 3600
KEY_BYTES = 32
_NAME_LENGTH = 32  # hex digits: 128 bits
_REMEMBERED = 10_000  # texts whose storing need not be repeated yet, some 100 bytes each
_LARGEST_TEXT = 16 * 1024 * 1024  # characters of one text; more is not kept


def read_key(secret: Secret | None) -> bytes:
    """The 32 bytes of `TERSE_ENCRYPTION_KEY`; fresh random ones when it is not set.

    Raises ValueError for anything that is not 32 bytes in base64. Fresh ones cannot read what another
    process, or this one before its restart, has stored: such a text counts as gone.
    """
    if secret is None:
        return os.urandom(KEY_BYTES)
    try:
        key = base64.b64decode(secret.reveal(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError("TERSE_ENCRYPTION_KEY: expected 32 bytes in base64 (openssl rand -base64 32)")
    return key


def with_key(settings: Settings) -> Settings:
    """The settings with a usable encryption key: the given one, or a fresh one for all workers.

    Raises ValueError as `read_key` does.
    """
    key = read_key(settings.encryption_key)
    return replace(settings, encryption_key=Secret(base64.b64encode(key).decode()))


class Vault:
    """Keeps texts by name. Losing one costs the model its answer from the original, never a request."""

    def __init__(self, cache: Cache, key: bytes) -> None:
        self._cache = cache
        self._key = key
        self._ciphers: OrderedDict[str, TeamCipher] = OrderedDict()
        self._stored: OrderedDict[str, float] = OrderedDict()  # full name -> when, on the monotonic clock

    def name_of(self, team: str, text: str) -> str:
        """The name of a text: depends on team and text, and tells nothing about either without the key."""
        return _names(self._cipher(team), [text])[0]

    async def put(self, team: str, texts: Sequence[str]) -> list[str]:
        """Stores the texts for an hour and gives their names."""
        large = sum(map(len, texts)) >= LARGE
        cipher = self._cipher(team)
        names = await at_work(large, _names, cipher, texts)
        now = time.monotonic()
        missing = {}
        for name, text in zip(names, texts, strict=True):
            place = _place(team, name)
            # Half of its time is left at least: a conversation's every turn brings the same texts again.
            if now - self._stored.get(place, -TTL_SECONDS) < TTL_SECONDS / 2 or len(text) > _LARGEST_TEXT:
                continue
            missing[place] = (text, _bound(team, name))
            self._stored[place] = now
            self._stored.move_to_end(place)
        while len(self._stored) > _REMEMBERED:
            self._stored.popitem(last=False)
        if missing:
            await self._cache.set_many(await at_work(large, _sealed, cipher, missing), TTL_SECONDS)
        return names

    async def get(self, team: str, names: Sequence[str]) -> list[str | None]:
        """The texts of this team under these names; None: gone, another team's, or tampered with."""
        if not names:
            return []
        sealed = await self._cache.get_many([_place(team, name) for name in names])
        bound = [_bound(team, name) for name in names]
        large = sum(len(data or b"") for data in sealed) >= LARGE // 4  # sealed texts are packed
        return await at_work(large, _opened, self._cipher(team), sealed, bound)

    def _cipher(self, team: str) -> TeamCipher:
        known = self._ciphers.get(team)
        if known is None:
            from gateway.recovery.cipher import TeamCipher  # loaded already where a policy offers recovery

            known = self._ciphers[team] = TeamCipher(self._key, team)
            if len(self._ciphers) > _REMEMBERED:
                self._ciphers.popitem(last=False)
        return known


def _names(cipher: TeamCipher, texts: Sequence[str]) -> list[str]:
    encoded = (text.encode("utf-8", "surrogatepass") for text in texts)
    return [hmac.digest(cipher.salt, one, "sha256").hex()[:_NAME_LENGTH] for one in encoded]


def _sealed(cipher: TeamCipher, texts: Mapping[str, tuple[str, bytes]]) -> dict[str, bytes]:
    return {place: cipher.seal(text, bound) for place, (text, bound) in texts.items()}


def _opened(cipher: TeamCipher, sealed: Sequence[bytes | None], bound: Sequence[bytes]) -> list[str | None]:
    pairs = zip(sealed, bound, strict=True)
    return [None if data is None else cipher.open(data, each) for data, each in pairs]


def _place(team: str, name: str) -> str:
    """The key in the cache: a team's name may hold anything."""
    return f"o:{hashlib.sha256(team.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}:{name}"


def _bound(team: str, name: str) -> bytes:
    return f"{name}\0{team}".encode("utf-8", "surrogatepass")
