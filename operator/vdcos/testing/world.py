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
from vdcos.core.foreign import cdi, kubernetes, kubevirt, multus, nmstate, snapshots
from vdcos.core.objects import Index, Key, Meta, Object, Own, Resource, Total, Unreadable
from vdcos.core.plan import Action, Answer, Apply, Create, Delete, Instant, Patch, Plan
from vdcos.core.service import Service
from vdcos.core.snapshot import Snapshot, UndeclaredRead

T = TypeVar("T")
Tree = dict[str, Any]

FOREIGN = (cdi, kubernetes, kubevirt, multus, nmstate, snapshots)
OWN: Mapping[Resource, type[Any]] = {
    kinds.VIRTUAL_MACHINE: api.VirtualMachine,
    kinds.NETWORK: api.Network,
    kinds.DATASTORE: api.Datastore,
}

ROUNDS = 6
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
        self._trees: dict[Resource, dict[Key, Tree]] = {}
        self._applied: dict[tuple[Resource, Key], Tree] = {}
        self._kinds: dict[Resource, type[Any]] = {**{kind.resource: kind for kind in foreign(Object)}, **OWN}
        self._missing: dict[type[Any], Unreadable] = {}
        self._counter = itertools.count(1)
        self.now = START
        self.log: list[Action] = []
        """Every action that was carried out."""
        self.answers: dict[Key, dict[str, Answer]] = {}
        """What was answered to the asks of an object, by its key."""
        self.changed: dict[tuple[Resource, Key], float] = {}
        """When an object last changed, in monotonic seconds."""
        self.silence: dict[type[Any], float] = {}
        """For how many seconds nothing was heard about a kind."""
        for manifest in manifests:
            self.put(manifest)

    # What a test says

    def put(self, manifest: Mapping[str, Any]) -> Tree:
        """Store an object as it is; uid, version and time of creation are added where they are missing."""
        tree = copy.deepcopy(dict(manifest))
        resource, key = self._resource(tree), _key(tree)
        meta = tree["metadata"]
        meta.setdefault("uid", f"uid-{next(self._counter)}")
        meta.setdefault("generation", 1)
        meta.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        meta["resourceVersion"] = str(next(self._counter))
        self._trees.setdefault(resource, {})[key] = tree
        self.changed[resource, key] = self.now.mono
        return tree

    def change(self, kind: type[Any], key: Key, **changes: Any) -> None:
        """Merge changes into an object, as in ``change(KubeVirtVM, key, status={"printableStatus": "Running"})``."""
        tree = self.tree(kind, key)
        self._store(self._resource(tree), key, merge(tree, changes))

    def remove(self, kind: type[Any], key: Key) -> None:
        del self._trees[self._resource_of(kind)][key]
        self._applied.pop((self._resource_of(kind), key), None)

    def unavailable(self, kind: type[Any], why: str) -> None:
        self._missing[kind] = Unreadable(why)

    def tree(self, kind: type[Any], key: Key) -> Tree:
        """The object as JSON data, a copy."""
        return copy.deepcopy(self._trees[self._resource_of(kind)][key])

    def has(self, kind: type[Any], key: Key) -> bool:
        return key in self._trees.get(self._resource_of(kind), {})

    def keys(self, kind: type[Any]) -> list[Key]:
        return sorted(self._trees.get(self._resource_of(kind), {}))

    # What a service sees, and what happens to what it plans

    def view(self, service: Service[Any, Any]) -> Snapshot:
        """The world through the declarations of a service: anything else raises UndeclaredRead."""
        return View(self, service)

    def plan(self, service: Service[Any, Any], key: Key) -> Plan:
        """One look, without consequences."""
        tree = self._trees[service.resource][key]
        cr = api.parse(service.kind, msgspec.json.encode(tree))
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
        raise AssertionError(f"{key} still wants: {[action.why for action in plan.actions]}")

    def carry_out(self, action: Action, manager: str = "test") -> None:
        """Do what the API server would. Raises Conflict."""
        self.log.append(action)
        resource = action.resource
        match action:
            case Create(manifest=manifest):
                key = _key(manifest)
                if key not in self._trees.get(resource, {}):
                    self.put(manifest)
            case Apply(manifest=manifest):
                self._apply(resource, dict(manifest), getattr(action, "force", True))
            case Patch(key=key, uid=uid, operations=operations):
                tree = self._existing(resource, key, uid)
                for operation in operations:
                    tree = json_patch(tree, operation)
                self._store(resource, key, tree)
            case Delete(key=key, uid=uid):
                self._existing(resource, key, uid)
                del self._trees[resource][key]
                self._applied.pop((resource, key), None)

    def _apply(self, resource: Resource, manifest: Tree, force: bool) -> None:
        key = _key(manifest)
        live = self._trees.get(resource, {}).get(key)
        if live is None:
            self.put(manifest)
        else:
            if manifest["metadata"].get("uid", live["metadata"]["uid"]) != live["metadata"]["uid"]:
                raise Conflict(f"{key} is another object by now")
            if not force and (resource, key) not in self._applied:
                raise Conflict(f"{key} exists and belongs to somebody else")
            before = self._applied.get((resource, key), {})
            self._store(resource, key, merge(without(live, before, manifest), manifest))
        self._applied[resource, key] = copy.deepcopy(manifest)

    def _store(self, resource: Resource, key: Key, tree: Tree) -> None:
        old = self._trees[resource][key]
        if tree["metadata"].get("ownerReferences") == []:
            del tree["metadata"]["ownerReferences"]  # an API server leaves empty lists of metadata out
        if tree == old:
            return
        meta = tree["metadata"]
        if tree.get("spec") != old.get("spec"):
            meta["generation"] = old["metadata"]["generation"] + 1
        meta["resourceVersion"] = str(next(self._counter))
        self._trees[resource][key] = tree
        self.changed[resource, key] = self.now.mono

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
        self._store(service.resource, key, tree)

    def _existing(self, resource: Resource, key: Key, uid: str) -> Tree:
        tree = self._trees.get(resource, {}).get(key)
        if tree is None or tree["metadata"]["uid"] != uid:
            raise Conflict(f"{key} is gone, or another object by now")
        return copy.deepcopy(tree)

    def _resource(self, tree: Mapping[str, Any]) -> Resource:
        for resource in self._kinds:
            if (resource.api_version, resource.kind) == (tree.get("apiVersion"), tree.get("kind")):
                return resource
        raise LookupError(f"no kind for {tree.get('apiVersion')} {tree.get('kind')}")

    def _resource_of(self, kind: type[Any]) -> Resource:
        return next(resource for resource, known in self._kinds.items() if known is kind)

    # For View

    def held(self, kind: type[Any], key: Key) -> Object | Own | None:
        tree = self._trees.get(self._resource_of(kind), {}).get(key)
        return None if tree is None else decode(kind, msgspec.json.encode(tree))

    def changed_at(self, kind: type[Any], key: Key) -> float | None:
        return self.changed.get((self._resource_of(kind), key)) if self.has(kind, key) else None

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

    def by(self, index: Index[T], value: str) -> Sequence[T]:
        return [self._world.held(index.kind, key) for key in self.keys(index, value)]  # type: ignore[misc]

    def keys(self, index: Index[T], value: str) -> Sequence[Key]:
        if index not in self._indexes:
            raise UndeclaredRead(f"{self._name} reads an index of {index.kind.__name__} that it does not declare")
        keys: Callable[[Any], Iterable[str]] = index.keys
        return [key for key in self._world.keys(index.kind) if value in set(keys(self._world.held(index.kind, key)))]

    def total(self, index: Index[T], value: str) -> Total:
        found = self.by(index, value)
        return Total(len(found), sum(index.amount(held) for held in found))

    def missing(self, kind: type[Any]) -> Unreadable | None:
        self._declared(kind)
        return self._world.why(kind)

    def answers(self, key: Key) -> Mapping[str, Answer]:
        return self._world.answers.get(key, {})

    def changed_at(self, kind: type[Any], key: Key) -> float | None:
        if kind not in self._dated:
            raise UndeclaredRead(f"{self._name} asks when {kind.__name__} changed and does not declare it as dated")
        return self._world.changed_at(kind, key)

    def heard_at(self, kind: type[Any]) -> float:
        self._declared(kind)
        return self._world.now.mono - self._world.silence.get(kind, 0.0)

    def _declared(self, kind: type[Any]) -> None:
        if kind not in self._kinds:
            raise UndeclaredRead(f"{self._name} reads {kind.__name__} and does not declare it in watches")


def merge(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> Tree:
    """RFC 7386: objects merge, None removes, all else replaces."""
    merged = dict(tree)
    for field, value in changes.items():
        if value is None:
            merged.pop(field, None)
        elif isinstance(value, Mapping):
            known = merged.get(field)
            merged[field] = merge(known if isinstance(known, Mapping) else {}, value)
        else:
            merged[field] = copy.deepcopy(value)
    return merged


def without(live: Mapping[str, Any], before: Mapping[str, Any], now: Mapping[str, Any]) -> Tree:
    """What server-side apply removes: fields that we applied before and no longer apply."""
    kept = dict(live)
    for field, value in before.items():
        if field not in now:
            kept.pop(field, None)
        elif isinstance(value, Mapping) and isinstance(now[field], Mapping) and isinstance(kept.get(field), Mapping):
            kept[field] = without(kept[field], value, now[field])
    return kept


def json_patch(tree: Mapping[str, Any], operation: Mapping[str, Any]) -> Tree:
    """One operation of RFC 6902 (add, replace, remove, test) on a copy. Raises Conflict when it does not fit."""
    result = copy.deepcopy(dict(tree))
    *way, last = [step.replace("~1", "/").replace("~0", "~") for step in operation["path"].split("/")[1:]]
    place: Any = result
    try:
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place[step]
        index: Any = last
        if isinstance(place, list):
            index = len(place) if last == "-" else int(last)
        match operation["op"]:
            case "add" if isinstance(place, list):
                place.insert(index, copy.deepcopy(operation["value"]))
            case "add":
                place[index] = copy.deepcopy(operation["value"])
            case "replace":
                place[index]
                place[index] = copy.deepcopy(operation["value"])
            case "remove":
                del place[index]
            case "test":
                held = place.get(index) if isinstance(place, dict) else place[index]
                if held != operation["value"]:  # as in kube-apiserver, null holds for what is absent
                    raise Conflict(f"test of {operation['path']} failed")
    except (KeyError, IndexError) as error:
        raise Conflict(f"{operation['op']} {operation['path']}: there is no {error}") from error
    return result


def _key(manifest: Mapping[str, Any]) -> Key:
    return Key(manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"])
