"""KubeVirt (kubevirt.io, instancetype.kubevirt.io), as far as plans read it."""

from typing import ClassVar

import msgspec

from vdcos.core.objects import MARKS, Object, Resource


class Condition(msgspec.Struct, frozen=True, rename="camel"):
    type: str
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


def condition(conditions: tuple[Condition, ...], kind: str) -> Condition:
    """The condition of this type; one with an empty status when there is none."""
    return next((c for c in conditions if c.type == kind), Condition(kind))


UNBOUND = "unbound immediate PersistentVolumeClaims"


def finds_no_host(conditions: tuple[Condition, ...]) -> str:
    """What the scheduler says of an instance that no host fits, or "". Where a claim is not bound yet, it waits for
    storage and not for a host, and looks again."""
    said = condition(conditions, "PodScheduled")
    return said.message or "no host fits" if said.status == "False" and UNBOUND not in said.message else ""


def _keep(status: "VirtualMachineStatus | InstanceStatus", kinds: frozenset[str]) -> None:
    """Forget the conditions that no plan reads; KubeVirt's VMs repeat all those of their instance, for example."""
    kept = tuple(condition for condition in status.conditions if condition.type in kinds)
    msgspec.structs.force_setattr(status, "conditions", kept)


class _Specified(Object, frozen=True):
    """An object whose spec is kept as JSON, because it is compared as a whole and only now and then."""

    spec: msgspec.Raw = msgspec.Raw(b"{}")

    def __post_init__(self) -> None:
        super().__post_init__()
        # A Raw is a window on the whole message: without the copy, that would stay in memory (managedFields and all).
        msgspec.structs.force_setattr(self, "spec", self.spec.copy())


class StateChangeRequest(msgspec.Struct, frozen=True):
    """What somebody asked for by virtctl start, stop or restart, while KubeVirt has not done it yet."""

    action: str = ""


class StartFailure(msgspec.Struct, frozen=True, rename="camel"):
    consecutive_fail_count: int = 0


class VirtualMachineStatus(msgspec.Struct, frozen=True, rename="camel"):
    """What KubeVirt's controller has dealt with: whether there is an instance (``created``), the ``runStrategy`` (""
    until the VM runs for the first time), and the last generation while the VM ran (``desiredGeneration``)."""

    created: bool = False
    run_strategy: str = ""
    desired_generation: int = 0
    conditions: tuple[Condition, ...] = ()
    state_change_requests: tuple[StateChangeRequest, ...] = ()
    start_failure: StartFailure | None = None

    def __post_init__(self) -> None:
        _keep(self, _OF_VM)


_OF_VM = frozenset({"RestartRequired", "Failure"})


class VirtualMachine(_Specified, frozen=True):
    """KubeVirt's VM, the child of ours. All of them, not only ours, so that a namesake is seen and left alone."""

    resource: ClassVar[Resource] = Resource("kubevirt.io", "v1", "virtualmachines", "VirtualMachine")
    status: VirtualMachineStatus = VirtualMachineStatus()


class Interface(msgspec.Struct, frozen=True, rename="camel"):
    """A network card as KubeVirt found it; ``ipAddresses`` come from the pod network or the guest agent."""

    name: str = ""
    mac: str = ""
    ip_addresses: tuple[str, ...] = ()
    link_state: str = ""


class GuestOs(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    version: str = ""
    pretty_name: str = ""


class VolumeStatus(msgspec.Struct, frozen=True):
    name: str
    phase: str = ""


class MigrationState(msgspec.Struct, frozen=True, rename="camel"):
    """The last live migration; ``startTimestamp`` is when memory began to move, after the target pod had started."""

    start_timestamp: str = ""
    completed: bool = False
    failed: bool = False


class InstanceStatus(msgspec.Struct, frozen=True, rename="camel"):
    """``activePods`` maps the uid of each launcher pod to its node."""

    phase: str = ""
    node_name: str = ""
    conditions: tuple[Condition, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    volume_status: tuple[VolumeStatus, ...] = ()
    guest_os_info: GuestOs = msgspec.field(name="guestOSInfo", default=GuestOs())
    active_pods: dict[str, str] = {}
    migration_state: MigrationState | None = None

    def __post_init__(self) -> None:
        _keep(self, _OF_INSTANCE)


_OF_INSTANCE = frozenset(
    {
        "AgentConnected",
        "HotMemoryChange",
        "HotVCPUChange",
        "LiveMigratable",
        "MigrationRequired",
        "Paused",
        "PodScheduled",
        "Ready",
        "Synchronized",
    }
)


GENERATION = "kubevirt.io/vm-generation"
"""Annotation of an instance: the generation of its VM whose template it was made from."""


class VirtualMachineInstance(_Specified, frozen=True):
    """A VM that runs, or is about to, or has just stopped."""

    resource: ClassVar[Resource] = Resource("kubevirt.io", "v1", "virtualmachineinstances", "VirtualMachineInstance")
    marks: ClassVar[tuple[str, ...]] = (*MARKS, GENERATION)
    status: InstanceStatus = InstanceStatus()


class Selected(msgspec.Struct, frozen=True, rename="camel"):
    resource_name: str = ""


class PermittedHostDevices(msgspec.Struct, frozen=True, rename="camel"):
    pci_host_devices: tuple[Selected, ...] = ()
    mediated_devices: tuple[Selected, ...] = ()
    usb: tuple[Selected, ...] = ()


class DeveloperConfiguration(msgspec.Struct, frozen=True, rename="camel"):
    """``cpuAllocationRatio`` is how many virtual CPUs share one, ``memoryOvercommit`` percent of what is requested."""

    cpu_allocation_ratio: int = 10
    memory_overcommit: int = 100
    feature_gates: tuple[str, ...] = ()
    disabled_feature_gates: tuple[str, ...] = ()


class Migrations(msgspec.Struct, frozen=True):
    """How VMs migrate; ``network`` names a NetworkAttachmentDefinition in KubeVirt's own namespace."""

    network: str = ""


class Configuration(msgspec.Struct, frozen=True, rename="camel"):
    developer_configuration: DeveloperConfiguration = DeveloperConfiguration()
    migrations: Migrations = Migrations()
    vm_rollout_strategy: str = "LiveUpdate"
    additional_guest_memory_overhead_ratio: str = ""
    permitted_host_devices: PermittedHostDevices = PermittedHostDevices()


class WorkloadUpdateStrategy(msgspec.Struct, frozen=True, rename="camel"):
    workload_update_methods: tuple[str, ...] = ()


class KubeVirtSpec(msgspec.Struct, frozen=True, rename="camel"):
    configuration: Configuration = Configuration()
    workload_update_strategy: WorkloadUpdateStrategy = WorkloadUpdateStrategy()


class KubeVirtStatus(msgspec.Struct, frozen=True, rename="camel"):
    """``phase`` is Deployed once it is; the version is that of what runs, and empty before the first deployment."""

    phase: str = ""
    observed_kube_virt_version: str = ""


# Gates that need no listing any more, by the version of KubeVirt since which they are on.
_ON_SINCE = {"ExpandDisks": (1, 9), "DeclarativeHotplugVolumes": (1, 9)}


class KubeVirt(Object, frozen=True):
    """How KubeVirt is installed. There is one."""

    resource: ClassVar[Resource] = Resource("kubevirt.io", "v1", "kubevirts", "KubeVirt")
    spec: KubeVirtSpec = KubeVirtSpec()
    status: KubeVirtStatus = KubeVirtStatus()

    def gate(self, name: str) -> bool:
        """Whether a feature is on in the installed version."""
        developer = self.spec.configuration.developer_configuration
        if name in developer.disabled_feature_gates:
            return False
        since, version = _ON_SINCE.get(name), self.version
        on_by_default = since is not None and version is not None and version >= since
        return on_by_default or name in developer.feature_gates

    @property
    def version(self) -> tuple[int, int] | None:
        """Major and minor version of what runs; None when it is not said, or not in numbers."""
        major, _, rest = self.status.observed_kube_virt_version.removeprefix("v").partition(".")
        minor = rest.partition(".")[0]
        numbers = major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()
        return (int(major), int(minor)) if numbers else None

    @property
    def hotplugs_disks(self) -> bool:
        """Whether it plugs declared disks into VMs that run; the older gate HotplugVolumes takes precedence."""
        return self.gate("DeclarativeHotplugVolumes") and not self.gate("HotplugVolumes")

    @property
    def migrates_to_update(self) -> bool:
        """Whether it starts the live migrations that hot-added CPUs, memory and NICs need."""
        return "LiveMigrate" in self.spec.workload_update_strategy.workload_update_methods

    @property
    def permitted_devices(self) -> frozenset[str]:
        """Resource names of the host devices and GPUs that the administrator of KubeVirt permits."""
        permitted = self.spec.configuration.permitted_host_devices
        return frozenset(
            device.resource_name
            for device in (*permitted.pci_host_devices, *permitted.mediated_devices, *permitted.usb)
        )


_INSTANCETYPES = "instancetype.kubevirt.io"


class NamedDevice(msgspec.Struct, frozen=True, rename="camel"):
    """A GPU or host device; ``deviceName`` is what the hosts' device plugin calls it."""

    device_name: str = ""


class ImposedCpu(msgspec.Struct, frozen=True):
    guest: int = 1


class ImposedMemory(msgspec.Struct, frozen=True):
    guest: str | int = "0"


class Imposed(msgspec.Struct, frozen=True, rename="camel"):
    """What an instance type brings along, or a preference: how large the VM is, and what somebody has to permit."""

    cpu: ImposedCpu = ImposedCpu()
    memory: ImposedMemory = ImposedMemory()
    gpus: tuple[NamedDevice, ...] = ()
    host_devices: tuple[NamedDevice, ...] = ()
    scheduler_name: str = ""
    annotations: dict[str, str] = {}


class ClusterInstancetype(Object, frozen=True):
    resource: ClassVar[Resource] = Resource(
        _INSTANCETYPES,
        "v1beta1",
        "virtualmachineclusterinstancetypes",
        "VirtualMachineClusterInstancetype",
        namespaced=False,
    )
    spec: Imposed = Imposed()


class Instancetype(Object, frozen=True):
    resource: ClassVar[Resource] = Resource(
        _INSTANCETYPES, "v1beta1", "virtualmachineinstancetypes", "VirtualMachineInstancetype"
    )
    spec: Imposed = Imposed()


class ClusterPreference(Object, frozen=True):
    resource: ClassVar[Resource] = Resource(
        _INSTANCETYPES,
        "v1beta1",
        "virtualmachineclusterpreferences",
        "VirtualMachineClusterPreference",
        namespaced=False,
    )
    spec: Imposed = Imposed()


class Preference(Object, frozen=True):
    resource: ClassVar[Resource] = Resource(
        _INSTANCETYPES, "v1beta1", "virtualmachinepreferences", "VirtualMachinePreference"
    )
    spec: Imposed = Imposed()


class MigrationSpec(msgspec.Struct, frozen=True, rename="camel"):
    vmi_name: str = ""


class MigrationStatus(msgspec.Struct, frozen=True, rename="camel"):
    phase: str = ""


class Migration(Object, frozen=True):
    """A live migration. While one is under way, KubeVirt makes no other pod for its instance."""

    resource: ClassVar[Resource] = Resource(
        "kubevirt.io", "v1", "virtualmachineinstancemigrations", "VirtualMachineInstanceMigration"
    )
    spec: MigrationSpec = MigrationSpec()
    status: MigrationStatus = MigrationStatus()
