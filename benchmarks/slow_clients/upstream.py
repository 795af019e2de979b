"""A provider whose streams begin at once and go on slowly, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from benchmarks.mock import REPLY
from benchmarks.processes import raise_limit
from benchmarks.slow_clients.traffic import BURST, DONE, EVENT, chunk

EVENT_SECONDS = 10.0


@dataclass(frozen=True)
class Upstream:
    """A provider that streams until it is told to end."""

    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests of one connection, one after the other."""
        whole = json.dumps(REPLY).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(whole)
        try:
            while True:
                asked = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = re.search(rb"content-length: (\d+)", asked)
                asked = await reader.readexactly(int(length[1]) if length else 0)
                if b'"stream": true' in asked:
                    await self._stream(writer)
                else:
                    writer.write(head + whole)
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            writer.close()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head + chunk(BURST))
        while True:
            await writer.drain()
            try:
                await asyncio.wait_for(self.ended.wait(), EVENT_SECONDS)
            except TimeoutError:
                writer.write(chunk(EVENT))
                continue
            writer.write(chunk(DONE) + b"0\r\n\r\n")
            return


def serve_upstream(told: Connection) -> None:
    """The process of the upstream: tells its port, and ends its streams at a word."""
    raise_limit()

    async def main() -> None:
        upstream = Upstream()
        asyncio.get_running_loop().add_reader(told.fileno(), upstream.ended.set)
        server = await asyncio.start_server(upstream.answer, "127.0.0.1", 0, backlog=4096)
        told.send(server.sockets[0].getsockname()[1])
        async with server:
            await asyncio.Event().wait()

    asyncio.run(main())
