"""`terse compressor serve`: the encoder as a process of its own; `deploy` is in fleet.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from compressor.config import CompressorConfig, Precision
from gateway.commands import fleet

_EXAMPLE = "Example: terse compressor serve --socket /run/terse.sock --gpus all"


def register(app: typer.Typer) -> None:
    """Adds `compressor` with its sub-commands."""
    commands = typer.Typer(no_args_is_help=True)
    commands.command(epilog=_EXAMPLE)(serve)
    commands.command(epilog=fleet.EXAMPLE)(fleet.deploy)
    commands.callback(epilog=_EXAMPLE)(_group)
    app.add_typer(commands, name="compressor")


def _group() -> None:
    """The encoder as a process that gateways share."""


def serve(
    socket: Annotated[Path | None, typer.Option(help="Unix socket to listen on.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on, with --port.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="TCP port to listen on.")] = None,
    model: Annotated[
        str, typer.Option(help="default, a folder, or a hub model that is on this disk.")
    ] = "default",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="auto, fp32, bf16, fp16, fp8 or int8.")] = "auto",
    window: Annotated[int | None, typer.Option(help="Encoder tokens of one window.")] = None,
    batch_tokens: Annotated[int | None, typer.Option(help="Encoder tokens of one pass.")] = None,
    waiting_tokens: Annotated[
        int | None, typer.Option(help="Queued encoder tokens beyond which callers are refused.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of each encoder.")] = None,
    gpus: Annotated[str | None, typer.Option(help="One encoder a GPU: all, or indices as in 0,1.")] = None,
    replicas: Annotated[int, typer.Option(min=1, max=64, help="Encoders a device, each a process.")] = 1,
) -> None:
    """Score texts for gateways on a Unix socket or a TCP port, until SIGTERM.

    With --gpus or --replicas this process only hands texts on, each to the encoder process with the least to
    do; one that ends is started again. Exit code 0: ended as asked; 1: the model cannot be loaded; 2: the
    command line is refused.
    """
    if (socket is None) == (port is None):
        raise typer.BadParameter("give either --socket or --port")
    devices = _devices(device, gpus) * replicas
    config = CompressorConfig(
        model=model,
        device=device,
        precision=precision,
        window_tokens=window,
        max_batch_tokens=batch_tokens,
        max_waiting_tokens=waiting_tokens,
        threads=threads,
    )
    fleet.check(config)
    address = f"unix://{socket}" if socket else f"http://{host}:{port}"
    typer.echo(f"The compressor listens on {address}", err=True)
    listening = _Listening(socket, host, port or 0)
    if len(devices) == 1:
        _run_server(partial(_load_app, replace(config, device=devices[0])), listening)
        return
    from gateway.compression.replicas import replicas as started

    with started(config, devices) as url:
        _run_server(partial(_load_front, url), listening)


def _devices(device: str, gpus: str | None) -> list[str]:
    """The devices that --device or --gpus name."""
    if gpus is None:
        return [device]
    if device != "auto":
        raise typer.BadParameter("give either --device or --gpus")
    if gpus == "all":
        from compressor.startup import count_gpus

        if not (count := count_gpus()):
            raise typer.BadParameter("--gpus all: there is no GPU that torch sees")
        return [f"cuda:{index}" for index in range(count)]
    indices = [part.strip() for part in gpus.split(",")]
    if not all(index.isascii() and index.isdigit() for index in indices) or len(set(indices)) < len(indices):
        raise typer.BadParameter(f"--gpus {gpus}: expected all, or different indices as in 0,1")
    return [f"cuda:{int(index)}" for index in indices]


@dataclass(frozen=True, slots=True)
class _Listening:
    """Where the process can be reached."""

    socket: Path | None
    host: str
    port: int


def _run_server(load_app: Callable[[], Any], at: _Listening) -> None:
    from granian.constants import HTTPModes, Interfaces, Loops
    from granian.log import LogLevels
    from granian.server.mp import MPServer

    server = MPServer(
        "terse-compressor",
        address=at.host,
        port=at.port,
        uds=at.socket,
        uds_permissions=0o600 if at.socket else None,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        loop=Loops.uvloop,
        workers=1,
        log_level=LogLevels.warning,
        respawn_failed_workers=True,
        respawn_interval=0.5,
        workers_kill_timeout=10,
    )
    server.serve(target_loader=load_app, wrap_loader=False)


def _load_app(config: CompressorConfig) -> Any:
    """Runs in the worker process, which thereby owns the device."""
    from gateway.compression.compressor_server import create_compressor_app
    from gateway.compression.sole_engine import open_sole_engine
    from gateway.parenthood import end_with_parent

    end_with_parent()
    return create_compressor_app(open_sole_engine(config))


def _load_front(url: str) -> Any:
    """Runs in the worker process of a compressor that has several encoder processes behind it."""
    from gateway.compression.compressor_server import create_compressor_app
    from gateway.compression.remote_engine import RemoteEngine
    from gateway.parenthood import end_with_parent

    end_with_parent()
    return create_compressor_app(RemoteEngine(url))


if __name__ == "__main__":
    typer.run(serve)
