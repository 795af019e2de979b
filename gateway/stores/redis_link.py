"""The way to Redis: calls that come together travel together, nobody waits long, trouble opens a breaker.

Calls queue in this process and leave in pipelines, a few in flight at a time, so that a thousand requests at
once cost tens of round trips and a handful of connections, not a thousand.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError

from gateway.errors import Unavailable
from gateway.stores.breaker import Breaker
from gateway.stores.sentinel import SCHEMES, connect_sentinel

LOG = logging.getLogger(__name__)

# No request waits longer than 50 ms for a Redis that does not answer. It is counted in ticks of a loop that
# looks in time: when this process is itself so busy that it comes to look late, that delay is not Redis's.
BOUND_SECONDS: Final = 0.05
TICK_SECONDS: Final = 0.01
LATE_SECONDS: Final = 0.02
LONGEST_SECONDS: Final = 1.0  # whatever the loop does
# In flight at once, and calls in one flight: 64 scripts take Redis about 4 ms, well within the bound.
FLIGHTS: Final = 3
CALLS_A_FLIGHT: Final = 64
# The scripts; the ledger's begin with what they share.
NAMES: Final = ("reserve", "settle", "spent", "renew", "book", "put_record", "get_linked", "add_entry")
SHARED: Final = {name: ("windows", "accounts") for name in ("reserve", "settle", "spent", "renew")}

Word = str | bytes | int


class StoreGone(Unavailable):
    """Redis did not answer in time, or refuses to. What was asked may or may not have happened."""

    code = "store_unavailable"


class Scripts:
    """The Lua scripts and their hashes, and how often they were sent to the server."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        for name in NAMES:
            parts = [*SHARED.get(name, ()), name]
            folder = files("gateway.stores")
            self.texts[name] = "\n".join(folder.joinpath(f"{part}.lua").read_text("utf-8") for part in parts)
        self.hashes = {name: sha1(text.encode()).hexdigest() for name, text in self.texts.items()}
        self.loads = 0
        self.loading = asyncio.Lock()


class RedisLink:
    """One lane to a Redis. Cache and ledger have one each, so that neither waits for the other's bytes."""

    def __init__(
        self, client: Redis, scripts: Scripts, breaker: Breaker, *, bound_seconds: float = BOUND_SECONDS
    ) -> None:
        self._bound = bound_seconds
        self._client = client
        self._scripts = scripts
        self._breaker = breaker
        self._waiting: deque[tuple[tuple[Word, ...], asyncio.Future[Any]]] = deque()
        self._flights: set[asyncio.Task[None]] = set()
        self._closed = False
        self.round_trips = 0
        self.failures = 0

    @property
    def losses(self) -> int:
        """Grows when calls fail and when a server has to be told the scripts, as a new one has."""
        return self.failures + self._scripts.loads

    async def command(self, *words: Word) -> Any:
        """One command's reply. Raises StoreGone."""
        if self._closed:
            raise StoreGone("The store is closed.")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((words, future))
        if len(self._flights) < FLIGHTS:
            flight = asyncio.create_task(self._fly())
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)
        return await future

    async def script(self, name: str, keys: Sequence[Word], args: Sequence[Word]) -> Any:
        """What the script `<name>.lua` returns. Raises StoreGone."""
        words = ("EVALSHA", self._scripts.hashes[name], len(keys), *keys, *args)
        loads = self._scripts.loads
        try:
            return await self.command(*words)
        except NoScriptError:  # a new server, or one that was restarted
            await self._load(loads)
        return await self.command(*words)

    async def close(self) -> None:
        """Fails what waits. Safe to repeat; the client is closed by whoever opened it."""
        self._closed = True
        self._fail_waiting(StoreGone("The store is closed."))
        for flight in list(self._flights):
            flight.cancel()
        await asyncio.gather(*self._flights, return_exceptions=True)

    async def _load(self, loads: int) -> None:
        """Sends all scripts, unless somebody else did since `loads`."""
        async with self._scripts.loading:
            if self._scripts.loads == loads:
                await asyncio.gather(
                    *[self.command("SCRIPT", "LOAD", text) for text in self._scripts.texts.values()]
                )
                self._scripts.loads += 1

    async def _fly(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), CALLS_A_FLIGHT))]
            batch = [call for call in batch if not call[1].done()]  # its request is gone
            if batch:
                await self._send(batch)

    async def _send(self, batch: list[tuple[tuple[Word, ...], asyncio.Future[Any]]]) -> None:
        if not self._breaker.admits():
            fail(batch, StoreGone("Redis does not answer."))
            return
        pipe = self._client.pipeline(transaction=False)
        for words, _ in batch:
            pipe.execute_command(*words)
        self.round_trips += 1
        try:
            replies = await within_bound(pipe.execute(raise_on_error=False), self._bound)
        except (RedisError, OSError, TimeoutError) as error:
            self._count_failure(error)
            gone = StoreGone("Redis does not answer.")
            fail(batch, gone)
            self._fail_waiting(gone)  # they waited as long, behind it
            return
        except BaseException:
            fail(batch, StoreGone("The store is closed."))
            raise
        self._breaker.succeeded()
        if any(isinstance(reply, ReadOnlyError) for reply in replies):
            # The primary became a replica and keeps its clients: a new connection finds the new primary.
            await self._client.connection_pool.disconnect(inuse_connections=False)
        for (_, future), reply in zip(batch, replies, strict=True):
            if future.done():
                continue
            if isinstance(reply, NoScriptError):
                future.set_exception(reply)
            elif isinstance(reply, Exception):
                # Out of memory, a read-only replica, a bug in a script: for the request it is all the same.
                self.failures += 1
                LOG.error("Redis refuses: %s", reply)
                future.set_exception(StoreGone(f"Redis refuses: {type(reply).__name__}."))
            else:
                future.set_result(reply)

    def _count_failure(self, error: BaseException) -> None:
        self.failures += 1
        was_open = self._breaker.is_open
        self._breaker.failed()
        if self._breaker.is_open and not was_open:
            LOG.warning("Redis does not answer: %s", type(error).__name__)

    def _fail_waiting(self, error: StoreGone) -> None:
        fail(list(self._waiting), error)
        self._waiting.clear()


def fail(calls: Sequence[tuple[tuple[Word, ...], asyncio.Future[Any]]], error: StoreGone) -> None:
    """Tells every caller that still listens."""
    for _, future in calls:
        if not future.done():
            future.set_exception(error)


async def within_bound(work: Awaitable[Any], bound: float = BOUND_SECONDS) -> Any:
    """Its result. Raises TimeoutError when Redis lets a loop that looks in time wait for too long."""
    task = asyncio.ensure_future(work)
    counted = total = 0.0
    try:
        while counted < bound and total < max(bound, LONGEST_SECONDS):
            begin = time.monotonic()
            done, _pending = await asyncio.wait({task}, timeout=TICK_SECONDS)
            if done:
                return task.result()
            took = time.monotonic() - begin
            total += took
            counted += took if took < LATE_SECONDS else 0.0
    except asyncio.CancelledError:
        task.cancel()
        raise
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, RedisError, OSError):
        await task
    raise TimeoutError(f"no answer in {total * 1000:.0f} ms")


def connect(url: str) -> Redis:
    """A client for `redis://`, `rediss://`, `valkey://`, `unix://` or `redis+sentinel://`; else raises
    ValueError.
    """
    scheme, separator, rest = url.partition("://")
    scheme = scheme.replace("valkey", "redis")
    options: dict[str, Any] = {
        # A pooled connection may have died with the server's restart: one try on a new one, no waiting.
        "retry": Retry(NoBackoff(), 1),
        "socket_connect_timeout": None,  # whoever asks has a bound of its own
        "socket_timeout": None,
        "max_connections": 64,
        "protocol": 2,
    }
    if scheme in SCHEMES:
        return connect_sentinel(scheme, rest, options)
    return Redis.from_url(scheme + separator + rest, **options)
