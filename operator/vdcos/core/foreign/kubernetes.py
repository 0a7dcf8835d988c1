"""Kubernetes' own kinds, as far as plans read them."""

from typing import ClassVar

import msgspec

from vdcos.core.foreign.workloads import NodeSelector, PlacedWorkload, Workload
from vdcos.core.objects import MARKS, Meta, Object, Resource


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


MESSAGE_LIMIT = 1024
"""Characters of an Event's message that are kept; so many bytes events.k8s.io/v1 allows at all."""


class InvolvedObject(msgspec.Struct, frozen=True):
    uid: str = ""
    name: str = ""


class FailedMount(Object, frozen=True, rename="camel"):
    """An Event by which a kubelet says that it cannot mount a pod's volume, for example for want of a Secret."""

    resource: ClassVar[Resource] = Resource("", "v1", "events", "Event")
    field_selector: ClassVar[str] = "reason=FailedMount,involvedObject.kind=Pod"
    involved_object: InvolvedObject = InvolvedObject()
    message: str = ""

    def __post_init__(self) -> None:
        """Kubelets are brief; tenants can post Events, too, of a megabyte each."""
        super().__post_init__()
        msgspec.structs.force_setattr(self, "message", self.message[:MESSAGE_LIMIT])


class GuestPanic(Object, frozen=True, rename="camel"):
    """An Event by which KubeVirt says that a guest has reported a panic through its panic device."""

    resource: ClassVar[Resource] = Resource("", "v1", "events", "Event")
    partial: ClassVar[bool] = True
    field_selector: ClassVar[str] = "reason=GuestPanicked,involvedObject.kind=VirtualMachineInstance"
    involved_object: InvolvedObject = InvolvedObject()


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
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    def __post_init__(self) -> None:
        """Policies select hosts by labels that people choose; hundreds that KubeVirt says of the CPU are not kept."""
        labels = {k: v for k, v in (self.metadata.labels or {}).items() if ".node.kubevirt.io/" not in k}
        ours = msgspec.structs.replace(self.metadata.only(self.marks), labels=labels)
        msgspec.structs.force_setattr(self, "metadata", ours)

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


HEARTBEAT = "kubevirt.io/heartbeat"
"""Annotation of a Node that virt-handler renews about once a minute."""


class Heartbeat(Object, frozen=True):
    """A Node as far as virt-handler shows on it that it lives; by itself, so that it is known when that changed."""

    resource: ClassVar[Resource] = Node.resource
    partial: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Whatever else somebody writes to the Node (we cordon it) is no sign of life."""
        meta, beat = self.metadata, self.metadata.annotation(HEARTBEAT)
        alone = Meta(
            name=meta.name, uid=meta.uid, resource_version=meta.resource_version, annotations={HEARTBEAT: beat}
        )
        msgspec.structs.force_setattr(self, "metadata", alone)


class LeaseSpec(msgspec.Struct, frozen=True, rename="camel"):
    renew_time: str = ""


class Lease(Object, frozen=True):
    """What a kubelet renews as long as it lives and reaches the API server, every 10 s unless configured otherwise.

    All Leases, not only those of nodes: Kubernetes' own controllers renew theirs every two seconds, so that a source
    of Leases that works is never silent for long, even when all nodes are.
    """

    resource: ClassVar[Resource] = Resource("coordination.k8s.io", "v1", "leases", "Lease")
    spell: ClassVar[float] = 10.0
    spec: LeaseSpec = LeaseSpec()


NODE_LEASES = "kube-node-lease"
"""The namespace of nodes' Leases; a Lease has its node's name."""


ENDED = ("Succeeded", "Failed")
"""Phases of a pod that takes nothing of its node any more."""


class PodStatus(msgspec.Struct, frozen=True):
    phase: str = ""


def _is_of_vm(meta: Meta) -> bool:
    """Sources that select are not everywhere: whoever counts pods counts each once."""
    return meta.label("kubevirt.io") in ("virt-launcher", "hotplug-disk")


class LauncherPod(Object, frozen=True):
    """A pod in which a VM runs (virt-launcher), or by which a running VM gets a disk (hotplug-disk)."""

    resource: ClassVar[Resource] = Resource("", "v1", "pods", "Pod")
    label_selector: ClassVar[str] = "kubevirt.io in (virt-launcher,hotplug-disk)"
    marks: ClassVar[tuple[str, ...]] = (*MARKS, "kubevirt.io", "vm.kubevirt.io/name")
    spec: PlacedWorkload = PlacedWorkload()
    status: PodStatus = PodStatus()

    def __post_init__(self) -> None:
        """Rules of placement select pods by any label."""
        ours = msgspec.structs.replace(self.metadata.only(self.marks), labels=self.metadata.labels)
        msgspec.structs.force_setattr(self, "metadata", ours)

    @property
    def vm(self) -> str:
        """The name of the VM whose launcher it is."""
        return self.metadata.label("vm.kubevirt.io/name")

    @property
    def is_held(self) -> bool:
        """Whether it has ended, by force, and only somebody's finalizer keeps its name there."""
        meta = self.metadata
        return bool(meta.finalizers) and meta.deletion_timestamp is not None and not meta.deletion_grace_period_seconds

    @property
    def counts(self) -> bool:
        """Whether it takes anything of its node."""
        return bool(self.spec.node_name) and self.status.phase not in ENDED and _is_of_vm(self.metadata)


class OtherPod(Object, frozen=True):
    """A pod that is none of KubeVirt's for a VM: what it takes of its node is not to be had for VMs."""

    resource: ClassVar[Resource] = LauncherPod.resource
    label_selector: ClassVar[str] = "kubevirt.io notin (virt-launcher,hotplug-disk)"
    marks: ClassVar[tuple[str, ...]] = ("kubevirt.io",)
    partial: ClassVar[bool] = True
    spec: Workload = Workload()
    status: PodStatus = PodStatus()

    @property
    def counts(self) -> bool:
        """Whether it takes anything of its node, and is not counted as a VM's pod."""
        return bool(self.spec.node_name) and self.status.phase not in ENDED and not _is_of_vm(self.metadata)


class ClaimReference(msgspec.Struct, frozen=True):
    namespace: str = ""
    name: str = ""


class VolumeNodeAffinity(msgspec.Struct, frozen=True):
    required: NodeSelector | None = None


class VolumeSpec(msgspec.Struct, frozen=True, rename="camel"):
    claim_ref: ClaimReference | None = None
    node_affinity: VolumeNodeAffinity | None = None


class PersistentVolume(Object, frozen=True):
    """The volume behind a claim: from which nodes it can be reached, and nothing else."""

    resource: ClassVar[Resource] = Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
    packed: ClassVar[bool] = True
    spec: VolumeSpec = VolumeSpec()
