"""What is to be undone so that vdcos can be removed, and VMs and disks stay.

Children are detached from our objects: else the garbage collector takes them along when these go, and definitions take
all their objects along. Labels stay, by which a later installation finds its children again, and so do the field
managers, by which it knows what it set in them. Our finalizers go: nobody is left who would take them off.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import msgspec

from vdcos.core import counts, finalizers, hosts, kinds, marks, ownership
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.kubernetes import Node
from vdcos.core.objects import Key, Object, Own, Resource, Unreadable
from vdcos.core.plan import Action, Delete, Patch
from vdcos.core.preflight import Read

GUARD = f"{ownership.MANAGER}-uninstall-first"
"""The admission policy, and its binding, that lets nobody delete our definitions while VMs hang on them."""


class PolicyBinding(Object, frozen=True):
    """Puts an admission policy into force."""

    resource: ClassVar[Resource] = Resource(
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        namespaced=False,
    )


@dataclass(frozen=True, slots=True)
class Undoing:
    """What is to be done, in this order; and what stays as it is that somebody should know of."""

    actions: tuple[Action, ...]
    notes: tuple[str, ...]


def kinds_to_read(own: Mapping[type[Any], Resource], written: Iterable[type[Object]]) -> dict[type[Any], Resource]:
    """The kinds that have something of ours: our own, those that services write, and the guard's."""
    foreign: list[type[Object]] = [*written, PolicyBinding]
    return {**own, **{kind: kind.resource for kind in foreign}}


def undo(read: Read, own: Mapping[type[Any], Resource], written: Sequence[type[Object]]) -> Undoing:
    """Children first, so that nothing is ever deleted with its owner; the guard last, when nothing hangs on anything.

    A crash after any of it is harmless: what is left is found again.
    """
    children = [
        action for kind in written for held in _all(read(kind)) if (action := detach(kind.resource, held)) is not None
    ]
    released = [
        replace(patch, why="its deletion need not wait for anybody")
        for kind, resource in own.items()
        for held in _all(read(kind))
        for patch in finalizers.hold(resource, held.metadata, in_use=False)
    ]
    opened = [action for node in _all(read(Node)) for action in marks.untaint(node, marks.FAILOVER_ONLY, _OPENED)]
    guard = [
        Delete(PolicyBinding.resource, held.metadata.key, held.metadata.uid, "definitions may be deleted now")
        for held in _all(read(PolicyBinding))
        if held.metadata.name == GUARD
    ]
    return Undoing((*children, *released, *opened, *guard), tuple(note for say in NOTES for note in say(read, own)))


_OPENED = "nobody keeps it free for restarts any more"


def detach(resource: Resource, held: Object) -> Patch | None:
    """Take a child out of the hands of all owners of ours; None when it is in none."""
    group = f"{ownership.GROUP}/"
    mine = [n for n, ref in enumerate(held.metadata.owner_references) if ref.api_version.startswith(group)]
    if not mine or resource.group == ownership.GROUP:
        return None
    operations: list[dict[str, Any]] = []
    for number in reversed(mine):
        at, ref = f"/metadata/ownerReferences/{number}", held.metadata.owner_references[number]
        operations += [{"op": "test", "path": f"{at}/uid", "value": ref.uid}, {"op": "remove", "path": at}]
    owner = held.metadata.owner_references[mine[0]]
    why = f"it is to stay when {owner.kind} {owner.name} goes"
    return Patch(resource, held.metadata.key, held.metadata.uid, tuple(operations), why)


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    power_state: str = "PoweredOn"
    run_strategy: str = ""


class _Status(msgspec.Struct, frozen=True):
    phase: str = ""


class _Thing(msgspec.Struct, frozen=True):
    spec: _Spec = _Spec()
    status: _Status = _Status()


def _failures(read: Read, own: Mapping[type[Any], Resource]) -> Iterator[str]:
    """Nobody brings a failure to its end."""
    for held in _of(read, own, kinds.HOST_FAILURE):
        if (phase := _parsed(held.raw).status.phase) != "Completed":
            yield (
                f"HostFailure {held.metadata.name} is under way ({phase or 'New'}) and stays unfinished: its VMs are "
                "not restarted"
            )


def _halted(read: Read, own: Mapping[type[Any], Resource]) -> Iterator[str]:
    """VMs that are held, for failover capacity, say, stay off."""
    children = read(kubevirt.VirtualMachine)
    off = []
    for held in _of(read, own, kinds.VIRTUAL_MACHINE):
        child = None if isinstance(children, Unreadable) else children.get(held.metadata.key)
        halted = child is not None and msgspec.json.decode(child.spec, type=_Spec).run_strategy == "Halted"
        if halted and _parsed(held.raw).spec.power_state != "PoweredOff":
            off.append(str(held.metadata.key))
    if off:
        names = counts.listed(len(off), sorted(off))
        yield f"declared on and held off for now, these stay off (virtctl start NAME -n NAMESPACE): {names}"


def _cordoned(read: Read, own: Mapping[type[Any], Resource]) -> Iterator[str]:
    """Hosts that are not to be used may have a reason for that which outlives us."""
    for node in _all(read(Node)):
        name = node.metadata.name
        if marks.has(node, marks.DOWN):
            yield (
                f"node {name} stays out of service: once it is up and clean again, kubectl taint node {name} "
                f"{hosts.OUT_OF_SERVICE}-"
            )
        if marks.cordoned_by(node):
            yield f"node {name} stays cordoned: kubectl uncordon {name} when it may be used"


NOTES: tuple[Callable[[Read, Mapping[type[Any], Resource]], Iterator[str]], ...] = (_failures, _halted, _cordoned)


def _parsed(raw: bytes) -> _Thing:
    """As far as it can be read: others may have written anything."""
    try:
        return msgspec.json.decode(raw, type=_Thing)
    except msgspec.MsgspecError:
        return _Thing()


def _of(read: Read, own: Mapping[type[Any], Resource], resource: Resource) -> Iterator[Own]:
    yield from _all(read(next(kind for kind, served in own.items() if served == resource)))


def _all(found: Mapping[Key, Any] | Unreadable) -> list[Any]:
    """In order of namespace and name; nothing of what is not installed."""
    return [] if isinstance(found, Unreadable) else [found[key] for key in sorted(found)]
