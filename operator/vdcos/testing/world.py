"""A small world for tests of services: dictionaries go in, slim structs and models come out, plans' actions change it.

It is a model of the API server, not of controllers: what KubeVirt or CDI would do, a test says with ``put`` and
``change``.
"""

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from vdcos import api
from vdcos.core import conditions, kinds
from vdcos.core.foreign import cdi, kubernetes, kubevirt, medik8s, multus, nmstate, snapshots
from vdcos.core.objects import Index, Key, Meta, Object, Own, Resource, Total, Unreadable, Without
from vdcos.core.plan import Action, Answer, Apply, Create, Delete, Instant, Patch, Plan
from vdcos.core.service import Service, derives
from vdcos.core.snapshot import Derived, Snapshot, UndeclaredRead
from vdcos.runtime.requests import ApiError
from vdcos.runtime.store import same
from vdcos.testing import trees
from vdcos.testing.apiserver import ApiServer, Held

T = TypeVar("T")
Tree = dict[str, Any]

FOREIGN = (cdi, kubernetes, kubevirt, medik8s, multus, nmstate, snapshots)
OWN: Mapping[type[Any], Resource] = {
    api.VirtualMachine: kinds.VIRTUAL_MACHINE,
    api.Network: kinds.NETWORK,
    api.Datastore: kinds.DATASTORE,
    api.Host: kinds.HOST,
    api.HAPolicy: kinds.HA_POLICY,
    api.HostFailure: kinds.HOST_FAILURE,
}

ROUNDS = 6
CREATED = 1_767_225_600.0
"""2026-01-01T00:00:00Z"""
START = Instant(1_700_000_000.0, 1_000.0)


class Conflict(Exception):
    """The API server would have refused: wrong uid, a taken name, or fields that belong to somebody else."""


def foreign(kind: type[Object]) -> Iterator[type[Object]]:
    """The foreign kinds that services read; structs that others made of the same resources are none of theirs."""
    for sub in kind.__subclasses__():
        if "resource" in vars(sub) and sub.__module__.startswith("vdcos.core.foreign."):
            yield sub
        yield from foreign(sub)


class World:
    """Objects by kind and key. ``put`` what exists, ``view`` it as a service does, ``settle`` it as the engine does."""

    def __init__(self, *manifests: Mapping[str, Any]) -> None:
        self._server = ApiServer()
        self._server.now = CREATED
        self._kinds: dict[type[Any], Resource] = {**{kind: kind.resource for kind in foreign(Object)}, **OWN}
        self._missing: dict[type[Any], Unreadable] = {}
        self._counter = itertools.count(1)
        self.now = START
        self.log: list[Action] = []
        """Every action that was carried out."""
        self.answers: dict[Key, dict[str, Answer]] = {}
        """What was answered to the asks of an object, by its key."""
        self._changed: dict[tuple[type[Any], Key], tuple[Object | Own, float]] = {}
        self.began = self.now.mono
        self.gone: dict[tuple[type[Any], Key], float] = {}
        """When an object was removed, in monotonic seconds."""
        self.silence: dict[type[Any], float] = {}
        """For how many seconds nothing was heard about a kind."""
        for manifest in manifests:
            self.put(manifest)

    # What a test says

    def put(self, manifest: Mapping[str, Any]) -> Tree:
        """Store an object as it is; uid, version and time of creation are added where they are missing."""
        tree = copy.deepcopy(dict(manifest))
        meta = tree["metadata"]
        meta.setdefault("uid", f"uid-{next(self._counter)}")
        meta.setdefault("generation", 1)
        meta.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        return copy.deepcopy(self._place(self._resource(tree), tree, "somebody").tree)

    def change(self, kind: type[Any], key: Key, **changes: Any) -> None:
        """Merge changes into an object, as in ``change(KubeVirtVM, key, status={"printableStatus": "Running"})``."""
        tree = self.tree(kind, key)
        changed = trees.merge(tree, copy.deepcopy(changes))
        if changed.get("spec") != tree.get("spec"):
            changed["metadata"]["generation"] = tree["metadata"]["generation"] + 1
        self._place(self._resource_of(kind), changed, "somebody")

    def remove(self, kind: type[Any], key: Key) -> None:
        self._server.drop(self._resource_of(kind), key)
        self.gone[kind, key] = self.now.mono

    def unavailable(self, kind: type[Any], why: str) -> None:
        self._missing[kind] = Unreadable(why)

    def tree(self, kind: type[Any], key: Key) -> Tree:
        """The object as JSON data, a copy."""
        held = self._server.get(self._resource_of(kind), key)
        assert held is not None, f"there is no {kind.__name__} {key}"
        return copy.deepcopy(held.tree)

    def has(self, kind: type[Any], key: Key) -> bool:
        return self._server.get(self._resource_of(kind), key) is not None

    def keys(self, kind: type[Any]) -> list[Key]:
        return sorted(held.key for held in self._server.all(self._resource_of(kind)))

    # What a service sees, and what happens to what it plans

    def view(self, service: Service[Any, Any]) -> Snapshot:
        """The world through the declarations of a service: anything else raises UndeclaredRead."""
        return View(self, service)

    def plan(self, service: Service[Any, Any], key: Key) -> Plan:
        """One look, without consequences."""
        cr = api.parse(service.kind, self._server.read(service.resource, key).raw)
        return service.plan(cr, service.observe(key, self.view(service)), self.now)

    def settle(self, service: Service[Any, Any], key: Key) -> Plan:
        """Look and act until nothing is left to do, then store what the plan says. The last plan is returned."""
        for _ in range(ROUNDS):
            plan = self.plan(service, key)
            if not plan.actions:
                self._say(service, key, plan)
                return plan
            for action in plan.actions:
                self.carry_out(action, f"vdcos/{service.name}")
            if not self.has(service.kind, key):
                return plan  # its last finalizer went
        raise AssertionError(f"{key} still wants: {[action.why for action in plan.actions]}")

    def carry_out(self, action: Action, manager: str = "test") -> None:
        """Do what the API server would. Raises Conflict."""
        self.log.append(action)
        server, resource = self._server, action.resource
        version = server.version
        try:
            match action:
                case Create(manifest=manifest):
                    key = _key(manifest)
                    if server.get(resource, key) is None:
                        server.create(resource, dict(manifest), manager, strict=True)
                case Apply(manifest=manifest, force=force):
                    key = _key(manifest)
                    server.apply(resource, key, dict(action.guarded), manager, force, strict=True)
                case Patch(key=key, subresource=subresource):
                    operations = [dict(operation) for operation in action.guarded]
                    server.json_patch(resource, key, operations, manager, subresource == "status")
                case Delete(key=key, uid=uid, resource_version=resource_version, because=because):
                    if because is not None:
                        self._unchanged(because)
                    server.delete(resource, key, {"uid": uid, "resourceVersion": resource_version or ""})
        except ApiError as error:
            raise Conflict(error.message) from error
        if server.version > version:
            self._note(resource, key)

    def _unchanged(self, seen: Object) -> None:
        now = self._server.get(seen.resource, seen.metadata.key)
        if now is None or now.meta["resourceVersion"] != seen.metadata.resource_version:
            raise ApiError(409, "Conflict", f"{seen.metadata.key} has changed meanwhile")

    def _say(self, service: Service[Any, Any], key: Key, plan: Plan) -> None:
        if plan.status is None:
            return
        tree = self.tree(service.kind, key)
        said = conditions.summarise(plan.conditions, service.needed)
        before = tree.get("status", {}).get("conditions", [])
        merged = conditions.merge(before, said, tree["metadata"]["generation"], self.now.wall)
        tree["status"] = {
            **copy.deepcopy(dict(plan.status)),
            "observedGeneration": tree["metadata"]["generation"],
            "conditions": merged,
        }
        api.parse(service.kind, msgspec.json.encode(tree))
        self._place(service.resource, tree, f"vdcos/{service.name}")

    def _place(self, resource: Resource, tree: Tree, manager: str) -> Held:
        """Store what differs from what is there."""
        key = _key(tree)
        live = self._server.get(resource, key)
        if live is None or live.tree != tree:
            live = self._server.place(resource, tree, manager)
            self._note(resource, key)
        return live

    def _note(self, resource: Resource, key: Key) -> None:
        """An object has changed now, for whoever keeps something of it that has."""
        for kind in (kind for kind, known in self._kinds.items() if known == resource):
            held, before = self.held(kind, key), self._changed.get((kind, key))
            if held is not None and (before is None or not same(before[0], held)):
                self._changed[kind, key] = held, self.now.mono

    def _resource(self, tree: Mapping[str, Any]) -> Resource:
        for resource in self._kinds.values():
            if (resource.api_version, resource.kind) == (tree.get("apiVersion"), tree.get("kind")):
                return resource
        raise LookupError(f"no kind for {tree.get('apiVersion')} {tree.get('kind')}")

    def _resource_of(self, kind: type[Any]) -> Resource:
        return self._kinds[kind]

    # For View

    def held(self, kind: type[Any], key: Key) -> Object | Own | None:
        held = self._server.get(self._resource_of(kind), key)
        return None if held is None else decode(kind, held.raw)

    def changed_at(self, kind: type[Any], key: Key) -> float | None:
        return self._changed[kind, key][1] if self.has(kind, key) else None

    def why(self, kind: type[Any]) -> Unreadable | None:
        return self._missing.get(kind)


def decode(kind: type[Any], raw: bytes) -> Object | Own:
    if issubclass(kind, Object):
        return msgspec.json.decode(raw, type=kind)
    header: Meta = msgspec.json.decode(raw, type=_Header).metadata
    return Own(metadata=header, raw=raw)


class _Header(msgspec.Struct, frozen=True):
    metadata: Meta


class View:
    """A ``Snapshot`` of a World for one service."""

    def __init__(self, world: World, service: Service[Any, Any]) -> None:
        self._world = world
        self._name = service.name
        self._kinds = {service.kind, *(watch.kind for watch in service.watches)}
        self._dated = {watch.kind for watch in service.watches if watch.dated}
        self._indexes = set(service.indexes)
        self._derived = set(derives(service))

    @classmethod
    def of(cls, world: World, view: Derived[Any]) -> "View":
        """What is derived sees what it is made from."""
        window = cls.__new__(cls)
        window._world, window._name = world, view.name
        window._kinds, window._indexes = set(view.kinds), set(view.indexes)
        window._dated, window._derived = set(), set()
        return window

    def get(self, kind: type[T], key: Key) -> T | Unreadable | None:
        self._declared(kind)
        if (why := self._world.why(kind)) is not None:
            return why
        held: Any = self._world.held(kind, key)
        if isinstance(held, Own):
            try:
                parsed: T = api.parse(kind, held.raw)  # type: ignore[type-var]
            except api.InvalidObject as error:
                return Unreadable(f"{kind.__name__} {key} is malformed: {error}")
            return parsed
        found: T | None = held
        return found

    def all(self, kind: type[T]) -> Sequence[Any]:
        self._declared(kind)
        return [self._world.held(kind, key) for key in self._world.keys(kind)]

    def by(self, index: Index[T], value: str, most: int | None = None) -> Sequence[T]:
        return [self._world.held(index.kind, key) for key in self.keys(index, value)[:most]]  # type: ignore[misc]

    def keys(self, index: Index[T], value: str) -> Sequence[Key]:
        if index not in self._indexes:
            raise UndeclaredRead(f"{self._name} reads an index of {index.kind.__name__} that it does not declare")
        keys: Callable[[Any], Iterable[str]] = index.keys
        return [key for key in self._world.keys(index.kind) if value in set(keys(self._world.held(index.kind, key)))]

    def total(self, index: Index[T], value: str) -> Total:
        found = self.by(index, value)
        return Total(len(found), sum(index.amount(held) for held in found))

    def values(self, index: Index[T]) -> Mapping[Key, Any]:
        if index not in self._indexes:
            raise UndeclaredRead(f"{self._name} reads an index of {index.kind.__name__} that it does not declare")
        kept = {key: index.value(self._world.held(index.kind, key)) for key in self._world.keys(index.kind)}  # type: ignore[arg-type]
        return {key: value for key, value in kept.items() if value is not None}

    def without(self, pair: Without) -> Total:
        if pair not in self._indexes:
            raise UndeclaredRead(f"{self._name} reads a pair of indexes that it does not declare")
        held = [self._world.held(pair.index.kind, key) for key in self._world.keys(pair.index.kind)]
        others = {
            word
            for other in pair.others
            for key in self._world.keys(other.kind)
            for word in other.keys(self._world.held(other.kind, key))
        }
        amounts = [pair.index.amount(each) for each in held for word in pair.index.keys(each) if word not in others]
        return Total(len(amounts), sum(amounts))

    def derived(self, view: Derived[T]) -> T:
        if view not in self._derived:
            raise UndeclaredRead(f"{self._name} reads {view.name} and does not declare it in derives")
        return view.make(View.of(self._world, view), None)

    def derived_in(self, view: Derived[Any]) -> float | None:
        return None

    def missing(self, kind: type[Any]) -> Unreadable | None:
        self._declared(kind)
        return self._world.why(kind)

    def answers(self, key: Key) -> Mapping[str, Answer]:
        return self._world.answers.get(key, {})

    def changed_at(self, kind: type[Any], key: Key) -> float | None:
        if kind not in self._dated:
            raise UndeclaredRead(f"{self._name} asks when {kind.__name__} changed and does not declare it as dated")
        return self._world.changed_at(kind, key)

    def silent_since(self, kind: type[Any], key: Key) -> float | None:
        return self.changed_at(kind, key)

    def gone_since(self, kind: type[Any], key: Key) -> float | None:
        return self._world.gone.get((kind, key), self._world.began) if self.changed_at(kind, key) is None else None

    def heard_at(self, kind: type[Any]) -> float:
        self._declared(kind)
        return self._world.now.mono - self._world.silence.get(kind, 0.0)

    def _declared(self, kind: type[Any]) -> None:
        if kind not in self._kinds:
            raise UndeclaredRead(f"{self._name} reads {kind.__name__} and does not declare it in watches")


def _key(manifest: Mapping[str, Any]) -> Key:
    return Key(manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"])
