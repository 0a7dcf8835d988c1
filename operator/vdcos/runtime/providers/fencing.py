"""Power switches as providers of asks: the Secret is read when it is needed, and nothing of it is ever told."""

import base64
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from vdcos.core.errors import place
from vdcos.providers.fencing import contract
from vdcos.providers.fencing.contract import CONTRACT, Power, PowerSwitch, Target
from vdcos.runtime import asks
from vdcos.runtime.port import Port
from vdcos.runtime.providers.fence_agents import FenceAgents
from vdcos.runtime.providers.ipmi import Ipmi
from vdcos.runtime.providers.redfish import Redfish
from vdcos.runtime.requests import ApiError

Secrets = Callable[[str], Awaitable[Mapping[str, str]]]
"""Gives the data of a Secret by its name. Raises contract.Failed."""

SECRET_SECONDS = 3.0
SHORTEST_SECRET = 3
"""What is shorter (a user "a") would blacken half of every text."""


class _SecretData(msgspec.Struct):
    data: dict[str, str] = {}


def power_switches(
    third_parties: Mapping[str, PowerSwitch], secrets: Secrets, agents: Path | None
) -> Mapping[str, asks.Provider]:
    """All power switches by the names that users write. ``agents`` is the folder of fence agents, None for none."""
    built_in: Mapping[str, PowerSwitch] = {"redfish": Redfish(), "ipmi": Ipmi(), "fence-agent": FenceAgents(agents)}
    return {name: provider(name, switch, secrets) for name, switch in {**third_parties, **built_in}.items()}


def provider(name: str, switch: PowerSwitch, secrets: Secrets) -> asks.Provider:
    """A kind of power switches as a provider of asks: requests as ``vdcos.providers.fencing.fence`` makes them."""

    async def perform(request: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
        if getattr(switch, "contract", None) != CONTRACT:
            raise asks.Failed(
                f"provider {name} speaks version {getattr(switch, 'contract', None)!r} of the contract, this operator "
                f"version {CONTRACT}: install matching versions"
            )
        secret: Mapping[str, str] = {}
        try:
            if credentials := request["parameters"].get("credentials"):
                secret = await secrets(credentials)
            target = Target(request["host"], request["parameters"], secret, seconds)
            if request["operation"] == "off":
                await switch.power_off(target)
                return {}
            return {"power": str(Power(await switch.power(target)))}
        except contract.Failed as failure:
            raise asks.Failed(without(secret, str(failure))) from None
        except TimeoutError:
            raise
        except Exception as bug:  # noqa: BLE001  its text may hold what the Secret holds
            raise asks.Failed(f"provider {name} failed with {place(bug)}; report it to its author") from None

    return perform


def without(secret: Mapping[str, str], text: str) -> str:
    """A text in which nothing of a Secret stands, plain or as HTTP basic authentication writes it."""
    pair = f"{secret.get('username', '')}:{secret.get('password', '')}".encode()
    for value in sorted({*secret.values(), base64.b64encode(pair).decode()}, key=len, reverse=True):
        if len(value) >= SHORTEST_SECRET:
            text = text.replace(value, "***")
    return text


def secrets_of(port: Port, namespace: str) -> Secrets:
    """Secrets as the API server holds them now; nothing is kept."""

    async def read(name: str) -> Mapping[str, str]:
        path = f"/api/v1/namespaces/{namespace}/secrets/{name}"
        try:
            body = await port.call("get", "GET", path, seconds=SECRET_SECONDS)
            data = msgspec.json.decode(body, type=_SecretData).data
            return {key: base64.b64decode(value).decode() for key, value in data.items()}
        except ApiError as error:
            why = {404: "does not exist", 403: "may not be read: install the current RBAC of vdcos"}
            said = why.get(error.status, f"cannot be read ({error.reason})")
            raise contract.Failed(f"Secret {name} in namespace {namespace} {said}") from None
        except ValueError:
            raise contract.Failed(f"Secret {name} in namespace {namespace} holds what is no text") from None

    return read
