"""A model of kube-apiserver, as far as we use it, over JSON trees that are never mutated.

It knows resource versions and conflicts, create, JSON patch, merge patch, server-side apply with owned fields, deletion
with finalizers and preconditions, the status subresource, generations, namespaces that must exist, our own kinds'
schemas, lists, and the log that watches read. Garbage collection and all else that controllers do is in ``cluster``.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import msgspec

from vdcos.core import ownership
from vdcos.core.objects import Key, Resource
from vdcos.core.ownership import GROUP
from vdcos.runtime.requests import APPLY, JSON_PATCH, MERGE_PATCH, ApiError, Request
from vdcos.testing import schema, trees
from vdcos.testing.forks import twin as copy_of
from vdcos.testing.hypervisor.values import stamp
from vdcos.testing.trees import Path, Tree

Manager = tuple[str, Literal["Apply", "Update"]]
"""Who owns fields: a name, and how it came to them. Who patches and applies is two managers of one name."""
Fields = Mapping[Manager, frozenset[Path]]
"""Field managers and the leaves that each one owns."""

STATUS = frozenset(
    {
        ("vdcos.dev", "virtualmachines"),
        ("vdcos.dev", "networks"),
        ("vdcos.dev", "datastores"),
        ("vdcos.dev", "hosts"),
        ("vdcos.dev", "hapolicies"),
        ("vdcos.dev", "hostfailures"),
        ("kubevirt.io", "virtualmachines"),
        ("cdi.kubevirt.io", "datavolumes"),
        ("nmstate.io", "nodenetworkconfigurationpolicies"),
        ("", "pods"),
        ("", "nodes"),
        ("", "persistentvolumeclaims"),
    }
)
"""Resources with a status subresource. KubeVirt's instances have none."""

KUBELET = "simulated.kubelet"
"""Finalizer of pods in the model: a kubelet removes a pod when its containers have ended."""
POD_GRACE = 30
"""Seconds that a pod may take to end unless somebody says otherwise."""

_NO_GENERATION = frozenset({"", "storage.k8s.io", "coordination.k8s.io"})
"""Groups whose objects have no generation."""

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")

PATCH_TEST_FAILED = "the server rejected our request due to an error in our request"


@dataclass(slots=True, eq=False)
class Held:
    """One version of an object. The tree is never mutated; what is derived from it is derived once."""

    tree: Tree
    fields: Fields = field(default_factory=dict)
    decoded: dict[Any, Any] = field(default_factory=dict)
    """Whatever readers make of it, by kind."""
    young: bool = False
    """It lacks the status that its schema gives it. Any write stores that, so none is without effect."""
    _raw: bytes = b""
    _marks: dict[str, int] = field(default_factory=dict)
    _key: Key | None = None

    @property
    def raw(self) -> bytes:
        if not self._raw:
            self._raw = msgspec.json.encode(self.tree)
        return self._raw

    def mark(self, since: str = "") -> int:
        """A hash of all but the resource version, and but times before that moment."""
        if since not in self._marks:
            meta = {name: value for name, value in self.tree["metadata"].items() if name != "resourceVersion"}
            content = msgspec.json.encode({**self.tree, "metadata": meta}, order="sorted").decode()
            if since:
                content = _TIME.sub(lambda found: found[0] if found[0][:19] >= since[:19] else "once", content)
            self._marks[since] = hash((content, frozenset(self.fields.items())))
        return self._marks[since]

    @property
    def meta(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.tree["metadata"]
        return found

    @property
    def key(self) -> Key:
        if self._key is None:
            self._key = key_of(self.tree)
        return self._key

    @property
    def version(self) -> int:
        return int(self.tree["metadata"]["resourceVersion"])

    @property
    def deleting(self) -> bool:
        return "deletionTimestamp" in self.meta

    def owned_by(self, uid: str) -> bool:
        return any(ref["uid"] == uid for ref in self.meta.get("ownerReferences", ()))


@dataclass(frozen=True, slots=True)
class Change:
    """A line of the log: what a watch of the resource says."""

    type: str
    """ADDED, MODIFIED or DELETED."""
    held: Held


class ApiServer:
    """``now`` is set by whoever keeps the time: seconds since the epoch."""

    def __init__(self) -> None:
        self.now = 0.0
        self.version = 0
        self.objects: dict[Resource, dict[Key, Held]] = {}
        self.log: dict[Resource, list[Change]] = {}
        self.fresh: list[tuple[Resource, Change]] = []
        """Changes that nobody was told of yet."""
        self.mark = 0
        """A hash of everything that is stored, whatever the order of writes that led to it."""
        self.long_ago = 0.0
        """Seconds since the epoch. Times before that are not told apart by marks, this one's and others'."""
        self._births: dict[tuple[Resource, Key], int] = {}

    def fork(self) -> "ApiServer":
        """Another one in the same state."""
        twin = copy_of(self)
        twin.fresh = list(self.fresh)
        twin.objects = {resource: dict(held) for resource, held in self.objects.items()}
        twin.log = {resource: list(log) for resource, log in self.log.items()}
        twin._births = dict(self._births)
        return twin

    @property
    def since(self) -> str:
        """``long_ago`` as objects would say it; "" when there is no such time."""
        return stamp(self.long_ago) if self.long_ago else ""

    def forget_times(self) -> None:
        """From now on, times until now are long ago."""
        self.long_ago, self.mark = self.now, 0
        for resource, shelf in self.objects.items():
            for key, held in shelf.items():
                self.mark ^= self._mark_of(resource, key, held)

    # Reading

    def get(self, resource: Resource, key: Key) -> Held | None:
        return self.objects.get(resource, {}).get(key)

    def read(self, resource: Resource, key: Key) -> Held:
        live = self.get(resource, key)
        if live is None:
            raise ApiError(404, "NotFound", f'{resource.plural} "{key.name}" not found')
        return live

    def all(self, resource: Resource) -> list[Held]:
        return list(self.objects.get(resource, {}).values())

    def shelf(self, resource: Resource) -> Mapping[Key, Held]:
        return self.objects.get(resource, {})

    def everything(self) -> Iterator[tuple[Resource, Held]]:
        for resource, shelf in self.objects.items():
            for held in shelf.values():
                yield resource, held

    def changes(self, resource: Resource) -> list[Change]:
        """What happened to a resource since the beginning; a watch is a position in it."""
        return self.log.setdefault(resource, [])

    # Requests, as they come over the wire

    def handle(self, request: Request) -> bytes:
        """The body of the answer. Raises ApiError."""
        resource, key, manager = request.resource, request.key, request.query.get("fieldManager", "unknown")
        status = request.path.endswith("/status") and key.name != "status"
        strict = request.query.get("fieldValidation") == "Strict"
        body: Any = msgspec.json.decode(request.body) if request.body else None
        match request.method:
            case "GET":
                return self.read(resource, key).raw
            case "POST":
                return self.create(resource, body, manager, strict).raw
            case "PUT":
                return self.replace(resource, key, body, manager).raw
            case "DELETE":
                options = body or {}
                preconditions, now = options.get("preconditions", {}), options.get("gracePeriodSeconds") == 0
                if now and (resource.group, resource.plural) == ("", "pods"):
                    return self.force(resource, key, preconditions).raw
                return self._deleted(self.delete(resource, key, preconditions))
            case "PATCH" if request.content_type == APPLY:
                force = request.query.get("force") == "true"
                return self.apply(resource, key, body, manager, force, strict).raw
            case "PATCH" if request.content_type == JSON_PATCH:
                return self.json_patch(resource, key, body, manager, status).raw
            case "PATCH" if request.content_type == MERGE_PATCH:
                return self.merge_patch(resource, key, body, manager, status).raw
        raise ApiError(415, "UnsupportedMediaType", f"{request.method} {request.content_type}")

    @staticmethod
    def _deleted(held: Held) -> bytes:
        """An object that waits for its finalizers is answered as it is; one that is gone, by a Status."""
        if held.deleting and held.meta.get("finalizers"):
            return held.raw
        return msgspec.json.encode({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    # Writes. A manager of "" is nobody in particular: it owns no fields.

    def create(
        self,
        resource: Resource,
        manifest: Tree,
        manager: str = "",
        strict: bool = False,
        how: Literal["Apply", "Update"] = "Update",
    ) -> Held:
        if "name" not in manifest["metadata"]:
            name = f"{manifest['metadata']['generateName']}{len(self.changes(resource))}"
            manifest = {**manifest, "metadata": {**manifest["metadata"], "name": name}}
        key = key_of(manifest)
        if key in self.objects.get(resource, {}):
            raise ApiError(409, "AlreadyExists", f'{resource.plural} "{key.name}" already exists')
        self._admit_namespace(resource, key)
        kept = {name: value for name, value in manifest["metadata"].items() if name not in _SYSTEM}
        tree = {**manifest, "metadata": kept}
        if (resource.group, resource.plural) in STATUS and manager:
            tree.pop("status", None)
        number = self._births[resource, key] = self._births.get((resource, key), 0) + 1
        meta = {
            **kept,
            "uid": _uid(resource, key, number),
            "creationTimestamp": stamp(self.now),
        }
        if resource.group not in _NO_GENERATION:
            meta["generation"] = 1
        if resource == NAMESPACE:
            meta["finalizers"] = ["kubernetes"]
        tree["metadata"] = meta
        said = tree if how == "Apply" else self._admit(resource, None, tree, strict)
        owned: Fields = {(manager, how): _owned(said, how)} if manager else {}
        return self._store(resource, key, None, tree, owned, strict)

    def apply(
        self, resource: Resource, key: Key, manifest: Tree, manager: str, force: bool, strict: bool = False
    ) -> Held:
        """Server-side apply. Raises ApiError."""
        live = self.get(resource, key)
        if resource.group == GROUP:
            _typed(resource, manifest)
        uid = manifest["metadata"].get("uid")
        if live is None:
            if uid:
                raise ApiError(409, "Conflict", f'{resource.plural} "{key.name}": the UID in the precondition is gone')
            return self.create(resource, manifest, manager, strict, "Apply")
        me: Manager = (manager, "Apply")
        mine = _owned(manifest, "Apply")
        others = {name: owned for name, owned in live.fields.items() if name != me}
        tree: Tree = trees.united(live.tree, _applicable(manifest))
        kept = mine.union(*others.values())
        dropped = [
            path
            for path in live.fields.get(me, frozenset()) - mine
            if not any(other[: len(path)] == path for other in kept)
        ]
        for path in dropped:
            tree = trees.without(tree, path)
        if (resource.group, resource.plural) in STATUS and "status" in live.tree:
            tree["status"] = live.tree["status"]
        differs = trees.difference(live.tree, tree)
        fought = {name: taken for name, owned in others.items() if (taken := owned & differs.changed)}
        if fought and not force:
            each = sorted((name, ".".join(path)) for (name, _), taken in fought.items() for path in taken)
            said = ", ".join(f'conflict with "{name}": .{path}' for name, path in each)
            raise ApiError(409, "Conflict", f"Apply failed with {len(each)} conflict(s): {said}")
        self._expect(resource, live, None, manifest["metadata"].get("resourceVersion"))
        emptied = {".".join(path) for each in dropped if (path := _emptied(tree, each, kept))}
        wrong = [f'{path}: Invalid value: "null": must be of type object' for path in sorted(emptied)]
        _refuse(resource, tree, [*_renamed(live, uid), *wrong])
        return self._store(resource, key, live, tree, {**_left(others, differs), me: mine}, strict)

    def json_patch(
        self, resource: Resource, key: Key, operations: list[Tree], manager: str = "", status: bool = False
    ) -> Held:
        live = self.read(resource, key)
        tree = live.tree
        try:
            for operation in operations:
                tree = trees.patched(tree, operation)
        except (trees.PatchRefused, ValueError) as error:
            raise ApiError(422, "Invalid", f"{PATCH_TEST_FAILED}: {error}") from error
        return self._update(resource, live, tree, manager, status)

    def merge_patch(self, resource: Resource, key: Key, changes: Tree, manager: str = "", status: bool = False) -> Held:
        live = self.read(resource, key)
        meta = changes.get("metadata", {})
        self._expect(resource, live, None, meta.get("resourceVersion"))
        tree = trees.merge(live.tree, changes)
        if not status:  # a status is written whatever the uid, if only the version is right
            _refuse(resource, tree, _renamed(live, meta.get("uid")))
        return self._update(resource, live, tree, manager, status)

    def replace(self, resource: Resource, key: Key, tree: Tree, manager: str = "") -> Held:
        """An update of the whole object, as it was read."""
        if tree["metadata"].get("uid") and self.get(resource, key) is None:
            raise ApiError(409, "Conflict", f'{resource.plural} "{key.name}": the UID in the precondition is gone')
        live = self.read(resource, key)
        self._expect(resource, live, tree["metadata"].get("uid"), tree["metadata"].get("resourceVersion"))
        return self._update(resource, live, tree, manager, False)

    def delete(self, resource: Resource, key: Key, preconditions: Mapping[str, str] | None = None) -> Held:
        """Ask for an object to go: it goes at once unless it has finalizers. Returns it as it was left."""
        live = self.read(resource, key)
        expected = preconditions or {}
        self._expect(resource, live, expected.get("uid"), expected.get("resourceVersion"))
        if not live.meta.get("finalizers"):
            self._remove(resource, live)
            return live
        if live.deleting:
            return live
        grace = POD_GRACE if (resource.group, resource.plural) == ("", "pods") else 0
        meta = {**live.meta, "deletionTimestamp": stamp(self.now), "deletionGracePeriodSeconds": grace}
        if "generation" in meta:
            meta["generation"] += 1
        return self._store(resource, key, live, {**live.tree, "metadata": meta}, live.fields, False, system=True)

    def force(self, resource: Resource, key: Key, preconditions: Mapping[str, str] | None = None) -> Held:
        """Remove a pod at once, whether or not its kubelet has ended it: the finalizer that stands for that in this
        model holds nothing up; others do. Returns it as it was, or is."""
        live = self.read(resource, key)
        expected = preconditions or {}
        self._expect(resource, live, expected.get("uid"), expected.get("resourceVersion"))
        if others := [each for each in live.meta.get("finalizers", ()) if each != KUBELET]:
            meta = {**live.meta, "finalizers": others, "deletionGracePeriodSeconds": 0}
            meta.setdefault("deletionTimestamp", stamp(self.now))
            return self._store(resource, key, live, {**live.tree, "metadata": meta}, live.fields, False, system=True)
        self._remove(resource, live)
        gone = self.changes(resource)[-1].held
        return Held({**gone.tree, "metadata": {k: v for k, v in gone.meta.items() if k != "finalizers"}})

    # What somebody does who is not asked for reasons

    def place(self, resource: Resource, tree: Tree, manager: str) -> Held:
        """Store an object as it is, whatever admission would say. What is new of it is the manager's."""
        self.version += 1
        old = self.get(resource, key_of(tree))
        owned: Fields = {(manager, "Update"): _owned(tree)} if old is None else _updated(old, tree, manager)
        held = Held({**tree, "metadata": {**tree["metadata"], "resourceVersion": str(self.version)}}, owned)
        self._put(resource, held.key, old, held)
        self._tell(resource, Change("MODIFIED" if old else "ADDED", held))
        return held

    def drop(self, resource: Resource, key: Key) -> None:
        """Remove an object, whatever holds it."""
        self._remove(resource, self.read(resource, key))

    # What all writes have in common

    def _expect(self, resource: Resource, live: Held, uid: str | None, version: str | None) -> None:
        if uid and uid != live.meta["uid"]:
            raise ApiError(409, "Conflict", f'{resource.plural} "{live.key.name}": the UID in the precondition differs')
        if version and version != live.meta["resourceVersion"]:
            raise ApiError(409, "Conflict", f'{resource.plural} "{live.key.name}": the object has been modified')

    def _admit_namespace(self, resource: Resource, key: Key) -> None:
        if not key.namespace:
            return
        found = self.get(NAMESPACE, Key("", key.namespace))
        if found is None:
            raise ApiError(404, "NotFound", f'namespaces "{key.namespace}" not found')
        if found.deleting:
            why = f"unable to create new content in namespace {key.namespace} because it is being terminated"
            raise ApiError(403, "Forbidden", f'{resource.plural} "{key.name}" is forbidden: {why}')

    def _update(self, resource: Resource, live: Held, tree: Tree, manager: str, status: bool) -> Held:
        """An update by a patch: of the status or of all else, where the two are apart."""
        if (resource.group, resource.plural) in STATUS and manager:
            kept = live.tree if status else tree
            said = (tree if status else live.tree).get("status")
            tree = {name: value for name, value in kept.items() if name != "status"}
            if said is not None:
                tree["status"] = said
        if tree is live.tree and not live.young:
            return live
        tree = self._admit(resource, live, _tidy(_kept(live, tree)), False)
        fields = live.fields if status else _updated(live, tree, manager)
        return self._store(resource, live.key, live, tree, fields, False)

    def _store(
        self,
        resource: Resource,
        key: Key,
        old: Held | None,
        tree: Tree,
        fields: Fields,
        strict: bool,
        system: bool = False,
    ) -> Held:
        if old is not None and not system:
            tree = _kept(old, tree)
            if old.deleting and set(tree["metadata"].get("finalizers", ())) - set(old.meta.get("finalizers", ())):
                why = "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted"
                raise ApiError(422, "Invalid", f'{resource.kind} "{key.name}" is invalid: {why}')
        young = old is None and resource.group == GROUP and "status" not in tree
        tree = self._admit(resource, old, _tidy(tree), strict)
        if old is not None:
            if tree == old.tree and fields == old.fields and not old.young:
                return old
            changed = any(tree.get(part) != old.tree.get(part) for part in tree.keys() | old.tree.keys() if part not in
                          ("metadata", "status"))  # fmt: skip
            if changed and "generation" in tree["metadata"]:
                tree = {**tree, "metadata": {**tree["metadata"], "generation": old.meta["generation"] + 1}}
        if "deletionTimestamp" in tree["metadata"] and not tree["metadata"].get("finalizers"):
            assert old is not None
            last = Held({**tree, "metadata": {**tree["metadata"], "resourceVersion": old.meta["resourceVersion"]}})
            self._remove(resource, old)
            return last
        self.version += 1
        tree = {**tree, "metadata": {**tree["metadata"], "resourceVersion": str(self.version)}}
        held = Held(tree, fields, young=young)
        self._put(resource, key, old, held)
        self._tell(resource, Change("MODIFIED" if old else "ADDED", held))
        return held

    def _put(self, resource: Resource, key: Key, old: Held | None, new: Held | None) -> None:
        for held in (old, new):
            if held is not None:
                self.mark ^= self._mark_of(resource, key, held)
        if new is None:
            del self.objects[resource][key]
        else:
            self.objects.setdefault(resource, {})[key] = new

    def _mark_of(self, resource: Resource, key: Key, held: Held) -> int:
        return hash((resource.plural, resource.group, key, held.mark(self.since)))

    def _remove(self, resource: Resource, old: Held) -> None:
        """A watch shows an object as it was before the write that ended it, with a version of that end."""
        self.version += 1
        tree = old.tree
        gone = Held({**tree, "metadata": {**tree["metadata"], "resourceVersion": str(self.version)}})
        self._put(resource, old.key, old, None)
        self._tell(resource, Change("DELETED", gone))

    def _tell(self, resource: Resource, change: Change) -> None:
        self.changes(resource).append(change)
        self.fresh.append((resource, change))

    def _admit(self, resource: Resource, old: Held | None, tree: Tree, strict: bool) -> Tree:
        """Defaults and validation of our own kinds. Raises ApiError."""
        if resource.group != GROUP or (old is not None and all(tree.get(p) == old.tree.get(p) for p in _PARTS)):
            return tree
        said = msgspec.json.encode({part: tree[part] for part in _PARTS if part in tree})
        known = _ADMITTED.get((resource, strict, said))
        if known is None:
            known = _validated(resource, tree, strict)
            if len(_ADMITTED) > _MOST:
                _ADMITTED.clear()
            _ADMITTED[resource, strict, said] = known
        return {name: value for name, value in tree.items() if name in _HEADER} | dict(known)


_MOST = 30_000
_HEADER = ("apiVersion", "kind", "metadata")
_PARTS = ("spec", "status")
_ADMITTED: dict[tuple[Resource, bool, bytes], Mapping[str, Any]] = {}
"""What was admitted before is admitted again, with the same defaults."""


def _typed(resource: Resource, manifest: Tree) -> None:
    """An applied manifest must fit the types of the schema before anything else is asked of it. Raises ApiError."""
    rules = schema.generated()[resource.group, resource.plural]
    wrong = [f".{field}: field not declared in schema" for field in schema.unknown(rules, manifest)]
    wrong += [error for error in schema.errors(rules, manifest) if "must be of type" in error]
    if wrong:
        raise ApiError(500, "", f"failed to create typed patch object: {'; '.join(wrong)}")


def _renamed(live: Held, uid: str | None) -> list[str]:
    """What is wrong with a written object that says another uid."""
    differs = uid and uid != live.meta["uid"]
    return [f'metadata.uid: Invalid value: "{uid}": field is immutable'] if differs else []


def _refuse(resource: Resource, tree: Tree, wrong: list[str]) -> None:
    """If something is wrong, say it together with what the schema says. Raises ApiError."""
    if wrong:
        raise _invalid(resource, tree, [*wrong, *(_full(resource, tree)[1] if resource.group == GROUP else ())])


def _full(resource: Resource, tree: Tree) -> tuple[Tree, list[str]]:
    """An object of ours without what is unknown and with defaults, and what is wrong with it."""
    rules = schema.generated()[resource.group, resource.plural]
    known = {part: schema.pruned(rules["properties"].get(part, {}), tree[part]) for part in _PARTS if part in tree}
    full: Tree = schema.defaulted(rules, {**tree, **known})
    return full, list(schema.errors(rules, full))


def _validated(resource: Resource, tree: Tree, strict: bool) -> Mapping[str, Any]:
    """Spec and status with defaults. Raises ApiError."""
    rules = schema.generated()[resource.group, resource.plural]
    if strict and (fields := list(schema.unknown(rules, tree))):
        raise ApiError(400, "BadRequest", "strict decoding error: " + ", ".join(f'unknown field "{f}"' for f in fields))
    full, wrong = _full(resource, tree)
    if wrong:
        raise _invalid(resource, tree, wrong)
    return {part: full[part] for part in _PARTS if part in full}


def _invalid(resource: Resource, tree: Tree, wrong: Iterable[str]) -> ApiError:
    name = tree["metadata"]["name"]
    return ApiError(422, "Invalid", f'{resource.kind}.{resource.group} "{name}" is invalid: {"; ".join(wrong)}')


NAMESPACE = Resource("", "v1", "namespaces", "Namespace", namespaced=False)

_SYSTEM = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "deletionTimestamp")
_OMITTED = ("labels", "annotations", "finalizers", "ownerReferences")
"""Left out when they are empty, as Go does."""
_IDENTITY = (*_SYSTEM, "deletionGracePeriodSeconds", "name", "namespace")
_FIXED = frozenset(_IDENTITY)


@lru_cache(maxsize=65536)
def _uid(resource: Resource, key: Key, number: int) -> str:
    """The same for the same birth of an object in every world."""
    return ownership.digest(f"{resource.api_version} {resource.kind} {key} {number}", 32)


def key_of(tree: Mapping[str, Any]) -> Key:
    return Key(tree["metadata"].get("namespace", ""), tree["metadata"]["name"])


def _applicable(manifest: Tree) -> Tree:
    """What an applied manifest says besides identity and preconditions."""
    meta = {name: value for name, value in manifest["metadata"].items() if name not in _SYSTEM}
    return {**manifest, "metadata": meta}


def _ownable(path: Path) -> bool:
    """Whether somebody can own the field: not what the API server itself says, nor the status."""
    return path[0] not in ("apiVersion", "kind", "status") and (path[0] != "metadata" or path[1:2] not in _UNOWNED)


_UNOWNED = ((), *((name,) for name in _IDENTITY))


def _emptied(tree: Tree, dropped: Path, kept: Collection[Path]) -> Path:
    """The object around what was dropped that somebody owns and that has lost all that was in it: it becomes null."""
    for length in range(len(dropped) - 1, 0, -1):
        around = dropped[:length]
        if around[0] == "metadata" or trees.at(tree, around) is not None:
            break
        if around in kept:
            return around
    return ()


def _tidy(tree: Tree) -> Tree:
    """Without empty maps and lists of the metadata, which are not stored."""
    if all(value or name not in _OMITTED for name, value in tree["metadata"].items()):
        return tree
    meta = {name: value for name, value in tree["metadata"].items() if value or name not in _OMITTED}
    return {**tree, "metadata": meta}


def _owned(tree: Tree, how: Literal["Apply", "Update"] = "Update") -> frozenset[Path]:
    """What comes into somebody's hands by creating this: by an apply the leaves, else also the objects around them."""
    return frozenset(filter(_ownable, trees.leaves(tree) if how == "Apply" else trees.nodes(tree)))


def _updated(live: Held, tree: Tree, manager: str) -> Fields:
    """Who owns what after an update, which takes what it changes out of everybody's hands."""
    if not live.fields and not manager:
        return live.fields
    differs = trees.difference(live.tree, tree)
    fields = _left(live.fields, differs)
    if manager and (said := frozenset(filter(_ownable, differs.changed))):
        me: Manager = (manager, "Update")
        fields[me] = fields.get(me, frozenset()) | said
    return fields


def _left(fields: Fields, differs: trees.Difference) -> dict[Manager, frozenset[Path]]:
    """What managers own still when somebody else has changed that."""
    kept = {name: owned - differs.changed - differs.removed for name, owned in fields.items()}
    return {name: owned for name, owned in kept.items() if owned}


def _kept(old: Held, tree: Tree) -> Tree:
    """What nobody can change by an update: identity, and that it is being deleted."""
    meta = {name: value for name, value in tree["metadata"].items() if name not in _FIXED}
    fixed = {name: value for name, value in old.meta.items() if name in _FIXED}
    return {**tree, "metadata": {**meta, **fixed}}
