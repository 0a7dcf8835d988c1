"""A cluster with VMs that run in pods, as small as a test wants it."""

from typing import Any

from tests.unit.services import datacenter as d
from vdcos import api
from vdcos.core.objects import Key
from vdcos.core.snapshot import Snapshot
from vdcos.providers.failover.outlook import OUTLOOK, Outlook
from vdcos.services.hapolicy import HAPolicyService
from vdcos.testing.trees import merge
from vdcos.testing.world import World

Tree = dict[str, Any]
SERVICE = HAPolicyService()
GI = 1 << 30


def host(name: str, cpu: str = "8", memory: str = "16Gi", **more: Any) -> Tree:
    labels = {"kubernetes.io/hostname": name, **more.pop("labels", {})}
    return d.node(name, labels=labels, allocatable={"cpu": cpu, "memory": memory, "pods": "110"}, **more)


def pod(name: str, on: str = "host-1", cpu: str = "1", memory: str = "1Gi", suffix: str = "", **more: Any) -> Tree:
    """The launcher pod of a VM; fields of its spec may be given, and ``metadata``, and ``phase``."""
    meta = {
        "name": f"virt-launcher-{name}{suffix}",
        "namespace": "shop",
        "labels": {"kubevirt.io": "virt-launcher", "vdcos.dev/vm": name},
        "ownerReferences": [
            {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": name, "uid": f"i-{name}"}
        ],
    }
    requests = {"cpu": cpu, "memory": memory}
    metadata, phase = more.pop("metadata", {}), more.pop("phase", "Running")
    spec: Tree = {"containers": [{"name": "compute", "resources": {"requests": requests}}], **more}
    if on:
        spec["nodeName"] = on
    tree = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": {"phase": phase}}
    return merge(tree, {"metadata": metadata})


def other(name: str, on: str = "host-1", cpu: str = "1", memory: str = "1Gi") -> Tree:
    """A pod that has nothing to do with VMs."""
    requests = {"cpu": cpu, "memory": memory}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "kube-system"},
        "spec": {"nodeName": on, "containers": [{"name": "x", "resources": {"requests": requests}}]},
        "status": {"phase": "Running"},
    }


def child(name: str, admitted: str = "", strategy: str = "Always") -> Tree:
    owner = {
        "apiVersion": api.API_VERSION,
        "kind": "VirtualMachine",
        "name": name,
        "uid": f"vm-{name}",
        "controller": True,
    }
    said = {"annotations": {"vdcos.dev/admitted": admitted}, "ownerReferences": [owner]}
    tree = d.child(name, strategy)
    return merge(tree, {"metadata": said}) if admitted else tree


def view(there: World) -> Snapshot:
    return there.view(SERVICE)


def outlook(there: World) -> Outlook:
    return view(there).derived(OUTLOOK)


def key(name: str) -> Key:
    return Key("shop", name)


def reasons(there: World) -> dict[str, str]:
    """By the VM's name, what would become of it."""
    return {vm.name: fate.reason for vm, fate in outlook(there).vms.items()}
