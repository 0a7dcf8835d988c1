"""A small datacenter in which one VirtualMachine, shop/web, is looked at; and what KubeVirt and CDI would do to it."""

from collections.abc import Mapping
from typing import Any

from vdcos import api
from vdcos.core import disks
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.cdi import DataVolume
from vdcos.core.foreign.kubernetes import PersistentVolumeClaim
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Key
from vdcos.core.plan import Plan
from vdcos.services.virtualmachine import VirtualMachineService
from vdcos.testing.trees import merge
from vdcos.testing.world import World

Tree = dict[str, Any]

SERVICE = VirtualMachineService({})
KEY = Key("shop", "web")
CHILD = kubevirt.VirtualMachine
VM = api.VirtualMachine
CREATED = "2025-12-31T00:00:00Z"

SMALL: Tree = {"cpu": {}, "memory": {"size": "1Gi"}}
OPEN: Tree = {"allowedNamespaces": {"from": "All"}}

KUBEVIRT: Tree = {
    "apiVersion": "kubevirt.io/v1",
    "kind": "KubeVirt",
    "metadata": {"name": "kubevirt", "namespace": "kubevirt"},
    "spec": {
        "configuration": {
            "developerConfiguration": {"featureGates": ["DeclarativeHotplugVolumes", "HostDevices", "ExpandDisks"]},
            "permittedHostDevices": {"pciHostDevices": [{"resourceName": "example.org/nvme"}]},
        },
        "workloadUpdateStrategy": {"workloadUpdateMethods": ["LiveMigrate"]},
    },
    "status": {"observedKubeVirtVersion": "v1.8.2"},
}


def own(kind: str, name: str, spec: Tree, namespace: str = "", **metadata: Any) -> Tree:
    meta = {"name": name, **({"namespace": namespace} if namespace else {}), **metadata}
    return {"apiVersion": api.API_VERSION, "kind": kind, "metadata": meta, "spec": spec}


def vm(name: str = "web", **spec: Any) -> Tree:
    return own("VirtualMachine", name, {**SMALL, **spec}, "shop", creationTimestamp=CREATED)


def disk(name: str = "data", size: str = "10Gi", /, **fields: Any) -> Tree:
    return {"name": name, "size": size, "datastore": "gold", **fields}


def world(machine: Mapping[str, Any] | None = None, *more: Mapping[str, Any], kubevirt_cr: Tree | None = None) -> World:
    """Two namespaces, a datastore, a pod network, KubeVirt as the devcluster has it, and the VM."""
    return World(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": "cluster"}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
        storage_class(),
        own("Datastore", "gold", {"storageClassName": "block", **OPEN}),
        own("Network", "internet", {"pod": {}, **OPEN}),
        KUBEVIRT if kubevirt_cr is None else kubevirt_cr,
        machine or vm(),
        *more,
    )


def storage_class(expands: bool = True) -> Tree:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "block"},
        "allowVolumeExpansion": expands,
    }


def bridged(there: World, name: str = "lan") -> None:
    """A network on a bridge, with its attachment definition in place."""
    there.put(own("Network", name, {"bridge": {"name": "br0"}, **OPEN}))
    uid = there.tree(api.Network, Key("", name))["metadata"]["uid"]
    there.put(attachment_definition(name, uid))


def attachment_definition(name: str, uid: str) -> Tree:
    owner = {"apiVersion": api.API_VERSION, "kind": "Network", "name": name, "uid": uid, "controller": True}
    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": name, "namespace": "shop", "ownerReferences": [owner]},
    }


# What other controllers do


def fill(there: World, overhead: float = 1.0) -> None:
    """CDI makes claims of all DataVolumes and fills them."""
    for key in there.keys(DataVolume):
        volume = there.tree(DataVolume, key)
        if not there.has(PersistentVolumeClaim, key):
            size = str(int(int(volume["metadata"]["annotations"][disks.REQUESTED]) * overhead))
            there.put(claim(volume["metadata"], size))
        there.change(DataVolume, key, status={"phase": "Succeeded", "progress": "100.0%"})


def claim(meta: Tree, size: str, **fields: Any) -> Tree:
    """The claim that CDI makes of a DataVolume."""
    owner = {
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "DataVolume",
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
    }
    kept = {field: meta[field] for field in ("name", "namespace", "labels", "annotations") if field in meta}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {**kept, "ownerReferences": [owner]},
        "spec": {"resources": {"requests": {"storage": size}}, "storageClassName": "block"},
        "status": {"phase": "Bound", "capacity": {"storage": size}},
        **fields,
    }


def start(there: World, phase: str = "Running", **status: Any) -> str:
    """KubeVirt starts an instance of what its VM says, and has taken notice of it. Returns the instance's uid."""
    child = there.tree(CHILD, KEY)
    uid = f"instance-of-{child['metadata']['generation']}-{child['metadata']['resourceVersion']}"
    owner = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "name": KEY.name,
        "uid": child["metadata"]["uid"],
        "controller": True,
    }
    there.put(
        {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {
                "name": KEY.name,
                "namespace": KEY.namespace,
                "uid": uid,
                "annotations": {"kubevirt.io/vm-generation": str(child["metadata"]["generation"])},
                "ownerReferences": [owner],
            },
            "spec": child["spec"]["template"]["spec"],
            "status": merge(
                {
                    "phase": phase,
                    "nodeName": "host-1",
                    "activePods": {"pod-1": "host-1"},
                    "conditions": [{"type": "Ready", "status": "True"}, {"type": "LiveMigratable", "status": "True"}]
                    if phase == "Running"
                    else [{"type": "Ready", "status": "False", "reason": "GuestNotRunning"}],
                },
                status,
            ),
        }
    )
    notice(there)
    return uid


def notice(there: World, **status: Any) -> None:
    """KubeVirt's controller has seen the last change of its VM."""
    child = there.tree(CHILD, KEY)
    there.change(
        CHILD,
        KEY,
        status={
            "created": there.has(VirtualMachineInstance, KEY),
            "runStrategy": child["spec"]["runStrategy"],
            "desiredGeneration": child["metadata"]["generation"],
            **status,
        },
    )


def running(
    machine: Mapping[str, Any] | None = None, *more: Mapping[str, Any], kubevirt_cr: Tree | None = None
) -> World:
    """A world in which the VM has been created, its disks are filled, and it runs."""
    there = world(machine, *more, kubevirt_cr=kubevirt_cr)
    settle(there)
    fill(there)
    start(there)
    settle(there)
    there.log.clear()
    return there


def settle(there: World) -> Plan:
    return there.settle(SERVICE, KEY)


def edit(there: World, **spec: Any) -> None:
    """Somebody changes the VM's spec."""
    there.change(VM, KEY, spec=spec)


# What came of it


def says(there: World, condition: str) -> tuple[str, str, str]:
    """Status, reason and message of a condition in the stored status."""
    for known in there.tree(VM, KEY)["status"]["conditions"]:
        if known["type"] == condition:
            return known["status"], known["reason"], known["message"]
    return "", "", ""


def status(there: World) -> Tree:
    return dict(there.tree(VM, KEY)["status"])


def template(there: World) -> Tree:
    """The template's spec of the child."""
    return dict(there.tree(CHILD, KEY)["spec"]["template"]["spec"])


def whys(there: World) -> list[str]:
    """Why everything was done since the log was last cleared."""
    return [action.why for action in there.log]
