"""Expositions of several replicas as one."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from compressor.engine.fake import FakeEngine
from compressor.shapes import ScoreTimings
from gateway.compression.compressor_metrics import CompressorMetrics
from gateway.compression.fleet_metrics import merged_exposition


def counted(outcomes: dict[str, int]) -> str:
    metrics = CompressorMetrics(FakeEngine())
    for outcome, times in outcomes.items():
        for _ in range(times):
            metrics.answered(outcome)
            metrics.scored(ScoreTimings(1.0, 30.0))
    return metrics.text().decode()


def test_every_series_of_every_replica_once() -> None:
    replicas = {"a": counted({"ok": 2}), "b": counted({"ok": 3, "Overloaded": 1})}
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(merged_exposition(replicas).decode())
        for sample in family.samples
    }
    answers = "terse_compressor_answers_total"
    assert found[answers, (("outcome", "ok"), ("replica", "a"))] == 2
    assert found[answers, (("outcome", "ok"), ("replica", "b"))] == 3
    assert found[answers, (("outcome", "Overloaded"), ("replica", "b"))] == 1
    assert found["terse_compressor_ready", (("replica", "b"),)] == 1
    assert found["terse_compressor_replicas", ()] == 2
    assert found["terse_compressor_encode_seconds_bucket", (("le", "0.05"), ("replica", "b"))] == 4
    alone = [s for text in replicas.values() for f in text_string_to_metric_families(text) for s in f.samples]
    assert len(found) == len(alone) + 1


def test_help_and_type_come_once() -> None:
    text = merged_exposition({"a": counted({"ok": 1}), "b": counted({"ok": 1})}).decode()
    for line in ("# TYPE terse_compressor_answers_total counter", "# TYPE terse_compressor_ready gauge"):
        assert text.splitlines().count(line) == 1


def test_a_replica_that_says_nothing_of_a_family() -> None:
    text = merged_exposition({"a": counted({"ok": 1}), "b": ""}).decode()
    assert 'terse_compressor_ready{replica="a"} 1.0' in text
    assert "terse_compressor_replicas 2.0" in text
