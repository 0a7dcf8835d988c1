"""Networks and Datastores on a real API server, with the operator's own rights."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from devcluster.cluster import Cluster
from devcluster.waiting import eventually
from tests.devcluster.replica import Replica
from vdcos.core.foreign.nmstate import NodeNetworkConfigurationPolicy
from vdcos.testing import builders

Tree = dict[str, Any]


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replica]:
    running = Replica(installed, tmp_path_factory.mktemp("operator") / "operator.log", "--standalone")
    await running.start()
    yield running
    await running.stop()


async def soon(predicate: Callable[[], Any], seconds: float = 60.0) -> Any:
    return await asyncio.to_thread(eventually, predicate, seconds)


def status(cluster: Cluster, kind: str, name: str) -> Tree:
    found: Tree = cluster.get(kind, name).get("status", {})
    return found


def condition(cluster: Cluster, kind: str, name: str, aspect: str) -> tuple[str, str, str]:
    """Status, reason and message of a condition."""
    said = status(cluster, kind, name).get("conditions", [])
    return next(((c["status"], c["reason"], c["message"]) for c in said if c["type"] == aspect), ("", "", ""))


def definition(cluster: Cluster, namespace: str, name: str) -> Tree:
    return cluster.get("net-attach-def", name, "-n", namespace)


def vlan(cluster: Cluster, namespace: str, name: str) -> int | None:
    config: Tree = json.loads(definition(cluster, namespace, name)["spec"]["config"])
    return config.get("vlan")


def exists(cluster: Cluster, *what: str) -> bool:
    return bool(cluster.kubectl("get", *what, "--ignore-not-found", "-o", "name").strip())


def machine(namespace: str, name: str, *networks: str) -> Tree:
    made = builders.machine(f"{namespace}/{name}", networks=networks)
    return {**made, "spec": {**made["spec"], "powerState": "PoweredOff"}}


async def test_a_networks_life(cluster: Cluster, namespace: str, operator: Replica) -> None:
    """It follows its VMs, is repaired, changes, waits for its users, and goes."""
    name = f"net-{namespace[-6:]}"
    cluster.apply(builders.network(name, bridge={"name": "br7", "vlan": 7}))
    await soon(lambda: condition(cluster, "network.vdcos.dev", name, "Ready")[0] == "True")
    assert not exists(cluster, "net-attach-def", name, "-n", namespace)
    cluster.apply(machine(namespace, "one", name))
    await soon(lambda: vlan(cluster, namespace, name) == 7)
    assert cluster.get("network.vdcos.dev", name)["metadata"]["finalizers"] == ["vdcos.dev/in-use"]

    patch = json.dumps({"spec": {"config": '{"type":"macvlan"}'}})
    cluster.kubectl("patch", "net-attach-def", name, "-n", namespace, "--type=merge", "-p", patch)
    await soon(lambda: vlan(cluster, namespace, name) == 7)
    patch = json.dumps({"spec": {"bridge": {"vlan": 8}}})
    cluster.kubectl("patch", "network.vdcos.dev", name, "--type=merge", "-p", patch)
    await soon(lambda: vlan(cluster, namespace, name) == 8)

    cluster.kubectl("delete", "network.vdcos.dev", name, "--wait=false")
    await soon(lambda: f"{namespace}/one" in condition(cluster, "network.vdcos.dev", name, "Deleting")[2])
    assert exists(cluster, "net-attach-def", name, "-n", namespace)
    cluster.kubectl("delete", "virtualmachine.vdcos.dev", "one", "-n", namespace, "--wait=false")
    await soon(lambda: not exists(cluster, "network.vdcos.dev", name))
    await soon(lambda: not exists(cluster, "net-attach-def", name, "-n", namespace))


async def test_a_tenants_definition_is_never_touched(cluster: Cluster, namespace: str, operator: Replica) -> None:
    name = f"net-{namespace[-6:]}"
    cluster.apply(builders.definition(f"{namespace}/{name}", '{"type":"macvlan"}'))
    before = definition(cluster, namespace, name)
    cluster.apply(builders.network(name, ovs={"name": "ovs1"}), machine(namespace, "one", name))
    await soon(lambda: condition(cluster, "network.vdcos.dev", name, "AttachmentsReady")[1] == "NotAttached")
    assert condition(cluster, "network.vdcos.dev", name, "Ready")[0] == "True"
    cluster.kubectl("delete", "network.vdcos.dev", name, "--wait=false")
    cluster.kubectl("delete", "virtualmachine.vdcos.dev", "one", "-n", namespace)
    await soon(lambda: not exists(cluster, "network.vdcos.dev", name))
    assert definition(cluster, namespace, name) == before


NMSTATE = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "nodenetworkconfigurationpolicies.nmstate.io"},
    "spec": {
        "group": "nmstate.io",
        "scope": "Cluster",
        "names": {
            "plural": NodeNetworkConfigurationPolicy.resource.plural,
            "singular": "nodenetworkconfigurationpolicy",
            "kind": NodeNetworkConfigurationPolicy.resource.kind,
        },
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


async def test_an_uplink_waits_for_nmstate_and_follows_it(cluster: Cluster, namespace: str, operator: Replica) -> None:
    name = f"net-{namespace[-6:]}"
    cluster.apply(builders.network(name, bridge={"name": "br7"}, uplink={"interfaces": ["eth1"]}))
    await soon(lambda: condition(cluster, "network.vdcos.dev", name, "UplinkReady")[1] == "NmstateMissing")
    cluster.apply(NMSTATE)
    try:
        await soon(lambda: exists(cluster, "nodenetworkconfigurationpolicy", f"vdcos-{name}"), 120)
        told = json.dumps({"status": {"conditions": [{"type": "Available", "status": "True", "reason": "Ok"}]}})
        policy = ("nodenetworkconfigurationpolicy", f"vdcos-{name}")
        cluster.kubectl("patch", *policy, "--subresource=status", "--type=merge", "-p", told)
        await soon(lambda: condition(cluster, "network.vdcos.dev", name, "Ready")[0] == "True")
        cluster.kubectl("delete", "network.vdcos.dev", name)
        await soon(lambda: not exists(cluster, *policy))
    finally:
        cluster.kubectl("delete", "crd", NMSTATE["metadata"]["name"], "--wait=false")  # type: ignore[index]


async def test_a_datastore_waits_for_its_class_and_then_for_its_disks(
    cluster: Cluster, namespace: str, operator: Replica
) -> None:
    """What a storage class can do is found; retained disks are named, and hold it."""
    name = f"ds-{namespace[-6:]}"
    cluster.apply(builders.datastore(f"{name}-none", f"{name}-none"), builders.datastore(name, "block-rwx"))
    await soon(lambda: condition(cluster, "datastore", f"{name}-none", "Ready")[1] == "StorageClassMissing")
    await soon(lambda: condition(cluster, "datastore", name, "Ready")[0] == "True")
    assert status(cluster, "datastore", name)["capabilities"] == {
        "snapshots": True,
        "clones": "Csi",
        "expansion": True,
        "liveMigration": True,
        "volumeMode": "Block",
        "accessMode": "ReadWriteMany",
    }
    made = builders.machine(f"{namespace}/one", stores={"root": name})
    cluster.apply({**made, "spec": {**made["spec"], "powerState": "PoweredOff"}})
    await soon(lambda: status(cluster, "datastore", name)["provisioned"] == "1Gi")
    assert status(cluster, "datastore", name)["tenants"] == {"count": 1, "names": [namespace]}
    cluster.kubectl("delete", "virtualmachine.vdcos.dev", "one", "-n", namespace)
    await soon(lambda: status(cluster, "datastore", name)["retained"]["count"] == 1)
    [disk] = status(cluster, "datastore", name)["retained"]["names"]
    cluster.kubectl("delete", "datastore", name, "--wait=false")
    await soon(lambda: disk in condition(cluster, "datastore", name, "Deleting")[2])
    cluster.kubectl("delete", "datavolume", disk.partition("/")[2], "-n", namespace, "--wait=false")
    await soon(lambda: not exists(cluster, "datastore", name))

    provisioner = cluster.get("storageclass", "block-rwx")["provisioner"]
    cluster.apply(builders.storage_class(f"{name}-none", provisioner))
    try:
        await soon(lambda: condition(cluster, "datastore", f"{name}-none", "StorageClassReady")[0] == "True")
    finally:
        cluster.kubectl("delete", "storageclass", f"{name}-none")
        cluster.kubectl("delete", "datastore", f"{name}-none")
