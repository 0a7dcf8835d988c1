"""Disks, as several vServices see them: their names, their marks, and how they count against a datastore.

A disk is a DataVolume and the PersistentVolumeClaim of the same name that CDI makes of it, with its labels and
annotations. Both are found by labels: a disk outlives its VM, and may outlive its DataVolume.
"""

from collections.abc import Iterable
from typing import Any

from vdcos.core import ownership, quantity
from vdcos.core.foreign.cdi import DataVolume
from vdcos.core.foreign.kubernetes import PersistentVolumeClaim
from vdcos.core.objects import Index, Key, Meta
from vdcos.core.snapshot import Snapshot

VM = f"{ownership.GROUP}/vm"
"""Label: the VM's name; on disks, and on the pods of running VMs."""
DISK = f"{ownership.GROUP}/disk"
"""Label: the disk's name within its VM."""
DATASTORE = f"{ownership.GROUP}/datastore"
"""Label: the Datastore that the disk was created on."""
REQUESTED = f"{ownership.GROUP}/requested"
"""Annotation: bytes that the disk was created with. It never changes: growth shows in the claim."""
SIZE = f"{ownership.GROUP}/size"
"""Annotation of a claim: bytes that were declared when the disk last grew."""
CLAIM = f"{ownership.GROUP}/claim"
"""Annotation of a disk that was taken over: its own name. A copy has the annotation, too, and another name."""
GROWN_UNDER = f"{ownership.GROUP}/grown-under"
"""Annotation of a claim: uid of the VirtualMachineInstance that ran when the disk grew and cannot see it."""

MOST = 2**63 - 1
"""Bytes that one disk counts for at most: the largest quantity that Kubernetes keeps. Users write what they like."""


def name(vm: str, disk: str) -> str:
    """The name of a disk's DataVolume and claim: ``a``+``b-c`` and ``a-b``+``c`` differ."""
    return ownership.joined_name(vm, disk)


def claim(vm: str, disk: str, claim_name: str | None) -> str:
    """The name of a disk's DataVolume and claim, where it may be one that was taken over."""
    return claim_name or name(vm, disk)


def is_named(meta: Meta) -> bool:
    """Whether an object with the marks of a disk is that disk. CDI copies our labels to passing claims of its own
    (prime, scratch), and KubeVirt to restored ones, which have other names."""
    return meta.name in (name(meta.label(VM), meta.label(DISK)), meta.annotation(CLAIM))


def labels(vm: str, disk: str, datastore: str) -> dict[str, str]:
    return {ownership.MANAGED_BY: ownership.MANAGER, VM: vm, DISK: disk, DATASTORE: datastore}


def is_disk(meta: Meta, vm: str, disk: str) -> bool:
    """Whether an object is this disk of this VM, and not somebody else's of the same name."""
    return meta.label(VM) == vm and meta.label(DISK) == disk


def is_held_by(meta: Meta, owner: Meta) -> bool:
    """Whether a disk would go with an object."""
    return any(ref.uid == owner.uid for ref in meta.owner_references)


def requested(meta: Meta) -> int:
    """Bytes that the disk was created with; 0 when nobody says."""
    return _bytes(meta.annotation(REQUESTED))


def grown_to(meta: Meta) -> int:
    """Bytes that were declared when the disk last grew; 0 when it never did."""
    return _bytes(meta.annotation(SIZE))


def asked(volume: DataVolume) -> int:
    """Bytes that a DataVolume asks for, before CDI adds what a filesystem needs; 0 when it does not say."""
    wanted = volume.spec.storage or volume.spec.pvc
    return _bytes(wanted.resources.requests.storage) if wanted else 0


def claimed(claim: PersistentVolumeClaim) -> int:
    """Bytes that a claim requests; 0 when it does not say, or not in a form that we understand."""
    return _bytes(claim.spec.resources.requests.storage)


def _bytes(text: str | int) -> int:
    try:
        return min(quantity.whole(text), MOST)
    except ValueError:
        return 0


def _datastore(held: DataVolume | PersistentVolumeClaim) -> Iterable[str]:
    if (datastore := held.metadata.label(DATASTORE)) and is_named(held.metadata):
        yield datastore


def _growth(claim: PersistentVolumeClaim) -> int:
    counted = any(ref.kind == DataVolume.resource.kind for ref in claim.metadata.owner_references)
    return max(0, claimed(claim) - (requested(claim.metadata) if counted else 0))


CREATED: Index[Any] = Index(DataVolume, _datastore, asked)
"""DataVolumes by datastore; their amount is what they ask for, which cannot change."""
GROWN: Index[Any] = Index(PersistentVolumeClaim, _datastore, _growth)
"""Claims by datastore; their amount is what they request beyond that: growth, a filesystem's own needs, and everything
where no DataVolume is left."""


def provisioned(world: Snapshot, datastore: str) -> int:
    """Bytes that a datastore has promised to its disks."""
    return int(world.total(CREATED, datastore).amount + world.total(GROWN, datastore).amount)


def key(namespace: str, vm: str, disk: str) -> Key:
    """Where a disk's DataVolume and claim are."""
    return Key(namespace, name(vm, disk))
