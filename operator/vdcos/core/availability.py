"""What an HAPolicy says about VMs: the rule that counts, what comes of policy, rule and a VM's own words, and the order
of restart."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from vdcos import api
from vdcos.api.availability import Monitoring, RestartPriority, overlaid
from vdcos.api.hapolicy import HAPolicySpec, VmRule
from vdcos.core import tenancy
from vdcos.core.objects import Key

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


# The order of restart


class Dependency(Protocol):
    """VMs that must be up first: by name, or by labels."""

    @property
    def name(self) -> str | None: ...
    @property
    def selector(self) -> tenancy.Selector | None: ...


class Dependent(Protocol):
    """A VM, as far as it says when it restarts."""

    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def needs(self) -> Sequence[Dependency]: ...


class Turn(NamedTuple):
    """Lower is earlier. ``rank`` is a place in ``PRIORITIES``, raised to that of those who depend on the VM; ``depth``
    is how many in a row must be up before it."""

    rank: int
    depth: int


def names(dependency: Dependency, other: str, labels: Mapping[str, str] | None) -> bool:
    """Whether a dependency means another VM of its namespace; ``labels`` is None where nobody has declared that one."""
    return other == dependency.name or (
        dependency.selector is not None and labels is not None and tenancy.selects(dependency.selector, labels)
    )


def turns(ranks: Mapping[Key, int], vms: Mapping[Key, Dependent | None]) -> dict[Key, Turn]:
    """The turn of each of some VMs that restart together; ``ranks`` are places in ``PRIORITIES``.

    Dependencies count among these VMs: the others run, or nothing here can bring them up. Who is depended on is never
    later than who depends on it, whatever its own priority; a circle is none, and nobody waits for the Disabled.
    """
    if not any(vm is not None and vm.needs for vm in vms.values()):
        return {key: Turn(rank, 0) for key, rank in ranks.items()}
    raised = dict(ranks)
    needs = {key: _needs(key, vm, vms, ranks) for key, vm in vms.items()}
    depths = _depths(needs)
    for key in sorted(vms, key=lambda key: -depths[key]):
        for other in needs[key]:
            if depths[other] < depths[key]:
                raised[other] = min(raised[other], raised[key])
    return {key: Turn(rank, depths[key]) for key, rank in raised.items()}


def _needs(
    key: Key, vm: Dependent | None, vms: Mapping[Key, Dependent | None], ranks: Mapping[Key, int]
) -> Collection[Key]:
    found: dict[Key, None] = {}
    for dependency in vm.needs if vm is not None else ():
        for other, there in vms.items():
            if other == key or other.namespace != key.namespace or PRIORITIES[ranks[other]] == "Disabled":
                continue
            if names(dependency, other.name, there.labels if there is not None else None):
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


# What is news to guests


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
