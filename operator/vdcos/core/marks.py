"""Our marks on Nodes: cordons and taints, put on and taken off, and never somebody else's."""

from typing import Any

from vdcos.core import hosts
from vdcos.core.foreign.kubernetes import Node, Taint
from vdcos.core.objects import Key
from vdcos.core.plan import Action, Patch

FAILURE, MAINTENANCE = "failure/", "host/"
"""How the marks of cordons begin: by a failure, by name, and by a Host in maintenance, by name."""

_ANNOTATION = "/metadata/annotations/" + hosts.CORDONED_BY.replace("/", "~1")
DOWN = Taint(hosts.OUT_OF_SERVICE, "nodeshutdown", "NoExecute")
FAILOVER_ONLY = Taint(hosts.FAILOVER_ONLY, "", "NoSchedule")


def cordoned_by(node: Node) -> str:
    """For whom of ours the node is cordoned; empty when it is not, or somebody else did it."""
    return node.metadata.annotation(hosts.CORDONED_BY) if node.spec.unschedulable else ""


def cordon(node: Node, mark: str, why: str) -> list[Action]:
    """Nothing new lands on the host. One that is cordoned already is left alone."""
    if node.spec.unschedulable:
        return []
    operations: list[dict[str, Any]] = [{"op": "add", "path": "/spec/unschedulable", "value": True}]
    if node.metadata.annotations is None:
        operations.append({"op": "add", "path": "/metadata/annotations", "value": {hosts.CORDONED_BY: mark}})
    else:
        operations.append({"op": "add", "path": _ANNOTATION, "value": mark})
    return [_patch(node, operations, why)]


def uncordon(node: Node, kind: str, why: str) -> list[Action]:
    """Take back a cordon of ours, of this kind."""
    if not cordoned_by(node).startswith(kind):
        return []
    operations = [
        {"op": "test", "path": _ANNOTATION, "value": cordoned_by(node)},
        {"op": "remove", "path": _ANNOTATION},
        {"op": "remove", "path": "/spec/unschedulable"},
    ]
    return [_patch(node, operations, why)]


def forget(node: Node, why: str) -> list[Action]:
    """Take off a mark of ours whose cordon somebody has taken away: the next cordon may be theirs."""
    left = node.metadata.annotation(hosts.CORDONED_BY)
    if not left or node.spec.unschedulable:
        return []
    operations: list[dict[str, Any]] = [
        {"op": "test", "path": _ANNOTATION, "value": left},
        {"op": "test", "path": "/spec/unschedulable", "value": None},
        {"op": "remove", "path": _ANNOTATION},
    ]
    return [_patch(node, operations, why)]


def has(node: Node, taint: Taint) -> bool:
    return taint in node.spec.taints


def taint(node: Node, wanted: Taint, why: str) -> list[Action]:
    """Put a taint on a node that has none of this key."""
    if any(held.key == wanted.key for held in node.spec.taints):
        return []
    return [_patch(node, _taints(node, [*map(_written, node.spec.taints), _written(wanted)]), why)]


def untaint(node: Node, unwanted: Taint, why: str) -> list[Action]:
    """Take back a taint, if it is just as we write it."""
    if not has(node, unwanted):
        return []
    return [_patch(node, _taints(node, [_written(held) for held in node.spec.taints if held != unwanted]), why)]


def _taints(node: Node, wanted: list[dict[str, str]]) -> list[dict[str, Any]]:
    """The list belongs to many: it is replaced only as it was seen."""
    seen = [_written(each) for each in node.spec.taints]
    if not seen:
        return [
            {"op": "test", "path": "/spec/taints", "value": None},
            {"op": "add", "path": "/spec/taints", "value": wanted},
        ]
    test = [
        {"op": "test", "path": f"/spec/taints/{i}/{k}", "value": v} for i, t in enumerate(seen) for k, v in t.items()
    ]
    if len(wanted) > len(seen):
        return [*test, {"op": "add", "path": "/spec/taints/-", "value": wanted[-1]}]
    gone = [i for i, t in enumerate(seen) if t not in wanted]
    removed: list[dict[str, Any]] = [{"op": "remove", "path": f"/spec/taints/{i}"} for i in reversed(gone)]
    if not wanted:  # unless somebody has put another one on meanwhile
        removed += [{"op": "test", "path": "/spec/taints", "value": []}, {"op": "remove", "path": "/spec/taints"}]
    return [*test, *removed]


def _written(held: Taint) -> dict[str, str]:
    return {name: value for name, value in (("key", held.key), ("value", held.value), ("effect", held.effect)) if value}


def _patch(node: Node, operations: list[dict[str, Any]], why: str) -> Patch:
    return Patch(Node.resource, Key("", node.metadata.name), node.metadata.uid, tuple(operations), why)
