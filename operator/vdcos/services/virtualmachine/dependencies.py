"""RestartOrder: circles of dependencies, and VMs that others wait for although they restart later by their priority."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from vdcos import api
from vdcos.api.availability import Dependency, RestartPriority
from vdcos.api.hapolicy import HAPolicySpec
from vdcos.core import availability, conditions, counts
from vdcos.core.conditions import Condition
from vdcos.core.objects import Index, Key, Own
from vdcos.core.snapshot import Snapshot

ORDER = "RestartOrder"

MOST = 100
"""VMs of a namespace that are looked at for one of them, where they are found by labels or form circles: somebody whose
thousands of VMs all depend on each other keeps nobody else waiting. What is named is found among any number."""


@dataclass(frozen=True, slots=True)
class SeenOrder:
    """The order of restart around one VM, by names."""

    depends: bool = False
    """It depends on others."""
    circle: tuple[str, ...] = ()
    """The VMs of a circle that it is in, in order, beginning with itself."""
    later: tuple[str, ...] = ()
    """Those that it depends on, and that restart later by their priority."""
    sooner: tuple[str, ...] = ()
    """Those that depend on it, and restart sooner by their priority."""


NO_ORDER = SeenOrder()
"""Nobody depends on anybody."""


def condition(seen: SeenOrder) -> Condition | None:
    """What is said of it; nothing of a VM that depends on nobody, and does no harm."""
    if seen.circle:
        way = " → ".join((*seen.circle[: counts.NAMED], seen.circle[0]))
        message = (
            f"VMs depend on each other in a circle, so one of them restarts without waiting: {way}. Remove one of "
            "these dependencies (spec.availability.dependsOn)"
        )
        return conditions.false(ORDER, "DependencyCircle", message)
    words = []
    if seen.later:
        words.append(f"it depends on {_listed(seen.later)}, of a later restartPriority")
    if seen.sooner:
        words.append(f"{_listed(seen.sooner)}, of an earlier restartPriority, depends on it")
    if words:
        message = (
            f"{'; '.join(words)}. Who is depended on restarts first all the same, unless it is Disabled: give both the "
            "same restartPriority, or remove the dependency"
        )
        return conditions.false(ORDER, "PriorityInversion", message)
    return conditions.true(ORDER, "InOrder", "it restarts after those that it depends on") if seen.depends else None


def _listed(names: Sequence[str]) -> str:
    return counts.listed(len(names), names)


# What is seen


class _Availability(msgspec.Struct, frozen=True, rename="camel"):
    depends_on: tuple[Any, ...] = ()


class _Spec(msgspec.Struct, frozen=True):
    availability: _Availability | None = None


class _Meta(msgspec.Struct, frozen=True):
    labels: dict[str, str] = {}


class _Slim(msgspec.Struct, frozen=True):
    metadata: _Meta = _Meta()
    spec: _Spec = _Spec()


_slim = msgspec.json.Decoder(_Slim).decode


class Vm(NamedTuple):
    """As much of a VirtualMachine as says when it restarts."""

    key: Key
    labels: Mapping[str, str]
    priority: RestartPriority | None
    needed: tuple[Dependency, ...] = ()

    @property
    def selects(self) -> bool:
        return any(each.selector is not None for each in self.needed)

    def needs(self, other: "Vm") -> bool:
        return other.key != self.key and any(
            availability.names(each, other.key.name, other.labels) for each in self.needed
        )


def _vm(cr: api.VirtualMachine) -> Vm:
    key, said = Key(cr.metadata.namespace, cr.metadata.name), cr.spec.availability
    if said is None:
        return Vm(key, cr.metadata.labels, None)
    return Vm(key, cr.metadata.labels, said.restart_priority, said.depends_on)


def _parsed(own: Own) -> Vm | None:
    return _read(own.raw)


@lru_cache(maxsize=4 * MOST)
def _read(raw: bytes) -> Vm | None:
    try:
        return _vm(api.parse(api.VirtualMachine, raw))
    except api.InvalidObject:
        return None


def _words(own: Own) -> Iterable[str]:
    said = _slim(own.raw).spec.availability
    if said is None or not said.depends_on or (vm := _parsed(own)) is None:
        return
    yield f"depends/{vm.key.namespace}"
    yield f"named/{vm.key.namespace}/{vm.key.name}"
    if vm.selects:
        yield f"selects/{vm.key.namespace}"
    yield from (f"needs/{vm.key.namespace}/{each.name}" for each in vm.needed if each.name)


DEPENDING: Index[Any] = Index(api.VirtualMachine, _words)
"""VirtualMachines that depend on others, by namespace and by whom they name."""


def look(cr: api.VirtualMachine, policy: HAPolicySpec | None, world: Snapshot, members: Index[Any]) -> SeenOrder:
    """Gather it. A VM that depends on nobody, and on whom nobody depends, costs two look-ups. ``members`` finds all of
    a namespace, for those who depend on others by labels."""
    me, rank = _vm(cr), _ranks(policy or HAPolicySpec())
    waiting = list(_waiting_for(me, world))
    if not me.needed and not waiting:
        return NO_ORDER
    return SeenOrder(
        depends=bool(me.needed),
        circle=_circle(me, world),
        later=tuple(sorted({vm.key.name for vm in _needed(me, world, members) if rank(vm) > rank(me)})),
        sooner=tuple(sorted({vm.key.name for vm in waiting if rank(vm) < rank(me)})),
    )


def neighbours(own: Own, world: Snapshot, members: Index[Any]) -> Iterable[Key]:
    """Whose order changes with this VM: those that depend on it, those that it depends on, and circles."""
    slim = _slim(own.raw)
    depends = slim.spec.availability is not None and slim.spec.availability.depends_on
    me = _parsed(own) if depends else Vm(own.metadata.key, slim.metadata.labels, None)
    if me is None:
        return
    yield from (vm.key for vm in _waiting_for(me, world))
    yield from (Key(me.key.namespace, each.name) for each in me.needed if each.name)
    if me.needed:
        yield from world.keys(DEPENDING, f"depends/{me.key.namespace}")[:MOST]
    if me.selects:
        yield from world.keys(members, f"Namespace//{me.key.namespace}")[:MOST]


def matters(own: Own) -> Hashable:
    """What of a VM is news for its neighbours."""
    return own.metadata.uid, own.metadata.generation, tuple(sorted(_slim(own.raw).metadata.labels.items()))


def _all(held: Iterable[Own]) -> Iterator[Vm]:
    yield from (vm for own in held if (vm := _parsed(own)) is not None)


def _waiting_for(me: Vm, world: Snapshot) -> Iterator[Vm]:
    named = world.by(DEPENDING, f"needs/{me.key.namespace}/{me.key.name}", MOST)
    choosing = world.by(DEPENDING, f"selects/{me.key.namespace}", MOST)
    yield from (vm for vm in _all((*named, *choosing)) if vm.needs(me))


def _needed(me: Vm, world: Snapshot, members: Index[Any]) -> Iterator[Vm]:
    for each in me.needed:
        found = world.get(api.VirtualMachine, Key(me.key.namespace, each.name)) if each.name else None
        if isinstance(found, api.VirtualMachine):
            yield _vm(found)
    if me.selects:
        yield from (vm for vm in _all(world.by(members, f"Namespace//{me.key.namespace}", MOST)) if me.needs(vm))


def _ranks(policy: HAPolicySpec) -> Callable[[Vm], int]:
    def rank(vm: Vm) -> int:
        return availability.PRIORITIES.index(availability.priority(policy, vm.labels, vm.priority))

    return rank


def _circle(me: Vm, world: Snapshot) -> tuple[str, ...]:
    """The shortest way from a VM by its dependencies back to itself, over ``MOST`` VMs."""
    chosen = list(_all(world.by(DEPENDING, f"depends/{me.key.namespace}", MOST))) if me.needed else []
    ways: dict[Key, tuple[str, ...]] = {me.key: (me.key.name,)}
    front = deque([me])
    while front:
        vm = front.popleft()
        if vm is not me and vm.needs(me):
            return ways[vm.key]
        for other in _following(vm, chosen, world):
            if other.key not in ways and len(ways) <= MOST:
                ways[other.key] = (*ways[vm.key], other.key.name)
                front.append(other)
    return ()


def _following(vm: Vm, chosen: Sequence[Vm], world: Snapshot) -> Iterator[Vm]:
    """Whom a VM depends on, and who in turn depend on somebody: by name, or by labels among ``chosen``."""
    for each in vm.needed:
        if each.name:
            yield from _all(world.by(DEPENDING, f"named/{vm.key.namespace}/{each.name}"))
    if vm.selects:
        yield from (other for other in chosen if vm.needs(other))
