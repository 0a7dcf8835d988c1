"""The kinds that hosts read and write: where they are served, and as what they are seen."""

from dataclasses import dataclass

from vdcos.testing.hypervisor import objects
from vdcos.testing.hypervisor.values import Ref


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource of the API server. `view` is None for what is only written."""

    resource: str
    prefix: str
    namespaced: bool
    view: type[objects.Object] | None = None
    metadata_only: bool = False


_CORE, _STORAGE, _SNAPSHOT = "/api/v1", "/apis/storage.k8s.io/v1", "/apis/snapshot.storage.k8s.io/v1"

KINDS = {
    kind.resource: kind
    for kind in (
        Kind("pods", _CORE, True, objects.Pod),
        Kind("virtualmachineinstances", "/apis/kubevirt.io/v1", True, objects.Vmi),
        Kind("persistentvolumeclaims", _CORE, True, objects.Claim),
        Kind("persistentvolumes", _CORE, False, objects.PersistentVolume),
        Kind("storageclasses", _STORAGE, False, objects.StorageClass),
        Kind("volumesnapshots", _SNAPSHOT, True, objects.Snapshot),
        Kind("volumesnapshotcontents", _SNAPSHOT, False, objects.Content),
        Kind("volumesnapshotclasses", _SNAPSHOT, False, objects.SnapshotClass),
        Kind("network-attachment-definitions", "/apis/k8s.cni.cncf.io/v1", True, objects.AttachmentDefinition, True),
        Kind("secrets", _CORE, True, objects.Secret, True),
        Kind("configmaps", _CORE, True, objects.ConfigMap, True),
        Kind("nodes", _CORE, False),
        Kind("csinodes", _STORAGE, False),
        Kind("leases", "/apis/coordination.k8s.io/v1", True),
        Kind("events", _CORE, True),
    )
}
WATCHED = tuple(kind for kind in KINDS.values() if kind.view is not None)


def path(ref: Ref, subresource: str = "", *, collection: bool = False) -> str:
    """The path of an object, or of the collection it is created in."""
    kind = KINDS[ref.resource]
    namespace = f"/namespaces/{ref.namespace}" if kind.namespaced else ""
    base = f"{kind.prefix}{namespace}/{kind.resource}"
    if collection:
        return base
    return f"{base}/{ref.name}/{subresource}" if subresource else f"{base}/{ref.name}"
