"""How large the encoder's fleet is; apart from ray_fleet.py so that it can be said without Ray."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FleetSize:
    """How many replicas, and what each one gets of its machine."""

    min_replicas: int = 1
    max_replicas: int = 1
    target_ongoing: float = 8.0  # texts at work in a replica; above it another one starts
    gpus: float = 0.0  # of a replica; 0.5 puts two on one GPU
    cpus: float = 1.0
    upscale_seconds: float = 5.0
    downscale_seconds: float = 120.0
    drain_seconds: float = 30.0  # how long an ending replica may finish what it took
    surge_percent: int = (
        100  # extra replicas while a new model is rolled out; 0 where there is no room for them
    )
