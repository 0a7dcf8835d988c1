"""The servers of the simulated hosts: virt-handler's, for virt-api, and one to cause faults and ask for the truth."""

import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from devcluster.hosts.simulator import BadRequest, Simulator, interval_json, overlaps_json
from vdcos.testing.hypervisor.handler import GUEST
from vdcos.testing.hypervisor.values import Command

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = logging.getLogger(__name__)

_VMI = "/v1/namespaces/{namespace}/virtualmachineinstances/{name}"
_COMMANDS = (
    Command.PAUSE,
    Command.UNPAUSE,
    Command.RESET,
    Command.SOFT_REBOOT,
    Command.FREEZE,
    Command.UNFREEZE,
)


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a fault call."""

    host: str = ""
    vm: str = ""
    seconds: float = 30.0


def handler_app(simulator: Simulator) -> web.Application:
    """What virt-api calls on a real virt-handler (KubeVirt 1.8.2, cmd/virt-handler); console and VNC are not played."""

    def command(what: Command) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            key = _key(request)
            if not simulator.reachable(key):
                return web.Response(status=503, text=f"no virt-handler for {key} answers")
            simulator.control(what, key)
            return web.Response(status=202)

        return handle

    async def guest_info(request: web.Request) -> web.Response:
        info = {
            "guestAgentVersion": "10.1.0",
            "hostname": request.match_info["name"],
            "os": GUEST,
            "timezone": "UTC, 0",
        }
        return web.json_response(info)

    async def users(_: web.Request) -> web.Response:
        return web.json_response({"metadata": {}, "items": []})

    async def filesystems(_: web.Request) -> web.Response:
        root = {"diskName": "vda1", "mountPoint": "/", "fileSystemType": "xfs", "usedBytes": 1 << 30}
        return web.json_response({"metadata": {}, "items": [{**root, "totalBytes": 10 << 30, "disk": []}]})

    app = web.Application()
    for what in _COMMANDS:
        app.router.add_put(f"{_VMI}/{what}", command(what))
    app.router.add_get(f"{_VMI}/guestosinfo", guest_info)
    app.router.add_get(f"{_VMI}/userlist", users)
    app.router.add_get(f"{_VMI}/filesystemlist", filesystems)
    return app


def _key(request: web.Request) -> str:
    return f"{request.match_info['namespace']}/{request.match_info['name']}"


def control_app(simulator: Simulator) -> web.Application:
    """Faults in, truth out; see devcluster/README.md."""

    async def fault(request: web.Request) -> web.Response:
        try:
            body = msgspec.json.decode(await request.read() or b"{}", type=Fault)
            clear = request.method == "DELETE"
            simulator.fault(request.match_info["kind"], host=body.host, vm=body.vm, seconds=body.seconds, clear=clear)
        except (BadRequest, msgspec.DecodeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"ok": True})

    async def state(_: web.Request) -> web.Response:
        return web.json_response(simulator.state())

    async def ledger(request: web.Request) -> web.Response:
        history = simulator.ledger()
        if request.query.get("format") == "lines":
            lines = b"".join(msgspec.json.encode(interval_json(i)) + b"\n" for i in history)
            return web.Response(body=lines, content_type="application/x-ndjson")
        found: dict[str, Any] = {"intervals": [interval_json(i) for i in history], "overlaps": overlaps_json(history)}
        return web.json_response(found)

    app = web.Application()
    app.router.add_route("POST", "/faults/{kind}", fault)
    app.router.add_route("DELETE", "/faults/{kind}", fault)
    app.router.add_get("/state", state)
    app.router.add_get("/ledger", ledger)
    return app


async def serve(app: web.Application, port: int, tls: ssl.SSLContext | None = None) -> web.AppRunner:
    """Listen on the loopback interface; the caller cleans up."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    return runner


def server_tls(cert: Path, key: Path) -> ssl.SSLContext:
    """A server's TLS that lets in everybody."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context


def mutual_tls(cert: Path, key: Path, client_ca: Path) -> ssl.SSLContext:
    """A server's TLS that lets in only clients with a certificate of the authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(client_ca))
    context.load_cert_chain(cert, key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context
