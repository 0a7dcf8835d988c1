"""What kopf hosts: the liveness probe today, admission when a rule needs one.

Our own kinds do not come through kopf's watches; docs/decisions says why, with numbers. kopf runs in a thread of its
own: when it stops it cancels every task of its loop, and in the main thread it would take our signals.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import aiohttp
import kopf

from vdcos.runtime.credentials import Credentials, Origin
from vdcos.runtime.threads import in_own_loop

log = logging.getLogger(__name__)

# Until kopf is started again after it has stopped for whatever reason.
PAUSE = 5.0


async def host(origin: Origin, probe: str, deaf: Callable[[], list[str]]) -> None:
    """Serve the liveness probe at ``HOST:PORT``, path ``/healthz``, until cancelled.

    ``deaf`` names the sources that have heard nothing for too long; it is called from another thread. Whatever happens
    to kopf, the operator goes on, and kopf is started again.
    """
    while True:
        try:
            await in_own_loop("kopf", lambda: _operate(origin, probe, deaf))
        except Exception as error:  # noqa: BLE001  kopf may fail in any way; it must not take the operator with it
            log.warning("kopf stopped", extra={"error": f"{type(error).__name__}: {error}", "seconds": PAUSE})
        await asyncio.sleep(PAUSE)


async def _operate(origin: Origin, probe: str, deaf: Callable[[], list[str]]) -> None:
    await kopf.operator(
        registry=registry(origin, deaf),
        settings=settings(),
        clusterwide=True,
        standalone=True,
        liveness_endpoint=f"http://{probe}/healthz",
    )


def settings() -> kopf.OperatorSettings:
    """kopf observes nothing on its own account and posts nothing."""
    chosen = kopf.OperatorSettings()
    chosen.scanning.disabled = True
    chosen.posting.enabled = False
    return chosen


def registry(origin: Origin, deaf: Callable[[], list[str]]) -> kopf.OperatorRegistry:
    """A registry of our own, so that two operators fit into one process."""
    own = kopf.OperatorRegistry()

    @kopf.on.login(registry=own)  # type: ignore[untyped-decorator]
    async def login(**_: Any) -> kopf.AiohttpSession:
        credentials = await Credentials.load(origin)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=2, ssl=credentials.tls or True),
            headers=await credentials.headers(),
            proxy=credentials.proxy,
        )
        return kopf.AiohttpSession(server=credentials.server, aiohttp_session=session)

    @kopf.on.probe(registry=own, id="sources")  # type: ignore[untyped-decorator]
    async def sources(**_: Any) -> str:
        if complaints := deaf():
            raise kopf.PermanentError("; ".join(complaints))
        return "ok"

    return own
