"""What a pod takes of its node, and what of its spec is kept."""

from typing import Any

import msgspec
import pytest

from vdcos.core.foreign.kubernetes import LauncherPod, OtherPod
from vdcos.core.foreign.workloads import PlacedWorkload, Workload, amounts_of

Tree = dict[str, Any]


def asks(cpu: str = "", memory: str = "", **more: Any) -> Tree:
    requests = {name: amount for name, amount in (("cpu", cpu), ("memory", memory)) if amount}
    return {"name": "x", "resources": {"requests": requests}, **more}


TABLE: list[tuple[str, Tree, Tree]] = [
    ("nothing", {}, {}),
    (
        "containers together",
        {"containers": [asks("100m", "1Gi"), asks("1", "512Mi")]},
        {"cpu": 1100, "memory": 3 << 29},
    ),
    (
        "an init container that needs more",
        {"containers": [asks("100m", "1Gi")], "initContainers": [asks("50m", "2Gi"), asks("2", "1Mi")]},
        {"cpu": 2000, "memory": 2 << 30},
    ),
    (
        "a sidecar stays beside the others, and beside the init containers after it",
        {
            "containers": [asks("100m", "1Gi")],
            "initContainers": [asks("1", "1Gi", restartPolicy="Always"), asks("500m", "1Mi")],
        },
        {"cpu": 1500, "memory": 2 << 30},
    ),
    ("the overhead of its runtime class", {"containers": [asks("1")], "overhead": {"cpu": "250m"}}, {"cpu": 1250}),
    ("a share of a thousandth is one", {"containers": [asks("0.0001")]}, {"cpu": 1}),
    ("what is no quantity counts nothing", {"containers": [asks("much", "1Gi")]}, {"memory": 1 << 30}),
    ("a number", {"containers": [{"name": "x", "resources": {"requests": {"cpu": 2}}}]}, {"cpu": 2000}),
]


@pytest.mark.parametrize(("spec", "want"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_requests(spec: Tree, want: Tree) -> None:
    found = msgspec.convert(spec, Workload)
    assert found.requests == want
    again = msgspec.json.decode(msgspec.json.encode(found), type=Workload)
    assert (again, again.requests) == (found, want), "it is packed and unpacked"


def test_pods_that_ask_for_the_same_share_the_amounts() -> None:
    spec = {"containers": [asks("100m", "1Gi")]}
    assert msgspec.convert(spec, Workload).requests is msgspec.convert(spec, PlacedWorkload).requests


def test_quantities_by_name() -> None:
    assert amounts_of({"cpu": "8", "pods": "110", "example.org/gpu": 2, "memory": "0"}) == {
        "cpu": 8000,
        "pods": 110,
        "example.org/gpu": 2,
    }


def pod(**fields: Any) -> Tree:
    labels, spec, phase = fields.pop("labels", {}), fields.pop("spec", {"nodeName": "host-1"}), fields.pop("phase", "")
    annotations = {"k8s.v1.cni.cncf.io/networks": "long", "vdcos.dev/x": "1"}
    return {
        "metadata": {"name": "p", "namespace": "shop", "labels": labels, "annotations": annotations},
        "spec": spec,
        "status": {"phase": phase},
    }


def test_of_a_launcher_pod_all_labels_are_kept_and_no_annotations_of_others() -> None:
    held = msgspec.convert(pod(labels={"app": "web", "kubevirt.io": "virt-launcher"}), LauncherPod)
    assert held.metadata.labels == {"app": "web", "kubevirt.io": "virt-launcher"}
    assert held.metadata.annotations == {"vdcos.dev/x": "1"}
    assert msgspec.json.decode(msgspec.json.encode(held), type=LauncherPod) == held


def test_only_claims_are_kept_of_volumes() -> None:
    volumes = [{"name": "a", "emptyDir": {}}, {"name": "b", "persistentVolumeClaim": {"claimName": "disk"}}]
    assert msgspec.convert({"volumes": volumes}, PlacedWorkload).claims == ("disk",)


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ({}, True),
        ({"phase": "Running"}, True),
        ({"phase": "Succeeded"}, False),
        ({"phase": "Failed"}, False),
        ({"spec": {}}, False),
        ({"labels": {"kubevirt.io": "virt-handler"}}, True),
        ({"labels": {"kubevirt.io": "virt-launcher"}}, False),
        ({"labels": {"kubevirt.io": "hotplug-disk"}}, False),
    ],
)
def test_which_other_pods_count(fields: Tree, counts: bool) -> None:
    assert msgspec.convert(pod(**fields), OtherPod).counts is counts
