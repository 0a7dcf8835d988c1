"""VirtualMachines on a real KubeVirt: what is missing is told and waited for, and power follows what is declared."""

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from devcluster.cluster import Cluster
from devcluster.waiting import eventually
from tests.devcluster.replica import Replica
from vdcos import api
from vdcos.core import disks

Tree = dict[str, Any]

pytestmark = pytest.mark.asyncio(loop_scope="module")

SMALL: Tree = {"cpu": {}, "memory": {"size": "128Mi"}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replica]:
    running = Replica(installed, tmp_path_factory.mktemp("operator") / "operator.log", "--standalone")
    await running.start()
    yield running
    await running.stop()


async def soon(predicate: Callable[[], Any], seconds: float = 90.0) -> Any:
    return await asyncio.to_thread(eventually, predicate, seconds)


class Vms:
    """The VirtualMachines of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace

    def apply(self, name: str, **spec: Any) -> None:
        meta = {"name": name, "namespace": self.namespace}
        self.cluster.apply(
            {"apiVersion": api.API_VERSION, "kind": "VirtualMachine", "metadata": meta, "spec": {**SMALL, **spec}}
        )

    def edit(self, name: str, **spec: Any) -> None:
        patch = json.dumps({"spec": spec})
        self.cluster.kubectl("patch", "vdcvm", name, "-n", self.namespace, "--type=merge", "-p", patch)

    def status(self, name: str) -> Tree:
        """The status, once it is of the present spec."""
        found = self.cluster.get("vdcvm", name, "-n", self.namespace)
        status: Tree = found.get("status", {})
        assert status.get("observedGeneration") == found["metadata"]["generation"]
        return status

    def says(self, name: str, condition: str = "Ready") -> tuple[str, str]:
        """Status and reason of a condition."""
        for told in self.status(name)["conditions"]:
            if told["type"] == condition:
                return told["status"], told["reason"]
        return "", ""

    def child(self, name: str) -> Tree:
        return self.cluster.get("vm", name, "-n", self.namespace)

    def is_told(self, name: str, reason: str) -> bool:
        return self.says(name) == ("False", reason)

    def is_up(self, name: str) -> bool:
        return self.says(name)[0] == "True" and self.status(name)["powerState"] == "PoweredOn"

    def ask(self, name: str, action: str) -> bool:
        """What virtctl does. KubeVirt refuses while it is still busy with the last request."""
        path = f"/apis/subresources.kubevirt.io/v1/namespaces/{self.namespace}/virtualmachines/{name}/{action}"
        self.cluster.kubectl("replace", "--raw", path, "-f", "-", stdin="{}")
        return True


def store(cluster: Cluster, name: str, **spec: Any) -> None:
    everybody = {"allowedNamespaces": {"from": "All"}}
    cluster.apply(
        {
            "apiVersion": api.API_VERSION,
            "kind": "Datastore",
            "metadata": {"name": name},
            "spec": {"storageClassName": "block-rwx", **everybody, **spec},
        }
    )


async def test_what_is_missing_is_told_and_waited_for(cluster: Cluster, namespace: str, operator: Replica) -> None:
    """One VM per cause, all at once: each says why it is not ready, and comes up when the cause is gone."""
    vms, suffix = Vms(cluster, namespace), namespace[-6:]
    there = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine"}
    stranger = {"runStrategy": "Halted", "template": {"spec": {"domain": {"devices": {}}}}}
    cluster.apply({**there, "metadata": {"name": "taken", "namespace": namespace}, "spec": stranger})
    store(cluster, f"full-{suffix}", capacity="1Gi")

    disk = {"name": "root", "size": "2Gi", "datastore": f"full-{suffix}"}
    vms.apply("taken")
    vms.apply("full", disks=[disk])
    vms.apply("homeless", disks=[{**disk, "datastore": f"none-{suffix}"}])
    vms.apply("secret", guest={"cloudInit": {"userDataSecretName": "answers"}})
    vms.apply("device", devices=[{"name": "nvme", "resourceName": "vdcos.dev/nvme"}])
    vms.apply("large", memory={"size": "8Ti"})
    wanted = {
        "taken": "NameTaken",
        "full": "DatastoreFull",
        "homeless": "DatastoreMissing",
        "secret": "SecretMissing",
        "device": "DeviceNotAllowed",
        "large": "NoHostFits",
    }
    for name, reason in wanted.items():
        await soon(functools.partial(vms.is_told, name, reason))
    assert vms.says("taken", "Stalled")[0] == "True"
    assert vms.child("taken")["spec"]["runStrategy"] == "Halted", "somebody else's VM is not touched"
    assert "ownerReferences" not in vms.child("taken")["metadata"]

    cluster.kubectl("delete", "vm", "taken", "-n", namespace)
    store(cluster, f"full-{suffix}", capacity="10Gi")
    store(cluster, f"none-{suffix}")
    cluster.kubectl("create", "secret", "generic", "answers", "-n", namespace, "--from-literal=userdata=#cloud-config")
    cluster.kubectl("annotate", "namespace", namespace, f"{api.ALLOWED_DEVICES}=vdcos.dev/nvme")
    vms.edit("large", memory={"size": "128Mi"})
    for name in wanted:
        await soon(functools.partial(vms.is_up, name), 180)


async def test_a_disk_goes_with_its_vm_when_that_is_declared_last(
    cluster: Cluster, namespace: str, operator: Replica
) -> None:
    vms, datastore = Vms(cluster, namespace), f"disks-{namespace[-6:]}"
    store(cluster, datastore)

    def declare(policy: str) -> list[Tree]:
        return [{"name": "root", "size": "1Gi", "datastore": datastore, "deletionPolicy": policy}]

    def owners() -> list[str]:
        volume = cluster.get("dv", disks.name("keeps", "root"), "-n", namespace)
        return [reference["kind"] for reference in volume["metadata"].get("ownerReferences", [])]

    vms.apply("keeps", powerState="PoweredOff", disks=declare("Retain"))
    await soon(lambda: owners() == [] and vms.says("keeps")[0] == "True")
    vms.edit("keeps", disks=declare("Delete"))
    await soon(lambda: owners() == ["VirtualMachine"])
    vms.edit("keeps", disks=declare("Retain"))
    await soon(lambda: owners() == [])
    vms.edit("keeps", disks=declare("Delete"))
    await soon(lambda: owners() == ["VirtualMachine"])
    cluster.kubectl("delete", "vdcvm", "keeps", "-n", namespace)
    await soon(lambda: "keeps" not in cluster.kubectl("get", "dv,pvc", "-n", namespace, "-o", "name"))


async def test_a_stop_is_respected_and_power_comes_back_when_declared(
    cluster: Cluster, namespace: str, operator: Replica
) -> None:
    vms = Vms(cluster, namespace)
    vms.apply("stays", onGuestShutdown="StayOff")
    await soon(lambda: vms.is_up("stays"))
    vms.ask("stays", "stop")
    await soon(lambda: vms.status("stays")["powerState"] == "PoweredOff")
    await soon(lambda: vms.says("stays", "PowerStateSynced") == ("True", "StopRequested"))
    assert vms.says("stays")[0] == "True", "this is what was declared"

    # Off and On again at once, first while it is off, then while it runs.
    for _ in range(2):
        vms.edit("stays", powerState="PoweredOff")
        vms.edit("stays", powerState="PoweredOn")
        await soon(lambda: vms.is_up("stays"), 120)
    vms.ask("stays", "stop")
    await soon(lambda: vms.status("stays")["powerState"] == "PoweredOff")
    await soon(lambda: vms.ask("stays", "start"), 30)
    await soon(lambda: vms.is_up("stays"))


async def test_a_stop_by_hand_is_put_right_and_counted(cluster: Cluster, namespace: str, operator: Replica) -> None:
    vms = Vms(cluster, namespace)
    vms.apply("runs")
    await soon(lambda: vms.says("runs")[0] == "True")
    vms.ask("runs", "stop")
    await soon(lambda: "vdcos.dev/repaired" in vms.child("runs")["metadata"]["annotations"], 10)
    assert vms.child("runs")["spec"]["runStrategy"] == "Always"
    await soon(lambda: vms.is_up("runs"))

    patch = json.dumps({"spec": {"runStrategy": "Manual"}})
    for _ in range(2):
        cluster.kubectl("patch", "vm", "runs", "-n", namespace, "--type=merge", "-p", patch)
        await soon(lambda: vms.child("runs")["spec"]["runStrategy"] == "Always", 10)
    cluster.kubectl("patch", "vm", "runs", "-n", namespace, "--type=merge", "-p", patch)
    await soon(lambda: vms.says("runs", "Applied") == ("False", "WriteWar"))
    assert vms.child("runs")["spec"]["runStrategy"] == "Manual", "left as it is"
    vms.edit("runs", cpu={"sockets": 2})
    await soon(lambda: vms.says("runs", "Applied")[0] == "True")
    assert vms.child("runs")["spec"]["runStrategy"] == "Always", "a new declaration is another matter"


async def test_a_map_that_somebody_made_in_the_child_is_filled_and_emptied(
    cluster: Cluster, namespace: str, operator: Replica
) -> None:
    vms = Vms(cluster, namespace)
    vms.apply("moves")
    await soon(lambda: vms.is_up("moves"))
    patch = json.dumps({"spec": {"template": {"spec": {"nodeSelector": {}}}}})
    cluster.kubectl("patch", "vm", "moves", "-n", namespace, "--type=merge", "-p", patch)

    def selects() -> Any:
        return vms.child("moves")["spec"]["template"]["spec"].get("nodeSelector")

    for selector in ({"kubernetes.io/os": "linux"}, None):
        vms.edit("moves", placement={"nodeSelector": selector} if selector else None)
        await soon(functools.partial(lambda wanted: selects() == wanted, selector))
        await soon(lambda: vms.is_up("moves"))
