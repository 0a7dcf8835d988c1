"""In which order the VMs of a failed host restart: by priority, then by what they depend on, then the larger first."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from vdcos import api
from vdcos.api.availability import ReadyWhen, RestartPriority, overlaid
from vdcos.api.hapolicy import HAPolicySpec
from vdcos.core import availability, quantity, tenancy
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
    """When the VM counts as up."""
    if vm is None:
        return policy.restart.ready_when
    rule, own = availability.rule(policy, vm.metadata.labels), vm.spec.availability
    return overlaid(
        policy.restart.ready_when,
        rule.ready_when if rule is not None else None,
        own.ready_when if own is not None else None,
    )


def turns(policy: HAPolicySpec, vms: Mapping[Key, api.VirtualMachine | None]) -> list[Turn]:
    """The order of restart. VMs in a circle of dependencies do not wait for each other.

    Dependencies count among these VMs: the others run, or nothing here can bring them up. Who is depended on is never
    later than who depends on it, whatever its own priority.
    """
    ranks = {key: availability.PRIORITIES.index(priority(policy, vm)) for key, vm in vms.items()}
    disabled = {key for key, rank in ranks.items() if availability.PRIORITIES[rank] == "Disabled"}
    needs = {key: [other for other in _needs(key, vm, vms) if other not in disabled] for key, vm in vms.items()}
    depths = _depths(needs)
    for key in sorted(vms, key=lambda key: -depths[key]):
        for other in needs[key]:
            if depths[other] < depths[key]:
                ranks[other] = min(ranks[other], ranks[key])
    active = [key for key in vms if key not in disabled]
    places = sorted({(ranks[key], depths[key]) for key in active})
    ordered = sorted(active, key=lambda key: (ranks[key], depths[key], -_size(vms[key]), key))
    found = [Turn(key, places.index((ranks[key], depths[key]))) for key in ordered]
    return [*found, *(Turn(key, len(places), True) for key in sorted(disabled))]


def _needs(key: Key, vm: api.VirtualMachine | None, vms: Mapping[Key, api.VirtualMachine | None]) -> Iterable[Key]:
    if vm is None or vm.spec.availability is None:
        return []
    found: dict[Key, None] = {}
    for dependency in vm.spec.availability.depends_on:
        for other, there in vms.items():
            if other == key or other.namespace != key.namespace:
                continue
            if other.name == dependency.name or (
                dependency.selector is not None
                and there is not None
                and tenancy.selects(dependency.selector, there.metadata.labels)
            ):
                found[other] = None
    return found


def _depths(needs: Mapping[Key, Iterable[Key]]) -> dict[Key, int]:
    """How many in a row must be up before each; what closes a circle does not count."""
    depths: dict[Key, int] = {}
    for start in needs:
        stack: list[tuple[Key, bool]] = [(start, False)]
        way: set[Key] = set()
        while stack:
            key, done = stack.pop()
            if done:
                depths[key] = max((depths[other] + 1 for other in needs[key] if other in depths), default=0)
            elif key not in depths and key not in way:
                way.add(key)
                stack.append((key, True))
                stack += [(other, False) for other in needs[key] if other not in depths and other not in way]
    return depths


def _size(vm: api.VirtualMachine | None) -> int:
    return quantity.whole(vm.spec.memory.size) if vm is not None and vm.spec.memory is not None else 0
