"""A TCP relay in front of the API server that can cut all connections at once, as a network does."""

import asyncio
import contextlib
import urllib.parse
from types import TracebackType


class Relay:
    """``async with Relay(server) as relay: ... relay.url``. TLS goes through untouched."""

    def __init__(self, server: str) -> None:
        parts = urllib.parse.urlsplit(server)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 443)
        self._open: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self.url = ""

    async def __aenter__(self) -> "Relay":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"https://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def cut(self) -> int:
        """Abort every connection; new ones are accepted. Returns how many there were."""
        count = len(self._open) // 2
        for writer in self._open:
            writer.transport.abort()
        return count

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, thither = await asyncio.open_connection(*self._target)
        self._open |= {writer, thither}
        for source, sink in ((reader, thither), (there, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(1 << 16):
                sink.write(data)
                await sink.drain()
        self._open.discard(sink)
        sink.close()
