"""What a cluster has and lacks, and what that costs: every cause has its words, and nothing crashes."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from vdcos import api
from vdcos.core import preflight
from vdcos.core.foreign.cdi import Cdi, StorageProfile
from vdcos.core.foreign.kubernetes import StorageClass
from vdcos.core.foreign.kubevirt import KubeVirt
from vdcos.core.foreign.medik8s import FenceAgentsRemediationTemplate
from vdcos.core.foreign.multus import NetworkAttachmentDefinition
from vdcos.core.foreign.nmstate import NodeNetworkConfigurationPolicy
from vdcos.core.foreign.snapshots import VolumeSnapshotClass
from vdcos.core.objects import Key, Unreadable
from vdcos.core.preflight import Check

Tree = dict[str, Any]

GATES = ["DeclarativeHotplugVolumes", "ExpandDisks", "HostDevices"]


def kubevirt(
    version: str = "v1.8.2",
    phase: str = "Deployed",
    gates: list[str] = GATES,
    methods: tuple[str, ...] = ("LiveMigrate",),
    network: str = "migrations",
    **configuration: Any,
) -> Tree:
    return {
        "metadata": {"name": "kubevirt", "namespace": "kubevirt"},
        "spec": {
            "configuration": {
                "developerConfiguration": {"featureGates": gates},
                "migrations": {"network": network},
                **configuration,
            },
            "workloadUpdateStrategy": {"workloadUpdateMethods": list(methods)},
        },
        "status": {"phase": phase, "observedKubeVirtVersion": version},
    }


def named(name: str, namespace: str = "", **fields: Any) -> Tree:
    return {"metadata": {"name": name, "namespace": namespace}, **fields}


COMPLETE: Mapping[type[Any], list[Tree]] = {
    KubeVirt: [kubevirt()],
    Cdi: [named("cdi", status={"observedVersion": "v1.65.0"})],
    StorageProfile: [named("fast")],
    StorageClass: [named("fast")],
    VolumeSnapshotClass: [named("fast")],
    NetworkAttachmentDefinition: [named("migrations", "kubevirt")],
    NodeNetworkConfigurationPolicy: [],
    FenceAgentsRemediationTemplate: [],
}


def look(**changes: Any) -> dict[str, Check]:
    """The checks of a complete cluster in which some kinds, by name, are otherwise."""
    given: dict[type[Any], Any] = {kind: changes.get(kind.__name__, items) for kind, items in COMPLETE.items()}

    def read(kind: type[Any]) -> Mapping[Key, Any] | Unreadable:
        found = given[kind]
        if isinstance(found, Unreadable):
            return found
        decoded: list[Any] = [msgspec.json.decode(json.dumps(tree), type=kind) for tree in found]
        return {held.metadata.key: held for held in decoded}

    return {check.name: check for check in preflight.look(read)}


def test_of_a_complete_cluster_nothing_is_off() -> None:
    checks = look()
    assert {name for name, check in checks.items() if not check.ok} == set()
    assert not any(check.cost or check.remedy or check.limits for check in checks.values())
    assert all(check.found for check in checks.values())
    assert {name for name, check in checks.items() if check.required} == {"KubeVirt", "CDI", "StorageClasses"}


ABSENT = Unreadable("the API is not installed in this cluster")
FORBIDDEN = Unreadable("vdcos is not allowed to read it", forbidden=True)
NO_KUBEVIRT = ("ExpandDisks", "DeclarativeHotplugVolumes", "HostDevices", "LiveUpdate", "WorkloadUpdates")


@pytest.mark.parametrize(
    ("kind", "given", "name", "state", "says"),
    [
        ("KubeVirt", ABSENT, "KubeVirt", "Missing", "no hypervisor"),
        ("KubeVirt", FORBIDDEN, "KubeVirt", "Unknown", "not allowed"),
        ("KubeVirt", [], "KubeVirt", "Missing", "no KubeVirt object"),
        ("KubeVirt", [kubevirt(version="", phase="Deploying")], "KubeVirt", "Missing", "Deploying"),
        ("KubeVirt", [kubevirt(phase="Deploying")], "KubeVirt", "Limited", "v1.8.2, Deploying"),
        ("KubeVirt", [kubevirt("v1.7.9")], "KubeVirt", "Limited", "upgrade to 1.8"),
        ("KubeVirt", [kubevirt("v1.11.0")], "KubeVirt", "OK", "newer than this vdcos knows"),
        ("KubeVirt", [kubevirt("v2.0.0")], "KubeVirt", "OK", "newer"),
        ("KubeVirt", [kubevirt("devel")], "KubeVirt", "OK", "devel"),
        ("KubeVirt", [kubevirt(gates=[])], "ExpandDisks", "Limited", "only after a restart"),
        ("KubeVirt", [kubevirt(gates=[])], "DeclarativeHotplugVolumes", "Limited", "waits for its next restart"),
        ("KubeVirt", [kubevirt(gates=[])], "HostDevices", "Limited", "add HostDevices to"),
        ("KubeVirt", [kubevirt("v2.0.0", gates=[])], "HostDevices", "Limited", "add HostDevices to"),
        ("KubeVirt", [kubevirt("v1.9.0", gates=[])], "ExpandDisks", "OK", "is on"),
        ("KubeVirt", [kubevirt("v2.0.0", gates=[])], "ExpandDisks", "OK", "is on"),
        (
            "KubeVirt",
            [kubevirt("v1.9.0", developerConfiguration={"disabledFeatureGates": ["ExpandDisks"]})],
            "ExpandDisks",
            "Limited",
            "is off",
        ),
        (
            "KubeVirt",
            [kubevirt(gates=[*GATES, "HotplugVolumes"])],
            "DeclarativeHotplugVolumes",
            "Limited",
            "remove HotplugVolumes",
        ),
        ("KubeVirt", [kubevirt(vmRolloutStrategy="Stage")], "LiveUpdate", "Limited", "wait for its next restart"),
        ("KubeVirt", [kubevirt(methods=())], "WorkloadUpdates", "Limited", "workloadUpdateMethods: none"),
        ("KubeVirt", [kubevirt(methods=("Evict",))], "WorkloadUpdates", "Limited", "workloadUpdateMethods: Evict"),
        ("KubeVirt", [kubevirt(network="")], "MigrationNetwork", "Limited", "from the pod network"),
        ("KubeVirt", [kubevirt(network="gone")], "MigrationNetwork", "Missing", "kubevirt/gone does not exist"),
        ("NetworkAttachmentDefinition", ABSENT, "MigrationNetwork", "Missing", "does not exist"),
        ("NetworkAttachmentDefinition", ABSENT, "Multus", "Missing", "only Networks of kind pod work"),
        ("NodeNetworkConfigurationPolicy", ABSENT, "Nmstate", "Missing", "by other means"),
        ("FenceAgentsRemediationTemplate", ABSENT, "FenceAgentsRemediation", "Missing", "need none of it"),
        ("StorageProfile", ABSENT, "CDI", "Missing", "no disk can be"),
        ("Cdi", ABSENT, "CDI", "OK", "counts as new"),
        ("Cdi", [named("cdi", status={"observedVersion": "v1.64.3"})], "CDI", "Limited", "checksums"),
        ("StorageClass", [], "StorageClasses", "Missing", "there is none"),
        ("StorageClass", [named(c) for c in "edcba"], "StorageClasses", "OK", "a, b, c and 2 more"),
        ("VolumeSnapshotClass", ABSENT, "SnapshotClasses", "Missing", "copying every byte"),
        ("VolumeSnapshotClass", [], "SnapshotClasses", "Missing", "there is none"),
        *(("KubeVirt", ABSENT, name, "Unknown", "cannot be asked") for name in NO_KUBEVIRT),
    ],
)
def test_what_is_missing_is_told_with_its_cost(kind: str, given: Any, name: str, state: str, says: str) -> None:
    check = look(**{kind: given})[name]
    assert check.state == state
    told = check.condition()
    assert told.type == name
    assert told.reason == state
    assert told.status == {"OK": "True", "Unknown": "Unknown"}.get(state, "False")
    assert says.lower() in told.message.lower()
    if state in ("Limited", "Missing"):
        assert check.cost
        assert check.remedy
        assert set(check.limits) <= api.KINDS.keys(), "by the names of our kinds"
        assert check.limits
