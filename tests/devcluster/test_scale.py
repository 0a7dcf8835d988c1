"""500 VMs on 20 hosts: the operator keeps up with the control plane. Prints the figures; `make scale`."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster.cluster import Cluster
from devcluster.waiting import eventually, still
from tests.devcluster import fleet, replica
from tests.devcluster.proxy import Proxy

MACHINES = 500
HOSTS = 20
AT_REST = 10.0
"""Seconds without a write."""


@pytest.fixture
def large_cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster.running(hosts=HOSTS, directory=tmp_path / "cluster") as started:
        yield started


@pytest.mark.scale
async def test_five_hundred_machines(large_cluster: Cluster, tmp_path: Path) -> None:
    cluster, namespace = large_cluster, "scale"
    installed = replica.install(cluster)
    cluster.kubectl("create", "namespace", namespace)
    cluster.apply(*fleet.infrastructure())
    async with Proxy(cluster.server, cluster.ca) as proxy:
        operator = replica.Replica(
            replica.through(installed, proxy.url, tmp_path), tmp_path / "operator.log", "--standalone"
        )
        await operator.start()
        try:
            began = time.monotonic()
            for first in range(0, MACHINES, 50):
                batch = [fleet.machine(namespace, number) for number in range(first, first + 50)]
                await asyncio.to_thread(cluster.apply, *batch)
            declared = time.monotonic() - began
            everybody = lambda: fleet.standing(cluster, namespace).ready == MACHINES  # noqa: E731
            await asyncio.to_thread(eventually, everybody, 900, every=2.0)
            seconds = time.monotonic() - began
            cpu, peak = operator.usage()
            writes = len(proxy.writes)
            await asyncio.to_thread(still, lambda: len(proxy.writes), AT_REST, 10 * AT_REST)
            rest = len(proxy.writes) - writes
        finally:
            await operator.stop()
    figures = {
        "VMs": MACHINES,
        "hosts": HOSTS,
        "declared in s": round(declared, 1),
        "Ready in s": round(seconds, 1),
        "VMs/s": round(MACHINES / seconds, 2),
        "operator CPU ms per VM": round(cpu * 1000 / MACHINES, 2),
        "operator peak RSS MiB": round(peak, 1),
        "own writes per VM": round(writes / MACHINES, 2),
        "writes in 10 s at rest": rest,
    }
    print("\n" + json.dumps(figures, indent=2))
    assert rest == 0
