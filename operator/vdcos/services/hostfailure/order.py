"""In which order the VMs of a failed host restart: by priority, then by what they depend on, then the larger first."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vdcos import api
from vdcos.api.availability import Dependency, ReadyWhen, RestartPriority, overlaid
from vdcos.api.hapolicy import HAPolicySpec
from vdcos.core import availability, quantity
from vdcos.core.objects import Key


class Turn(NamedTuple):
    """One VM and its turn; 0 is first. Those of priority Disabled have none."""

    key: Key
    tier: int
    disabled: bool = False


def priority(policy: HAPolicySpec, vm: api.VirtualMachine | None) -> RestartPriority:
    """What the VM says, else the first rule that selects it and says something, else the policy."""
    if vm is None:
        return policy.restart.priority
    own = vm.spec.availability
    return availability.priority(policy, vm.metadata.labels, own.restart_priority if own is not None else None)


def ready_when(policy: HAPolicySpec, vm: api.VirtualMachine | None) -> ReadyWhen:
    """When the VM counts as up, for itself and for those of its namespace."""
    own = vm.spec.availability if vm is not None else None
    return overlaid(ready_for_others(policy, vm), own.ready_when if own is not None else None)


def ready_for_others(policy: HAPolicySpec, vm: api.VirtualMachine | None) -> ReadyWhen:
    """What the policy says of it: a VM's own words do not make other namespaces wait."""
    rule = availability.rule(policy, vm.metadata.labels) if vm is not None else None
    return overlaid(policy.restart.ready_when, rule.ready_when if rule is not None else None)


class _Said(NamedTuple):
    """What a VM says about when it restarts."""

    labels: Mapping[str, str]
    needs: Sequence[Dependency]


def turns(policy: HAPolicySpec, vms: Mapping[Key, api.VirtualMachine | None]) -> list[Turn]:
    """The order of restart: by ``availability.turns``, and then the larger first."""
    ranks = {key: availability.PRIORITIES.index(priority(policy, vm)) for key, vm in vms.items()}
    found = availability.turns(ranks, {key: _said(vm) for key, vm in vms.items()})
    disabled = sorted(key for key, rank in ranks.items() if availability.PRIORITIES[rank] == "Disabled")
    active = sorted(vms.keys() - set(disabled), key=lambda key: (*found[key], -_size(vms[key]), key))
    places = sorted({found[key] for key in active})
    return [
        *(Turn(key, places.index(found[key])) for key in active),
        *(Turn(key, len(places), True) for key in disabled),
    ]


def _said(vm: api.VirtualMachine | None) -> _Said | None:
    if vm is None:
        return None
    return _Said(vm.metadata.labels, vm.spec.availability.depends_on if vm.spec.availability is not None else ())


def _size(vm: api.VirtualMachine | None) -> int:
    return quantity.whole(vm.spec.memory.size) if vm is not None and vm.spec.memory is not None else 0
