"""The catalogue: what people do, one step whenever the world has come to rest after the one before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vdcos.core import disks, kinds
from vdcos.core.foreign.kubernetes import StorageClass
from vdcos.core.foreign.kubevirt import ClusterInstancetype, KubeVirt
from vdcos.core.foreign.multus import NetworkAttachmentDefinition
from vdcos.core.foreign.nmstate import NodeNetworkConfigurationPolicy
from vdcos.core.objects import Key, Resource
from vdcos.runtime.requests import ApiError
from vdcos.testing import builders
from vdcos.testing.apiserver import NAMESPACE, Held
from vdcos.testing.cluster import DV, NODE, VM, VM_FINALIZER, VMI, Tell
from vdcos.testing.hypervisor.values import (
    ClearFault,
    Command,
    Control,
    Fault,
    Partition,
    PowerOff,
    Recover,
    SetFault,
)
from vdcos.testing.replica import NotYet, Violation
from vdcos.testing.simulator import Do, World, bring, resource_of
from vdcos.testing.trees import Tree, merge

VDCOS_VM = kinds.VIRTUAL_MACHINE


def _key(where: str) -> Key:
    space, _, name = where.rpartition("/")
    return Key(space, name)


def _instance(world: World, where: str) -> Held:
    """The instance of a VM that runs. Raises NotYet."""
    instance = world.api.get(VMI, _key(where))
    if instance is None or instance.tree["status"]["phase"] != "Running":
        raise NotYet
    return instance


@dataclass(frozen=True, eq=False)
class Create:
    manifest: Tree

    def __call__(self, world: World) -> None:
        world.api.create(resource_of(self.manifest), self.manifest, "user", strict=True)


@dataclass(frozen=True, eq=False)
class Edit:
    """A merge patch by somebody: a user's edit of an object of ours, or anybody's of a child."""

    resource: Resource
    where: str
    changes: Tree
    by: str = "user"

    def __call__(self, world: World) -> None:
        world.api.merge_patch(self.resource, _key(self.where), self.changes, self.by)


@dataclass(frozen=True, eq=False)
class Declare:
    """An edit of a VirtualMachine's spec."""

    where: str
    spec: Mapping[str, Any]

    def __call__(self, world: World) -> None:
        world.api.merge_patch(VDCOS_VM, _key(self.where), {"spec": dict(self.spec)}, "user")


@dataclass(frozen=True)
class Delete:
    resource: Resource
    where: str

    def __call__(self, world: World) -> None:
        world.api.delete(self.resource, _key(self.where))
        world.deleted.add((self.resource, _key(self.where)))


@dataclass(frozen=True)
class ToHost:
    """Something happens to the host that runs a VM, or to a host by name."""

    event: Any
    where: str = ""
    host: str = ""

    def __call__(self, world: World) -> None:
        name = self.host
        if self.where:
            name = _instance(world, self.where).tree["status"]["nodeName"]
        world.cluster.happens(Tell(name, self.event))


@dataclass(frozen=True)
class ToGuest:
    """A command to the hypervisor, by the guest or by virtctl."""

    where: str
    command: Command

    def __call__(self, world: World) -> None:
        instance = _instance(world, self.where)
        event = Control(self.command, instance.meta["uid"])
        world.cluster.happens(Tell(instance.tree["status"]["nodeName"], event))


@dataclass(frozen=True)
class Virtctl:
    """virtctl start or stop, as virt-api carries it out."""

    where: str
    action: str

    def __call__(self, world: World) -> None:
        key = _key(self.where)
        vm = world.api.get(VM, key)
        if vm is None:
            raise NotYet
        strategy = vm.tree["spec"]["runStrategy"]
        if strategy == "RerunOnFailure":
            asked = [{"action": self.action.capitalize()}]
            world.api.merge_patch(VM, key, {"status": {"stateChangeRequests": asked}})
        else:
            wanted = "Halted" if self.action == "stop" else "Always"
            world.api.merge_patch(VM, key, {"spec": {"runStrategy": wanted}}, "virt-api")


@dataclass(frozen=True)
class Fence:
    """An administrator proves that a host is down, and says so by the taint."""

    host: str

    def __call__(self, world: World) -> None:
        taint = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
        world.api.merge_patch(NODE, Key("", self.host), {"spec": {"taints": [taint]}})


@dataclass(frozen=True)
class LetGo:
    """Somebody takes his finalizer off an object, and leaves those of others."""

    resource: Resource
    where: str
    finalizer: str

    def __call__(self, world: World) -> None:
        held = world.api.get(self.resource, _key(self.where))
        if held is not None:
            left = [each for each in held.meta.get("finalizers", ()) if each != self.finalizer]
            world.api.merge_patch(self.resource, held.key, {"metadata": {"finalizers": left}}, "somebody")


@dataclass(frozen=True)
class Together:
    """Several steps at one moment."""

    steps: tuple[Any, ...]

    def __call__(self, world: World) -> None:
        for step in self.steps:
            step(world)


@dataclass(frozen=True)
class Later:
    """A step some seconds later, whatever happens meanwhile."""

    seconds: float
    step: Any

    def __call__(self, world: World) -> None:
        world.at(self.seconds, Do(self.step))


@dataclass(frozen=True, eq=False)
class Refuse:
    """The API server refuses the operator's writes of a resource for a while: a webhook says no, or is not there."""

    resource: Resource
    seconds: float
    error: ApiError

    def __call__(self, world: World) -> None:
        world.refusing[self.resource] = self.error
        world.at(self.seconds, Do(_Relent(self.resource)))


@dataclass(frozen=True)
class _Relent:
    resource: Resource

    def __call__(self, world: World) -> None:
        world.refusing.pop(self.resource, None)


@dataclass(frozen=True)
class Restart:
    """The operator is restarted in good order, so to speak: its process ends, and starts again."""

    def __call__(self, world: World) -> None:
        for replica in world.replicas.values():
            replica.die(world.now)


@dataclass(frozen=True)
class Scenario:
    """``ends`` gives, by ``namespace/name``, the reason of Ready at the end; "Ready" stands for all is well."""

    name: str
    steps: tuple[Any, ...]
    ends: Mapping[str, str]
    extra: Sequence[Tree] = ()
    storage_class: Mapping[str, Any] = field(default_factory=dict)
    hosts: int = 2
    on: Sequence[str] = ()
    """VMs that are to run at the end, whatever else may be called Ready."""
    swift: bool = False
    """Steps follow at the next tick after a rest, and not at the next hour: what was a moment ago counts."""

    def world(self, replicas: int = 1, **options: Any) -> World:
        """The world before the first step: everything installed, the operator just started.

        Of several replicas, the one that gets the Lease acts; a single one needs none.
        """
        world = World(hosts=self.hosts, **options)
        self.prepare(world)
        kubevirt = {
            "apiVersion": "kubevirt.io/v1", "kind": "KubeVirt",
            "metadata": {"name": "kubevirt", "namespace": "kube-system"},
            "spec": {}, "status": {"observedKubeVirtVersion": "v1.8.2"},
        }  # fmt: skip
        block = merge(builders.storage_class("block"), self.storage_class)
        bring(world, (builders.namespace("kube-system"), builders.namespace("shop"), kubevirt, block))
        bring(world, (builders.storage_profile("block", ("Block", ["ReadWriteMany"])), *self.extra))
        world.cluster.install()
        world.script, world.swift = self.steps, self.swift
        world.notice()
        for number in range(replicas):
            world.start(f"operator-{number}" if replicas > 1 else "operator", competes=replicas > 1)
        return world

    def prepare(self, world: World) -> None:
        """What is there before everything else."""

    def check(self, world: World) -> None:
        """Whether it ended as it should. Raises Violation."""
        found = {}
        for held in world.api.all(VDCOS_VM):
            ready: Tree = next((c for c in held.tree["status"]["conditions"] if c["type"] == "Ready"), {})
            found[str(held.key)] = ready.get("reason")
            if str(held.key) in self.on and held.tree["status"]["powerState"] != "PoweredOn":
                raise Violation("convergence", f"{held.key} is {held.tree['status']['powerState']}")
        if found != dict(self.ends):
            raise Violation("convergence", f"it ends with {found} and not {dict(self.ends)}")


GOLD = builders.datastore("gold")
LAN = builders.network("lan", bridge={"name": "br0"})
POD_NETWORK = builders.network("internet", pod={})


def machine(where: str = "shop/web", disks: int = 1, nics: Sequence[str] = ("lan",), **spec: Any) -> Tree:
    stores = {f"disk{n}": "gold" for n in range(disks)}
    tree = builders.machine(where, networks=nics, stores=stores)
    return {**tree, "spec": {**tree["spec"], **spec}}


def disk(name: str = "disk0", size: str = "1Gi", **fields: Any) -> Tree:
    return {"name": name, "size": size, "datastore": "gold", **fields}


def declared_disks(*wanted: Tree) -> Declare:
    return Declare("shop/web", {"disks": list(wanted)})


def _without(tree: Tree, *fields: str) -> Tree:
    return {**tree, "spec": {name: value for name, value in tree["spec"].items() if name not in fields}}


SMALL = {
    "apiVersion": ClusterInstancetype.resource.api_version,
    "kind": ClusterInstancetype.resource.kind,
    "metadata": {"name": "small"},
    "spec": {"cpu": {"guest": 1}, "memory": {"guest": "1Gi"}},
}
NAD = NetworkAttachmentDefinition.resource
POLICY = NodeNetworkConfigurationPolicy.resource
STORAGE = builders.network("storage", bridge={"name": "br0", "vlan": 12, "spoofCheck": False}, mtu=9000)
NVME = "vdcos.dev/nvme"
PERMITTED = Together((
    Edit(KubeVirt.resource, "kube-system/kubevirt", {"spec": {"configuration": {
        "developerConfiguration": {"featureGates": ["HostDevices"]},
        "permittedHostDevices": {"pciHostDevices": [{"resourceName": NVME}]}}}}, "admin"),
    Edit(NAMESPACE, "shop", {"metadata": {"annotations": {
        "vdcos.dev/allowed-devices": NVME, "vdcos.dev/allowed-taints": "dusty,a,b"}}}, "admin"),
))  # fmt: skip
EVERYTHING = merge(machine(nics=()), {"metadata": {"labels": {"app": "shop", "kubevirt.io/reserved": "yes"}}, "spec": {
    "onGuestShutdown": "StayOff",
    "cpu": {"sockets": 2, "cores": 3, "threads": 2, "model": "host-model"},
    "memory": {"size": "3Gi"},
    "reservations": {"cpu": "500m", "memory": "2Gi"},
    "disks": [
        {"name": "root", "size": "2Gi", "datastore": "gold", "bus": "scsi", "bootOrder": 2,
         "source": {"image": {"reference": "quay.io/containerdisks/fedora:40", "secretName": "pull"}}},
        {"name": "data", "size": "5Gi", "datastore": "gold", "bus": "sata", "deletionPolicy": "Delete"},
        {"name": "iso", "size": "1Gi", "datastore": "gold", "bootOrder": 1,
         "source": {"http": {"url": "https://example.org/install.iso"}}},
    ],
    "nics": [
        {"name": "front", "network": "internet", "model": "e1000e"},
        {"name": "back", "network": "storage", "macAddress": "02:00:00:AA:00:01", "linkState": "Down"},
        {"name": "side", "network": "lan"},
    ],
    "guest": {"hostname": "web-1", "sshKeySecretNames": ["keys"],
              "cloudInit": {"type": "ConfigDrive", "userData": "#cloud-config\n", "networkDataSecretName": "nets"}},
    "firmware": {"bootloader": "UEFI", "secureBoot": True, "tpm": "Persistent", "serial": "A-1",
                 "uuid": "5D307CA9-B3EF-428C-8861-06E72D69F223"},
    "devices": [{"name": "fast", "resourceName": NVME}],
    "placement": {
        "nodeSelector": {"pool": "all"},
        "tolerations": [{"key": "dusty", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}],
        "affinity": [{"name": "apart", "type": "Apart", "strength": "Must", "names": ["db"]},
                     {"name": "near", "type": "Together", "matchLabels": {"app": "shop"}}],
    },
    "overrides": [{"op": "add", "path": "/spec/template/spec/domain/clock/timezone", "value": "Europe/Berlin"}],
}})  # fmt: skip
"""A VM that uses everything there is."""
OTHERWISE = {
    "onGuestShutdown": "Restart",
    "cpu": {"cores": 2, "model": None},
    "nics": [
        {"name": "back", "network": "lan", "macAddress": "02:00:00:AA:00:02"},
        {"name": "front", "network": "internet"},
    ],
    "guest": {"cloudInit": None, "sshKeySecretNames": None, "sysprep": {"secretName": "nets"}},
    "firmware": {"bootloader": "BIOS", "secureBoot": False, "tpm": "Ephemeral", "uuid": None},
    "devices": [{"name": "fast", "resourceName": NVME, "type": "GPU"}],
    "placement": {"tolerations": None, "affinity": None},
    "overrides": [],
}
"""What becomes of it."""
KEPT = "example.com/keep"
"""A finalizer, label and annotation of somebody else."""
THEIRS = {"labels": {KEPT: "yes"}, "annotations": {KEPT: "yes"}}
WEB = Create(machine())
GOES = Create(merge(machine(), {"spec": {"disks": [disk(deletionPolicy="Delete")]}}))
"""A VM that takes its disk along."""
READY = {"shop/web": "Ready"}
OLD_DISK = {
    "apiVersion": DV.api_version,
    "kind": DV.kind,
    "metadata": {"name": "old-root", "namespace": "shop"},
    "spec": {"source": {"blank": {}}, "storage": {"storageClassName": "block",
                                                  "resources": {"requests": {"storage": "1Gi"}}}},
}  # fmt: skip
OLD_VM = {
    "apiVersion": VM.api_version,
    "kind": VM.kind,
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"runStrategy": "Always", "template": {"spec": {
        "domain": {"memory": {"guest": "1Gi"}, "cpu": {"sockets": 1, "cores": 1, "threads": 1}, "devices": {
            "disks": [{"name": "root", "disk": {"bus": "virtio"}}],
            "interfaces": [{"name": "default", "masquerade": {}, "macAddress": "02:00:00:00:00:07"}]}},
        "networks": [{"name": "default", "pod": {}}],
        "volumes": [{"name": "root", "dataVolume": {"name": "old-root"}}]}}},
}  # fmt: skip
OLD_ALONE = Together((Create(OLD_DISK), Create(OLD_VM)))
"""A VM and its disk that nobody declared to us."""
OLD = Together((
    Create(OLD_DISK),
    Create(merge(OLD_VM, {"metadata": {"annotations": {"vdcos.dev/adoptable": "true"}}})),
))  # fmt: skip
BROUGHT = merge(machine(disks=0, nics=()), {"spec": {
    "disks": [disk("root", claimName="old-root")],
    "nics": [{"name": "default", "network": "internet", "macAddress": "02:00:00:00:00:07"}],
}})  # fmt: skip
BASE = (GOLD, LAN)


def _disk_key(name: str = "disk0", vm: str = "web") -> str:
    return str(disks.key("shop", vm, name))


def catalogue() -> tuple[Scenario, ...]:
    """Every scenario, by what it is about."""
    return (
        Scenario("create", (WEB,), READY, BASE),
        Scenario("create, datastore and network after it", (WEB, Create(GOLD), Create(LAN)), READY),
        Scenario("two disks and two NICs", (Create(machine(disks=2, nics=("lan", "internet"))),), READY,
                 (*BASE, POD_NETWORK)),
        Scenario("create powered off", (Create(machine(powerState="PoweredOff")),), READY, BASE),
        Scenario("power cycle", (WEB, Declare("shop/web", {"powerState": "PoweredOff"}),
                                 Declare("shop/web", {"powerState": "PoweredOn"})), READY, BASE),
        Scenario("power cycle, stays off", (Create(machine(onGuestShutdown="StayOff")),
                                            Declare("shop/web", {"powerState": "PoweredOff"}),
                                            Declare("shop/web", {"powerState": "PoweredOn"})), READY, BASE,
                 on=("shop/web",)),
        Scenario("delete", (WEB, Delete(VDCOS_VM, "shop/web")), {}, BASE),
        Scenario("delete with its disk", (Create(machine(disks=0)), declared_disks(disk(deletionPolicy="Delete")),
                                          Delete(VDCOS_VM, "shop/web")), {}, BASE),
        Scenario("delete and re-create", (WEB, Delete(VDCOS_VM, "shop/web"), WEB), READY, BASE),
        Scenario("policy to Delete and back", (WEB, declared_disks(disk(deletionPolicy="Delete")),
                                               declared_disks(disk(deletionPolicy="Retain"))), READY, BASE),
        Scenario("add and remove a disk", (WEB, declared_disks(disk(), disk("disk1")), declared_disks(disk())), READY,
                 BASE),
        Scenario("grow a disk", (WEB, declared_disks(disk(size="2Gi"))), READY, BASE),
        Scenario("grow a disk that cannot grow", (WEB, declared_disks(disk(size="2Gi"))),
                 {"shop/web": "ExpansionUnsupported"}, BASE, {"allowVolumeExpansion": False}),
        Scenario("more CPU and memory", (WEB, Declare("shop/web", {"cpu": {"sockets": 2}, "memory": {"size": "2Gi"}})),
                 READY, BASE),
        Scenario("less CPU", (Create(machine(cpu={"sockets": 2})), Declare("shop/web", {"cpu": {"sockets": 1}})),
                 READY, BASE),
        Scenario("cores back and forth", (WEB, Declare("shop/web", {"cpu": {"cores": 2}}),
                                          Declare("shop/web", {"cpu": {"cores": 1}})), READY, BASE),
        Scenario("another NIC", (WEB, Declare("shop/web", {"nics": [{"name": "nic0", "network": "lan"},
                                                                   {"name": "nic1", "network": "internet"}]})),
                 READY, (*BASE, POD_NETWORK)),
        Scenario("no NIC any more", (Create(machine(powerState="PoweredOff")), Declare("shop/web", {"nics": []})),
                 READY, BASE),
        Scenario("shared network", (WEB, Create(machine("shop/db")), Delete(VDCOS_VM, "shop/web")),
                 {"shop/db": "Ready"}, BASE),
        Scenario("network in use is deleted", (WEB, Delete(kinds.NETWORK, "lan"), Delete(VDCOS_VM, "shop/web")), {},
                 BASE),
        Scenario("datastore in use is deleted", (WEB, Delete(kinds.DATASTORE, "gold"),
                                                 Delete(VDCOS_VM, "shop/web"), Delete(DV, _disk_key())), {}, BASE),
        Scenario("full datastore, then room", (WEB, Create(machine("shop/db")),
                                               Edit(kinds.DATASTORE, "gold", {"spec": {"capacity": "3Gi"}})),
                 {"shop/web": "Ready", "shop/db": "Ready"}, (builders.datastore("gold", capacity="1Gi"), LAN)),
        Scenario("datastore in maintenance", (WEB, Edit(kinds.DATASTORE, "gold", {"spec": {"maintenance": False}})),
                 READY, (builders.datastore("gold", maintenance=True), LAN)),
        Scenario("namespace not allowed, then allowed",
                 (WEB, Edit(kinds.NETWORK, "lan", {"spec": {"allowedNamespaces": {"from": "All"}}})), READY,
                 (GOLD, builders.network("lan", "None", bridge={"name": "br0"}))),
        Scenario("missing Secret, then there",
                 (Create(machine(guest={"cloudInit": {"userDataSecretName": "init"}})),
                  Create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "init", "namespace": "shop"}})),
                 READY, BASE),
        Scenario("no host fits, then one does",
                 (Create(machine(placement={"nodeSelector": {"zone": "moon"}})),
                  Declare("shop/web", {"placement": {"nodeSelector": {"zone": "zone-2"}}})), READY, BASE),
        Scenario("host loses power and comes back", (WEB, ToHost(PowerOff(), "shop/web"),
                                                     ToHost(Recover(), host="host-1")), READY, BASE),
        Scenario("host loses power and is fenced", (WEB, ToHost(PowerOff(), "shop/web"), Fence("host-1")), READY, BASE),
        Scenario("host is cut off and comes back", (WEB, ToHost(Partition(), "shop/web"),
                                                    ToHost(Recover(), host="host-1")), READY, BASE),
        Scenario("host loses its path to storage and gets it back",
                 (WEB, ToHost(SetFault(Fault.NO_STORAGE), "shop/web"),
                  ToHost(ClearFault(Fault.NO_STORAGE), host="host-1")), READY, BASE),
        Scenario("virtctl stop is put right", (WEB, Virtctl("shop/web", "stop")), READY, BASE),
        Scenario("virtctl stop is respected", (Create(machine(onGuestShutdown="StayOff")), Virtctl("shop/web", "stop")),
                 READY, BASE),
        Scenario("guest shuts down and is restarted", (WEB, ToGuest("shop/web", Command.SHUTDOWN)), READY, BASE),
        Scenario("guest shuts down and stays off", (Create(machine(onGuestShutdown="StayOff")),
                                                    ToGuest("shop/web", Command.SHUTDOWN),
                                                    Virtctl("shop/web", "start")), READY, BASE),
        Scenario("guest crashes", (Create(machine(onGuestShutdown="StayOff")), ToGuest("shop/web", Command.CRASH)),
                 READY, BASE),
        Scenario("somebody edits the child", (WEB, Edit(VM, "shop/web", {"spec": {"template": {"spec": {"domain": {
            "cpu": {"sockets": 4}}}}}}, "somebody")), READY, BASE),
        Scenario("somebody deletes the child", (WEB, Delete(VM, "shop/web")), READY, BASE),
        Scenario("somebody deletes a disk", (WEB, Delete(DV, _disk_key())), {"shop/web": "DiskLost"}, BASE),
        Scenario("the name is taken", (Create({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "metadata": {"name": "web", "namespace": "shop"}, "spec": {"runStrategy": "Halted", "template": {"spec": {
                "domain": {}}}}}), WEB), {"shop/web": "NameTaken"}, BASE),
        Scenario("the child is detached, and comes back", (WEB, Edit(VM, "shop/web", {
            "metadata": {"ownerReferences": None}}, "admin")), READY, BASE),
        Scenario("a KubeVirt VM is taken over", (OLD, Create(BROUGHT)), READY, (*BASE, POD_NETWORK)),
        Scenario("a KubeVirt VM is taken over, and its word comes last", (OLD_ALONE, Create(BROUGHT), Edit(
            VM, "shop/web", {"metadata": {"annotations": {"vdcos.dev/adoptable": "true"}}}, "admin")), READY,
            (*BASE, POD_NETWORK)),
        Scenario("first power-on makes the disk", (WEB,), READY, BASE, {"volumeBindingMode": "WaitForFirstConsumer"}),
        Scenario("the operator restarts", (WEB, Restart(), Declare("shop/web", {"powerState": "PoweredOff"})), READY,
                 BASE),
        Scenario("network gets another VLAN", (WEB, Edit(kinds.NETWORK, "lan", {"spec": {"bridge": {"vlan": 7}}})),
                 READY, BASE),
        Scenario("network of a NIC changes", (Create(machine(powerState="PoweredOff")), Declare("shop/web", {
            "nics": [{"name": "nic0", "network": "internet"}]})), READY, (*BASE, POD_NETWORK)),
        Scenario("datastore closes", (WEB, Edit(kinds.DATASTORE, "gold", {"spec": {"allowedNamespaces": {
            "from": "None"}, "maintenance": True}}), Declare("shop/web", {"cpu": {"sockets": 2}})), READY, BASE),
        Scenario("paused and unpaused", (WEB, ToGuest("shop/web", Command.PAUSE), ToGuest("shop/web", Command.UNPAUSE)),
                 READY, BASE),
        Scenario("a write war", (WEB, *(Edit(VM, "shop/web", {"spec": {"template": {"spec": {"domain": {"cpu": {
            "sockets": n}}}}}}, "somebody") for n in (4, 5, 6, 7))), READY, BASE, swift=True),
        Scenario("somebody deletes a definition", (WEB, Edit(kinds.NETWORK, "lan", {"spec": {"bridge": {"vlan": 7}}}),
            Delete(NAD, "shop/lan")), READY, BASE),
        Scenario("somebody edits a definition", (WEB, Edit(NAD, "shop/lan", {"spec": {"config": "{}"}}, "somebody")),
                 READY, BASE),
        Scenario("a definition is in the way", (WEB, Delete(NAD, "shop/lan")), READY,
                 (*BASE, builders.definition("shop/lan"))),
        Scenario("instance type comes later", (Create(_without(machine(instancetype={"name": "small"}), "cpu",
            "memory")), Create(SMALL)), READY, BASE),
        Scenario("cloud-init changes", (Create(machine(guest={"hostname": "one"})),
                                        Declare("shop/web", {"guest": {"hostname": "two"}})), READY, BASE),
        Scenario("somebody deletes the instance", (WEB, Delete(VMI, "shop/web")), READY, BASE),
        Scenario("grow a disk of a VM that is off", (WEB, Declare("shop/web", {"powerState": "PoweredOff"}),
            declared_disks(disk(size="3Gi")), Declare("shop/web", {"powerState": "PoweredOn"})), READY, BASE),
        Scenario("network with an uplink", (WEB, Edit(kinds.NETWORK, "lan", {"spec": {"uplink": None}})), READY,
                 (GOLD, builders.network("lan", bridge={"name": "br0"}, uplink={"interfaces": ["eno2"]}))),
        Scenario("a running VM loses its NIC", (WEB, Declare("shop/web", {"nics": []}),
            Declare("shop/web", {"powerState": "PoweredOff"})), READY, BASE),
        Scenario("the namespace is deleted", (WEB, Delete(NAMESPACE, "shop")), {}, BASE),
        Scenario("full datastore, then a disk goes", (WEB, Create(machine("shop/db")), Delete(VDCOS_VM, "shop/web"),
            Delete(DV, _disk_key())), {"shop/db": "Ready"}, (builders.datastore("gold", capacity="1Gi"), LAN)),
        Scenario("room for one of two disks", (Create(machine(disks=2)),
            Edit(kinds.DATASTORE, "gold", {"spec": {"capacity": "2Gi"}})), READY,
            (builders.datastore("gold", capacity="1Gi"), LAN)),
        Scenario("grow beyond the ceiling", (WEB, declared_disks(disk(size="2Gi"))), {"shop/web": "DatastoreFull"},
                 (builders.datastore("gold", capacity="1Gi"), LAN)),
        Scenario("no room beside a disk that has grown", (WEB, declared_disks(disk(size="3Gi")),
            Create(machine("shop/db"))), {"shop/web": "Ready", "shop/db": "DatastoreFull"},
            (builders.datastore("gold", capacity="3Gi"), LAN)),
        Scenario("grow a disk that cannot grow yet", (WEB, declared_disks(disk(size="2Gi")),
            Edit(StorageClass.resource, "block", {"allowVolumeExpansion": True})), READY, BASE,
            {"allowVolumeExpansion": False}),
        Scenario("powered off without its network", (WEB, Edit(kinds.NETWORK, "lan", {"spec": {"allowedNamespaces": {
            "from": "None"}}}), Declare("shop/web", {"powerState": "PoweredOff"})),
            {"shop/web": "NamespaceNotAllowed"}, BASE),
        Scenario("delete without a disk of before", (Create(machine(disks=0)),
            declared_disks(disk(deletionPolicy="Delete")), declared_disks(), Delete(VDCOS_VM, "shop/web")), {}, BASE),
        Scenario("powered on while it powers off", (Create(machine(onGuestShutdown="StayOff")),
            Together((Declare("shop/web", {"powerState": "PoweredOff"}),
                      Later(0.5, Declare("shop/web", {"powerState": "PoweredOn"}))))), READY, BASE,
            on=("shop/web",)),
        Scenario("somebody edits a definition that nobody runs with", (Create(machine(powerState="PoweredOff")),
            Edit(NAD, "shop/lan", {"spec": {"config": "{}"}}, "somebody")), READY, BASE),
        Scenario("two VMs at once, room for one", (Together((Create(machine("shop/db")), WEB)),
            Edit(kinds.DATASTORE, "gold", {"spec": {"capacity": "3Gi"}})),
            {"shop/web": "Ready", "shop/db": "Ready"}, (builders.datastore("gold", capacity="1Gi"), LAN)),
        Scenario("somebody makes a map of the child that we fill and empty", (WEB,
            Edit(VM, "shop/web", {"spec": {"template": {"spec": {"nodeSelector": {}}}}}, "somebody"),
            Declare("shop/web", {"placement": {"nodeSelector": {"zone": "zone-2"}}}),
            Declare("shop/web", {"placement": None})), READY, BASE),
        Scenario("re-created at once", (GOES, Together((Delete(VDCOS_VM, "shop/web"), GOES))), READY, BASE),
        Scenario("everything that can be declared, then other things",
            (Together((PERMITTED, *(Create({"apiVersion": "v1", "kind": "Secret", "metadata": {
                "name": name, "namespace": "shop"}}) for name in ("keys", "nets", "pull")), Create(EVERYTHING))),
             Declare("shop/web", OTHERWISE)), READY, (GOLD, LAN, POD_NETWORK, STORAGE)),
        Scenario("an address, and powered off", (Create(machine(nics=("internet", "lan"))),
            Declare("shop/web", {"powerState": "PoweredOff"})), READY, (*BASE, POD_NETWORK)),
        Scenario("what others put on objects stays",
            (Create(merge(machine(), {"metadata": {"finalizers": [KEPT], **THEIRS}})),
             Together(tuple(Edit(kind, where, {"metadata": {**THEIRS, "finalizers": [KEPT, *more]}}, "somebody")
                            for kind, where, more in ((VM, "shop/web", (VM_FINALIZER,)), (NAD, "shop/lan", ()),
                                                      (DV, _disk_key(), ())))),
             Declare("shop/web", {"cpu": {"cores": 2}, "disks": [disk(deletionPolicy="Delete")]}),
             Edit(kinds.NETWORK, "lan", {"spec": {"bridge": {"vlan": 7}}}),
             Together((Delete(VDCOS_VM, "shop/web"), Delete(kinds.NETWORK, "lan"))),
             *(LetGo(kind, where, KEPT) for kind, where in (
                 (VDCOS_VM, "shop/web"), (VM, "shop/web"), (NAD, "shop/lan"), (kinds.NETWORK, "lan"),
                 (DV, _disk_key())))), {},
            (GOLD, builders.network("lan", bridge={"name": "br0"}, metadata={"finalizers": [KEPT], **THEIRS}))),
        Scenario("hosts and storage come later",
            (Edit(NODE, "host-1", {"status": {"allocatable": {"bridge.network.kubevirt.io/br1": "110"}}}, ""),
             Create(builders.storage_class("fast")),
             Create(builders.storage_profile("fast", ("Block", ["ReadWriteOnce"]))),
             Edit(POLICY, "vdcos-far", {"status": {"conditions": [{"type": "Available", "status": "True"}]}}, ""),
             Edit(POLICY, "vdcos-far", {"status": {"conditions": [{"type": "Degraded", "status": "True"}]}}, "")),
            {}, (builders.network("far", bridge={"name": "br1"}, uplink={"interfaces": ["eno2"]}),
                 builders.datastore("fast", "fast"))),
        Scenario("a webhook is down for minutes",
            (Together((Refuse(VM, 200.0, ApiError(500, "InternalError", "failed calling webhook")), WEB)),), READY,
            BASE),
        Scenario("what is refused is tried again when somebody edits",
            (Together((Refuse(DV, 30.0, ApiError(403, "Forbidden", 'admission webhook "disks" denied the request')),
                       WEB, Later(40.0, Declare("shop/web", {"availability": {"restartPriority": "High"}})))),), READY,
            BASE),
    )  # fmt: skip
