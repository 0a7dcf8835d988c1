"""The simulated hosts' BMCs by Redfish, as our client and OpenStack's see them."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import sushy

from devcluster import pki
from devcluster.hosts.redfish import redfish_app
from devcluster.hosts.servers import serve, server_tls
from devcluster.hosts.simulator import BadRequest, Simulator
from vdcos.providers.fencing.contract import Failed, Power, Target
from vdcos.runtime.providers.redfish import Redfish
from vdcos.testing.hypervisor.values import Timings, Up


class Api:
    """Takes every write."""

    async def write(self, write: Any) -> None:
        return None


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> pki.Pki:
    return pki.ensure(tmp_path_factory.mktemp("pki"))


@dataclass
class Datacenter:
    simulator: Simulator
    address: str
    keys: pki.Pki

    def target(self, host: str = "host-1", seconds: float = 10.0, password: str = "hunter2") -> Target:
        parameters = {"address": self.address, "system": f"/redfish/v1/Systems/{host}", "credentials": "bmc"}
        secret = {"username": "admin", "password": password, "ca.crt": self.keys.ca.read_text()}
        return Target(host, parameters, secret, seconds)

    def boots(self, host: str = "host-1") -> str:
        boots: str = next(h["bootID"] for h in self.simulator.state()["hosts"] if h["name"] == host)
        return boots


@contextlib.asynccontextmanager
async def running(keys: pki.Pki) -> AsyncIterator[Datacenter]:
    simulator = Simulator(Api(), 2, Timings().scaled(0))  # type: ignore[arg-type]
    simulator._started = True
    for name in simulator.hosts:
        simulator._deliver(name, Up())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    runner = await serve(redfish_app(simulator, "hunter2"), port, server_tls(keys.cert("bmc"), keys.key("bmc")))
    try:
        yield Datacenter(simulator, f"https://127.0.0.1:{port}", keys)
    finally:
        await runner.cleanup()
        await simulator._writer.close()


async def test_a_power_off_cuts_the_host_and_on_brings_it_back_as_another_incarnation(keys: pki.Pki) -> None:
    async with running(keys) as there:
        before = there.boots()
        assert await Redfish().power(there.target()) is Power.ON
        await Redfish().power_off(there.target())
        assert not there.simulator.hosts["host-1"].powered
        assert await Redfish().power(there.target()) is Power.OFF
        assert await Redfish().power(there.target("host-2")) is Power.ON
        await Redfish().power_on(there.target())
        assert await Redfish().power(there.target()) is Power.ON
        assert there.boots() != before


async def test_the_faults_of_hosts_show(keys: pki.Pki) -> None:
    async with running(keys) as there:
        there.simulator.fault("power-off", host="host-1")
        assert await Redfish().power(there.target()) is Power.OFF
        there.simulator.fault("recover", host="host-1")
        assert await Redfish().power(there.target()) is Power.ON
        there.simulator.fault("partition", host="host-2")
        assert await Redfish().power(there.target("host-2")) is Power.ON
        await Redfish().power_on(there.target("host-2"))
        assert not there.simulator.hosts["host-2"].connected, "power for who has it heals nothing"


async def test_a_liar(keys: pki.Pki) -> None:
    async with running(keys) as there:
        there.simulator.fault("liar", host="host-1")
        await Redfish().power_off(there.target())
        assert await Redfish().power(there.target()) is Power.OFF
        assert there.simulator.hosts["host-1"].powered
        there.simulator.fault("liar", host="host-1", clear=True)
        assert await Redfish().power(there.target()) is Power.ON


async def test_one_that_never_answers_one_that_dies_with_its_host_and_one_that_is_slow(keys: pki.Pki) -> None:
    async with running(keys) as there:
        there.simulator.fault("bmc-timeout", host="host-1")
        with pytest.raises(TimeoutError):
            await Redfish().power_off(there.target(seconds=0.5))
        assert there.simulator.hosts["host-1"].powered
        assert await Redfish().power(there.target("host-2")) is Power.ON
        there.simulator.fault("bmc-timeout", host="host-1", clear=True)

        there.simulator.fault("bmc-dead", host="host-1")
        assert await Redfish().power(there.target()) is Power.ON
        await Redfish().power_off(there.target())
        with pytest.raises(TimeoutError):
            await Redfish().power(there.target(seconds=0.5))
        there.simulator.fault("recover", host="host-1")
        assert await Redfish().power(there.target()) is Power.ON

        there.simulator.fault("bmc-slow", host="host-1", seconds=0.4)
        with pytest.raises(TimeoutError):
            await Redfish().power(there.target(seconds=0.2))
        assert await Redfish().power(there.target(seconds=20.0)) is Power.ON


async def test_a_bmcs_fault_is_a_hosts(keys: pki.Pki) -> None:
    async with running(keys) as there:
        for host, vm in (("", "ns/vm"), ("host-1", "ns/vm"), ("", "")):
            with pytest.raises(BadRequest, match="liar needs a host, and no vm"):
                there.simulator.fault("liar", host=host, vm=vm)


async def test_openstacks_client_drives_it(keys: pki.Pki) -> None:
    def drive(address: str) -> list[str]:
        basic = sushy.auth.BasicAuth(username="admin", password="hunter2")
        client = sushy.Sushy(f"{address}/redfish/v1", auth=basic, verify=str(keys.ca), server_side_retries=1)
        found = sorted(system.identity for system in client.get_system_collection().get_members())
        system = client.get_system("/redfish/v1/Systems/host-1")
        seen = [*found, str(system.power_state.value)]
        for reset in (sushy.ResetType.FORCE_OFF, sushy.ResetType.ON):
            system.reset_system(reset)
            system.refresh(force=True)
            seen.append(str(system.power_state.value))
        return seen

    async with running(keys) as there:
        assert await asyncio.to_thread(drive, there.address) == ["host-1", "host-2", "On", "Off", "On"]


async def test_what_is_asked_wrongly_is_refused(keys: pki.Pki) -> None:
    async with running(keys) as there:
        with pytest.raises(Failed, match="does not accept the credentials"):
            await Redfish().power_off(there.target(password="wrong"))
        with pytest.raises(Failed, match=r"bmc\.redfish\.system"):
            await Redfish().power(there.target("host-9"))
        connector = aiohttp.TCPConnector(ssl=False)
        async with aiohttp.ClientSession(there.address, connector=connector) as session:
            reset = "/redfish/v1/Systems/host-1/Actions/ComputerSystem.Reset"
            async with session.get("/redfish/v1") as answer:
                assert answer.status == 200, "the root is for everybody"
            async with session.post(reset, json={"ResetType": "ForceOff"}) as answer:
                assert answer.status == 401
            header = {"Authorization": "Basic YWRtaW46aHVudGVyMg=="}
            wrong: list[Any] = [{"ResetType": "Nmi"}, {}, []]
            for body in wrong:
                async with session.post(reset, json=body, headers=header) as answer:
                    assert answer.status == 400
        assert there.simulator.hosts["host-1"].powered
