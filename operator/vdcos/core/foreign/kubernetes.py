"""Kubernetes' own kinds, as far as plans read them."""

from typing import ClassVar

import msgspec

from vdcos.core.objects import MARKS, Object, Resource


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


class Taint(msgspec.Struct, frozen=True, rename="camel"):
    key: str = ""
    value: str = ""
    effect: str = ""


class NodeSpec(msgspec.Struct, frozen=True, rename="camel"):
    """``providerID`` is what a cloud calls the machine."""

    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()
    provider_id: str = msgspec.field(name="providerID", default="")


class NodeCondition(msgspec.Struct, frozen=True):
    type: str
    status: str = ""


class NodeInfo(msgspec.Struct, frozen=True):
    """``bootID`` is another after each boot, ``systemUUID`` tells the machine, by its firmware."""

    boot_id: str = msgspec.field(name="bootID", default="")
    system_uuid: str = msgspec.field(name="systemUUID", default="")


class NodeAddress(msgspec.Struct, frozen=True):
    type: str = ""
    address: str = ""


class DaemonEndpoint(msgspec.Struct, frozen=True):
    port: int = msgspec.field(name="Port", default=0)


class DaemonEndpoints(msgspec.Struct, frozen=True, rename="camel"):
    kubelet_endpoint: DaemonEndpoint = DaemonEndpoint()


class NodeStatus(msgspec.Struct, frozen=True, rename="camel"):
    allocatable: dict[str, str] = {}
    conditions: tuple[NodeCondition, ...] = ()
    node_info: NodeInfo = NodeInfo()
    addresses: tuple[NodeAddress, ...] = ()
    daemon_endpoints: DaemonEndpoints = DaemonEndpoints()

    def __post_init__(self) -> None:
        ready = tuple(condition for condition in self.conditions if condition.type == "Ready")
        msgspec.structs.force_setattr(self, "conditions", ready)


class Node(Object, frozen=True):
    """A host. Its kubelet writes it every few minutes, virt-handler about once a minute."""

    resource: ClassVar[Resource] = Resource("", "v1", "nodes", "Node", namespaced=False)
    marks: ClassVar[tuple[str, ...]] = (*MARKS, "kubevirt.io/schedulable", "kubernetes.io/", "topology.", "node-role.")
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def offers(self) -> frozenset[str]:
        """The devices that it has for pods, by resource name: what device plugins and bridge agents advertise."""
        return frozenset(name for name, amount in self.status.allocatable.items() if "/" in name and amount != "0")

    @property
    def ready(self) -> str:
        """Its condition Ready: True, False, Unknown, or "" when nobody has said yet."""
        return next((condition.status for condition in self.status.conditions), "")

    @property
    def address(self) -> str:
        """Where its kubelet is reached; "" when it does not say."""
        by_type = {address.type: address.address for address in self.status.addresses}
        return by_type.get("InternalIP") or by_type.get("Hostname") or ""


class LeaseSpec(msgspec.Struct, frozen=True, rename="camel"):
    renew_time: str = ""


class NodeLease(Object, frozen=True):
    """What a kubelet renews as long as it lives and reaches the API server, every 10 s unless configured otherwise."""

    resource: ClassVar[Resource] = Resource("coordination.k8s.io", "v1", "leases", "Lease")
    field_selector: ClassVar[str] = "metadata.namespace=kube-node-lease"
    spec: LeaseSpec = LeaseSpec()


NODE_LEASES = "kube-node-lease"
"""The namespace of nodes' Leases; a Lease has its node's name."""


class PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    node_name: str = ""


class PodStatus(msgspec.Struct, frozen=True):
    phase: str = ""


class LauncherPod(Object, frozen=True):
    """A pod in which a VM runs (virt-launcher), or by which a running VM gets a disk (hotplug-disk)."""

    resource: ClassVar[Resource] = Resource("", "v1", "pods", "Pod")
    label_selector: ClassVar[str] = "kubevirt.io in (virt-launcher,hotplug-disk)"
    marks: ClassVar[tuple[str, ...]] = (*MARKS, "kubevirt.io", "vm.kubevirt.io/name")
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()
