"""The encoder as a Ray Serve application: the protocol of compressor_server.py from many replicas.

Each replica owns one engine, which batches what waits for it; Ray Serve spreads the requests over the
replicas, starts and ends them with the load, replaces those whose engine died, and rolls a new model out with
the new replicas ready before the old ones end.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.config import AutoscalingConfig
from ray.serve.exceptions import RayServeException

from compressor.config import CompressorConfig
from gateway.compression.compressor_metrics import CompressorMetrics
from gateway.compression.compressor_server import create_compressor_app
from gateway.compression.fleet_metrics import merged_exposition
from gateway.compression.fleet_size import FleetSize
from gateway.compression.sole_engine import open_sole_engine

APPLICATION = "terse-compressor"
_DEPLOYMENT = "encoder"
_HEALTH_PERIOD_SECONDS = 2.0
_HEALTH_TIMEOUT_SECONDS = 10.0
_SCRAPE_SECONDS = 3.0  # what the other replicas have to tell their metrics; Prometheus waits ten
# What a replica takes at once; its engine bounds the tokens that wait. Far above `target_ongoing`, or Ray's
# router would hold back the texts that make a batch.
_ONGOING_OF_TARGET, _LEAST_ONGOING = 8, 16


class FleetReplica:
    """One engine. Ray Serve makes it, asks for its health and ends it."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._engine = open_sole_engine(CompressorConfig(**config))
        self._metrics = CompressorMetrics(self._engine)
        self._name = serve.get_replica_context().replica_id.unique_id

    def __serve_build_asgi_app__(self) -> Any:
        """Ray Serve runs this app, and its shutdown, which closes the engine."""
        return create_compressor_app(self._engine, self._metrics, self._fleet_exposition)

    async def exposition(self) -> Mapping[str, str]:
        """This replica's metrics, under its name."""
        return {self._name: self._metrics.text().decode()}

    async def _fleet_exposition(self) -> bytes:
        """Those of every replica: whoever scrapes reaches one, chosen for him."""
        handle: Any = serve.get_deployment_handle(_DEPLOYMENT, APPLICATION)
        told = dict(await self.exposition())
        with suppress(TimeoutError, RayError, RayServeException):
            asked = handle.broadcast("exposition")
            for answer in await asked.results_async(timeout_s=_SCRAPE_SECONDS, return_exceptions=True):
                if isinstance(answer, Mapping):  # else it is ending, and says so
                    told |= answer
        return merged_exposition(told)

    async def check_health(self) -> None:
        """Raises when the engine cannot score any more: Ray Serve then replaces the replica."""
        health = self._engine.health()
        if not health.ready:
            raise RuntimeError(health.detail)


def application(config: CompressorConfig, size: FleetSize) -> serve.Application:
    """What `serve.run` deploys. Another `config` than the running one's makes new replicas, one by one."""
    deployment = serve.deployment(
        serve.ingress()(FleetReplica),
        name=_DEPLOYMENT,
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
