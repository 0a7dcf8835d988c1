"""What goes wrong: one API fault and one fault of the view, both at the n-th write of the operator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from vdcos.core import kinds
from vdcos.core.foreign.multus import NetworkAttachmentDefinition
from vdcos.core.objects import Key, Resource
from vdcos.core.ownership import GROUP
from vdcos.runtime.requests import ApiError, Request
from vdcos.testing.apiserver import Held
from vdcos.testing.cluster import DV, VM, Tell
from vdcos.testing.forks import twin as copy_of
from vdcos.testing.hypervisor.values import (
    ClearFault,
    Event,
    Fault,
    Hang,
    Partition,
    PowerOff,
    Recover,
    SetFault,
)
from vdcos.testing.laws import TOUCHED
from vdcos.testing.replica import NO_ANSWER, Crash, Hear, Relist, Replica, stored
from vdcos.testing.simulator import Do, Faults, World

API = (
    "none",
    "lost before",  # never arrives, and the client sees a time-out
    "lost after",  # arrives, and the client sees a time-out
    "conflict",
    "touched",  # somebody else changes the object a moment before, and back later
    "invalid",
    "denied",  # by an admission webhook, which has changed its mind when asked again
    "throttled",
    "failed",  # 500
    "unavailable",  # 503
    "gateway",  # 504, and it was carried out
    "slow",  # half a second, so that much happens meanwhile
)
"""Faults of one request."""

HANGING = ("hanging",)
"""A request that takes seconds; by itself, since it moves all that follows in time."""

CRASH = ("crash before", "crash after", "down before", "down after")
"""The process ends before or after the write; it starts again at once, or 20 s later."""

VIEW = (
    "none",
    "late",  # all watches are late by half a second
    "late itself",  # only the watch of what is being written
    "late others",  # all others: what was written later is heard of earlier
    "repeated",  # the last events come again
    "expired",  # 410: events are lost, and the kinds listed again
    "rewound",  # an older replica answers
    "silent",  # a connection that is dead without saying so, until that is noticed
)
"""Faults of what the operator sees."""

NARROW = ("late itself", "late others", "repeated")
UNCERTAIN = ("none", "lost after", "touched", "gateway", "slow")
"""Faults after which there is more to be heard than the writer knows of."""

LEADER = ("paused", "cut", "crash before", "crash after")
"""With several replicas: the process that leads stands still right after the write, or does not reach the API server
from then on, for longer than the Lease lasts; or it ends."""

OUTAGE = 20.0
"""Seconds that an outage lasts."""
OUTAGES: Mapping[str, ApiError] = {
    "outage 500": ApiError(500, "InternalError", "etcdserver: request timed out"),
    "outage webhook": ApiError(500, "InternalError", "failed calling webhook: connection refused"),
    "outage 429": ApiError(429, "TooManyRequests", "too many requests, please try again later", 1.0),
    "outage 503": ApiError(503, "ServiceUnavailable", "apiserver is shutting down", 5.0),
}
"""What is answered for a while, beginning with that write: to every write; to every write of kinds that are not ours,
since nobody is there who admits them; to every request. "cut" is the outage of the network: nothing is answered, and
the watches break off."""
EVERY_REQUEST = ("outage 429", "outage 503")

USER = ("reconsidered", "taken", "overtaken")
"""Somebody edits the VirtualMachines at that moment, or makes an object under the name of the one that is about to be
created; half a second later it is taken back. Overtaken: they are edited after the write, and its answer comes last."""

ELSEWHERE = ("replaced", "re-created", "deleted")
"""Somebody deletes what is about to be written, or comes first, and makes a namesake of his own; or the user deletes
the VirtualMachine and creates it again; or deletes it after the write, whose answer comes late. Laws hold, and it ends
elsewhere than without that."""

NAMESAKES: dict[Resource, Any] = {
    VM: {"runStrategy": "Manual", "template": {"spec": {"domain": {}}}},
    DV: {
        "source": {"blank": {}},
        "storage": {"storageClassName": "block", "resources": {"requests": {"storage": "1Gi"}}},
    },
    NetworkAttachmentDefinition.resource: {"config": "{}"},
}
"""What namesakes say: something else than we want."""

DOWN = 20.0
SLOW = {"slow": 0.5, "hanging": 6.0, "overtaken": 0.001, "deleted": 0.001}
ANSWERED_LATE = ("overtaken", "deleted")
AFTER = ("lost after", "gateway", "crash after", "down after", "paused")
"""They strike when the write has been carried out."""
LASTING = ("touched", *USER, "deleted", *OUTAGES)
"""They are over when something that they put on the agenda calls ``Faults.lift``."""
ANSWERED_AFTER = 2.0
OVERTAKEN = 0.3
LATE = 0.5
RECONSIDERED = 0.5
SILENCE = 90.0


@dataclass
class AtWrite(Faults):
    """``api`` and ``view`` go wrong at write ``number``."""

    number: int
    api: str
    view: str = "none"
    over: bool = False
    began: bool = False
    """Whether an outage has begun."""

    def __str__(self) -> str:
        return f"{self.api}/{self.view} at write {self.number}"

    @property
    def each(self) -> tuple["AtWrite", ...]:
        return (self,)

    @property
    def leads_elsewhere(self) -> bool:  # type: ignore[override]
        return self.api in ELSEWHERE

    def latency(self, world: World, request: Request) -> float:
        if self.over:
            return 0.0
        if self.api in ANSWERED_LATE and world.attempts == self.number:
            return ANSWERED_AFTER
        return SLOW.get(self.api, 0.0) if world.attempts + 1 == self.number else 0.0

    def lift(self, number: int) -> None:
        self.over = self.over or number == self.number

    def reached(self, world: World, replica: Replica, request: Request | None) -> None:
        if self.began and not self.over and self.api in EVERY_REQUEST:
            raise _again(OUTAGES[self.api])

    def before(self, world: World, replica: Replica, request: Request, number: int) -> None:
        if self.api in OUTAGES:
            self._is_out(world, replica, request, number)
            return
        if number != self.number:
            return
        world.note(f"!!! {self}")
        disturb(world, replica, request, self.view)
        self.over = self.api not in (*AFTER, *LASTING)
        match self.api:
            case "lost before":
                raise ApiError(0, "Timeout", "no answer in time")
            case "conflict":
                raise ApiError(409, "Conflict", "the object has been modified")
            case "touched":
                touch = _Touch(self.number, request.resource, request.key)
                touch(world, "yes")
                world.at(RECONSIDERED, Do(touch))
            case "cut":
                world.cut(DOWN)
                raise NO_ANSWER
            case "reconsidered":
                _reconsider(world, self.number)
            case "taken":
                _take(world, self.number, request)
            case "replaced":
                _replace(world, request)
            case "re-created":
                _create_again(world, request.key)
            case "invalid":
                raise ApiError(422, "Invalid", "spec: Invalid value: by way of trial")
            case "denied":
                raise ApiError(403, "Forbidden", 'admission webhook "trial" denied the request')
            case "throttled":
                raise ApiError(429, "TooManyRequests", "please try again later", 1.0)
            case "failed":
                raise ApiError(500, "InternalError", "etcd is not well")
            case "unavailable":
                raise ApiError(503, "ServiceUnavailable", "the server is currently unable to handle the request")
            case "crash before" | "down before":
                replica.restart_delay = DOWN if self.api == "down before" else 0.0
                raise Crash

    def after(self, world: World, replica: Replica, request: Request, number: int) -> None:
        if number != self.number or self.over:
            return
        if self.api in ANSWERED_LATE:
            world.at(OVERTAKEN, Do(_Meanwhile(self.number, self.api, request.key)))
        if self.api in LASTING:
            return
        self.over = True
        match self.api:
            case "lost after":
                raise ApiError(0, "Timeout", "no answer in time")
            case "paused":
                world.pause(DOWN)
            case "gateway":
                raise ApiError(504, "Timeout", "the server was unable to return a response in the time allotted")
            case "crash after" | "down after":
                replica.restart_delay = DOWN if self.api == "down after" else 0.0
                raise Crash

    def _is_out(self, world: World, replica: Replica, request: Request, number: int) -> None:
        if number == self.number:
            self.began = True
            world.note(f"!!! {self}")
            disturb(world, replica, request, self.view)
            world.at(OUTAGE, Do(_Heal(number)))
        if self.began and not self.over and (self.api != "outage webhook" or request.resource.group != GROUP):
            raise _again(OUTAGES[self.api])


@dataclass(frozen=True)
class _Heal:
    number: int

    def __call__(self, world: World) -> None:
        world.faults.lift(self.number)


def _again(error: ApiError) -> ApiError:
    """The same, without where it was raised before."""
    return ApiError(error.status, error.reason, error.message, error.retry_after)


def _reconsider(world: World, number: int) -> None:
    """Another placement that fits every host, and none again."""

    if any("placement" in held.tree["spec"] for held in world.api.all(kinds.VIRTUAL_MACHINE)):
        world.faults.lift(number)
        return
    _place(world, {"nodeSelector": {"pool": "all"}})
    world.at(RECONSIDERED, Do(_TakeBack(number)))


@dataclass(frozen=True)
class _Meanwhile:
    """What happens while the answer to a write is on its way."""

    number: int
    api: str
    key: Key

    def __call__(self, world: World) -> None:
        if self.api == "overtaken":
            _reconsider(world, self.number)
            return
        world.faults.lift(self.number)
        world.api.delete(kinds.VIRTUAL_MACHINE, self.key)


def _replace(world: World, request: Request) -> None:
    """A namesake that says something else and belongs to nobody takes the place of what is about to be written."""
    spec = NAMESAKES.get(request.resource)
    if spec is None:
        return
    if world.api.get(request.resource, request.key) is not None:
        world.deleted.add((request.resource, request.key))
        world.api.delete(request.resource, request.key)
        world.notice()
    if world.api.get(request.resource, request.key) is None:
        resource = request.resource
        metadata = {"name": request.key.name, "namespace": request.key.namespace}
        manifest = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "spec": spec}
        world.api.create(resource, manifest, "somebody")
        world.notice()


def _create_again(world: World, key: Key) -> None:
    """The VirtualMachine that is written, or to whose child something is."""
    live = world.api.get(kinds.VIRTUAL_MACHINE, key)
    if live is None:
        return
    world.api.delete(kinds.VIRTUAL_MACHINE, key)
    metadata = {"name": key.name, "namespace": key.namespace}
    manifest = {name: value for name, value in live.tree.items() if name != "status"} | {"metadata": metadata}
    world.api.create(kinds.VIRTUAL_MACHINE, manifest, "user")
    world.notice()


def _place(world: World, placement: dict[str, Any] | None) -> None:
    for held in world.api.all(kinds.VIRTUAL_MACHINE):
        world.api.merge_patch(kinds.VIRTUAL_MACHINE, held.key, {"spec": {"placement": placement}}, "user")


@dataclass(frozen=True)
class _TakeBack:
    number: int

    def __call__(self, world: World) -> None:
        world.faults.lift(self.number)
        _place(world, None)


def _take(world: World, number: int, request: Request) -> None:
    """Somebody makes a namesake a moment before, and deletes it later."""
    manifest = msgspec.json.decode(request.body or b"null")
    known = world.api.get(request.resource, request.key) is not None
    if known or not isinstance(manifest, dict) or "kind" not in manifest:
        world.faults.lift(number)
        return
    meta = {"name": request.key.name, **({"namespace": request.key.namespace} if request.key.namespace else {})}
    spec = manifest.get("spec", {})
    if "runStrategy" in spec:
        spec = {**spec, "runStrategy": "Manual"}
    elif request.method != "POST":
        spec = _another(spec)
    theirs = {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": meta, "spec": spec}
    world.api.create(request.resource, theirs, "somebody")
    world.at(RECONSIDERED, Do(_Withdraw(number, request.resource, request.key)))


@dataclass(frozen=True)
class _Touch:
    """An annotation on an object: it is put there, and taken away."""

    number: int
    resource: Resource
    key: Key

    def __call__(self, world: World, value: str | None = None) -> None:
        if value is None:
            world.faults.lift(self.number)
        if world.api.get(self.resource, self.key) is not None:
            touched = {"metadata": {"annotations": {TOUCHED: value}}}
            world.api.merge_patch(self.resource, self.key, touched, "somebody")


def _another(value: Any) -> Any:
    """The same fields with other values: one that says just what we want is taken over, as server-side apply has it."""
    if isinstance(value, dict):
        return {field: _another(inner) for field, inner in value.items()}
    return [] if isinstance(value, list) else "{}" if isinstance(value, str) else value


@dataclass(frozen=True)
class _Withdraw:
    number: int
    resource: Resource
    key: Key

    def __call__(self, world: World) -> None:
        world.faults.lift(self.number)
        if world.api.get(self.resource, self.key) is not None:
            world.api.delete(self.resource, self.key)


@dataclass(frozen=True)
class Trouble:
    """Something that goes wrong for a while: with the process that leads, with a host, or with a clock."""

    kind: str
    seconds: float

    def __call__(self, world: World) -> None:
        match self.kind:
            case "pause":
                world.pause(self.seconds)
            case "cut":
                world.cut(self.seconds)
            case "crash":
                for replica in world.replicas.values():
                    if replica.remaining() > 0:
                        replica.die(world.now + self.seconds)
            case "clock":
                world.skew = world.skew + (60.0 if int(self.seconds) % 2 else -60.0)
                world.at(self.seconds * 10, Do(_Right()))
            case _:
                kind, _, host = self.kind.partition(" ")
                begins, ends = HOST_FAULTS[kind]
                world.cluster.happens(Tell(host, begins))
                world.at(self.seconds * 10, Do(_Back(host, ends)))


@dataclass(frozen=True)
class _Right:
    """The clock is set right."""

    def __call__(self, world: World) -> None:
        world.skew = 0.0


@dataclass(frozen=True)
class _Back:
    """A host is well again."""

    host: str
    event: Event

    def __call__(self, world: World) -> None:
        world.cluster.happens(Tell(self.host, self.event))


HOST_FAULTS: Mapping[str, tuple[Event, Event]] = {
    "power": (PowerOff(), Recover()),
    "partition": (Partition(), Recover()),
    "hang": (Hang(), Recover()),
    "storage": (SetFault(Fault.NO_STORAGE), ClearFault(Fault.NO_STORAGE)),
}
"""How each begins, and how it ends."""
TROUBLES = ("pause", "cut", "crash", "clock", *(f"{kind} host-{n}" for kind in HOST_FAULTS for n in (1, 2)))


@dataclass
class Several(Faults):
    """Several faults, each at its own write."""

    each: tuple[AtWrite, ...]
    beside: bool = False
    """Something else goes wrong, or takes longer than it should."""

    def __str__(self) -> str:
        return " and ".join(map(str, self.each))

    @property
    def harmless(self) -> bool:
        return not self.each and not self.beside

    @property
    def spares_requests(self) -> bool:
        return not self.each

    @property
    def over(self) -> bool:  # type: ignore[override]
        return all(fault.over for fault in self.each)

    @property
    def leads_elsewhere(self) -> bool:  # type: ignore[override]
        return any(fault.leads_elsewhere for fault in self.each)

    def lift(self, number: int) -> None:
        for fault in self.each:
            fault.lift(number)

    def reached(self, world: World, replica: Replica, request: Request | None) -> None:
        for fault in self.each:
            fault.reached(world, replica, request)

    def fork(self) -> "Several":
        twin = copy_of(self)
        twin.each = tuple(copy_of(fault) for fault in self.each)
        return twin

    def latency(self, world: World, request: Request) -> float:
        return max((fault.latency(world, request) for fault in self.each), default=0.0)

    def before(self, world: World, replica: Replica, request: Request, number: int) -> None:
        for fault in self.each:
            fault.before(world, replica, request, number)

    def after(self, world: World, replica: Replica, request: Request, number: int) -> None:
        for fault in self.each:
            fault.after(world, replica, request, number)


AtWrites = AtWrite | Several


def at_write(number: int, api: str, view: str = "none", then: str = "") -> AtWrites:
    """A fault at a write; ``then``, another one of the next request that is to write something."""
    first = AtWrite(number, api, view)
    return Several((first, AtWrite(number + 1, then))) if then else first


def disturb(world: World, replica: Replica, request: Request, view: str) -> None:
    """Something is wrong with what a replica sees from now on, for a while."""
    kinds_seen = tuple(replica.streams)
    itself = replica.heard_by.get(request.resource, ())
    match view:
        case "late":
            _silence(world, replica, kinds_seen, LATE)
        case "late itself":
            _silence(world, replica, itself, LATE)
        case "late others":
            _silence(world, replica, tuple(kind for kind in kinds_seen if kind not in itself), LATE)
        case "repeated":
            for stream in replica.streams.values():
                stream.position = max(0, stream.position - 5)
            world.at(0.0, Hear(replica.name, kinds_seen))
        case "expired" | "silent":
            seconds = LATE if view == "expired" else SILENCE
            for kind in kinds_seen:
                replica.silence(kind, seconds)
            world.at(seconds, Relist(replica.name, kinds_seen))
        case "rewound":
            for kind in kinds_seen:
                _rewind(world, replica, kind)
            _silence(world, replica, kinds_seen, LATE / 2)


def _silence(world: World, replica: Replica, heard: tuple[type[Any], ...], seconds: float) -> None:
    for kind in heard:
        replica.silence(kind, seconds)
    world.at(seconds, Hear(replica.name, heard))


def _rewind(world: World, replica: Replica, kind: type[Any]) -> None:
    """A list from an API server that is some events behind, and its watch from there on, a moment later."""
    stream = replica.streams[kind]
    stream.position = max(0, stream.position - 5)
    older: dict[Any, Held] = {}
    version = 0
    for change in world.api.changes(stream.resource)[: stream.position]:
        version = change.held.version
        if change.type == "DELETED":
            older.pop(change.held.key, None)
        elif stream.wanted(change.held):
            older[change.held.key] = change.held
    replica.store.replace(kind, [stored(kind, held) for held in older.values()], str(version))


ALONE = (*HANGING, *CRASH, *USER, *ELSEWHERE)
"""Faults of a request that are not combined with others."""


def single(by_themselves: Sequence[str] = ALONE) -> list[tuple[str, str]]:
    """One thing goes wrong, with a request or with the watches."""
    return [*((api, "none") for api in (*API[1:], *by_themselves)), *(("none", view) for view in VIEW[1:])]


def combined() -> list[tuple[str, str]]:
    """Faults of a request with faults of the view, where the one makes a difference to the other: after a write that is
    known to have failed there is nothing that only ``NARROW`` faults would hide, or show again."""
    return [(api, view) for api in API[1:] for view in VIEW[1:] if view not in NARROW or api in UNCERTAIN]


def every() -> list[tuple[str, str]]:
    """All faults at one write."""
    return [*single(), *combined()]


def outages() -> list[tuple[str, str]]:
    """The outages, as faults of ``every``. They move all that follows in time."""
    return [(outage, "none") for outage in ("cut", *OUTAGES)]


def pairs() -> list[tuple[str, str, str]]:
    """Two faults, one after the other, as ``at_write`` takes them."""
    chosen = [*(api for api in API if api != "none"), "crash before", "crash after"]
    return [(first, "none", second) for first in chosen for second in chosen]
