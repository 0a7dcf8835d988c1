"""The declarations of the VirtualMachine service: what it reads, who looks again when that changes, what it writes."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from vdcos import api
from vdcos.core import availability, disks, failures, hosts, kinds
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.cdi import Cdi, DataVolume
from vdcos.core.foreign.kubernetes import FailedMount, GuestPanic, Lease, Namespace, PersistentVolumeClaim, StorageClass
from vdcos.core.foreign.kubevirt import KubeVirt, VirtualMachineInstance
from vdcos.core.foreign.multus import NetworkAttachmentDefinition
from vdcos.core.foreign.snapshots import VolumeSnapshot
from vdcos.core.objects import Index, Key, Meta, Own, Without, declared
from vdcos.core.plan import Instant, Plan
from vdcos.core.service import Watch, Write
from vdcos.core.snapshot import Snapshot
from vdcos.providers.failover import room
from vdcos.providers.failover.order import WAITING
from vdcos.providers.failover.outlook import OUTLOOK
from vdcos.providers.networks import Providers
from vdcos.services.virtualmachine import dependencies, observe, plan, power
from vdcos.services.virtualmachine import disks as vm_disks
from vdcos.services.virtualmachine.observe import DEPENDENTS, Seen

PATIENCE = 0.3
"""Seconds that a look may wait: KubeVirt and CDI change a child several times in a row, and one look sees it all."""

Keys = Callable[[Any, Snapshot], Iterable[Key]]


def _same_key(held: Any, _: Snapshot) -> Iterable[Key]:
    return (held.metadata.key,)


def _dependents(kind: str) -> Keys:
    """The VMs that refer to an object by kind, namespace and name."""

    def keys(held: Any, world: Snapshot) -> Iterable[Key]:
        return world.keys(DEPENDENTS, f"{kind}/{held.metadata.namespace}/{held.metadata.name}")

    return keys


def _disk(held: Any, world: Snapshot) -> Iterable[Key]:
    """The VM of a disk; whoever refers to it by name; and who waits for room that it may have taken."""
    meta = held.metadata
    vm = meta.label(disks.VM)
    if vm and disks.is_named(meta):
        yield Key(meta.namespace, vm)
    yield from world.keys(DEPENDENTS, f"PersistentVolumeClaim/{meta.namespace}/{meta.name}")
    if datastore := meta.label(disks.DATASTORE):
        yield from world.keys(DEPENDENTS, f"waits/{observe.DATASTORE_FULL}/{datastore}")


def _storage_class(_: Any, world: Snapshot) -> Iterable[Key]:
    return world.keys(DEPENDENTS, f"waits/{observe.EXPANSION_UNSUPPORTED}")


def _pod(event: Any, world: Snapshot) -> Iterable[Key]:
    return world.keys(observe.PODS_OF, f"{event.metadata.namespace}/{event.involved_object.uid}")


def _namespace(held: Any, world: Snapshot) -> Iterable[Key]:
    return world.keys(DEPENDENTS, f"Namespace//{held.metadata.name}")


def _everyone(_: Any, world: Snapshot) -> Iterable[Key]:
    return [own.metadata.key for own in world.all(api.VirtualMachine)]


def _waiting(_: Any, world: Snapshot) -> Iterable[Key]:
    """The VMs that wait for failover capacity."""
    return world.keys(WAITING, "")


def _held(own: Own, _: Snapshot) -> Iterable[Key]:
    """The VMs that a failure holds, or has held."""
    return [Key(each.namespace, each.name) for each in failures.slim(own.raw).status.machines]


def _holds(own: Own) -> Any:
    failure = failures.slim(own.raw)
    held = frozenset(each for each in failure.status.machines if each.state == "Held")
    return failure.open and (held, failures.on_failover_hosts(failure))


def _on_host(own: Own, world: Snapshot) -> Iterable[Key]:
    return world.keys(hosts.INSTANCES_ON, own.metadata.name)


def _nobody(_: Any, __: Snapshot) -> Iterable[Key]:
    """What is only looked at, to know whether anything is heard."""
    return ()


def _neighbours(own: Own, world: Snapshot) -> Iterable[Key]:
    return dependencies.neighbours(own, world, DEPENDENTS)


def _panicked(event: GuestPanic, _: Snapshot) -> Iterable[Key]:
    return (Key(event.metadata.namespace, event.involved_object.name),)


def _unversioned(meta: Meta) -> Meta:
    return msgspec.structs.replace(meta, resource_version="")


def _claim(held: PersistentVolumeClaim) -> Any:
    return msgspec.structs.replace(held, metadata=_unversioned(held.metadata))


def _volume(held: DataVolume) -> tuple[Any, ...]:
    """How far it is; what CDI says on the way changes many times a second and is not told."""
    return _unversioned(held.metadata), vm_disks.stage(held), vm_disks.progress(held), vm_disks.trouble(held)


def _child(held: kubevirt.VirtualMachine) -> Any:
    """KubeVirt's finalizers are its own business."""
    return msgspec.structs.replace(held, metadata=msgspec.structs.replace(_unversioned(held.metadata), finalizers=()))


def _instance(held: VirtualMachineInstance) -> tuple[Any, ...]:
    """Instances have no status subresource: every word of their status is a generation, which nobody reads.

    What only matters of a guest that runs is not told before, and what only matters until then not after.
    """
    meta = msgspec.structs.replace(_unversioned(held.metadata), generation=0, finalizers=())
    status = held.status
    if status.phase == "Running":
        return meta, held.spec, msgspec.structs.replace(status, active_pods={}, migration_state=None)
    return (
        meta,
        held.spec,
        "" if status.phase in power.UNPLACED else status.phase,
        [condition for condition in status.conditions if condition.type not in power.WHILE_RUNNING],
        [interface.name for interface in status.interfaces],
        sorted(status.active_pods),
    )


def _exists(held: Any) -> tuple[Any, ...]:
    return held.metadata.uid, held.metadata.deletion_timestamp


def _version(held: Any) -> tuple[Any, ...]:
    return _exists(held), held.metadata.generation


class VirtualMachineService:
    """``providers`` are third parties' virtual switches by name."""

    name = "virtualmachine"
    resource = kinds.VIRTUAL_MACHINE
    kind = api.VirtualMachine
    needed = plan.NEEDED

    watches: tuple[Watch[Any], ...] = (
        Watch(kubevirt.VirtualMachine, _same_key, _child, PATIENCE),
        Watch(VirtualMachineInstance, _same_key, _instance, PATIENCE, dated=True),
        Watch(DataVolume, _disk, _volume, PATIENCE),
        Watch(PersistentVolumeClaim, _disk, _claim, PATIENCE),
        Watch(VolumeSnapshot, _dependents("VolumeSnapshot"), _exists),
        Watch(api.Datastore, _dependents("Datastore"), declared),
        Watch(api.Network, _dependents("Network"), declared),
        Watch(
            NetworkAttachmentDefinition,
            _dependents("NetworkAttachmentDefinition"),
            lambda held: (_exists(held), held.metadata.owner_references),
        ),
        Watch(Namespace, _namespace, lambda held: (_exists(held), held.metadata.labels, held.metadata.annotations)),
        Watch(StorageClass, _storage_class, lambda held: (_exists(held), held.allow_volume_expansion)),
        Watch(api.HostFailure, _held, _holds),
        Watch(FailedMount, _pod, lambda event: event.message),
        Watch(GuestPanic, _panicked, _exists),
        Watch(Lease, _nobody, lambda _: None),
        Watch(api.Host, _on_host, lambda own: hosts.policy_of(own.raw)),
        Watch(api.HAPolicy, _everyone, lambda own: availability.of_guests(own.raw)),
        Watch(api.HAPolicy, _waiting, declared),
        *(Watch(kind, _nobody) for kind in room.KINDS),
        *(Watch(kind, _dependents(name), _version) for name, kind in observe.INSTANCETYPES.items()),
        Watch(api.VirtualMachine, _neighbours, dependencies.matters),
        Watch(KubeVirt, _everyone, lambda held: (held.spec, held.status.observed_kube_virt_version)),
        Watch(Cdi, _everyone, lambda held: held.status.observed_version),
    )
    derives = (OUTLOOK, *room.DERIVES)
    indexes: tuple[Index[Any] | Without, ...] = (
        DEPENDENTS,
        dependencies.DEPENDING,
        observe.DISKS_OF,
        observe.CLAIMS_OF,
        observe.MOUNTS_OF,
        observe.PODS_OF,
        observe.PANICS_OF,
        hosts.INSTANCES_ON,
        disks.CREATED,
        disks.GROWN,
        failures.HELD,
        failures.FAILOVER,
        *room.INDEXES,
    )
    writes: tuple[Write, ...] = (
        Write(kubevirt.VirtualMachine.resource, ("create", "patch")),
        Write(VirtualMachineInstance.resource, ("delete",)),
        Write(DataVolume.resource, ("create", "patch")),
        Write(PersistentVolumeClaim.resource, ("patch",)),
    )

    def __init__(self, providers: Providers) -> None:
        self._providers = providers

    def observe(self, key: Key, world: Snapshot) -> Seen:
        return observe.observe(key, world)

    def plan(self, cr: api.VirtualMachine, seen: Seen, now: Instant) -> Plan:
        return plan.plan(cr, seen, now, self._providers)
