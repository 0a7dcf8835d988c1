"""The hosts' kubelet ports, asked by the operator's own probe."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from devcluster.hosts.kubelets import ADDRESS, BACKLOG, KubeletPort, kubelets
from devcluster.hosts.simulator import Simulator, names
from vdcos.runtime.providers.probe import ANSWERS, SILENT, probe
from vdcos.testing.hypervisor import node
from vdcos.testing.hypervisor.values import Timings, Up

LONG = 30.0


async def ask(port: int, patience: float = 0.2) -> Any:
    request = {"address": ADDRESS, "port": port, "attempts": 2, "interval": 0.05, "timeout": patience}
    return await probe(request, LONG)


@pytest.fixture
async def port() -> AsyncIterator[KubeletPort]:
    with kubelets(["host-1"]) as ports:
        yield ports["host-1"]


async def test_a_port_is_silent_until_it_answers_and_again_after(port: KubeletPort) -> None:
    assert await ask(port.number) == SILENT
    for _ in range(3):
        port.answer(True)
        assert await ask(port.number, LONG) == ANSWERS
        port.answer(False)
        assert await ask(port.number) == SILENT
        port.answer(False)


async def test_it_falls_silent_in_the_middle_of_a_crowd(port: KubeletPort) -> None:
    port.answer(True)
    with contextlib.ExitStack() as crowd:
        for _ in range(BACKLOG // 2):
            one = crowd.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex((ADDRESS, port.number))
        port.answer(False)
        assert await ask(port.number) == SILENT
    port.answer(True)
    assert await ask(port.number, LONG) == ANSWERS


async def test_who_waits_is_heard_when_the_host_is_back(port: KubeletPort) -> None:
    asking = asyncio.create_task(ask(port.number, LONG))
    assert await ask(port.number) == SILENT, "who asks later has given up meanwhile"
    assert not asking.done()
    port.answer(True)
    assert await asking == ANSWERS


async def test_a_hundred_ports_are_a_hundred_descriptors() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with kubelets(names(100)) as ports:
        for port in ports.values():
            port.answer(True)
        assert len(os.listdir("/proc/self/fd")) == before + 100
        assert len({port.number for port in ports.values()}) == 100
    assert len(os.listdir("/proc/self/fd")) == before


class Api:
    """Takes every write."""

    async def write(self, write: Any) -> None:
        return None


async def test_who_says_nothing_to_the_api_server_says_nothing_to_a_probe() -> None:
    with kubelets(names(2)) as ports:
        simulator = Simulator(Api(), 2, Timings().scaled(0), kubelets=ports)  # type: ignore[arg-type]
        simulator._started = True
        for name in simulator.hosts:
            simulator._deliver(name, Up())
        number = ports["host-1"].number
        for fault in ("power-off", "partition", "hang"):
            assert await ask(number, LONG) == ANSWERS
            simulator.fault(fault, host="host-1")
            assert await ask(number) == SILENT
            assert await ask(ports["host-2"].number, LONG) == ANSWERS
            simulator.fault("recover", host="host-1")
        assert await ask(number, LONG) == ANSWERS
        told = node.status(simulator.hosts["host-1"], 0.0).body["status"]
        assert told["addresses"][0] == {"type": "InternalIP", "address": ADDRESS}
        assert told["daemonEndpoints"] == {"kubeletEndpoint": {"Port": number}}
        await simulator._writer.close()
