"""What an HAPolicy says about one VM: the rule that counts, and what comes of policy, rule and the VM's own words."""

from collections.abc import Mapping, Sequence

import msgspec

from vdcos import api
from vdcos.api.availability import Monitoring, RestartPriority, overlaid
from vdcos.api.hapolicy import HAPolicySpec, VmRule
from vdcos.core import tenancy

PRIORITIES: Sequence[RestartPriority] = ("Highest", "High", "Medium", "Low", "Lowest", "Disabled")
"""The first restarts first."""


def rule(policy: HAPolicySpec, labels: Mapping[str, str]) -> VmRule | None:
    """The first rule that selects a VM with such labels."""
    return next((each for each in policy.vm_rules if tenancy.selects(each.selector, labels)), None)


def priority(policy: HAPolicySpec, labels: Mapping[str, str], own: RestartPriority | None) -> RestartPriority:
    """What the VM says itself, else the first rule that selects it and says something, else the policy."""
    found = rule(policy, labels)
    return own or (found.priority if found is not None else None) or policy.restart.priority


def monitoring(policy: HAPolicySpec, vm: api.VirtualMachine) -> Monitoring:
    """How its guest is watched: the VM's own words count most, and then the rule's."""
    found, own = rule(policy, vm.metadata.labels), vm.spec.availability
    return overlaid(policy.monitoring, found.monitoring if found else None, own.monitoring if own else None)


class _Spec(msgspec.Struct, frozen=True):
    monitoring: msgspec.Raw = msgspec.Raw(b"")
    rules: msgspec.Raw = msgspec.Raw(b"")
    paused: msgspec.Raw = msgspec.Raw(b"")


class _Policy(msgspec.Struct, frozen=True):
    spec: _Spec = _Spec()


_policy = msgspec.json.Decoder(_Policy).decode


def of_guests(policy: bytes) -> tuple[bytes, bytes, bytes]:
    """What an HAPolicy says of guests, of its JSON: a change elsewhere is no news to them."""
    spec = _policy(policy).spec
    return bytes(spec.monitoring), bytes(spec.rules), bytes(spec.paused)
