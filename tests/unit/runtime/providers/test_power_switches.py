"""Power switches as providers of asks: their Secret is read afresh, and whatever happens nothing of it gets out."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.runtime.fake_api import FakeApi
from vdcos.core.objects import Resource
from vdcos.providers.fencing import contract
from vdcos.providers.fencing.contract import Power, Target
from vdcos.runtime import asks
from vdcos.runtime.port import Port
from vdcos.runtime.providers.fencing import power_switches, provider, secrets_of, without

SECRET = {"username": "admin", "password": "hunter2", "ca.crt": "-----BEGIN"}
REQUEST: Mapping[str, Any] = {"operation": "off", "host": "host-1", "parameters": {"credentials": "bmc-1"}}
READ: Mapping[str, Any] = {**REQUEST, "operation": "state"}


async def secrets(name: str) -> Mapping[str, str]:
    assert name == "bmc-1"
    return SECRET


class Switch:
    contract = contract.CONTRACT

    def __init__(self, error: Exception | None = None, power: Any = Power.ON) -> None:
        self.error, self.answer, self.targets = error, power, list[Target]()

    async def power(self, target: Target) -> Power:
        self.targets.append(target)
        if self.error is not None:
            raise self.error
        return self.answer  # type: ignore[no-any-return]

    async def power_off(self, target: Target) -> None:
        await self.power(target)


async def test_a_request_becomes_a_call_with_the_secret_and_the_time_that_is_left() -> None:
    switch = Switch()
    perform = provider("acme", switch, secrets)
    assert await perform(READ, 4.0) == {"power": "On"}
    assert await perform(REQUEST, 3.0) == {}
    assert [(t.host, t.secret, t.seconds) for t in switch.targets] == [("host-1", SECRET, 4.0), ("host-1", SECRET, 3.0)]
    assert "hunter2" not in repr(switch.targets)


ERRORS = [
    (contract.Failed("admin:hunter2 was refused"), "***:*** was refused"),
    (contract.Failed(f"Basic {base64.b64encode(b'admin:hunter2').decode()} was refused"), "Basic *** was refused"),
    (RuntimeError("hunter2"), "provider acme failed with RuntimeError in "),
    (ValueError("no power"), "provider acme failed with ValueError in "),
]


@pytest.mark.parametrize("error, says", ERRORS)
async def test_errors_tell_nothing_of_the_secret(error: Exception, says: str) -> None:
    with pytest.raises(asks.Failed) as failed:
        await provider("acme", Switch(error), secrets)(REQUEST, 5.0)
    assert str(failed.value).startswith(says)
    assert "hunter2" not in str(failed.value)
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__, "a traceback would show the first error"


async def test_an_answer_that_is_none_is_the_providers_bug() -> None:
    with pytest.raises(asks.Failed, match="provider acme failed with ValueError"):
        await provider("acme", Switch(power="aus"), secrets)(READ, 5.0)


async def test_another_version_of_the_contract_is_not_called() -> None:
    switch = Switch()
    switch.contract = 2
    with pytest.raises(asks.Failed, match="speaks version 2 of the contract"):
        await provider("acme", switch, secrets)(REQUEST, 5.0)
    assert switch.targets == []


async def test_a_deadline_stays_a_deadline() -> None:
    with pytest.raises(TimeoutError):
        await provider("acme", Switch(TimeoutError()), secrets)(REQUEST, 5.0)


def test_short_values_do_not_blacken_everything() -> None:
    assert without({"username": "a", "password": "hunter2"}, "a hunter2 a") == "a *** a"


def test_built_in_names_cannot_be_taken() -> None:
    switch = Switch()
    found = power_switches({"redfish": switch, "acme": switch}, secrets, None)
    assert sorted(found) == ["acme", "fence-agent", "ipmi", "redfish"]


async def test_secrets_are_read_from_our_namespace_and_what_is_wrong_is_said(tmp_path: Path) -> None:
    kind = Resource("", "v1", "secrets", "Secret")
    api = FakeApi()
    api.serve(kind)
    data = {key: base64.b64encode(value.encode()).decode() for key, value in SECRET.items()}
    await api.put(kind, "bmc-1", "vdcos-system", data=data)
    await api.put(kind, "binary", "vdcos-system", data={"password": base64.b64encode(b"\xff\xfe").decode()})
    async with api.serving(tmp_path) as origin, Port.open(origin) as port:
        read = secrets_of(port, "vdcos-system")
        assert await read("bmc-1") == SECRET
        with pytest.raises(contract.Failed, match="Secret nobody in namespace vdcos-system does not exist"):
            await read("nobody")
        with pytest.raises(contract.Failed, match="holds what is no text"):
            await read("binary")
        with pytest.raises(asks.Failed, match="does not exist"):
            await provider("acme", Switch(), secrets_of(port, "elsewhere"))(REQUEST, 5.0)
