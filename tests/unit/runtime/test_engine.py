"""The engine, with a toy vService (a Datastore wants one Box) and a scripted API server."""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec
import pytest

from vdcos import api
from vdcos.core import conditions, drift, kinds, ownership
from vdcos.core.objects import Index, Key, Meta, Object, Own, Resource
from vdcos.core.plan import NOTHING_YET, Action, Apply, Create, Delete, Instant, Patch, Plan, Silence
from vdcos.core.service import Watch, Write
from vdcos.core.snapshot import Snapshot, UndeclaredRead
from vdcos.runtime.engine import REFUSAL_STANDS, Engine, Outcome, Together, UndeclaredWrite, merge_patch
from vdcos.runtime.queue import Item, Queue
from vdcos.runtime.requests import ApiError, Request
from vdcos.runtime.store import Store

KEY = Key("", "fast")
ITEM = Item("toy", KEY)


class Box(Object, frozen=True, kw_only=True):
    resource: ClassVar[Resource] = Resource("test.dev", "v1", "boxes", "Box", namespaced=False)
    weight: int = 0
    ready: bool = False


class Lid(Object, frozen=True, kw_only=True):
    """Some of what others write into a Box."""

    resource: ClassVar[Resource] = Box.resource
    partial: ClassVar[bool] = True


class Undeclared(Object, frozen=True, kw_only=True):
    resource: ClassVar[Resource] = Resource("test.dev", "v1", "others", "Other", namespaced=False)


BOXES: Index[Box] = Index(Box, lambda box: ["all"], lambda box: box.weight)


@dataclass
class Toy:
    """Wants a Box of its own name; the test may replace its plan."""

    name: str = "toy"
    resource: Resource = kinds.DATASTORE
    kind: type[api.Datastore] = api.Datastore
    needed: tuple[str, ...] = ("BoxReady",)
    watches: tuple[Watch[Any], ...] = (
        Watch(Box, lambda box, world: [box.metadata.key], sees=lambda box: (box.weight, box.ready)),
    )
    indexes: tuple[Index[Any], ...] = (BOXES,)
    writes: tuple[Write, ...] = (
        Write(Box.resource, ("create", "patch", "delete")),
        Write(kinds.DATASTORE, ("patch",)),
    )
    override: Callable[[api.Datastore, Box | None], Plan] | None = None
    totals: list[int] = field(default_factory=list)

    def observe(self, key: Key, world: Snapshot) -> Box | None:
        box = world.get(Box, key)
        assert box is None or isinstance(box, Box)
        self.totals.append(world.total(BOXES, "all").amount)
        return box

    def plan(self, cr: api.Datastore, seen: Box | None, now: Instant) -> Plan:
        if self.override is not None:
            return self.override(cr, seen)
        if seen is None:
            return Plan((Create(Box.resource, box_manifest(), "there is no box"),))
        said = (
            conditions.true("BoxReady", "Ready")
            if seen.ready
            else conditions.false("BoxReady", "Waiting", "the box is not ready")
        )
        return Plan(conditions=(said,), status={"disks": 1}, after=30.0)


def box_manifest(weight: int = 7) -> dict[str, Any]:
    return {"apiVersion": "test.dev/v1", "kind": "Box", "metadata": {"name": "fast"}, "weight": weight}


class Watcher:
    """An Observer that remembers."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def acted(self, item: Item, action: Action) -> None:
        self.log.append(f"acted {type(action).__name__}")

    def said(
        self, item: Item, owner: Meta, before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]
    ) -> None:
        self.log.append("said")

    def refused(self, item: Item, error: ApiError) -> None:
        self.log.append(f"refused {error.status}")

    def bug(self, item: Item, error: Exception) -> None:
        self.log.append(f"bug {type(error).__name__}")


class Server:
    """Answers requests from a dictionary of objects, and can be told to fail."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.version = 100
        self.fail: dict[str, list[ApiError]] = {}
        self.requests: list[Request] = []

    def stamp(self, stored: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        stored["metadata"] = {**stored["metadata"], "resourceVersion": str(self.version)}
        stored["metadata"].setdefault("uid", f"uid-{self.version}")
        return stored

    def answer(self, request: Request) -> bytes:
        self.requests.append(request)
        if errors := self.fail.get(request.verb):
            raise errors.pop(0)
        body = json.loads(request.body or b"null")
        name = f"{request.resource.plural}/{request.key.name}"
        match request.verb:
            case "create" if name in self.objects:
                raise ApiError(409, "AlreadyExists", "exists")
            case "create" | "apply":
                self.objects[name] = self.stamp({**self.objects.get(name, {}), **body})
            case "status":
                stored = self.objects[name]
                assert body["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"]
                status = {**stored.get("status", {}), **body["status"]}
                self.objects[name] = self.stamp(
                    {**stored, "status": {k: v for k, v in status.items() if v is not None}}
                )
            case "patch":
                self.objects[name] = self.stamp(self.objects[name])
            case "delete":
                del self.objects[name]
                return b'{"kind":"Status"}'
            case "get" if name not in self.objects:
                raise ApiError(404, "NotFound", "no such object")
        return json.dumps(self.objects[name]).encode()


class Bench:
    """A toy, an engine over it, and a server; the clock is a number."""

    def __init__(self, toy: Toy | None = None, *indexes: Index[Any]) -> None:
        self.toy, self.server, self.watcher, self.queue = toy or Toy(), Server(), Watcher(), Queue()
        self.answered: list[tuple[str, Callable[[], None]]] = []
        self.now = 1_000_000.0
        self.store = Store([api.Datastore, Box], [BOXES, *indexes], [Box], lambda: self.now)
        self.engine = Engine([self.toy], self.store, self.queue, self.watcher, lambda: Instant(self.now, self.now))
        self.store.replace(Box, [], "1")
        self.store.replace(api.Datastore, [], "1")
        self.declare({"storageClassName": "ceph"})

    def declare(self, spec: dict[str, Any], generation: int = 1) -> None:
        name = "datastores/fast"
        stored = self.server.objects.get(name, {})
        meta = {**stored.get("metadata", {"uid": "own"}), "name": "fast", "generation": generation}
        declared = {"apiVersion": "vdcos.dev/v1alpha1", "kind": "Datastore", "metadata": meta, "spec": spec}
        self.server.objects[name] = self.server.stamp({**stored, **declared})
        self.hear()

    def hear(self) -> None:
        """The watches catch up."""
        for name, stored in self.server.objects.items():
            kind = api.Datastore if name.startswith("datastores") else Box
            self.store.put(kind, self.store.decoder(kind)(json.dumps(stored).encode()))

    def look(self) -> Outcome:
        """Drive one conversation to its end."""
        conversation = self.engine.reconcile(ITEM)
        try:
            request = next(conversation)
            while True:
                try:
                    answer = self.server.answer(request)
                except ApiError as error:
                    self.meanwhile(request)
                    request = conversation.throw(error)
                else:
                    self.meanwhile(request)
                    request = conversation.send(answer)
        except StopIteration as end:
            outcome = end.value
            assert isinstance(outcome, Outcome)
            return outcome

    def meanwhile(self, request: Request) -> None:
        """What happens between a write and its answer."""
        if self.answered and self.answered[0][0] == request.verb:
            self.answered.pop(0)[1]()

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.server.objects["datastores/fast"].get("status", {})
        return status

    def condition(self, kind: str) -> dict[str, Any]:
        return next(c for c in self.status["conditions"] if c["type"] == kind)

    @property
    def verbs(self) -> list[str]:
        verbs = [request.verb for request in self.server.requests]
        self.server.requests.clear()
        return [str(verb) for verb in verbs]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_new_object_costs_its_child_and_one_status(bench: Bench) -> None:
    assert bench.look() == Outcome("done", 30.0)
    assert bench.verbs == ["create", "status"]
    assert bench.status["disks"] == 1
    assert bench.status["observedGeneration"] == 1
    ready = bench.condition("Ready")
    assert (ready["status"], ready["reason"], ready["message"]) == ("False", "Waiting", "the box is not ready")
    assert bench.condition("Reconciling")["status"] == "True"
    assert bench.watcher.log == ["acted Create", "said"]


def test_nothing_changed_nothing_written(bench: Bench) -> None:
    bench.look()
    bench.server.requests.clear()
    for _ in range(3):
        bench.hear()
        assert bench.look() == Outcome("done", 30.0)
    assert bench.verbs == []


def test_a_transition_costs_one_write_and_moves_its_time(bench: Bench) -> None:
    bench.look()
    before = bench.condition("BoxReady")["lastTransitionTime"]
    bench.now += 60
    bench.server.objects["boxes/fast"]["ready"] = True
    bench.server.stamp(bench.server.objects["boxes/fast"])
    bench.hear()
    bench.server.requests.clear()
    bench.look()
    assert bench.verbs == ["status"]
    assert bench.condition("Ready")["status"] == "True"
    assert bench.condition("BoxReady")["lastTransitionTime"] > before
    assert [c["type"] for c in bench.status["conditions"]] == ["Ready", "BoxReady"], "Reconciling went"


def test_a_new_generation_is_observed_even_if_nothing_else_changed(bench: Bench) -> None:
    bench.look()
    before = bench.condition("BoxReady")
    bench.now += 60
    bench.declare({"storageClassName": "ceph", "maintenance": True}, generation=2)
    bench.look()
    after = bench.condition("BoxReady")
    assert bench.status["observedGeneration"] == 2
    assert after["observedGeneration"] == 2
    assert after["lastTransitionTime"] == before["lastTransitionTime"]


@pytest.mark.parametrize(
    "error, counts",
    [
        (ApiError(422, "Invalid", "too heavy"), {}),
        (ApiError(409, "Conflict", "changed"), {}),
        (ApiError(429, "TooManyRequests", "slow down"), {}),
        (ApiError(0, "Timeout", "no answer"), {"all": 7}),
        (ApiError(504, "Timeout", "etcd"), {"all": 7}),
    ],
)
def test_a_planned_write_counts_before_it_is_answered_and_while_nobody_knows_what_became_of_it(
    bench: Bench, error: ApiError, counts: Mapping[str, int]
) -> None:
    conversation = bench.engine.reconcile(ITEM)
    request = next(conversation)
    assert request.verb == "create"
    assert bench.store.indexed(BOXES).amounts == {"all": 7}
    with contextlib.suppress(StopIteration):
        conversation.throw(error)
    assert bench.store.indexed(BOXES).amounts == counts
    bench.toy.override = lambda cr, seen: Plan()
    bench.look()
    assert bench.store.indexed(BOXES).amounts == {}


def test_who_went_by_what_was_assumed_looks_again_when_it_does_not_come() -> None:
    neighbour = Key("", "neighbour")
    bench = Bench(Toy(watches=(Watch(Box, lambda box, world: [box.metadata.key, neighbour]),)))
    while (item := bench.queue.pop(bench.now)) is not None:
        bench.queue.done(item, bench.now)
    bench.server.fail["create"] = [ApiError(422, "Invalid", "too heavy")]
    bench.look()
    assert bench.queue.pop(bench.now) == Item("toy", neighbour)
    assert bench.queue.pop(bench.now) is None


def test_a_child_that_exists_already_is_read_not_created_again(bench: Bench) -> None:
    bench.server.objects["boxes/fast"] = bench.server.stamp({**box_manifest(3), "ready": True})
    assert bench.look().result == "done"
    assert bench.verbs == ["create", "get", "status"]
    assert bench.condition("Ready")["status"] == "True"


@pytest.mark.parametrize(
    "error, result, ready, says",
    [
        (ApiError(409, "Conflict", "changed"), "conflict", None, ""),
        (ApiError(410, "Gone", "gone"), "conflict", None, ""),
        (ApiError(429, "TooManyRequests", "slow down", 2.0), "backoff", None, ""),
        (ApiError(500, "InternalError", "boom"), "backoff", None, ""),
        (ApiError(0, "Timeout", "no answer"), "backoff", None, ""),
        (ApiError(422, "Invalid", "weight: too heavy"), "refused", "False", "weight: too heavy"),
        (
            ApiError(500, "Unknown", "failed to create typed patch object (b; v1, Kind=Box): .x: field not declared"),
            "refused",
            "False",
            ".x: field not declared",
        ),
        (ApiError(403, "Forbidden", 'admission webhook "x" denied the request: no'), "refused", "False", "no"),
        (ApiError(403, "Forbidden", "exceeded quota: disks"), "backoff", "False", "If it is a quota, raise it"),
    ],
)
def test_errors_have_one_place_and_users_are_told(
    bench: Bench, error: ApiError, result: str, ready: str | None, says: str
) -> None:
    bench.server.fail["create"] = [error]
    outcome = bench.look()
    assert outcome.result == result
    assert outcome.after == (REFUSAL_STANDS if result == "refused" else error.retry_after)
    if ready is None:
        assert bench.status == {}
    else:
        assert bench.condition("Ready")["status"] == ready
        assert says in bench.condition("Ready")["message"]
        assert any(c["type"] == "Stalled" for c in bench.status["conditions"]) == (result == "refused")
    # Once the cause is gone, so is every trace of it.
    bench.declare({"storageClassName": "ceph"}, generation=2)
    assert bench.look().result == "done"
    assert bench.condition("Ready")["reason"] == "Waiting"
    assert {c["type"] for c in bench.status["conditions"]} == {"Ready", "Reconciling", "BoxReady"}


@pytest.mark.parametrize("status", [0, 429, 500])
def test_trouble_is_told_only_when_it_lasts(bench: Bench, status: int) -> None:
    bench.server.fail["create"] = [ApiError(status, "Trouble", "boom")]
    for _ in range(5):
        bench.queue.failed(ITEM, bench.now)
    bench.look()
    assert bench.condition("Ready")["reason"] == "ApiUnavailable"


def test_what_was_refused_is_not_repeated_until_somebody_changes_something(bench: Bench) -> None:
    bench.server.fail["create"] = [ApiError(422, "Invalid", "weight: too heavy")]
    bench.look()
    assert bench.verbs == ["create", "status"]
    assert bench.look().result == "refused"
    assert bench.verbs == [], "the same request for the same generation"
    bench.declare({"storageClassName": "ceph", "maintenance": True}, generation=2)
    assert bench.look().result == "done"
    assert bench.verbs[0] == "create"


def test_what_was_refused_is_tried_again_after_a_while_as_the_cluster_may_have_changed(bench: Bench) -> None:
    bench.server.fail["create"] = [ApiError(422, "Invalid", "weight: too heavy")]
    assert bench.look() == Outcome("refused", REFUSAL_STANDS)
    bench.now += REFUSAL_STANDS - 1.0
    assert bench.look() == Outcome("refused", 1.0), "a look in between does not put it off"
    bench.now += 1.0
    assert bench.look().result == "done"


def test_a_verdict_is_never_stored_with_a_generation_that_it_is_not_about(bench: Bench) -> None:
    conversation = bench.engine.reconcile(ITEM)
    next(conversation)
    bench.declare({"storageClassName": "ceph", "maintenance": True}, generation=2)
    with pytest.raises(StopIteration) as end:
        conversation.throw(ApiError(422, "Invalid", "weight: too heavy"))
    assert end.value.value.result == "refused"
    assert bench.status == {}
    bench.server.fail["create"] = []
    assert bench.look().result == "done"
    assert bench.status["observedGeneration"] == 2


def test_an_abandoned_conversation_leaves_no_assumption(bench: Bench) -> None:
    twins = tuple(Create(Box.resource, {**box_manifest(), "metadata": {"name": name}}, "") for name in ("one", "two"))
    bench.toy.override = lambda cr, seen: Plan(twins)
    conversation = bench.engine.reconcile(ITEM)
    next(conversation)
    assert bench.store.indexed(BOXES).amounts == {"all": 14}
    conversation.close()
    assert bench.store.indexed(BOXES).amounts == {}


def test_an_assumed_growth_counts_whatever_is_heard_before_its_answer(bench: Bench) -> None:
    bench.look()
    stored = bench.store.heard(Box, KEY)
    assert isinstance(stored, Box)
    grown = msgspec.structs.replace(stored, weight=20)
    patch = Patch(Box.resource, KEY, stored.metadata.uid, (), "grow", assumed=grown)
    bench.toy.override = lambda cr, seen: Plan((patch,)) if seen and seen.weight < 20 else Plan()
    conversation = bench.engine.reconcile(ITEM)
    next(conversation)
    bench.server.objects["boxes/fast"] = bench.server.stamp({**bench.server.objects["boxes/fast"], "ready": True})
    bench.hear()
    assert bench.store.indexed(BOXES).amounts == {"all": 20}
    conversation.close()
    assert bench.store.indexed(BOXES).amounts == {"all": 7}


def test_what_is_there_is_brought_up_to_date_although_something_else_is_refused(bench: Bench) -> None:
    bench.look()
    stored = bench.store.heard(Box, KEY)
    assert stored is not None
    refused = Patch(Box.resource, KEY, stored.metadata.uid, (), "grow")
    update = Apply(Box.resource, box_manifest(9), "power off")
    new = Create(Box.resource, {**box_manifest(), "metadata": {"name": "new"}}, "new")
    first = Apply(Box.resource, {**box_manifest(), "metadata": {"name": "first"}}, "new", force=False)
    bench.toy.override = lambda cr, seen: Plan((refused, new, first, update), status={})
    bench.server.fail["patch"] = [ApiError(403, "Forbidden", "exceeded quota: disks")]
    bench.server.requests.clear()
    assert bench.look().result == "backoff"
    assert bench.verbs == ["patch", "apply", "status"]
    assert bench.server.objects["boxes/fast"]["weight"] == 9


@pytest.mark.parametrize(
    ("later", "result"),
    [
        (ApiError(429, "TooManyRequests", "slow down", 2.0), "backoff"),
        (ApiError(409, "Conflict", "changed"), "conflict"),
        (ApiError(403, "Forbidden", "exceeded quota: disks"), "backoff"),
        (ApiError(422, "Invalid", "no"), "refused"),
    ],
)
def test_what_is_refused_keeps_nothing_waiting_that_failed_for_now(bench: Bench, later: ApiError, result: str) -> None:
    bench.look()
    stored = bench.store.heard(Box, KEY)
    assert stored is not None
    refused = Patch(Box.resource, KEY, stored.metadata.uid, (), "grow")
    update = Apply(Box.resource, box_manifest(9), "power off")
    bench.toy.override = lambda cr, seen: Plan((refused, update), status={})
    bench.server.fail = {"patch": [ApiError(422, "Invalid", "too large")], "apply": [later]}
    assert bench.look().result == result
    assert "too large" in bench.condition("Stalled")["message"]


def test_a_map_that_an_apply_would_leave_empty_is_taken_away_first(bench: Bench) -> None:
    bench.look()
    stored = bench.store.heard(Box, KEY)
    assert stored is not None
    plans = iter([Plan((Apply(Box.resource, box_manifest(9), "drop"),)), Plan()])
    bench.toy.override = lambda cr, seen: next(plans)
    null = 'is invalid: [spec.a.b: Invalid value: "null": spec.a.b in body must be of type object: "null", <nil>: ...]'
    bench.server.fail["apply"] = [ApiError(422, "Invalid", f'Box "fast" {null}')]
    bench.server.requests.clear()
    assert bench.look().result == "done"
    patch = bench.server.requests[1]
    assert bench.verbs == ["apply", "patch", "apply"]
    version = {"op": "test", "path": "/metadata/resourceVersion", "value": stored.metadata.resource_version}
    assert json.loads(patch.body or b"") == [version, {"op": "remove", "path": "/spec/a/b"}]


def test_the_apply_after_that_is_for_what_the_map_was_taken_from(bench: Bench) -> None:
    bench.look()
    stored = bench.store.heard(Box, KEY)
    assert stored is not None
    seen = stored.metadata.resource_version
    plans = iter([Plan((Apply(Box.resource, box_manifest(9), "drop", resource_version=seen),)), Plan()])
    bench.toy.override = lambda cr, box: next(plans)
    bench.server.fail["apply"] = [
        ApiError(422, "Invalid", 'Box "fast" is invalid: a: Invalid value: "null": must be of type object')
    ]
    bench.server.requests.clear()
    assert bench.look().result == "done"
    first, patch, last = bench.server.requests[:3]
    assert [request.verb for request in (first, patch, last)] == ["apply", "patch", "apply"]
    assert json.loads(first.body or b"")["metadata"]["resourceVersion"] == seen
    after = json.loads(last.body or b"")["metadata"]["resourceVersion"]
    assert int(after) > int(seen), "the version that the patch has made"
    assert bench.server.objects["boxes/fast"]["metadata"]["resourceVersion"] == str(int(after) + 1)


def test_a_map_that_somebody_fills_meanwhile_stays(bench: Bench) -> None:
    bench.look()
    bench.toy.override = lambda cr, seen: Plan((Apply(Box.resource, box_manifest(9), "drop"),), status={})
    error = ApiError(422, "Invalid", 'Box "fast" is invalid: a: Invalid value: "null": must be of type object')
    bench.server.fail["apply"] = [error]
    bench.server.fail["patch"] = [
        ApiError(422, "Invalid", "the server rejected our request due to an error in our request")
    ]
    assert bench.look().result == "conflict"


def test_a_refused_status_is_reported_and_tried_again_later(bench: Bench) -> None:
    bench.server.fail["status"] = [ApiError(422, "Invalid", "status.disks: too many")]
    assert bench.look() == Outcome("refused", REFUSAL_STANDS)
    assert "refused 422" in bench.watcher.log
    assert bench.look().result == "done"


def test_a_malformed_object_is_stalled_with_the_field(bench: Bench) -> None:
    bench.declare({"storageClassName": 7})
    assert bench.look().result == "refused"
    stalled = bench.condition("Stalled")
    assert (stalled["reason"], bench.condition("Ready")["status"]) == ("Malformed", "False")
    assert "spec.storageClassName" in stalled["message"]
    bench.server.requests.clear()
    bench.look()
    assert bench.verbs == []


def test_a_bug_is_counted_told_and_keeps_what_was_known(bench: Bench) -> None:
    bench.look()

    def broken(cr: api.Datastore, seen: Box | None) -> Plan:
        raise ZeroDivisionError

    bench.toy.override = broken
    assert bench.look() == Outcome("bug")
    assert "bug ZeroDivisionError" in bench.watcher.log
    assert bench.condition("Ready")["reason"] == "InternalError"
    assert bench.condition("BoxReady")["reason"] == "Waiting"
    assert bench.status["disks"] == 1
    bench.toy.override = None
    bench.look()
    assert bench.condition("Ready")["reason"] == "Waiting"


def test_a_plan_that_never_settles_is_a_bug(bench: Bench) -> None:
    bench.toy.override = lambda cr, seen: Plan((Create(Box.resource, box_manifest(), "again"),))
    assert bench.look().result == "bug"
    assert bench.watcher.log.count("bug Unsettled") == 1


@pytest.mark.parametrize(
    "action",
    [
        Create(Undeclared.resource, {"metadata": {"name": "x"}}, "not declared"),
        Patch(
            kinds.DATASTORE, KEY, "own", ({"op": "add", "path": "/spec/maintenance", "value": True},), "users own it"
        ),
        Patch(kinds.DATASTORE, KEY, "own", ({"op": "remove", "path": "/metadata/labels"},), "users own them"),
        Patch(Box.resource, KEY, "u", (), "not this subresource", subresource="scale"),
    ],
)
def test_a_write_that_was_not_declared_never_leaves(bench: Bench, action: Action) -> None:
    bench.toy.override = lambda cr, seen: Plan((action,))
    assert bench.look().result == "bug"
    assert f"bug {UndeclaredWrite.__name__}" in bench.watcher.log
    assert set(bench.verbs) <= {"status"}


def test_finalizers_of_own_objects_may_be_written_under_their_uid(bench: Bench) -> None:
    operations = ({"op": "add", "path": "/metadata/finalizers", "value": ["vdcos.dev/in-use"]},)
    plans = iter([Plan((Patch(kinds.DATASTORE, KEY, "own", operations, "in use"),)), Plan()])
    bench.toy.override = lambda cr, seen: next(plans)
    assert bench.look().result == "done"
    sent = json.loads(bench.server.requests[0].body or b"")
    assert sent[0] == {"op": "test", "path": "/metadata/uid", "value": "own"}


def test_a_patch_whose_test_fails_looks_again_and_one_with_a_bad_result_is_refused(bench: Bench) -> None:
    patch = Patch(Box.resource, KEY, "u", ({"op": "test", "path": "/weight", "value": 1},), "grow")
    bench.toy.override = lambda cr, seen: Plan((patch,), status={})
    bench.server.fail["patch"] = [
        ApiError(422, "Invalid", "the server rejected our request due to an error in our request"),
        ApiError(422, "Invalid", "Box is invalid: weight: too heavy"),
    ]
    assert bench.look().result == "conflict"
    assert bench.look().result == "refused"
    assert "too heavy" in bench.condition("Stalled")["message"]


def test_an_apply_to_a_namesake_looks_again_and_is_no_refusal(bench: Bench) -> None:
    apply = Apply(Box.resource, {**box_manifest(), "metadata": {"name": "fast", "uid": "gone"}}, "change")
    bench.toy.override = lambda cr, seen: Plan((apply,), status={})
    bench.server.fail["apply"] = [
        ApiError(
            422,
            "Invalid",
            'boxes.toys.example "fast" is invalid: metadata.uid: Invalid value: "gone": field is immutable',
        )
    ]
    assert bench.look().result == "conflict"
    assert "status" not in bench.verbs, "nobody is told that the object is refused"


def test_deletions_carry_their_preconditions_and_tolerate_that_it_is_gone(bench: Bench) -> None:
    bench.look()
    stored = bench.store.heard(Box, KEY)
    assert stored is not None
    delete = Delete(Box.resource, KEY, stored.metadata.uid, "not wanted", stored.metadata.resource_version)
    bench.toy.override = lambda cr, seen: Plan((delete,)) if seen else Plan()
    bench.server.fail["delete"] = [ApiError(404, "NotFound", "gone")]
    bench.server.requests.clear()
    assert bench.look().result == "done"
    options = json.loads(bench.server.requests[0].body or b"")
    assert options["preconditions"] == {
        "uid": stored.metadata.uid,
        "resourceVersion": stored.metadata.resource_version,
    }
    assert bench.store.heard(Box, KEY) is None


def test_a_change_for_one_version_says_so() -> None:
    bench = Bench(Toy(writes=(Write(Box.resource, ("create", "patch")),)))
    apply = Apply(Box.resource, box_manifest(), "change", resource_version="7")
    patch = Patch(Box.resource, KEY, "u", ({"op": "remove", "path": "/weight"},), "grow", resource_version="7")
    bench.server.objects["boxes/fast"] = bench.server.stamp(box_manifest())
    plans = iter([Plan((apply, patch)), Plan(status={})])
    bench.toy.override = lambda cr, seen: next(plans)
    bench.look()
    applied, patched = (json.loads(request.body or b"") for request in bench.server.requests[:2])
    assert applied["metadata"] == {"name": "fast", "resourceVersion": "7"}
    assert patched[:2] == [
        {"op": "test", "path": "/metadata/uid", "value": "u"},
        {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
    ]


def test_an_apply_without_force_creates_and_changes_nothing_that_is_there() -> None:
    bench = Bench(Toy(writes=(Write(Box.resource, ("create", "patch")),)))
    plans = iter([Plan((Apply(Box.resource, box_manifest(), "create", force=False),)), Plan(status={})])
    bench.toy.override = lambda cr, seen: next(plans)
    bench.look()
    assert json.loads(bench.server.requests[0].body or b"")["metadata"]["resourceVersion"] == NOTHING_YET
    assert bench.server.requests[0].query["force"] == "false"


def test_what_was_refused_of_one_version_is_not_asked_of_the_next(bench: Bench) -> None:
    versions = iter("789")
    bench.toy.override = lambda cr, seen: Plan(
        (Apply(Box.resource, box_manifest(), "change", resource_version=next(versions)),), status={}
    )
    bench.server.fail["apply"] = [ApiError(422, "Invalid", "weight: too heavy")]
    assert bench.look().result == "refused"
    assert bench.verbs == ["apply", "status"]
    assert bench.look().result == "refused"
    assert bench.verbs == []


OTHER = Key("", "other")


def deletes_because(bench: Bench) -> Box:
    """The Box goes because of what another one says. Returns the other one, as it is heard of."""
    bench.look()
    bench.server.objects["boxes/other"] = bench.server.stamp({**box_manifest(), "metadata": {"name": "other"}})
    bench.hear()
    because = bench.store.heard(Box, OTHER)
    assert isinstance(because, Box)
    delete = Delete(Box.resource, KEY, "", "of no use", because=because)
    bench.toy.override = lambda cr, seen: Plan((delete,)) if "boxes/fast" in bench.server.objects else Plan()
    bench.server.requests.clear()
    return because


def test_what_is_deleted_because_of_another_goes_when_that_is_as_it_was(bench: Bench) -> None:
    deletes_because(bench)
    assert bench.look().result == "done"
    assert bench.verbs[:2] == ["get", "delete"]


def test_nothing_is_deleted_because_of_what_has_changed_unheard(bench: Bench) -> None:
    before = deletes_because(bench)
    bench.server.objects["boxes/other"] = bench.server.stamp({**bench.server.objects["boxes/other"], "ready": True})
    assert bench.look().result == "conflict"
    assert bench.verbs == ["get"]
    heard = bench.store.heard(Box, OTHER)
    assert isinstance(heard, Box)
    assert (before.ready, heard.ready) == (False, True), "it is known now"
    del bench.server.objects["boxes/other"]
    assert bench.look().result == "conflict"
    assert bench.verbs == ["get"]
    assert bench.store.heard(Box, OTHER) is None


def test_a_deletion_that_is_left_keeps_no_other_waiting(bench: Bench) -> None:
    because = deletes_because(bench)
    bench.server.objects["boxes/third"] = bench.server.stamp({**box_manifest(), "metadata": {"name": "third"}})
    bench.server.objects["boxes/other"] = bench.server.stamp({**bench.server.objects["boxes/other"], "ready": True})
    left = Delete(Box.resource, KEY, "", "of no use", because=because)
    bench.toy.override = lambda cr, seen: Plan((left, Delete(Box.resource, Key("", "third"), "", "of no use")))
    assert bench.look().result == "conflict"
    assert bench.verbs == ["get", "delete"]
    assert "boxes/third" not in bench.server.objects


def test_nothing_is_deleted_because_of_what_cannot_be_read(bench: Bench) -> None:
    deletes_because(bench)
    bench.server.fail["get"] = [ApiError(503, "ServiceUnavailable", "later")]
    assert bench.look().result == "backoff"
    assert bench.verbs == ["get"]


def test_undeclared_reads_raise(bench: Bench) -> None:
    def peek(key: Key, world: Snapshot) -> None:
        world.get(Undeclared, key)

    bench.toy.observe = peek  # type: ignore[method-assign]
    bench.look()
    assert f"bug {UndeclaredRead.__name__}" in bench.watcher.log


def test_an_object_that_is_gone_needs_nothing(bench: Bench) -> None:
    bench.store.remove(api.Datastore, KEY, "999")
    assert bench.look() == Outcome("gone")
    assert bench.verbs == []


def test_children_wake_their_owner_only_where_it_matters(bench: Bench) -> None:
    bench.look()
    while (item := bench.queue.pop(bench.now)) is not None:
        bench.queue.done(item, bench.now)
    box = bench.server.objects["boxes/fast"]
    bench.server.objects["boxes/fast"] = bench.server.stamp({**box, "colour": "red"})
    bench.hear()
    assert bench.queue.pop(bench.now) is None, "a field that nobody reads"
    bench.server.objects["boxes/fast"] = bench.server.stamp({**box, "weight": 8})
    bench.hear()
    assert bench.queue.pop(bench.now) == ITEM


def test_a_patient_watch_makes_one_look_of_a_burst() -> None:
    patient = Watch(Box, lambda box, world: [KEY], patience=2.0)
    bench = Bench(Toy(watches=(patient,)))
    bench.look()
    while (item := bench.queue.pop(bench.now)) is not None:
        bench.queue.done(item, bench.now)
    for weight in (8, 9):
        box = bench.server.objects["boxes/fast"]
        bench.server.objects["boxes/fast"] = bench.server.stamp({**box, "weight": weight})
        bench.hear()
    assert bench.queue.pop(bench.now + 1.9) is None
    assert bench.queue.pop(bench.now + 2.0) == ITEM
    bench.queue.done(ITEM, bench.now + 2.0)
    assert bench.queue.pop(bench.now + 9.0) is None


@pytest.mark.parametrize("error, counted", [(ValueError("old schema"), 0), (KeyError("bug"), 1)])
def test_an_object_that_cannot_be_read_stops_nobody(error: Exception, counted: int) -> None:
    def keys(box: Box, world: Snapshot) -> list[Key]:
        raise error

    bench = Bench(Toy(watches=(Watch(Box, keys),)))
    bench.store.put(Box, Box(metadata=Meta(name="other", resource_version="900")))
    assert bench.store.heard(Box, Key("", "other")) is not None
    assert len(bench.watcher.log) == counted


def test_what_a_watch_tells_of_our_own_write_before_its_answer_is_no_news(bench: Bench) -> None:
    bench.queue.done(bench.queue.pop(bench.now) or ITEM, bench.now)
    for verb in ("create", "status"):
        bench.answered.append((verb, bench.hear))
    assert bench.look().result == "done"
    assert not bench.answered
    assert bench.queue.pop(bench.now) is None


def test_what_somebody_else_does_to_what_we_write_is_news(bench: Bench) -> None:
    bench.queue.done(bench.queue.pop(bench.now) or ITEM, bench.now)

    def interfere() -> None:
        answer = bench.server.objects["boxes/fast"]
        bench.server.objects["boxes/fast"] = bench.server.stamp({**answer, "weight": 8})
        bench.hear()
        bench.server.objects["boxes/fast"] = answer

    bench.answered.append(("create", interfere))
    assert bench.look().result == "done"
    assert bench.queue.pop(bench.now) == ITEM


def test_what_happens_while_a_write_fails_is_news(bench: Bench) -> None:
    bench.queue.done(bench.queue.pop(bench.now) or ITEM, bench.now)
    bench.server.objects["boxes/fast"] = bench.server.stamp(box_manifest())
    bench.answered.append(("create", bench.hear))
    bench.server.fail["create"] = [ApiError(422, "Invalid", "no")]
    assert bench.look().result == "refused"
    assert bench.queue.pop(bench.now) == ITEM


def test_an_api_that_appears_wakes_everybody(bench: Bench) -> None:
    bench.queue.done(ITEM, bench.now)
    while bench.queue.pop(bench.now):
        pass
    bench.queue.done(ITEM, bench.now)
    bench.store.unavailable(Box, "not installed")
    assert bench.queue.pop(bench.now) == ITEM


def test_who_is_found_by_other_words_now_looks_once_more() -> None:
    def waits(own: Own) -> list[str]:
        return [c["reason"] for c in json.loads(own.raw).get("status", {}).get("conditions", [])]

    bench = Bench(None, Index(api.Datastore, waits))
    while (item := bench.queue.pop(bench.now)) is not None:
        bench.look()
        bench.queue.done(item, bench.now)
        assert len(bench.server.requests) <= 2, "it comes to rest"
    assert bench.watcher.log == ["acted Create", "said"]
    bench = Bench(None, Index(api.Datastore, waits))
    assert bench.queue.pop(bench.now) == ITEM
    bench.look()
    bench.queue.done(ITEM, bench.now)
    assert bench.queue.pop(bench.now) == ITEM, "whatever happened before the index held its words"


def test_own_answers_do_not_wake_the_one_who_wrote(bench: Bench) -> None:
    assert bench.queue.pop(bench.now) == ITEM
    bench.look()
    bench.queue.done(ITEM, bench.now)
    bench.hear()
    assert bench.queue.pop(bench.now) is None


@pytest.mark.parametrize(
    "stored, wanted, patch",
    [
        ({}, {}, {}),
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1, "b": 2}, {"a": 1}, {"b": None}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {"a": {"c": None}}),
        ({"a": [1, 2]}, {"a": [1]}, {"a": [1]}),
        ({}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({}, {"a": {}}, {"a": {}}),
    ],
)
def test_merge_patch(stored: dict[str, Any], wanted: dict[str, Any], patch: dict[str, Any]) -> None:
    assert merge_patch(stored, wanted) == patch


def test_stamped_manifests_differ_exactly_when_their_content_does() -> None:
    one, other = drift.stamped(box_manifest(1)), drift.stamped(box_manifest(2))
    assert one == drift.stamped(box_manifest(1))
    assert one["metadata"]["annotations"][ownership.APPLIED] != other["metadata"]["annotations"][ownership.APPLIED]


def test_who_waits_for_a_silence_looks_again_when_it_is_over(bench: Bench) -> None:
    bench.toy.override = lambda cr, box: Plan(status={}, silences=(Silence(Box, KEY, 15.0),))
    bench.store.put(Box, Box(metadata=Meta(name="fast", resource_version="150")))
    bench.look()
    while item := bench.queue.pop(bench.now):
        bench.queue.done(item, bench.now)
    assert bench.engine.next_silence() == bench.now + 15.0
    bench.now += 15.0
    bench.engine.listen()
    assert bench.queue.pop(bench.now) == ITEM
    bench.look()
    assert bench.engine.next_silence() is None, "what is silent already was seen"


def test_nobody_waits_for_who_is_gone(bench: Bench) -> None:
    bench.toy.override = lambda cr, box: Plan(status={}, silences=(Silence(Box, KEY, 15.0),))
    bench.store.put(Box, Box(metadata=Meta(name="fast", resource_version="150")))
    bench.look()
    bench.store.remove(api.Datastore, KEY, "999")
    bench.look()
    assert bench.engine.next_silence() is None


def test_answers_are_entered_where_objects_are_held_as_they_are_written() -> None:
    bench = Bench()
    store = bench.store = Store([api.Datastore, Box, Lid], [BOXES])
    bench.engine = Engine([bench.toy], store, bench.queue, bench.watcher, lambda: Instant(bench.now, bench.now))
    bench.hear()
    bench.look()
    assert store.heard(Box, KEY) is not None
    assert store.heard(Lid, KEY) is None


def test_before_every_kind_is_known_only_objects_themselves_wake() -> None:
    """Nobody looks before, and everybody does then: ten thousand boxes need not be asked whose they are."""
    asked: list[str] = []

    def whose(box: Box, _: Any) -> list[Key]:
        asked.append(box.metadata.name)
        return [box.metadata.key]

    bench = Bench(Toy(watches=(Watch(Box, whose),)))
    asked.clear()
    bench.store = store = Store([api.Datastore, Box, Lid], [BOXES])
    bench.queue = Queue()
    bench.engine = Engine([bench.toy], store, bench.queue, bench.watcher, lambda: Instant(bench.now, bench.now))
    bench.server.objects["boxes/fast"] = bench.server.stamp(box_manifest(3))
    bench.hear()
    for kind in (api.Datastore, Box):
        store.listed(kind, {KEY}, "1")
    assert asked == []
    assert bench.queue.pop(bench.now) == ITEM
    store.unavailable(Lid, "not installed")
    bench.server.objects["boxes/fast"] = bench.server.stamp(box_manifest(4))
    bench.hear()
    assert asked == ["fast", "fast"]


# What no time is left for, and objects that nobody has declared


def test_what_is_deleted_now_gets_no_time_to_end_and_is_gone_at_once(bench: Bench) -> None:
    bench.look()
    bench.hear()
    uid = bench.server.objects["boxes/fast"]["metadata"]["uid"]
    bench.toy.override = lambda cr, box: Plan(
        (Delete(Box.resource, KEY, uid, "its host is down", now=True),) if box else ()
    )
    bench.server.requests.clear()
    held = json.dumps(bench.server.objects["boxes/fast"]).encode()
    conversation = bench.engine.reconcile(ITEM)
    request = next(conversation)
    options = json.loads(request.body or b"")
    assert (options["gracePeriodSeconds"], options["preconditions"]) == (0, {"uid": uid})
    with pytest.raises(StopIteration):
        conversation.send(held)
    assert bench.store.heard(Box, KEY) is None, "the API server answers with the pod as it was"


def test_what_is_deleted_in_its_time_is_there_until_it_is_heard_to_be_gone(bench: Bench) -> None:
    bench.look()
    bench.hear()
    box = bench.server.objects["boxes/fast"]
    delete = Delete(Box.resource, KEY, box["metadata"]["uid"], "not wanted")
    bench.toy.override = lambda cr, seen: Plan((delete,)) if seen and not seen.metadata.deletion_timestamp else Plan()
    conversation = bench.engine.reconcile(ITEM)
    assert "gracePeriodSeconds" not in json.loads(next(conversation).body or b"")
    going = bench.server.stamp({**box, "metadata": {**box["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}})
    with pytest.raises(StopIteration):
        conversation.send(json.dumps(going).encode())
    assert bench.store.heard(Box, KEY) is not None


def test_what_is_deleted_now_and_has_a_finalizer_stays_until_that_goes(bench: Bench) -> None:
    bench.look()
    bench.hear()
    box = bench.server.objects["boxes/fast"]
    delete = Delete(Box.resource, KEY, box["metadata"]["uid"], "its host is down", now=True)
    bench.toy.override = lambda cr, seen: Plan((delete,)) if seen and not seen.metadata.deletion_timestamp else Plan()
    conversation = bench.engine.reconcile(ITEM)
    next(conversation)
    meta = {**box["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.org/x"]}
    with pytest.raises(StopIteration):
        conversation.send(json.dumps(bench.server.stamp({**box, "metadata": meta})).encode())
    assert bench.store.heard(Box, KEY) is not None


@dataclass
class FoundingToy(Toy):
    """Makes a Datastore for each Box that has none."""

    writes: tuple[Write, ...] = (Write(Box.resource, ("create",)), Write(kinds.DATASTORE, ("create", "patch")))
    fails: bool = False

    def found(self, key: Key, seen: Box | None) -> Sequence[Action]:
        if self.fails:
            raise RuntimeError("a bug")
        if seen is None:
            return ()
        manifest = {
            "apiVersion": kinds.DATASTORE.api_version,
            "kind": "Datastore",
            "metadata": {"name": key.name},
            "spec": {"storageClassName": "ceph"},
        }
        return (Create(kinds.DATASTORE, manifest, "there is a box"),)


@pytest.fixture
def founding() -> Bench:
    """A Box, and nobody has declared a Datastore for it."""
    made = Bench(FoundingToy())
    made.store.remove(api.Datastore, KEY, "999")
    made.server.objects.clear()
    made.server.version = 1_000
    made.store.put(Box, Box(metadata=Meta(name="fast", resource_version="150")))
    return made


def test_an_object_that_is_needed_is_made_and_looked_at_when_it_is_heard_of(founding: Bench) -> None:
    assert founding.look() == Outcome("conflict")
    assert founding.verbs == ["create"]
    assert founding.watcher.log == ["acted Create"]
    founding.hear()
    assert founding.look() == Outcome("done", 30.0)
    assert founding.verbs == ["status"]


def test_one_that_is_not_needed_is_not_made(founding: Bench) -> None:
    founding.store.remove(Box, KEY, "999")
    assert founding.look() == Outcome("gone")
    assert founding.verbs == []


def test_one_that_somebody_declared_meanwhile_is_that_one(founding: Bench) -> None:
    declared = {
        "apiVersion": kinds.DATASTORE.api_version,
        "kind": "Datastore",
        "metadata": {"name": "fast", "generation": 1},
        "spec": {"storageClassName": "theirs"},
    }
    founding.server.objects["datastores/fast"] = founding.server.stamp(declared)
    assert founding.look() == Outcome("conflict")
    assert founding.verbs == ["create", "get"]
    assert founding.server.objects["datastores/fast"]["spec"] == {"storageClassName": "theirs"}


def test_one_that_cannot_be_made_is_tried_again(founding: Bench) -> None:
    founding.server.fail["create"] = [ApiError(503, "ServiceUnavailable", "busy"), ApiError(422, "Invalid", "no")]
    assert founding.look() == Outcome("backoff")
    assert founding.look() == Outcome("refused", REFUSAL_STANDS)
    assert founding.server.objects == {}


def test_a_bug_in_making_one_stops_nobody_else(founding: Bench) -> None:
    assert isinstance(founding.toy, FoundingToy)
    founding.toy.fails = True
    assert founding.look() == Outcome("bug")
    assert founding.watcher.log == ["bug RuntimeError"]


def test_a_service_that_makes_none_of_its_own_kind_makes_none(bench: Bench) -> None:
    bench.store.remove(api.Datastore, KEY, "999")
    assert bench.look() == Outcome("gone")
    assert bench.verbs == []


LOST = ApiError(0, "Timeout", "no answer in time")


def lose_the_answer(bench: Bench, weight: int) -> None:
    """The Box is to weigh so much; it does, and nobody is told."""
    bench.look()
    bench.toy.override = lambda cr, box: (
        Plan((Apply(Box.resource, box_manifest(weight), "weigh"),))
        if box is not None and box.weight != weight
        else Plan(status={})
    )
    conversation = bench.engine.reconcile(ITEM)
    bench.server.answer(next(conversation))
    with contextlib.suppress(StopIteration):
        conversation.throw(LOST)
    assert bench.verbs[-1] == "apply"


def test_whose_change_may_have_happened_reads_before_he_plans_again(bench: Bench) -> None:
    lose_the_answer(bench, 9)
    bench.toy.override = lambda cr, box: Plan(status={"disks": box.weight if box is not None else 0})
    bench.look()
    assert bench.verbs == ["get", "status"]
    assert bench.status["disks"] == 9, "and not what was heard before"
    bench.look()
    assert bench.verbs == [], "once"


def test_whose_change_was_for_another_version_reads_before_he_plans_again(bench: Bench) -> None:
    bench.look()
    bench.hear()
    apply = Apply(Box.resource, box_manifest(9), "weigh", resource_version="100")
    bench.toy.override = lambda cr, box: Plan((apply,)) if box is not None and not box.ready else Plan(status={})
    bench.server.objects["boxes/fast"] = bench.server.stamp({**bench.server.objects["boxes/fast"], "ready": True})
    bench.server.fail["apply"] = [ApiError(409, "Conflict", "the object has been modified")]
    bench.server.requests.clear()
    assert bench.look().result == "conflict"
    assert bench.verbs == ["apply"]
    assert bench.look().result == "done"
    assert bench.verbs[0] == "get", "its watch has told nothing"
    assert "apply" not in bench.verbs


def test_what_cannot_be_read_is_read_again(bench: Bench) -> None:
    lose_the_answer(bench, 9)
    bench.server.fail["get"] = [ApiError(503, "ServiceUnavailable", "later")]
    assert bench.look().result == "backoff"
    assert bench.verbs == ["get"]
    bench.look()
    assert bench.verbs == ["get"]


def test_what_is_gone_meanwhile_is_not_there(bench: Bench) -> None:
    lose_the_answer(bench, 9)
    del bench.server.objects["boxes/fast"]
    bench.toy.override = lambda cr, box: Plan(status={"disks": 0 if box is None else 1})
    bench.look()
    assert bench.status["disks"] == 0


# What is carried out at the same time


def removing(*names: str, now: bool = True) -> Bench:
    """A service that wants a box made, these removed, and a box patched."""

    def plan(cr: api.Datastore, seen: Box | None) -> Plan:
        there = [name for name in names if f"boxes/{name}" in made.server.objects]
        deletions = tuple(Delete(Box.resource, Key("", name), f"uid of {name}", "go", now=now) for name in there)
        return Plan(deletions, (conditions.true("BoxReady", "Gone"),), {"disks": len(there)})

    made = Bench(Toy(override=plan))
    for name in names:
        metadata = {"name": name, "uid": f"uid of {name}"}
        made.server.objects[f"boxes/{name}"] = made.server.stamp({**box_manifest(), "metadata": metadata})
    made.hear()
    return made


def colloquy(bench: Bench) -> tuple[Outcome, list[list[str]]]:
    """Drive one look as the shell does; gives the names of what was asked at the same time, too."""
    talk, rounds = bench.engine.converse(ITEM), []
    try:
        asked = next(talk)
        while True:
            requests = asked.requests if isinstance(asked, Together) else (asked,)
            rounds.append([request.key.name for request in requests])
            answers: list[bytes | ApiError] = []
            for request in requests:
                try:
                    answers.append(bench.server.answer(request))
                except ApiError as error:
                    answers.append(error)
            only = answers[0]
            if isinstance(asked, Together):
                asked = talk.send(answers)
            elif isinstance(only, ApiError):
                asked = talk.throw(only)
            else:
                asked = talk.send(only)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome, rounds


def test_pods_of_a_dead_host_go_at_the_same_time() -> None:
    names = [f"box-{number:03}" for number in range(100)]
    outcome, rounds = colloquy(removing(*names))
    assert outcome.result == "done"
    assert rounds == [names, ["fast"]]


def test_other_deletions_go_one_after_the_other() -> None:
    assert colloquy(removing("a", "b", now=False))[1] == [["a"], ["b"], ["fast"]]


def test_one_that_fails_does_not_hide_what_became_of_the_others() -> None:
    bench = removing("a", "b", "c")
    bench.server.fail["delete"] = [ApiError(404, "NotFound", "gone"), ApiError(409, "Conflict", "another uid")]
    outcome, rounds = colloquy(bench)
    assert (outcome.result, rounds) == ("conflict", [["a", "b", "c"]])
    assert bench.watcher.log == ["acted Delete", "refused 409", "acted Delete"]
    assert "boxes/c" not in bench.server.objects
    assert "boxes/b" in bench.server.objects


def test_what_was_refused_is_not_asked_again_with_the_others() -> None:
    bench = removing("a", "b", "c")
    bench.server.fail["delete"] = [ApiError(422, "Invalid", "by way of trial")]
    assert colloquy(bench)[1][0] == ["a", "b", "c"]
    assert list(bench.server.objects) == ["datastores/fast", "boxes/a"]
    bench.server.objects["boxes/b"] = bench.server.stamp(
        {**box_manifest(), "metadata": {"name": "b", "uid": "uid of b"}}
    )
    bench.hear()
    assert colloquy(bench)[1][0] == ["b"]


def test_who_makes_one_request_after_the_other_sees_the_same() -> None:
    bench = removing("a", "b", "c")
    bench.server.fail["delete"] = [ApiError(409, "Conflict", "another uid")]
    assert bench.look().result == "conflict"
    assert bench.watcher.log == ["refused 409", "acted Delete", "acted Delete"]


# Definitions of an older release


def test_what_the_api_server_keeps_nothing_of_is_not_said_again_and_again(bench: Bench) -> None:
    """A field that its definition does not have is dropped: the write changes nothing, and neither would the next."""
    bench.look()
    bench.hear()
    keeps, news = bench.server.answer, 1

    def prunes(request: Request) -> bytes:
        if request.verb != "status":
            return keeps(request)
        bench.server.requests.append(request)
        return json.dumps(bench.server.objects["datastores/fast"]).encode()

    def plan(cr: api.Datastore, seen: Box | None) -> Plan:
        said = conditions.false("BoxReady", "Waiting", "the box is not ready")
        return Plan(conditions=(said,), status={"disks": 1, "news": news}, after=30.0)

    bench.server.requests.clear()
    bench.toy.override = plan
    bench.server.answer = prunes  # type: ignore[method-assign]
    for news in (1, 1, 1, 2, 2):  # noqa: B007  the plan says it
        assert bench.look() == Outcome("done", 30.0)
    said = [json.loads(request.body or b"")["status"] for request in bench.server.requests]
    assert said == [{"news": 1}, {"news": 2}], "each once"
    assert bench.watcher.log.count("said") == 1, "nothing was stored"

    bench.server.answer = keeps  # type: ignore[method-assign]
    bench.declare({"storageClassName": "ceph", "maintenance": True}, generation=2)
    bench.look()
    assert bench.status["news"] == 2, "when the object has changed, it is told again"
