"""The contract of a virtual switch. A third party implements ``NetworkProvider`` and imports nothing but this module.

A provider is one object with one pure method: asked how the VMs of one namespace connect to one network, it answers
with a ``Wiring``, or raises ``Refused`` with a sentence for the person who wrote the Network. It is called in every
plan, so it must be quick, give the same answer to the same request, and touch neither files nor the network. What a
host has to do at run time is the job of the provider's CNI plugin.

A distribution announces its provider in the entry point group ``vdcos.network_providers``; the entry point's name is
what users write in ``spec.plugin.provider``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

CONTRACT = 1
"""Version of this contract. It changes only when an existing provider would have to change."""

ENTRY_POINTS = "vdcos.network_providers"


@dataclass(frozen=True, slots=True)
class Request:
    """One network in one namespace."""

    network: str
    """Name of the Network; unique in the cluster, a DNS label."""
    namespace: str
    """Namespace of the VMs that connect."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """``spec.plugin.parameters`` (strings); built-in providers get their own member of the spec, as in the manifest."""
    mtu: int | None = None
    """Largest packet in bytes that the user asks for; None leaves it to the switch."""

    @property
    def definition(self) -> str:
        """``namespace/name`` of the NetworkAttachmentDefinition that will hold the configuration."""
        return f"{self.namespace}/{self.network}"


@dataclass(frozen=True, slots=True)
class Wiring:
    """How a VM's NIC is connected."""

    binding: Mapping[str, Any]
    """How KubeVirt joins guest and pod interface, as in ``domain.devices.interfaces[]``: with a ``config`` one of
    ``{"bridge": {}}`` and ``{"sriov": {}}``, without ``{"masquerade": {}}`` or ``{"passtBinding": {}}``, and with or
    without ``{"binding": {"name": <a binding plugin>}}``."""
    config: Mapping[str, Any] | None = None
    """CNI configuration that makes the pod interface (``type`` and what the plugin takes, or ``plugins``); ``name`` and
    ``cniVersion`` are added when absent. None: the NIC is on the pod network, without a definition of its own."""
    resource: str = ""
    """A node resource (``domain/name``) of which each NIC takes one, so that VMs run only where the switch is."""
    resource_if_offered: bool = False
    """The resource comes from an optional agent: leave it out while no node of the cluster offers any of its domain."""


class Refused(Exception):
    """The request cannot be met. The text is shown on the Network: say which field is wrong and what would be right."""


class NetworkProvider(Protocol):
    """A virtual switch."""

    @property
    def contract(self) -> int:
        """The ``CONTRACT`` that it was written for; a class attribute will do."""

    def wire(self, request: Request) -> Wiring:
        """How NICs of ``request.namespace`` connect to ``request.network``. Raises Refused."""


@dataclass(frozen=True, slots=True)
class Broken:
    """Stands in for a provider that is installed but cannot be loaded; ``why`` says so on the Networks that name it."""

    why: str
    contract: int = CONTRACT

    def wire(self, request: Request) -> Wiring:
        raise Refused(self.why)
