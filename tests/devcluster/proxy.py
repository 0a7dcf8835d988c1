"""A plain HTTP proxy in front of the API server that counts writes and can call somebody right before or after one.

The operator under test runs against it and needs no hook of its own.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Literal

import aiohttp
from aiohttp import web

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# Not convergence: the lease is renewed for ever, Events are best effort, tokens are the test's own, and reviews are
# questions.
UNCOUNTED = ("/leases", "/events", "/token", "/authorization.k8s.io/")
HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding", "host"})

Moment = Literal["before", "after"]
Hook = Callable[[Moment, int, str, str], Awaitable[None]]


class Proxy:
    """``async with Proxy(server, ca_file) as proxy: ... proxy.url``. ``writes`` lists (method, path, status).

    ``hook(moment, number, method, path)`` is awaited before the number-th write is forwarded, and after the API server
    has answered it but before the client hears of it. It may kill the client.
    """

    def __init__(self, server: str, ca_file: Path, hook: Hook | None = None) -> None:
        self._server = server.rstrip("/")
        self._tls = ssl.create_default_context(cafile=str(ca_file))
        self.hook = hook
        self.writes: list[tuple[str, str, int]] = []
        self._number = 0
        self.url = ""

    async def __aenter__(self) -> "Proxy":
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._forward)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self._session.close()
        await self._runner.cleanup()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        counted = request.method in WRITES and not any(part in request.path for part in UNCOUNTED)
        number = 0
        if counted:
            self._number += 1
            number = self._number
            await self._call("before", number, request)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        body = await request.read()
        async with self._session.request(
            request.method, self._server + request.raw_path, headers=headers, data=body or None
        ) as answer:
            if counted:
                self.writes.append((request.method, request.path, answer.status))
                await self._call("after", number, request)
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            try:
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
            except (ConnectionError, aiohttp.ClientConnectionError, asyncio.CancelledError):
                answer.close()  # the client went away, or died
                raise
            return response

    async def _call(self, moment: Moment, number: int, request: web.Request) -> None:
        if self.hook is not None:
            await self.hook(moment, number, request.method, request.path)
