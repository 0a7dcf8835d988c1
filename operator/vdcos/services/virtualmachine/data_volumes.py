"""DataVolumes and claims of disks: what a new one says, how one grows, and into whose hands it is given."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from vdcos import api
from vdcos.api import virtualmachine as words
from vdcos.core import disks, ownership, quantity
from vdcos.core.foreign.cdi import Cdi, DataVolume
from vdcos.core.foreign.kubernetes import ClaimResources, PersistentVolumeClaim, Storage
from vdcos.core.kinds import VIRTUAL_MACHINE
from vdcos.core.objects import Meta
from vdcos.core.plan import Create, Patch

Held = DataVolume | PersistentVolumeClaim

# A claim may be larger than its disk by what a filesystem needs. More than this was done by hand.
_LARGEST_OVERHEAD = 1.25


def create(owner: Meta, disk: words.Disk, datastore: api.Datastore, cdi: Cdi | None) -> Create:
    """A new disk."""
    size = quantity.whole(disk.size)
    metadata: dict[str, Any] = {
        "name": disks.name(owner.name, disk.name),
        "namespace": owner.namespace,
        "labels": disks.labels(owner.name, disk.name, disk.datastore),
        "annotations": {disks.REQUESTED: str(size)},
    }
    if disk.deletion_policy == "Delete":
        metadata["ownerReferences"] = [ownership.owner_reference(VIRTUAL_MACHINE, owner)]
    storage: dict[str, Any] = {
        "storageClassName": datastore.spec.storage_class_name,
        "resources": {"requests": {"storage": disk.size}},
    }
    if datastore.spec.volume_mode:
        storage["volumeMode"] = datastore.spec.volume_mode
    if datastore.spec.access_mode:
        storage["accessModes"] = [datastore.spec.access_mode]
    manifest = {
        "apiVersion": DataVolume.resource.api_version,
        "kind": DataVolume.resource.kind,
        "metadata": metadata,
        "spec": {"source": _source(owner.namespace, disk.source, cdi), "storage": storage},
    }
    return Create(DataVolume.resource, manifest, f"create disk {disk.name}")


def _source(namespace: str, source: words.DiskSource, cdi: Cdi | None) -> Mapping[str, Any]:
    if source.image is not None:
        return {"registry": {"url": f"docker://{source.image.reference}"} | _access(source.image)}
    if source.http is not None:
        http = {"url": source.http.url} | _access(source.http)
        if source.http.checksum and checks_sums(cdi):
            http["checksum"] = source.http.checksum
        return {"http": http}
    for kind, named in (("pvc", source.pvc), ("snapshot", source.snapshot)):
        if named is not None:
            return {kind: {"namespace": namespace, "name": named.name}}
    return {"blank": {}}


def _access(source: words.ImageSource | words.HttpSource) -> dict[str, str]:
    said = {"secretRef": source.secret_name, "certConfigMap": source.ca_config_map_name}
    return {field: name for field, name in said.items() if name}


def checks_sums(cdi: Cdi | None) -> bool:
    """Whether the installed CDI can check what it downloads. One that does not say its version counts as new."""
    return cdi is None or cdi.checks_sums


def claim_size(size: int, recorded: int, claimed: int) -> int:
    """What a claim must request so that a disk of ``size`` fits, when one of ``recorded`` bytes took ``claimed``."""
    overhead = claimed / recorded if recorded else 1.0
    return max(claimed, math.ceil(size * overhead) if 1.0 <= overhead <= _LARGEST_OVERHEAD else size)


def grow(disk: words.Disk, claim: PersistentVolumeClaim, target: int, unseen_by: str) -> Patch:
    """Let a claim request ``target`` bytes. ``unseen_by`` is the uid of the instance that will not notice, or ""."""
    marks = {disks.SIZE: str(quantity.whole(disk.size))}
    if unseen_by:
        marks[disks.GROWN_UNDER] = unseen_by
    known, request = claim.metadata.annotations, quantity.human(target)
    operations: list[Mapping[str, Any]] = [
        {"op": "replace", "path": "/spec/resources/requests/storage", "value": request}
    ]
    if known is None:
        operations += _absent("/metadata/annotations", {})
    operations += [
        {"op": "add", "path": f"/metadata/annotations/{mark.replace('/', '~1')}", "value": value}
        for mark, value in marks.items()
    ]
    assumed = msgspec.structs.replace(
        claim,
        metadata=msgspec.structs.replace(claim.metadata, annotations={**(known or {}), **marks}),
        spec=msgspec.structs.replace(claim.spec, resources=ClaimResources(Storage(request))),
    )
    why = f"grow disk {disk.name} to {disk.size}"
    return Patch(claim.resource, claim.metadata.key, claim.metadata.uid, tuple(operations), why, assumed=assumed)


def is_former(held: Meta, owner: Meta) -> bool:
    """Whether it belongs to an earlier VirtualMachine of ours, whose deletion takes it along."""
    return any(
        ref.kind == VIRTUAL_MACHINE.kind and ownership.is_ours(ref) and ref.uid != owner.uid
        for ref in held.owner_references
    )


def hand_over(held: Sequence[Held], owner: Meta, disk: words.Disk) -> tuple[Patch, ...]:
    """Let a disk go with its VM when the spec says Delete, and only then: its claim goes with its DataVolume."""
    if disk.deletion_policy == "Retain":
        return tuple(release(each, owner) for each in held if each.metadata.owned_by(owner.uid))
    first = held[0]
    if first.metadata.owned_by(owner.uid):
        return ()
    reference = ownership.owner_reference(VIRTUAL_MACHINE, owner)
    operations = _absent("/metadata/ownerReferences", [reference])
    if first.metadata.owner_references:
        operations = ({"op": "add", "path": "/metadata/ownerReferences/-", "value": reference},)
    return (_patch(first, operations, f"disk {disk.name} is to be deleted with the VM"),)


def release(held: Held, owner: Meta) -> Patch:
    """Take a disk out of its VM's hands, so that it outlives it."""
    index = next(i for i, ref in enumerate(held.metadata.owner_references) if ref.uid == owner.uid)
    at = f"/metadata/ownerReferences/{index}"
    operations = ({"op": "test", "path": f"{at}/uid", "value": owner.uid}, {"op": "remove", "path": at})
    return _patch(held, operations, f"disk {held.metadata.label(disks.DISK) or held.metadata.name} is to be retained")


def mark(held: Held, owner: Meta, disk: words.Disk, volume: DataVolume | None) -> Patch:
    """Make a disk ours that its KubeVirt VM has brought along."""
    marks = disks.labels(owner.name, disk.name, disk.datastore)
    notes = {disks.CLAIM: held.metadata.name}
    if volume is not None and (size := disks.asked(volume)):
        notes[disks.REQUESTED] = str(size)
    operations: list[Mapping[str, Any]] = []
    for place, known, added in (
        ("labels", held.metadata.labels, marks),
        ("annotations", held.metadata.annotations, notes),
    ):
        if known is None:
            operations += _absent(f"/metadata/{place}", {})
        operations += [
            {"op": "add", "path": f"/metadata/{place}/{name.replace('/', '~1')}", "value": value}
            for name, value in added.items()
        ]
    return _patch(held, operations, f"disk {disk.name} was taken over")


def _absent(path: str, value: Any) -> tuple[Mapping[str, Any], ...]:
    """Add what is not there, and replace nothing that somebody adds meanwhile: kube-apiserver takes null for absent."""
    return {"op": "test", "path": path, "value": None}, {"op": "add", "path": path, "value": value}


def _patch(held: Held, operations: Sequence[Mapping[str, Any]], why: str) -> Patch:
    return Patch(held.resource, held.metadata.key, held.metadata.uid, tuple(operations), why)
