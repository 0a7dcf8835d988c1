"""What we read of the CSI snapshotter (snapshot.storage.k8s.io/v1)."""

from typing import ClassVar

from vdcos.core.objects import Object, Resource


class VolumeSnapshotClass(Object, frozen=True):
    """That a CSI driver can take snapshots, and how."""

    resource: ClassVar[Resource] = Resource(
        "snapshot.storage.k8s.io", "v1", "volumesnapshotclasses", "VolumeSnapshotClass", namespaced=False
    )
    driver: str = ""


class VolumeSnapshot(Object, frozen=True):
    """A snapshot that a disk can be made from."""

    resource: ClassVar[Resource] = Resource("snapshot.storage.k8s.io", "v1", "volumesnapshots", "VolumeSnapshot")
