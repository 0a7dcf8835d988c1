"""In which order VMs restart, from as little of their VirtualMachines as says so."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from vdcos import api
from vdcos.api.hapolicy import HAPolicySpec
from vdcos.core import amounts, availability
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
    power_state: str = ""
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
    protected: str | None
    """Its condition Protected as it is stored: ``True/RestartsElsewhere``; empty when it has none, None while it is not
    to have one."""
    waits_for: Amounts | None
    """What it waits for, while failover capacity keeps it from starting or growing."""
    stalled: bool
    """It cannot go on for another reason."""
    node_selector: Mapping[str, str]


PROTECTED = "Protected"
NOT_UP = ("", "PoweredOff", "PoweringOn")
"""Power states, as they are stored, of VMs of which nobody says whether they are protected. They say it with the same
write as that they are up."""
_STALLED = "Stalled"


def wish(own: Own) -> Wish:
    """Of a VirtualMachine as it is stored. Raises msgspec.MsgspecError."""
    vm = _decode(own.raw)
    said = {each.type: each for each in vm.status.conditions}
    protected, is_up = said.get(PROTECTED), vm.status.power_state not in NOT_UP
    waits = (
        vm.status.waits_for is not None and vm.spec.power_state == "PoweredOn" and not vm.metadata.deletion_timestamp
    )
    return Wish(
        labels=vm.metadata.labels,
        priority=vm.spec.availability.restart_priority,
        needs=vm.spec.availability.depends_on,
        protected=(f"{protected.status}/{protected.reason}" if protected is not None else "") if is_up else None,
        waits_for=_needed(vm.status.waits_for) if waits and vm.status.waits_for else None,
        stalled=_STALLED in said,
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
    """The turn of each of some VMs that restart together (``availability.turns``)."""
    found = availability.turns({key: priority(policy, said) for key, said in vms.items()}, vms)
    return {key: Turn(p.Priority(rank), depth) for key, (rank, depth) in found.items()}


def _rank(word: str) -> p.Priority:
    return p.Priority(PRIORITIES.index(word))
