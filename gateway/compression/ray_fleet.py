"""The encoder as a Ray Serve application: the protocol of compressor_server.py from many replicas.

Each replica owns one engine, which batches what waits for it; Ray Serve spreads the requests over the
replicas, starts and ends them with the load, replaces those whose engine died, and rolls a new model out with
the new replicas ready before the old ones end.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig

from compressor.config import CompressorConfig
from compressor.startup import open_engine
from gateway.compression.compressor_server import create_compressor_app
from gateway.compression.fleet_size import FleetSize

APPLICATION = "terse-compressor"
_HEALTH_PERIOD_SECONDS = 2.0
_HEALTH_TIMEOUT_SECONDS = 10.0
# What a replica takes at once; its engine bounds the tokens that wait. Far above `target_ongoing`, or Ray's
# router would hold back the texts that make a batch.
_ONGOING_OF_TARGET, _LEAST_ONGOING = 8, 16


class FleetReplica:
    """One engine. Ray Serve makes it, asks for its health and ends it."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._engine = open_engine(CompressorConfig(**config))

    def __serve_build_asgi_app__(self) -> Any:
        """Ray Serve runs this app, and its shutdown, which closes the engine."""
        return create_compressor_app(self._engine)

    async def check_health(self) -> None:
        """Raises when the engine cannot score any more: Ray Serve then replaces the replica."""
        health = self._engine.health()
        if not health.ready:
            raise RuntimeError(health.detail)


def application(config: CompressorConfig, size: FleetSize) -> serve.Application:
    """What `serve.run` deploys. Another `config` than the running one's makes new replicas, one by one."""
    deployment = serve.deployment(
        serve.ingress()(FleetReplica),
        name="encoder",
        autoscaling_config=AutoscalingConfig(
            min_replicas=size.min_replicas,
            max_replicas=size.max_replicas,
            target_ongoing_requests=size.target_ongoing,
            upscale_delay_s=size.upscale_seconds,
            downscale_delay_s=size.downscale_seconds,
            metrics_interval_s=1.0,
            look_back_period_s=max(2.0, size.upscale_seconds),
        ),
        max_ongoing_requests=max(_LEAST_ONGOING, round(size.target_ongoing * _ONGOING_OF_TARGET)),
        max_surge_percent=size.surge_percent,
        health_check_period_s=_HEALTH_PERIOD_SECONDS,
        health_check_timeout_s=_HEALTH_TIMEOUT_SECONDS,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=size.drain_seconds,
        ray_actor_options={"num_cpus": size.cpus, "num_gpus": size.gpus},
    )
    return deployment.bind(asdict(config))


def deploy(config: CompressorConfig, size: FleetSize, host: str, port: int) -> None:
    """Brings the fleet of the connected Ray cluster to this state, and returns once all replicas run.

    Raises RuntimeError when the replicas do not become healthy.
    """
    serve.start(http_options={"host": host, "port": port}, proxy_location="EveryNode")
    serve.run(application(config, size), name=APPLICATION, route_prefix="/", blocking=False)
