"""`terse compressor deploy`: the encoder on Ray Serve."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from compressor.config import CompressorConfig, Precision
from compressor.errors import ModelLoadFailed
from gateway.settings import set_environment

REFUSED = 1
EXAMPLE = "Example: terse compressor deploy --address auto --max-replicas 8 --gpus-per-replica 1"


_Address = Annotated[
    str,
    typer.Option(help="Ray cluster: auto, ray://host:10001 or host:6379; none: a local one, until SIGTERM."),
]
_Model = Annotated[str, typer.Option(help="default, a folder, or a hub model that is on every node's disk.")]
_TargetOngoing = Annotated[
    float, typer.Option(min=0.1, help="Texts at work in a replica beyond which another one starts.")
]
_GpusPerReplica = Annotated[float, typer.Option(min=0.0, help="GPUs of a replica; 0.5 puts two on one.")]
_Surge = Annotated[
    int,
    typer.Option(min=0, max=100, help="Extra replicas while a model is rolled out, in percent; 0: no room."),
]


def deploy(
    address: _Address = "",
    host: Annotated[str, typer.Option(help="Address that each node's proxy listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port of each node's proxy.")] = 4100,
    model: _Model = "default",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="auto, fp32, bf16, fp8 or int8.")] = "auto",
    min_replicas: Annotated[int, typer.Option(min=1, help="Fewest replicas.")] = 1,
    max_replicas: Annotated[int, typer.Option(min=1, help="Most replicas.")] = 1,
    target_ongoing: _TargetOngoing = 8.0,
    gpus_per_replica: _GpusPerReplica = 0.0,
    cpus_per_replica: Annotated[float, typer.Option(min=0.1, help="CPU cores of a replica.")] = 1.0,
    upscale_delay: Annotated[float, typer.Option(min=0.0, help="Seconds of load before one starts.")] = 5.0,
    downscale_delay: Annotated[float, typer.Option(min=0.0, help="Idle seconds before one ends.")] = 120.0,
    drain: Annotated[float, typer.Option(min=0.0, help="Seconds that an ending replica may work on.")] = 30.0,
    surge: _Surge = 100,
) -> None:
    """Serve the encoder from a Ray cluster, over the HTTP of `terse compressor serve`.

    Run again with another model to roll it out: new replicas are ready before old ones end. Exit code 0:
    deployed (or ended as asked, with a local Ray); 1: the model, the cluster or the replicas refuse; 2: the
    command line is refused. Needs the extra `ray`.
    """
    if max_replicas < min_replicas:
        raise typer.BadParameter("--max-replicas is below --min-replicas")
    from gateway.compression.fleet_size import FleetSize

    size = FleetSize(
        min_replicas=min_replicas,
        max_replicas=max_replicas,
        target_ongoing=target_ongoing,
        gpus=gpus_per_replica,
        cpus=cpus_per_replica,
        upscale_seconds=upscale_delay,
        downscale_seconds=downscale_delay,
        drain_seconds=drain,
        surge_percent=surge,
    )
    threads = None if gpus_per_replica else max(1, int(cpus_per_replica))
    config = CompressorConfig(model=_everywhere(model), device=device, precision=precision, threads=threads)
    check(config)
    stopped = threading.Event()
    cluster = _deploy(config, size, address, host, port, stopped)
    typer.echo(f"The compressor listens on http://{host}:{port}", err=True)
    if not address:
        typer.echo(
            f"Another model: RAY_AUTH_MODE=token terse compressor deploy --address {cluster} ...", err=True
        )
        stopped.wait()
        _end()


def _everywhere(model: str) -> str:
    """A folder by its whole path: replicas have working directories of their own."""
    return str(Path(model).resolve()) if Path(model).is_dir() else model


def check(config: CompressorConfig) -> None:
    """Says what is wrong with the model before any process is started, and ends the command."""
    from compressor.startup import check_model

    try:
        check_model(config)
    except ModelLoadFailed as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(REFUSED) from None


def _deploy(
    config: CompressorConfig, size: Any, address: str, host: str, port: int, stopped: threading.Event
) -> str:
    """Returns the cluster's address."""
    set_environment({"RAY_USAGE_STATS_ENABLED": "0"})  # Ray reports to its makers unless told not to
    # Ray's replicas run at niceness 15: beside anything busy, a gateway on the same machine say, hardly ever.
    set_environment({"RAY_worker_niceness": "0"}, unless_set=True)
    try:
        import ray

        from gateway.compression import ray_fleet
    except ImportError as error:
        typer.echo(f"Ray Serve is not installed ({error.name}): pip install 'terse-gateway[ray]'", err=True)
        raise typer.Exit(REFUSED) from None
    try:
        if address:
            ray.init(address=address, log_to_driver=False)
        else:
            ray.init(address="local", include_dashboard=False, log_to_driver=False)
            for number in (signal.SIGTERM, signal.SIGINT):  # after Ray has set its own
                signal.signal(number, lambda *_: stopped.set())
        ray_fleet.deploy(config, size, host, port)
    except (ConnectionError, RuntimeError, ValueError) as error:
        typer.echo(f"Ray refuses: {error}", err=True)
        raise typer.Exit(REFUSED) from None
    return str(ray.get_runtime_context().gcs_address)


def _end() -> None:
    import ray
    from ray import serve

    serve.shutdown()
    ray.shutdown()
