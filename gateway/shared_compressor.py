"""The one compressor process that several workers share: started, watched, and started again when it ends."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.parenthood import end_with_parent

_log = logging.getLogger(__name__)

_STOP_SECONDS = 10.0
# Between an end and the next start; doubled each time, so that a model that cannot be loaded does not keep a
# core busy. One that ran for a while begins anew.
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0
_STEADY_SECONDS = 60.0


class SharedCompressor:
    """A process on a Unix socket. While it is away, originals go out: its clients ask for it every second."""

    def __init__(
        self, command: Sequence[str], socket: Path, *, restarted: Callable[[], None] = lambda: None
    ) -> None:
        """`restarted` is told each time that it is started again, in a thread of its own."""
        self._command = command
        self._socket = socket
        self._restarted = restarted
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch, name="terse-compressor", daemon=True)

    def start(self) -> None:
        """Starts and watches it; returns before it can be reached."""
        self._spawn()
        self._thread.start()

    def stop(self) -> None:
        """Ends it for good."""
        with self._lock:
            self._stopping.set()
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        self._thread.join(_STOP_SECONDS)

    def _spawn(self) -> None:
        with self._lock:
            if not self._stopping.is_set():
                self._socket.unlink(missing_ok=True)  # of the one before
                # Linux ends it with the thread that starts it: this process's first, or the one that watches.
                self._process = subprocess.Popen(self._command, preexec_fn=end_with_parent)

    def _watch(self) -> None:
        wait = _FIRST_WAIT
        while self._process is not None:
            started = time.monotonic()
            code = self._process.wait()
            if self._stopping.is_set():
                return
            wait = _FIRST_WAIT if time.monotonic() - started > _STEADY_SECONDS else wait
            _log.error("the compressor ended with code %d; it is started again in %.1f s", code, wait)
            if self._stopping.wait(wait):
                return
            wait = min(2 * wait, _LONGEST_WAIT)
            self._spawn()
            self._restarted()
