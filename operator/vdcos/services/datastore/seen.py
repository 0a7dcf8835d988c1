"""What the Datastore service looks at, and whose change wakes which Datastore."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from vdcos import api
from vdcos.core import counts, disks
from vdcos.core.foreign.cdi import DataVolume, StorageProfile
from vdcos.core.foreign.kubernetes import PersistentVolumeClaim, StorageClass
from vdcos.core.foreign.snapshots import VolumeSnapshotClass
from vdcos.core.objects import Index, Key, Own, Unreadable
from vdcos.core.service import Watch
from vdcos.core.snapshot import Snapshot

Disk = DataVolume | PersistentVolumeClaim

PATIENCE = 2.0
"""Seconds that an account may be behind. A look counts every disk; without patience a burst would cost its square."""


class _Disk(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    datastore: str
    claim_name: str = ""


class _MachineSpec(msgspec.Struct, frozen=True):
    disks: tuple[_Disk, ...] = ()


class _Machine(msgspec.Struct, frozen=True):
    spec: _MachineSpec = _MachineSpec()


_machine = msgspec.json.Decoder(_Machine).decode


def declared(machine: Own) -> frozenset[tuple[str, str]]:
    """The disks that a VirtualMachine declares, as claim and datastore; nothing for a malformed one."""
    vm = machine.metadata.name
    try:
        declared = _machine(machine.raw).spec.disks
        return frozenset((disks.claim(vm, disk.name, disk.claim_name), disk.datastore) for disk in declared)
    except msgspec.DecodeError:
        return frozenset()


def _disk_keys(machine: Own) -> Iterable[str]:
    return (str(Key(machine.metadata.namespace, claim)) for claim, _ in declared(machine))


DECLARED: Index[Any] = Index(api.VirtualMachine, _disk_keys)
"""VirtualMachines by ``namespace/name`` of their disks' claims."""


@dataclass(frozen=True, slots=True)
class Census:
    """How many there are, and the first ten by name."""

    count: int = 0
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """All that a plan looks at besides the Datastore itself."""

    storage_class: StorageClass | Unreadable | None
    profile: StorageProfile | Unreadable | None
    snapshots: bool
    """There is a VolumeSnapshotClass for the driver of the storage class."""
    provisioned: int
    """Bytes that disks were promised."""
    disks: Census
    tenants: Census
    retained: Census
    """Disks that no VirtualMachine declares."""
    blind: Unreadable | None
    """Why it cannot be known which disks there are; then the Datastore is not let go."""


def look(key: Key, world: Snapshot) -> Seen:
    """Gather what a plan for the Datastore ``key`` may look at."""
    cr = world.get(api.Datastore, key)
    class_key = Key("", cr.spec.storage_class_name if isinstance(cr, api.Datastore) else "")
    storage_class = world.get(StorageClass, class_key)
    driver = storage_class.provisioner if isinstance(storage_class, StorageClass) else None
    # Both are in order: sorting them together is one pass.
    there = list(dict.fromkeys(sorted([*world.keys(disks.CREATED, key.name), *world.keys(disks.GROWN, key.name)])))
    return Seen(
        storage_class=storage_class,
        profile=world.get(StorageProfile, class_key),
        snapshots=any(known.driver == driver for known in world.all(VolumeSnapshotClass)),
        provisioned=disks.provisioned(world, key.name),
        disks=_census([str(disk) for disk in there]),
        tenants=_census(sorted({disk.namespace for disk in there})),
        retained=_census([name for disk in there if not world.total(DECLARED, name := str(disk)).count]),
        blind=world.missing(DataVolume) or world.missing(PersistentVolumeClaim) or world.missing(api.VirtualMachine),
    )


def _census(names: list[str]) -> Census:
    return Census(len(names), tuple(names[: counts.NAMED]))


def _datastores_of_machine(machine: Own, _: Snapshot) -> Iterable[Key]:
    return {Key("", datastore) for _, datastore in declared(machine)}


def _datastore_of_disk(disk: Disk, _: Snapshot) -> Iterable[Key]:
    return [Key("", name) for name in disks.CREATED.keys(disk)]


def _first_or_last(disk: Disk, world: Snapshot) -> Iterable[Key]:
    """The Datastore that a disk makes used or unused: that decides whether it can be deleted."""
    return [Key("", name) for name in disks.CREATED.keys(disk) if world.total(disks.CREATED, name).count <= 1]


def _account(disk: Disk) -> Hashable:
    """What counts of a disk: how far an import has come does not."""
    # What a claim counts for changes with its owner, too: without a DataVolume it counts whole.
    size = disks.GROWN.amount(disk) if isinstance(disk, PersistentVolumeClaim) else disks.asked(disk)
    return disk.metadata.label(disks.DATASTORE), disks.requested(disk.metadata), size


def _datastores_on_class(held: StorageClass | StorageProfile, world: Snapshot) -> Iterable[Key]:
    for own in world.all(api.Datastore):
        cr = world.get(api.Datastore, own.metadata.key)
        if isinstance(cr, api.Datastore) and cr.spec.storage_class_name == held.metadata.name:
            yield own.metadata.key


def _all_datastores(_: VolumeSnapshotClass, world: Snapshot) -> Iterable[Key]:
    return [own.metadata.key for own in world.all(api.Datastore)]


WATCHES: tuple[Watch[Any], ...] = (
    Watch(StorageClass, _datastores_on_class),
    Watch(StorageProfile, _datastores_on_class),
    Watch(VolumeSnapshotClass, _all_datastores),
    Watch(DataVolume, _first_or_last, sees=_account),
    Watch(DataVolume, _datastore_of_disk, sees=_account, patience=PATIENCE),
    Watch(PersistentVolumeClaim, _datastore_of_disk, sees=_account, patience=PATIENCE),
    Watch(api.VirtualMachine, _datastores_of_machine, sees=declared, patience=PATIENCE),
)
