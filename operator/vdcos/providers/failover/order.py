"""In which order VMs restart, from as little of their VirtualMachines as says so."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from vdcos import api
from vdcos.api.hapolicy import HAPolicySpec
from vdcos.core import amounts, availability, tenancy
from vdcos.core.amounts import Amounts
from vdcos.core.availability import PRIORITIES
from vdcos.core.objects import Index, Key, Own
from vdcos.core.quantity import parse
from vdcos.providers import placement as p


class _Expression(msgspec.Struct, frozen=True):
    key: str = ""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = "In"
    values: tuple[str, ...] = ()


class _Selector(msgspec.Struct, frozen=True, rename="camel"):
    match_labels: dict[str, str] = {}
    match_expressions: tuple[_Expression, ...] = ()


class _Dependency(msgspec.Struct, frozen=True):
    name: str = ""
    selector: _Selector | None = None


class _Availability(msgspec.Struct, frozen=True, rename="camel"):
    restart_priority: str = ""
    depends_on: tuple[_Dependency, ...] = ()


class _Placement(msgspec.Struct, frozen=True, rename="camel"):
    node_selector: dict[str, str] = {}


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    power_state: str = "PoweredOn"
    availability: _Availability = _Availability()
    placement: _Placement = _Placement()


class _Condition(msgspec.Struct, frozen=True):
    type: str = ""
    status: str = ""
    reason: str = ""


class _Needed(msgspec.Struct, frozen=True):
    cpu: str = "0"
    memory: str = "0"


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    conditions: tuple[_Condition, ...] = ()
    waits_for: _Needed | None = None


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    labels: dict[str, str] = {}
    deletion_timestamp: str = ""


class _Vm(msgspec.Struct, frozen=True):
    metadata: _Meta = _Meta()
    spec: _Spec = _Spec()
    status: _Status = _Status()


_decode = msgspec.json.Decoder(_Vm).decode


class Wish(NamedTuple):
    """What a VirtualMachine says about its restart, and about room for it."""

    labels: Mapping[str, str]
    priority: str
    """Its own; empty when it leaves that to the policy."""
    needs: tuple[_Dependency, ...]
    protected: str
    """Its condition Protected as it is stored: ``True/RestartsElsewhere``; empty when it has none."""
    waits_for: Amounts | None
    """What it waits for, while failover capacity keeps it from starting or growing."""
    node_selector: Mapping[str, str]


PROTECTED = "Protected"
_STALLED = "Stalled"


def wish(own: Own) -> Wish:
    """Of a VirtualMachine as it is stored. Raises msgspec.MsgspecError."""
    vm = _decode(own.raw)
    said = {each.type: each for each in vm.status.conditions}
    protected = said.get(PROTECTED)
    # Who cannot go on for another reason keeps no place in the queue.
    waits = (
        vm.status.waits_for is not None and vm.spec.power_state == "PoweredOn" and not vm.metadata.deletion_timestamp
    )
    return Wish(
        labels=vm.metadata.labels,
        priority=vm.spec.availability.restart_priority,
        needs=vm.spec.availability.depends_on,
        protected=f"{protected.status}/{protected.reason}" if protected is not None else "",
        waits_for=_needed(vm.status.waits_for) if waits and _STALLED not in said and vm.status.waits_for else None,
        node_selector=vm.spec.placement.node_selector,
    )


def _needed(said: _Needed) -> Amounts:
    return amounts.of(int(parse(said.cpu) * 1000), int(parse(said.memory)))


WISHES: Index[Any] = Index(api.VirtualMachine, value=wish)
"""What each VirtualMachine says about its restart."""
WAITING: Index[Any] = Index(api.VirtualMachine, lambda own: ("",) if wish(own).waits_for is not None else ())
"""VirtualMachines that wait for failover capacity, under the empty string."""


class Turn(NamedTuple):
    """Lower is earlier: by priority, raised to that of those who depend on it, then by depth of dependencies."""

    priority: p.Priority
    depth: int


def priority(policy: HAPolicySpec, said: Wish | None) -> p.Priority:
    """What the VM says, else the first rule that selects it if that says something, else the policy."""
    if said is None:
        return _rank(policy.restart.priority)
    own = said.priority if said.priority in PRIORITIES else None
    return _rank(availability.priority(policy, said.labels, own))  # type: ignore[arg-type]


def turns(policy: HAPolicySpec, vms: Mapping[Key, Wish | None]) -> dict[Key, Turn]:
    """The turn of each of some VMs that restart together. Who is depended on is never later than who depends on it; a
    circle of dependencies is none. Those of priority Disabled are not waited for."""
    ranks = {key: priority(policy, said) for key, said in vms.items()}
    if not any(said is not None and said.needs for said in vms.values()):
        return {key: Turn(rank, 0) for key, rank in ranks.items()}
    disabled = {key for key, rank in ranks.items() if rank == p.Priority.DISABLED}
    needs = {key: [other for other in _needs(key, said, vms) if other not in disabled] for key, said in vms.items()}
    depths = _depths(needs)
    for key in sorted(vms, key=lambda key: -depths[key]):
        for other in needs[key]:
            if depths[other] < depths[key]:
                ranks[other] = min(ranks[other], ranks[key])
    return {key: Turn(rank, depths[key]) for key, rank in ranks.items()}


def _rank(word: str) -> p.Priority:
    return p.Priority(PRIORITIES.index(word))


def _needs(key: Key, said: Wish | None, vms: Mapping[Key, Wish | None]) -> Iterable[Key]:
    if said is None:
        return []
    found: dict[Key, None] = {}
    for dependency in said.needs:
        for other, there in vms.items():
            if other == key or other.namespace != key.namespace:
                continue
            if other.name == dependency.name or (
                dependency.selector is not None and there is not None and _selects(dependency.selector, there.labels)
            ):
                found[other] = None
    return found


def _selects(selector: _Selector, labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        tenancy.holds(each, labels) for each in selector.match_expressions
    )


def _depths(needs: Mapping[Key, Collection[Key]]) -> dict[Key, int]:
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
