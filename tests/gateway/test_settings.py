from __future__ import annotations

from pathlib import Path

import pytest

from compressor.engine.fake import FakeEngine
from gateway.compression.shortening import FrontRoom
from gateway.config import Config
from gateway.services import open_services
from gateway.settings import Settings, load_settings
from tests.support.live_gateway import read_yaml

MIB = 1024 * 1024


def test_without_any_variable_the_defaults_hold() -> None:
    given = load_settings({})
    assert (given.max_body_bytes, given.cache_bytes) == (32 * MIB, 32 * MIB)
    assert given.redis_url is None


@pytest.mark.parametrize("name", ["TERSE_MAX_BODY_BYTES", "TERSE_CACHE_BYTES"])
@pytest.mark.parametrize(("value", "said"), [("1e6", "whole number of bytes, got '1e6'"), ("0", "above 0")])
def test_sizes_that_are_none_are_refused_by_name(name: str, value: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: .*{said}"):
        load_settings({name: value})


async def test_the_caches_of_a_process_get_the_room_that_was_asked_for(
    tmp_path: Path, offline: Config
) -> None:
    settings = Settings(data_dir=str(tmp_path), cache_bytes=MIB)
    async with open_services(offline, settings, engine=FakeEngine()) as services:
        for number in range(2000):
            await services.stores.cache.set_many({f"key {number}": bytes(1000)}, 60)
        kept = await services.stores.cache.get_many([f"key {number}" for number in range(2000)])
        assert 700 < sum(value is not None for value in kept) < MIB / 1000
        assert services.shortener._memory.most_bytes == MIB // 4


def test_scores_of_a_shared_store_are_kept_at_hand() -> None:
    assert FrontRoom.of(32 * MIB, shared=True) == FrontRoom()
    assert FrontRoom.of(32 * MIB, shared=False) == FrontRoom(MIB, 8 * MIB, 8 * MIB)


@pytest.fixture
def offline() -> Config:
    return read_yaml('upstreams: {up: {base_url: "http://127.0.0.1:1/v1"}}\nmodels: {m: {upstream: up}}')
