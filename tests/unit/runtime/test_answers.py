"""Asks from the engine's side: intent first, never twice, and nothing is taken for an answer that is none."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from vdcos import api
from vdcos.core import conditions, kinds
from vdcos.core.objects import Index, Key
from vdcos.core.plan import Answer, Ask, Create, Instant, Plan
from vdcos.core.service import Watch, Write
from vdcos.core.snapshot import Snapshot
from vdcos.runtime.answers import UNKNOWN, Reply
from vdcos.runtime.engine import Engine, Outcome
from vdcos.runtime.queue import Item, Queue
from vdcos.runtime.requests import ApiError, Request
from vdcos.runtime.store import Store

KEY = Key("", "fast")
ITEM = Item("toy", KEY)
OFF = Ask("power-off/1", "redfish", {"operation": "off"}, 5.0, effect=True)
STATE = Ask("power/1", "redfish", {"operation": "state"}, 2.0, fresh=10.0)


@dataclass
class Toy:
    """Asks what the test wants, and says the ids of its effects, unless the test wants other words."""

    asks: tuple[Ask, ...] = ()
    stated: tuple[str, ...] | None = None
    actions: tuple[Create, ...] = ()
    seen: Mapping[str, Answer] = field(default_factory=dict)
    name: str = "toy"
    resource = kinds.DATASTORE
    kind = api.Datastore
    needed = ("Fenced",)
    watches: tuple[Watch[Any], ...] = ()
    indexes: tuple[Index[Any], ...] = ()
    writes: tuple[Write, ...] = (Write(kinds.NETWORK, ("create",)),)

    def observe(self, key: Key, world: Snapshot) -> None:
        self.seen = world.answers(key)

    def plan(self, cr: api.Datastore, seen: None, now: Instant) -> Plan:
        stated = self.stated if self.stated is not None else tuple(ask.id for ask in self.asks if ask.effect)
        said = conditions.true("Fenced", "Fenced")
        return Plan(self.actions, (said,), {"asked": list(stated)}, after=60.0, asks=self.asks)


class Port:
    """An Asker that remembers; tests reply."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.stopped: list[str] = []
        self.replies: dict[str, Reply] = {}

    def start(self, item: Item, ask: Ask, reply: Reply) -> None:
        self.started.append(ask.id)
        self.replies[ask.id] = reply

    def stop(self, item: Item, ask: Ask) -> None:
        self.stopped.append(ask.id)

    def reply(self, id_: str, error: str = "", **value: Any) -> None:
        self.replies[id_](not error, value, error)


class Deaf:
    def acted(self, *_: Any) -> None: ...
    def said(self, *_: Any) -> None: ...
    def refused(self, *_: Any) -> None: ...

    def __init__(self) -> None:
        self.bugs: list[str] = []

    def bug(self, item: Item, error: Exception) -> None:
        self.bugs.append(f"{type(error).__name__}: {error}")


class Process:
    """One run of the operator against the API server's object, which outlives it."""

    def __init__(self, cluster: dict[str, Any], *asks: Ask) -> None:
        self.cluster, self.toy, self.port, self.observer = cluster, Toy(asks), Port(), Deaf()
        self.queue, self.store, self.now = Queue(), Store([api.Datastore]), 1_000.0
        self.engine = Engine(
            [self.toy], self.store, self.queue, self.observer, lambda: Instant(self.now, self.now), self.port
        )
        self.hear()

    def hear(self) -> None:
        self.store.put(api.Datastore, self.store.decoder(api.Datastore)(json.dumps(self.cluster).encode()))

    def written(self, request: Request) -> bytes:
        if request.verb == "status":
            body = json.loads(request.body or b"")
            meta = self.cluster["metadata"]
            if body["metadata"]["resourceVersion"] != meta["resourceVersion"]:
                raise ApiError(409, "Conflict", "changed")
            meta["resourceVersion"] = str(int(meta["resourceVersion"]) + 1)
            self.cluster["status"] = {**self.cluster.get("status", {}), **body["status"]}
        return json.dumps(self.cluster).encode()

    def look(self, fail: ApiError | None = None, lose: bool = False) -> Outcome:
        """One look. ``fail``: what the API server says to a write. ``lose``: it writes, and the answer gets lost."""
        conversation = self.engine.reconcile(ITEM)
        try:
            request = next(conversation)
            while True:
                try:
                    if fail is not None:
                        raise fail
                    answer = self.written(request)
                    if lose:
                        raise ApiError(0, "Timeout", "no answer in time")
                except ApiError as error:
                    request = conversation.throw(error)
                else:
                    request = conversation.send(answer)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome


@pytest.fixture
def cluster() -> dict[str, Any]:
    meta = {"name": "fast", "uid": "u1", "generation": 1, "resourceVersion": "10"}
    return {
        "apiVersion": "vdcos.dev/v1alpha1",
        "kind": "Datastore",
        "metadata": meta,
        "spec": {"storageClassName": "ceph"},
    }


def test_an_effect_begins_only_when_its_intent_is_stored(cluster: dict[str, Any]) -> None:
    process = Process(cluster, OFF)
    conversation = process.engine.reconcile(ITEM)
    request = next(conversation)
    assert request.verb == "status"
    assert json.loads(request.body or b"")["status"]["asked"] == ["power-off/1"]
    assert process.port.started == []
    with pytest.raises(StopIteration):
        conversation.send(process.written(request))
    assert process.port.started == ["power-off/1"]


@pytest.mark.parametrize("status", [409, 500, 0, 403])
def test_an_effect_does_not_begin_when_its_intent_was_not_stored(cluster: dict[str, Any], status: int) -> None:
    process = Process(cluster, OFF)
    process.look(fail=ApiError(status, "Trouble", "no"))
    assert process.port.started == []
    process.look()
    assert process.port.started == ["power-off/1"], "the next look says it, and then it begins"


def test_an_effect_is_never_begun_twice(cluster: dict[str, Any]) -> None:
    process = Process(cluster, OFF)
    for _ in range(3):
        process.look()
    process.port.reply("power-off/1", accepted=True)
    for _ in range(3):
        process.look()
        process.now += 1_000.0
    assert process.port.started == ["power-off/1"]
    assert process.toy.seen == {"power-off/1": Answer(True, 1_000.0, 1_000.0, {"accepted": True})}
    # Forgotten and asked again under the same id: nobody knows any more, and it still does not begin.
    process.toy.asks, process.toy.stated = (), ("power-off/1",)
    process.look()
    process.toy.asks = (OFF,)
    process.look()
    process.look()
    assert process.port.started == ["power-off/1"]
    assert process.toy.seen["power-off/1"].error == UNKNOWN


@pytest.mark.parametrize("answered", [False, True])
def test_after_a_crash_nobody_knows_what_became_of_an_effect(cluster: dict[str, Any], answered: bool) -> None:
    first = Process(cluster, OFF)
    first.look()
    if answered:
        first.port.reply("power-off/1", accepted=True)
    second = Process(cluster, OFF)
    second.look()
    second.look()
    assert second.port.started == []
    assert not second.toy.seen["power-off/1"].ok
    assert second.toy.seen["power-off/1"].error == UNKNOWN
    # It tries again under another id.
    again = Ask("power-off/2", "redfish", {"operation": "off"}, 5.0, effect=True)
    second.toy.asks = (again,)
    second.look()
    assert second.port.started == ["power-off/2"]


def test_a_crash_between_intent_and_effect_is_no_effect(cluster: dict[str, Any]) -> None:
    first = Process(cluster, OFF)
    conversation = first.engine.reconcile(ITEM)
    first.written(next(conversation))
    conversation.close()
    assert cluster["status"]["asked"] == ["power-off/1"]
    assert first.port.started == []
    second = Process(cluster, OFF)
    second.look()
    second.look()
    assert second.port.started == []
    assert second.toy.seen["power-off/1"].error == UNKNOWN


def test_an_intent_whose_answer_was_lost_may_be_somebody_elses(cluster: dict[str, Any]) -> None:
    process = Process(cluster, OFF)
    process.look(lose=True)
    process.hear()
    process.look()
    process.look()
    assert process.port.started == []
    assert process.toy.seen["power-off/1"].error == UNKNOWN


def test_two_leaders_do_not_begin_the_same_effect(cluster: dict[str, Any]) -> None:
    one, other = Process(cluster, OFF), Process(cluster, OFF)
    assert one.look().result == "done"
    assert other.look().result == "conflict", "it wrote on an older version"
    other.hear()
    other.look()
    assert (one.port.started, other.port.started) == (["power-off/1"], [])


def test_an_effect_that_the_status_does_not_state_is_a_bug(cluster: dict[str, Any]) -> None:
    process = Process(cluster, OFF)
    process.toy.stated = ()
    assert process.look().result == "bug"
    assert process.observer.bugs == ["UnstatedEffect: status.asked lacks power-off/1"]
    process.toy.asks, process.toy.stated = (STATE, STATE), None
    assert process.look().result == "bug"
    assert process.port.started == []


def test_asks_begin_although_an_action_fails_once_that_is_said(cluster: dict[str, Any]) -> None:
    process = Process(cluster, OFF, STATE)
    manifest = {"apiVersion": "vdcos.dev/v1alpha1", "kind": "Network", "metadata": {"name": "x"}}
    process.toy.actions = (Create(kinds.NETWORK, manifest, "why not"),)
    conversation = process.engine.reconcile(ITEM)
    assert next(conversation).verb == "create"
    status = conversation.throw(ApiError(403, "Forbidden", "exceeded quota"))
    assert status.verb == "status"
    assert process.port.started == []
    with pytest.raises(StopIteration):
        conversation.send(process.written(status))
    assert process.port.started == ["power-off/1", "power/1"]


def test_a_question_needs_no_intent_and_is_repeated_when_its_answer_is_old(cluster: dict[str, Any]) -> None:
    process = Process(cluster, STATE)
    process.queue.add(ITEM, 1_000.0)
    assert process.queue.pop(1_000.0) == ITEM
    assert process.look() == Outcome("done", 60.0)
    process.queue.done(ITEM, 1_000.0)
    assert process.port.started == ["power/1"]
    process.now += 2
    process.port.reply("power/1", power="Off")
    assert process.queue.pop(process.now) == ITEM, "an answer wakes its object"
    assert process.look() == Outcome("done", 10.0), "until it is no longer fresh"
    assert process.toy.seen == {"power/1": Answer(True, 1_000.0, 1_002.0, {"power": "Off"})}
    process.now += 9
    assert process.look() == Outcome("done", 1.0)
    assert process.port.started == ["power/1"]
    process.now += 1
    process.look()
    process.look()
    assert process.port.started == ["power/1", "power/1"]
    assert process.toy.seen["power/1"].at == 1_002.0, "the old answer stands until there is a new one"
    process.port.reply("power/1", error="unreachable")
    process.look()
    assert process.toy.seen["power/1"] == Answer(False, 1_012.0, 1_012.0, {}, "unreachable")


def test_what_is_not_asked_any_more_is_called_off_and_its_answer_is_none(cluster: dict[str, Any]) -> None:
    process = Process(cluster, STATE)
    process.look()
    late = process.port.replies["power/1"]
    process.toy.asks = ()
    process.look()
    assert process.queue.pop(process.now) == ITEM
    process.queue.done(ITEM, process.now)
    assert process.port.stopped == ["power/1"]
    late(True, {"power": "Off"}, "")
    process.look()
    assert process.toy.seen == {}
    assert process.queue.next_due() is None, "nobody was woken"


def test_an_answer_to_another_question_is_none(cluster: dict[str, Any]) -> None:
    process = Process(cluster, STATE)
    process.look()
    earlier = process.port.replies["power/1"]
    process.toy.asks = (Ask("power/1", "redfish", {"operation": "state", "address": "https://new"}, 2.0),)
    process.look()
    assert process.port.stopped == ["power/1"]
    assert process.port.started == ["power/1", "power/1"]
    earlier(True, {"power": "Off"}, "")
    process.look()
    assert process.toy.seen == {}
    process.port.reply("power/1", power="On")
    process.look()
    assert process.toy.seen["power/1"].value == {"power": "On"}


def test_a_reply_counts_once(cluster: dict[str, Any]) -> None:
    process = Process(cluster, STATE)
    process.look()
    process.port.reply("power/1", power="On")
    process.port.reply("power/1", power="Off")
    process.look()
    assert process.toy.seen["power/1"].value == {"power": "On"}


def test_answers_end_with_their_object(cluster: dict[str, Any]) -> None:
    process = Process(cluster, STATE)
    process.look()
    process.port.reply("power/1", power="Off")
    # A namesake: it gets no answers of its predecessor, not even before its first look.
    cluster["metadata"] |= {"uid": "u2", "resourceVersion": "50"}
    cluster.pop("status")
    process.hear()
    process.look()
    assert process.toy.seen == {}
    assert process.port.started == ["power/1", "power/1"]
    process.store.remove(api.Datastore, KEY, "99")
    assert process.look().result == "gone"
    assert process.port.stopped == ["power/1"]
