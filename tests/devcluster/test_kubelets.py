"""What the operator's probe hears of a host, and what a host says of itself, through every fault."""

import asyncio
import base64
import json
import ssl
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from devcluster.cluster import Cluster
from devcluster.waiting import eventually
from vdcos.runtime.providers.probe import ANSWERS, SILENT, probe

HOST = "host-3"
LONG = 90.0
HEARTBEAT = "kubevirt.io/heartbeat"


@pytest.fixture
def host(cluster: Cluster) -> Iterator[str]:
    """A host that is well, before and after."""
    eventually(lambda: well(cluster), LONG)
    yield HOST
    cluster.fault("recover", host=HOST)
    eventually(lambda: well(cluster), LONG)


def well(cluster: Cluster) -> bool:
    """Whether the API server knows this very boot of the host as ready."""
    state = next(host for host in cluster.hosts("state")["hosts"] if host["name"] == HOST)
    seen = cluster.get("node", HOST)["status"]
    return state["connected"] and ready(cluster) == "True" and seen["nodeInfo"]["bootID"] == state["bootID"]


def ready(cluster: Cluster) -> str:
    conditions = cluster.get("node", HOST)["status"]["conditions"]
    return next(str(c["status"]) for c in conditions if c["type"] == "Ready")


def kubelet(cluster: Cluster, host: str) -> tuple[str, int]:
    """Where a host's kubelet listens, by its Node."""
    status = cluster.get("node", host)["status"]
    address = next(a["address"] for a in status["addresses"] if a["type"] == "InternalIP")
    return address, status["daemonEndpoints"]["kubeletEndpoint"]["Port"]


def ask(cluster: Cluster, host: str, patience: float) -> Any:
    address, port = kubelet(cluster, host)
    request = {"address": address, "port": port, "attempts": 2, "interval": 0.1, "timeout": patience}
    return asyncio.run(probe(request, LONG))


def said(cluster: Cluster) -> tuple[str, str]:
    """The last words of the kubelet and of virt-handler."""
    lease = cluster.get("lease", HOST, "-n", "kube-node-lease")["spec"]["renewTime"]
    return lease, cluster.get("node", HOST)["metadata"]["annotations"][HEARTBEAT]


def machine(cluster: Cluster) -> tuple[str, str]:
    info = cluster.get("node", HOST)["status"]["nodeInfo"]
    return info["bootID"], info["systemUUID"]


def bmc_uuid(cluster: Cluster) -> str:
    bmc = cluster.bmc(HOST)
    pair = base64.b64encode(f"{bmc['username']}:{bmc['password']}".encode()).decode()
    asked = urllib.request.Request(bmc["address"] + bmc["system"], headers={"Authorization": f"Basic {pair}"})
    tls = ssl.create_default_context(cadata=bmc["ca.crt"])
    with urllib.request.urlopen(asked, timeout=LONG, context=tls) as answer:
        return str(json.load(answer)["UUID"])


def test_every_host_has_a_kubelet_that_answers(cluster: Cluster, host: str) -> None:
    names = [state["name"] for state in cluster.hosts("state")["hosts"]]
    assert len({kubelet(cluster, name) for name in names}) == len(names)
    assert [ask(cluster, name, LONG) for name in names] == [ANSWERS] * len(names)


def test_a_host_without_power_is_silent_everywhere_and_boots_as_another(cluster: Cluster, host: str) -> None:
    boot, uuid = machine(cluster)
    assert uuid == bmc_uuid(cluster)
    cluster.fault("power-off", host=host)
    assert ask(cluster, host, 1.0) == SILENT
    last = said(cluster)
    eventually(lambda: ready(cluster) == "Unknown", LONG)
    assert said(cluster) == last
    assert ask(cluster, host, 1.0) == SILENT
    assert bmc_uuid(cluster) == uuid, "a BMC has power of its own"

    cluster.fault("recover", host=host)
    eventually(lambda: well(cluster), LONG)
    assert ask(cluster, host, LONG) == ANSWERS
    again = machine(cluster)
    assert again[0] != boot
    assert again[1] == uuid
    eventually(lambda: all(new > old for new, old in zip(said(cluster), last, strict=True)), LONG)


@pytest.mark.parametrize("fault", ["partition", "hang"])
def test_a_host_that_is_cut_off_or_hangs_is_silent_and_comes_back_as_it_was(
    cluster: Cluster, host: str, fault: str
) -> None:
    before = machine(cluster)
    cluster.fault(fault, host=host)
    assert ask(cluster, host, 1.0) == SILENT
    cluster.fault("recover", host=host)
    assert ask(cluster, host, LONG) == ANSWERS
    assert machine(cluster) == before


def test_a_host_that_is_cut_off_from_the_api_server_only_can_be_reached(cluster: Cluster, host: str) -> None:
    cluster.fault("api-cut", host=host)
    eventually(lambda: ready(cluster) == "Unknown", LONG)
    assert ask(cluster, host, LONG) == ANSWERS
    cluster.fault("power-off", host=host)
    assert ask(cluster, host, 1.0) == SILENT
