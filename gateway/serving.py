"""The server: granian's worker processes, what they share, and the signals that reach them."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from granian.constants import HTTPModes, Interfaces, Loops
from granian.log import LogLevels
from granian.server.mp import MPServer

from gateway.allocation import limit_arenas
from gateway.config import Config
from gateway.parenthood import end_with_parent
from gateway.settings import Settings, set_environment
from gateway.shared_compressor import SharedCompressor
from gateway.telemetry import configure_logs, count_restart

_BACKLOG = 2048
# A request may need two descriptors: the client's connection and the upstream's. Some stay for the rest.
_SPARE_DESCRIPTORS = 512
_MOST_DESCRIPTORS = 1 << 18  # where the hard limit is in the millions, tables of that size cost memory


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How `terse serve` was called."""

    host: str = "127.0.0.1"
    port: int = 4000
    workers: int = 1
    drain_seconds: int = 60  # how long running requests may take after SIGTERM


class _Server(MPServer):
    """granian, but SIGHUP asks the workers to read terse.yaml again instead of replacing them."""

    def signal_handler_reload(self, *_args: Any, **_kwargs: Any) -> None:
        for worker in self.wrks:
            if worker.inner.is_alive():
                os.kill(worker.inner.pid, signal.SIGHUP)


def serve(config: Config, settings: Settings, options: ServeOptions) -> None:
    """Serves until SIGTERM or SIGINT, then lets running requests end. Blocks."""
    with ExitStack() as stack:
        metrics_directory = ""
        if options.workers > 1:
            configure_logs(settings.log_level)
            metrics_directory = stack.enter_context(_shared_metrics())
            if not config.compressor.url:
                config = stack.enter_context(_one_compressor(config))
        server = _Server(
            "terse",
            address=options.host,
            port=options.port,
            interface=Interfaces.ASGI,
            http=HTTPModes.http1,
            websockets=False,
            loop=Loops.uvloop,
            workers=options.workers,
            backlog=_BACKLOG,
            backpressure=connections_of(raise_descriptor_limit()),
            log_level=LogLevels.warning,
            respawn_failed_workers=True,
            workers_kill_timeout=options.drain_seconds,
        )
        server.serve(target_loader=partial(_load_app, config, settings, metrics_directory), wrap_loader=False)


def raise_descriptor_limit() -> int:
    """Gives this process, and those it starts, as many descriptors as it may have; returns the number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return most if soft == resource.RLIM_INFINITY else soft


def connections_of(descriptors: int) -> int:
    """How many clients a worker takes at once; the next ones wait. granian's own bound is the backlog's 2048.

    Idle connections count: under that bound 2,048 of them shut everybody else out, health checks included.
    """
    return max(descriptors - _SPARE_DESCRIPTORS, descriptors // 2, 2) // 2


def _load_app(config: Config, settings: Settings, metrics_directory: str) -> Any:
    """Runs in the worker process."""
    end_with_parent()
    limit_arenas(encoder=not config.compressor.url)
    from gateway.app import create_app

    configure_logs(settings.log_level)
    return create_app(config, settings, metrics_directory=metrics_directory)


@contextmanager
def _shared_metrics() -> Iterator[str]:
    """A directory in which the workers keep their metrics; prometheus-client finds it by its variable."""
    directory = tempfile.mkdtemp(prefix="terse-metrics-")
    set_environment({"PROMETHEUS_MULTIPROC_DIR": directory})
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _one_compressor(config: Config) -> Iterator[Config]:
    """One process that owns the encoder, and the configuration that points the workers at its socket."""
    folder = tempfile.mkdtemp(prefix="terse-compressor-")
    socket = Path(folder) / "compressor.sock"
    settings = config.compressor
    command = [sys.executable, "-m", "gateway", "compressor", "serve", "--socket", str(socket)]
    command += ["--model", settings.model, "--device", settings.device]
    shared = SharedCompressor(command, socket, restarted=count_restart)
    shared.start()
    try:
        yield replace(config, compressor=replace(settings, url=f"unix://{socket}"))
    finally:
        shared.stop()
        shutil.rmtree(folder, ignore_errors=True)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    return host == "localhost" or host == "::1" or host.startswith("127.")
