"""Pure work done once: what a service reads, what it plans from that, and how bytes become objects.

A service is a pure function of what it reads. So its reads are repeated, and when they bring the very same objects as
before, the plan is the one of before. Every plan that is made is made twice, and the two must be equal: that is the law
of purity, on every distinct input.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from msgspec.json import encode
from msgspec.structs import replace

from vdcos import api
from vdcos.core.objects import Index, Key, Own, Stored, Total, Unreadable, Without
from vdcos.core.plan import Action, Answer, Instant, Plan
from vdcos.core.service import Founder, Service, derives
from vdcos.core.snapshot import Derived, Snapshot
from vdcos.runtime.store import Store, _Shelf, decoder
from vdcos.testing.forks import twin as copy_of

T = TypeVar("T")

MOST = 30_000
"""Entries of a cache, after which it is emptied."""


class Impure(Exception):
    """The same input gave another plan."""


class _Moment(Instant):
    """A moment that knows whether anybody asked for it."""

    asked = False

    @property
    def wall(self) -> float:
        self.asked = True
        return self[0]

    @property
    def mono(self) -> float:
        self.asked = True
        return self[1]


class _Read(NamedTuple):
    method: str
    arguments: tuple[Any, ...]


class _Node:
    """After some reads: the next one and what follows on each of its results, or what was seen in the end."""

    __slots__ = ("children", "kept", "plans", "read", "seen")

    def __init__(self) -> None:
        self.read: _Read | None = None
        self.children: dict[Any, _Node] = {}
        self.kept: list[Any] = []
        """Results by whose identity children are found: they must not die."""
        self.seen: Any = None
        self.plans: dict[Any, tuple[Any, Plan]] = {}


class _Recorder:
    """A snapshot that notes what is read."""

    def __init__(self, world: Snapshot) -> None:
        self._world = world
        self.reads: list[tuple[_Read, Any]] = []

    def _noted(self, method: str, *arguments: Any) -> Any:
        result = getattr(self._world, method)(*arguments)
        self.reads.append((_Read(method, arguments), result))
        return result

    def get(self, kind: type[T], key: Key) -> T | Unreadable | None:
        return self._noted("get", kind, key)  # type: ignore[no-any-return]

    def all(self, kind: type[T]) -> Sequence[Any]:
        return self._noted("all", kind)  # type: ignore[no-any-return]

    def by(self, index: Index[T], value: str, most: int | None = None) -> Sequence[T]:
        return self._noted("by", index, value, most)  # type: ignore[no-any-return]

    def keys(self, index: Index[T], value: str) -> Sequence[Key]:
        return self._noted("keys", index, value)  # type: ignore[no-any-return]

    def total(self, index: Index[T], value: str) -> Total:
        return self._noted("total", index, value)  # type: ignore[no-any-return]

    def values(self, index: Index[T]) -> Mapping[Key, Any]:
        return self._noted("values", index)  # type: ignore[no-any-return]

    def without(self, pair: Without) -> Total:
        return self._noted("without", pair)  # type: ignore[no-any-return]

    def derived(self, view: Derived[T]) -> T:
        return self._noted("derived", view)  # type: ignore[no-any-return]

    def derived_in(self, view: Derived[Any]) -> float | None:
        return self._noted("derived_in", view)  # type: ignore[no-any-return]

    def missing(self, kind: type[Any]) -> Unreadable | None:
        return self._noted("missing", kind)  # type: ignore[no-any-return]

    def answers(self, key: Key) -> Mapping[str, Answer]:
        return self._noted("answers", key)  # type: ignore[no-any-return]

    def changed_at(self, kind: type[Any], key: Key) -> float | None:
        return self._noted("changed_at", kind, key)  # type: ignore[no-any-return]

    def silent_since(self, kind: type[Any], key: Key) -> float | None:
        return self._noted("silent_since", kind, key)  # type: ignore[no-any-return]

    def gone_since(self, kind: type[Any], key: Key) -> float | None:
        return self._noted("gone_since", kind, key)  # type: ignore[no-any-return]

    def heard_at(self, kind: type[Any]) -> float:
        return self._noted("heard_at", kind)  # type: ignore[no-any-return]


def _identity(result: Any) -> Any:
    """What tells results apart: objects by identity, what is made of them afresh by its parts."""
    kind = type(result)
    if kind is list or kind is tuple:
        return tuple(result) if result and type(result[0]) is Key else tuple(map(id, result))
    if kind is dict:
        return tuple((name, id(answer)) for name, answer in result.items())
    return result if kind in _BY_VALUE else id(result)


_BY_VALUE = frozenset({Total, Unreadable, float})


class Memo:
    """A service that remembers."""

    def __init__(self, service: Service[Any, Any]) -> None:
        self._service = service
        self._roots: dict[Key, _Node] = {}
        self._size = 0
        self.name, self.resource, self.kind = service.name, service.resource, service.kind
        self.needed, self.watches = service.needed, service.watches
        self.indexes, self.writes = service.indexes, service.writes
        self.derives = derives(service)

    def observe(self, key: Key, world: Snapshot) -> _Node:
        node = self._roots.setdefault(key, _Node())
        while node.read is not None:
            method, arguments = node.read
            following = node.children.get(_identity(getattr(world, method)(*arguments)))
            if following is None:
                return self._observe(key, world)
            node = following
        return node if node.seen is not None else self._observe(key, world)

    def _observe(self, key: Key, world: Snapshot) -> _Node:
        recorder = _Recorder(world)
        seen = self._service.observe(key, recorder)
        if self._size > MOST:
            self._roots, self._size = {}, 0
        node = self._roots.setdefault(key, _Node())
        for read, result in recorder.reads:
            if node.read is not None and node.read != read:
                raise Impure(f"{self.name} reads {read} where it read {node.read} before")
            node.read = read
            identity = _identity(result)
            if identity not in node.children:
                node.children[identity] = _Node()
                node.kept.append(result)
                self._size += 1
            node = node.children[identity]
        node.seen = seen
        return node

    def plan(self, cr: Any, seen: _Node, now: Instant) -> Plan:
        known = seen.plans.get(id(cr)) or seen.plans.get((id(cr), now))
        if known is not None:
            return known[1]
        moment = _Moment(*now)
        plan = self._service.plan(cr, seen.seen, moment)
        again = self._service.plan(cr, seen.seen, now)
        if plan != again:
            raise Impure(f"{self.name} plans {again} where it planned {plan}")
        seen.plans[(id(cr), now) if moment.asked else id(cr)] = cr, plan
        return plan


class FoundingMemo(Memo):
    """One whose service makes objects of its own kind."""

    def found(self, key: Key, seen: _Node) -> Sequence[Action]:
        return self._service.found(key, seen.seen)  # type: ignore[attr-defined,no-any-return]


def remembering(service: Service[Any, Any]) -> Memo:
    """The service, with a memory."""
    return FoundingMemo(service) if isinstance(service, Founder) else Memo(service)


class SharedStore(Store):
    """The operator's store, with objects decoded and parsed once for all worlds, and therefore not packed.

    Whoever models the sources sets what tells of them: ``last_word``, when a kind's source was last heard;
    ``since``, since when without a long pause; ``last_sign``, when the last sign of life was heard that is no
    event in the model (a Lease that is renewed).
    """

    last_word: Callable[[type[Any]], float]
    since: Callable[[type[Any]], float]
    last_sign: Callable[[type[Any], Key], float]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.stirred: set[type[Any]] = set()
        """Kinds whose objects may not be the API server's: something was heard, or is to be heard, or cannot be."""
        self.touched: set[type[Any]] = set(self._shelves)
        """Kinds that may have another mark by now."""
        self.marks: dict[type[Any], int] = dict.fromkeys(self._shelves, 0)
        self.borrowed: set[type[Any]] = set()
        """Kinds whose shelf another world holds as well: it is copied before it changes."""
        for shelf in self._shelves.values():
            shelf.objects = {}

    def put(self, kind: type[Any], heard: Stored) -> None:
        self._touch(kind)
        super().put(kind, heard)

    def remove(self, kind: type[Any], key: Key, resource_version: str) -> None:
        self._touch(kind)
        super().remove(kind, key, resource_version)

    def replace(self, kind: type[Any], listed: Iterable[Stored], resource_version: str) -> None:
        self._touch(kind)
        super().replace(kind, listed, resource_version)

    def unavailable(self, kind: type[Any], why: str, forbidden: bool = False) -> None:
        self._touch(kind)
        super().unavailable(kind, why, forbidden)

    def assume(self, kind: type[Any], planned: Stored) -> None:
        self.own(kind)
        super().assume(kind, planned)

    def withdraw(self, kind: type[Any], key: Key) -> None:
        self.own(kind)
        super().withdraw(kind, key)

    def _touch(self, kind: type[Any]) -> None:
        self.stirred.add(kind)
        self.own(kind)

    def own(self, kind: type[Any]) -> None:
        """The shelf of a kind is about to change."""
        self.touched.add(kind)
        if kind not in self.borrowed:
            return
        self.borrowed.discard(kind)
        shelf = self._shelves[kind] = copy_of(self._shelves[kind])
        shelf.objects, shelf.assumed, shelf.removed = dict(shelf.objects), dict(shelf.assumed), dict(shelf.removed)
        shelf.indexes = [copy_of(indexed) for indexed in shelf.indexes]
        for indexed in shelf.indexes:
            self._indexed[indexed.index] = indexed
            indexed.keys = {
                word: held if isinstance(held, tuple) else dict(held) for word, held in indexed.keys.items()
            }
            indexed.amounts, indexed._entered = dict(indexed.amounts), dict(indexed._entered)
            indexed.values = dict(indexed.values)

    def mark(self) -> int:
        """A hash of what the store holds besides objects that were heard, and might hold wrongly: indexes with their
        amounts and values, pairs of them, assumptions, and which kinds can be read."""
        for kind in self.touched:
            self.marks[kind] = _mark(self._shelves[kind])
        self.touched.clear()
        pairs = tuple((frozenset(pair._counted.items()), pair.amount) for pair in self._pairs.values())
        return hash((*self.marks.values(), *pairs))

    def derived(self, view: Derived[T]) -> T:
        """What is equal is the same object in all worlds, so that it is known again."""
        value = super().derived(view)
        if len(_derived) > MOST:
            _derived.clear()
        known: T = _derived.setdefault((view, value), value)
        if known is not value:
            self._made[view] = self._made[view]._replace(value=known)
        return known

    def heard_at(self, kind: type[Any]) -> float:
        return self.last_word(kind)

    def changed_at(self, kind: type[Any], key: Key) -> float | None:
        changed = super().changed_at(kind, key)
        return changed if changed is None else max(changed, self.last_sign(kind, key))

    def silent_since(self, kind: type[Any], key: Key) -> float | None:
        changed = self.changed_at(kind, key)
        return changed if changed is None else max(changed, self.heard_since(kind))

    def heard_since(self, kind: type[Any]) -> float:
        return self.since(kind)

    def decoder(self, kind: type[Any]) -> Callable[[bytes], Stored]:
        return lambda raw: decoded(kind, raw)

    def parse(self, kind: type[T], own: Own) -> T:
        key = kind, own.raw
        if key not in _parsed:
            if len(_parsed) > MOST:
                _parsed.clear()
            _parsed[key] = api.parse(kind, own.raw)  # type: ignore[type-var]
        return _parsed[key]  # type: ignore[no-any-return]


def _mark(shelf: _Shelf) -> int:
    indexes = tuple(
        (
            frozenset((word, frozenset(keys)) for word, keys in indexed.keys.items()),
            frozenset(indexed.amounts.items()),
            frozenset(indexed._entered.items()),
            frozenset((key, _said(value)) for key, value in indexed.values.items()),
        )
        for indexed in shelf.indexes
    )
    assumed = frozenset((key, _content(planned)) for key, planned in shelf.assumed.items())
    return hash((indexes, assumed, shelf.synced, shelf.why))


def _said(value: Any) -> int:
    """A hash of what an index keeps of an object, which may have dictionaries in it."""
    try:
        return hash(value)
    except TypeError:
        return hash(repr(value))


def _content(planned: Stored) -> bytes:
    """All of an object but its version."""
    metadata = replace(planned.metadata, resource_version="")
    return encode(replace(planned, metadata=metadata))


_parsed: dict[tuple[type[Any], bytes], Any] = {}
_derived: dict[tuple[Derived[Any], Any], Any] = {}
_decoded: dict[tuple[type[Any], bytes], Stored] = {}
_decoders: dict[type[Any], Callable[[bytes], Stored]] = {}


def decoded(kind: type[Any], raw: bytes) -> Stored:
    """The stored form of an object. Raises msgspec.MsgspecError."""
    found = _decoded.get((kind, raw))
    if found is None:
        if len(_decoded) > MOST:
            _decoded.clear()
        if kind not in _decoders:
            _decoders[kind] = decoder(kind)
        found = _decoded[kind, raw] = _decoders[kind](raw)
    return found
