"""What the operator makes of objects that the API server accepts, in a world that has everything they may ask for.

The services run as pure functions; what KubeVirt and CDI do is played. Also gives what the operator would create, for
the real webhooks of KubeVirt and CDI to judge.
"""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

from devcluster.manifests import HOST_DEVICES
from tests.unit.services.virtualmachine import builders as machines
from vdcos import api
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.cdi import DataVolume
from vdcos.core.foreign.kubernetes import Namespace
from vdcos.core.foreign.nmstate import NodeNetworkConfigurationPolicy
from vdcos.core.objects import Key
from vdcos.core.service import Service
from vdcos.services.datastore import DatastoreService
from vdcos.services.network import NetworkService
from vdcos.testing import builders
from vdcos.testing.world import World

Tree = dict[str, Any]

SERVICES: dict[str, Service[Any, Any]] = {
    "VirtualMachine": machines.SERVICE,
    "Network": NetworkService({}),
    "Datastore": DatastoreService(),
}

NAMESPACE = machines.KEY.namespace
"""Of all VirtualMachines in this world, and of what their children refer to."""


@dataclasses.dataclass(frozen=True)
class End:
    """Where an object comes to rest: Ready, or why not."""

    ready: bool
    reason: str
    message: str
    children: tuple[Tree, ...] = ()
    """What the operator created on the way, as it sent it."""

    @property
    def silent(self) -> bool:
        """Not Ready, and nothing tells a person why."""
        return not self.ready and not (self.reason and self.message)


def end(stored: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> End:
    """Where an object, as the API server stored it, comes to rest; if it is an update, after it rested as `before`."""
    kind = stored["kind"]
    try:
        api.parse(SERVICES[kind].kind, stored)
    except api.InvalidObject as error:
        return End(False, "Malformed", str(error))  # as the engine says, before any service sees it
    there, key = (_for_machine if kind == "VirtualMachine" else _for_others)(_renamed(before or stored))
    _rest(there, kind, key)
    if before:
        there.put({**there.tree(SERVICES[kind].kind, key), "spec": copy.deepcopy(stored["spec"])})
        _rest(there, kind, key)
    conditions = there.tree(SERVICES[kind].kind, key)["status"]["conditions"]
    ready = next(condition for condition in conditions if condition["type"] == "Ready")
    made = [there.tree(child, at) for child in (kubevirt.VirtualMachine, DataVolume) for at in there.keys(child)]
    return End(ready["status"] == "True", ready["reason"], ready["message"], tuple(map(_as_sent, made)))


def _rest(there: World, kind: str, key: Key) -> None:
    """The services act until there is nothing left to do, KubeVirt and CDI in between."""
    service = SERVICES[kind]
    there.settle(service, key)
    for policy in there.keys(NodeNetworkConfigurationPolicy):
        done = {"conditions": [{"type": "Available", "status": "True"}]}
        there.change(NodeNetworkConfigurationPolicy, policy, status=done)
        there.settle(service, key)
    if kind != "VirtualMachine":
        return
    machines.fill(there)
    there.settle(service, key)
    if there.has(kubevirt.VirtualMachine, key):
        child = there.tree(kubevirt.VirtualMachine, key)
        if child["spec"]["runStrategy"] in ("Always", "RerunOnFailure"):
            machines.start(there)
        else:
            machines.notice(there)
        there.settle(service, key)


def _for_machine(stored: Tree) -> tuple[World, Key]:
    permitted = copy.deepcopy(machines.KUBEVIRT)
    hosts = permitted["spec"]["configuration"]["permittedHostDevices"]["pciHostDevices"]
    hosts += [{"resourceName": name} for name in HOST_DEVICES.values()]
    there = machines.world(stored, kubevirt_cr=permitted)
    allowed = {"vdcos.dev/allowed-devices": "*", "vdcos.dev/allowed-taints": "*"}
    there.change(Namespace, Key("", "shop"), metadata={"annotations": allowed})
    there.put(machines.own("Network", "front", {"pod": {}, **machines.OPEN}))
    machines.bridged(there, "back")
    meta = {"name": "golden", "namespace": "shop", "uid": "golden"}
    there.put({**machines.claim({**meta}, "10Gi"), "metadata": meta})
    api_version = "snapshot.storage.k8s.io/v1"
    there.put(
        {"apiVersion": api_version, "kind": "VolumeSnapshot", "metadata": {"name": "yesterday", "namespace": "shop"}}
    )
    for kind, name in (("Instancetype", "u1.medium"), ("Preference", "windows.11")):
        group = "instancetype.kubevirt.io/v1beta1"
        there.put({"apiVersion": group, "kind": f"VirtualMachineCluster{kind}", "metadata": {"name": name}})
        there.put(
            {"apiVersion": group, "kind": f"VirtualMachine{kind}", "metadata": {"name": name, "namespace": "shop"}}
        )
    return there, machines.KEY


def _for_others(stored: Tree) -> tuple[World, Key]:
    key = Key("", stored["metadata"]["name"])
    node = builders.node("host-1", "intel.com/sriov")
    storage = stored["spec"].get("storageClassName", "block")
    profile = builders.storage_profile(storage, ("Block", ["ReadWriteMany", "ReadWriteOnce"]), clone="snapshot")
    there = World(
        builders.namespace("shop", {"team": "shop", "stage": "test"}),
        builders.machine("shop/web", networks=[key.name], stores={"root": key.name}),
        builders.storage_class(storage),
        profile,
        node,
        stored,
    )
    return there, key


def _renamed(stored: Mapping[str, Any]) -> Tree:
    """The object in the place that the world has for it, as if nobody had seen it."""
    meta = {"name": stored["metadata"]["name"]}
    if stored["kind"] == "VirtualMachine":
        meta = {"name": machines.KEY.name, "namespace": machines.KEY.namespace, "creationTimestamp": machines.CREATED}
    kept = {field: copy.deepcopy(stored[field]) for field in ("apiVersion", "kind", "spec")}
    return {**kept, "metadata": meta}


def _as_sent(child: Tree) -> Tree:
    kept = ("name", "namespace", "labels", "annotations")
    meta = {field: child["metadata"][field] for field in kept if field in child["metadata"]}
    return {"apiVersion": child["apiVersion"], "kind": child["kind"], "metadata": meta, "spec": child["spec"]}
