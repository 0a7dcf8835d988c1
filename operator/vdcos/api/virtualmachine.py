"""VirtualMachine: what a person declares about a VM, and what they are told about it."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, model_validator

from vdcos.api import overrides
from vdcos.api.availability import Dependency, GuestWatch, MonitoringOverride, ReadyWhenOverride, RestartPriority
from vdcos.api.meta import (
    Amounts,
    CpuAmount,
    DiskSize,
    DnsLabel,
    LabelMap,
    LabelName,
    LabelValue,
    MemorySize,
    ObjectMeta,
    ObjectName,
    ResourceName,
    Status,
)
from vdcos.api.schema import (
    AGE,
    ATOMIC,
    SET,
    Column,
    Definition,
    Extra,
    ListMap,
    Model,
    Must,
    OneOf,
    Rule,
    condition_column,
)

PowerState = Literal["PoweredOn", "PoweredOff"]


class Cpu(Model):
    """Virtual CPUs: sockets x cores x threads."""

    sockets: Annotated[int, Field(ge=1, le=512)] = 1
    """Sockets; these can grow while the VM runs."""
    cores: Annotated[int, Field(ge=1, le=512)] = 1
    """Cores per socket."""
    threads: Annotated[int, Field(ge=1, le=8)] = 1
    """Threads per core."""
    model: (
        Annotated[
            str,
            Field(max_length=64, pattern="^[A-Za-z0-9][-A-Za-z0-9_.]*$"),
            Must("must be a CPU model such as host-model, host-passthrough or Skylake-Server"),
        ]
        | None
    ) = None
    """CPU model that the guest sees; the cluster's default when left out."""
    dedicated: bool = False
    """Pin each virtual CPU to a physical one of its own."""

    rules = (
        Rule("self.sockets * self.cores * self.threads <= 512", "sockets x cores x threads may be at most 512"),
        Rule("!self.dedicated || self.threads <= 2", "dedicated CPUs have at most two threads per core", ".threads"),
    )

    @property
    def count(self) -> int:
        """Virtual CPUs in all."""
        return self.sockets * self.cores * self.threads


class Memory(Model):
    """Guest memory."""

    size: MemorySize
    """Memory that the guest sees; it can grow while the VM runs."""
    hugepages: Literal["2Mi", "1Gi"] | None = None
    """Back the memory with huge pages of this size."""

    rules = (
        Rule(
            "!has(self.hugepages) || !isQuantity(self.size)"
            " || quantity(self.size).asInteger() % quantity(self.hugepages).asInteger() == 0",
            "memory must be a multiple of the huge page size",
            ".size",
        ),
    )


class Instancetype(Model):
    """A KubeVirt instance type: CPU and memory by name."""

    name: ObjectName
    """Its name."""
    kind: Literal["VirtualMachineClusterInstancetype", "VirtualMachineInstancetype"] = (
        "VirtualMachineClusterInstancetype"
    )
    """Cluster-wide, or of the VM's namespace."""


class Preference(Model):
    """A KubeVirt preference: defaults for a guest operating system by name."""

    name: ObjectName
    """Its name."""
    kind: Literal["VirtualMachineClusterPreference", "VirtualMachinePreference"] = "VirtualMachineClusterPreference"
    """Cluster-wide, or of the VM's namespace."""


class Reservations(Model):
    """What a host must have free for this VM, whatever others do. Left out: KubeVirt's overcommit rules."""

    cpu: CpuAmount | None = None
    """Guaranteed CPU, at most the number of virtual CPUs."""
    memory: MemorySize | None = None
    """Guaranteed memory, at most the guest's memory."""


class Blank(Model):
    """An empty disk."""


class ImageSource(Model):
    """A disk image in a container registry, imported once: the disk is an ordinary persistent one."""

    reference: Annotated[
        str,
        Field(
            max_length=512,
            pattern="^[a-z0-9][-a-zA-Z0-9_.]*(:[0-9]{1,5})?(/[a-zA-Z0-9][-a-zA-Z0-9_.]*)*"
            "(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(@sha256:[a-f0-9]{64})?$",
        ),
        Must("must be a container image such as quay.io/containerdisks/fedora:40, without a scheme"),
    ]
    """The image, by tag or digest."""
    secret_name: ObjectName | None = None
    """Secret of the VM's namespace with `accessKeyId` and `secretKey` for the registry."""
    ca_config_map_name: ObjectName | None = None
    """ConfigMap of the VM's namespace with the registry's certificate authority."""


_URL = "^https?://([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|\\[[0-9a-fA-F:.]+\\])(:[0-9]{1,5})?(/[!-~]*)?$"


class HttpSource(Model):
    """A disk image behind a URL: raw, qcow2 or ISO, also compressed."""

    url: Annotated[
        str,
        Field(max_length=2048, pattern=_URL),
        Must("must be an http:// or https:// URL without credentials (those go into a Secret)", "isURL(self)"),
    ]
    """Where the image is."""
    checksum: (
        Annotated[
            str,
            Field(
                max_length=135,
                pattern="^(md5:[0-9a-f]{32}|sha1:[0-9a-f]{40}|sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$",
            ),
            Must("must be md5:, sha1:, sha256: or sha512: and the checksum in lower-case hexadecimal"),
        ]
        | None
    ) = None
    """Checksum of the file, verified where the installed CDI can."""
    secret_name: ObjectName | None = None
    """Secret of the VM's namespace with `accessKeyId` (user) and `secretKey` (password)."""
    ca_config_map_name: ObjectName | None = None
    """ConfigMap of the VM's namespace with the server's certificate authority."""


class NamedSource(Model):
    """An object of the VM's namespace."""

    name: ObjectName
    """Its name."""


class DiskSource(OneOf):
    """What is on a new disk. Exactly one field is set."""

    blank: Blank | None = None
    """Nothing: an empty disk."""
    image: ImageSource | None = None
    """A disk image from a container registry."""
    http: HttpSource | None = None
    """A disk image from a web server."""
    pvc: NamedSource | None = None
    """A copy of a PersistentVolumeClaim of the same namespace."""
    snapshot: NamedSource | None = None
    """A copy of a VolumeSnapshot of the same namespace."""

    choices = ("blank", "image", "http", "pvc", "snapshot")


class Disk(Model):
    """A disk. It outlives the VM unless its deletion policy says otherwise."""

    name: DnsLabel
    """Its name within the VM; a VM of the same name that declares it again gets the retained disk back."""
    size: Annotated[
        DiskSize,
        Rule(
            "!isQuantity(self) || !isQuantity(oldSelf) || quantity(self).compareTo(quantity(oldSelf)) >= 0",
            "a disk can grow but not shrink",
            reason="FieldValueForbidden",
        ),
    ]
    """Its size; it can grow, never shrink."""
    datastore: Annotated[
        DnsLabel,
        Rule(
            "self == oldSelf",
            "a disk cannot move to another datastore; to correct a mistake, remove the disk and then add it again",
            reason="FieldValueForbidden",
        ),
    ]
    """The Datastore it lives on."""
    bus: Literal["virtio", "scsi", "sata", "usb"] = "virtio"
    """How the guest sees it."""
    boot_order: Annotated[int, Field(ge=1, le=64)] | None = None
    """Its place in the boot order, lowest first."""
    source: Annotated[
        DiskSource,
        Rule(
            "self == oldSelf",
            "the source fills a new disk once and cannot change; add a disk of another name instead",
            reason="FieldValueForbidden",
        ),
    ] = DiskSource(blank=Blank())
    """What is on it when it is new; ignored when a retained disk is found."""
    claim_name: ObjectName | None = None
    """The PersistentVolumeClaim that is this disk, where KubeVirt ran the VM before. It is taken over together with the
    KubeVirt VM that uses it. When left out, the disk is made, under a name of its own.
    """
    deletion_policy: Literal["Retain", "Delete"] = "Retain"
    """What happens to the disk when the VM is deleted. A disk that is removed from this list is always kept."""

    rules = (
        Rule(
            "!has(self.claimName) || has(self.source.blank)",
            "the claim of claimName is there, and is not filled: leave out the source",
            ".source",
        ),
        Rule(
            "has(self.claimName) == has(oldSelf.claimName)"
            " && (!has(self.claimName) || self.claimName == oldSelf.claimName)",
            "a disk cannot become another claim; remove the disk, and add one of another name",
            ".claimName",
            "FieldValueForbidden",
        ),
        Rule(
            "!self.name.startsWith('vdcos-')",
            "names that begin with vdcos- are reserved",
            ".name",
            "FieldValueForbidden",
        ),
    )


class Nic(Model):
    """A network card."""

    name: DnsLabel
    """Its name within the VM."""
    network: DnsLabel
    """The Network it is connected to."""
    model: Literal["virtio", "e1000", "e1000e", "igb", "ne2k_pci", "pcnet", "rtl8139"] = "virtio"
    """The card that the guest sees."""
    mac_address: (
        Annotated[
            str,
            Field(max_length=17, pattern="^[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}$"),
            Must("must be a unicast MAC address such as 02:00:00:12:34:56", "self != '00:00:00:00:00:00'"),
        ]
        | None
    ) = None
    """Its address; when left out, one that stays the same for this VM and NIC is derived from their names."""
    link_state: Literal["Up", "Down"] = "Up"
    """Down pulls the virtual cable."""


_FITS_INLINE = Must("inline data has 1 to 2048 bytes; put more into a Secret", "bytes(self).size() <= 2048")
"""KubeVirt's limit for what is written into the VM."""


class CloudInit(Model):
    """Data for cloud-init in the guest."""

    type: Literal["NoCloud", "ConfigDrive"] = "NoCloud"
    """The data source that the guest expects."""
    user_data: Annotated[str, Field(min_length=1, max_length=2048), _FITS_INLINE] | None = None
    """User data, at most 2,048 bytes."""
    user_data_secret_name: ObjectName | None = None
    """Secret of the VM's namespace with the user data under `userdata`."""
    network_data: Annotated[str, Field(min_length=1, max_length=2048), _FITS_INLINE] | None = None
    """Network data, at most 2,048 bytes."""
    network_data_secret_name: ObjectName | None = None
    """Secret of the VM's namespace with the network data under `networkdata`."""

    rules = (
        Rule(
            "!(has(self.userData) && has(self.userDataSecretName))",
            "user data comes inline (userData) or from a Secret, not both",
            ".userDataSecretName",
        ),
        Rule(
            "!(has(self.networkData) && has(self.networkDataSecretName))",
            "network data comes inline (networkData) or from a Secret, not both",
            ".networkDataSecretName",
        ),
        Rule(
            "has(self.userData) || has(self.userDataSecretName)"
            " || has(self.networkData) || has(self.networkDataSecretName)",
            "give user data or network data",
            reason="FieldValueRequired",
        ),
    )


class Sysprep(OneOf):
    """An answer file for Windows."""

    secret_name: ObjectName | None = None
    """Secret of the VM's namespace with `autounattend.xml` or `unattend.xml`."""
    config_map_name: ObjectName | None = None
    """ConfigMap of the VM's namespace with `autounattend.xml` or `unattend.xml`."""

    choices = ("secret_name", "config_map_name")


class Guest(Model):
    """Customisation of the guest at its first start."""

    hostname: DnsLabel | None = None
    """Host name; the VM's name when left out."""
    cloud_init: CloudInit | None = None
    """For Linux and others with cloud-init."""
    sysprep: Sysprep | None = None
    """For Windows."""
    ssh_authorized_keys: Annotated[
        tuple[
            Annotated[
                str,
                Field(
                    max_length=1024,
                    pattern="^(ssh-(rsa|ed25519)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\\.com)"
                    " [A-Za-z0-9+/]+=*( [ -~]*)?$",
                ),
                Must("must be a public SSH key, such as ssh-ed25519 AAAA... somebody@example.org"),
            ],
            ...,
        ],
        Field(max_length=8),
        SET,
        Rule(
            "self.map(k, k.size()).sum() <= 1536",
            "inline keys may have at most 1536 characters in all; put more into Secrets",
        ),
    ] = ()
    """Public keys of the default user, through cloud-init."""
    ssh_key_secret_names: Annotated[tuple[ObjectName, ...], Field(max_length=8), SET] = ()
    """Secrets of the VM's namespace whose values are public keys of the default user."""

    rules = (
        Rule("!(has(self.cloudInit) && has(self.sysprep))", "use cloudInit or sysprep, not both", ".sysprep"),
        Rule(
            "!has(self.sshAuthorizedKeys) || self.sshAuthorizedKeys.size() == 0 || !has(self.cloudInit)"
            " || !(has(self.cloudInit.userData) || has(self.cloudInit.userDataSecretName))",
            "where cloudInit has user data (userData, userDataSecretName), keys belong in there",
            ".sshAuthorizedKeys",
        ),
        Rule(
            "!has(self.sysprep) || ((!has(self.sshAuthorizedKeys) || self.sshAuthorizedKeys.size() == 0)"
            " && (!has(self.sshKeySecretNames) || self.sshKeySecretNames.size() == 0))",
            "sshAuthorizedKeys and sshKeySecretNames go through cloud-init, which sysprep excludes",
            ".sysprep",
        ),
    )


class Firmware(Model):
    """Firmware and identity. What is left out follows the preference, else KubeVirt's defaults."""

    bootloader: Literal["BIOS", "UEFI"] | None = None
    """How the guest boots."""
    secure_boot: bool = False
    """UEFI refuses unsigned boot loaders."""
    tpm: Literal["Ephemeral", "Persistent"] | None = None
    """A virtual TPM 2.0, whose content is lost at power-off or kept."""
    serial: (
        Annotated[
            str,
            Field(max_length=256, pattern="^[A-Za-z0-9_.+-]+$"),
            Must("must consist of letters, digits and '_', '.', '+', '-'"),
        ]
        | None
    ) = None
    """SMBIOS serial number."""
    uuid: (
        Annotated[
            str,
            Field(max_length=36, pattern="^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"),
            Must("must be a UUID such as 5d307ca9-b3ef-428c-8861-06e72d69f223"),
        ]
        | None
    ) = None
    """SMBIOS UUID; derived from the VM's name when left out."""

    rules = (
        Rule(
            "!self.secureBoot || (has(self.bootloader) && self.bootloader == 'UEFI')",
            "secure boot needs bootloader: UEFI",
            ".secureBoot",
        ),
    )


class Device(Model):
    """A device of the host handed through to the guest."""

    name: DnsLabel
    """Its name within the VM."""
    resource_name: ResourceName
    """What the hosts' device plugin calls it."""
    type: Literal["HostDevice", "GPU"] = "HostDevice"
    """GPUs get a display where the driver offers one."""


class VmAffinity(Model):
    """Together with, or apart from, other VMs of the same namespace. They are selected by name or by labels."""

    name: DnsLabel
    """Name of this rule."""
    type: Literal["Together", "Apart"]
    """Together: in the same domain as the others; Apart: not in the same domain as any of them."""
    strength: Literal["Must", "Should"] = "Should"
    """Must: rather not run than break the rule. Should: if possible."""
    names: Annotated[tuple[DnsLabel, ...], Field(min_length=1, max_length=16), SET] | None = None
    """The other VMs by name."""
    match_labels: Annotated[LabelMap, Field(min_length=1)] | None = None
    """The other VMs by labels of their VirtualMachine objects."""
    topology_key: LabelName = "kubernetes.io/hostname"
    """The node label whose value makes up a domain."""

    rules = (
        Rule(
            "has(self.names) != has(self.matchLabels)", "give either names or matchLabels", reason="FieldValueRequired"
        ),
    )


SYSTEM_TAINTS = ("vdcos.dev/", "node.kubernetes.io/", "kubevirt.io/")
"""How the keys of taints begin that keep everybody off hosts that fail, are drained, or are kept for failover."""


class Toleration(Model):
    """A taint of nodes that this VM puts up with."""

    key: LabelName
    """The taint's key."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """Equal compares the value, Exists does not."""
    value: LabelValue = ""
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
    """The taint's effect."""
    toleration_seconds: Annotated[int, Field(ge=0, le=31536000)] | None = None
    """For NoExecute: for how long; for ever when left out."""

    rules = (
        Rule(
            " && ".join(f"!self.key.startsWith('{prefix}')" for prefix in SYSTEM_TAINTS),
            "taints of vdcos, Kubernetes and KubeVirt keep VMs off hosts that fail, are drained or are kept for"
            " failover: no VM puts up with them",
            ".key",
            "FieldValueForbidden",
        ),
        Rule("self.operator == 'Equal' || self.value == ''", "operator Exists takes no value", ".value"),
        Rule(
            "self.effect == 'NoExecute' || !has(self.tolerationSeconds)",
            "tolerationSeconds goes with effect NoExecute only",
            ".tolerationSeconds",
        ),
    )


class Placement(Model):
    """Where the VM may run."""

    node_selector: LabelMap = Field(default_factory=dict)
    """Labels that the node must have."""
    affinity: Annotated[tuple[VmAffinity, ...], Field(max_length=8), ListMap("name")] = ()
    """Rules about other VMs of the namespace."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=16), ListMap("key", "value", "effect")] = ()
    """Taints that are put up with, which is how an administrator keeps hosts for some.

    Annotation `vdcos.dev/allowed-taints` of the namespace must list their keys; an administrator sets it.
    """


class Availability(Model):
    """What happens to the VM when its host or its guest fails. What is left out is as the HAPolicy of its host says."""

    restart_priority: RestartPriority | None = None
    """Its turn when it restarts with others; Disabled does not restart it."""
    depends_on: Annotated[tuple[Dependency, ...], Field(max_length=16), ATOMIC] = ()
    """VMs that must be up before it restarts after a failure."""
    ready_when: ReadyWhenOverride | None = None
    """When it counts as up for the VMs of its namespace; those of others wait for it as long as the policy says."""
    monitoring: MonitoringOverride | None = None
    """Guest monitoring."""


class Override(Model):
    """A change to the generated KubeVirt VM, for what this API does not model. Applied in order, at the end."""

    op: Literal["add", "replace", "remove"]
    """As in JSON Patch; `add` also creates missing objects on the way, `remove` of what is not there does nothing."""
    path: Annotated[
        str,
        Field(max_length=256, pattern=overrides.PATTERN),
        Must("must be one of the paths that may be overridden: the reference of VirtualMachine lists them"),
    ]
    """Where, as a JSON pointer; disks and interfaces are addressed by name."""
    value: Annotated[JsonValue, Extra({"x-kubernetes-preserve-unknown-fields": True})] = None
    """What, for add and replace: any JSON."""

    # CEL cannot see a value without a type, but the schema can ask for its presence.
    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": ["value"]}, {"not": {"properties": {"op": {"enum": ["add", "replace"]}}}}]
        }
    )

    @model_validator(mode="after")
    def _value_given(self) -> Self:
        if self.op != "remove" and self.value is None:
            raise ValueError(f"{self.op} needs a value")
        return self


_NO_CPU_RESERVED = "!has(self.reservations) || !has(self.reservations.cpu) || !has(self.cpu)"
_NO_MEMORY_RESERVED = "!has(self.reservations) || !has(self.reservations.memory) || !has(self.memory)"


class VirtualMachineSpec(Model):
    """What the VM shall be."""

    power_state: PowerState = "PoweredOn"
    """Whether the VM shall run."""
    on_guest_shutdown: Literal["Restart", "StayOff"] = "Restart"
    """What happens after the guest, or a person with virtctl, has shut the VM down.

    Restart: it is started again. StayOff: it stays off until `powerState` has been PoweredOff and PoweredOn again.
    """
    cpu: Cpu | None = None
    """Virtual CPUs; with `memory`, or else `instancetype`."""
    memory: Memory | None = None
    """Memory; with `cpu`, or else `instancetype`."""
    instancetype: Instancetype | None = None
    """CPU and memory by the name of a KubeVirt instance type."""
    preference: Preference | None = None
    """Defaults for the guest operating system by the name of a KubeVirt preference."""
    reservations: Reservations | None = None
    """Guaranteed CPU and memory."""
    disks: Annotated[
        tuple[Disk, ...],
        Field(max_length=32),
        ListMap("name"),
        Rule(
            "self.all(d, !has(d.bootOrder) || self.exists_one(e, has(e.bootOrder) && e.bootOrder == d.bootOrder))",
            "no two disks may have the same bootOrder",
        ),
        Rule(
            "self.all(d, !has(d.claimName) || self.exists_one(e, has(e.claimName) && e.claimName == d.claimName))",
            "no two disks may be the same claim",
        ),
    ] = ()
    """Disks."""
    nics: Annotated[
        tuple[Nic, ...],
        Field(max_length=16),
        ListMap("name"),
        Rule(
            "self.all(n, !has(n.macAddress) || self.exists_one(m, has(m.macAddress)"
            " && m.macAddress.lowerAscii() == n.macAddress.lowerAscii()))",
            "no two NICs may have the same macAddress",
        ),
    ] = ()
    """Network cards."""
    guest: Guest | None = None
    """Customisation of the guest."""
    firmware: Firmware | None = None
    """Firmware and identity."""
    devices: Annotated[tuple[Device, ...], Field(max_length=16), ListMap("name")] = ()
    """Host devices and GPUs handed through to the guest (VMDirectPath); the VM cannot move while it runs then.

    Annotation `vdcos.dev/allowed-devices` of the namespace must list their resource names; an administrator sets it.
    """
    placement: Placement | None = None
    """Where the VM may run."""
    availability: Availability | None = None
    """What happens to the VM when its host or its guest fails."""
    overrides: Annotated[tuple[Override, ...], Field(max_length=32), ListMap("path")] = ()
    """Changes to the generated KubeVirt VM on an allow-list of paths."""

    rules = (
        Rule(
            "has(self.instancetype) || (has(self.cpu) && has(self.memory))",
            "give cpu and memory, or an instancetype",
            reason="FieldValueRequired",
        ),
        Rule(
            "!has(self.instancetype) || !(has(self.cpu) || has(self.memory) || has(self.reservations))",
            "the instancetype decides on cpu, memory and reservations: give either it or those",
            ".instancetype",
        ),
        Rule(
            f"{_NO_MEMORY_RESERVED} || !isQuantity(self.reservations.memory) || !isQuantity(self.memory.size)"
            " || quantity(self.reservations.memory).compareTo(quantity(self.memory.size)) <= 0",
            "at most the VM's memory (memory.size) can be reserved",
            ".reservations.memory",
        ),
        Rule(
            f"{_NO_CPU_RESERVED} || !isQuantity(self.reservations.cpu)"
            " || quantity(self.reservations.cpu).asApproximateFloat()"
            " <= double(self.cpu.sockets * self.cpu.cores * self.cpu.threads)",
            "at most the VM's CPUs (cpu: sockets x cores x threads) can be reserved",
            ".reservations.cpu",
        ),
        Rule(
            f"{_NO_CPU_RESERVED} || !self.cpu.dedicated",
            "dedicated CPUs (cpu.dedicated) are reserved as a whole: leave this out",
            ".reservations.cpu",
        ),
        Rule(
            f"{_NO_MEMORY_RESERVED} || !has(self.memory.hugepages)",
            "huge pages (memory.hugepages) are reserved as a whole: leave this out",
            ".reservations.memory",
        ),
    )

    @model_validator(mode="after")
    def _sized(self) -> Self:
        if (self.instancetype is None) == (self.cpu is None or self.memory is None):
            raise ValueError("give cpu and memory, or an instancetype")
        return self


class DiskStatus(Model):
    """A disk as it is."""

    name: Annotated[str, Field(max_length=63)]
    """The disk's name in the spec."""
    claim_name: Annotated[str, Field(max_length=253)] = ""
    """The PersistentVolumeClaim behind it."""
    size: Annotated[str, Field(max_length=32)] = ""
    """Its size as provisioned."""
    phase: Literal["Pending", "Importing", "Ready", "Expanding", "Failed"] = "Pending"
    """Where it is in its life."""
    progress: Annotated[str, Field(max_length=16)] = ""
    """Progress of the import in whole tens of percent, while it lasts."""
    reason: Annotated[str, Field(max_length=64)] = ""
    """What it waits for, or what is wrong with it, in one word; empty when nothing is."""
    reused: bool = False
    """A retained disk was found; the declared source was not used."""
    made: bool = False
    """The disk was ready once. Said for as long as it is declared: if it is gone, it is lost, and not made anew."""
    message: Annotated[str, Field(max_length=512)] = ""
    """What is worth knowing about it."""


class NicStatus(Model):
    """A network card as it is."""

    name: Annotated[str, Field(max_length=63)]
    """The card's name in the spec."""
    mac_address: Annotated[str, Field(max_length=17)] = ""
    """Its MAC address."""
    addresses: Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=16), ATOMIC] = ()
    """Its IP addresses, where they are known."""
    link_state: Annotated[str, Field(max_length=8)] = ""
    """Up or Down."""


class AppliedChild(Model):
    """The KubeVirt VirtualMachine as we last applied it."""

    uid: Annotated[str, Field(max_length=36)] = ""
    """Its uid."""
    generation: Annotated[int, Field(ge=0)] = 0
    """Its generation after our last write."""


class VirtualMachineStatus(Status):
    """What the VM is."""

    power_state: Literal["PoweredOn", "PoweredOff", "PoweringOn", "PoweringOff", "Paused", "Unknown"] | None = None
    """Whether it runs."""
    host: Annotated[str, Field(max_length=253)] = ""
    """The node it runs on."""
    addresses: Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=32), ATOMIC] = ()
    """IP addresses of all its network cards."""
    guest_os: Annotated[str, Field(max_length=128)] = ""
    """The guest operating system, as its agent reports it."""
    restart_required: bool = False
    """Some of the spec takes effect at the next restart only; condition RestartRequired says what."""
    waits_for: Amounts | None = None
    """What it needs of CPU and memory, while failover capacity keeps it from starting or growing."""
    virtual_machine: AppliedChild | None = None
    """The KubeVirt VirtualMachine as last applied."""
    disks: Annotated[tuple[DiskStatus, ...], Field(max_length=32), ListMap("name")] = ()
    """Disks as they are."""
    nics: Annotated[tuple[NicStatus, ...], Field(max_length=16), ListMap("name")] = ()
    """Network cards as they are."""
    monitoring: GuestWatch | None = None
    """What is known of the guest, where an HAPolicy has it monitored."""


class VirtualMachine(Model):
    """A virtual machine: power, CPU, memory, disks on datastores, NICs on networks, devices, guest, placement."""

    api_version: Literal["vdcos.dev/v1alpha1"] = "vdcos.dev/v1alpha1"
    kind: Literal["VirtualMachine"] = "VirtualMachine"
    metadata: ObjectMeta
    spec: VirtualMachineSpec
    """What the VM shall be."""
    status: VirtualMachineStatus = VirtualMachineStatus()
    """What the VM is. Written by the operator."""

    rules = (
        Rule(
            "self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')",
            "a VM's name also stands in labels and is its host name: at most 63 characters, no dots",
            ".metadata.name",
        ),
        Rule(
            "!has(self.spec.availability) || !has(self.spec.availability.dependsOn)"
            " || self.spec.availability.dependsOn.all(d, !has(d.name) || d.name != self.metadata.name)",
            "a VM cannot wait for itself",
            ".spec.availability.dependsOn",
        ),
    )

    definition: ClassVar = Definition(
        kind="VirtualMachine",
        plural="virtualmachines",
        scope="Namespaced",
        short_names=("vdcvm",),
        columns=(
            condition_column("Ready", "Ready"),
            condition_column("Reason", "Ready", "reason"),
            Column("Power", ".status.powerState"),
            Column("Restart", ".status.restartRequired", "boolean"),
            Column("Host", ".status.host"),
            Column("IP", ".status.addresses[0]"),
            AGE,
            condition_column("Agent", "GuestAgentConnected", wide=True),
            condition_column("Migratable", "Migratable", wide=True),
            Column("OS", ".status.guestOs", wide=True),
            condition_column("Message", "Ready", "message", wide=True),
        ),
    )
