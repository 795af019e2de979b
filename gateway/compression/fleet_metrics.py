"""The expositions of several replicas as one: each series once for each replica, told apart by a label."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample


def merged_exposition(replicas: Mapping[str, str]) -> bytes:
    """One exposition of those of the replicas, by name, with `replica` on every series.

    Values are not added up: Prometheus does that, and it sees which replica is slow or began anew.
    """
    families: dict[str, Metric] = {}
    for replica, text in sorted(replicas.items()):
        for family in text_string_to_metric_families(text):
            known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            known.samples += [_labelled(sample, replica) for sample in family.samples]
    count = GaugeMetricFamily(
        "terse_compressor_replicas", "Replicas of the fleet that answered this scrape", len(replicas)
    )
    registry = CollectorRegistry()
    registry.register(_Collected([count, *families.values()]))
    return generate_latest(registry)


def _labelled(sample: Sample, replica: str) -> Sample:
    return sample._replace(labels={**sample.labels, "replica": replica})


class _Collected(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families
