"""One process of the operator in a world: the real engine, store, queue and elector; watches and sockets are modelled.

Whatever the real shell decides is asked of the real shell's functions; what is here is when things happen.
"""

import copy
import itertools
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from vdcos.api import HAPolicy
from vdcos.core.foreign.kubernetes import NODE_LEASES, Heartbeat, Lease
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Key, Meta, Object, Own, Resource, Stored
from vdcos.core.plan import Action
from vdcos.core.service import Service
from vdcos.runtime.answers import Answers
from vdcos.runtime.engine import Conversation, Engine, Outcome
from vdcos.runtime.lease import Elector, Timing
from vdcos.runtime.queue import Item, Queue
from vdcos.runtime.requests import ApiError, Request
from vdcos.runtime.shell import IN_FLIGHT, LEAST_SECONDS, MOST_SECONDS, NotLeading, land, seconds_for_request
from vdcos.runtime.silences import Silences
from vdcos.runtime.store import version
from vdcos.services.catalogue import dated
from vdcos.testing.apiserver import Change, Held
from vdcos.testing.forks import twin as copy_of
from vdcos.testing.memo import SharedStore, decoded
from vdcos.testing.outside import Outside

if TYPE_CHECKING:
    from vdcos.testing.simulator import World

TICK = 0.1
"""Everybody but the operator acts at whole ticks. What the operator does within one is therefore over, whatever small
delays a fault brought about, before anybody else moves: paths that differ by no more than that meet again."""


@dataclass(eq=False)
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
    """Watches of a replica bring what they have not brought yet."""

    replica: str
    kinds: tuple[type[Any], ...]


@dataclass(frozen=True, slots=True)
class Relist:
    """Watches broke off; their kinds are listed again."""

    replica: str
    kinds: tuple[type[Any], ...]


SIGNS: dict[type[Any], float] = {Lease: 10.0, Heartbeat: 60.0}
"""The kinds by which hosts show that they live, and every how many seconds they do."""
NO_ANSWER = ApiError(0, "Timeout", "no answer in time")
LEASE = ("kube-system", "vdcos")
"""Namespace and name of the Lease."""


class LeaseCall(NamedTuple):
    """A request of an elector."""

    method: str
    path: str
    body: bytes | None


class _Port:
    """What an elector talks to: each call is handed to whoever drives its coroutine."""

    async def call(
        self, verb: str, method: str, path: str, *, body: bytes | None = None, seconds: float = 10.0
    ) -> bytes:
        return await _Asked(LeaseCall(method, path, body))


class _Asked:
    def __init__(self, call: LeaseCall) -> None:
        self._call = call

    def __await__(self) -> Generator[LeaseCall, bytes, bytes]:
        return (yield self._call)


@dataclass
class Stream:
    """A kind's watch in one replica: how far in the log it is, and until when it says nothing."""

    kind: type[Any]
    resource: Resource
    wanted: Callable[[Held], bool]
    selective: bool
    """Whether there is anything that it does not want."""
    position: int = 0
    silent_until: float = 0.0
    silent_since: float = 0.0
    heard_since: float = 0.0
    """Since when it has been heard without a long pause."""


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
        if isinstance(error, Violation):  # a law about what is asked outside, broken while the engine asks
            raise error
        raise Violation("no bugs", f"{item.service} raised on {item.key}: {type(error).__name__}: {error}") from error


class Replica:
    """One process of the operator: the real store, queue and engine, and models of its watches and its lease."""

    def __init__(self, world: "World", name: str, served: Sequence[Service[Any, Any]], life: int = 1) -> None:
        self.name = name
        self.world = world
        self.started = world.now
        self.life = life
        """Counts processes of this name: each has another identity."""
        self.served = served
        self.resources = world.resources
        self.streams: dict[type[Any], Stream] = {
            kind: Stream(kind, resource, _selected(kind), bool(getattr(kind, "field_selector", "")))
            for kind, resource in self.resources.items()
        }
        self.store = SharedStore(self.resources, world.indexes, dated(served), world.mono)
        self.store.last_word = self.heard_at
        self.store.since = self.heard_since
        self.store.last_sign = self.last_sign
        self.queue = Queue()
        self.asker = Outside(world, self)
        self.store.subscribe(self._told)
        self.engine = Engine(served, self.store, self.queue, Observer(world, name), world.clock, self.asker)
        self.engine._silences._since = self._will_be_silent_since
        self._awaited: tuple[Any, ...] = ()
        """What the times in the engine's silences were reckoned by."""
        self.heard_by: dict[Resource, tuple[type[Any], ...]] = {}
        """The kinds whose watches tell of a resource."""
        for kind, resource in self.resources.items():
            self.heard_by[resource] = (*self.heard_by.get(resource, ()), kind)
        self.talking: dict[int, tuple[Item, Conversation, Request]] = {}
        """Conversations whose last request is on its way, by number."""
        self.began: dict[Item, int] = {}
        """Which version the last object had when a look began that takes time."""
        self.landed: dict[Item, float] = {}
        """When the last look at an object ended."""
        self.restarts_at = math.inf
        self.restart_delay = 0.0
        """For how long it stays down when it crashes."""
        self.elector: Elector | None = None
        self.competes_at = math.inf
        self.paused_until = -math.inf
        """Its whole process stands still until then."""
        self.cut_until = -math.inf
        """It does not reach the API server until then."""

    def heard_at(self, kind: type[Any]) -> float:
        """When its watch last told anything: bookmarks tell of a quiet one that it lives."""
        stream = self.streams[kind]
        deaf = self.world.now < max(stream.silent_until, self.cut_until)
        return stream.silent_since if deaf else self.world.now

    def last_sign(self, kind: type[Any], key: Key) -> float:
        """When it last heard a host's sign of life that is no event here, but would be one: a Lease that is renewed, or
        virt-handler's heartbeat. What was not heard at its time is heard when the watch speaks again."""
        if (kind is Lease and key.namespace != NODE_LEASES) or kind not in SIGNS:
            return -math.inf
        cluster, stream, now = self.world.cluster, self.streams[kind], self.world.now
        if now < stream.silent_until:
            return cluster.last_sign(key.name, SIGNS[kind], stream.silent_since)
        last = cluster.last_sign(key.name, SIGNS[kind], now)
        return max(last, stream.silent_until) if last >= stream.silent_since > 0 else last

    def _will_be_silent_since(self, kind: type[Any], key: Key) -> float | None:
        """Since when an object will be silent if nothing happens any more: one that is renewed, and heard, never."""
        lives = kind in SIGNS and self.world.cluster.gives_signs(key.name)
        known = self.store.silent_since(kind, key)
        return math.inf if lives and known is not None and self.heard_at(kind) == self.world.now else known

    def _next_silence(self) -> float | None:
        """As the engine has it, reckoned anew when a host has fallen silent or is heard again, or a watch has."""
        silences = self.engine._silences
        if not silences._wanted:
            return None
        awaited = (self.world.cluster.turns, *(self.heard_at(kind) == self.world.now for kind in SIGNS))
        if awaited != self._awaited:
            self._awaited, silences._heap = awaited, []
            for item, wanted in silences._wanted.items():
                for watched, seconds in wanted.items():
                    began = self._will_be_silent_since(*watched)
                    silences._push(math.inf if began is None else began + seconds, item, watched, seconds)
        due = self.engine.next_silence()
        return None if due == math.inf else due

    def heard_since(self, kind: type[Any]) -> float:
        """Since when its watch is heard without a long pause."""
        return self.streams[kind].heard_since

    def fork(self, world: "World") -> "Replica":
        """A process in the same state. Conversations cannot be forked: there must be none."""
        assert not self.talking
        twin = copy_of(self)
        twin.world, twin.talking, twin.began, twin.landed = world, {}, {}, dict(self.landed)
        if self.elector is not None:
            twin.elector = copy_of(self.elector)
            twin.elector._clock = world.mono
        twin.store = _forked_store(self.store, world.mono, twin)
        twin.queue = _forked_queue(self.queue)
        twin.asker = copy_of(self.asker)
        twin.asker._world, twin.asker._replica = world, twin
        twin.engine = _forked_engine(self.engine, twin)
        twin.streams = {kind: copy_of(stream) for kind, stream in self.streams.items()}
        return twin

    def close(self) -> None:
        """As ``World.close``."""
        for _, conversation, _ in self.talking.values():
            conversation.close()
        for part in (self.store, self.engine, self):
            vars(part).clear()

    def _told(self, kind: type[Any], old: Stored | None, new: Stored | None) -> None:
        changed = new or old
        self.world.told("hears", kind, None if changed is None else changed.metadata.key, new is None)

    def die(self, restarts_at: float) -> None:
        """The process ends, and starts again at some time. What it said last is still on its way."""
        self.restarts_at = restarts_at
        for number, (_, conversation, request) in self.talking.items():
            conversation.close()
            self.world.flying[number] = request
        self.talking, self.began = {}, {}

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
        stream.heard_since = max(stream.heard_since, self.started)
        listed = [stored(kind, held) for held in api.all(stream.resource) if stream.wanted(held)]
        self.store.replace(kind, listed, str(api.version))

    def hear(self, kind: type[Any]) -> None:
        """Whatever a watch has to say by now."""
        stream = self.streams[kind]
        if self.world.now < max(stream.silent_until, self.cut_until) or stream.resource in self.world.absent:
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

    def silence(self, kind: type[Any], seconds: float) -> None:
        """A watch says nothing for so long."""
        stream, now = self.streams[kind], self.world.now
        stream.silent_since, stream.silent_until = now, now + seconds
        if seconds > getattr(kind, "spell", math.inf):
            stream.heard_since = now + seconds
        self.store.stirred.add(kind)

    # Leadership

    def stand_by(self) -> None:
        """Take part in the competition for the Lease, from now on."""
        self.elector = Elector(*LEASE, identity=f"{self.name}.{self.life}", clock=self.world.mono)
        self.competes_at = self.world.now

    def compete(self) -> None:
        """One attempt of the real elector, its requests answered at once, or not at all."""
        assert self.elector is not None
        self.competes_at = self.world.now + Timing().retry
        attempt = self.elector.attempt(_Port())
        answer: bytes | ApiError | None = None
        try:
            while True:
                call = attempt.throw(answer) if isinstance(answer, ApiError) else attempt.send(answer)
                try:
                    answer = self.world.serve_lease(self, call)
                except ApiError as error:
                    answer = error
        except (StopIteration, ApiError):
            return

    def remaining(self) -> float:
        """Seconds that a write may still take."""
        return MOST_SECONDS if self.elector is None else self.elector.remaining()

    # Work

    def next_due(self) -> float:
        """When there is something to do, in the world's time. One that does not lead has nothing to do."""
        if self.restarts_at < math.inf:
            return self.restarts_at
        due, silence = self.queue.next_due(), self._next_silence()
        if due is None or (silence is not None and silence < due):
            due = silence
        if due is None or len(self.talking) >= IN_FLIGHT or self.remaining() <= LEAST_SECONDS:
            return math.inf
        return max(self.world.now, due, self.paused_until)

    def next_attempt(self) -> float:
        """When it competes for the Lease next."""
        alive = self.elector is not None and self.restarts_at == math.inf
        return max(self.competes_at, self.paused_until) if alive else math.inf

    @property
    def waiting(self) -> bool:
        """Whether there would be something to do for a leader."""
        return self.restarts_at == math.inf and self.queue.next_due() is not None

    def work(self) -> None:
        if self.restarts_at < math.inf:
            self.world.restart(self)
            return
        if self._next_silence() is not None:
            self.engine.listen()
        due = self.queue.next_due()
        item = self.queue.pop(self.world.now)
        if item is not None and due is not None:
            # It could not be looked at while it was being looked at.
            self.world.look(self, item, self.world.now - max(due, self.landed.get(item, due)))
            self._advance(item, self.engine.reconcile(item), None)

    def _advance(self, item: Item, conversation: Conversation, answer: bytes | ApiError | None) -> None:
        """Go on with a conversation, up to a request that takes time or to its end."""
        try:
            while True:
                if isinstance(answer, ApiError):
                    self.world.failed(item, answer)
                    request = _throw(conversation, answer)
                else:
                    request = next(conversation) if answer is None else conversation.send(answer)
                seconds = seconds_for_request(self.remaining())
                latency = self.world.latency(request)
                if latency:
                    self.began.setdefault(item, self.world.api.version)
                    number = self.world.number()
                    self.talking[number] = item, conversation, request
                    if latency < seconds and self.cut_until <= self.world.now:
                        self.world.at(latency, Arrive(self.name, number))
                    else:
                        self.world.at(seconds, Answer(self.name, number, NO_ANSWER))
                    return
                try:
                    answer = self.world.serve(self, request)
                except ApiError as error:
                    answer = error
                if self.paused_until > self.world.now:
                    number = self.world.number()
                    self.talking[number] = item, conversation, request
                    self.world.at(0.0, Answer(self.name, number, answer))
                    return
        except StopIteration as stop:
            self.began.pop(item, None)
            outcome: Outcome = stop.value
            land(self.queue, item, outcome, self.world.now)
            self.landed[item] = self.world.now
        except NotLeading:
            conversation.close()
            self.began.pop(item, None)
            self.queue.done(item, self.world.now, after=0.0)
        except Violation:
            conversation.close()
            raise

    def arrived(self, number: int) -> None:
        """A request on its way reaches the API server; the answer needs as long again."""
        if self.world.now < self.cut_until and number in self.talking:
            self.world.at(self.world.latency(self.talking[number][2]), Answer(self.name, number, NO_ANSWER))
        elif number in self.talking:
            request = self.talking[number][2]
            answer: bytes | ApiError
            try:
                answer = self.world.serve(self, request)
            except ApiError as error:
                answer = error
            self.world.at(self.world.latency(self.talking[number][2]), Answer(self.name, number, answer))

    def answered(self, number: int, answer: bytes | ApiError) -> None:
        if number in self.talking:
            item, conversation, _ = self.talking.pop(number)
            self._advance(item, conversation, answer)

    def mark(self) -> tuple[Any, ...] | None:
        """What tells two states of the process apart; None while it speaks, or competes for the Lease."""
        if self.talking or self.elector is not None or max(self.cut_until, self.paused_until) > self.world.now:
            return None
        if self.restarts_at < math.inf:
            return self.name, self.restarts_at  # whatever it knew goes with it
        # Nobody asks since when hosts are heard where none says that it lives.
        heard = tuple(_tick(self.heard_since(kind)) for kind in SIGNS) if self.world.cluster.lively else ()
        return (
            self.name,
            _queue_mark(self.queue, self.world.now),
            self.memory(),
            _ages(self.engine, self.world.api.long_ago),
            heard,
        )

    def memory(self) -> tuple[Any, ...]:
        """What the process knows, but for the times at which it came to know that.

        A store that has heard everything holds what the API server holds. Where it does not, because a watch is late
        or for a bug, that is told, with what the watch is still to bring. What follows from its objects is kept beside
        them, and may be wrong as well: it counts by itself.
        """
        return _remembered(self.engine), self.store.mark(), self._deviations()

    def doubts(self) -> tuple[Item, ...]:
        """The items that have not found out yet what became of a write of theirs."""
        return *self.engine._unsure, *self.engine._doubted

    def _deviations(self) -> tuple[Any, ...]:
        """Where the store does not hold just what the API server holds, and which watches say nothing."""
        found: list[Any] = []
        for kind in [kind for kind in self.streams if kind in self.store.stirred]:
            stream = self.streams[kind]
            log = self.world.api.changes(stream.resource)
            held, there = self.store.shelf(kind).objects, self.world.api.shelf(stream.resource)
            missing = (
                len(there) - len(held) if not stream.selective else sum(map(stream.wanted, there.values())) - len(held)
            )
            if missing or stream.position < len(log) or not _agree(held, there):
                found.append((kind, *self._behind(kind, log, stream)))
            elif stream.silent_until <= self.world.now:
                self.store.stirred.discard(kind)
            if stream.silent_until > self.world.now:
                found.append((kind, stream.silent_since, stream.silent_until))
        return tuple(found)

    def _behind(self, kind: type[Any], log: Sequence[Change], stream: Stream) -> tuple[Any, ...]:
        """What the store holds of a kind, and those changes that it has not heard of and that would be news to it.

        Versions differ from path to path, so an object is told by what the version says. They count only against each
        other: what is older than what the store holds, or than a deletion that it has heard of, is no news.
        """
        shelf = self.store.shelf(kind)
        newest = {key: version(value.metadata.resource_version) for key, value in shelf.objects.items()}
        since = self.world.api.since
        holds = frozenset((key, _content(log, key, number, since)) for key, number in newest.items())
        for key, number in shelf.removed.items():
            newest[key] = max(number, newest.get(key, 0))
        news = tuple(
            (change.type, change.held.key, change.held.mark(since))
            for change in log[stream.position :]
            if stream.wanted(change.held) and change.held.version > newest.get(change.held.key, 0)
        )
        return holds, news


def _agree(held: Mapping[Key, Stored], there: Mapping[Key, Held]) -> bool:
    """Whether what is held is there, in the same version."""
    for key, value in held.items():
        found = there.get(key)
        if found is None or found.tree["metadata"]["resourceVersion"] != value.metadata.resource_version:
            return False
    return True


def _content(log: Sequence[Change], key: Key, number: int, since: str) -> int:
    """The mark of a version of an object; the version itself when nobody has ever heard of that."""
    said = (change.held for change in reversed(log) if change.held.key == key)
    return next((held.mark(since) for held in said if held.version == number), number)


def _throw(conversation: Conversation, error: ApiError) -> Request:
    """Answer with an error, which then forgets its way: that is a circle of frames that hold it, and a world."""
    try:
        return conversation.throw(error.with_traceback(None))
    finally:
        error.__traceback__ = None


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


def _forked_store(source: SharedStore, clock: Callable[[], float], twin: Replica) -> SharedStore:
    store = copy_of(source)
    store._clock, store._listeners, store._parsed = clock, [], {}
    store.last_word, store.last_sign = twin.heard_at, twin.last_sign
    store.since = lambda kind: twin.streams[kind].heard_since
    store.stirred, store.touched, store.marks = set(source.stirred), set(source.touched), dict(source.marks)
    store.borrowed, source.borrowed = set(source._shelves), set(source._shelves)
    store._shelves, store._indexed = dict(source._shelves), dict(source._indexed)
    store._sources = dict(source._sources)
    store._changed = {kind: dict(times) for kind, times in source._changed.items()}
    store._gone = {kind: dict(times) for kind, times in source._gone.items()}
    store._pairs = {pair: copy_of(kept) for pair, kept in source._pairs.items()}
    for kept in store._pairs.values():
        kept._counted = dict(kept._counted)
    store._made = dict(source._made)
    return store


def _forked_queue(source: Queue) -> Queue:
    queue = copy_of(source)
    queue._heap, queue._due = list(source._heap), dict(source._due)
    queue._in_flight, queue._failures = set(source._in_flight), dict(source._failures)
    queue._not_before = dict(source._not_before)
    first = max((order for _, order, _ in source._heap), default=0) + 1
    queue._order = itertools.count(first)
    return queue


def _forked_engine(source: Engine, twin: Replica) -> Engine:
    engine, store, queue, clock = copy_of(source), twin.store, twin.queue, twin.world.clock
    engine._store, engine._queue, engine._clock = store, queue, clock
    engine._observer = copy_of(source._observer)
    engine._observer._world = twin.world  # type: ignore[attr-defined]
    engine._answers = _forked_answers(source._answers, twin)
    engine._silences = _forked_silences(source._silences, twin)
    engine._views = {name: copy_of(view) for name, view in source._views.items()}
    for view in engine._views.values():
        view._store, view._answers = store, engine._answers
    engine._writing = {}
    engine._refused = {item: dict(known) for item, known in source._refused.items()}
    engine._unsure = {item: list(known) for item, known in source._unsure.items()}
    engine._doubted = {item: list(known) for item, known in source._doubted.items()}
    engine._unkept = dict(source._unkept)
    store.subscribe(twin._told)
    store.subscribe(engine._wake)
    return engine


def _forked_answers(source: Answers, twin: Replica) -> Answers:
    answers, queue, clock = copy_of(source), twin.queue, twin.world.clock
    answers._asker, answers._clock = twin.asker, twin.world.mono
    answers._woken = lambda item: queue.add(item, clock().mono)
    answers._held = {
        item: {id_: copy.copy(known) for id_, known in held.items()} for item, held in source._held.items()
    }
    answers._uids = dict(source._uids)
    return answers


def _forked_silences(source: Silences, twin: Replica) -> Silences:
    silences = copy_of(source)
    silences._since = twin._will_be_silent_since
    silences._wanted = {item: dict(wanted) for item, wanted in source._wanted.items()}
    silences._heap = list(source._heap)
    silences._order = itertools.count(max((order for _, order, *_ in source._heap), default=0) + 1)
    return silences


# Marks: what tells states of the operator's memory apart. ``tests/simulation/test_forks.py`` knows what is left out.


def _queue_mark(queue: Queue, now: float) -> tuple[Any, ...]:
    """When the queue will give what, in which order; and what it holds and will never give, for a bug."""
    waiting = sorted(
        (due, order, item)
        for due, order, item in queue._heap
        if queue._due.get(item) == due and item not in queue._in_flight
    )
    ordered = tuple(dict.fromkeys((item, math.ceil((due - now) / TICK - 1e-6)) for due, _, item in waiting))
    later = tuple(sorted((item, math.ceil((due - now) / TICK - 1e-6)) for item, due in queue._not_before.items()))
    lost = frozenset(queue._due.keys() - {item for _, _, item in waiting})
    return ordered, tuple(sorted(queue._failures.items())), later, frozenset(queue._in_flight), lost


def _remembered(engine: Engine) -> tuple[Any, ...]:
    refused = tuple(
        (item, tuple((print_, known.generation, str(known.error)) for print_, known in of.items()))
        for item, of in engine._refused.items()
    )
    unsure = tuple((item, tuple(known)) for item, known in engine._unsure.items())
    doubted = tuple((item, tuple(request.path for request in known)) for item, known in engine._doubted.items())
    derived = tuple(
        (view.name, made.value, None if (left := engine._store.derived_in(view)) is None else _tick(left))
        for view, made in engine._store._made.items()
    )
    unkept = tuple((item, str(difference)) for item, (_, difference) in engine._unkept.items())
    return refused, unsure, doubted, unkept, derived, engine._speaking, tuple(engine._writing), *_awaited(engine)


def _awaited(engine: Engine) -> tuple[Any, ...]:
    """What was asked, and for which silences is waited; and for which there is no timer, for a bug."""
    answers, silences = engine._answers, engine._silences
    asked = tuple(
        (item, tuple((str(known.ask), known.running) for known in held.values()))
        for item, held in answers._held.items()
    )
    waited = tuple((item, tuple(wanted.items())) for item, wanted in silences._wanted.items())
    timed = {(item, watched, seconds) for _, _, item, watched, seconds in silences._heap}
    lost = tuple(
        (item, watched)
        for item, wanted in silences._wanted.items()
        for watched, seconds in wanted.items()
        if (item, watched, seconds) not in timed
    )
    return asked, tuple(answers._uids.items()), waited, lost


def _ages(engine: Engine, long_ago: float) -> tuple[Any, ...]:
    """Until when refusals stand, when was asked and answered, and when what is dated has changed, or went. When
    instances have, matters only where guests are monitored."""
    policies = engine._store.shelf(HAPolicy).objects.values()
    monitored = any(isinstance(own, Own) and b'"enabled":true' in own.raw for own in policies)
    stands = tuple(math.ceil(known.until / TICK) for of in engine._refused.values() for known in of.values())
    asked = tuple(
        (_tick(known.asked), _told(known.answer)) for held in engine._answers._held.values() for known in held.values()
    )
    changed, gone = (
        tuple(
            (kind, tuple((key, _tick(max(at, long_ago))) for key, at in times.items()))
            for kind, times in dated.items()
            if monitored or kind is not VirtualMachineInstance
        )
        for dated in (engine._store._changed, engine._store._gone)
    )
    return stands, asked, changed, gone


def _tick(at: float) -> int:
    return round(at / TICK)


def _told(answer: Any) -> tuple[Any, ...]:
    if answer is None:
        return ()
    return answer.ok, _tick(answer.asked), _tick(answer.at), tuple(answer.value.items()), answer.error
