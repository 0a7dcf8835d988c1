"""What we read of kubernetes-nmstate: node network configuration policies (nmstate.io/v1)."""

from typing import Any, ClassVar

import msgspec

from vdcos.core.objects import Object, Resource


class PolicyCondition(msgspec.Struct, frozen=True, rename="camel"):
    """``Available``, ``Degraded``, ``Progressing`` or ``Ignored`` (no node matches)."""

    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""


class PolicyStatus(msgspec.Struct, frozen=True):
    conditions: tuple[PolicyCondition, ...] = ()


class NodeNetworkConfigurationPolicy(Object, frozen=True):
    """What hosts' network configuration shall be. Deleting one leaves the hosts as they are."""

    resource: ClassVar[Resource] = Resource(
        "nmstate.io",
        "v1",
        "nodenetworkconfigurationpolicies",
        "NodeNetworkConfigurationPolicy",
        namespaced=False,
    )
    marks: ClassVar[tuple[str, ...]] = ("",)
    spec: dict[str, Any] = msgspec.field(default_factory=dict)
    status: PolicyStatus = PolicyStatus()
