"""Kubernetes' own kinds, as far as plans read them."""

from typing import ClassVar

import msgspec

from vdcos.core.objects import Object, Resource


class Namespace(Object, frozen=True):
    """Tenancy is decided by a namespace's name, labels and annotations."""

    resource: ClassVar[Resource] = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
    marks: ClassVar[tuple[str, ...]] = ("",)


class Storage(msgspec.Struct, frozen=True):
    """An amount of storage as a quantity; "" when it is not said. Custom resources may hold a plain number."""

    storage: str | int = ""


class ClaimResources(msgspec.Struct, frozen=True):
    requests: Storage = Storage()


class ClaimSpec(msgspec.Struct, frozen=True):
    resources: ClaimResources = ClaimResources()


class ClaimCondition(msgspec.Struct, frozen=True):
    type: str
    status: str
    message: str = ""


class ClaimStatus(msgspec.Struct, frozen=True):
    phase: str = ""
    capacity: Storage = Storage()
    conditions: tuple[ClaimCondition, ...] = ()


class PersistentVolumeClaim(Object, frozen=True):
    """All of them, not only ours: a claim of somebody else's under a name of ours must be seen to be left alone."""

    resource: ClassVar[Resource] = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()


class StorageClass(Object, frozen=True, rename="camel"):
    resource: ClassVar[Resource] = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False)
    provisioner: str = ""
    allow_volume_expansion: bool = False


class InvolvedObject(msgspec.Struct, frozen=True):
    uid: str = ""
    name: str = ""


class FailedMount(Object, frozen=True, rename="camel"):
    """An Event by which a kubelet says that it cannot mount a pod's volume, for example for want of a Secret."""

    resource: ClassVar[Resource] = Resource("", "v1", "events", "Event")
    field_selector: ClassVar[str] = "reason=FailedMount,involvedObject.kind=Pod"
    involved_object: InvolvedObject = InvolvedObject()
    message: str = ""


class NodeStatus(msgspec.Struct, frozen=True):
    allocatable: dict[str, str] = {}


class Node(Object, frozen=True):
    """A host."""

    resource: ClassVar[Resource] = Resource("", "v1", "nodes", "Node", namespaced=False)
    status: NodeStatus = NodeStatus()

    @property
    def offers(self) -> frozenset[str]:
        """The devices that it has for pods, by resource name: what device plugins and bridge agents advertise."""
        return frozenset(name for name, amount in self.status.allocatable.items() if "/" in name and amount != "0")
