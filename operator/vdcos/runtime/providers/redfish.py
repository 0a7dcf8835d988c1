"""Power switches by Redfish (DMTF DSP0266): a reading and a reset, and a reset is sent once.

A connection per request, because a BMC that restarts leaves dead ones behind. aiohttp repeats a GET once when its
connection breaks off, and a POST never.
"""

import asyncio
import base64
import functools
import json
import ssl
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import aiohttp
import msgspec

from vdcos.providers.fencing.contract import CONTRACT, Failed, Power, Target

T = TypeVar("T")

CONNECT_SECONDS = 3.0
MOST_BYTES = 1 << 20
SYSTEMS = "/redfish/v1/Systems"
RESET = "#ComputerSystem.Reset"
POWER = {"On": Power.ON, "Off": Power.OFF}
"""The other values of PowerState (PoweringOn, PoweringOff, Paused) are neither."""

WRONG = {
    401: "does not accept the credentials: check username and password in the Secret",
    403: "does not let this user do that: it needs the right to control power",
    404: "does not know this: check bmc.redfish.system",
}


class _Reset(msgspec.Struct, rename={"types": "ResetType@Redfish.AllowableValues"}):
    target: str = ""
    types: list[str] | None = None


class _Actions(msgspec.Struct, rename={"reset": RESET}):
    reset: _Reset = msgspec.field(default_factory=_Reset)


class _System(msgspec.Struct, rename={"power": "PowerState", "actions": "Actions"}):
    power: str | None = None
    actions: _Actions = msgspec.field(default_factory=_Actions)


class _Member(msgspec.Struct, rename={"path": "@odata.id"}):
    path: str


class _Collection(msgspec.Struct, rename={"members": "Members"}):
    members: list[_Member]


class Redfish:
    """A ``PowerSwitch``. ``parameters`` are ``bmc.redfish``; the Secret holds username, password and maybe ca.crt."""

    contract: ClassVar[int] = CONTRACT

    async def power(self, target: Target) -> Power:
        async with asyncio.timeout(target.seconds), _Bmc(target) as bmc:
            return POWER.get((await bmc.system())[1].power or "", Power.OTHER)

    async def power_off(self, target: Target) -> None:
        await self.reset(target, "ForceOff", unless="Off")

    async def power_on(self, target: Target) -> None:
        """Give power to the host, if it has none. Raises Failed."""
        await self.reset(target, "On", unless="On")

    async def reset(self, target: Target, kind: str, unless: str) -> None:
        """One reset of a kind (``ResetType``), if the power is not ``unless`` already. Raises Failed, TimeoutError."""
        async with asyncio.timeout(target.seconds), _Bmc(target) as bmc:
            path, system = await bmc.system()
            if system.power == unless:
                return
            action = system.actions.reset
            if action.types is not None and kind not in action.types:
                raise Failed(f"{bmc.address} offers no {kind} for this system (it offers {', '.join(action.types)})")
            await bmc.call("POST", action.target or f"{path}/Actions/ComputerSystem.Reset", {"ResetType": kind})


class _Bmc:
    """One BMC during one call."""

    def __init__(self, target: Target) -> None:
        self.address = str(target.parameters["address"])
        self._path = str(target.parameters.get("system") or "")
        self._tls = _tls(target.secret.get("ca.crt", ""), bool(target.parameters.get("insecureSkipVerify")))
        pair = f"{_needed(target, 'username')}:{_needed(target, 'password')}"
        self._authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"

    async def __aenter__(self) -> "_Bmc":
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "Accept": "application/json",
                "OData-Version": "4.0",
                "Authorization": self._authorization,
            },
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def system(self) -> tuple[str, _System]:
        """The system and its path. Raises Failed."""
        path = self._path or await self._only_system()
        return path, self._read(await self.call("GET", path), _System)

    async def _only_system(self) -> str:
        members = self._read(await self.call("GET", SYSTEMS), _Collection).members
        if len(members) != 1:
            raise Failed(f"{self.address} has {len(members)} systems: say in bmc.redfish.system which is this host")
        return members[0].path

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        """One request and the body of its answer. Raises Failed."""
        if not path.startswith("/") or path.startswith("//"):
            raise Failed(f"{self.address} points to another address, which is not followed")
        data = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            async with self._session.request(
                method, self.address + path, data=data, headers=headers, allow_redirects=False
            ) as response:
                if 300 <= response.status < 400:
                    raise Failed(f"{self.address} redirects to another address, which is not followed")
                if response.status >= 400:
                    said = WRONG.get(response.status, f"answers with HTTP status {response.status}")
                    raise Failed(f"{self.address} {said}")
                return await self._whole(response)
        except aiohttp.ClientConnectorCertificateError as error:
            raise Failed(
                f"the certificate of {self.address} is not trusted: put its authority into the Secret as ca.crt, "
                "or set insecureSkipVerify"
            ) from error
        except TimeoutError as error:
            raise Failed(f"{self.address} does not answer in time") from error
        except aiohttp.ClientConnectorDNSError as error:
            raise Failed(f"{self.address}: there is no such name") from error
        except aiohttp.ClientConnectorError as error:
            raise Failed(f"{self.address} cannot be reached") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Failed(f"{self.address} broke off or does not speak HTTP") from error

    async def _whole(self, response: aiohttp.ClientResponse) -> bytes:
        body = b""
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > MOST_BYTES:
                raise Failed(f"{self.address} answers with more than {MOST_BYTES} bytes")
        return body

    def _read(self, body: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.MsgspecError as error:
            raise Failed(f"{self.address} does not speak Redfish") from error


def _needed(target: Target, key: str) -> str:
    value = target.secret.get(key, "")
    if not value:
        raise Failed(f"Secret {target.parameters.get('credentials')} has no {key}")
    return value


@functools.lru_cache(maxsize=64)
def _tls(authority: str, insecure: bool) -> ssl.SSLContext:
    """To load the system's authorities takes 20 ms, so contexts are kept. Raises Failed."""
    try:
        context = ssl.create_default_context(cadata=authority or None)
    except ssl.SSLError as error:
        raise Failed("ca.crt in the Secret is no certificate in PEM format") from error
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
