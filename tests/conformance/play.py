"""Sequences of requests as data, what plays them, and what is compared of the answers.

A sequence is played by anything that answers requests: a real API server, or the simulator's model of one. Outcomes say
nothing of uids, versions and times, but of how they relate to what was answered before.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from vdcos.core import kinds
from vdcos.core.foreign.cdi import DataVolume
from vdcos.core.foreign.kubernetes import Namespace, PersistentVolumeClaim
from vdcos.core.foreign.kubevirt import VirtualMachine, VirtualMachineInstance
from vdcos.core.foreign.multus import NetworkAttachmentDefinition
from vdcos.core.objects import Key, Resource
from vdcos.runtime.engine import PATCH_TEST_FAILED
from vdcos.runtime.lease import LEASE
from vdcos.runtime.requests import APPLY, JSON, JSON_PATCH, MERGE_PATCH, ApiError, Request, Verb
from vdcos.testing.apiserver import NAMESPACE, ApiServer
from vdcos.testing.cluster import POD

Json = Any
Outcome = dict[str, Json]

KINDS: Mapping[str, Resource] = {
    "vm": kinds.VIRTUAL_MACHINE,
    "net": kinds.NETWORK,
    "ds": kinds.DATASTORE,
    "kv": VirtualMachine.resource,
    "dv": DataVolume.resource,
    "pvc": PersistentVolumeClaim.resource,
    "ns": Namespace.resource,
    "nad": NetworkAttachmentDefinition.resource,
    "lease": LEASE,
    "vmi": VirtualMachineInstance.resource,
    "pod": POD,
}

Do = Literal["create", "get", "list", "put", "merge", "json", "apply", "delete", "watch"]
SPACE = "@"
"""Stands for the namespace of a sequence, which is also the beginning of the names of its cluster-scoped objects."""


@dataclass(frozen=True)
class Step:
    """One request. In ``body``, ``<uid 2>`` and ``<version 2>`` stand for what the answer to step 2 said.

    ``body`` is a patch, DeleteOptions, or an object without what ``kind`` and ``name`` say already; for ``put``, it is
    merged into the answer to step ``of``. ``of`` is also the step whose ``continue`` a list goes on from.
    """

    do: Do
    kind: str
    name: str = "a"
    body: Json = None
    by: str = "me"
    status: bool = False
    force: bool = False
    strict: bool = False
    limit: int = 0
    of: int | None = None
    since: str = ""

    def __str__(self) -> str:
        more = {name: value for name, value in vars(self).items() if value != getattr(type(self), name, None)}
        said = " ".join(f"{name}={json.dumps(value)}" for name, value in more.items() if name not in _TITLE)
        return f"{self.do} {self.kind}/{self.name} {said}".strip()


_TITLE = ("do", "kind", "name")


@dataclass(frozen=True)
class Play:
    """A name that says what is to be seen, and the steps."""

    name: str
    steps: tuple[Step, ...]


class Server(Protocol):
    """What plays sequences."""

    def call(self, request: Request) -> tuple[int, Json]:
        """The HTTP status and the body of the answer."""

    def watch(self, resource: Resource, namespace: str, since: str, until: Request) -> list[Json]:
        """The events of a resource since a version, without bookmarks, up to the creation that ``until`` makes."""

    def managers(self, resource: Resource, key: Key, answer: Json) -> dict[str, list[str]]:
        """Who owns which fields of an object that was just answered."""


def play(
    sequence: Play, server: Server, space: str, after: Callable[[int], None] = lambda number: None
) -> list[Outcome]:
    """The outcomes of a sequence, in a namespace that exists and is empty. ``after`` is called after each step."""
    memory = _Memory(space)
    outcomes: list[Outcome] = []
    for step in sequence.steps:
        resource, key = KINDS[step.kind], memory.key(step)
        if step.do == "watch":
            since = memory.filled(step.since)
            until = memory.request(Step("create", step.kind, f"end-{len(outcomes)}", SENTINELS[step.kind]))
            events = server.watch(resource, key.namespace, since, until)
            told = [{"type": event["type"], **memory.seen(resource, event["object"])} for event in events]
            outcomes.append(memory.named({"events": told}))
            memory.answers.append({})
            continue
        request = memory.request(step)
        code, answer = server.call(request)
        memory.answers.append(answer)
        outcome: Outcome = {"code": code}
        if code >= 400:
            outcome |= _refusal(answer)
        elif "items" in answer:
            items = [item for item in answer["items"] or () if _ours(item, space)]
            outcome |= {"items": [memory.seen(resource, item) for item in items]}
            outcome["more"] = bool(answer["metadata"].get("continue"))
        elif answer["kind"] == "Status":
            outcome["object"] = "Status"
        else:
            outcome |= memory.seen(resource, answer)
            if "deletionTimestamp" not in answer["metadata"] and (managers := server.managers(resource, key, answer)):
                outcome["managers"] = managers
        outcomes.append(memory.named(outcome))
        after(len(outcomes) - 1)
    return outcomes


SENTINELS: Mapping[str, Json] = {
    "nad": {"spec": {"config": "{}"}},
    "dv": {"spec": {"source": {"blank": {}}, "storage": {"resources": {"requests": {"storage": "1"}}}}},
}
"""What is created, in kinds that are watched, to see that nothing more comes."""


class _Memory:
    """What was answered so far in a sequence."""

    def __init__(self, space: str) -> None:
        self.space = space
        self.answers: list[Json] = []
        self._uids: dict[str, str] = {}
        self._versions: dict[str, int] = {}

    def key(self, step: Step) -> Key:
        if not KINDS[step.kind].namespaced:
            return Key("", f"{self.space}-{step.name}")
        elsewhere, _, name = step.name.rpartition("/")
        return Key(f"{self.space}-{elsewhere}" if elsewhere else self.space, name)

    def request(self, step: Step) -> Request:
        resource, key = KINDS[step.kind], self.key(step)
        subresource = "status" if step.status else ""
        path = resource.path(key.namespace, "" if step.do in ("create", "list") else key.name, subresource)
        method, content_type = _METHODS[step.do]
        query: dict[str, str] = {}
        if step.do in ("create", "put", "merge", "json", "apply"):
            query["fieldManager"] = step.by
            query["fieldValidation"] = "Strict" if step.strict else "Ignore"
        if step.do == "apply":
            query["force"] = "true" if step.force else "false"
        if step.limit:
            query["limit"] = str(step.limit)
        if step.do == "list" and step.of is not None:
            query["continue"] = str(self.answers[step.of].get("metadata", {}).get("continue", ""))
        body = self._body(step, resource, key)
        data = None if body is None else self.filled(json.dumps(body)).encode()
        verb: Verb = "get" if method == "GET" else "patch"
        return Request("conformance", verb, resource, key, method, path, data, content_type, query)

    def _body(self, step: Step, resource: Resource, key: Key) -> Json:
        if step.do == "put":
            assert step.of is not None
            return _merged(self.answers[step.of], step.body)
        if step.do in ("create", "apply"):
            metadata = {"name": key.name, **({"namespace": key.namespace} if key.namespace else {})}
            metadata |= step.body.get("metadata", {})
            return {"apiVersion": resource.api_version, "kind": resource.kind, **step.body, "metadata": metadata}
        if step.do == "delete":
            return {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background", **(step.body or {})}
        return step.body

    def filled(self, text: str) -> str:
        """With what answers said in the place of ``<uid 0>``; what was not said becomes something that never was."""

        def found(match: re.Match[str]) -> str:
            name, absent = {"uid": ("uid", _NO_UID), "version": ("resourceVersion", "1")}[match[1]]
            return str(self.answers[int(match[2])].get("metadata", {}).get(name) or absent)

        return re.sub(r"<(uid|version) (\d+)>", found, text).replace(SPACE, self.space)

    def seen(self, resource: Resource, answer: Json) -> Outcome:
        """An object, and how its version relates to the last one that was seen."""
        meta = answer["metadata"]
        identity = f"{resource.plural} {meta['name']}"
        version, last = int(meta["resourceVersion"]), self._versions.get(identity)
        self._versions[identity] = max(version, last or 0)
        relation = "first" if last is None else "same" if version == last else "grew" if version > last else "older"
        return {"object": self._tidy(answer), "version": relation}

    def named(self, outcome: Outcome) -> Outcome:
        """With names in the place of what differs from one play to the next."""
        text = json.dumps(outcome, sort_keys=True).replace(self.space, SPACE)
        for uid, name in self._uids.items():
            text = text.replace(uid, name)
        return dict(json.loads(text))

    def _tidy(self, answer: Json) -> Json:
        meta = {name: value for name, value in answer["metadata"].items() if name not in _LEFT_OUT}
        meta |= {name: "T" for name in _TIMES if name in meta}
        self._uids.setdefault(meta["uid"], f"uid {len(self._uids) + 1}")
        # Items of lists of Kubernetes' own kinds do not say what they are.
        return {
            **{name: value for name, value in answer.items() if name not in ("apiVersion", "kind")},
            "metadata": meta,
        }


_NO_UID = "00000000-0000-0000-0000-000000000000"
_LEFT_OUT = ("resourceVersion", "managedFields", "selfLink")
_TIMES = ("creationTimestamp", "deletionTimestamp")
_METHODS: Mapping[Do, tuple[str, str]] = {
    "create": ("POST", JSON),
    "get": ("GET", JSON),
    "list": ("GET", JSON),
    "put": ("PUT", JSON),
    "merge": ("PATCH", MERGE_PATCH),
    "json": ("PATCH", JSON_PATCH),
    "apply": ("PATCH", APPLY),
    "delete": ("DELETE", JSON),
}


def _merged(tree: Json, changes: Json) -> Json:
    if not isinstance(changes, dict) or not isinstance(tree, dict):
        return changes
    merged = {**tree, **{name: _merged(tree.get(name), value) for name, value in changes.items()}}
    return {name: value for name, value in merged.items() if value is not None}


def _ours(item: Json, space: str) -> bool:
    meta = item["metadata"]
    return bool(meta.get("namespace") == space or meta["name"].startswith(f"{space}-"))


def _refusal(answer: Json) -> Outcome:
    """What the engine reads of a refusal, and what it tells the user: the fields."""
    message = answer.get("message", "")
    outcome: Outcome = {"reason": answer.get("reason", "")}
    if message.startswith(PATCH_TEST_FAILED):
        outcome["patch"] = "does not apply"
    if "denied the request" in message:
        outcome["denied"] = True
    if managers := sorted(set(re.findall(r'conflicts? with "([^"]+)"', message))):
        outcome["conflict with"] = managers
    if fields := sorted(set(re.findall(r'unknown field "([^"]+)"', message))):
        outcome["unknown fields"] = fields
    elif answer.get("reason") == "Invalid":
        causes = answer.get("details", {}).get("causes", ())
        outcome["fields"] = sorted({cause["field"] for cause in causes if "field" in cause} - {"<nil>"})
    return outcome


class Model:
    """The simulator's model of an API server as a server of sequences, with a namespace."""

    def __init__(self, space: str) -> None:
        self.api = ApiServer()
        self.api.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
        self._rest: list[Json] = []
        self._version = 0

    def call(self, request: Request) -> tuple[int, Json]:
        if request.path == request.resource.path(request.key.namespace) and request.method == "GET":
            return 200, self._page(request)
        creates = request.method in ("POST", "PATCH") and self.api.get(request.resource, request.key) is None
        try:
            return 201 if creates else 200, json.loads(self.api.handle(request))
        except ApiError as error:
            said = error.message.partition(" is invalid: ")[2]
            causes = [{"field": each.partition(": ")[0]} for each in said.split("; ") if each]
            return error.status, {"reason": error.reason, "message": error.message, "details": {"causes": causes}}

    def _page(self, request: Request) -> Json:
        """Pages as the operator takes them: of one moment. The simulator gives lists whole, so they are cut here."""
        if "continue" not in request.query:
            held = sorted(self.api.all(request.resource), key=lambda each: each.key)
            self._rest = [each.tree for each in held if each.key.namespace == request.key.namespace]
            self._version = self.api.version
        limit = int(request.query.get("limit", len(self._rest)))
        page, self._rest = self._rest[:limit], self._rest[limit:]
        return {
            "items": page,
            "metadata": {"resourceVersion": str(self._version), **({"continue": "more"} if self._rest else {})},
        }

    def watch(self, resource: Resource, namespace: str, since: str, until: Request) -> list[Json]:
        events = [
            {"type": change.type, "object": change.held.tree}
            for change in self.api.changes(resource)
            if change.held.version > int(since) and change.held.key.namespace == namespace
        ]
        self.call(until)
        return events

    def managers(self, resource: Resource, key: Key, answer: Json) -> dict[str, list[str]]:
        held = self.api.get(resource, key)
        if held is None or held.meta["resourceVersion"] != answer["metadata"]["resourceVersion"]:
            return {}
        fields = sorted(held.fields.items())
        return {f"{name} {how}": _outermost(owned) for (name, how), owned in fields if owned}


def _outermost(owned: Iterable[tuple[str, ...]]) -> list[str]:
    """Without the objects of which something inside is owned, too."""
    paths = sorted(owned)
    around = {one for one, other in itertools.pairwise(paths) if other[: len(one)] == one}
    return sorted(".".join(path) for path in paths if path not in around)


def owned_fields(answer: Json) -> dict[str, list[str]]:
    """Managers and the leaves that each owns, by an object's ``managedFields``; any list but of owners is one leaf."""
    found: dict[str, set[str]] = {}
    for entry in answer["metadata"].get("managedFields", ()):
        if entry.get("subresource"):
            continue
        paths = {path for path in _paths(entry["fieldsV1"], ()) if path and path[0] != "status"}
        if paths:
            found[f"{entry['manager']} {entry['operation']}"] = {".".join(path) for path in paths}
    return {name: sorted(owned) for name, owned in sorted(found.items())}


def _paths(fields: Json, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    inner = [name for name in fields if name != "."]
    if not inner:
        yield path
    for name in inner:
        kind, _, rest = name.partition(":")
        if kind == "f":
            yield from _paths(fields[name], (*path, rest))
        elif kind == "k" and path == ("metadata", "ownerReferences"):
            yield (*path, json.loads(rest)["uid"])
        else:
            yield path


def differences(sequence: Play, real: Sequence[Outcome], model: Sequence[Outcome]) -> Iterator[str]:
    """Where two outcomes of a sequence differ, a line each: the step, the path, and both values."""
    for number, (step, one, other) in enumerate(zip(sequence.steps, real, model, strict=True)):
        yield from _differences(one, other, f"{number} {step.do} {step.kind}")


def _differences(real: Json, model: Json, path: str) -> Iterator[str]:
    if isinstance(real, dict) and isinstance(model, dict):
        for name in sorted(real.keys() | model.keys()):
            yield from _differences(real.get(name), model.get(name), f"{path}/{name}")
    elif isinstance(real, list) and isinstance(model, list) and len(real) == len(model):
        for number, (one, other) in enumerate(zip(real, model, strict=True)):
            yield from _differences(one, other, f"{path}/{number}")
    elif real != model:
        yield f"{path}: real {json.dumps(real)}, model {json.dumps(model)}"
