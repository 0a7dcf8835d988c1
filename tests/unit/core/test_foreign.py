"""What is kept of foreign objects: what plans read."""

from typing import Any

import msgspec
import pytest

from vdcos.core import ownership
from vdcos.core.foreign.kubernetes import (
    MESSAGE_LIMIT,
    FailedMount,
    Heartbeat,
    Namespace,
    Node,
    PersistentVolumeClaim,
)
from vdcos.core.foreign.kubevirt import KubeVirt, VirtualMachine, VirtualMachineInstance
from vdcos.core.foreign.multus import NetworkAttachmentDefinition
from vdcos.core.objects import Object

OURS = {f"{ownership.GROUP}/vm": "web", ownership.MANAGED_BY: ownership.MANAGER}
THEIRS = {"cpu-feature.node.kubevirt.io/avx": "true", "pv.kubernetes.io/bind-completed": "yes"}


def decoded(kind: type[Any], **fields: Any) -> Any:
    meta = {"name": "x", **fields.pop("metadata", {})}
    return msgspec.json.decode(msgspec.json.encode({"metadata": meta, **fields}), type=kind)


@pytest.mark.parametrize("kind", [VirtualMachine, VirtualMachineInstance, PersistentVolumeClaim])
def test_other_peoples_labels_and_annotations_are_not_kept(kind: type[Object]) -> None:
    meta = decoded(kind, metadata={"labels": OURS | THEIRS, "annotations": OURS | THEIRS}).metadata
    assert (meta.labels, meta.annotations) == (OURS, OURS)


@pytest.mark.parametrize("kind", [Namespace, NetworkAttachmentDefinition])
def test_where_plans_read_what_users_choose_all_are_kept(kind: type[Object]) -> None:
    meta = decoded(kind, metadata={"labels": THEIRS, "annotations": THEIRS}).metadata
    assert (meta.labels, meta.annotations) == (THEIRS, THEIRS)


def test_of_a_node_all_labels_are_kept_that_people_choose() -> None:
    chosen = {"stage": "production", "kubevirt.io/schedulable": "true", "kubernetes.io/hostname": "host-1"}
    meta = decoded(Node, metadata={"labels": chosen | THEIRS, "annotations": chosen}).metadata
    assert meta.labels == {**chosen, "pv.kubernetes.io/bind-completed": "yes"}
    assert meta.annotations == {}


def test_only_virt_handler_s_word_is_a_sign_of_life() -> None:
    beat = {"kubevirt.io/heartbeat": "2026-01-01T00:00:00Z"}
    for before in ({}, {"annotations": beat}):
        known = before.get("annotations", {})
        marked = {"annotations": {**known, "vdcos.dev/cordoned-by": "failure/a"}, "labels": THEIRS, "finalizers": ["x"]}
        assert decoded(Heartbeat, metadata=marked) == decoded(Heartbeat, metadata=before)
    assert decoded(Heartbeat, metadata={"annotations": beat}) != decoded(Heartbeat)


def test_no_annotations_and_none_that_are_kept_differ() -> None:
    """A JSON patch that adds the first one replaces the map, or must not."""
    assert decoded(PersistentVolumeClaim).metadata.annotations is None
    assert decoded(PersistentVolumeClaim, metadata={"annotations": THEIRS}).metadata.annotations == {}


def test_conditions_that_no_plan_reads_are_not_kept() -> None:
    conditions = [{"type": kind, "status": "True"} for kind in ("Ready", "RestartRequired", "StorageLiveMigratable")]
    machine, instance = (
        decoded(kind, status={"conditions": conditions}) for kind in (VirtualMachine, VirtualMachineInstance)
    )
    assert [c.type for c in machine.status.conditions] == ["RestartRequired"]
    assert [c.type for c in instance.status.conditions] == ["Ready"]


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("v1.8.2", (1, 8)),
        ("1.10.0-alpha.1", (1, 10)),
        ("v2.0", (2, 0)),
        ("", None),
        ("devel", None),
        ("v1.x", None),
        ("v1.²", None),
    ],
)
def test_the_version_of_kubevirt(said: str, version: tuple[int, int] | None) -> None:
    assert decoded(KubeVirt, status={"observedKubeVirtVersion": said}).version == version


@pytest.mark.parametrize(
    ("version", "gate", "on"),
    [
        ("v1.8.2", "ExpandDisks", False),
        ("v1.9.0", "ExpandDisks", True),
        ("v2.0.0", "ExpandDisks", True),
        ("v2.0.0", "HostDevices", False),
        ("devel", "ExpandDisks", False),
    ],
)
def test_gates_that_a_version_turns_on(version: str, gate: str, on: bool) -> None:
    assert decoded(KubeVirt, status={"observedKubeVirtVersion": version}).gate(gate) is on


def test_little_is_kept_of_a_huge_event() -> None:
    """Whoever may post Events must not fill the operator's memory with them."""
    assert len(decoded(FailedMount, message="x" * 1_000_000).message) == MESSAGE_LIMIT
