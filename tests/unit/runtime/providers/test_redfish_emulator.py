"""The Redfish client against OpenStack's emulator of BMCs, with OpenStack's client as a second opinion."""

import asyncio
from collections.abc import Iterator

import pytest
import sushy

from devcluster import pki, waiting
from tests import bmcs
from vdcos.providers.fencing.contract import Failed, Power, Target
from vdcos.runtime.providers.redfish import Redfish

UUIDS = ("00000000-0000-4000-9000-000000000001", "00000000-0000-4000-9000-000000000002")
SECONDS = 60.0


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> pki.Pki:
    return pki.ensure(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def address(keys: pki.Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with bmcs.emulator(tmp_path_factory.mktemp("emulator"), keys, dict(zip(("one", "two"), UUIDS, strict=True))) as url:
        yield url


def target(address: str, keys: pki.Pki, system: int = 0, password: str = "hunter2") -> Target:
    parameters = {"address": address, "system": f"/redfish/v1/Systems/{UUIDS[system]}", "credentials": "bmc"}
    secret = {"username": "admin", "password": password, "ca.crt": keys.ca.read_text()}
    return Target("host-1", parameters, secret, 20.0)


async def until(wanted: Power, at: Target) -> None:
    """The emulator takes its time: up to eleven seconds, and it acts when somebody looks."""

    async def is_so() -> bool:
        return await Redfish().power(at) is wanted

    await waiting.until(is_so, SECONDS, every=0.3)


async def test_off_and_on_again_and_another_client_sees_the_same(address: str, keys: pki.Pki) -> None:
    def second_opinion() -> str:
        client = sushy.Sushy(
            f"{address}/redfish/v1", username="admin", password="hunter2", verify=str(keys.ca), server_side_retries=1
        )
        return str(client.get_system(f"/redfish/v1/Systems/{UUIDS[0]}").power_state)

    here = target(address, keys)
    assert await Redfish().power(here) is Power.ON
    await Redfish().power_off(here)
    await until(Power.OFF, here)
    assert "OFF" in (await asyncio.to_thread(second_opinion)).upper()
    assert await Redfish().power(target(address, keys, 1)) is Power.ON, "the other host was left alone"
    await Redfish().power_off(here)
    await Redfish().power_on(here)
    await until(Power.ON, here)
    assert "ON" in (await asyncio.to_thread(second_opinion)).upper()


async def test_wrong_credentials_and_unknown_systems_are_told(address: str, keys: pki.Pki) -> None:
    with pytest.raises(Failed, match="does not accept the credentials"):
        await Redfish().power_off(target(address, keys, password="wrong"))
    here = target(address, keys)
    unknown = Target(here.host, {**here.parameters, "system": "/redfish/v1/Systems/none"}, here.secret, 20.0)
    with pytest.raises(Failed, match=r"bmc\.redfish\.system"):
        await Redfish().power_off(unknown)
    several = Target(here.host, {**here.parameters, "system": None}, here.secret, 20.0)
    with pytest.raises(Failed, match="has 2 systems"):
        await Redfish().power_off(several)
