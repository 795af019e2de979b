"""Several compressor processes on one machine, one a device, each started again when it ends."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from compressor.config import CompressorConfig
from gateway.shared_compressor import SharedCompressor


@contextmanager
def replicas(config: CompressorConfig, devices: Sequence[str]) -> Iterator[str]:
    """Runs `terse compressor serve` once for each device, on Unix sockets in a folder of its own.

    Yields the URL by which `RemoteEngine` reaches them all; they can be reached once their model is loaded.
    """
    folder = Path(tempfile.mkdtemp(prefix="terse-replicas-"))
    sockets = [folder / f"{number}.sock" for number in range(len(devices))]
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for device, socket in zip(devices, sockets, strict=True):
            process = SharedCompressor(_command(config, device, socket), socket)
            process.start()
            stack.callback(process.stop)
        yield ",".join(f"unix://{socket}" for socket in sockets)


def _command(config: CompressorConfig, device: str, socket: Path) -> list[str]:
    options = {
        "--socket": socket,
        "--model": config.model,
        "--device": device,
        "--precision": config.precision,
        "--window": config.window_tokens,
        "--batch-tokens": config.max_batch_tokens,
        "--waiting-tokens": config.max_waiting_tokens,
        "--threads": config.threads,
    }
    given = [part for name, value in options.items() if value for part in (name, str(value))]
    return [sys.executable, "-m", "gateway.commands.compressor", *given]  # `gateway` would load every command
