"""Containerized Data Importer (cdi.kubevirt.io), as far as plans read it."""

from typing import ClassVar

import msgspec

from vdcos.core.foreign.kubernetes import ClaimResources
from vdcos.core.objects import Object, Resource


class DataVolumeCondition(msgspec.Struct, frozen=True):
    """Ready, Bound or Running."""

    type: str
    status: str = ""
    reason: str = ""
    message: str = ""


class DataVolumeStatus(msgspec.Struct, frozen=True):
    """``progress`` is like "37.5%", or "N/A"."""

    phase: str = ""
    progress: str = ""
    conditions: tuple[DataVolumeCondition, ...] = ()

    def condition(self, kind: str) -> DataVolumeCondition:
        return next((c for c in self.conditions if c.type == kind), DataVolumeCondition(kind))


class WantedStorage(msgspec.Struct, frozen=True):
    resources: ClaimResources = ClaimResources()


class DataVolumeSpec(msgspec.Struct, frozen=True):
    """How much storage it asks for, in the one form or the other. It is immutable, and nothing else of it is read."""

    storage: WantedStorage | None = None
    pvc: WantedStorage | None = None


class DataVolume(Object, frozen=True):
    """All of them, so that a namesake is seen and left alone."""

    resource: ClassVar[Resource] = Resource("cdi.kubevirt.io", "v1beta1", "datavolumes", "DataVolume")
    spec: DataVolumeSpec = DataVolumeSpec()
    status: DataVolumeStatus = DataVolumeStatus()


class ClaimPropertySet(msgspec.Struct, frozen=True, rename="camel"):
    """Access modes that go with a volume mode; the first set is what a disk gets that asks for nothing."""

    access_modes: tuple[str, ...] = ()
    volume_mode: str = ""


class StorageProfileStatus(msgspec.Struct, frozen=True, rename="camel"):
    """``cloneStrategy`` is snapshot, csi-clone or copy."""

    provisioner: str = ""
    clone_strategy: str = ""
    claim_property_sets: tuple[ClaimPropertySet, ...] = ()
    snapshot_class: str = ""


class StorageProfile(Object, frozen=True):
    """What CDI knows about a storage class; of the same name."""

    resource: ClassVar[Resource] = Resource(
        "cdi.kubevirt.io", "v1beta1", "storageprofiles", "StorageProfile", namespaced=False
    )
    status: StorageProfileStatus = StorageProfileStatus()


class CdiStatus(msgspec.Struct, frozen=True, rename="camel"):
    observed_version: str = ""


class Cdi(Object, frozen=True):
    """How CDI is installed. There is one, or none where CDI was installed without its operator."""

    resource: ClassVar[Resource] = Resource("cdi.kubevirt.io", "v1beta1", "cdis", "CDI", namespaced=False)
    status: CdiStatus = CdiStatus()

    @property
    def checks_sums(self) -> bool:
        """Whether it can check what it downloads (since 1.65). A version that is not said counts as new."""
        major, _, rest = self.status.observed_version.removeprefix("v").partition(".")
        minor = rest.partition(".")[0]
        return not (major == "1" and minor.isdigit() and int(minor) < 65)
