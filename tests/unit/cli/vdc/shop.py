"""A small datacenter as the API server would list it, for the commands of the plug-in: one VM that is well, others."""

import io
from collections.abc import Callable, Mapping
from typing import Any

from vdcos.cli.vdc.objects import Objects
from vdcos.cli.vdc.screen import Screen
from vdcos.core import disks

Tree = dict[str, Any]

OURS = "vdcos.dev/v1alpha1"
SINCE = "2026-01-01T11:00:00Z"
NOW = "2026-01-01T12:00:00Z"


def told(*conditions: tuple[str, str, str] | tuple[str, str, str, str]) -> list[Tree]:
    """Conditions as type, status, reason and, perhaps, message."""
    return [
        {
            "type": each[0],
            "status": each[1],
            "reason": each[2],
            "message": each[3] if len(each) > 3 else "",
            "lastTransitionTime": SINCE,
        }
        for each in conditions
    ]


WELL = ("Ready", "True", "Ready")


def own(
    kind: str, name: str, spec: Tree | None = None, /, *conditions: Any, namespace: str = "", **status: Any
) -> Tree:
    meta: Tree = {"name": name, "uid": f"{kind}-{name}", "generation": 1}
    if namespace:
        meta["namespace"] = namespace
    said = told(*(conditions or (WELL,)))
    return {
        "apiVersion": OURS,
        "kind": kind,
        "metadata": meta,
        "spec": spec or {},
        "status": {"conditions": said, **status},
    }


def vm(name: str, *conditions: Any, spec: Tree | None = None, **status: Any) -> Tree:
    declared = {
        "cpu": {"sockets": 2},
        "memory": {"size": "4Gi"},
        "disks": [{"name": "system", "size": "20Gi", "datastore": "gold"}],
        "nics": [{"name": "front", "network": "front"}],
    }
    said = {"powerState": "PoweredOn", **status}
    return own("VirtualMachine", name, {**declared, **(spec or {})}, *conditions, namespace="shop", **said)


def host(name: str, *conditions: Any, **status: Any) -> Tree:
    said = {
        "state": "Connected",
        "policy": "default",
        "vms": 2,
        "capacity": {"cpu": "64", "memory": "256Gi"},
        "reserved": {"cpu": "12", "memory": "41Gi"},
        "failurePlan": {"restarts": 2, "stays": 0},
    }
    return own("Host", name, {}, *conditions, **{**said, **status})


POLICY = own(
    "HAPolicy",
    "default",
    {"admissionControl": {"mode": "Enforce"}},
    WELL,
    ("FailoverCapacity", "True", "Kept"),
    hosts={"count": 2},
    connected=2,
    failed=0,
    failurePlan={"restarts": 4, "stays": 0},
    failoverCapacity={
        "promised": {"cpu": "64", "memory": "256Gi"},
        "available": {"cpu": "40", "memory": "174Gi"},
        "missing": {"cpu": "0", "memory": "0"},
    },
    waiting={"count": 0},
)
GOLD = own(
    "Datastore",
    "gold",
    {"storageClassName": "block-rwx", "capacity": "2Ti", "allowedNamespaces": {"from": "All"}},
    provisioned="1536Gi",
    disks=31,
    retained={"count": 2, "names": ["shop/old-1", "shop/old-2"]},
)
FRONT = own(
    "Network",
    "front",
    {"bridge": {"name": "br-front", "vlan": 110}, "allowedNamespaces": {"from": "All"}},
    provider="bridge",
    virtualMachines={"count": 4},
    namespaces={"count": 1},
)

WEB = vm("web-1", WELL, host="host-1", disks=[{"name": "system", "phase": "Ready"}], nics=[
    {"name": "front", "macAddress": "02:00:5e:00:01:01", "addresses": ["10.110.0.11"]}
])  # fmt: skip


def running(name: str, node: str, uid: str = "") -> tuple[Tree, ...]:
    """What runs a VM of ours: KubeVirt VM, instance and pod, and its disk."""
    claim, meta = disks.name(name, "system"), {"namespace": "shop"}

    def owner(kind: str, name: str, uid: str) -> list[Tree]:
        return [{"apiVersion": "x", "kind": kind, "name": name, "uid": uid, "controller": True}]

    child = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {
            **meta,
            "name": name,
            "uid": f"kv-{name}",
            "ownerReferences": owner("VirtualMachine", name, f"VirtualMachine-{name}"),
        },
        "spec": {"runStrategy": "Always", "template": {"spec": {"volumes": [{"name": "system"}]}}},
        "status": {"printableStatus": "Running"},
    }
    instance = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {
            **meta,
            "name": name,
            "uid": f"vmi-{name}",
            "ownerReferences": owner("VirtualMachine", name, f"kv-{name}"),
        },
        "status": {"phase": "Running", "nodeName": node},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **meta,
            "name": f"virt-launcher-{name}-abcde",
            "ownerReferences": owner("VirtualMachineInstance", name, f"vmi-{name}"),
        },
        "spec": {"nodeName": node, "containers": [{"name": "compute"}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "compute", "ready": True}]},
    }
    volume = {
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "DataVolume",
        "metadata": {**meta, "name": claim},
        "status": {"phase": "Succeeded", "progress": "100.0%"},
    }
    held = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {**meta, "name": claim},
        "spec": {"storageClassName": "block-rwx", "accessModes": ["ReadWriteMany"], "volumeName": f"pvc-{name}"},
        "status": {"phase": "Bound", "capacity": {"storage": "20Gi"}},
    }
    return child, instance, pod, volume, held


def datacenter(*more: Mapping[str, Any]) -> Objects:
    """Two hosts, a policy, a datastore, a network and a VM that is well; what comes later replaces a namesake."""
    there = (host("host-1"), host("host-2"), POLICY, GOLD, FRONT, WEB, *running("web-1", "host-1"))
    return Objects.of(*there, *more)


def drawn(show: Callable[[Screen], None], width: int = 100, colour: bool = False) -> str:
    """What a person would see."""
    stream = io.StringIO()
    show(Screen(stream, width, colour))
    return stream.getvalue()
