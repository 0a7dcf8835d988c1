"""What we read of Multus: network attachment definitions (k8s.cni.cncf.io/v1)."""

from typing import ClassVar

import msgspec

from vdcos.core.objects import Object, Resource


class NetworkAttachmentDefinitionSpec(msgspec.Struct, frozen=True):
    config: str = ""
    """A CNI configuration as JSON text."""


class NetworkAttachmentDefinition(Object, frozen=True):
    """How a pod's additional interface is made. One that others wrote is read as well: its name is taken."""

    resource: ClassVar[Resource] = Resource(
        "k8s.cni.cncf.io", "v1", "network-attachment-definitions", "NetworkAttachmentDefinition"
    )
    marks: ClassVar[tuple[str, ...]] = ("",)
    spec: NetworkAttachmentDefinitionSpec = NetworkAttachmentDefinitionSpec()


RESOURCE_NAME = "k8s.v1.cni.cncf.io/resourceName"
"""Annotation: the node resource of which virt-controller adds one per NIC to the launcher pod."""
