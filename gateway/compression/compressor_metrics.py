"""What a compressor process counts, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from compressor.engine.protocol import EngineHealth, ScoringEngine
from compressor.shapes import ScoreTimings
from gateway.compression.remote_engine import RemoteEngine

# From one short text on a GPU to a long one on a busy CPU, in seconds.
_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60)


class CompressorMetrics:
    """Counts of one process, in a registry of their own."""

    def __init__(self, engine: ScoringEngine) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_EngineCollector(engine))
        self._answers = Counter(
            "terse_compressor_answers", "Answers by outcome", ["outcome"], registry=self._registry
        )
        self._wait = Histogram(
            "terse_compressor_wait_seconds", "Queueing", buckets=_BUCKETS, registry=self._registry
        )
        self._encode = Histogram(
            "terse_compressor_encode_seconds", "Encoding", buckets=_BUCKETS, registry=self._registry
        )

    def answered(self, outcome: str) -> None:
        """Counts an answer."""
        self._answers.labels(outcome).inc()

    def scored(self, timings: ScoreTimings) -> None:
        """Counts where the time of a scored text went."""
        self._wait.observe(timings.wait_ms / 1000)
        self._encode.observe(timings.encode_ms / 1000)

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self._registry)


class _EngineCollector(Collector):
    """The engine's own counts, read when Prometheus asks."""

    def __init__(self, engine: ScoringEngine) -> None:
        self._engine = engine

    def collect(self) -> Iterable[Metric]:
        health = self._engine.health()
        yield GaugeMetricFamily("terse_compressor_ready", "1 while scoring works", int(health.ready))
        yield GaugeMetricFamily(
            "terse_compressor_waiting_tokens", "Encoder tokens in the queue", health.waiting_tokens
        )
        for name, help_text, value in (
            ("terse_compressor_texts", "Texts scored", health.scored_texts),
            ("terse_compressor_tokens", "Encoder tokens scored", health.scored_tokens),
            ("terse_compressor_batches", "Passes of the encoder", health.batches),
        ):
            yield CounterMetricFamily(name, help_text, value)
        if isinstance(self._engine, RemoteEngine):
            yield from _process_metrics(self._engine.healths())


def _process_metrics(healths: Iterable[EngineHealth]) -> Iterable[Metric]:
    """One row for each encoder process behind this one."""
    labels = ["process", "device"]
    ready = GaugeMetricFamily("terse_compressor_process_ready", "1 while it scores", labels=labels)
    waiting = GaugeMetricFamily("terse_compressor_process_waiting_tokens", "Its queue", labels=labels)
    for number, health in enumerate(healths):
        ready.add_metric([str(number), health.device], int(health.ready))
        waiting.add_metric([str(number), health.device], health.waiting_tokens)
    return ready, waiting
