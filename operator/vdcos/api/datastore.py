"""Datastore: where disks live, who may use it, and how full it may get."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from vdcos.api.meta import AllowedNamespaces, ObjectMeta, ObjectName, Status, StoreSize, Timestamp, Usage
from vdcos.api.schema import AGE, Column, Definition, Model, Rule, condition_column

VolumeMode = Literal["Block", "Filesystem"]
AccessMode = Literal["ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"]


class DatastoreSpec(Model):
    """What the datastore shall be."""

    storage_class_name: Annotated[
        ObjectName,
        Rule(
            "self == oldSelf",
            "disks would be left behind in the old storage class; make a new datastore",
            reason="FieldValueForbidden",
        ),
    ]
    """The storage class that provisions its disks."""
    volume_mode: VolumeMode | None = None
    """How disks are presented to hosts; as CDI's StorageProfile says when left out."""
    access_mode: AccessMode | None = None
    """Who may mount a disk; as CDI's StorageProfile says when left out. Live migration needs ReadWriteMany."""
    capacity: StoreSize | None = None
    """Ceiling for the sum of its disks' sizes; new and growing disks beyond it are refused. None when left out."""
    allowed_namespaces: AllowedNamespaces = AllowedNamespaces()
    """Which namespaces' VMs may have disks here."""
    maintenance: bool = False
    """Refuse new disks; existing ones stay in use."""


class Capabilities(Model):
    """What the storage behind a datastore can do."""

    snapshots: bool = False
    """Snapshots of disks."""
    clones: Literal["CopyOnWrite", "Csi", "Copy"] | None = None
    """How disks are cloned: from a snapshot that shares blocks, by the CSI driver, or by copying every byte."""
    expansion: bool = False
    """Disks can grow."""
    live_migration: bool = False
    """VMs with disks here can move between hosts while they run."""
    volume_mode: VolumeMode | None = None
    """The volume mode in use."""
    access_mode: AccessMode | None = None
    """The access mode in use."""


class DatastoreStatus(Status):
    """What the datastore is."""

    capabilities: Capabilities | None = None
    """What the storage can do, as found."""
    provisioned: Annotated[str, Field(max_length=32)] = ""
    """Sum of its disks' sizes."""
    disks: Annotated[int, Field(ge=0)] | None = None
    """Number of its disks."""
    tenants: Usage | None = None
    """Namespaces that have disks here."""
    retained: Usage | None = None
    """Disks without a VM, kept by their deletion policy."""
    counted_at: Timestamp | None = None
    """When the counts last changed; they are written at most every five seconds."""


class Datastore(Model):
    """A storage class with tenants, a ceiling and a maintenance mode, on which VMs' disks live."""

    api_version: Literal["vdcos.dev/v1alpha1"] = "vdcos.dev/v1alpha1"
    kind: Literal["Datastore"] = "Datastore"
    metadata: ObjectMeta
    spec: DatastoreSpec
    """What the datastore shall be."""
    status: DatastoreStatus = DatastoreStatus()
    """What the datastore is. Written by the operator."""

    rules = (
        Rule(
            "self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')",
            "a datastore's name stands in labels: at most 63 characters, no dots",
            ".metadata.name",
        ),
    )

    definition: ClassVar = Definition(
        kind="Datastore",
        plural="datastores",
        scope="Cluster",
        short_names=("vdcds",),
        columns=(
            condition_column("Ready", "Ready"),
            condition_column("Reason", "Ready", "reason"),
            Column("Provisioned", ".status.provisioned"),
            Column("Capacity", ".spec.capacity"),
            Column("Disks", ".status.disks", "integer"),
            Column("Maintenance", ".spec.maintenance", "boolean"),
            AGE,
            Column("StorageClass", ".spec.storageClassName", wide=True),
            Column("Tenants", ".status.tenants.count", "integer", wide=True),
            Column("Retained", ".status.retained.count", "integer", wide=True),
            condition_column("Message", "Ready", "message", wide=True),
        ),
    )
