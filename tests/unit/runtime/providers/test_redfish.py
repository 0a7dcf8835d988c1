"""The Redfish client against a BMC that misbehaves in every way: hard deadlines, nothing repeated, nobody trusted."""

import asyncio
import base64
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from devcluster import pki
from vdcos.providers.fencing.contract import Failed, Power, Target
from vdcos.runtime.providers.redfish import MOST_BYTES, Redfish

SYSTEM = "/redfish/v1/Systems/1"
SECRET = {"username": "admin", "password": "hunter2"}
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> pki.Pki:
    return pki.ensure(tmp_path_factory.mktemp("pki"))


@dataclass
class Bmc:
    """One system; ``instead`` answers in its place."""

    power: str = "On"
    allowed: list[str] | None = None
    action: str = f"{SYSTEM}/Actions/ComputerSystem.Reset"
    systems: tuple[str, ...] = (SYSTEM,)
    instead: dict[str, Answer] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    port: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(f"{request.method} {request.path}")
        expected = base64.b64encode(b"admin:hunter2").decode()
        if request.headers.get("Authorization") != f"Basic {expected}":
            return web.Response(status=401)
        if (instead := self.instead.get(request.method)) is not None:
            return await instead(request)
        if request.method == "POST":
            body = await request.json()
            self.bodies.append(body)
            self.power = {"ForceOff": "Off", "On": "On"}[body["ResetType"]]
            return web.Response(status=204)
        if request.path == "/redfish/v1/Systems":
            return web.json_response({"Members": [{"@odata.id": path} for path in self.systems]})
        reset: dict[str, Any] = {"target": self.action}
        if self.allowed is not None:
            reset["ResetType@Redfish.AllowableValues"] = self.allowed
        return web.json_response({"PowerState": self.power, "Actions": {"#ComputerSystem.Reset": reset}})

    def target(self, keys: pki.Pki | None, seconds: float = 5.0, **changes: Any) -> Target:
        secret = {**SECRET, **({"ca.crt": keys.ca.read_text()} if keys else {}), **changes.pop("secret", {})}
        parameters = {"address": f"https://127.0.0.1:{self.port}", "system": SYSTEM, "credentials": "bmc-1", **changes}
        return Target("host-1", parameters, secret, seconds)


@contextlib.asynccontextmanager
async def serving(bmc: Bmc, keys: pki.Pki, host: str = "127.0.0.1") -> AsyncIterator[Bmc]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", bmc.answer)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(keys.cert("virt-handler"), keys.key("virt-handler"))
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, 0, ssl_context=tls)
    await site.start()
    bmc.port = runner.addresses[0][1]
    try:
        yield bmc
    finally:
        await runner.cleanup()


async def test_it_reads_the_power_and_takes_it_away(keys: pki.Pki) -> None:
    async with serving(Bmc(), keys) as bmc:
        target = bmc.target(keys)
        assert await Redfish().power(target) is Power.ON
        await Redfish().power_off(target)
        assert bmc.bodies == [{"ResetType": "ForceOff"}]
        assert await Redfish().power(target) is Power.OFF
        await Redfish().power_on(target)
        assert await Redfish().power(target) is Power.ON
        assert bmc.bodies == [{"ResetType": "ForceOff"}, {"ResetType": "On"}]


async def test_a_host_that_is_off_already_is_left_alone(keys: pki.Pki) -> None:
    async with serving(Bmc(power="Off"), keys) as bmc:
        await Redfish().power_off(bmc.target(keys))
        assert bmc.calls == [f"GET {SYSTEM}"]


@pytest.mark.parametrize("said", ["PoweringOff", "PoweringOn", "Paused", "", None])
async def test_nothing_but_off_is_off(keys: pki.Pki, said: str | None) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"PowerState": said})

    async with serving(Bmc(instead={"GET": answer}), keys) as bmc:
        assert await Redfish().power(bmc.target(keys)) is Power.OTHER


async def test_the_only_system_is_found_and_of_several_one_must_be_named(keys: pki.Pki) -> None:
    async with serving(Bmc(), keys) as bmc:
        assert await Redfish().power(bmc.target(keys, system=None)) is Power.ON
        assert bmc.calls == ["GET /redfish/v1/Systems", f"GET {SYSTEM}"]
        bmc.systems = (SYSTEM, "/redfish/v1/Systems/2")
        with pytest.raises(Failed, match="has 2 systems: say in"):
            await Redfish().power_off(bmc.target(keys, system=None))
        assert bmc.bodies == []


async def test_a_reset_that_is_not_offered_is_not_tried(keys: pki.Pki) -> None:
    async with serving(Bmc(allowed=["On", "GracefulShutdown"]), keys) as bmc:
        with pytest.raises(Failed, match="offers no ForceOff"):
            await Redfish().power_off(bmc.target(keys))
        assert bmc.bodies == []


@pytest.mark.parametrize("place", ["https://evil.test/reset", "//evil.test/reset", "reset"])
async def test_another_address_is_not_followed(keys: pki.Pki, place: str) -> None:
    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": "https://evil.test/redfish/v1/Systems/1"})

    async with serving(Bmc(action=place), keys) as bmc:
        with pytest.raises(Failed, match="another address, which is not followed"):
            await Redfish().power_off(bmc.target(keys))
        bmc.instead = {"GET": redirect}
        with pytest.raises(Failed, match="redirects to another address"):
            await Redfish().power(bmc.target(keys))
        assert all(call == f"GET {SYSTEM}" for call in bmc.calls)


STATUSES = [(401, "check username and password"), (403, "right to control power"), (404, "bmc.redfish.system"),
            (500, "HTTP status 500"), (503, "HTTP status 503")]  # fmt: skip


@pytest.mark.parametrize("status, says", STATUSES)
async def test_a_refusal_is_told_and_never_repeated(keys: pki.Pki, status: int, says: str) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=status, text=f"no, {request.headers['Authorization']}")

    async with serving(Bmc(instead={"POST": refuse}), keys) as bmc:
        with pytest.raises(Failed, match=says) as error:
            await Redfish().power_off(bmc.target(keys))
        assert [call for call in bmc.calls if call.startswith("POST")] == [
            "POST /redfish/v1/Systems/1/Actions/ComputerSystem.Reset"
        ]
        assert "hunter2" not in str(error.value)
        assert base64.b64encode(b"admin:hunter2").decode() not in str(error.value)


async def test_wrong_credentials_are_told(keys: pki.Pki) -> None:
    async with serving(Bmc(), keys) as bmc:
        with pytest.raises(Failed, match="does not accept the credentials"):
            await Redfish().power(bmc.target(keys, secret={"password": "wrong"}))
        with pytest.raises(Failed, match="Secret bmc-1 has no password"):
            await Redfish().power(bmc.target(keys, secret={"password": ""}))


async def hang(request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    return web.Response()


async def drip(request: web.Request) -> web.StreamResponse:
    """A body that never ends, a byte at a time, so that no single read takes long."""
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(600):
        await response.write(b" ")
        await asyncio.sleep(0.1)
    return response


@pytest.mark.parametrize("how", [hang, drip])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_deadline_is_hard_and_a_power_off_is_sent_once(keys: pki.Pki, how: Answer, method: str) -> None:
    async with serving(Bmc(instead={method: how}), keys) as bmc:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(Redfish().power_off(bmc.target(keys, seconds=1.0)), 30)
        assert len([call for call in bmc.calls if call.startswith("POST")]) == (method == "POST")


async def test_a_broken_connection_is_told_and_the_power_off_is_sent_once(keys: pki.Pki) -> None:
    async def cut(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    for method in ("POST", "GET"):
        async with serving(Bmc(instead={method: cut}), keys) as bmc:
            with pytest.raises(Failed, match="broke off"):
                await Redfish().power_off(bmc.target(keys))
            assert len([call for call in bmc.calls if call.startswith("POST")]) == (method == "POST")


NONSENSE: list[tuple[str, Mapping[str, Any], str]] = [
    ("HTML", {"text": "<html>"}, "does not speak Redfish"),
    ("another shape", {"body": json.dumps({"PowerState": 7}).encode()}, "does not speak Redfish"),
    ("an endless answer", {"body": b" " * (MOST_BYTES + 1)}, "more than"),
]


@pytest.mark.parametrize("reason, how, says", NONSENSE, ids=[case[0] for case in NONSENSE])
async def test_nonsense_is_told(keys: pki.Pki, reason: str, how: Mapping[str, Any], says: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(**how)

    async with serving(Bmc(instead={"GET": answer}), keys) as bmc:
        with pytest.raises(Failed, match=says):
            await Redfish().power(bmc.target(keys))


async def test_a_certificate_of_nobody_is_refused_unless_it_is_said(keys: pki.Pki) -> None:
    async with serving(Bmc(), keys) as bmc:
        with pytest.raises(Failed, match="is not trusted: put its authority into the Secret"):
            await Redfish().power_off(bmc.target(None))
        assert bmc.calls == [], "no credentials were sent to who is not trusted"
        assert await Redfish().power(bmc.target(None, insecureSkipVerify=True)) is Power.ON
        with pytest.raises(Failed, match="no certificate in PEM"):
            await Redfish().power(bmc.target(None, secret={"ca.crt": "nonsense"}))


async def test_a_certificate_for_another_name_is_refused(keys: pki.Pki) -> None:
    async with serving(Bmc(), keys, "127.0.0.2") as bmc:
        with pytest.raises(Failed, match="is not trusted"):
            await Redfish().power(bmc.target(keys, address=f"https://127.0.0.2:{bmc.port}"))
        assert bmc.calls == []


async def test_who_does_not_listen_is_told_at_once(keys: pki.Pki) -> None:
    async with serving(Bmc(), keys) as bmc:
        pass
    began = time.monotonic()
    with pytest.raises(Failed, match="cannot be reached"):
        await Redfish().power(bmc.target(keys))
    assert time.monotonic() - began < 5
