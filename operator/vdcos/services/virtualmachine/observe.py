"""All that the plan of a VirtualMachine looks at, gathered in one frozen value."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from vdcos import api
from vdcos.core import amounts, availability, disks, failures
from vdcos.core.amounts import Amounts
from vdcos.core.conditions import Condition
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.cdi import Cdi, DataVolume
from vdcos.core.foreign.kubernetes import FailedMount, GuestPanic, Lease, Namespace, PersistentVolumeClaim, StorageClass
from vdcos.core.foreign.kubevirt import KubeVirt, VirtualMachineInstance
from vdcos.core.foreign.multus import NetworkAttachmentDefinition
from vdcos.core.foreign.snapshots import VolumeSnapshot
from vdcos.core.objects import Index, Key, Meta, Own, Unreadable
from vdcos.core.snapshot import Snapshot
from vdcos.providers.failover import room
from vdcos.providers.failover.machines import PLACED
from vdcos.providers.failover.order import WISHES, Wish
from vdcos.providers.failover.outlook import OUTLOOK, protected
from vdcos.services.virtualmachine import dependencies as restart_order
from vdcos.services.virtualmachine.dependencies import NO_ORDER, SeenOrder

Maybe = Unreadable | None
Imposing = kubevirt.ClusterInstancetype | kubevirt.Instancetype | kubevirt.ClusterPreference | kubevirt.Preference


@dataclass(frozen=True, slots=True)
class SeenDisk:
    """What there is of a declared disk."""

    volume: DataVolume | Maybe
    claim: PersistentVolumeClaim | Maybe
    datastore: api.Datastore | Maybe
    storage_class: StorageClass | Maybe
    source: Meta | Maybe
    """The claim or snapshot that a new disk is copied from; None when it is missing, or there is no such source."""
    provisioned: int
    """Bytes that the datastore has promised to all its disks."""

    @property
    def held(self) -> tuple[DataVolume | PersistentVolumeClaim, ...]:
        """What exists, as far as it can be read; the first one is the one that owner references stand on."""
        both = (self.volume, self.claim)
        return tuple([found for found in both if isinstance(found, DataVolume | PersistentVolumeClaim)])


@dataclass(frozen=True, slots=True)
class SeenNic:
    """What there is of a declared network card."""

    network: api.Network | Maybe
    definition: NetworkAttachmentDefinition | Maybe


@dataclass(frozen=True, slots=True)
class Hold:
    """The VM died with its host, and waits for its turn."""

    failure: str
    """The HostFailure that holds it."""
    instance: str
    """The uid of the instance that died."""
    host: str
    """The host that failed."""


@dataclass(frozen=True, slots=True)
class SeenGuest:
    """Who looks after the guest, and what is known of it. Times are monotonic seconds."""

    host: api.Host | None = None
    """Where it runs."""
    policy: api.HAPolicy | None = None
    """The policy of that host."""
    panicked: frozenset[str] = frozenset()
    """The uids of instances whose guests have reported a panic."""
    unchanged_since: float = float("inf")
    """Since when its instance is as it is, where that matters: its guest is monitored, and silent."""
    heard: float = float("inf")
    """When the API server last said anything about Leases, where that matters."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The world around one VirtualMachine."""

    cluster: str
    """What tells this cluster from others: the uid of its kube-system namespace."""
    namespace: Namespace | Maybe
    child: kubevirt.VirtualMachine | Maybe
    child_spec: Mapping[str, Any]
    instance: VirtualMachineInstance | Maybe
    instance_spec: Mapping[str, Any]
    """Empty while the instance runs just what the child says."""
    kubevirt: KubeVirt | None
    cdi: Cdi | None
    disks: Mapping[str, SeenDisk]
    """By the disk's name in the spec."""
    undeclared: tuple[DataVolume | PersistentVolumeClaim, ...]
    """What this VM owns of disks that its spec does not name (any more)."""
    nics: Mapping[str, SeenNic]
    """By the card's name in the spec."""
    instancetype: Imposing | Maybe
    preference: Imposing | Maybe
    failed_mounts: tuple[FailedMount, ...]
    """What kubelets say about the volumes of the instance's pods."""
    hold: Hold | None = None
    failover: bool = False
    """It restarts after a failure, and may do so on hosts that are kept for failover."""
    guest: SeenGuest = SeenGuest()
    order: SeenOrder = NO_ORDER
    account: room.Account | None = None
    """Who may start or grow; None where that is not in question, or no policy asks."""
    wish: Wish | None = None
    """Its own place in the order of restart."""
    placed: Amounts | None = None
    """What its pods that have a host request; only looked for when the VM may ask for room."""
    protected: Condition | None = None
    """What would become of it if its host died."""


INSTANCETYPES: Mapping[str, type[Any]] = {
    "VirtualMachineClusterInstancetype": kubevirt.ClusterInstancetype,
    "VirtualMachineInstancetype": kubevirt.Instancetype,
    "VirtualMachineClusterPreference": kubevirt.ClusterPreference,
    "VirtualMachinePreference": kubevirt.Preference,
}
SOURCES: Mapping[str, type[Any]] = {"pvc": PersistentVolumeClaim, "snapshot": VolumeSnapshot}
APPLIED = "Applied"
"""The condition that the child is as it should be."""
DATASTORE_FULL = "DatastoreFull"
EXPANSION_UNSUPPORTED = "ExpansionUnsupported"


def observe(key: Key, world: Snapshot) -> Seen:
    """Gather it. A VirtualMachine that is gone or malformed has no surroundings."""
    cr = world.get(api.VirtualMachine, key)
    spec = cr.spec if isinstance(cr, api.VirtualMachine) else None
    child = world.get(kubevirt.VirtualMachine, key)
    instance = world.get(VirtualMachineInstance, key)
    system = world.get(Namespace, Key("", "kube-system"))
    declared = {disk.name for disk in spec.disks} if spec else set()
    pods = instance.status.active_pods if isinstance(instance, VirtualMachineInstance) else ()
    guest = _guest(cr, instance, world) if isinstance(cr, api.VirtualMachine) else SeenGuest()
    asks = isinstance(cr, api.VirtualMachine) and _asks(cr, child)
    return Seen(
        cluster=system.metadata.uid if isinstance(system, Namespace) else "",
        namespace=world.get(Namespace, Key("", key.namespace)),
        child=child,
        child_spec=msgspec.json.decode(child.spec) if isinstance(child, kubevirt.VirtualMachine) else {},
        instance=instance,
        instance_spec=_running(child, instance),
        kubevirt=next(iter(world.all(KubeVirt)), None),
        cdi=next(iter(world.all(Cdi)), None),
        disks={disk.name: _disk(key, disk, world) for disk in spec.disks} if spec else {},
        undeclared=tuple(
            held
            for index in (DISKS_OF, CLAIMS_OF)
            for held in world.by(index, f"{key.namespace}/{key.name}")
            if held.metadata.label(disks.DISK) not in declared
        ),
        nics={nic.name: _nic(key, nic, world) for nic in spec.nics} if spec else {},
        instancetype=_named(world, key, spec.instancetype) if spec else None,
        preference=_named(world, key, spec.preference) if spec else None,
        hold=_hold(cr, world) if isinstance(cr, api.VirtualMachine) else None,
        failover=isinstance(cr, api.VirtualMachine) and bool(world.keys(failures.FAILOVER, cr.metadata.uid)),
        guest=guest,
        order=_order(cr, guest.policy, world) if isinstance(cr, api.VirtualMachine) else NO_ORDER,
        account=room.account(world) if asks else None,
        placed=_placed(key, world) if asks else None,
        wish=world.values(WISHES).get(key),
        protected=_protected(key, world),
        failed_mounts=tuple(event for pod in sorted(pods) for event in world.by(MOUNTS_OF, f"{key.namespace}/{pod}")),
    )


def _running(child: kubevirt.VirtualMachine | Maybe, instance: VirtualMachineInstance | Maybe) -> Mapping[str, Any]:
    """The spec of the instance, where it may differ from the child's."""
    if not isinstance(instance, VirtualMachineInstance):
        return {}
    if isinstance(child, kubevirt.VirtualMachine) and instance.metadata.annotation(kubevirt.GENERATION) == str(
        child.metadata.generation
    ):
        return {}
    decoded: Mapping[str, Any] = msgspec.json.decode(instance.spec)
    return decoded


def _hold(cr: api.VirtualMachine, world: Snapshot) -> Hold | None:
    for key in world.keys(failures.HELD, cr.metadata.uid):
        failure = world.get(api.HostFailure, key)
        if isinstance(failure, api.HostFailure):
            for machine in failure.status.machines:
                if machine.uid == cr.metadata.uid and machine.state == "Held":
                    return Hold(key.name, machine.instance, failure.spec.host)
    return None


def _guest(cr: api.VirtualMachine, instance: VirtualMachineInstance | Maybe, world: Snapshot) -> SeenGuest:
    if not isinstance(instance, VirtualMachineInstance) or not instance.status.node_name:
        return SeenGuest()
    host = world.get(api.Host, Key("", instance.status.node_name))
    policy = world.get(api.HAPolicy, Key("", host.status.policy)) if isinstance(host, api.Host) else None
    if not isinstance(host, api.Host) or not isinstance(policy, api.HAPolicy):
        return SeenGuest()
    if not availability.monitoring(policy.spec, cr).enabled:
        return SeenGuest(host, policy)
    key = instance.metadata.key
    panicked = frozenset(event.involved_object.uid for event in world.by(PANICS_OF, str(key)))
    if kubevirt.condition(instance.status.conditions, "AgentConnected").status == "True":
        return SeenGuest(host, policy, panicked)
    since, heard = world.silent_since(VirtualMachineInstance, key), world.heard_at(Lease)
    return SeenGuest(host, policy, panicked, since if since is not None else float("inf"), heard)


def _order(cr: api.VirtualMachine, policy: api.HAPolicy | None, world: Snapshot) -> SeenOrder:
    return restart_order.look(cr, policy.spec if policy is not None else None, world, DEPENDENTS)


def _asks(cr: api.VirtualMachine, child: kubevirt.VirtualMachine | Maybe) -> bool:
    """Whether a VM may be about to start or to grow: it was not admitted yet, or its child is not said to be as is
    declared now."""
    if cr.spec.power_state == "PoweredOff":
        return False
    known = child if isinstance(child, kubevirt.VirtualMachine) else None
    settled = cr.status.observed_generation == cr.metadata.generation and any(
        said.type == APPLIED and said.status == "True" for said in cr.status.conditions
    )
    return room.admitted(known) is None or not settled


def _placed(key: Key, world: Snapshot) -> Amounts | None:
    found = world.total(PLACED, str(key))
    return amounts.of(found.amount.get(amounts.CPU, 0), found.amount.get(amounts.MEMORY, 0)) if found.count else None


def _protected(key: Key, world: Snapshot) -> Condition | None:
    """Nobody answers for a VM whose policy is gone, whatever the outlook was."""
    found = world.derived(OUTLOOK)
    fate = found.vms.get(key)
    policy = world.get(api.HAPolicy, Key("", fate.policy)) if fate is not None else None
    return protected(found, key) if isinstance(policy, api.HAPolicy) else None


def _disk(key: Key, disk: api.virtualmachine.Disk, world: Snapshot) -> SeenDisk:
    at = Key(key.namespace, disks.claim(key.name, disk.name, disk.claim_name))
    datastore = world.get(api.Datastore, Key("", disk.datastore))
    storage_class: Any = None
    if isinstance(datastore, api.Datastore):
        storage_class = world.get(StorageClass, Key("", datastore.spec.storage_class_name))
    source: Any = None
    if (kind := SOURCES.get(disk.source.choice)) is not None:
        source = _meta(world.get(kind, Key(key.namespace, getattr(disk.source, disk.source.choice).name)))
    return SeenDisk(
        volume=world.get(DataVolume, at),
        claim=world.get(PersistentVolumeClaim, at),
        datastore=datastore,
        storage_class=storage_class,
        source=source,
        provisioned=disks.provisioned(world, disk.datastore),
    )


def _nic(key: Key, nic: api.virtualmachine.Nic, world: Snapshot) -> SeenNic:
    return SeenNic(
        network=world.get(api.Network, Key("", nic.network)),
        definition=world.get(NetworkAttachmentDefinition, Key(key.namespace, nic.network)),
    )


def _named(world: Snapshot, key: Key, matcher: Any) -> Imposing | Maybe:
    if matcher is None:
        return None
    kind = INSTANCETYPES[matcher.kind]
    found: Imposing | Maybe = world.get(kind, Key(key.namespace if kind.resource.namespaced else "", matcher.name))
    return found


def _meta(found: Any) -> Meta | Maybe:
    """Of what only has to exist, the metadata."""
    return found if found is None or isinstance(found, Unreadable) else found.metadata


# Who has to look again when something changes


class _Named(msgspec.Struct, frozen=True):
    name: str = ""


class _Instancetype(_Named, frozen=True):
    kind: str = "VirtualMachineClusterInstancetype"


class _Preference(_Named, frozen=True):
    kind: str = "VirtualMachineClusterPreference"


class _Source(msgspec.Struct, frozen=True):
    pvc: _Named | None = None
    snapshot: _Named | None = None


class _Disk(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    datastore: str = ""
    claim_name: str = ""
    source: _Source = _Source()


class _Nic(msgspec.Struct, frozen=True):
    network: str = ""


class _Spec(msgspec.Struct, frozen=True):
    disks: tuple[_Disk, ...] = ()
    nics: tuple[_Nic, ...] = ()
    instancetype: _Instancetype | None = None
    preference: _Preference | None = None


class _DiskStatus(msgspec.Struct, frozen=True):
    name: str = ""
    reason: str = ""


class _Status(msgspec.Struct, frozen=True):
    disks: tuple[_DiskStatus, ...] = ()


class _Slim(msgspec.Struct, frozen=True):
    """As much of a VirtualMachine as says what it depends on."""

    metadata: Meta
    spec: _Spec = _Spec()
    status: _Status = _Status()


_decode_slim = msgspec.json.Decoder(_Slim).decode


def dependencies(own: Own) -> Iterable[str]:
    """What a VirtualMachine depends on, as ``kind/namespace/name``, and ``waits/reason/datastore`` for what its disks
    wait for."""
    try:
        slim = _decode_slim(own.raw)
    except msgspec.MsgspecError:
        return
    namespace, name = slim.metadata.namespace, slim.metadata.name
    yield f"Namespace//{namespace}"
    for disk in slim.spec.disks:
        yield f"Datastore//{disk.datastore}"
        yield f"PersistentVolumeClaim/{namespace}/{disks.claim(name, disk.name, disk.claim_name)}"
        if disk.source.pvc:
            yield f"PersistentVolumeClaim/{namespace}/{disk.source.pvc.name}"
        if disk.source.snapshot:
            yield f"VolumeSnapshot/{namespace}/{disk.source.snapshot.name}"
    for nic in slim.spec.nics:
        yield f"Network//{nic.network}"
        yield f"NetworkAttachmentDefinition/{namespace}/{nic.network}"
    for matcher in (slim.spec.instancetype, slim.spec.preference):
        if matcher:
            kind = INSTANCETYPES.get(matcher.kind)
            scope = namespace if kind and kind.resource.namespaced else ""
            yield f"{matcher.kind}/{scope}/{matcher.name}"
    datastores = {disk.name: disk.datastore for disk in slim.spec.disks}
    for told in slim.status.disks:
        if told.reason == DATASTORE_FULL and told.name in datastores:
            yield f"waits/{DATASTORE_FULL}/{datastores[told.name]}"
        elif told.reason == EXPANSION_UNSUPPORTED:
            yield f"waits/{EXPANSION_UNSUPPORTED}"


DEPENDENTS: Index[Any] = Index(api.VirtualMachine, dependencies)
"""VirtualMachines by what they depend on."""


def _owner(held: DataVolume | PersistentVolumeClaim) -> Iterable[str]:
    if vm := held.metadata.label(disks.VM):
        yield f"{held.metadata.namespace}/{vm}"


DISKS_OF: Index[Any] = Index(DataVolume, _owner)
"""DataVolumes by the VM that they are labelled with."""
CLAIMS_OF: Index[Any] = Index(PersistentVolumeClaim, _owner)
"""Claims by the VM that they are labelled with."""
MOUNTS_OF: Index[Any] = Index(FailedMount, lambda event: (f"{event.metadata.namespace}/{event.involved_object.uid}",))
"""Complaints of kubelets by namespace and uid of the pod: events of other namespaces may be forged."""
PANICS_OF: Index[Any] = Index(GuestPanic, lambda event: (f"{event.metadata.namespace}/{event.involved_object.name}",))
"""Panics by ``namespace/name`` of the instance; events of other namespaces may be forged."""
PODS_OF: Index[Any] = Index(
    VirtualMachineInstance,
    lambda instance: tuple(f"{instance.metadata.namespace}/{pod}" for pod in instance.status.active_pods),
)
"""Instances by namespace and uid of their pods."""
