"""The CSI drivers: provisioning, growth, snapshots, and what keeps each from happening."""

from typing import Any

import pytest

from tests.unit.hypervisor.given import claim, pod, view
from vdcos.testing.hypervisor.objects import (
    Claim,
    Content,
    Object,
    PersistentVolume,
    Snapshot,
    SnapshotClass,
    StorageClass,
)
from vdcos.testing.hypervisor.storage import Gone, Seen, Storage, step
from vdcos.testing.hypervisor.values import Timings, Verb, Write

DRIVER = "fast.csi.vdcos.dev"
BOUND = {"phase": "Bound", "capacity": {"storage": "1Gi"}}


def storage_class(
    name: str = "fast", *, mode: str = "Immediate", provisioner: str = DRIVER, **parameters: str
) -> StorageClass:
    return view(StorageClass, name, provisioner=provisioner, parameters=parameters, volumeBindingMode=mode)


def bound(name: str = "a", size: str = "1Gi", **spec: Any) -> Claim:
    return claim(name, size=size, spec={"volumeName": f"pvc-uid-{name}", **spec}, status=BOUND)


def volume(name: str = "a", size: str = "1Gi", phase: str = "Bound", policy: str = "Delete") -> PersistentVolume:
    spec = {
        "capacity": {"storage": size},
        "storageClassName": "fast",
        "csi": {"driver": DRIVER},
        "persistentVolumeReclaimPolicy": policy,
        "claimRef": {"namespace": "ns", "name": name},
    }
    return view(PersistentVolume, f"pvc-uid-{name}", metadata={"namespace": ""}, spec=spec, status={"phase": phase})


def play(*events: Object | Gone, timings: Timings | None = None) -> tuple[Storage, list[Write]]:
    """What the driver has become, and what it writes, after seeing things in order."""
    storage = Storage(timings or Timings().scaled(0))
    writes: list[Write] = []
    for event in events:
        outcome = step(storage, event if isinstance(event, Gone) else Seen(event), 100.0)
        storage = outcome.storage
        writes += outcome.writes
    return storage, writes


def said(writes: list[Write]) -> list[tuple[str, Verb]]:
    return [(w.ref.resource, w.verb) for w in writes]


def test_a_claim_gets_a_volume_that_is_reserved_for_it() -> None:
    (write,) = play(storage_class(), claim("a"))[1]
    assert (write.ref.resource, write.ref.name, write.verb) == ("persistentvolumes", "pvc-uid-a", Verb.CREATE)
    assert write.body["spec"]["claimRef"]["uid"] == "uid-a"
    assert write.body["spec"]["capacity"] == {"storage": "1Gi"}
    assert write.body["metadata"]["annotations"] == {"pv.kubernetes.io/provisioned-by": DRIVER}


def test_it_takes_its_time() -> None:
    storage, writes = play(storage_class(), claim("a"), timings=Timings())
    assert writes == []
    begun = step(storage, Seen(claim("a")), 100.0)
    (timer,) = begun.timers
    assert said(list(step(begun.storage, timer.due, timer.at).writes)) == [("persistentvolumes", Verb.CREATE)]


def filled_from(kind: str, name: str) -> Claim:
    return claim("a", spec={"dataSourceRef": {"apiGroup": None, "kind": kind, "name": name}})


NODE = {
    "annotations": {"volume.kubernetes.io/storage-provisioner": DRIVER, "volume.kubernetes.io/selected-node": "host-1"}
}


@pytest.mark.parametrize(
    ("made", "seen"),
    [
        pytest.param(False, [storage_class(provisioner="other"), claim("a")], id="another driver's"),
        pytest.param(False, [storage_class(), claim("a", metadata={"annotations": {}})], id="not asked yet"),
        pytest.param(False, [storage_class(mode="WaitForFirstConsumer"), claim("a")], id="no consumer"),
        pytest.param(True, [storage_class(mode="WaitForFirstConsumer"), claim("a", metadata=NODE)], id="consumer"),
        pytest.param(True, [claim("a"), storage_class()], id="the class comes later"),
        pytest.param(False, [storage_class(), volume(), claim("a")], id="made already"),
        pytest.param(False, [storage_class(), filled_from("VolumeImportSource", "x")], id="CDI fills it"),
        pytest.param(False, [storage_class(), filled_from("PersistentVolumeClaim", "b")], id="no source"),
        pytest.param(
            True, [storage_class(), filled_from("PersistentVolumeClaim", "b"), bound("b")], id="the source comes later"
        ),
    ],
)  # fmt: skip
def test_what_provisioning_waits_for(made: bool, seen: list[Object]) -> None:
    assert [w.ref.name for w in play(*seen)[1] if w.verb is Verb.CREATE] == (["pvc-uid-a"] if made else [])


def test_a_volume_can_be_tied_to_a_node() -> None:
    (write,) = play(storage_class(mode="WaitForFirstConsumer", topology="node"), claim("a", metadata=NODE))[1]
    (term,) = write.body["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"][0]["values"] == ["host-1"]


def test_a_full_array_complains_once_and_goes_on_when_something_is_gone() -> None:
    full = storage_class(capacityBytes="1Gi")
    storage, writes = play(full, volume("a"), claim("b"), claim("b"))
    (event,) = writes
    assert event.body["reason"] == "ProvisioningFailed"
    assert "ResourceExhausted" in event.body["message"]
    freed = step(storage, Gone(volume("a")), 101.0)
    assert [w.ref.name for w in freed.writes] == ["pvc-uid-b"]


def test_the_array_counts_volumes_before_the_api_server_shows_them() -> None:
    _, writes = play(storage_class(capacityBytes="1Gi"), claim("a"), claim("b"))
    assert said(writes) == [("persistentvolumes", Verb.CREATE), ("events", Verb.CREATE)]


@pytest.mark.parametrize(
    ("policy", "phase", "deleted"),
    [("Delete", "Released", True), ("Retain", "Released", False), ("Delete", "Bound", False)],
)
def test_released_volumes_go_as_their_class_says(policy: str, phase: str, deleted: bool) -> None:
    _, writes = play(volume(policy=policy, phase=phase))
    assert said(writes) == ([("persistentvolumes", Verb.DELETE)] if deleted else [])


def test_growth_of_a_block_volume_is_the_volumes_then_the_claims() -> None:
    wanted = bound(size="2Gi", volumeMode="Block")
    _, writes = play(storage_class(), volume(), wanted)
    assert (said(writes), writes[0].body["spec"]) == (
        [("persistentvolumes", Verb.MERGE_PATCH)],
        {"capacity": {"storage": "2Gi"}},
    )
    _, writes = play(storage_class(), volume(size="2Gi"), wanted)
    assert writes[-1].body["status"]["capacity"] == {"storage": "2Gi"}


def test_growth_of_a_file_system_waits_for_a_pod() -> None:
    user = pod(
        spec={"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "a"}}]}, status={"phase": "Running"}
    )
    storage, writes = play(storage_class(), volume(size="2Gi"), bound(size="2Gi"))
    assert [c["type"] for c in writes[-1].body["status"]["conditions"]] == ["FileSystemResizePending"]
    assert "capacity" not in writes[-1].body["status"]
    (write,) = step(storage, Seen(user), 101.0).writes
    assert write.body["status"] == {"capacity": {"storage": "2Gi"}, "conditions": []}


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [({"expand": "none"}, "does not support expansion"), ({"capacityBytes": "1Gi"}, "insufficient capacity")],
)
def test_growth_that_is_refused(parameters: dict[str, str], reason: str) -> None:
    _, writes = play(storage_class(**parameters), volume(), bound(size="2Gi"))
    assert [w.body["reason"] for w in writes] == ["VolumeResizeFailed"]
    assert reason in writes[0].body["message"]


def snapshot(ready: bool = False) -> Snapshot:
    spec = {"volumeSnapshotClassName": "snap", "source": {"persistentVolumeClaimName": "a"}}
    return view(Snapshot, "s", spec=spec, **({"status": {"readyToUse": True}} if ready else {}))


SNAPSHOTS = view(SnapshotClass, "snap", metadata={"namespace": ""}, driver=DRIVER, deletionPolicy="Delete")


def content(**status: Any) -> Content:
    spec = {
        "driver": DRIVER,
        "deletionPolicy": "Delete",
        "volumeSnapshotRef": {"namespace": "ns", "name": "s", "uid": "uid-s"},
    }
    metadata = {"namespace": "", "annotations": {"csi.vdcos.dev/bytes": "1073741824"}}
    return view(Content, "snapcontent-uid-s", metadata=metadata, spec=spec, **({"status": status} if status else {}))


def test_a_snapshot_is_its_content_then_the_contents_status_then_its_own() -> None:
    seen: list[Object] = [storage_class(), SNAPSHOTS, bound(), snapshot()]
    _, writes = play(*seen)
    assert said(writes) == [("volumesnapshotcontents", Verb.CREATE)]
    _, writes = play(*seen, content())
    assert (writes[-1].ref.resource, writes[-1].subresource) == ("volumesnapshotcontents", "status")
    assert writes[-1].body["status"]["restoreSize"] == 1 << 30
    _, writes = play(*seen, content(readyToUse=True, restoreSize=1 << 30))
    assert (writes[-1].ref.resource, writes[-1].subresource) == ("volumesnapshots", "status")
    assert writes[-1].body["status"] | {"creationTime": ""} == {
        "boundVolumeSnapshotContentName": "snapcontent-uid-s",
        "creationTime": "",
        "readyToUse": True,
        "restoreSize": "1073741824",
    }


def test_a_claim_is_made_from_a_snapshot_when_it_is_ready() -> None:
    source = {"dataSourceRef": {"kind": "VolumeSnapshot", "name": "s"}}
    storage, writes = play(storage_class(), snapshot(), claim("b", spec=source))
    assert writes == []
    assert [w.ref.name for w in step(storage, Seen(snapshot(ready=True)), 101.0).writes] == ["pvc-uid-b"]


def test_a_class_without_snapshots_says_so() -> None:
    _, writes = play(storage_class(snapshot="false"), SNAPSHOTS, bound(), snapshot())
    assert "cannot take snapshots" in writes[-1].body["status"]["error"]["message"]


def test_content_goes_with_its_snapshot() -> None:
    _, writes = play(SNAPSHOTS, content(readyToUse=True), Gone(snapshot(ready=True)))
    assert said(writes) == [("volumesnapshotcontents", Verb.DELETE)]
