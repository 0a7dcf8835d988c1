"""High availability on a real control plane: hosts lose power or are cut off, and their VMs run again, once each."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from devcluster.cluster import Cluster
from devcluster.waiting import eventually
from tests.devcluster import fleet
from tests.devcluster.replica import NAMESPACE, Replica
from vdcos.core import hosts

Tree = dict[str, Any]

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST = "host-4"
POLICY = "devcluster"
LONG = 180.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replica]:
    running = Replica(installed, tmp_path_factory.mktemp("operator") / "operator.log", "--standalone")
    await running.start()
    yield running
    await running.stop()


async def soon(predicate: Callable[[], Any], seconds: float = LONG) -> Any:
    return await asyncio.to_thread(eventually, predicate, seconds)


class Datacenter:
    """One host that may fail, three others, a policy for all of them, and VMs in one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace
        self.known = {failure["metadata"]["name"] for failure in self.failures()}

    def policy(self, **spec: Any) -> None:
        detection = {"leaseSeconds": 12, "probe": {"failures": 3, "intervalSeconds": 1}}
        recovery = {"quietSeconds": 3}
        self.own("HAPolicy", POLICY, {"detection": detection, "recovery": recovery, **spec})

    def own(self, kind: str, name: str, spec: Tree) -> None:
        self.cluster.apply({"apiVersion": "vdcos.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})

    def bmc(self) -> None:
        """The host's power switch, with its Secret where the operator may read it."""
        bmc = self.cluster.bmc(HOST)
        data = {key: base64.b64encode(bmc[key].encode()).decode() for key in ("username", "password", "ca.crt")}
        meta = {"name": f"bmc-{HOST}", "namespace": NAMESPACE}
        self.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data})
        redfish = {"address": bmc["address"], "system": bmc["system"], "credentials": f"bmc-{HOST}"}
        self.own("Host", HOST, {"bmc": {"redfish": redfish}})

    def vms(self, **availability: Tree) -> None:
        """VMs that run on the host, and may run elsewhere."""
        others = [f"host-{number}" for number in range(1, 4)]
        self.cluster.kubectl("cordon", *others)
        try:
            for number, (name, said) in enumerate(availability.items()):
                vm = fleet.machine(self.namespace, number)
                vm["metadata"]["name"] = name
                vm["spec"]["availability"] = said
                self.cluster.apply(vm)
            eventually(lambda: fleet.standing(self.cluster, self.namespace).ready == len(availability), LONG)
        finally:
            self.cluster.kubectl("uncordon", *others)

    def failures(self) -> list[Tree]:
        found: list[Tree] = json.loads(self.cluster.kubectl("get", "hostfailures", "-o", "json"))["items"]
        return found

    def failure(self) -> Tree:
        """The failure of this test; empty while there is none."""
        new = [failure for failure in self.failures() if failure["metadata"]["name"] not in self.known]
        assert len(new) < 2, "one failure is declared once"
        return new[0] if new else {}

    def phase(self) -> str:
        return str(self.failure().get("status", {}).get("phase", ""))

    def says(self, kind: str) -> Tree:
        conditions = self.failure().get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == kind), {})

    def instances(self) -> dict[str, Tree]:
        items = json.loads(self.cluster.kubectl("get", "vmi", "-n", self.namespace, "-o", "json"))["items"]
        return {item["metadata"]["name"]: item for item in items}

    def elsewhere(self) -> set[str]:
        """VMs that run on other hosts."""
        return {
            name
            for name, vmi in self.instances().items()
            if vmi["status"].get("phase") == "Running" and vmi["status"].get("nodeName") not in ("", HOST)
        }

    def started(self) -> list[str]:
        """The order in which processes of these VMs began elsewhere, by the hosts' ledger."""
        ledger = self.cluster.hosts("ledger")["intervals"]
        mine = [each for each in ledger if each["namespace"] == self.namespace and each["host"] != HOST]
        return [each["name"] for each in sorted(mine, key=lambda each: each["from"])]

    def overlaps(self) -> list[Tree]:
        found = self.cluster.hosts("ledger")["overlaps"]
        return [overlap for overlap in found if overlap["first"]["namespace"] == self.namespace]

    def node(self) -> Tree:
        return self.cluster.get("node", HOST)

    def is_marked(self) -> bool:
        node = self.node()
        taints = [taint["key"] for taint in node["spec"].get("taints", [])]
        annotations = node["metadata"].get("annotations", {})
        return (
            hosts.CORDONED_BY in annotations
            or hosts.OUT_OF_SERVICE in taints
            or bool(node["spec"].get("unschedulable"))
        )


@pytest.fixture
def datacenter(cluster: Cluster, operator: Replica, namespace: str) -> Iterator[Datacenter]:
    cluster.apply(*fleet.infrastructure())
    found = Datacenter(cluster, namespace)
    found.own("Host", HOST, {})
    yield found
    for fault in ("liar", "bmc-timeout"):
        cluster.fault(fault, host=HOST, clear=True)
    cluster.fault("recover", host=HOST)
    cluster.kubectl("delete", "vdcvm", "--all", "-n", namespace, "--wait=false")
    eventually(lambda: not found.failure() or found.phase() == "Completed", LONG)
    cluster.kubectl("delete", "hapolicy", POLICY, "--ignore-not-found")
    cluster.kubectl("delete", "hosts.vdcos.dev", HOST)
    eventually(lambda: not found.is_marked(), LONG)


async def test_a_host_that_loses_power_is_fenced_and_its_vms_restart_in_order(datacenter: Datacenter) -> None:
    datacenter.bmc()
    datacenter.policy()
    first, last = {"restartPriority": "High"}, {"restartPriority": "Low"}
    middle = {"restartPriority": "High", "dependsOn": [{"name": "db"}]}
    await asyncio.to_thread(lambda: datacenter.vms(backup=last, web=middle, db=first))
    datacenter.cluster.fault("power-off", host=HOST)
    await soon(lambda: datacenter.elsewhere() == {"db", "web", "backup"})
    assert datacenter.started() == ["db", "web", "backup"]
    assert datacenter.overlaps() == []
    failure = await soon(lambda: datacenter.phase() == "Recovering" and datacenter.failure())
    status = failure["status"]
    assert status["receipt"]["provider"] == "redfish"
    assert status["receipt"]["incarnation"] == failure["spec"]["incarnation"]
    assert status["vms"] | {"notRestarted": None} == {
        "total": 3, "running": 3, "starting": 0, "held": 0, "failed": 0, "notRestarted": None,
    }  # fmt: skip
    assert datacenter.is_marked(), "nothing new lands on a host that is down"
    datacenter.cluster.fault("recover", host=HOST)
    await soon(lambda: datacenter.phase() == "Completed")
    assert datacenter.failure()["status"]["outcome"] == "Recovered"
    assert not datacenter.is_marked()
    vms = fleet.standing(datacenter.cluster, datacenter.namespace)
    assert vms.ready == 3


async def test_a_host_that_nothing_can_fence_waits_for_a_person(datacenter: Datacenter) -> None:
    datacenter.policy()
    await asyncio.to_thread(lambda: datacenter.vms(web={}))
    datacenter.cluster.fault("partition", host=HOST)
    said = await soon(lambda: datacenter.phase() == "Fencing" and datacenter.says("Fenced"))
    name, incarnation = datacenter.failure()["metadata"]["name"], datacenter.failure()["spec"]["incarnation"]
    assert (said["status"], said["reason"]) == ("False", "NoProof")
    assert f"spec.confirmedDown with incarnation {incarnation}" in said["message"]
    assert datacenter.elsewhere() == set(), "the VM may still write on the host that is cut off"
    datacenter.cluster.fault("power-off", host=HOST)
    word = {"incarnation": incarnation, "by": "ops", "why": "unplugged"}
    datacenter.cluster.kubectl(
        "patch", "hostfailure", name, "--type=merge", "-p", json.dumps({"spec": {"confirmedDown": word}})
    )
    await soon(lambda: datacenter.elsewhere() == {"web"})
    assert datacenter.failure()["status"]["receipt"]["how"] == "Confirmed"
    assert datacenter.overlaps() == []


async def test_a_false_alarm_leaves_no_trace(datacenter: Datacenter) -> None:
    datacenter.policy(paused={"reason": "work on the network"})
    await asyncio.to_thread(lambda: datacenter.vms(web={}))
    before = datacenter.instances()["web"]["metadata"]["uid"]
    datacenter.cluster.fault("partition", host=HOST)
    said = await soon(lambda: datacenter.phase() == "Held" and datacenter.says("Ready"))
    assert said["reason"] == "Paused"
    assert "work on the network" in said["message"]
    assert datacenter.is_marked()
    datacenter.cluster.fault("recover", host=HOST)
    await soon(lambda: datacenter.phase() == "Completed")
    assert datacenter.failure()["status"]["outcome"] == "FalseAlarm"
    assert not datacenter.is_marked()
    assert datacenter.instances()["web"]["metadata"]["uid"] == before, "it was left alone"


async def test_a_host_that_is_heard_again_is_left_alone_whatever_its_bmc_says(datacenter: Datacenter) -> None:
    """It was cut off, its BMC could not be reached, and when the network is back, the BMC says Off: it lies."""
    datacenter.bmc()
    datacenter.policy()
    await asyncio.to_thread(lambda: datacenter.vms(web={}))
    before = datacenter.instances()["web"]["metadata"]["uid"]
    datacenter.cluster.fault("bmc-timeout", host=HOST)
    datacenter.cluster.fault("partition", host=HOST)
    await soon(lambda: datacenter.phase() == "Fencing" and datacenter.failure()["status"].get("asked"))
    datacenter.cluster.fault("recover", host=HOST)
    datacenter.cluster.fault("bmc-timeout", host=HOST, clear=True)
    datacenter.cluster.fault("liar", host=HOST)
    await soon(lambda: datacenter.phase() == "Completed")
    assert datacenter.failure()["status"]["outcome"] == "FalseAlarm"
    assert "receipt" not in datacenter.failure()["status"]
    assert datacenter.instances()["web"]["metadata"]["uid"] == before
    assert not datacenter.is_marked()
    assert datacenter.overlaps() == []


async def test_a_host_exists_for_every_node_of_kubevirt(datacenter: Datacenter) -> None:
    names = {f"host-{number}" for number in range(1, 5)}

    def there() -> bool:
        items = json.loads(datacenter.cluster.kubectl("get", "hosts.vdcos.dev", "-o", "json"))["items"]
        states = {item["metadata"]["name"]: item.get("status", {}).get("state") for item in items}
        return names <= set(states) and all(states[name] for name in names)

    await soon(there)
    datacenter.cluster.kubectl("delete", "hosts.vdcos.dev", "host-1")
    await soon(there)


async def test_maintenance_is_a_cordon_that_goes_with_it(datacenter: Datacenter) -> None:
    datacenter.own("Host", HOST, {"maintenance": True})
    await soon(lambda: datacenter.node()["spec"].get("unschedulable"))
    datacenter.own("Host", HOST, {"maintenance": False})
    await soon(lambda: not datacenter.is_marked())
    datacenter.cluster.kubectl("cordon", HOST)
    try:
        datacenter.own("Host", HOST, {"failoverOnly": True})
        taint = {"key": hosts.FAILOVER_ONLY, "effect": "NoSchedule"}
        await soon(lambda: taint in datacenter.node()["spec"].get("taints", []))
        datacenter.own("Host", HOST, {"failoverOnly": False})
        await soon(lambda: taint not in datacenter.node()["spec"].get("taints", []))
        assert datacenter.node()["spec"].get("unschedulable"), "somebody else's cordon stays"
    finally:
        datacenter.cluster.kubectl("uncordon", HOST)
