"""What an HAPolicy says about VMs: the rule that counts, what comes of policy, rule and a VM's own words, and the order
of restart."""

from collections.abc import Iterable, Mapping, Sequence
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
    found = {key: Turn(rank, 0) for key, rank in ranks.items()}
    neighbours: dict[str, list[Key]] = {}
    for key in vms:
        neighbours.setdefault(key.namespace, []).append(key)
    for keys in neighbours.values():
        some = [vms[key] for key in keys]
        if any(vm is not None and vm.needs for vm in some):
            found.update(zip(keys, _turns([key.name for key in keys], [ranks[key] for key in keys], some), strict=True))
    return found


def _turns(names: Sequence[str], ranks: Sequence[int], vms: Sequence[Dependent | None]) -> list[Turn]:
    """Those of the VMs of one namespace, by place: each may depend on all others, so little may be done per pair."""
    needs = _needs(names, ranks, vms)
    depths = _depths(needs)
    raised = list(ranks)
    for place in sorted(range(len(names)), key=lambda place: -depths[place]):
        rank, depth = raised[place], depths[place]
        for other in needs[place]:
            if raised[other] > rank and depths[other] < depth:
                raised[other] = rank
    return [Turn(rank, depth) for rank, depth in zip(raised, depths, strict=True)]


class _Labels:
    """Which VMs have which labels. A set of VMs is a whole number, with a bit for the place of each, so that a selector
    costs as much for many VMs as for one."""

    def __init__(self, vms: Iterable[Dependent | None]) -> None:
        self._all = 0
        self._with: dict[str, int] = {}
        self._having: dict[tuple[str, str], int] = {}
        for place, vm in enumerate(vms):
            if vm is not None:
                bit = 1 << place
                self._all |= bit
                for key, value in vm.labels.items():
                    self._with[key] = self._with.get(key, 0) | bit
                    self._having[key, value] = self._having.get((key, value), 0) | bit

    def selected(self, selector: tenancy.Selector) -> int:
        """Those that ``tenancy.selects``."""
        found = self._all
        for label in selector.match_labels.items():
            found &= self._having.get(label, 0)
        for requirement in selector.match_expressions:
            found &= self._holding(requirement)
        return found

    def _holding(self, requirement: tenancy.Requirement) -> int:
        key, known = requirement.key, self._with.get(requirement.key, 0)
        match requirement.operator:
            case "Exists":
                return known
            case "DoesNotExist":
                return ~known
        listed = 0
        if known:
            for value in requirement.values:
                listed |= self._having.get((key, value), 0)
        return listed if requirement.operator == "In" else ~listed


def _needs(names: Sequence[str], ranks: Sequence[int], vms: Sequence[Dependent | None]) -> list[list[int]]:
    """The places of those that each VM depends on, in the order in which it says so."""
    labels = _Labels(vms)
    active = [place for place, rank in enumerate(ranks) if PRIORITIES[rank] != "Disabled"]
    bits = {names[place]: 1 << place for place in active}
    everybody = sum(bits.values())
    needs = []
    for place, vm in enumerate(vms):
        left = everybody & ~(1 << place)
        found: list[int] = []
        for dependency in vm.needs if vm is not None else ():
            meant = bits.get(dependency.name or "", 0)
            if dependency.selector is not None:
                meant |= labels.selected(dependency.selector)
            meant &= left
            if meant:
                left ^= meant
                found += (other for other, bit in enumerate(f"{meant:b}"[::-1]) if bit == "1")
        needs.append(found)
    return needs


def _depths(needs: Sequence[Sequence[int]]) -> list[int]:
    """How many in a row must be up before each; what closes a circle does not count."""
    unknown = -1
    depths = [unknown] * len(needs)
    way = bytearray(len(needs))
    for start in range(len(needs)):
        stack = [start]
        while stack:
            place = stack.pop()
            if place < 0:  # all that it needs are known
                place = ~place
                depths[place] = max((depths[other] for other in needs[place]), default=unknown) + 1
            elif not way[place]:
                way[place] = True
                stack.append(~place)
                stack += [other for other in needs[place] if not way[other]]
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
