"""Scores by content: one byte a word, under the encoder's fingerprint, apart for each team.

A hit gives the bytes that a miss would compute, so both give the same text. Keys are HMACs under the team's
own salt: one team cannot learn from response times what another has sent.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gateway.lru import LruCache
from gateway.stores.base import Cache
from gateway.turns import at_work, with_pauses

Scores = NDArray[np.uint8]

# Scores are cheap to keep (a byte a word) and dear to make; a week covers a document that is asked about
# every Monday.
TTL_SECONDS = 7 * 24 * 3600
# 16 MiB hold the scores of some 15 million words, and leave a worker well under 150 MB.
_FRONT_BYTES = 16 * 1024 * 1024
_ASKED_AT_ONCE = 250  # keys: half a millisecond
_LARGE = 1024 * 1024  # bytes of scores that are copied on a thread
_ENTRY_OVERHEAD = 290  # bytes of key, header, tuple and dictionary slot, as tracemalloc says


@lru_cache(maxsize=4096)  # 13 us each
def team_salt(secret: bytes, team: str) -> bytes:
    """The key under which a team's content is hashed: the same on every replica that shares `secret`."""
    return hmac.digest(secret or b"terse", b"team\0" + team.encode("utf-8", "surrogatepass"), "sha256")


def score_key(salt: bytes, fingerprint: str, digest: bytes) -> str:
    """The store's key for the scores of the text with this digest."""
    return "s:" + hmac.digest(salt, fingerprint.encode() + b"\0" + digest, "sha256")[:16].hex()


def _encoded(scores: Mapping[str, Scores]) -> dict[str, bytes]:
    return {key: values.tobytes() for key, values in scores.items()}


class ScoreCache:
    """An in-process front, bounded in bytes, of the shared store. Trouble of the store is a miss."""

    def __init__(self, store: Cache, front_bytes: int = _FRONT_BYTES) -> None:
        self._store = store
        self._front: LruCache[bytes] = LruCache(front_bytes, lambda _, data: len(data) + _ENTRY_OVERHEAD)

    async def get(self, keys: Sequence[str]) -> list[Scores | None]:
        """The scores under each key, in order; None where nothing is known."""
        if len(keys) <= _ASKED_AT_ONCE:
            return await self._get(keys)
        scores: list[Scores | None] = []
        async for start in with_pauses(range(0, len(keys), _ASKED_AT_ONCE)):
            scores += await self._get(keys[start : start + _ASKED_AT_ONCE])
        return scores

    async def _get(self, keys: Sequence[str]) -> list[Scores | None]:
        found = {key: data for key in keys if (data := self._front.get(key)) is not None}
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        if missing:
            for key, data in zip(missing, await self._store.get_many(missing), strict=True):
                if data is not None:
                    found[key] = data
                    self._front.put(key, data)
        return [np.frombuffer(found[key], np.uint8) if key in found else None for key in keys]

    def peek(self, key: str) -> Scores | None:
        """What is known here, without asking the store."""
        data = self._front.peek(key)
        return np.frombuffer(data, np.uint8) if data is not None else None

    async def put(self, scores: Mapping[str, Scores]) -> None:
        """Remembers scores here and in the store."""
        large = sum(len(values) for values in scores.values()) > _LARGE
        items = await at_work(large, _encoded, scores)
        for key, data in items.items():
            self._front.put(key, data)
        await self._store.set_many(items, TTL_SECONDS)
