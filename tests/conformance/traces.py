"""What happened to the objects of a scene, as far as plans read it: transitions, their order, and how it ended."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tests.conformance.play import KINDS
from vdcos.core import quantity
from vdcos.core.foreign.cdi import DataVolume
from vdcos.core.foreign.kubernetes import PersistentVolumeClaim
from vdcos.core.foreign.kubevirt import Condition, VirtualMachine, VirtualMachineInstance
from vdcos.core.foreign.multus import NetworkAttachmentDefinition
from vdcos.core.objects import Meta, Object, Resource
from vdcos.services.virtualmachine import disks, power

Json = Any
Facts = Mapping[str, Json]
"""By path; what is not said is not there."""

_READ: Mapping[str, type[Object]] = {
    "kv": VirtualMachine,
    "vmi": VirtualMachineInstance,
    "dv": DataVolume,
    "pvc": PersistentVolumeClaim,
    "nad": NetworkAttachmentDefinition,
}
FOLLOWED: Mapping[str, Resource] = {kind: KINDS[kind] for kind in (*_READ, "pod")}


@dataclass(frozen=True)
class Event:
    """What a watch says: versions are of one clock."""

    version: int
    kind: str
    deleted: bool
    tree: Json


@dataclass(frozen=True, order=True)
class Transition:
    """A fact became true of an object for the n-th time."""

    of: str
    path: str
    value: str
    time: int = 1

    def __str__(self) -> str:
        return f"{self.of} {self.path}={self.value}" + (f" (time {self.time})" if self.time > 1 else "")


def facts(kind: str, tree: Json) -> Facts:
    """What plans read of an object, without what is chance (names of hosts and pods, uids, addresses, times)."""
    if kind == "pod":
        return dict(_flat(_pod(tree)))
    held = msgspec.json.decode(msgspec.json.encode(tree), type=_READ[kind])
    return dict(_flat({"metadata": _metadata(kind, held.metadata), **_content(held, tree)}))


def _metadata(kind: str, meta: Meta) -> Json:
    return {
        "owners": [f"{owner.kind} {owner.name}{' controls' * owner.controller}" for owner in meta.owner_references],
        "labels": meta.labels,
        "annotations": meta.annotations,
        "deleting": meta.deletion_timestamp is not None,
        "generation": meta.generation if kind == "kv" else None,
    }


def _content(held: Object, tree: Json) -> Json:
    """Spec and status as far as the services look at them: see their watches."""
    match held:
        case VirtualMachine(status=status):
            return {"status": {**msgspec.to_builtins(status), "conditions": _conditions(status.conditions)}}
        case VirtualMachineInstance(status=status):
            running = status.phase == "Running"
            told = [each for each in status.conditions if running or each.type not in power.WHILE_RUNNING]
            spec = {name: tree["spec"].get(name) for name in ("hostname", "nodeSelector")}
            domain = tree["spec"]["domain"]
            return {
                "spec": {**spec, "sockets": domain["cpu"]["sockets"], "guest": domain["memory"]["guest"]},
                "status": {
                    "phase": status.phase,
                    "nodeName": status.node_name,
                    "conditions": _conditions(told),
                    "interfaces": [{"name": each.name} for each in status.interfaces],
                    "guest": status.guest_os_info.pretty_name,
                    "pods": None if running else sorted(status.active_pods),
                },
            }
        case DataVolume():
            return {"stage": disks.stage(held), "progress": disks.progress(held), "trouble": disks.trouble(held)}
        case PersistentVolumeClaim(spec=spec, status=status):
            asked = {name: tree["spec"].get(name) for name in ("storageClassName", "volumeMode", "accessModes")}
            sizes = {"requests": spec.resources.requests, "capacity": status.capacity}
            if asked["volumeMode"] == "Filesystem":
                sizes = {}  # more than was asked for, by an overhead that is not modelled
            whole = {name: quantity.whole(str(size.storage or 0)) for name, size in sizes.items()}
            return {"spec": asked, **whole, "phase": status.phase}
    return {"spec": tree.get("spec")}


def _conditions(conditions: Iterable[Condition]) -> list[Json]:
    return [{"type": each.type, "status": each.status, "reason": each.reason} for each in conditions]


def _pod(tree: Json) -> Json:
    """No plan reads a pod, but everything else follows from it."""
    meta, status = tree["metadata"], tree.get("status", {})
    conditions = {each["type"]: each["status"] for each in status.get("conditions") or ()}
    return {
        "phase": status.get("phase"),
        "on a host": bool(tree["spec"].get("nodeName")),
        "deleting": "deletionTimestamp" in meta,
        "scheduled": conditions.get("PodScheduled"),
    }


def _flat(value: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Leaves. Items of a list go by their name or type; what is empty, zero or false is as good as none."""
    match value:
        case dict():
            for name, inner in value.items():
                yield from _flat(inner, f"{path}.{name}" if path else name)
        case [{}, *_] | ({}, *_):
            for inner in value:
                name = inner.get("type") or inner.get("name") or inner.get("action")
                yield from _flat({each: of for each, of in inner.items() if of != name}, f"{path}[{name}]")
        case _ if value:
            yield _normal(path), json.loads(_normal(json.dumps(value)))


_CHANCE = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| \+0000 UTC)", "<time>"),
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{32}\b", "<uid>"),
    (r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b", "<mac>"),
    (r"\b\d+\.\d+\.\d+\.\d+\b", "<ip>"),
    (r"\bhost-\d+\b", "<host>"),
)


def _normal(text: str) -> str:
    for pattern, word in _CHANCE:
        text = re.sub(pattern, word, text)
    return text


def state(events: Iterable[Event]) -> Mapping[str, Facts]:
    """What is true in the end, by object; and of each that ever was, how many of its name there have been."""
    found: dict[str, Facts] = {}
    named = list(_named(events))
    born = {(name, event.tree["metadata"]["uid"]) for name, event in named}
    found["born"] = Counter(name for name, _ in born)
    for name, event in named:
        if event.deleted:
            found.pop(name, None)
        else:
            found[name] = facts(event.kind, event.tree)
    return dict(sorted(found.items()))


def transitions(events: Iterable[Event]) -> list[list[Transition]]:
    """What became true, in order; what became true at once is together."""
    known: dict[str, Facts] = {}
    times: Counter[tuple[str, str, str]] = Counter()
    found: list[list[Transition]] = []
    for name, event in _named(events):
        if event.deleted:
            known.pop(name, None)
            became = {"": "deleted"}
        else:
            before, now = known.get(name, {}), facts(event.kind, event.tree)
            became = {path: json.dumps(now.get(path)) for path in now.keys() | before.keys()
                      if now.get(path) != before.get(path)}  # fmt: skip
            became |= {} if name in known else {"": "created"}
            known[name] = now
        times.update((name, *each) for each in became.items())
        if moment := [Transition(name, *each, times[name, *each]) for each in sorted(became.items())]:
            found.append(moment)
    return found


def _named(events: Iterable[Event]) -> Iterator[tuple[str, Event]]:
    """Events with the names of their objects: launcher pods have none of their own and are counted.

    Left out is what CDI makes for itself: pods that fill a claim, and the claim that is filled before it is handed on.
    """
    pods: dict[str, str] = {}
    for event in events:
        meta = event.tree["metadata"]
        name = meta["name"]
        if event.kind == "pod":
            if meta.get("labels", {}).get("kubevirt.io") != "virt-launcher":
                continue
            name = pods.setdefault(meta["uid"], str(len(pods) + 1))
        elif name.startswith("prime-"):
            continue
        yield f"{event.kind} {name}", event


def unlike(real: Sequence[Sequence[Transition]], runs: Sequence[Sequence[Sequence[Transition]]]) -> Iterator[str]:
    """Where a real run is none that the model can have, by some runs of the model.

    What happens in each of these must happen, what happens in none cannot, and what always comes first must not come
    last.
    """
    seen, played = _when(real), [_when(run) for run in runs]
    always = set.intersection(*(set(run) for run in played))
    yield from (f"missing: {each}" for each in sorted(always - seen.keys()))
    yield from (f"extra: {each}" for each in sorted(seen.keys() - set().union(*played)))
    both = sorted(always & seen.keys(), key=seen.__getitem__)
    for place, early in enumerate(both):
        for late in both[place + 1 :]:
            if seen[early] < seen[late] and all(run[late] < run[early] for run in played):
                yield f"order: {early} before {late}"


def _when(run: Iterable[Iterable[Transition]]) -> dict[Transition, int]:
    return {each: number for number, moment in enumerate(run) for each in moment}
