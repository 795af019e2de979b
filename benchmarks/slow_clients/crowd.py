"""The slow clients, all in a process of their own."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from benchmarks.processes import raise_limit
from benchmarks.slow_clients.traffic import BURST, DONE, EVENT, PATH, body_of, unchunked

SIP_BYTES, SIP_SECONDS = 16, 2.0
RECEIVE_BUFFER = 4096
COMPARED = 100  # clients that read their stream to its end
CONNECTING_AT_ONCE = 100


@dataclass
class Crowd:
    """The slow clients, in one process: it sips from each socket in turn."""

    port: int
    sockets: list[socket.socket] = field(default_factory=list)
    read: dict[socket.socket, bytearray] = field(default_factory=dict)
    lost: int = 0

    async def connect(self, count: int) -> int:
        """Connects and asks; returns how many of them are there."""
        gate = asyncio.Semaphore(CONNECTING_AT_ONCE)
        await asyncio.gather(*(self._connect(gate) for _ in range(count)))
        return len(self.sockets)

    async def _connect(self, gate: asyncio.Semaphore) -> None:
        one = socket.socket()
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        asked = body_of(stream=True)
        head = f"POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(asked)}\r\n\r\n"
        loop = asyncio.get_running_loop()
        async with gate:
            try:
                await loop.sock_connect(one, ("127.0.0.1", self.port))
                await loop.sock_sendall(one, head.encode() + asked)
                first = await asyncio.wait_for(loop.sock_recv(one, SIP_BYTES), 120)
            except (OSError, TimeoutError):
                one.close()
                return
        self.sockets.append(one)
        self.read[one] = bytearray(first)

    async def sip(self, seconds: float) -> None:
        """A few bytes from each, again and again."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            started = time.monotonic()
            for number, one in enumerate(self.sockets):
                self._sip(one)
                if number % 500 == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(max(0.0, SIP_SECONDS - (time.monotonic() - started)))

    def _sip(self, one: socket.socket) -> None:
        try:
            part = one.recv(SIP_BYTES)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if part:
            self.read[one] += part
        else:
            self.lost += 1

    async def finish(self, count: int) -> int:
        """The first of them read on to the end; returns how many got every byte."""
        whole = await asyncio.gather(*(self._finish(one) for one in self.sockets[:count]))
        return sum(whole)

    async def _finish(self, one: socket.socket) -> bool:
        loop, got = asyncio.get_running_loop(), self.read[one]
        try:
            async with asyncio.timeout(60):
                while not got.endswith(b"0\r\n\r\n"):
                    part = await loop.sock_recv(one, 65536)
                    if not part:
                        break
                    got += part
        except (OSError, TimeoutError):
            return False
        body = unchunked(bytes(got))
        middle = body.removeprefix(BURST).removesuffix(DONE)
        return body == BURST + EVENT * (len(middle) // len(EVENT)) + DONE


def run_clients(port: int, count: int, seconds: float, told: Connection) -> None:
    """The process of the slow clients: tells how many it has, who was lost, and who got everything."""
    raise_limit()

    async def main() -> None:
        crowd = Crowd(port)
        told.send(await crowd.connect(count))
        await crowd.sip(seconds)
        told.send((crowd.lost, sum(map(len, crowd.read.values()))))
        told.recv()
        told.send(await crowd.finish(min(COMPARED, len(crowd.sockets))))
        for one in crowd.sockets:
            one.close()

    asyncio.run(main())
