"""The store: what the sources have told us, what we have just written, and indexes over both."""

import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from vdcos import api
from vdcos.core.objects import Index, Key, Meta, Object, Own, Stored, Total, Unreadable, Without
from vdcos.core.plan import Answer
from vdcos.core.service import Service, derives
from vdcos.core.snapshot import Derived, UndeclaredRead
from vdcos.runtime.answers import Answers
from vdcos.runtime.depth import bounded
from vdcos.runtime.packing import Packed
from vdcos.runtime.queue import Item

T = TypeVar("T")
Listener = Callable[[type[Any], Stored | None, Stored | None], None]

# How many deletions per kind are remembered, so that the late answer to a write cannot bring a deleted object back.
TOMBSTONES = 4096

# Up to so many keys under one word of an index a tuple is smaller than a dictionary, and as fast.
FEW = 4


class _OwnHeader(msgspec.Struct, frozen=True):
    metadata: Meta


class _Whole(msgspec.Struct, rename="camel", omit_defaults=True):
    """An own object with its parts left as they are."""

    api_version: str
    kind: str
    metadata: dict[str, msgspec.Raw]
    spec: msgspec.Raw = msgspec.Raw(b"{}")
    status: msgspec.Raw = msgspec.Raw(b"{}")


_decode_header = msgspec.json.Decoder(_OwnHeader).decode
_decode_whole = bounded(msgspec.json.Decoder(_Whole).decode)


def decoder(kind: type[Any]) -> Callable[[bytes], Stored]:
    """How the API server's JSON becomes the stored form of a kind. The result raises msgspec.MsgspecError.

    Of our own kinds the whole object is kept, as bytes; of a foreign one, the fields of its struct.
    """
    if issubclass(kind, Object):
        decode: Callable[[bytes], Stored] = msgspec.json.Decoder(kind).decode
        return decode
    return _own


def _own(raw: bytes) -> Own:
    """Without managedFields and annotations, which nobody reads and which are often half of an object each."""
    whole = _decode_whole(raw)
    for unread in ("managedFields", "annotations"):
        whole.metadata.pop(unread, None)
    return _unpacked(msgspec.json.encode(whole))


def _unpacked(raw: bytes) -> Own:
    return Own(metadata=_decode_header(raw).metadata.only(()), raw=raw)


def version(resource_version: str) -> int:
    """A resource version as the number that Kubernetes 1.35 guarantees it to be; 0 for one that was never stored."""
    return int(resource_version) if resource_version.isdigit() else 0


def same(old: Stored, new: Stored) -> bool:
    """Whether all that is stored of an object is equal but for its version."""
    if isinstance(old, Own) or isinstance(new, Own):
        return False
    version = old.metadata.resource_version
    metadata = msgspec.structs.replace(new.metadata, resource_version=version)
    return old == msgspec.structs.replace(new, metadata=metadata)


class _Indexed:
    """One index: keys and totals per value, and what each key was entered with. Most values have one or two keys."""

    def __init__(self, index: Index[Any]) -> None:
        self.index = index
        self.keys: dict[str, tuple[Key, ...] | dict[Key, None]] = {}
        self.amounts: dict[str, Any] = {}
        self.values: dict[Key, Any] = {}
        self.changes = 0
        """How often what it holds or keeps has changed."""
        self._entered: dict[Key, tuple[Any, tuple[str, ...]]] = {}

    def replace(self, key: Key, new: Stored | None) -> set[str]:
        """Enter an object anew. Returns the words under which something is otherwise."""
        amount, words, value = self._read(new) if new is not None else (0, (), None)
        if value != self.values.get(key):
            self.changes += 1
            if value is None:
                del self.values[key]
            else:
                self.values[key] = value
        before = self._entered.get(key, (0, ()))
        if not (words or before[1]) or before == (amount, words):
            return set()
        self.changes += 1
        if words:
            self._entered[key] = amount, words
        else:
            del self._entered[key]
        for word in before[1]:
            self._leave(word, key, before[0])
        for word in words:
            self._enter(word, key, amount)
        return {*before[1], *words}

    def entry(self, key: Key) -> tuple[Any, tuple[str, ...]] | None:
        return self._entered.get(key)

    def _enter(self, value: str, key: Key, amount: Any) -> None:
        known = self.keys.get(value, ())
        if isinstance(known, dict):
            known[key] = None
        elif len(known) < FEW:
            self.keys[value] = (*known, key)
        else:
            self.keys[value] = dict.fromkeys((*known, key))
        self.amounts[value] = self.amounts.get(value, 0) + amount

    def _leave(self, value: str, key: Key, amount: Any) -> None:
        known = self.keys[value]
        if isinstance(known, dict):
            del known[key]
        else:
            known = self.keys[value] = tuple(other for other in known if other != key)
        self.amounts[value] = self.amounts[value] - amount
        if not known:
            del self.keys[value], self.amounts[value]

    def _read(self, new: Stored) -> tuple[Any, tuple[str, ...], Any]:
        try:
            # Interned, because most words ("Datastore//gold") come again with every object.
            words = tuple(map(sys.intern, dict.fromkeys(self.index.keys(new))))
            return self.index.amount(new), words, self.index.value(new)
        except (msgspec.MsgspecError, ValueError):
            # Stored under a laxer schema. Its own service calls it Stalled; here it must not stop its whole kind.
            return 0, (), None


class _Pair:
    """What one index holds under words under which none of the others holds anything."""

    def __init__(self) -> None:
        self._counted: dict[str, Any] = {}
        self.amount: Any = 0

    def count(self, word: str, index: _Indexed, others: Iterable[_Indexed]) -> None:
        """Something is otherwise under a word."""
        if word in self._counted:
            self.amount = self.amount - self._counted.pop(word)
        if word in index.keys and not any(word in other.keys for other in others):
            counted = self._counted[word] = index.amounts[word]
            self.amount = self.amount + counted

    def total(self) -> Total:
        return Total(len(self._counted), self.amount)


class _Shelf:
    """One kind: objects as heard, writes of ours that are not confirmed yet, and why it cannot be read, if so."""

    def __init__(self, kind: type[Any], indexes: list[_Indexed]) -> None:
        self.kind = kind
        self.decode = decoder(kind)
        foreign = issubclass(kind, Object)
        self.objects: MutableMapping[Key, Stored] = Packed(
            self.decode if foreign else _unpacked, foreign and kind.packed
        )
        self.assumed: dict[Key, Stored] = {}
        self.removed: dict[Key, int] = {}
        self.indexes = indexes
        self.synced = False
        self.why: Unreadable | None = None

    def view(self, key: Key) -> Stored | None:
        return self.assumed.get(key) or self.objects.get(key)

    def change(self, key: Key, heard: Stored | None, assumed: Stored | None) -> Iterator[tuple[Index[Any], set[str]]]:
        """What is known of an object is otherwise. Tells the words under which indexes hold something else now."""
        old = self.view(key)
        for table, value in ((self.objects, heard), (self.assumed, assumed)):
            if value is None:
                table.pop(key, None)
            else:
                table[key] = value
        new = self.view(key)
        if old is not new:
            for indexed in self.indexes:
                if words := indexed.replace(key, new):
                    yield indexed.index, words


class _Made(NamedTuple):
    """What was derived, from which state of its indexes, and when."""

    value: Any
    of: tuple[int, ...]
    at: float


class Store:
    """Values are replaced and never mutated, so a reader needs no copy.

    ``kinds`` are foreign structs and the models of our own kinds. Of two versions of an object the newer one stands,
    whichever path it came by: a watch, a list, or the answer to a write. Of ``dated`` kinds it notes, by ``clock``
    (monotonic seconds), when their objects change.
    """

    def __init__(
        self,
        kinds: Iterable[type[Any]],
        indexes: Iterable[Index[Any] | Without] = (),
        dated: Iterable[type[Any]] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._changed: dict[type[Any], dict[Key, float]] = {kind: {} for kind in dated}
        self._gone: dict[type[Any], dict[Key, float]] = {kind: {} for kind in self._changed}
        self._sources: dict[type[Any], tuple[Callable[[], float], Callable[[], float]]] = {}
        self._clock = clock
        declared = tuple(indexes)
        self._indexed = {index: _Indexed(index) for index in declared if isinstance(index, Index)}
        self._pairs = {pair: _Pair() for pair in declared if isinstance(pair, Without)}
        self._made: dict[Derived[Any], _Made] = {}
        self._shelves = {
            kind: _Shelf(kind, [held for index, held in self._indexed.items() if index.kind is kind]) for kind in kinds
        }
        self._listeners: list[Listener] = []
        self._parsed: dict[tuple[type[Any], Key], tuple[Own, Any]] = {}

    @property
    def kinds(self) -> tuple[type[Any], ...]:
        return tuple(self._shelves)

    def subscribe(self, listener: Listener) -> None:
        """Call ``listener(kind, old, new)`` after every change that was heard; with two None when a whole kind
        appeared or became unreadable."""
        self._listeners.append(listener)

    # What sources say

    def source(self, kind: type[Any], heard_at: Callable[[], float], since: Callable[[], float]) -> None:
        """Whoever tells of a kind tells, too, when it was last told anything, and since when without a long pause, in
        monotonic seconds."""
        self._sources[kind] = heard_at, since

    def decoder(self, kind: type[Any]) -> Callable[[bytes], Stored]:
        return self._shelves[kind].decode

    def put(self, kind: type[Any], heard: Stored) -> None:
        """An object was heard of. An older version than the stored one, or than its deletion, changes nothing."""
        shelf, key = self._shelves[kind], heard.metadata.key
        known, new = shelf.objects.get(key), version(heard.metadata.resource_version)
        if new <= shelf.removed.get(key, -1):
            return
        if known is not None and new <= version(known.metadata.resource_version):
            return
        self._change(shelf, key, heard, shelf.assumed.get(key))
        times = self._changed.get(kind)
        if times is not None and (known is None or not same(known, heard)):
            times[key] = self._clock()
        self._tell(kind, known, heard)

    def remove(self, kind: type[Any], key: Key, resource_version: str) -> None:
        """An object's deletion was heard of, at this version. A namesake created later stays."""
        shelf = self._shelves[kind]
        known, gone = shelf.objects.get(key), version(resource_version)
        shelf.removed[key] = max(gone, shelf.removed.pop(key, 0))
        if len(shelf.removed) > TOMBSTONES:
            del shelf.removed[next(iter(shelf.removed))]
        if known is None or version(known.metadata.resource_version) > gone:
            return
        self._change(shelf, key, None, shelf.assumed.get(key))
        self._parsed.pop((kind, key), None)
        if (times := self._changed.get(kind)) is not None:
            times.pop(key, None)
            gone_at = self._gone[kind]
            gone_at[key] = self._clock()
            if len(gone_at) > TOMBSTONES:
                del gone_at[next(iter(gone_at))]
        self._tell(kind, known, None)

    def replace(self, kind: type[Any], listed: Iterable[Stored], resource_version: str) -> None:
        """A complete list was heard, taken at this version."""
        present = set()
        for heard in listed:
            present.add(heard.metadata.key)
            self.put(kind, heard)
        self.listed(kind, present, resource_version)

    def listed(self, kind: type[Any], present: Collection[Key], resource_version: str) -> None:
        """A complete list, taken at this version, was put. What it lacks was deleted unseen, unless it is newer."""
        shelf = self._shelves[kind]
        appeared = shelf.why is not None
        shelf.why, shelf.synced = None, True
        for key in [key for key in shelf.objects if key not in present]:
            self.remove(kind, key, resource_version)
        if appeared:
            self._tell(kind, None, None)

    def unavailable(self, kind: type[Any], why: str, forbidden: bool = False) -> None:
        """The kind cannot be read at all: its API is not installed, or not allowed to us."""
        shelf = self._shelves[kind]
        was, shelf.why, shelf.synced = shelf.why, Unreadable(why, forbidden), False
        self._changed.get(kind, {}).clear()
        for key, known in list(shelf.objects.items()):
            self._change(shelf, key, None, None)
            self._tell(kind, known, None)
        if was != shelf.why:
            self._tell(kind, None, None)

    def known(self, kind: type[Any]) -> bool:
        """Whether the kind was listed, or is known to be unavailable: the barrier before the first plan."""
        shelf = self._shelves[kind]
        return shelf.synced or shelf.why is not None

    def complete(self) -> bool:
        """Whether every kind is known."""
        return all(shelf.synced or shelf.why is not None for shelf in self._shelves.values())

    # What the engine does

    def assume(self, kind: type[Any], planned: Stored) -> None:
        """Count a write that is about to be made, whatever is heard meanwhile, until it is withdrawn."""
        shelf, key = self._shelves[kind], planned.metadata.key
        self._change(shelf, key, shelf.objects.get(key), planned)

    def withdraw(self, kind: type[Any], key: Key) -> None:
        """An assumed write was answered, did not happen, or nobody knows: what was heard counts again."""
        shelf = self._shelves[kind]
        self._change(shelf, key, shelf.objects.get(key), None)

    def entries(self, kind: type[Any], key: Key) -> tuple[Any, ...]:
        """Under which words, and with which amounts, the indexes of a kind hold an object."""
        return tuple(indexed.entry(key) for indexed in self._shelves[kind].indexes)

    def heard(self, kind: type[Any], key: Key) -> Stored | None:
        """The object as the API server last gave it to us, without assumptions."""
        return self._shelves[kind].objects.get(key)

    def parse(self, kind: type[T], own: Own) -> T:
        """One of our own objects as its model. Raises api.InvalidObject.

        Cluster-scoped objects are read by the plans of many others and stay parsed; of the rest, only the last one
        does: a look reads its own object more than once.
        """
        key = own.metadata.key
        slot = (kind, key if not key.namespace else Key("", ""))
        held = self._parsed.get(slot)
        if held is None or held[0] is not own:
            held = self._parsed[slot] = (own, api.parse(kind, own.raw))  # type: ignore[type-var]
        parsed: T = held[1]
        return parsed

    def count(self, kind: type[Any]) -> int:
        """How many objects of a kind were heard of."""
        return len(self._shelves[kind].objects)

    # What snapshots read

    def shelf(self, kind: type[Any]) -> _Shelf:
        return self._shelves[kind]

    def indexed(self, index: Index[Any]) -> _Indexed:
        return self._indexed[index]

    def pair(self, pair: Without) -> _Pair:
        return self._pairs[pair]

    def derived(self, view: Derived[T]) -> T:
        """As ``Snapshot.derived``."""
        made = self._made.get(view)
        if made is None or (made.of != self._changes(view) and self._clock() >= made.at + view.every):
            before = None if made is None else made.value
            value = view.make(View.of(self, view), before)
            # What is the same is the same object, so that whoever compares is done at once.
            made = self._made[view] = _Made(before if value == before else value, self._changes(view), self._clock())
        found: T = made.value
        return found

    def derived_last(self, view: Derived[T]) -> T | None:
        """What was made last, however old; None before somebody has asked for it."""
        made = self._made.get(view)
        return made.value if made is not None else None

    def derived_in(self, view: Derived[Any]) -> float | None:
        """As ``Snapshot.derived_in``."""
        made = self._made.get(view)
        if made is None or made.of == self._changes(view):
            return None
        return max(0.0, made.at + view.every - self._clock())

    def _change(self, shelf: _Shelf, key: Key, heard: Stored | None, assumed: Stored | None) -> None:
        for index, words in shelf.change(key, heard, assumed):
            for pair, counted in self._pairs.items():
                if index is pair.index or index in pair.others:
                    for word in words:
                        counted.count(word, self._indexed[pair.index], [self._indexed[other] for other in pair.others])

    def _changes(self, view: Derived[Any]) -> tuple[int, ...]:
        return tuple(self._indexed[index].changes for index in view.indexes)

    def changed_at(self, kind: type[Any], key: Key) -> float | None:
        """As ``Snapshot.changed_at``. Raises KeyError for a kind that is not dated."""
        return self._changed[kind].get(key)

    def silent_since(self, kind: type[Any], key: Key) -> float | None:
        """As ``Snapshot.silent_since``. Raises KeyError for a kind that is not dated."""
        changed = self._changed[kind].get(key)
        return changed if changed is None else max(changed, self.heard_since(kind))

    def gone_since(self, kind: type[Any], key: Key) -> float | None:
        """As ``Snapshot.gone_since``. Raises KeyError for a kind that is not dated."""
        if key in self._changed[kind]:
            return None
        return max(self._gone[kind].get(key, -float("inf")), self.heard_since(kind))

    def heard_since(self, kind: type[Any]) -> float:
        """Since when a kind is heard without a long pause; the beginning of time for one that nobody tells of."""
        source = self._sources.get(kind)
        return -float("inf") if source is None else source[1]()

    def heard_at(self, kind: type[Any]) -> float:
        """As ``Snapshot.heard_at``; the beginning of time for a kind that nobody tells of."""
        source = self._sources.get(kind)
        return -float("inf") if source is None else source[0]()

    def _tell(self, kind: type[Any], old: Stored | None, new: Stored | None) -> None:
        for listener in self._listeners:
            listener(kind, old, new)


class View:
    """A service's window on the store (a ``core.snapshot.Snapshot``): it sees what it declared, and nothing else."""

    def __init__(self, store: Store, service: Service[Any, Any], answers: Answers) -> None:
        self._store = store
        self._answers = answers
        self._service = service.name
        self._own = service.kind
        self._kinds = {service.kind, *(watch.kind for watch in service.watches)}
        self._dated = {watch.kind for watch in service.watches if watch.dated}
        self._indexes = set(service.indexes)
        self._derived = set(derives(service))

    @classmethod
    def of(cls, store: Store, view: Derived[Any]) -> "View":
        """The window of what is derived: on what it is made from."""
        window = cls.__new__(cls)
        window._store, window._service = store, view.name
        window._kinds, window._indexes = set(view.kinds), set(view.indexes)
        window._dated, window._derived = set(), set()
        return window

    def get(self, kind: type[T], key: Key) -> T | Unreadable | None:
        shelf = self._shelf(kind)
        if shelf.why is not None:
            return shelf.why
        held = shelf.view(key)
        if not isinstance(held, Own):
            return held  # type: ignore[return-value]
        try:
            return self._store.parse(kind, held)
        except api.InvalidObject as error:
            return Unreadable(f"{shelf.kind.__name__} {key} is malformed: {error}")

    def all(self, kind: type[T]) -> Sequence[Any]:
        shelf = self._shelf(kind)
        return [held for key in sorted({**shelf.objects, **shelf.assumed}) if (held := shelf.view(key)) is not None]

    def by(self, index: Index[T], value: str, most: int | None = None) -> Sequence[T]:
        shelf = self._shelf(index.kind)
        return [shelf.view(key) for key in self.keys(index, value)[:most]]  # type: ignore[misc]

    def keys(self, index: Index[T], value: str) -> Sequence[Key]:
        return sorted(self._index(index).keys.get(value, ()))

    def total(self, index: Index[T], value: str) -> Total:
        indexed = self._index(index)
        return Total(len(indexed.keys.get(value, ())), indexed.amounts.get(value, 0))

    def values(self, index: Index[T]) -> Mapping[Key, Any]:
        return self._index(index).values

    def without(self, pair: Without) -> Total:
        if pair not in self._indexes:
            raise UndeclaredRead(f"{self._service} reads a pair of indexes that it does not declare")
        return self._store.pair(pair).total()

    def derived(self, view: Derived[T]) -> T:
        return self._deriving(view).derived(view)

    def derived_in(self, view: Derived[Any]) -> float | None:
        return self._deriving(view).derived_in(view)

    def _deriving(self, view: Derived[Any]) -> Store:
        if view not in self._derived:
            raise UndeclaredRead(f"{self._service} reads {view.name} and does not declare it in derives")
        return self._store

    def missing(self, kind: type[Any]) -> Unreadable | None:
        return self._shelf(kind).why

    def answers(self, key: Key) -> Mapping[str, Answer]:
        own = self._store.heard(self._own, key)
        return {} if own is None else self._answers.of(Item(self._service, key), own.metadata.uid)

    def changed_at(self, kind: type[Any], key: Key) -> float | None:
        return self._dating(kind).changed_at(kind, key)

    def silent_since(self, kind: type[Any], key: Key) -> float | None:
        return self._dating(kind).silent_since(kind, key)

    def gone_since(self, kind: type[Any], key: Key) -> float | None:
        return self._dating(kind).gone_since(kind, key)

    def heard_at(self, kind: type[Any]) -> float:
        self._shelf(kind)
        return self._store.heard_at(kind)

    def _dating(self, kind: type[Any]) -> Store:
        if kind not in self._dated:
            raise UndeclaredRead(f"{self._service} asks when {kind.__name__} changed and does not declare it as dated")
        return self._store

    def _shelf(self, kind: type[Any]) -> _Shelf:
        if kind not in self._kinds:
            raise UndeclaredRead(f"{self._service} reads {kind.__name__} and does not declare it in watches")
        return self._store.shelf(kind)

    def _index(self, index: Index[Any]) -> _Indexed:
        if index not in self._indexes:
            raise UndeclaredRead(f"{self._service} reads an index of {index.kind.__name__} that it does not declare")
        return self._store.indexed(index)
