"""The disk is full: requests are answered all the same, and what could not be written is counted."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.support.chat_bodies import chat
from tests.support.fake_upstream import fake_upstream
from tests.support.terse_process import terse_process

YAML = """
upstreams:
  up: {base_url: env/FAKE_URL, api_key: sk-upstream}
models:
  gpt-4o-mini: {upstream: up}
policies:
  default: {mode: off}
"""
# A worker is a child that inherits the limit when it starts; the database has about 150 kB when it is new.
LARGEST_FILE = 200_000
REQUESTS = 300


def test_requests_are_answered(tmp_path: Path) -> None:
    with (
        fake_upstream() as upstream,
        terse_process(tmp_path, YAML, largest_file=LARGEST_FILE, FAKE_URL=upstream.url) as gateway,
        httpx.Client(base_url=gateway.url, timeout=30) as client,
    ):
        statuses = {client.post("/v1/chat/completions", json=chat()).status_code for _ in range(REQUESTS)}
        metrics = client.get("/metrics").text
        log = gateway.log
        ready = client.get("/health/readiness").status_code
    assert statuses == {200}
    assert ready == 200
    assert "full" in log or "disk" in log or "I/O" in log, "nothing was said: did the disk fill up at all?"
    assert 'terse_failures_total{part="' in metrics
