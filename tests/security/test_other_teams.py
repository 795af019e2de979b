"""What one team has sent is no quicker for another: neither its cache nor its texts in memory answer."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from compressor.engine.fake import FakeEngine
from compressor.text.tokens import TiktokenCounter
from gateway.config import Secret
from gateway.settings import Settings
from tests.support.chat_bodies import rag
from tests.support.fake_upstream import FakeUpstream
from tests.support.live_gateway import MODELS, LiveGateway, live_gateway

MASTER = "sk-master-of-this-test"


@pytest.fixture
def gateway(upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    folder = str(tmp_path_factory.mktemp("data"))
    settings = Settings(master_key=Secret(MASTER), data_dir=folder)
    with live_gateway(upstream, MODELS, settings=settings) as running:
        yield running


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Characters that went through the tokenizer, one entry a call: the longest of a request's own work."""
    lengths: list[int] = []
    count_many = TiktokenCounter.count_many

    def spy(self: TiktokenCounter, texts: list[str]) -> list[int]:
        lengths.append(sum(map(len, texts)))
        return count_many(self, texts)

    monkeypatch.setattr(TiktokenCounter, "count_many", spy)
    return lengths


def key_of(gateway: LiveGateway, team: str) -> str:
    with gateway.client(authorization=f"Bearer {MASTER}") as admin:
        admin.post("/team/new", json={"team_id": team}).raise_for_status()
        return str(admin.post("/key/generate", json={"team_id": team}).json()["key"])


def ask(gateway: LiveGateway, key: str) -> httpx.Response:
    with gateway.client(authorization=f"Bearer {key}") as client:
        return client.post("/v1/chat/completions", json=rag(sentences=400))


def test_a_text_of_another_team_is_a_new_one(gateway: LiveGateway, counted: list[int]) -> None:
    red, blue = key_of(gateway, "red"), key_of(gateway, "blue")
    work = []
    for key in (red, red, blue, blue):
        counted.clear()
        reply = ask(gateway, key)
        assert reply.headers["x-terse-compression"] == "applied"
        work.append((reply.headers["x-terse-cache"], sum(counted)))
    first, again, others, others_again = work
    assert (first[0], again[0], others[0], others_again[0]) == ("miss", "hit", "miss", "hit")
    assert others[1] == first[1] > 20_000, "the other team's text was counted before"
    assert again[1] == others_again[1] < first[1] // 10
    assert isinstance(gateway.engine, FakeEngine)
    assert len(gateway.engine.scored) == 2 * len(set(gateway.engine.scored))
