"""The simulator: the real engine, store, queue and services in a world whose time, orders and faults we choose.

A ``World`` is an agenda of events in virtual time over a model of the API server (``apiserver``), of all other
controllers and hosts (``cluster``), and one or more replicas of the operator. Nothing sleeps and nothing is random
but by a seed. A world can be forked between any two events, so that every continuation of a moment costs no more
than its own steps.
"""

import contextlib
import heapq
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from vdcos.core.objects import Key, Resource
from vdcos.core.plan import Ask, Instant
from vdcos.core.service import Service
from vdcos.runtime.lease import LEASE as LEASE_RESOURCE
from vdcos.runtime.queue import Item
from vdcos.runtime.requests import ApiError, Request
from vdcos.runtime.shell import LEAST_SECONDS
from vdcos.services.catalogue import indexes, kinds, services
from vdcos.testing.apiserver import NAMESPACE, ApiServer, Change, Held
from vdcos.testing.cluster import CONFIG_MAP, POD, SECRET, Cluster, Happens
from vdcos.testing.forks import twin as copy_of
from vdcos.testing.memo import Memo, remembering
from vdcos.testing.outside import Reaches, Replied, reach
from vdcos.testing.replica import (
    LEASE,
    NO_ANSWER,
    TICK,
    Answer,
    Arrive,
    Crash,
    Hear,
    LeaseCall,
    NotYet,
    Relist,
    Replica,
)

START = 1_700_000_000.0
LOSS = 0.01
"""The share of packets that are lost where dice decide."""
HOUR = 3600.0
"""At full hours of the script its steps are taken, so that paths which a fault has moved in time meet again."""
AGES = 900.0
"""Seconds of rest before a step, which is longer than anybody is patient: what was before, was long ago."""
LAG = 0.001
"""How long after a write the operator hears of it by its watch."""


@dataclass(frozen=True, slots=True)
class Write:
    """A request of the operator that changed something, and what it changed."""

    request: Request
    before: Held | None
    after: Held | None


@dataclass(frozen=True, slots=True)
class Do:
    """Somebody does something."""

    what: "Step"


What = Do | Happens | Arrive | Answer | Hear | Relist | Reaches | Replied


@dataclass(frozen=True, slots=True)
class Failure:
    """A request about an object came to nothing: when, since when nothing else has, at which generation, and whether it
    was refused for what it says, so that a repetition would be, too."""

    at: float
    began: float
    generation: int
    refused: bool

    def stands(self, world: "World", item: Item) -> bool:
        """Whether it is a reason to wait: who changes what he declares is not kept waiting for what he said before."""
        resource = next(service.resource for service in world.served if service.name == item.service)
        held = world.api.get(resource, item.key)
        return held is None or held.meta["generation"] == self.generation


class Faults:
    """Decides what goes wrong. This one lets everything go right."""

    over: bool = True
    """Whether nothing will go wrong any more."""
    leads_elsewhere: bool = False
    """Whether it changes what is there, so that it need not end as it would without it."""

    @property
    def harmless(self) -> bool:
        """Whether nothing ever goes wrong but what a script says, and all takes its time."""
        return type(self) is Faults

    @property
    def spares_requests(self) -> bool:
        """Whether nothing goes wrong with what the operator writes and hears."""
        return type(self) is Faults

    def fork(self) -> "Faults":
        return copy_of(self)

    def latency(self, world: "World", request: Request) -> float:
        """Seconds by which a request is late."""
        return 0.0

    def lift(self, number: int) -> None:
        """What began at the number-th write is over."""

    def reached(self, world: "World", replica: Replica, request: Request | None) -> None:
        """A request that is no write is about to reach the API server; None: one of an elector. May raise ApiError."""

    def before(self, world: "World", replica: Replica, request: Request, number: int) -> None:
        """The number-th write is about to reach the API server. May raise ApiError or Crash."""

    def after(self, world: "World", replica: Replica, request: Request, number: int) -> None:
        """It was carried out, and the answer is on its way. May raise ApiError or Crash."""


class Checks(Protocol):
    """Laws that must hold at every moment."""

    def looked(self, replica: Replica, item: Item, overdue: float) -> None: ...

    def sent(self, world: "World", replica: Replica) -> None: ...

    def wrote(self, world: "World", write: Write) -> None: ...

    def changed(self, world: "World", resource: Resource, change: Change) -> None: ...

    def hosts(self, world: "World") -> None: ...

    def asked(self, world: "World", replica: Replica, item: Item, ask: Ask) -> None: ...


class Step(Protocol):
    """Something that somebody does, whenever the world has come to rest after the step before."""

    def __call__(self, world: "World") -> None: ...


class Chance:
    """How long things take, and who comes first: here, always the same."""

    def fork(self) -> "Chance":
        return copy_of(self)

    def latency(self) -> float:
        """Seconds that a request, or its answer, is on its way."""
        return 0.0

    def delay(self, now: float, seconds: float) -> float:
        """When something happens that takes about so many seconds."""
        ticks = math.floor((now - START) / TICK + 1e-6) + max(1, round(seconds / TICK))
        return round(START + ticks * TICK, 3)

    def lag(self) -> float:
        return LAG

    def lost(self) -> bool:
        """Whether a packet is lost on its way."""
        return False


class Dice(Chance):
    """Everything takes as long as a seed says, so that everybody overtakes everybody."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  not for secrets

    def fork(self) -> "Dice":
        twin = copy_of(self)
        twin._random = random.Random()  # noqa: S311  not for secrets
        twin._random.setstate(self._random.getstate())
        return twin

    def latency(self) -> float:
        return self._random.choice((0.001, 0.005, 0.02, 0.1))

    def delay(self, now: float, seconds: float) -> float:
        return now + seconds * self._random.uniform(0.3, 2.0)

    def lag(self) -> float:
        return self._random.choice((0.001, 0.01, 0.05, 0.3))

    def lost(self) -> bool:
        return self._random.random() < LOSS


class World:
    """``trace`` is a list that collects what happens, or None for speed."""

    def __init__(
        self,
        served: Sequence[Service[Any, Any]] | None = None,
        chance: Chance | None = None,
        faults: Faults | None = None,
        hosts: int = 2,
        trace: list[str] | None = None,
        laws: "Checks | None" = None,
        lively: bool = False,
    ) -> None:
        self.now = START
        self.api = ApiServer()
        self.api.now = START
        self.chance = chance or Chance()
        self.faults = faults or Faults()
        self.trace = trace
        self.cluster = Cluster(self.api, self.later, hosts, lively)
        self.absent: frozenset[Resource] = frozenset()
        self.carried_out = 0
        """Writes that were carried out, also those that changed nothing."""
        self.tried: list[Request] = []
        """Writes that the operator asked for, whatever became of them."""
        self.story, self.length = 0, 0
        """A hash of what the operator has gone through, and how many events that were."""
        self.laws = laws
        self._agenda: list[tuple[float, int, What]] = []
        self._numbers = 0
        self.replicas: dict[str, Replica] = {}
        self.flying: dict[int, Request] = {}
        """Requests on their way whose sender has ended."""
        self.begun: dict[tuple[str, str], float] = {}
        """When each effect outside was begun, by object and id."""
        self.deleted: set[tuple[Resource, Key]] = set()
        """What somebody other than the operator deleted by hand."""
        self.served = tuple(served) if served is not None else _remembering()
        self.resources, self.indexes = kinds(self.served), indexes(self.served)
        self.skew = 0.0
        self.stirred_at = self.now
        """When anything last happened, that is more than a look of the operator."""
        self.failures: dict[tuple[Item, bool], Failure] = {}
        """What last failed of what was asked for an object."""
        self.refusing: dict[Resource, ApiError] = {}
        """What the API server says to every write of a resource by the operator."""
        self.script: tuple[Step, ...] = ()
        self.swift = False
        """Whether steps are taken at the next tick after a rest, and not at the next hour."""
        self.done = 0
        """How many steps of the script have been taken."""
        self.hurry: tuple[float, ...] = ()
        """When the steps are taken, if not at rest; one that is not possible by then waits for the rest."""

    def fork(self) -> "World":
        """Another world in the same state; what happens in one does not happen in the other."""
        twin = copy_of(self)
        twin.api, twin.chance, twin.faults = self.api.fork(), self.chance.fork(), self.faults.fork()
        twin.trace = None if self.trace is None else list(self.trace)
        twin.cluster = self.cluster.fork(twin.api, twin.later)
        twin.tried, twin._agenda, twin.flying = list(self.tried), list(self._agenda), dict(self.flying)
        twin.deleted, twin.begun = set(self.deleted), dict(self.begun)
        twin.failures, twin.refusing = dict(self.failures), dict(self.refusing)
        twin.replicas = {name: replica.fork(twin) for name, replica in self.replicas.items()}
        return twin

    def close(self) -> None:
        """Take it apart: its parts know each other, and a garbage collector finds out late that nobody needs them."""
        for replica in self.replicas.values():
            replica.close()
        vars(self.cluster).clear()
        vars(self).clear()

    # Time

    def clock(self) -> Instant:
        return Instant(self.now + self.skew, self.now)

    def mono(self) -> float:
        return self.now

    def at(self, seconds: float, what: What) -> None:
        """Something happens in exactly so many seconds."""
        heapq.heappush(self._agenda, (self.now + seconds, self.number(), what))

    def later(self, seconds: float, what: Happens) -> None:
        """Somebody other than the operator acts in about so many seconds."""
        heapq.heappush(self._agenda, (self.chance.delay(self.now, seconds), self.number(), what))

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def latency(self, request: Request) -> float:
        slow = self.cluster.slow if request.method == "DELETE" and request.resource == POD else 0.0
        return self.chance.latency() + self.faults.latency(self, request) + slow

    def next(self) -> tuple[float, Replica | None]:
        """When the next thing happens, and which replica does it, if one does. Infinity when nothing ever will."""
        due, acting = self._agenda[0][0] if self._agenda else math.inf, None
        for replica in self.replicas.values():
            if (mine := replica.next_due()) < due:
                due, acting = mine, replica
        if due == math.inf and self._nobody_leads() and any(replica.waiting for replica in self.replicas.values()):
            due = min(replica.next_attempt() for replica in self.replicas.values())
        return due, acting

    def _nobody_leads(self) -> bool:
        return all(replica.remaining() <= LEAST_SECONDS for replica in self.replicas.values())

    def _compete(self, until: float) -> bool:
        """The next attempt to lead, if it comes before that. Whether there was one."""
        candidate = min(self.replicas.values(), key=Replica.next_attempt, default=None)
        if candidate is None or candidate.next_attempt() > until or candidate.next_attempt() == math.inf:
            return False
        self.now = self.api.now = max(self.now, candidate.next_attempt())
        led = candidate.remaining() > LEAST_SECONDS
        candidate.compete()
        if not led and candidate.remaining() > LEAST_SECONDS:
            self.stirred_at = self.now
        self.notice()
        return True

    def step(self, following: tuple[float, Replica | None] | None = None) -> bool:
        """One event. False when nothing is left to happen. ``following`` is what ``next`` says, where that is known."""
        due, acting = following or self.next()
        if due < math.inf and self._compete(due):
            return True
        if self.done < len(self.hurry) and (self.hurry[self.done] < due or due == math.inf):
            at = self.hurry[self.done]
            self.now = self.api.now = self.now + TICK if at == math.inf else max(self.now, at)
            try:
                self._take_step()
            except (ApiError, NotYet):
                if self.hurry[self.done - 1] == math.inf:
                    return True
                self.done -= 1
                self.hurry = (*self.hurry[: self.done], math.inf, *self.hurry[self.done + 1 :])
            return True
        if due == math.inf:
            if self.done == len(self.script):
                return False
            self._rest()
            try:
                self._take_step()
            except (ApiError, NotYet):
                if not self.faults.leads_elsewhere:
                    raise
            return True
        self.now = self.api.now = max(self.now, due)
        if acting is not None:
            if acting.paused_until == self.now:
                self.stirred_at = self.now
            self._guard(acting, acting.work)
        else:
            self.stirred_at = self.now
            self._happens(heapq.heappop(self._agenda)[2])
        self.notice()
        return True

    def _rest(self) -> None:
        """Let time pass until the next step. Where hosts show signs of life, or replicas compete, no hour can pass
        unseen."""
        if self.swift or self.cluster.lively or any(replica.elector is not None for replica in self.replicas.values()):
            self.now = self.api.now = self.chance.delay(self.now, TICK)
            return
        self.now = self.api.now = START + HOUR * math.ceil((self.now + AGES - START) / HOUR)
        self.api.forget_times()
        self.now = self.api.now = self.chance.delay(self.now, TICK)

    def _guard(self, replica: Replica, act: Callable[[], None]) -> None:
        """Let a process act, and end if a fault ends it."""
        try:
            act()
        except Crash:
            self.note(f"{replica.name} crashes")
            replica.die(self.now + replica.restart_delay)

    def _serve_nobody(self, request: Request) -> None:
        """A request arrives whose sender is no more."""
        with contextlib.suppress(ApiError):
            self.api.handle(request)

    def _take_step(self) -> None:
        """The next step of the script."""
        step = self.script[self.done]
        self.done, self.stirred_at = self.done + 1, self.now
        self.note(f"*** {step}")
        step(self)
        self.notice()

    def _happens(self, what: What) -> None:
        match what:
            case Hear(name) | Relist(name) | Answer(name) | Replied(name) if (
                self.replicas[name].paused_until > self.now
            ):
                self.at(self.replicas[name].paused_until - self.now, what)
            case Relist(name) if self.replicas[name].cut_until > self.now:
                self.at(self.replicas[name].cut_until - self.now, what)
            case Hear(name, heard):
                if (replica := self.replicas[name]).restarts_at == math.inf:
                    for kind in heard:
                        replica.hear(kind)
            case Relist(name, heard):
                if (replica := self.replicas[name]).restarts_at == math.inf:
                    for kind in heard:
                        replica.list(kind)
            case Arrive(name, number) if number in self.flying:
                self._serve_nobody(self.flying.pop(number))
            case Arrive(name, number):
                self._guard(self.replicas[name], lambda: self.replicas[name].arrived(number))
            case Answer(name, number, answer):
                self._guard(self.replicas[name], lambda: self.replicas[name].answered(number, answer))
            case Reaches():
                self.note(what)
                reach(self, what)
            case Replied(name):
                self.note(what)
                self.replicas[name].asker.replied(what)
            case Do(step):
                self.note(f"*** {step}")
                with contextlib.suppress(ApiError, NotYet):
                    step(self)
            case _:
                self.note(what)
                known = len(self.cluster.entries)
                self.cluster.happens(what)
                if self.laws is not None and len(self.cluster.entries) > known:
                    self.laws.hosts(self)

    def notice(self) -> None:
        """Tell everybody whose concern it is what was just written."""
        while self.api.fresh:
            told, self.api.fresh, self.stirred_at = self.api.fresh, [], self.now
            for resource, change in told:
                self.note(change, resource)
                self.cluster.react(resource, change)
                if self.laws is not None:
                    self.laws.changed(self, resource, change)
            for resource in dict.fromkeys(resource for resource, _ in told):
                for replica in self.replicas.values():
                    for kind in replica.heard_by.get(resource, ()):
                        replica.store.stirred.add(kind)
                        lag = self.chance.lag()
                        if replica.streams[kind].silent_until <= self.now:  # or it tells all when its silence ends
                            self.at(lag, Hear(replica.name, (kind,)))

    # The operator

    def start(self, name: str = "operator", life: int = 1, competes: bool = False) -> Replica:
        """A process starts: it lists everything, then watches. One of several competes for the Lease."""
        replica = self.replicas[name] = Replica(self, name, self.served, life)
        self.stirred_at = self.now
        if competes:
            replica.stand_by()
        replica.list_all()
        return replica

    def restart(self, replica: Replica) -> None:
        self.told("starts")
        self.note(f"{replica.name} starts again")
        self.start(replica.name, replica.life + 1, replica.elector is not None)

    def pause(self, seconds: float) -> None:
        """The process that leads stands still."""
        for replica in self.replicas.values():
            if replica.remaining() > 0:
                self.note(f"!!! {replica.name} stands still for {seconds} s")
                replica.paused_until = self.now + seconds

    def cut(self, seconds: float) -> None:
        """The process that leads does not reach the API server; its watches break off."""
        for replica in self.replicas.values():
            if replica.remaining() > 0:
                self.note(f"!!! {replica.name} is cut off for {seconds} s")
                replica.cut_until = self.now + seconds
                for kind in replica.streams:
                    replica.silence(kind, seconds)
                self.at(seconds, Relist(replica.name, tuple(replica.streams)))

    def serve_lease(self, replica: Replica, call: LeaseCall) -> bytes:
        """A request of an elector. Raises ApiError."""
        if replica.cut_until > self.now:
            raise NO_ANSWER
        self.faults.reached(self, replica, None)
        key = Key(*LEASE)
        match call.method:
            case "GET":
                return self.api.read(LEASE_RESOURCE, key).raw
            case "POST":
                return self.api.create(LEASE_RESOURCE, msgspec.json.decode(call.body or b"")).raw
            case _:
                return self.api.replace(LEASE_RESOURCE, key, msgspec.json.decode(call.body or b"")).raw

    def told(self, *event: Any) -> None:
        """The operator goes through something: what it looks at, asks, is answered, and what is news to it."""
        tick = math.floor(self.now / TICK + 1e-6)
        self.story, self.length = (self.story * _BASE + hash((tick, event))) % _PRIME, self.length + 1

    def failed(self, item: Item, error: ApiError) -> None:
        """A request about an object has come to nothing. That something is not there is an answer, too."""
        if error.status == 404:
            return
        service = next(service for service in self.served if service.name == item.service)
        held = self.api.get(service.resource, item.key)
        refused = error.status in (400, 403, 422)
        before, generation = self.failures.get((item, refused)), held.meta["generation"] if held is not None else 0
        began = before.began if before is not None and not refused else self.now
        self.failures[item, refused] = Failure(self.now, began, generation, refused)

    def look(self, replica: Replica, item: Item, overdue: float) -> None:
        self.told("looks", item)
        if not replica.queue.failures(item):
            self.failures.pop((item, False), None)
        if self.laws is not None:
            self.laws.looked(replica, item, overdue)
        self.note(f"{replica.name} looks at {item.service} {item.key}")

    def serve(self, replica: Replica, request: Request) -> bytes:
        """A request of the operator reaches the API server. Raises ApiError, and Crash for a process that ends."""
        self.told("asks", request.method, request.path)
        try:
            return self._serve(replica, request)
        except ApiError as error:
            self.told("is answered", error.status, error.reason, error.retry_after)
            raise
        except Crash:
            self.told("ends")
            raise

    def _serve(self, replica: Replica, request: Request) -> bytes:
        if replica.cut_until > self.now:
            raise NO_ANSWER
        if not request.writes:
            self.faults.reached(self, replica, request)
            return self.api.handle(request)
        if self.laws is not None:
            self.laws.sent(self, replica)
        self.tried.append(request)
        number = self.attempts
        self.faults.before(self, replica, request, number)
        if self.api.fresh:
            self.stirred_at = self.now
        if request.resource in self.refusing:
            raise self.refusing[request.resource].with_traceback(None)
        before = self.api.get(request.resource, request.key)
        version = self.api.version
        self.note(f"{replica.name} → {request.method} {request.path}")
        answer = self.api.handle(request)
        self.carried_out += 1
        if self.api.version != version and self.laws is not None:
            self.laws.wrote(self, Write(request, before, self.api.get(request.resource, request.key)))
        self.faults.after(self, replica, request, number)
        return answer

    # What can be said of a state

    @property
    def attempts(self) -> int:
        return len(self.tried)

    @property
    def idle(self) -> bool:
        """Whether nothing will ever happen any more unless somebody does something."""
        return self.next()[0] == math.inf and self.done == len(self.script)

    def mark(self) -> tuple[Any, ...] | None:
        """What tells this state from all others, if the operator has caught up; states with one mark go on alike.

        Times within a tick are not told apart; the order of what is due in it is.
        """
        replicas = []
        for replica in self.replicas.values():
            if (mark := replica.mark()) is None:
                return None
            replicas.append(mark)
        agenda = tuple((round((at - self.now) / TICK), _said(what)) for at, _, what in sorted(self._agenda))
        by_hand = frozenset(self.deleted), frozenset(self.begun), self.skew
        moment = round(self.now / TICK), self.done, tuple(self.refusing)
        return *moment, self.api.mark, self.cluster.mark(), agenda, tuple(replicas), by_hand

    def note(self, what: object, resource: Resource | None = None) -> None:
        if self.trace is not None:
            said = what
            if resource is not None:
                said = f"    {what.type.lower()} {resource.plural} {what.held.key} v{what.held.version}"  # type: ignore[attr-defined]
            self.trace.append(f"{self.now - START:9.3f}  {said}")


@lru_cache(maxsize=1)
def _remembering() -> tuple[Memo, ...]:
    """The operator's services, for all worlds of this process."""
    return tuple(map(remembering, services({})))


_PRIME, _BASE = (1 << 61) - 1, 1_000_003


def continued(story: int, more: int, length: int) -> int:
    """The hash of a story that goes on with another, of so many events."""
    return (story * pow(_BASE, length, _PRIME) + more) % _PRIME


def rest(story: int, beginning: int, length: int) -> int:
    """The hash of what a story has after its beginning, of so many events."""
    return (story - beginning * pow(_BASE, length, _PRIME)) % _PRIME


@lru_cache(maxsize=65_536)
def _said(what: What) -> int:
    """A hash that tells kinds of events apart, too: dataclasses of the same values have the same hash otherwise."""
    return hash(repr(what))


def bring(world: World, manifests: Iterable[Mapping[str, Any]]) -> None:
    """Objects that are there from the beginning."""
    for manifest in manifests:
        world.api.create(resource_of(manifest), dict(manifest))


def resource_of(manifest: Mapping[str, Any]) -> Resource:
    """The API resource of a manifest."""
    return _resources()[manifest["apiVersion"], manifest["kind"]]


@lru_cache(maxsize=1)
def _resources() -> Mapping[tuple[str, str], Resource]:
    known = (*kinds(services({})).values(), NAMESPACE, POD, SECRET, CONFIG_MAP)
    return {(resource.api_version, resource.kind): resource for resource in known}
