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

from vdcos.core.objects import Key, Meta, Object, Resource
from vdcos.core.plan import Action, Instant
from vdcos.core.service import Service
from vdcos.runtime.engine import Conversation, Engine, Outcome
from vdcos.runtime.queue import Item, Queue
from vdcos.runtime.requests import ApiError, Request
from vdcos.runtime.shell import IN_FLIGHT, MOST_SECONDS, NotLeading, land, seconds_for_request
from vdcos.runtime.store import Store
from vdcos.services.catalogue import dated, indexes, kinds, services
from vdcos.testing.apiserver import NAMESPACE, ApiServer, Change, Held
from vdcos.testing.cluster import CONFIG_MAP, POD, SECRET, Cluster, Happens
from vdcos.testing.memo import Memo, SharedStore, decoded

START = 1_700_000_000.0
TICK = 0.1
"""Everybody but the operator acts at whole ticks. What the operator does within one is therefore over, whatever small
delays a fault brought about, before anybody else moves: paths that differ by no more than that meet again."""
LAG = 0.001
"""How long after a write the operator hears of it by its watch."""


@dataclass(frozen=True, slots=True)
class Violation(Exception):
    """A law does not hold."""

    law: str
    what: str

    def __str__(self) -> str:
        return f"{self.law}: {self.what}"


class NotYet(Exception):
    """A step is not possible in this state: what it is about is not there."""


class Crash(BaseException):
    """The operator's process ends here."""


@dataclass(frozen=True, slots=True)
class Write:
    """A request of the operator that changed something, and what it changed."""

    at: float
    replica: str
    request: Request
    before: Held | None
    after: Held | None


@dataclass(slots=True)
class Stream:
    """A kind's watch in one replica: how far in the log it is, and until when it says nothing."""

    kind: type[Any]
    resource: Resource
    wanted: Callable[[Held], bool]
    position: int = 0
    silent_until: float = 0.0

    def fork(self) -> "Stream":
        return Stream(self.kind, self.resource, self.wanted, self.position, self.silent_until)


class Observer:
    """What the engine tells: bugs are violations, the rest goes into the trace."""

    def __init__(self, world: "World", replica: str) -> None:
        self._world = world
        self._replica = replica

    def acted(self, item: Item, action: Action) -> None:
        self._world.note(f"{self._replica} {item.service} {item.key}: {action.why}")

    def said(
        self, item: Item, owner: Meta, before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]
    ) -> None:
        if self._world.trace is not None:
            ready: Mapping[str, Any] = next((c for c in now if c["type"] == "Ready"), {})
            self._world.note(
                f"{self._replica} {item.service} {item.key}: Ready={ready.get('status')} {ready.get('reason')}"
            )

    def refused(self, item: Item, error: ApiError) -> None:
        self._world.note(f"{self._replica} {item.service} {item.key}: refused: {error}")

    def bug(self, item: Item, error: Exception) -> None:
        raise Violation("no bugs", f"{item.service} raised on {item.key}: {type(error).__name__}: {error}") from error


class Replica:
    """One process of the operator: the real store, queue and engine, and models of its watches and its lease."""

    def __init__(self, world: "World", name: str, served: Sequence[Service[Any, Any]]) -> None:
        self.name = name
        self.world = world
        self.served = served
        self.resources = world.resources
        self.store = SharedStore(self.resources, world.indexes, dated(served), lambda: self.world.clock().mono)
        self.queue = Queue()
        self.engine = Engine(served, self.store, self.queue, Observer(world, name), world.clock)
        self.streams = {kind: Stream(kind, resource, _selected(kind)) for kind, resource in self.resources.items()}
        self._sort_streams()
        self.talking: dict[int, tuple[Item, Conversation, Request]] = {}
        """Conversations whose last request is on its way, by number."""
        self.restarts_at = math.inf
        self.restart_delay = 0.0
        """For how long it stays down when it crashes."""

    def _sort_streams(self) -> None:
        self.by_resource: dict[Resource, list[Stream]] = {}
        for stream in self.streams.values():
            self.by_resource.setdefault(stream.resource, []).append(stream)

    def fork(self, world: "World") -> "Replica":
        """A process in the same state. Conversations cannot be forked: there must be none."""
        assert not self.talking
        twin = Replica(world, self.name, self.served)
        _copy_store(self.store, twin.store)
        _copy_queue(self.queue, twin.queue)
        twin.engine._refused = {item: dict(known) for item, known in self.engine._refused.items()}
        twin.streams = {kind: stream.fork() for kind, stream in self.streams.items()}
        twin._sort_streams()
        twin.restarts_at = self.restarts_at
        return twin

    def die(self, restarts_at: float) -> None:
        """The process ends, and starts again at some time. What it said last is still on its way."""
        self.restarts_at = restarts_at
        for number, (_, conversation, request) in self.talking.items():
            conversation.close()
            self.world.flying[number] = request
        self.talking = {}

    # Watches

    def list_all(self) -> None:
        for kind in self.streams:
            self.list(kind)

    def list(self, kind: type[Any]) -> None:
        """A complete list of a kind, and from there on its watch."""
        stream, api = self.streams[kind], self.world.api
        if stream.resource in self.world.absent:
            self.store.unavailable(kind, f"the API {stream.resource.plural} is not installed")
            return
        stream.position = len(api.changes(stream.resource))
        listed = [stored(kind, held) for held in api.all(stream.resource) if stream.wanted(held)]
        self.store.replace(kind, listed, str(api.version))

    def hear(self, kind: type[Any]) -> None:
        """Whatever a watch has to say by now."""
        stream = self.streams[kind]
        if self.world.now < stream.silent_until or stream.resource in self.world.absent:
            return
        log = self.world.api.changes(stream.resource)
        while stream.position < len(log):
            change = log[stream.position]
            stream.position += 1
            if not stream.wanted(change.held):
                continue
            if change.type == "DELETED":
                self.store.remove(kind, change.held.key, change.held.meta["resourceVersion"])
            else:
                self.store.put(kind, stored(kind, change.held))

    @property
    def synced(self) -> bool:
        """Whether it has heard everything."""
        changes = self.world.api.changes
        return all(stream.position == len(changes(stream.resource)) for stream in self.streams.values())

    # Work

    def next_due(self) -> float:
        """When there is something to do, in the world's time."""
        if self.restarts_at < math.inf:
            return self.restarts_at
        due = self.queue.next_due()
        if due is None or len(self.talking) >= IN_FLIGHT:
            return math.inf
        return max(self.world.now, due)

    def work(self) -> None:
        if self.restarts_at < math.inf:
            self.world.restart(self)
            return
        item = self.queue.pop(self.world.now)
        if item is not None:
            self.world.look(self, item)
            self._advance(item, self.engine.reconcile(item), None)

    def _advance(self, item: Item, conversation: Conversation, answer: bytes | ApiError | None) -> None:
        """Go on with a conversation, up to a request that takes time or to its end."""
        try:
            while True:
                if isinstance(answer, ApiError):
                    request = conversation.throw(answer)
                else:
                    request = next(conversation) if answer is None else conversation.send(answer)
                seconds_for_request(self.world.remaining(self))
                latency = self.world.latency()
                if latency:
                    number = self.world.number()
                    self.talking[number] = item, conversation, request
                    self.world.at(latency, Arrive(self.name, number))
                    return
                try:
                    answer = self.world.serve(self, request)
                except ApiError as error:
                    answer = error
        except StopIteration as stop:
            outcome: Outcome = stop.value
            land(self.queue, item, outcome, self.world.now)
        except NotLeading:
            conversation.close()
            self.queue.done(item, self.world.now, after=0.0)

    def arrived(self, number: int) -> None:
        """A request on its way reaches the API server; the answer needs as long again."""
        if number in self.talking:
            request = self.talking[number][2]
            answer: bytes | ApiError
            try:
                answer = self.world.serve(self, request)
            except ApiError as error:
                answer = error
            self.world.at(self.world.latency(), Answer(self.name, number, answer))

    def answered(self, number: int, answer: bytes | ApiError) -> None:
        if number in self.talking:
            item, conversation, _ = self.talking.pop(number)
            self._advance(item, conversation, answer)

    def mark(self) -> tuple[Any, ...] | None:
        """What tells two states of the process apart; None while it has not heard all, or speaks.

        A store that has heard everything holds what the API server holds. Should it not, for a bug, it is told.
        """
        silent = any(stream.silent_until > self.world.now for stream in self.streams.values())
        if self.talking or silent or not self.synced or self.restarts_at < math.inf:
            return None
        return (self.name, _queue_mark(self.queue, self.world.now), _refusals(self.engine), self._deviations())

    def _deviations(self) -> tuple[Any, ...]:
        found = []
        for kind, stream in self.streams.items():
            held = self.store.shelf(kind).objects
            there = {h.key: h.meta["resourceVersion"] for h in self.world.api.all(stream.resource) if stream.wanted(h)}
            if len(held) != len(there) or any(
                there.get(key) != value.metadata.resource_version for key, value in held.items()
            ):
                found.append((kind.__name__, tuple(sorted(held)), tuple(sorted(there))))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Arrive:
    replica: str
    number: int


@dataclass(frozen=True, slots=True)
class Answer:
    replica: str
    number: int
    answer: bytes | ApiError


@dataclass(frozen=True, slots=True)
class Hear:
    """A watch of a replica brings what it has not brought yet."""

    replica: str
    kind: type[Any]


@dataclass(frozen=True, slots=True)
class Relist:
    """A watch broke off; its kind is listed again."""

    replica: str
    kind: type[Any]


What = Happens | Arrive | Answer | Hear | Relist


class Faults:
    """Decides what goes wrong. This one lets everything go right."""

    over: bool = True
    """Whether nothing will go wrong any more."""

    def fork(self) -> "Faults":
        return self

    def latency(self, world: "World") -> float:
        """Seconds by which the next request is late."""
        return 0.0

    def before(self, world: "World", replica: Replica, request: Request, number: int) -> None:
        """The number-th write is about to reach the API server. May raise ApiError or Crash."""

    def after(self, world: "World", replica: Replica, request: Request, number: int) -> None:
        """It was carried out, and the answer is on its way. May raise ApiError or Crash."""


class Checks(Protocol):
    """Laws that must hold at every moment."""

    def wrote(self, world: "World", write: Write) -> None: ...

    def changed(self, world: "World", resource: Resource, change: Change) -> None: ...

    def hosts(self, world: "World") -> None: ...


class Step(Protocol):
    """Something that somebody does, whenever the world has come to rest after the step before."""

    def __call__(self, world: "World") -> None: ...


class Chance:
    """How long things take, and who comes first: here, always the same."""

    def fork(self) -> "Chance":
        return self

    def latency(self) -> float:
        """Seconds that a request, or its answer, is on its way."""
        return 0.0

    def delay(self, now: float, seconds: float) -> float:
        """When something happens that takes about so many seconds."""
        ticks = math.floor((now - START) / TICK + 1e-6) + max(1, round(seconds / TICK))
        return round(START + ticks * TICK, 3)

    def lag(self) -> float:
        return LAG


class Dice(Chance):
    """Everything takes as long as a seed says, so that everybody overtakes everybody."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  not for secrets

    def fork(self) -> "Dice":
        twin = Dice(0)
        twin._random.setstate(self._random.getstate())
        return twin

    def latency(self) -> float:
        return self._random.choice((0.001, 0.005, 0.02, 0.1))

    def delay(self, now: float, seconds: float) -> float:
        return now + seconds * self._random.uniform(0.3, 2.0)

    def lag(self) -> float:
        return self._random.choice((0.001, 0.01, 0.05, 0.3))


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
    ) -> None:
        self.now = START
        self.api = ApiServer()
        self.api.now = START
        self.chance = chance or Chance()
        self.faults = faults or Faults()
        self.trace = trace
        self.cluster = Cluster(self.api, self.later, hosts)
        self.absent: frozenset[Resource] = frozenset()
        self.writes: list[Write] = []
        self.attempts = 0
        """Writes that the operator tried to make."""
        self.looks = 0
        self.laws = laws
        self._agenda: list[tuple[float, int, What]] = []
        self._numbers = 0
        self.replicas: dict[str, Replica] = {}
        self.flying: dict[int, Request] = {}
        """Requests on their way whose sender has ended."""
        self.deleted: set[tuple[Resource, Key]] = set()
        """What somebody other than the operator deleted by hand."""
        self.served = tuple(served) if served is not None else _remembering()
        self.resources, self.indexes = kinds(self.served), indexes(self.served)
        self.skew = 0.0
        self.script: tuple[Step, ...] = ()
        self.done = 0
        """How many steps of the script have been taken."""
        self.hurry: tuple[float, ...] = ()
        """When the steps are taken, if not at rest; one that is not possible by then waits for the rest."""

    def fork(self) -> "World":
        """Another world in the same state; what happens in one does not happen in the other."""
        twin = World.__new__(World)
        twin.now, twin.api = self.now, self.api.fork()
        twin.chance, twin.faults = self.chance.fork(), self.faults.fork()
        twin.trace = None if self.trace is None else list(self.trace)
        twin.cluster = self.cluster.fork(twin.api, twin.later)
        twin.absent, twin.skew, twin.script, twin.done = self.absent, self.skew, self.script, self.done
        twin.hurry = self.hurry
        twin.writes, twin.attempts, twin.looks = list(self.writes), self.attempts, self.looks
        twin.laws = self.laws
        twin._agenda, twin._numbers = list(self._agenda), self._numbers
        twin.served, twin.deleted = self.served, set(self.deleted)
        twin.resources, twin.indexes = self.resources, self.indexes
        twin.replicas, twin.flying = {}, dict(self.flying)
        for name, replica in self.replicas.items():
            twin.replicas[name] = replica.fork(twin)
        return twin

    # Time

    def clock(self) -> Instant:
        return Instant(self.now + self.skew, self.now)

    def at(self, seconds: float, what: What) -> None:
        """Something happens in exactly so many seconds."""
        heapq.heappush(self._agenda, (self.now + seconds, self.number(), what))

    def later(self, seconds: float, what: Happens) -> None:
        """Somebody other than the operator acts in about so many seconds."""
        heapq.heappush(self._agenda, (self.chance.delay(self.now, seconds), self.number(), what))

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def latency(self) -> float:
        return self.chance.latency() + self.faults.latency(self)

    def next(self) -> tuple[float, Replica | None]:
        """When the next thing happens, and which replica does it, if one does. Infinity when nothing ever will."""
        due, acting = self._agenda[0][0] if self._agenda else math.inf, None
        for replica in self.replicas.values():
            if (mine := replica.next_due()) < due:
                due, acting = mine, replica
        return due, acting

    def step(self) -> bool:
        """One event. False when nothing is left to happen."""
        due, acting = self.next()
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
            self.now = self.api.now = self.chance.delay(self.now, TICK)
            self._take_step()
            return True
        self.now = self.api.now = max(self.now, due)
        if acting is not None:
            self._guard(acting, acting.work)
        else:
            self._happens(heapq.heappop(self._agenda)[2])
        self.notice()
        return True

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
        self.done += 1
        self.note(f"*** {step}")
        step(self)
        self.notice()

    def _happens(self, what: What) -> None:
        match what:
            case Hear(name, kind):
                if (replica := self.replicas[name]).restarts_at == math.inf:
                    replica.hear(kind)
            case Relist(name, kind):
                if (replica := self.replicas[name]).restarts_at == math.inf:
                    replica.list(kind)
            case Arrive(name, number) if number in self.flying:
                self._serve_nobody(self.flying.pop(number))
            case Arrive(name, number):
                self._guard(self.replicas[name], lambda: self.replicas[name].arrived(number))
            case Answer(name, number, answer):
                self._guard(self.replicas[name], lambda: self.replicas[name].answered(number, answer))
            case _:
                self.note(what)
                known = len(self.cluster.entries)
                self.cluster.happens(what)
                if self.laws is not None and len(self.cluster.entries) > known:
                    self.laws.hosts(self)

    def notice(self) -> None:
        """Tell everybody whose concern it is what was just written."""
        while self.api.fresh:
            told, self.api.fresh = self.api.fresh, []
            for resource, change in told:
                self.note(change, resource)
                self.cluster.react(resource, change)
                if self.laws is not None:
                    self.laws.changed(self, resource, change)
            for resource in dict.fromkeys(resource for resource, _ in told):
                for replica in self.replicas.values():
                    for stream in replica.by_resource.get(resource, ()):
                        silence = max(0.0, stream.silent_until - self.now)
                        self.at(silence + self.chance.lag(), Hear(replica.name, stream.kind))

    # The operator

    def start(self, name: str = "operator") -> Replica:
        """A replica starts: it lists everything, then watches."""
        replica = self.replicas[name] = Replica(self, name, self.served)
        replica.list_all()
        return replica

    def restart(self, replica: Replica) -> None:
        self.note(f"{replica.name} starts again")
        self.start(replica.name)

    def remaining(self, replica: Replica) -> float:
        """Seconds that a write of the replica may still take."""
        return MOST_SECONDS

    def look(self, replica: Replica, item: Item) -> None:
        self.looks += 1
        self.note(f"{replica.name} looks at {item.service} {item.key}")

    def serve(self, replica: Replica, request: Request) -> bytes:
        """A request of the operator reaches the API server. Raises ApiError, and Crash for a process that ends."""
        if not request.writes:
            return self.api.handle(request)
        self.attempts += 1
        number = self.attempts
        self.faults.before(self, replica, request, number)
        before = self.api.get(request.resource, request.key)
        version = self.api.version
        self.note(f"{replica.name} → {request.method} {request.path}")
        answer = self.api.handle(request)
        if self.api.version != version:
            write = Write(self.now, replica.name, request, before, self.api.get(request.resource, request.key))
            self.writes.append(write)
            if self.laws is not None:
                self.laws.wrote(self, write)
        self.faults.after(self, replica, request, number)
        return answer

    # What can be said of a state

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
        agenda = tuple((round((at - self.now) / TICK), what) for at, _, what in sorted(self._agenda, key=_order))
        return round(self.now / TICK), self.done, self.api.mark, self.cluster.mark(), agenda, tuple(replicas)

    def note(self, what: object, resource: Resource | None = None) -> None:
        if self.trace is not None:
            said = what
            if resource is not None:
                said = f"    {what.type.lower()} {resource.plural} {what.held.key} v{what.held.version}"  # type: ignore[attr-defined]
            self.trace.append(f"{self.now - START:9.3f}  {said}")


@lru_cache(maxsize=1)
def _remembering() -> tuple[Memo, ...]:
    """The operator's services, for all worlds of this process."""
    return tuple(map(Memo, services({})))


def _order(entry: tuple[float, int, What]) -> tuple[float, int]:
    return entry[0], entry[1]


def stored(kind: type[Any], held: Held) -> Any:
    """An object as the store keeps it, decoded once per version."""
    found = held.decoded.get(kind)
    if found is None:
        found = held.decoded[kind] = decoded(kind, held.raw)
    return found


def _selected(kind: type[Any]) -> Callable[[Held], bool]:
    """Whether an object is among those that a watch with the kind's selectors brings."""
    selector = kind.field_selector if issubclass(kind, Object) else ""
    pairs = [part.partition("=") for part in selector.split(",") if part]

    def wanted(held: Held) -> bool:
        for path, _, value in pairs:
            place: Any = held.tree
            for step in path.split("."):
                place = place.get(step, {})
            if place != value:
                return False
        return True

    return wanted


# Forks of what the operator keeps in memory. They know its insides, so that it need not know that it is forked.


def _copy_store(source: Store, target: Store) -> None:
    for kind, shelf in source._shelves.items():
        twin = target._shelves[kind]
        twin.objects, twin.assumed = dict(shelf.objects), dict(shelf.assumed)
        twin.removed, twin.synced, twin.why = dict(shelf.removed), shelf.synced, shelf.why
    for index, indexed in source._indexed.items():
        copy = target._indexed[index]
        copy.keys = {value: dict(keys) for value, keys in indexed.keys.items()}
        copy.amounts, copy._entered = dict(indexed.amounts), dict(indexed._entered)
    target._parsed = dict(source._parsed)
    target._changed = {kind: dict(times) for kind, times in source._changed.items()}


def _copy_queue(source: Queue, target: Queue) -> None:
    target._heap, target._due = list(source._heap), dict(source._due)
    target._in_flight, target._failures = set(source._in_flight), dict(source._failures)
    target._not_before = dict(source._not_before)
    first = max((order for _, order, _ in source._heap), default=0) + 1
    target._order = iter(range(first, 1 << 62))  # type: ignore[assignment]


def _queue_mark(queue: Queue, now: float) -> tuple[Any, ...]:
    waiting = sorted((due, order, item) for due, order, item in queue._heap if queue._due.get(item) == due)
    ordered = tuple(dict.fromkeys((item, math.ceil((due - now) / TICK - 1e-6)) for due, _, item in waiting))
    later = tuple(sorted((item, math.ceil((due - now) / TICK - 1e-6)) for item, due in queue._not_before.items()))
    return ordered, tuple(sorted(queue._failures.items())), later


def _refusals(engine: Engine) -> tuple[Any, ...]:
    return tuple(
        (item, tuple((print_, known.generation, math.ceil(known.until / TICK)) for print_, known in of.items()))
        for item, of in engine._refused.items()
    )


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
