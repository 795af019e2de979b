"""Lints and renders the Helm chart as Helm does, and checks each manifest against Kubernetes's own schemas.

Part of `make lint-deploy`. Helm is its Go SDK inside helm-python-sdk, the schemas are those of
kubernetes-validate: neither needs a cluster or the network. Exit code 1 when something is wrong, with what.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import yaml

CHART = Path(__file__).parent / "helm" / "terse"
VERSIONS = ("1.29", "1.37")  # the oldest that the chart is meant for, and the newest known
WARNING = 2  # and above, of Helm's severities

# What operators set, so that each branch of each template is rendered.
SETTINGS: Mapping[str, dict[str, Any]] = {
    "as it is": {},
    "everything": {
        "compressor": {"enabled": True, "tolerations": [{"key": "gpu", "operator": "Exists"}]},
        "ingress": {"enabled": True, "className": "nginx", "host": "terse.example.org", "tlsSecret": "tls"},
        "imagePullSecrets": [{"name": "registry"}],
        "image": {"digest": "sha256:" + "0" * 64},
        "networkPolicy": {"ingressFrom": [{"namespaceSelector": {"matchLabels": {"team": "web"}}}]},
        "podAnnotations": {"example.org/scrape": "true"},
    },
    "secrets made here": {"secrets": {"TERSE_MASTER_KEY": "sk-x", "REDIS_URL": "redis://redis:6379"}},
    "secrets that exist": {"existingSecret": "terse"},
    "a fixed size": {
        "autoscaling": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": False},
    },
}


def rendered(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The manifests that `helm install` would send."""
    with helm_python.Chart.load(CHART) as chart:
        for text in chart.render(values, name="llm", namespace="models").values():
            yield from filter(None, yaml.safe_load_all(text))


def problems(values: dict[str, Any], kinds: set[str]) -> Iterator[str]:
    """What Helm or a schema does not like; `kinds` collects what was rendered."""
    report = helm_python.lint(CHART, values, strict=True)
    yield from report["errors"]
    for message in report["messages"]:
        if message["severity"] >= WARNING:
            yield f"{message['path']}: {message['error']}"
    for manifest in rendered(values):
        kinds.add(manifest["kind"])
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                what = f"{manifest['kind']} {manifest['metadata']['name']}, Kubernetes {version}"
                yield f"{what}: {'.'.join(map(str, error.path))}: {error.message}"


def main() -> int:
    """Says what was checked."""
    kinds: set[str] = set()
    found = [f"{name}: {problem}" for name, values in SETTINGS.items() for problem in problems(values, kinds)]
    for line in found:
        print(line)
    print(f"{len(SETTINGS)} settings, Kubernetes {' and '.join(VERSIONS)}: {', '.join(sorted(kinds))}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
