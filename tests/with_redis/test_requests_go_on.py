"""Redis killed in mid-run: requests go on, streams included; when it is back, it is used again."""

from __future__ import annotations

import time

from gateway.config import Secret
from gateway.settings import Settings
from tests.support import chat_bodies
from tests.support.fake_upstream import FakeUpstream
from tests.support.live_gateway import MODELS, live_gateway
from tests.with_redis.server import RedisServer

TEAM = "\nteams: {default: {budget: {usd: 100, per: month}, limits: {requests_per_minute: 6000}}}\n"
MASTER = "sk-master-of-this-test"


def test_killed_and_back(upstream: FakeUpstream, own_redis: RedisServer) -> None:
    settings = Settings(master_key=Secret(MASTER))
    yaml = MODELS + TEAM + f"store: {own_redis.url}\n"
    with (
        live_gateway(upstream, yaml, settings=settings) as gateway,
        gateway.client(authorization=f"Bearer {MASTER}") as client,
    ):

        def ask(sentences: int, **more: object) -> float:
            began = time.monotonic()
            body = chat_bodies.body(chat_bodies.rag(sentences=sentences, **more))
            reply = client.post("/v1/chat/completions", content=body)
            assert reply.status_code == 200, reply.text
            assert reply.headers["x-terse-compression"] == "applied"
            assert int(reply.headers["x-terse-tokens-saved"]) > 300
            return time.monotonic() - began

        ask(100)
        own_redis.kill()
        slowest = max(ask(100 + n, stream=bool(n % 2)) for n in range(8))
        assert slowest < 3
        readiness = client.get("/health/readiness")
        assert readiness.status_code == 200
        own_redis.start()
        ask(150)
        ask(150)
