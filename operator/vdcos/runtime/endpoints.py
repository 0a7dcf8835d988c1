"""What the operator serves over HTTP: metrics, and whether it lives and is ready."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from aiohttp import web

from vdcos.runtime.logs import qualified
from vdcos.runtime.metrics import Metrics
from vdcos.runtime.reflector import Reflector

# Bookmarks come about once a minute and a silent watch is given up after 90 s, so this is two missed chances.
OLDEST_WORD = 180.0


class Health:
    """Whether the sources are alive and complete. The answers are lists of complaints: empty is well."""

    def __init__(self, sources: Sequence[Reflector], ready: Callable[[], bool]) -> None:
        self._sources = sources
        self._ready = ready

    def deaf(self) -> list[str]:
        """Sources that the API server has told nothing for three minutes: only a restart may help."""
        return [
            f"{qualified(source.resource)}: nothing heard for {source.age():.0f} s"
            for source in self._sources
            if source.age() > OLDEST_WORD
        ]

    def unready(self) -> list[str]:
        """What is missing before anything is planned."""
        return self.deaf() + ([] if self._ready() else ["not every kind has been listed yet"])

    def unavailable(self) -> list[str]:
        """Kinds that cannot be read. That is no fault of ours: objects that need them say so in their conditions."""
        return [source.unavailable for source in self._sources if source.unavailable]


@contextlib.asynccontextmanager
async def serve(address: str, metrics: Metrics, health: Health) -> AsyncIterator[str]:
    """Serve ``/metrics``, ``/healthz`` and ``/readyz`` at ``HOST:PORT`` (port 0: a free one) inside the block.

    Yields the address in use. Raises OSError when it cannot be had.
    """

    async def scrape(request: web.Request) -> web.Response:
        body = await metrics.scrape()
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=1.0.0; charset=utf-8"})

    async def healthz(request: web.Request) -> web.Response:
        return _answer(health.deaf(), [])

    async def readyz(request: web.Request) -> web.Response:
        return _answer(health.unready(), health.unavailable())

    application = web.Application()
    application.add_routes([web.get("/metrics", scrape), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    host, _, port = address.rpartition(":")
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host.strip("[]") or "127.0.0.1", int(port)).start()
        found = runner.addresses[0]
        yield f"{found[0]}:{found[1]}"
    finally:
        await runner.cleanup()


def _answer(complaints: list[str], notes: list[str]) -> web.Response:
    lines = complaints or ["ok", *notes]
    return web.Response(text="\n".join(lines) + "\n", status=503 if complaints else 200)
