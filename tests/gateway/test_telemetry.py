"""Metrics of requests, bounded whatever clients send; log lines without what clients wrote."""

from __future__ import annotations

import logging
from dataclasses import replace

import orjson
import pytest

from gateway.shapes import Receipt, Usage
from gateway.telemetry import JsonLines, Metrics, configure_logs, log_requests, render_metrics

RECEIPT = Receipt(
    request_id="r1", at="2026-01-01T00:00:00Z", team="search", key_id="0123456789abcdef", route="0",
    policy="rag", model="gpt-4o-mini", upstream="openai", surface="chat", status_code=200,
    compression="applied", skip_reason="", cache="hit", tokens_before=100, tokens_after=40,
    usage=Usage(input_tokens=42, cached_input_tokens=8, output_tokens=7), cost_usd=0.5,
    counterfactual_usd=0.75, saved_usd=0.25, overhead_ms=4.0, upstream_ms=90.0, first_byte_ms=95.0,
    stream=False,
)  # fmt: skip


def page_of(metrics: Metrics) -> dict[str, float]:
    lines = render_metrics(metrics, "")[0].decode().splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line[0] != "#"}


def test_one_request() -> None:
    metrics = Metrics()
    metrics.record([(RECEIPT, 2)])
    metrics.failed("books")
    page = page_of(metrics)
    labels = 'model="gpt-4o-mini",route="0",status="200",surface="chat",team="search"'
    assert page[f"terse_requests_total{{{labels}}}"] == 1
    assert page['terse_prompt_tokens_total{model="gpt-4o-mini",stage="before",team="search"}'] == 100
    assert page['terse_prompt_tokens_total{model="gpt-4o-mini",stage="after",team="search"}'] == 40
    assert page['terse_billed_tokens_total{kind="cached",model="gpt-4o-mini",team="search"}'] == 8
    assert page['terse_saved_usd_total{model="gpt-4o-mini",team="search"}'] == 0.25
    assert page['terse_upstream_attempts_total{upstream="openai"}'] == 2
    assert page['terse_score_cache_total{state="hit"}'] == 1
    assert page['terse_overhead_seconds_sum{compression="applied"}'] == pytest.approx(0.004)
    assert page['terse_failures_total{part="books"}'] == 1


def test_what_compression_lost_is_counted_apart() -> None:
    metrics = Metrics()
    metrics.record([(replace(RECEIPT, saved_usd=-0.5), 1)])
    page = page_of(metrics)
    assert page['terse_lost_usd_total{model="gpt-4o-mini",team="search"}'] == 0.5
    assert page['terse_saved_usd_total{model="gpt-4o-mini",team="search"}'] == 0


def test_invented_models_make_no_series_without_end() -> None:
    metrics = Metrics()
    for number in range(1000):
        metrics.record([(replace(RECEIPT, model=f"m{number}"), 1)])
    series = [name for name in page_of(metrics) if name.startswith("terse_cost_usd_total")]
    assert len(series) == 201
    assert page_of(metrics)['terse_cost_usd_total{model="other",team="search"}'] == 0.5 * 800


def test_the_line_of_a_request(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "terse.request"):
        log_requests([(RECEIPT, 2)])
    (record,) = caplog.records
    line = orjson.loads(JsonLines().format(record))
    assert (line["message"], line["level"], line["request_id"]) == ("request", "info", "r1")
    assert (line["key"], line["tokens_after"], line["attempts"]) == ("0123456789ab", 40, 2)
    assert line["at"].startswith("20")


def test_a_level_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="TERSE_LOG_LEVEL"):
        configure_logs("loud")
