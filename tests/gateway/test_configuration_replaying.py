"""Replay: what a configuration would have done to logged traffic."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.configuration.replaying import Replay, read_log, replay_as_data, replay_traffic
from gateway.configuration_file import parse_config
from gateway.settings import Settings
from gateway.shapes import Receipt, Usage
from gateway.stores.books import entry_of
from gateway.telemetry import JsonLines, log_requests
from policies.errors import PolicyError

FILE = """\
upstreams: {up: {offline: true}}
models: {"gpt-*": {input_price: 1e-6, output_price: 4e-6, cache_read_price: 5e-7, context_window: 100000}}
policies:
  default: {keep: 0.5}
  audit: {keep: 0.5, mode: audit}
  tenth: {keep: 0.5, sample: 0.1}
teams:
  search: {budget: {usd: 0.01, per: day}, pressure: [{spent: 0.5, keep: 0.2}]}
routes:
  - {match: {team: careful}, policy: audit}
  - {match: {team: sampled}, policy: tenth}
"""


def receipt(**more: Any) -> Receipt:
    fields: dict[str, Any] = {
        "request_id": "r-1",
        "at": "2026-11-21T10:00:00.000+00:00",
        "team": "ads",
        "key_id": "k",
        "route": "",
        "policy": "off",
        "model": "gpt-4o",
        "upstream": "up",
        "surface": "chat",
        "status_code": 200,
        "compression": "off",
        "skip_reason": "mode-off",
        "cache": "none",
        "tokens_before": 4000,
        "tokens_after": 4000,
        "usage": Usage(input_tokens=4000, output_tokens=100),
        "cost_usd": 0.0044,
        "counterfactual_usd": 0.0044,
        "saved_usd": 0.0,
        "overhead_ms": 1.0,
        "upstream_ms": 500.0,
        "first_byte_ms": 300.0,
        "stream": False,
        "compressible_tokens": 3000,
        **more,
    }
    return Receipt(**fields)


def as_lines(*receipts: Receipt) -> bytes:
    return b"".join(orjson.dumps(entry_of(each)) + b"\n" for each in receipts)


def replay(data: bytes, tmp_path: Path, *, name: str = "log.jsonl", share: float = 0.8) -> dict[str, Any]:
    path = tmp_path / name
    path.write_bytes(data)
    outcome = Replay()
    config = parse_config(FILE, "terse.yaml", Settings()).config
    replay_traffic(config, read_log(str(path), outcome), outcome, compressible_share=share)
    return replay_as_data(outcome)


def test_tokens_and_dollars(tmp_path: Path) -> None:
    said = replay(as_lines(receipt(), receipt(compressible_tokens=500)), tmp_path)
    assert said["total"] == {
        "requests": 2,
        "shortened": 1,
        "audited": 0,
        "tokens_before": 8000,
        "tokens_after": 6500,
        "tokens_saved": 1500,
        "logged_usd": 0.0088,
        "saved_usd": 0.0015,
        "reasons": {"shortened": 1, "below-trigger": 1},
    }
    assert said["policies"] == {"default": said["total"]}
    assert said["first"] == "2026-11-21T10:00:00+00:00"


def test_a_cached_token_saves_less(tmp_path: Path) -> None:
    usage = Usage(input_tokens=4000, cached_input_tokens=2000, output_tokens=100)
    assert replay(as_lines(receipt(usage=usage)), tmp_path)["total"]["saved_usd"] == pytest.approx(
        1500 * 7.5e-7
    )


def test_the_gateways_own_log_line_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines: list[str] = []
    handler = logging.Handler()
    handler.setFormatter(JsonLines())
    handler.emit = lambda record: lines.append(handler.format(record))  # type: ignore[method-assign]
    logger = logging.getLogger("terse.request")
    logger.addHandler(handler)
    try:
        with caplog.at_level(logging.INFO, "terse.request"):
            log_requests([(receipt(), 1)])
    finally:
        logger.removeHandler(handler)
    other = b'{"at":"2026-11-21T10:00:00+00:00","level":"info","logger":"x","message":"started"}\n'
    said = replay(other + lines[0].encode() + b"\n", tmp_path)
    assert (said["total"]["requests"], said["total"]["tokens_saved"], said["unreadable_lines"]) == (
        1,
        1500,
        0,
    )


def test_one_array_and_gzip(tmp_path: Path) -> None:
    array = orjson.dumps([entry_of(receipt()), entry_of(receipt())], option=orjson.OPT_INDENT_2)
    assert replay(array, tmp_path, name="export.json")["total"]["requests"] == 2
    assert replay(gzip.compress(as_lines(receipt())), tmp_path, name="log.gz")["total"]["requests"] == 1


def test_modes_and_shares(tmp_path: Path) -> None:
    audited = replay(as_lines(receipt(team="careful")), tmp_path)["total"]
    assert (audited["shortened"], audited["audited"], audited["tokens_saved"]) == (0, 1, 1500)
    many = as_lines(*[receipt(team="sampled", request_id=f"r-{n}") for n in range(400)])
    assert 20 <= replay(many, tmp_path)["total"]["shortened"] <= 60


def test_pressure_follows_what_would_have_been_spent(tmp_path: Path) -> None:
    lines = [
        receipt(team="search", at=f"2026-11-2{day}T1{hour}:00:00+00:00")
        for day in (1, 2)
        for hour in range(4)
    ]
    kept = []
    for count in range(1, 9):
        total = replay(as_lines(*lines[:count]), tmp_path)["total"]
        kept.append(3000 - total["tokens_saved"] + sum(3000 - k for k in kept))
    # 0.0044 less what is saved, of 0.01 a day: half is gone after the second request; a new day starts anew.
    assert kept == [1500, 1500, 600, 600, 1500, 1500, 600, 600]


def test_what_the_log_does_not_say_is_assumed_and_told(tmp_path: Path) -> None:
    said = replay(as_lines(receipt(compressible_tokens=0)), tmp_path, share=0.5)
    assert (said["assumed_compressible"], said["total"]["tokens_saved"]) == (1, 1000)


def test_what_is_no_traffic_is_left_out(tmp_path: Path) -> None:
    lines = as_lines(
        receipt(outcome="shadow"),
        receipt(outcome="judge"),
        receipt(surface="embeddings"),
        receipt(model="claude"),
    )
    said = replay(lines + b"not json\n\n[1]\n" + as_lines(receipt(at="yesterday")), tmp_path)
    assert said["total"]["requests"] == 0
    assert (said["unknown_models"], said["unreadable_lines"]) == ({"claude": 1}, 3)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="No such file"):
        list(read_log(str(tmp_path / "gone"), Replay()))
    with pytest.raises(PolicyError, match="Not a gzipped file"):
        replay(b"plain", tmp_path, name="x.gz")
    with pytest.raises(PolicyError, match="one JSON array"):
        replay(b"[1,\n2", tmp_path)
    assert replay(b"", tmp_path)["total"]["requests"] == 0
