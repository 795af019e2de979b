"""Hot reload: a changed terse.yaml is read again, on change and on SIGHUP.

A file with mistakes, or none at all, is refused with its errors; what runs goes on running.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import watchfiles

from gateway.config import Config
from gateway.configuration_file import Lookup, Reading, read_config
from gateway.settings import Settings, read_environment
from policies.errors import ConfigurationError

_log = logging.getLogger(__name__)

# The kernel tells of most changes at once; the digest is compared this often all the same, for file systems
# that tell nothing (NFS, some container mounts).
_LOOK_EVERY_MS = 5_000
_DEBOUNCE_MS = 200  # editors write a file in several steps
_RETRY_SECONDS = 5.0  # when the folder itself is gone

Apply = Callable[[Config], Awaitable[None]]
Outcome = Literal["unchanged", "applied", "refused"]


@dataclass(slots=True)
class Reloader:
    """Holds the configuration in force. `apply` swaps it in; when it raises, the old one stays."""

    path: str
    settings: Settings
    config: Config
    apply: Apply
    environment: Lookup = read_environment
    tell: Callable[[Outcome], object] | None = None  # hears of every file that was applied or refused
    error: str = ""  # why the latest file was refused; "" when the file in force is the latest
    applied_at: str = ""  # ISO 8601, UTC; "" until the first reload
    reloads: dict[Outcome, int] = field(default_factory=lambda: {"unchanged": 0, "applied": 0, "refused": 0})
    _seen: str = ""
    _restart: Config | None = None  # as the file said at start: several workers run with another compressor
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._seen = _digest(self.path)

    async def reload(self, *, force: bool = False) -> Outcome:
        """Reads the file if its bytes changed (with `force` in any case) and applies it. Never raises."""
        async with self._turn:
            digest = await asyncio.to_thread(_digest, self.path)
            if digest == self._seen and not force:
                return "unchanged"
            outcome = await self._read_and_apply()
            self._seen = digest
            self.reloads[outcome] += 1
            if self.tell is not None:
                self.tell(outcome)
            return outcome

    async def _read_and_apply(self) -> Outcome:
        try:
            reading = await asyncio.to_thread(self._read)
            config = self._kept(reading.config)
            await self.apply(config)
        except ConfigurationError as error:
            return self._refuse(str(error))
        except Exception as error:  # noqa: BLE001 - whatever keeps the new file from being used, the old one serves
            return self._refuse(f"{type(error).__name__}: {error}")
        self.config, self.error = config, ""
        self.applied_at = datetime.now(UTC).isoformat(timespec="seconds")
        for warning in reading.warnings:
            _log.warning("configuration: %s", warning)
        _log.info("configuration reloaded from %s", self.path)
        return "applied"

    def _read(self) -> Reading:
        return read_config(self.path, self.settings, environment=self.environment)

    def _refuse(self, why: str) -> Outcome:
        self.error = why
        _log.error("configuration not reloaded, the old one stays in force: %s", why)
        return "refused"

    def _kept(self, new: Config) -> Config:
        """What only a restart changes keeps its old value."""
        before = self._restart or self.config
        for key in ("compressor", "store"):
            if getattr(new, key) != getattr(before, key):
                _log.warning("configuration: the change of %s takes effect after a restart", key)
        return replace(new, compressor=self.config.compressor, store=self.config.store)

    async def watch(self) -> None:
        """Reloads at every change, until cancelled."""
        with suppress(ConfigurationError):
            self._restart = (await asyncio.to_thread(self._read)).config
        while True:
            # The folder, not the file: editors and Kubernetes replace a file instead of writing into it.
            changes = watchfiles.awatch(
                _folder(self.path),
                watch_filter=None,
                recursive=False,
                debounce=_DEBOUNCE_MS,
                rust_timeout=_LOOK_EVERY_MS,
                yield_on_timeout=True,
            )
            with suppress(OSError, RuntimeError):  # the folder is gone or cannot be watched
                async for _ in changes:
                    await self.reload()
            await asyncio.sleep(_RETRY_SECONDS)
            await self.reload()


@asynccontextmanager
async def reloading(reloader: Reloader) -> AsyncIterator[Reloader]:
    """Watches the file, and SIGHUP where this thread may, until the block ends."""
    loop = asyncio.get_running_loop()
    asked: set[asyncio.Task[Outcome]] = set()

    def on_hangup() -> None:
        task = loop.create_task(reloader.reload(force=True))
        asked.add(task)
        task.add_done_callback(asked.discard)

    hangup = True
    try:
        loop.add_signal_handler(signal.SIGHUP, on_hangup)
    except (
        ValueError,
        RuntimeError,
        NotImplementedError,
    ):  # not the main thread: a test, or an embedded server
        hangup = False
    watching = loop.create_task(reloader.watch(), name="terse-reload")
    try:
        yield reloader
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await asyncio.gather(*asked, return_exceptions=True)
        if hangup:
            loop.remove_signal_handler(signal.SIGHUP)


def _folder(path: str) -> str:
    return os.path.dirname(os.path.abspath(path))


def _digest(path: str) -> str:
    """Of the file's bytes; "" when there is none, so that a file that comes back is a change."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""
