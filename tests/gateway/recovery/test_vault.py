"""Originals at rest: encrypted, bound to their team, gone after a while."""

from __future__ import annotations

import base64
import random
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Secret
from gateway.recovery import vault as vault_module
from gateway.recovery.vault import Vault, read_key, with_key
from gateway.settings import Settings
from gateway.stores.memory import MemoryCache

KEY = bytes(range(32))
TEXT = "Invoice 4711 of 12,500.75 EUR is due on 2026-03-14."


class Spying(MemoryCache):
    """Shows what is really stored."""

    def __init__(self) -> None:
        super().__init__()
        self.items: dict[str, bytes] = {}
        self.writes = 0

    async def set_many(self, items: Mapping[str, bytes], ttl_seconds: int) -> None:
        self.items.update(items)
        self.writes += len(items)
        await super().set_many(items, ttl_seconds)


async def test_what_is_put_is_read_again_by_its_team_alone() -> None:
    cache = Spying()
    vault = Vault(cache, KEY)
    [name] = await vault.put("search", [TEXT])
    assert await vault.get("search", [name, "0" * 32]) == [TEXT, None]
    assert await vault.get("ads", [name]) == [None]
    assert vault.name_of("ads", TEXT) != name
    assert await vault.get("search", []) == []


async def test_large_texts_are_hashed_sealed_and_opened_on_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[bool] = []

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            threads.append(threading.current_thread() is threading.main_thread())
            return function(*args)

        return run

    for name in ("_names", "_sealed", "_opened"):
        monkeypatch.setattr(vault_module, name, watched(getattr(vault_module, name)))
    for text, on_loop in ((TEXT, True), (random.Random(1).randbytes(400_000).hex(), False)):
        vault = Vault(MemoryCache(), KEY)
        names = await vault.put("search", [text])
        assert await vault.get("search", names) == [text]
        assert threads == [on_loop] * 3
        threads.clear()


async def test_a_text_copied_under_another_teams_name_does_not_open() -> None:
    cache = Spying()
    vault = Vault(cache, KEY)
    [name] = await vault.put("search", [TEXT])
    [other] = await vault.put("ads", ["something else"])
    sealed = [data for place, data in cache.items.items() if place.endswith(name)]
    place = next(place for place in cache.items if place.endswith(other))
    await cache.set_many({place: sealed[0]}, 60)
    assert await vault.get("ads", [other]) == [None]
    # Under another name of the same team neither.
    [mine] = await vault.put("search", ["more"])
    place = next(place for place in cache.items if place.endswith(mine))
    await cache.set_many({place: sealed[0]}, 60)
    assert await vault.get("search", [mine]) == [None]


async def test_nothing_readable_is_stored() -> None:
    cache = Spying()
    await Vault(cache, KEY).put("search", [TEXT])
    stored = b"".join([place.encode() + data for place, data in cache.items.items()])
    for part in (b"4711", b"Invoice", b"search", b"EUR"):
        assert part not in stored


async def test_tampering_and_other_keys_read_as_gone() -> None:
    cache = Spying()
    [name] = await Vault(cache, KEY).put("search", [TEXT])
    place, data = next(iter(cache.items.items()))
    assert await Vault(cache, bytes(32)).get("search", [name]) == [None]
    for broken in (data[:-1] + bytes([data[-1] ^ 1]), data[:20], b""):
        await cache.set_many({place: broken}, 60)
        assert await Vault(cache, KEY).get("search", [name]) == [None]


async def test_replicas_with_one_key_share_and_repeat_nothing() -> None:
    cache = Spying()
    one, other = Vault(cache, KEY), Vault(cache, KEY)
    names = await one.put("search", [TEXT, "more"])
    assert await one.put("search", [TEXT, "more"]) == names
    assert cache.writes == 2
    assert await other.get("search", names) == [TEXT, "more"]


@given(st.text(max_size=200), st.text(max_size=10))
async def test_every_text_comes_back(text: str, team: str) -> None:
    vault = Vault(MemoryCache(), KEY)
    [name] = await vault.put(team, [text])
    assert await vault.get(team, [name]) == [text]


def test_the_key_of_the_environment() -> None:
    assert read_key(Secret(base64.b64encode(KEY).decode())) == KEY
    assert len(read_key(None)) == 32 and read_key(None) != read_key(None)
    made = with_key(Settings())
    assert made.encryption_key is not None and with_key(made) == made
    for wrong in ("short", "not base64 !", base64.b64encode(b"x" * 31).decode()):
        with pytest.raises(ValueError, match="TERSE_ENCRYPTION_KEY: expected 32 bytes in base64"):
            read_key(Secret(wrong))
