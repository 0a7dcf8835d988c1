"""The hosts' BMCs: one Redfish server for all, a system per host, as far as power goes (DMTF DSP0266)."""

import asyncio
import base64
import hmac
import math
from typing import Any

import msgspec
from aiohttp import web

from devcluster.hosts.simulator import Simulator
from vdcos.testing.hypervisor import bmc, node

USERNAME = "admin"
ROOT = "/redfish/v1"


class Reset(msgspec.Struct, frozen=True):
    """The body of a reset."""

    kind: str = msgspec.field(name="ResetType")


def redfish_app(simulator: Simulator, password: str) -> web.Application:
    """Basic authentication for everything but the root."""
    expected = f"Basic {base64.b64encode(f'{USERNAME}:{password}'.encode()).decode()}"

    @web.middleware
    async def authenticated(request: web.Request, handler: Any) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if request.path.rstrip("/") != ROOT and not hmac.compare_digest(given.encode(), expected.encode()):
            return _error(401, "InsufficientPrivilege", {"WWW-Authenticate": "Basic"})
        answer: web.StreamResponse = await handler(request)
        return answer

    async def root(_: web.Request) -> web.Response:
        links = {"Systems": {"@odata.id": f"{ROOT}/Systems"}}
        return _json("RootService", ROOT, "#ServiceRoot.v1_15_0.ServiceRoot", RedfishVersion="1.6.0", **links)

    async def systems(_: web.Request) -> web.Response:
        members = [{"@odata.id": f"{ROOT}/Systems/{name}"} for name in simulator.hosts]
        kind = "#ComputerSystemCollection.ComputerSystemCollection"
        more = {"Members": members, "Members@odata.count": len(members)}
        return _json("Systems", f"{ROOT}/Systems", kind, **more)

    async def system(request: web.Request) -> web.Response:
        name = await _answers(request)
        path = f"{ROOT}/Systems/{name}"
        action = {
            "target": f"{path}/Actions/ComputerSystem.Reset",
            "ResetType@Redfish.AllowableValues": list(bmc.RESETS),
        }
        host = simulator.hosts[name]
        more = {
            "UUID": node.system_uuid(host),
            "PowerState": bmc.power(host),
            "Actions": {"#ComputerSystem.Reset": action},
        }
        return _json(name, path, "#ComputerSystem.v1_20_0.ComputerSystem", **more)

    async def reset(request: web.Request) -> web.Response:
        name = await _answers(request)
        try:
            kind = msgspec.json.decode(await request.read(), type=Reset).kind
        except msgspec.DecodeError:
            return _error(400, "MalformedJSON")
        if kind not in bmc.RESETS:
            return _error(400, "ActionParameterNotSupported")
        simulator.reset(name, kind)
        return web.Response(status=204)

    async def _answers(request: web.Request) -> str:
        """The name of the system, when its BMC answers. A caller that goes away is not waited for."""
        name = request.match_info["name"]
        if name not in simulator.hosts:
            raise web.HTTPNotFound(text="{}", content_type="application/json")
        wait = bmc.delay(simulator.hosts[name])
        if wait == math.inf:
            # Also when the fault has ended: what was asked before is lost.
            await asyncio.Event().wait()
        await asyncio.sleep(wait)
        return name

    app = web.Application(middlewares=[authenticated])
    for path in (ROOT, f"{ROOT}/"):
        app.router.add_get(path, root)
    app.router.add_get(f"{ROOT}/Systems", systems)
    app.router.add_get(f"{ROOT}/Systems/{{name}}", system)
    app.router.add_post(f"{ROOT}/Systems/{{name}}/Actions/ComputerSystem.Reset", reset)
    return app


def _json(id_: str, path: str, kind: str, **more: Any) -> web.Response:
    return web.json_response({"@odata.id": path, "@odata.type": kind, "Id": id_, "Name": id_, **more})


def _error(status: int, code: str, headers: dict[str, str] | None = None) -> web.Response:
    error = {"error": {"code": f"Base.1.0.{code}", "message": code}}
    return web.json_response(error, status=status, headers=headers)
