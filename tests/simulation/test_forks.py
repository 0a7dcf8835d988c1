"""Forks and marks: a fork shares nothing that changes, and whatever the operator remembers tells states apart."""

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from enum import Enum
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import msgspec
import pytest

from vdcos.core import kinds
from vdcos.core.amounts import Amounts
from vdcos.core.foreign.kubernetes import Lease
from vdcos.core.objects import Key, Unreadable
from vdcos.core.plan import Ask
from vdcos.runtime.answers import _Held
from vdcos.runtime.engine import _Refusal, _Writing
from vdcos.runtime.queue import Item
from vdcos.runtime.requests import ApiError, Request
from vdcos.runtime.store import _Indexed, _Pair, _Shelf
from vdcos.testing import drivers, hostdrivers
from vdcos.testing.apiserver import Change, Held
from vdcos.testing.faults import AtWrite, Several
from vdcos.testing.hostlaws import HostLaws
from vdcos.testing.laws import Laws
from vdcos.testing.memo import Memo
from vdcos.testing.replica import TICK, Hear, Relist, Replica, Violation
from vdcos.testing.simulator import Dice, World

# What worlds share

NEVER_CHANGES = (
    str,
    bytes,
    int,
    float,
    complex,
    type(None),
    type,
    Enum,
    ModuleType,
    BuiltinFunctionType,
    msgspec.Struct,
)
SHARED_ON_PURPOSE = (Held, Memo, Laws, Amounts)
"""Versions of objects and what is derived from them; memories of pure functions; and of what was found to be quiet."""
MADE_ONCE = {
    "World.resources", "World.indexes", "Replica.resources", "Replica.heard_by", "Stream.wanted", "_Shelf.decode",
    "Engine._services", "Engine._kinds", "Engine._watchers", "View._kinds", "View._dated", "View._indexes",
    "View._derived", "Elector._timing",
}  # fmt: skip
"""Attributes that nobody changes after a process has started."""
KEPT = {"_Indexed.values", "SharedStore._made"}
"""Dictionaries of values that pure functions have made, and nobody changes."""


def parts(thing: Any, path: str, found: dict[int, tuple[str, Any]]) -> dict[int, tuple[str, Any]]:
    """Whatever can change and can be reached from a thing, by identity, with the way to it."""
    frozen = is_dataclass(thing) and vars(type(thing))["__dataclass_params__"].frozen
    if frozen or isinstance(thing, (*NEVER_CHANGES, *SHARED_ON_PURPOSE)) or id(thing) in found:
        return found
    inner: Iterator[tuple[str, Any]]
    if isinstance(thing, MethodType):
        return parts(thing.__self__, path, found)
    if isinstance(thing, FunctionType):
        cells = thing.__closure__ or ()
        inner = ((f"{path}()", cell.cell_contents) for cell in cells)
    elif isinstance(thing, tuple | frozenset):
        inner = ((path, each) for each in thing)
    elif isinstance(thing, dict):
        found[id(thing)] = path, thing
        inner = ((path, each) for pair in thing.items() for each in pair) if path not in KEPT else iter(())
    elif isinstance(thing, list | set):
        found[id(thing)] = path, thing
        inner = ((path, each) for each in thing)
    elif isinstance(thing, itertools.count | random.Random):
        found[id(thing)] = path, thing
        return found
    else:
        found[id(thing)] = path, thing
        name = type(thing).__name__
        names = [*getattr(thing, "__dict__", ()), *getattr(type(thing), "__slots__", ())]
        inner = ((f"{name}.{each}", getattr(thing, each)) for each in names)
    for way, each in inner:
        if way not in MADE_ONCE:
            parts(each, way, found)
    return found


def shared(one: World, other: World) -> set[str]:
    """What both would change. A store copies what it has of a kind before that changes."""
    for replica in other.replicas.values():
        for kind in replica.store.kinds:
            replica.store.own(kind)
    mine, others = parts(one, "World", {}), parts(other, "World", {})
    return {mine[each][0] for each in mine.keys() & others.keys()}


def plain(replicas: int = 1) -> World:
    return drivers.by_name("create").world(replicas, laws=Laws(), chance=Dice(7), trace=[])


def hosts(replicas: int = 1) -> World:
    return hostdrivers.by_name("host dies").world(replicas, laws=HostLaws(), chance=Dice(7), trace=[])


def advanced(world: World, writes: int = 6) -> World:
    """Some writes later, at a moment at which no request is under way and the next look is at another tick."""
    world.faults = Several((AtWrite(writes + 5, "touched"),))
    while world.carried_out < writes or any(replica.talking for replica in world.replicas.values()):
        world.step()
    return world


@pytest.mark.parametrize("new", [plain, hosts])
@pytest.mark.parametrize("replicas", [1, 2])
def test_a_fork_shares_nothing_that_changes(new: Callable[[int], World], replicas: int) -> None:
    world = advanced(new(replicas))
    assert shared(world, world.fork()) == set()


def _replica(world: World) -> Replica:
    return next(iter(world.replicas.values()))


def _shelf(world: World) -> _Shelf:
    return next(shelf for shelf in _replica(world).store._shelves.values() if shelf.indexes)


PARTS: Mapping[str, Callable[[World], Any]] = {
    "world": lambda world: world,
    "API server": lambda world: world.api,
    "cluster": lambda world: world.cluster,
    "chance": lambda world: world.chance,
    "faults": lambda world: world.faults,
    "fault": lambda world: vars(world.faults)["each"][0],
    "replica": _replica,
    "elector": lambda world: _replica(world).elector,
    "asker": lambda world: _replica(world).asker,
    "stream": lambda world: next(iter(_replica(world).streams.values())),
    "store": lambda world: _replica(world).store,
    "shelf": _shelf,
    "index": lambda world: _shelf(world).indexes[0],
    "pair": lambda world: _pair(_replica(world)),
    "queue": lambda world: _replica(world).queue,
    "engine": lambda world: _replica(world).engine,
    "observer": lambda world: _replica(world).engine._observer,
    "answers": lambda world: _replica(world).engine._answers,
    "silences": lambda world: _replica(world).engine._silences,
    "view": lambda world: next(iter(_replica(world).engine._views.values())),
}


@pytest.mark.parametrize("part", PARTS)
def test_what_a_part_gets_is_forked(part: str) -> None:
    world = advanced(hosts(2))
    PARTS[part](world).number_of_a_new_kind = 7
    PARTS[part](world).list_of_a_new_kind = []
    twin = world.fork()
    both = shared(world, twin)
    assert PARTS[part](twin) is not PARTS[part](world)
    assert PARTS[part](twin).number_of_a_new_kind == 7
    assert {each.rpartition(".")[2] for each in both} == {"list_of_a_new_kind"}


# What tells states apart

WEB, ITEM = Key("shop", "web"), Item("virtualmachine", Key("shop", "web"))


def _ask() -> _Held:
    return _Held(Ask("probe", "probe", {}, 1.0), 0.0)


def _request() -> Request:
    return Request("virtualmachine", "patch", kinds.VIRTUAL_MACHINE, WEB, "PATCH", "/somewhere")


def _kind(replica: Replica) -> Any:
    return Lease


def _index(replica: Replica) -> _Indexed:
    return next(indexed for indexed in replica.store._indexed.values() if indexed.keys)


def _log(replica: Replica) -> list[Change]:
    return replica.world.api.changes(kinds.VIRTUAL_MACHINE)


def _loses_a_timer(replica: Replica) -> None:
    replica.queue._heap = []


def _forgets_what_is_due(replica: Replica) -> None:
    replica.queue._due.clear()


def _reads_wrongly(replica: Replica) -> None:
    objects = next(shelf.objects for shelf in replica.store._shelves.values() if shelf.objects)
    objects.popitem()


def _assumes(replica: Replica) -> None:
    shelf = next(shelf for shelf in replica.store._shelves.values() if shelf.objects)
    shelf.assumed.update(shelf.objects)


def _pair(replica: Replica) -> _Pair:
    return next(iter(replica.store._pairs.values()))


def _changes(replica: Replica) -> None:
    """What was derived is not of now any more."""
    for view in replica.store._made:
        for index in view.indexes:
            replica.store.indexed(index).changes += 1


def _of_streams(replica: Replica, attribute: str, seconds: float) -> None:
    for stream in replica.streams.values():
        setattr(stream, attribute, replica.world.now + seconds)


CHANGES: Mapping[str, Callable[[Replica], Any]] = {
    "Queue._heap": _loses_a_timer,
    "Queue._due": _forgets_what_is_due,
    "Queue._in_flight": lambda replica: replica.queue._in_flight.add(ITEM),
    "Queue._failures": lambda replica: replica.queue._failures.update({ITEM: 3}),
    "Queue._not_before": lambda replica: replica.queue._not_before.update({ITEM: replica.world.now + 5}),
    "Engine._speaking": lambda replica: setattr(replica.engine, "_speaking", ITEM),
    "Engine._writing": lambda replica: replica.engine._writing.update({(_kind(replica), WEB): _Writing(ITEM)}),
    "Engine._refused": lambda replica: replica.engine._refused.update(
        {ITEM: {"print": _Refusal(1, replica.world.now, ApiError(422, "Invalid", "no"))}}
    ),
    "Engine._unsure": lambda replica: replica.engine._unsure.update({ITEM: [(_kind(replica), WEB)]}),
    "Engine._doubted": lambda replica: replica.engine._doubted.update({ITEM: [_request()]}),
    "Engine._unkept": lambda replica: replica.engine._unkept.update({ITEM: ("1", {"powerState": "PoweredOn"})}),
    "Answers._held": lambda replica: replica.engine._answers._held.update({ITEM: {"probe": _ask()}}),
    "Answers._uids": lambda replica: replica.engine._answers._uids.update({ITEM: "another"}),
    "Silences._wanted": lambda replica: replica.engine._silences._wanted.update({ITEM: {(_kind(replica), WEB): 3.0}}),
    "Silences._heap": lambda replica: setattr(replica.engine._silences, "_heap", []),
    "SharedStore._changed": lambda replica: replica.store._changed[_kind(replica)].update({WEB: replica.world.now}),
    "SharedStore._gone": lambda replica: replica.store._gone[_kind(replica)].update({WEB: replica.world.now}),
    "_Shelf.objects": _reads_wrongly,
    "_Shelf.assumed": _assumes,
    "_Shelf.synced": lambda replica: setattr(replica.store.shelf(_kind(replica)), "synced", False),
    "_Shelf.why": lambda replica: setattr(replica.store.shelf(_kind(replica)), "why", Unreadable("gone")),
    "_Indexed.keys": lambda replica: _index(replica).keys.clear(),
    "_Indexed.amounts": lambda replica: _index(replica).amounts.update(
        {word: amount + 1 for word, amount in _index(replica).amounts.items()}
    ),
    "_Indexed._entered": lambda replica: _index(replica)._entered.clear(),
    "_Indexed.values": lambda replica: _index(replica).values.update({WEB: {"another": 1}}),
    "_Indexed.changes": lambda replica: _changes(replica),
    "SharedStore._made": lambda replica: replica.store._made.clear(),
    "_Pair._counted": lambda replica: _pair(replica)._counted.update({"another": 1}),
    "_Pair.amount": lambda replica: setattr(_pair(replica), "amount", 12345),
    "Stream.position": lambda replica: _log(replica).append(_log(replica)[-1]),
    "Stream.silent_until": lambda replica: _of_streams(replica, "silent_until", 1),
    "Stream.silent_since": lambda replica: _of_streams(replica, "silent_since", -1),
    "Stream.heard_since": lambda replica: _of_streams(replica, "heard_since", -1),
    "Replica.restarts_at": lambda replica: setattr(replica, "restarts_at", replica.world.now + 5),
    "Replica.talking": lambda replica: replica.talking.update({1: (ITEM, None, None)}),  # type: ignore[dict-item]
    "Replica.elector": lambda replica: setattr(replica, "elector", object()),
    "Replica.paused_until": lambda replica: setattr(replica, "paused_until", replica.world.now + 5),
    "Replica.cut_until": lambda replica: setattr(replica, "cut_until", replica.world.now + 5),
}
"""A bug, or something that happened, in each part of a process that tells its states apart."""

LEFT_OUT: Mapping[str, str] = {
    "Queue._jitter": "always the same",
    "Queue._order": "the order counts, and not the numbers",
    "Silences._order": "the order counts, and not the numbers",
    **dict.fromkeys(
        ("Engine._services", "Engine._views", "Engine._kinds", "Engine._watchers", "Engine._store", "Engine._queue",
         "Engine._observer", "Engine._clock", "Engine._answers", "Engine._silences", "Answers._asker", "Answers._woken",
         "Answers._clock", "Silences._since", "SharedStore._clock", "SharedStore._sources", "SharedStore._listeners",
         "SharedStore._shelves", "SharedStore._indexed", "SharedStore.last_word", "SharedStore.since",
         "SharedStore.last_sign", "_Shelf.kind", "_Shelf.decode", "_Shelf.indexes", "_Indexed.index", "Stream.kind",
         "Stream.resource", "Stream.wanted", "Stream.selective", "Replica.name", "Replica.world", "Replica.served",
         "Replica.resources", "Replica.heard_by", "Replica.streams", "Replica.store", "Replica.queue", "Replica.asker",
         "Replica.engine"),
        "made once, or a part with attributes of its own",
    ),
    "SharedStore._parsed": "a cache, which is not used",
    "SharedStore.stirred": "what the mark itself remembers",
    "SharedStore.touched": "what the mark itself remembers",
    "SharedStore.marks": "what the mark itself remembers",
    "SharedStore.borrowed": "says only who copies",
    "SharedStore._pairs": "parts with attributes of their own",
    "_Shelf.removed": "counts only against what a late watch is still to bring, and that is in the mark",
    "Replica.started": "counts by since when its watches are heard",
    "Replica.life": "tells whose an answer from outside is, which is on the agenda",
    "Replica._awaited": "a cache",
    "Replica.began": "of looks that are under way; there are none where a mark is taken",
    "Replica.landed": "excuses an object that waits for itself; nobody waits where a mark is taken",
    "Replica.restart_delay": "set at the moment of a crash",
    "Replica.competes_at": "only one that competes has it",
}  # fmt: skip


def quiet_moment() -> World:
    """A world in which a host has died, at a moment at which its state has a mark and somebody waits for something."""
    world = hostdrivers.by_name("host dies").world(laws=HostLaws())
    replica = _replica(world)
    while True:
        due = world.next()[0]
        waits = replica.queue._heap and replica.engine._silences._wanted and replica.engine._silences._heap
        if waits and math.floor(due / TICK + 1e-6) > math.floor(world.now / TICK + 1e-6) and world.mark() is not None:
            return world
        assert world.step(), "nobody ever waits"


@pytest.mark.parametrize("attribute", CHANGES)
def test_whatever_a_process_remembers_tells_states_apart(attribute: str) -> None:
    world = quiet_moment()
    replica = _replica(world)
    for kind in replica.store.kinds:
        replica.store.own(kind)
    if attribute == "Stream.silent_since":
        CHANGES["Stream.silent_until"](replica)
    before = world.mark()
    assert before == world.mark()
    CHANGES[attribute](replica)
    replica.store.touched.update(replica.store.kinds)
    replica.store.stirred.update(replica.store.kinds)
    assert world.mark() != before


def test_every_attribute_is_in_the_mark_or_left_out_for_a_reason() -> None:
    replica = _replica(quiet_moment())
    engine, store = replica.engine, replica.store
    shelf = next(shelf for shelf in store._shelves.values() if shelf.indexes)
    stream = next(iter(replica.streams.values()))
    kept = shelf, shelf.indexes[0], _pair(replica)
    for part in (replica, stream, replica.queue, engine, engine._answers, engine._silences, store, *kept):
        has = {f"{type(part).__name__}.{name}" for name in vars(part)}
        assert has == {each for each in (*CHANGES, *LEFT_OUT) if each.startswith(f"{type(part).__name__}.")}


def test_events_of_another_kind_with_the_same_values_are_told_apart() -> None:
    marks = set()
    for what in (Hear, Relist):
        world = drivers.by_name("create").world(laws=Laws())
        world.at(5.0, what("operator", (_kind(_replica(world)),)))
        marks.add(hash(world.mark()))
    assert len(marks) == 2


def test_that_a_state_stays_quiet_is_proved_again_when_the_operator_knows_something_else() -> None:
    laws = Laws()
    world = drivers.by_name("create").world(laws=laws)
    while not world.idle:
        world.step()
    laws.at_rest(world)
    proved = len(laws.quiet)
    laws.at_rest(world)
    assert len(laws.quiet) == proved
    replica = _replica(world)
    for kind in replica.store.kinds:
        replica.store.own(kind)
    for indexed in replica.store._indexed.values():
        indexed.keys.clear()
    replica.store.touched.update(replica.store.kinds)
    with pytest.raises(Violation):
        laws.at_rest(world)
