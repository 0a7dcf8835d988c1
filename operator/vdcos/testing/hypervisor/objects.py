"""What a host sees of the API server: slim, immutable views, decoded straight from JSON.

Only the fields that a decision reads are declared; everything else in an object is skipped while decoding. Lists that
are written back whole (conditions, interfaces, volumeStatus) stay raw, because a JSON-patch `test` compares them with
what Go marshalled, nulls included. Nothing here is ever mutated.
"""

from typing import Any

import msgspec

Json = dict[str, Any]


class View(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of all views: immutable, camelCase on the wire, unknown fields ignored."""


class Owner(View, frozen=True):
    kind: str = ""
    name: str = ""
    uid: str = ""


class Meta(View, frozen=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[Owner] = []
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None


class Object(View, frozen=True):
    """Any object, when only its existence matters (Secrets and ConfigMaps are read as metadata only)."""

    metadata: Meta

    @property
    def key(self) -> str:
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def uid(self) -> str:
        return self.metadata.uid

    @property
    def deleting(self) -> bool:
        return self.metadata.deletion_timestamp is not None


# --- Pods -------------------------------------------------------------------------------------------------------------


class EnvVar(View, frozen=True):
    name: str
    value: str = ""


class Container(View, frozen=True):
    name: str
    image: str = ""
    restart_policy: str = ""
    env: list[EnvVar] = []


class NamedSource(View, frozen=True):
    """A Secret, ConfigMap or PersistentVolumeClaim that a pod mounts."""

    secret_name: str = ""
    name: str = ""
    claim_name: str = ""
    optional: bool = False


class PodVolume(View, frozen=True):
    name: str
    secret: NamedSource | None = None
    config_map: NamedSource | None = None
    persistent_volume_claim: NamedSource | None = None


class ReadinessGate(View, frozen=True):
    condition_type: str


class PodSpec(View, frozen=True):
    node_name: str = ""
    containers: list[Container] = []
    init_containers: list[Container] = []
    readiness_gates: list[ReadinessGate] = []
    volumes: list[PodVolume] = []
    restart_policy: str = "Always"
    termination_grace_period_seconds: int = 30
    host_network: bool = False


class PodStatus(View, frozen=True):
    phase: str = "Pending"
    conditions: list[Json] = []
    container_statuses: list[Json] = []
    start_time: str | None = None
    pod_ip: str = msgspec.field(name="podIP", default="")


LAUNCHER = "virt-launcher"
HANDLER = "virt-handler"


class Pod(Object, frozen=True):
    spec: PodSpec
    status: PodStatus = PodStatus()

    @property
    def role(self) -> str:
        """KubeVirt's role label: `virt-launcher`, `virt-handler`, `hotplug-disk` or nothing."""
        return self.metadata.labels.get("kubevirt.io", "")

    @property
    def vmi(self) -> str:
        """The uid of the VMI whose launcher this is, or nothing."""
        return self.metadata.labels.get("kubevirt.io/created-by", "") if self.role == LAUNCHER else ""

    @property
    def migration(self) -> str:
        """The uid of the migration for which this launcher is the target, or nothing."""
        return self.metadata.labels.get("kubevirt.io/migrationJobUID", "")

    @property
    def finished(self) -> bool:
        return self.status.phase in ("Succeeded", "Failed")

    def condition(self, kind: str) -> Json | None:
        return next((c for c in self.status.conditions if c["type"] == kind), None)

    def claims(self) -> list[str]:
        return [v.persistent_volume_claim.claim_name for v in self.spec.volumes if v.persistent_volume_claim]

    def mounts(self) -> list[tuple[str, str]]:
        """The Secrets and ConfigMaps without which the pod cannot start, as (kind, name)."""
        found = []
        for volume in self.spec.volumes:
            if volume.secret and not volume.secret.optional:
                found.append(("secret", volume.secret.secret_name))
            if volume.config_map and not volume.config_map.optional:
                found.append(("configmap", volume.config_map.name))
        return found


# --- VirtualMachineInstances ------------------------------------------------------------------------------------------


class ClaimSource(View, frozen=True):
    claim_name: str = ""
    name: str = ""
    hotpluggable: bool = False


class HostDisk(View, frozen=True):
    shared: bool = False


class Volume(View, frozen=True):
    name: str
    persistent_volume_claim: ClaimSource | None = None
    data_volume: ClaimSource | None = None
    host_disk: HostDisk | None = None
    container_disk: Json | None = None
    cloud_init_no_cloud: Json | None = None
    cloud_init_config_drive: Json | None = None
    sysprep: Json | None = None

    @property
    def claim(self) -> str:
        """The PersistentVolumeClaim behind the volume, or nothing."""
        if self.persistent_volume_claim:
            return self.persistent_volume_claim.claim_name
        return self.data_volume.name if self.data_volume else ""


class Disk(View, frozen=True):
    name: str
    disk: Json | None = None
    lun: Json | None = None
    cdrom: Json | None = None

    @property
    def bus(self) -> str:
        target = self.disk or self.lun or self.cdrom or {}
        return str(target.get("bus") or "virtio")

    @property
    def read_only_cdrom(self) -> bool:
        return self.cdrom is not None and self.cdrom.get("readonly") is not False


class Interface(View, frozen=True):
    name: str
    mac_address: str = ""
    model: str = ""
    state: str = ""
    masquerade: Json | None = None
    passt_binding: Json | None = None
    bridge: Json | None = None
    sriov: Json | None = None
    binding: Json | None = None


class Network(View, frozen=True):
    name: str
    pod: Json | None = None
    multus: Json | None = None


class Devices(View, frozen=True):
    disks: list[Disk] = []
    interfaces: list[Interface] = []
    filesystems: list[Json] = []
    host_devices: list[Json] = []
    gpus: list[Json] = []


class Cpu(View, frozen=True):
    sockets: int = 1
    cores: int = 1
    threads: int = 1
    model: str = ""


class Memory(View, frozen=True):
    guest: str | int | None = None


class Machine(View, frozen=True):
    type: str = ""


class KernelBoot(View, frozen=True):
    container: Json = {}


class Firmware(View, frozen=True):
    kernel_boot: KernelBoot | None = None


class Domain(View, frozen=True):
    devices: Devices = Devices()
    cpu: Cpu = Cpu()
    memory: Memory = Memory()
    machine: Machine = Machine()
    features: Json = {}
    firmware: Firmware = Firmware()
    launch_security: Json | None = None


class VmiSpec(View, frozen=True):
    domain: Domain = Domain()
    volumes: list[Volume] = []
    networks: list[Network] = []
    termination_grace_period_seconds: int | None = None
    start_strategy: str = ""


class VmiStatus(View, frozen=True):
    phase: str = ""
    node_name: str = ""
    conditions: list[Json] | None = None
    interfaces: list[Json] | None = None
    volume_status: list[Json] | None = None
    phase_transition_timestamps: list[Json] | None = None
    migration_state: Json | None = None
    migrated_volumes: list[Json] | None = None
    migration_method: str = ""
    selinux_context: str = ""
    evacuation_node_name: str = ""
    launcher_container_image_version: str = ""
    machine: Json | None = None
    memory: Json | None = None
    fs_freeze_status: str = ""
    kernel_boot_status: Json | None = None
    guest_os_info: Json = msgspec.field(name="guestOSInfo", default_factory=dict)
    current_cpu_topology: Json | None = msgspec.field(name="currentCPUTopology", default=None)


class Vmi(Object, frozen=True):
    spec: VmiSpec
    status: VmiStatus = VmiStatus()

    @property
    def final(self) -> bool:
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def vm(self) -> str:
        """The uid of the VirtualMachine that owns it, or nothing."""
        return next((o.uid for o in self.metadata.owner_references if o.kind == "VirtualMachine"), "")

    def condition(self, kind: str) -> Json | None:
        return next((c for c in self.status.conditions or [] if c["type"] == kind), None)

    def claims(self) -> list[str]:
        return [v.claim for v in self.spec.volumes if v.claim]


# --- Storage ----------------------------------------------------------------------------------------------------------


class Resources(View, frozen=True):
    requests: dict[str, str | int] = {}


class DataSource(View, frozen=True):
    kind: str = ""
    name: str = ""
    namespace: str | None = None


class ClaimSpec(View, frozen=True):
    storage_class_name: str = ""
    volume_name: str = ""
    volume_mode: str = "Filesystem"
    access_modes: list[str] = []
    resources: Resources = Resources()
    data_source_ref: DataSource | None = None


class ClaimStatus(View, frozen=True):
    phase: str = ""
    capacity: dict[str, str | int] = {}
    conditions: list[Json] = []


class Claim(Object, frozen=True):
    """A PersistentVolumeClaim."""

    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()

    @property
    def bound(self) -> bool:
        return self.status.phase == "Bound"


class Reference(View, frozen=True):
    namespace: str = ""
    name: str = ""
    uid: str = ""


class CsiSource(View, frozen=True):
    driver: str = ""


class PersistentVolumeSpec(View, frozen=True):
    storage_class_name: str = ""
    capacity: dict[str, str | int] = {}
    claim_ref: Reference | None = None
    csi: CsiSource | None = None
    persistent_volume_reclaim_policy: str = "Delete"


class PersistentVolumeStatus(View, frozen=True):
    phase: str = ""


class PersistentVolume(Object, frozen=True):
    spec: PersistentVolumeSpec = PersistentVolumeSpec()
    status: PersistentVolumeStatus = PersistentVolumeStatus()


class StorageClass(Object, frozen=True):
    provisioner: str = ""
    parameters: dict[str, str] = {}
    reclaim_policy: str = "Delete"
    volume_binding_mode: str = "Immediate"


class SnapshotSource(View, frozen=True):
    persistent_volume_claim_name: str = ""
    volume_snapshot_content_name: str = ""


class SnapshotSpec(View, frozen=True):
    source: SnapshotSource = SnapshotSource()
    volume_snapshot_class_name: str = ""


class SnapshotStatus(View, frozen=True):
    ready_to_use: bool = False
    bound_volume_snapshot_content_name: str = ""
    restore_size: str | int | None = None


class Snapshot(Object, frozen=True):
    """A VolumeSnapshot."""

    spec: SnapshotSpec = SnapshotSpec()
    status: SnapshotStatus | None = None


class ContentSpec(View, frozen=True):
    driver: str = ""
    deletion_policy: str = "Delete"
    volume_snapshot_ref: Reference = Reference()


class ContentStatus(View, frozen=True):
    ready_to_use: bool = False
    restore_size: int | None = None


class Content(Object, frozen=True):
    """A VolumeSnapshotContent."""

    spec: ContentSpec = ContentSpec()
    status: ContentStatus | None = None


class SnapshotClass(Object, frozen=True):
    driver: str = ""
    deletion_policy: str = "Delete"


class AttachmentDefinition(Object, frozen=True):
    """A NetworkAttachmentDefinition."""


class Secret(Object, frozen=True):
    """Only that it exists: nobody here reads what is in it."""


class ConfigMap(Object, frozen=True):
    """Only that it exists."""
