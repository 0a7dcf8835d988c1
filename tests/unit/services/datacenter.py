"""A datacenter in which hosts fail: nodes with their Leases, policies, failures, and what ran on them."""

from collections.abc import Mapping, Sequence
from typing import Any

from vdcos import api
from vdcos.core import hosts
from vdcos.core.conditions import Condition
from vdcos.core.foreign.kubernetes import HEARTBEAT, NODE_LEASES, Lease, Node
from vdcos.core.objects import Key
from vdcos.core.plan import Answer, Instant, Plan
from vdcos.testing.world import World

Tree = dict[str, Any]

HOST, OTHER = "host-1", "host-2"
BOOT, NEXT_BOOT = "boot-1", "boot-2"
MACHINE = "machine-1"
POLICY, FAILURE = "production", "host-1-failed"
RENEWED = "2026-01-01T12:00:00.000000Z"
REDFISH: Tree = {"redfish": {"address": "https://bmc-1.test", "credentials": "bmc-1"}}
LEASE = Key(NODE_LEASES, HOST)
NODE = Key("", HOST)


def own(kind: str, name: str, spec: Tree, **metadata: Any) -> Tree:
    return {"apiVersion": api.API_VERSION, "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}


def node(name: str = HOST, boot: str = BOOT, ready: str = "True", **more: Any) -> Tree:
    """A node of KubeVirt's. ``labels``, ``annotations`` and ``spec`` may be given, and fields of its status."""
    metadata: Tree = {"name": name, "labels": {hosts.SCHEDULABLE: "true", **more.pop("labels", {})}}
    if (annotations := more.pop("annotations", None)) is not None:
        metadata["annotations"] = annotations
    status: Tree = {
        "conditions": [{"type": "Ready", "status": ready}],
        "nodeInfo": {"bootID": boot, "systemUUID": MACHINE},
        "addresses": [{"type": "InternalIP", "address": f"192.0.2.{name[-1]}"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "allocatable": {"cpu": "8", "memory": "16Gi", "pods": "110"},
    }
    spec = more.pop("spec", {})
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec, "status": {**status, **more}}


def lease(name: str = HOST, renewed: str = RENEWED) -> Tree:
    metadata = {"name": name, "namespace": NODE_LEASES}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": {"renewTime": renewed},
    }


def host(name: str = HOST, **spec: Any) -> Tree:
    return own("Host", name, {field: value for field, value in spec.items() if value is not None})


def policy(name: str = POLICY, metadata: Mapping[str, Any] | None = None, **spec: Any) -> Tree:
    return own("HAPolicy", name, spec, **(metadata or {}))


def failure(name: str = FAILURE, status: Tree | None = None, created: str = "", **spec: Any) -> Tree:
    said = {"host": HOST, "incarnation": BOOT, "policy": POLICY, "machine": MACHINE, "renewed": RENEWED, **spec}
    made = own("HostFailure", name, said, **({"creationTimestamp": created} if created else {}))
    return {**made, "status": status} if status is not None else made


def vm(name: str, availability: Tree | None = None, **spec: Any) -> Tree:
    said: Tree = {"cpu": {}, "memory": {"size": "1Gi"}, **spec}
    if availability is not None:
        said["availability"] = availability
    return own("VirtualMachine", name, said, namespace="shop", uid=f"vm-{name}")


def child(name: str, strategy: str = "Always") -> Tree:
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"runStrategy": strategy},
    }


def instance(name: str, where: str = HOST, uid: str = "", **status: Any) -> Tree:
    """It runs, and counts as Ready."""
    metadata = status.pop("metadata", {})
    known = {
        "phase": "Running",
        "nodeName": where,
        "activePods": {f"pod-{name}": where},
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": name, "namespace": "shop", "uid": uid or f"old-{name}", **metadata},
        "status": {**known, **status},
    }


def pod(name: str, where: str = HOST, kind: str = "virt-launcher") -> Tree:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{kind}-{name}",
            "namespace": "shop",
            "uid": f"pod-{name}",
            "labels": {"kubevirt.io": kind},
        },
        "spec": {"nodeName": where},
        "status": {"phase": "Running"},
    }


def migration(name: str, phase: str = "Running", **metadata: Any) -> Tree:
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstanceMigration",
        "metadata": {"name": f"move-{name}", "namespace": "shop", "uid": f"move-{name}", **metadata},
        "spec": {"vmiName": name},
        "status": {"phase": phase},
    }


def ran(name: str, availability: Tree | None = None, **spec: Any) -> list[Tree]:
    """A VM that ran on the host: all that there is of it."""
    return [vm(name, availability, **spec), child(name), instance(name), pod(name)]


def world(*manifests: Tree | Sequence[Tree]) -> World:
    """A host and its Lease beside what is given."""
    flat: list[Tree] = [node(), lease()]
    for manifest in manifests:
        flat += [manifest] if isinstance(manifest, dict) else list(manifest)
    return World(*flat)


# What happens


def later(there: World, seconds: float) -> None:
    there.now = Instant(there.now.wall + seconds, there.now.mono + seconds)


def renew(there: World, name: str = HOST) -> None:
    """The kubelet renews its Lease."""
    minutes, seconds = divmod(there.now.mono, 60.0)
    at = f"2026-01-01T{13 + minutes // 60:02.0f}:{minutes % 60:02.0f}:{seconds:09.6f}Z"
    there.change(Lease, Key(NODE_LEASES, name), spec={"renewTime": at})


def beat(there: World, name: str = HOST) -> None:
    """virt-handler gives a sign of life."""
    there.change(Node, Key("", name), metadata={"annotations": {HEARTBEAT: f"{there.now.mono}"}})


def say(there: World, ready: str, name: str = HOST) -> None:
    """Kubernetes says whether the node is Ready."""
    there.change(Node, Key("", name), status={"conditions": [{"type": "Ready", "status": ready}]})


def boot(there: World, boot_id: str = NEXT_BOOT) -> None:
    """The host boots again."""
    there.change(Node, NODE, status={"nodeInfo": {"bootID": boot_id}})
    renew(there)


def start(there: World, name: str, where: str = OTHER, **status: Any) -> None:
    """KubeVirt starts a VM again."""
    there.put(instance(name, where, f"new-{name}", **status))


def ok(there: World, ago: float = 0.0, **value: Any) -> Answer:
    at = there.now.mono - ago
    return Answer(True, at, at + 0.01, value)


def bad(there: World, error: str = "no route", ago: float = 0.0) -> Answer:
    at = there.now.mono - ago
    return Answer(False, at, at + 0.01, {}, error)


def said(plan: Plan) -> dict[str, Condition]:
    return {condition.type: condition for condition in plan.conditions}


def reasons(plan: Plan) -> dict[str, tuple[str, str]]:
    return {condition.type: (condition.status, condition.reason) for condition in plan.conditions}
