from __future__ import annotations

import numpy as np

from gateway.compression.score_cache import ScoreCache, score_key, team_salt
from gateway.compression.text_memory import digest_of
from gateway.stores.memory import MemoryCache

SALT = team_salt(b"secret", "search")


def test_keys_depend_on_text_fingerprint_team_and_secret() -> None:
    keys = {
        score_key(SALT, "model", digest_of("text")),
        score_key(SALT, "model", digest_of("text ")),
        score_key(SALT, "other", digest_of("text")),
        score_key(team_salt(b"secret", "billing"), "model", digest_of("text")),
        score_key(team_salt(b"other", "search"), "model", digest_of("text")),
    }
    assert len(keys) == 5
    assert score_key(SALT, "model", digest_of("text")) == score_key(SALT, "model", digest_of("text"))
    assert "text" not in score_key(SALT, "model", digest_of("text"))


def test_an_unpaired_surrogate_has_a_key() -> None:
    assert score_key(SALT, "m", digest_of("\ud800")) != score_key(SALT, "m", digest_of("?"))


async def test_scores_come_back_from_here_and_from_the_store() -> None:
    store = MemoryCache()
    one, other = ScoreCache(store), ScoreCache(store)
    scores = np.array([1, 255, 0], np.uint8)
    await one.put({"s:a": scores})
    for cache in (one, other, other):
        found = await cache.get(["s:b", "s:a", "s:a"])
        assert found[0] is None
        assert [values.tolist() for values in found[1:] if values is not None] == [[1, 255, 0]] * 2


async def test_the_front_is_bounded_and_forgets_the_oldest() -> None:
    cache = ScoreCache(MemoryCache(max_bytes=1), front_bytes=10_000)
    for number in range(100):
        await cache.put({f"s:{number}": np.zeros(1_000, np.uint8)})
    found = await cache.get([f"s:{number}" for number in range(100)])
    assert found[0] is None
    assert found[99] is not None
    assert sum(values is not None for values in found) == 7
