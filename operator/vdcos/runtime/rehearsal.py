"""A rehearsal: the engine plays against a pretence of the API server, and we write down what it would have done."""

import itertools
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from vdcos import api
from vdcos.core.conditions import STALLED
from vdcos.core.objects import Key, Meta, Object, Own, Resource
from vdcos.core.plan import Action, Apply, Create, Delete, Instant, Patch
from vdcos.core.service import Service
from vdcos.runtime.engine import Engine, merge_patch
from vdcos.runtime.queue import Item, Queue
from vdcos.runtime.requests import ApiError, Request
from vdcos.runtime.store import Store

Json = dict[str, Any]

# Newer than whatever a real API server has given out.
FIRST_VERSION = 2**62
# Looks at one object; a fixpoint takes two or three.
MOST_LOOKS = 20


class Unfit(Exception):
    """A manifest that cannot be rehearsed: not an object, or malformed. The message is for its author."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that would be done. ``content`` is the manifest, or the operations of a patch."""

    verb: str
    resource: Resource
    key: Key
    why: str
    content: Any = None


@dataclass(slots=True)
class Report:
    """What would be done for one object, and what its status would say before time passes."""

    resource: Resource
    key: Key
    steps: list[Step] = field(default_factory=list)
    status: Json = field(default_factory=dict)
    change: Json = field(default_factory=dict)
    """The status as a merge patch over the stored one; empty when it would not be written."""
    error: str = ""

    @property
    def conditions(self) -> Sequence[Mapping[str, Any]]:
        return self.status.get("conditions") or []

    def condition(self, kind: str) -> Mapping[str, Any]:
        """A condition by type; empty when it is not there."""
        return next((condition for condition in self.conditions if condition["type"] == kind), {})

    @property
    def failed(self) -> bool:
        return bool(self.error) or self.condition(STALLED).get("status") == "True"


class Rehearsal:
    """A world of its own: fill it with ``store`` and ``enter``, then ``play``. Also the engine's observer."""

    def __init__(self, served: Sequence[Service[Any, Any]], store: Store) -> None:
        self.store = store
        self._services = {service.name: service for service in served}
        self._owned = {service.resource: service for service in served}
        self._kinds: dict[tuple[str, str], type[Any]] = {
            **{
                (kind.resource.api_version, kind.resource.kind): kind
                for kind in store.kinds
                if issubclass(kind, Object)
            },
            **{(service.resource.api_version, service.resource.kind): service.kind for service in served},
        }
        self._by_resource: dict[Resource, type[Any]] = {
            **{kind.resource: kind for kind in store.kinds if issubclass(kind, Object)},
            **{service.resource: service.kind for service in served},
        }
        self._queue = Queue()
        self._now = Instant(time.time(), 0.0)
        self._engine = Engine(served, store, self._queue, self, lambda: self._now)
        self._versions = itertools.count(FIRST_VERSION)
        self._reports: dict[Item, Report] = {}

    def enter(self, manifest: Mapping[str, Any]) -> bool:
        """Put an object on top of the world, as ``kubectl apply`` would. False when no service reads its kind.

        Raises Unfit.
        """
        kind = self._kinds.get((str(manifest.get("apiVersion")), str(manifest.get("kind"))))
        if kind is None:
            return False
        meta = manifest.get("metadata")
        if not isinstance(meta, Mapping) or not isinstance(meta.get("name"), str):
            raise Unfit("there is no metadata.name")
        resource = kind.resource if issubclass(kind, Object) else self._resource_of(kind)
        namespace = (meta.get("namespace") or "default") if resource.namespaced else ""
        key = Key(namespace, meta["name"])
        known = self._known(kind, key)
        stamped = {
            "uid": "planned-" + str(key),
            "creationTimestamp": _timestamp(self._now.wall),
            **known.get("metadata", {}),
            **meta,
            "namespace": namespace,
            "resourceVersion": str(next(self._versions)),
        }
        if manifest.get("spec") != known.get("spec"):
            stamped["generation"] = int(stamped.get("generation") or 0) + 1
        whole = {**manifest, "metadata": stamped, **({"status": known["status"]} if "status" in known else {})}
        try:
            if resource in self._owned:
                api.parse(kind, whole)
            self.store.put(kind, self.store.decoder(kind)(_json(whole)))
        except api.InvalidObject as error:
            raise Unfit(str(error)) from error
        except msgspec.MsgspecError as error:
            raise Unfit(str(error)) from error
        return True

    def play(self) -> list[Report]:
        """Reconcile everything until nothing is left to do now. Reports on every object of our kinds, in order."""
        for name, service in self._services.items():
            for held in self.store.shelf(service.kind).objects.values():
                self._queue.add(Item(name, held.metadata.key), 0.0)
                self._report(Item(name, held.metadata.key))
        before = {item: self._status(item) for item in self._reports}
        looks: dict[Item, int] = {}
        while (due := self._queue.pop(0.0)) is not None:
            looks[due] = looks.get(due, 0) + 1
            if looks[due] <= MOST_LOOKS:
                self._look(due)
            else:
                self._report(due).error = "its plan never comes to rest; please report this"
            self._queue.done(due, 0.0)
        for item, report in self._reports.items():
            report.status = self._status(item)
            report.change = merge_patch(before.get(item, {}), report.status)
        return [self._reports[item] for item in sorted(self._reports)]

    def _look(self, item: Item) -> None:
        conversation = self._engine.reconcile(item)
        try:
            request = next(conversation)
            while True:
                request = conversation.send(self._answer(request))
        except StopIteration:
            return

    def _answer(self, request: Request) -> bytes:
        """What the API server would answer to a write, as far as the engine looks at it."""
        kind = self._by_resource.get(request.resource)
        body = json.loads(request.body or b"{}")
        known = self._known(kind, request.key)
        if request.verb == "delete":
            if kind is not None:
                self.store.remove(kind, request.key, str(next(self._versions)))
            return b'{"kind":"Status"}'
        if request.verb == "patch":
            assumed = None if kind is None else self.store.shelf(kind).assumed.get(request.key)
            whole = json.loads(msgspec.json.encode(assumed)) if isinstance(assumed, Object) else patched(known, body)
        else:
            whole = merged(known, body)
        fresh = {"uid": f"planned-{request.key}", "generation": 1, **whole.get("metadata", {})}
        return _json({**whole, "metadata": {**fresh, "resourceVersion": str(next(self._versions))}})

    def _known(self, kind: type[Any] | None, key: Key) -> Json:
        held = None if kind is None else self.store.heard(kind, key)
        if held is None:
            return {}
        whole: Json = json.loads(held.raw if isinstance(held, Own) else msgspec.json.encode(held))
        return whole

    def _status(self, item: Item) -> Json:
        status: Json = self._known(self._services[item.service].kind, item.key).get("status", {})
        return status

    def _resource_of(self, kind: type[Any]) -> Resource:
        return next(service.resource for service in self._services.values() if service.kind is kind)

    def _report(self, item: Item) -> Report:
        service = self._services[item.service]
        return self._reports.setdefault(item, Report(service.resource, item.key))

    # The engine's observer

    def acted(self, item: Item, action: Action) -> None:
        key, content = _subject(action)
        verb = type(action).__name__.lower()
        self._report(item).steps.append(Step(verb, action.resource, key, action.why, content))

    def said(self, item: Item, owner: Meta, before: Sequence[Any], now: Sequence[Any]) -> None:
        """The stored status says it."""

    def refused(self, item: Item, error: ApiError) -> None:
        self._report(item).error = error.message

    def bug(self, item: Item, error: Exception) -> None:
        self._report(item).error = f"{type(error).__name__}: {error}"


def merged(known: Mapping[str, Any], patch: Mapping[str, Any]) -> Json:
    """RFC 7386: the patch over what is known."""
    result = dict(known)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            old = result.get(name)
            result[name] = merged(old if isinstance(old, Mapping) else {}, value)
        else:
            result[name] = value
    return result


def patched(known: Json, operations: Iterable[Mapping[str, Any]]) -> Json:
    """RFC 6902, as far as plans use it: add, replace and remove; tests are taken to pass."""
    result: Json = json.loads(json.dumps(known))
    for operation in operations:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        place: Any = result
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        match operation["op"], place:
            case "add", list():
                place.insert(len(place) if last == "-" else int(last), operation["value"])
            case "remove", list():
                del place[int(last)]
            case "replace", list():
                place[int(last)] = operation["value"]
            case "add" | "replace", _:
                place[last] = operation["value"]
            case "remove", _:
                place.pop(last, None)
    return result


def _subject(action: Action) -> tuple[Key, Any]:
    match action:
        case Create(manifest=manifest) | Apply(manifest=manifest):
            meta = manifest["metadata"]
            return Key(meta.get("namespace", ""), meta["name"]), manifest
        case Patch(key=key, operations=operations):
            return key, list(operations)
        case Delete(key=key):
            return key, None


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _timestamp(wall: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall))
