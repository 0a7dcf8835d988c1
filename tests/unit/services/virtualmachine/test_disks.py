"""Disks: made, found again, grown, handed over, and never lost."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.services.virtualmachine import builders as b
from vdcos import api
from vdcos.core import disks, quantity
from vdcos.core.foreign.cdi import DataVolume
from vdcos.core.foreign.kubernetes import Namespace, PersistentVolumeClaim
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Key
from vdcos.core.plan import Create, Delete, Patch
from vdcos.testing.world import Conflict, World

Tree = dict[str, Any]
DATA = disks.key("shop", "web", "data")
GIB = 1 << 30


def cdi(version: str) -> Tree:
    return {
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "CDI",
        "metadata": {"name": "cdi"},
        "status": {"observedVersion": version},
    }


def source_of(there: World) -> Tree:
    return dict(there.tree(DataVolume, DATA)["spec"]["source"])


SUM = "sha256:" + "a" * 64
SOURCES: list[tuple[str, Tree, Tree]] = [
    ("nothing", {"blank": {}}, {"blank": {}}),
    ("an image", {"image": {"reference": "example.org/a:1"}}, {"registry": {"url": "docker://example.org/a:1"}}),
    (
        "a guarded image",
        {"image": {"reference": "a", "secretName": "s", "caConfigMapName": "c"}},
        {"registry": {"url": "docker://a", "secretRef": "s", "certConfigMap": "c"}},
    ),
    (
        "a checked download",
        {"http": {"url": "https://a/b", "checksum": SUM}},
        {"http": {"url": "https://a/b", "checksum": SUM}},
    ),
    ("a claim", {"pvc": {"name": "golden"}}, {"pvc": {"namespace": "shop", "name": "golden"}}),
    ("a snapshot", {"snapshot": {"name": "golden"}}, {"snapshot": {"namespace": "shop", "name": "golden"}}),
]
GOLDEN: list[Tree] = [
    {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "golden", "namespace": "shop"}},
    {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": "golden", "namespace": "shop"},
    },
]


@pytest.mark.parametrize(("declared", "want"), [s[1:] for s in SOURCES], ids=[s[0] for s in SOURCES])
def test_source(declared: Tree, want: Tree) -> None:
    there = b.world(b.vm(disks=[b.disk(source=declared)]), *GOLDEN)
    b.settle(there)
    assert source_of(there) == want


def test_a_new_disk_costs_one_write_and_says_whose_it_is() -> None:
    there = b.world(b.vm(disks=[b.disk()]))
    b.settle(there)
    assert [type(action).__name__ for action in there.log] == ["Create", "Apply"]
    volume = there.tree(DataVolume, DATA)
    assert volume["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "vdcos",
        "vdcos.dev/vm": "web",
        "vdcos.dev/disk": "data",
        "vdcos.dev/datastore": "gold",
    }
    assert volume["metadata"]["annotations"] == {"vdcos.dev/requested": str(10 * GIB)}
    assert "ownerReferences" not in volume["metadata"], "a retained disk outlives its VM"
    assert volume["spec"]["storage"] == {"storageClassName": "block", "resources": {"requests": {"storage": "10Gi"}}}


def test_the_datastore_decides_on_modes() -> None:
    there = b.world(b.vm(disks=[b.disk()]))
    there.change(api.Datastore, Key("", "gold"), spec={"volumeMode": "Block", "accessMode": "ReadWriteMany"})
    b.settle(there)
    storage = there.tree(DataVolume, DATA)["spec"]["storage"]
    assert (storage["volumeMode"], storage["accessModes"]) == ("Block", ["ReadWriteMany"])


@pytest.mark.parametrize(
    ("version", "checked"), [("v1.64.2", False), ("v1.65.0", True), ("odd", True), ("v2.0.0", True)]
)
def test_checksum_where_cdi_can(version: str, checked: bool) -> None:
    there = b.world(b.vm(disks=[b.disk(source={"http": {"url": "https://a/b", "checksum": SUM}})]), cdi(version))
    b.settle(there)
    b.fill(there)
    b.settle(there)
    assert ("checksum" in source_of(there)["http"]) == checked
    message = b.status(there)["disks"][0].get("message", "")
    assert ("checksum was not verified" in message) != checked


# Why there is no disk yet


def datastore(**spec: Any) -> Callable[[World], None]:
    return lambda there: there.change(api.Datastore, Key("", "gold"), spec=spec)


def deleted(kind: type[Any], key: Key) -> Callable[[World], None]:
    def delete(there: World) -> None:
        meta = there.tree(kind, key)["metadata"]
        there.change(kind, key, metadata={**meta, "deletionTimestamp": "2026-01-01T00:00:00Z"})

    return delete


def missing(kind: type[Any], key: Key) -> Callable[[World], None]:
    return lambda there: there.remove(kind, key)


def unavailable(kind: type[Any]) -> Callable[[World], None]:
    return lambda there: there.unavailable(kind, f"{kind.__name__} is not installed")


def namesake(**metadata: Any) -> Callable[[World], None]:
    def make(there: World) -> None:
        meta = {"name": DATA.name, "namespace": "shop", **metadata}
        there.put({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta})

    return make


GOLD = Key("", "gold")
REFUSED: list[tuple[str, Tree, Callable[[World], None], str, str]] = [
    ("no such datastore", {}, missing(api.Datastore, GOLD), "DatastoreMissing", "no Datastore gold"),
    ("datastores cannot be read", {}, unavailable(api.Datastore), "DatastoreUnreadable", "not installed"),
    ("namespaces cannot be read", {}, unavailable(Namespace), "NamespaceUnknown", "namespace shop cannot be read"),
    ("datastore goes", {}, deleted(api.Datastore, GOLD), "DatastoreDeleting", "being deleted"),
    (
        "not for this namespace",
        {},
        datastore(allowedNamespaces={"from": "Names", "names": ["lab"]}),
        "NamespaceNotAllowed",
        "does not allow namespace shop",
    ),
    ("maintenance", {}, datastore(maintenance=True), "DatastoreInMaintenance", "in maintenance"),
    ("full", {}, datastore(capacity="9Gi"), "DatastoreFull", "has not the needed 10Gi left of its 9Gi"),
    ("no such claim", {"source": {"pvc": {"name": "x"}}}, lambda _: None, "SourceMissing", "PersistentVolumeClaim x"),
    ("no such snapshot", {"source": {"snapshot": {"name": "x"}}}, lambda _: None, "SourceMissing", "VolumeSnapshot x"),
    ("CDI is missing", {}, unavailable(DataVolume), "Unreadable", "DataVolume is not installed"),
    ("somebody's claim", {}, namesake(), "DiskNotOurs", "left alone"),
    ("another disk's claim", {}, namesake(labels={disks.VM: "web", disks.DISK: "x"}), "DiskNotOurs", "left alone"),
]


@pytest.mark.parametrize(("fields", "cause", "reason", "words"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused(fields: Tree, cause: Callable[[World], None], reason: str, words: str) -> None:
    """Nothing is made, nothing is touched, and the reason is told; the VM waits."""
    there = b.world(b.vm(disks=[b.disk(**fields)]))
    cause(there)
    b.settle(there)
    assert there.log == []
    status, told, message = b.says(there, "StorageReady")
    assert (told, words in message) == (reason, True), message
    assert status == ("Unknown" if reason.endswith(("Unreadable", "Unknown")) else "False")
    assert b.says(there, "Ready")[1] == reason
    assert b.status(there)["disks"][0]["phase"] in ("Pending", "Failed")
    assert (b.says(there, "Stalled")[0] == "True") == (reason == "DiskNotOurs")


def test_source_kind_missing() -> None:
    there = b.world(b.vm(disks=[b.disk(source={"pvc": {"name": "x"}})]))
    there.unavailable(PersistentVolumeClaim, "forbidden")
    b.settle(there)
    assert b.says(there, "StorageReady")[1] == "Unreadable"


def test_snapshots_not_installed() -> None:
    from vdcos.core.foreign.snapshots import VolumeSnapshot

    there = b.world(b.vm(disks=[b.disk(source={"snapshot": {"name": "x"}})]))
    there.unavailable(VolumeSnapshot, "not installed")
    b.settle(there)
    assert b.says(there, "StorageReady")[:2] == ("Unknown", "SourceUnreadable")


def test_the_vm_comes_up_once_the_cause_is_gone() -> None:
    there = b.world(b.vm(disks=[b.disk()]))
    datastore(maintenance=True)(there)
    b.settle(there)
    datastore(maintenance=False)(there)
    b.settle(there)
    assert b.whys(there) == ["create disk data", "create the KubeVirt VM"]


def test_two_disks_of_one_vm_count_against_the_ceiling_together() -> None:
    there = b.world(b.vm(disks=[b.disk("a", "6Gi"), b.disk("b", "6Gi")]))
    datastore(capacity="10Gi")(there)
    b.settle(there)
    assert b.whys(there) == ["create disk a"]
    assert b.says(there, "StorageReady")[2].count("disk b") == 1


def test_many_complaints_are_cut() -> None:
    there = b.world(b.vm(disks=[b.disk(f"d{n}", datastore="none") for n in range(5)]))
    b.settle(there)
    assert b.says(there, "StorageReady")[2].endswith("; and 2 more")
    assert len(b.status(there)["disks"]) == 5


# A disk's life


def volume(**status: Any) -> Callable[[World], None]:
    return lambda there: there.change(DataVolume, DATA, status=status)


def not_bound_yet(there: World) -> None:
    """CDI has said Succeeded, and the claim still waits for its volume."""
    b.fill(there)
    there.change(PersistentVolumeClaim, DATA, status={"phase": "Pending"})


IMAGE: Tree = {"source": {"image": {"reference": "a"}}}
WORDS = {"type": "Running", "status": "False", "reason": "Error", "message": "404"}
LIFE: list[tuple[str, Tree, Callable[[World], None], str, str, str]] = [
    ("just made", {}, volume(), "Provisioning", "Pending", ""),
    (
        "blank ones show no progress",
        {},
        volume(phase="ImportInProgress", progress="30%"),
        "Provisioning",
        "Pending",
        "",
    ),
    ("scheduled", IMAGE, volume(phase="ImportScheduled"), "Provisioning", "Pending", ""),
    ("copying", IMAGE, volume(phase="ImportInProgress", progress="37.5%"), "Importing", "Importing", "30%"),
    (
        "copying, nobody knows how far",
        IMAGE,
        volume(phase="CloneInProgress", progress="N/A"),
        "Importing",
        "Importing",
        "",
    ),
    ("filled, not bound", {}, not_bound_yet, "Provisioning", "Pending", ""),
    ("copied, not bound", IMAGE, not_bound_yet, "Importing", "Importing", "100%"),
    ("failed", IMAGE, volume(phase="Failed"), "ImportFailed", "Failed", ""),
    ("lost", IMAGE, volume(phase="Unknown", conditions=[WORDS]), "ImportFailed", "Failed", ""),
    ("local, made where the VM runs", {}, volume(phase="WaitForFirstConsumer"), "FirstPowerOn", "Pending", ""),
]


@pytest.mark.parametrize(
    ("fields", "happening", "reason", "phase", "progress"), [life[1:] for life in LIFE], ids=[life[0] for life in LIFE]
)
def test_life(fields: Tree, happening: Callable[[World], None], reason: str, phase: str, progress: str) -> None:
    there = b.world(b.vm(disks=[b.disk(**fields)]))
    b.settle(there)
    happening(there)
    b.settle(there)
    told = b.status(there)["disks"][0]
    assert (b.says(there, "StorageReady")[1], told["phase"], told.get("progress", "")) == (reason, phase, progress)
    assert b.says(there, "StorageReady")[0] == "False"


@pytest.mark.parametrize(
    "reason", ["Error", "ErrExceededQuota", "TransferFailed", "CreateContainerConfigError", "ImagePullBackOff"]
)
def test_trouble_of_an_import_is_told_in_cdis_words(reason: str) -> None:
    there = b.world(b.vm(disks=[b.disk(**IMAGE)]))
    b.settle(there)
    volume(phase="ImportInProgress", conditions=[{**WORDS, "reason": reason}])(there)
    b.settle(there)
    assert b.says(there, "StorageReady")[2] == "disk data: 404"


def test_words_on_the_way_are_not_trouble() -> None:
    there = b.world(b.vm(disks=[b.disk()]))
    b.settle(there)
    volume(conditions=[{"type": "Bound", "status": "False", "reason": "Pending", "message": "PVC is Pending"}])(there)
    b.settle(there)
    assert "PVC" not in b.says(there, "StorageReady")[2]


def test_a_vm_that_is_off_is_ready_though_its_disk_waits_for_a_host() -> None:
    there = b.world(b.vm(powerState="PoweredOff", disks=[b.disk()]))
    b.settle(there)
    volume(phase="PendingPopulation")(there)
    b.settle(there)
    assert b.says(there, "StorageReady")[:2] == ("True", "FirstPowerOn")
    assert b.says(there, "Ready")[0] == "True"


# Retained disks


def retained(**fields: Any) -> Tree:
    """A DataVolume of an earlier VM of this name."""
    meta = {
        "name": DATA.name,
        "namespace": "shop",
        "labels": disks.labels("web", "data", "gold"),
        "annotations": {disks.REQUESTED: str(10 * GIB)},
        "creationTimestamp": "2025-01-01T00:00:00Z",
        **fields,
    }
    return {
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "DataVolume",
        "metadata": meta,
        "status": {"phase": "Succeeded"},
    }


def test_a_retained_disk_is_found_again_and_it_is_told() -> None:
    there = b.world(b.vm(disks=[b.disk(**IMAGE)]), retained())
    b.settle(there)
    assert b.whys(there) == ["create the KubeVirt VM"], "it is used as it is"
    told = b.status(there)["disks"][0]
    assert told["reused"] is True
    assert told["message"] == (
        "retained disk of 10Gi from 2025-01-01T00:00:00Z is used again; the declared source (image) was not used"
    )
    assert b.says(there, "StorageReady")[:2] == ("True", "RetainedDisks")


def test_a_retained_disk_needs_no_datastore() -> None:
    there = b.world(b.vm(disks=[b.disk()]), retained())
    missing(api.Datastore, GOLD)(there)
    b.settle(there)
    assert b.says(there, "StorageReady")[0] == "True"


def test_a_retained_disk_without_datavolume() -> None:
    meta = retained()["metadata"]
    there = b.world(b.vm(disks=[b.disk()]))
    there.put({**b.claim({**meta, "uid": "x"}, "10Gi"), "metadata": meta})
    b.settle(there)
    assert b.template(there)["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": DATA.name}}]
    assert b.says(there, "StorageReady")[0] == "True"


@pytest.mark.parametrize(
    ("phase", "reason", "told"), [("Pending", "ClaimPending", "Pending"), ("Lost", "VolumeLost", "Failed")]
)
def test_a_claim_alone_that_is_not_bound(phase: str, reason: str, told: str) -> None:
    meta = retained()["metadata"]
    there = b.world(b.vm(disks=[b.disk()]))
    there.put({**b.claim({**meta, "uid": "x"}, "10Gi"), "metadata": meta, "status": {"phase": phase}})
    b.settle(there)
    assert b.says(there, "StorageReady")[:2] == ("False", reason)
    assert b.status(there)["disks"][0]["phase"] == told


def test_the_way_a_disk_is_referred_to_does_not_change_under_a_vm() -> None:
    """A change would be a reason to restart."""
    there = b.running(b.vm(disks=[b.disk()]))
    meta = there.tree(PersistentVolumeClaim, DATA)["metadata"]
    there.remove(DataVolume, DATA)
    there.change(PersistentVolumeClaim, DATA, metadata={**meta, "ownerReferences": []})
    b.settle(there)
    assert there.log == []
    assert b.template(there)["volumes"][0] == {"name": "data", "dataVolume": {"name": DATA.name}}


def test_less_declared_than_there_is() -> None:
    there = b.world(b.vm(disks=[b.disk("data", "5Gi")]), retained())
    b.settle(there)
    assert b.says(there, "StorageReady")[:2] == ("False", "DiskLarger")
    assert "declare 10Gi" in b.says(there, "StorageReady")[2]
    assert b.whys(there) == ["create the KubeVirt VM"], "it is attached all the same"


def test_a_retained_disk_of_another_datastore() -> None:
    there = b.world(b.vm(disks=[b.disk()]), retained(labels=disks.labels("web", "data", "silver")))
    b.settle(there)
    assert b.says(there, "StorageReady")[:2] == ("False", "DiskElsewhere")
    assert "declare silver" in b.says(there, "StorageReady")[2]
    assert b.whys(there) == ["create the KubeVirt VM"], "it is attached all the same"


@pytest.mark.parametrize(
    "leaving",
    [
        {"deletionTimestamp": "2026-01-01T00:00:00Z"},
        {"ownerReferences": [{"apiVersion": api.API_VERSION, "kind": "VirtualMachine", "name": "web", "uid": "old"}]},
    ],
    ids=["being deleted", "about to be collected with the VM before"],
)
def test_a_disk_that_leaves_is_waited_for(leaving: Tree) -> None:
    there = b.world(b.vm(disks=[b.disk()]), retained(**leaving))
    b.settle(there)
    assert there.log == []
    assert b.says(there, "StorageReady")[:2] == ("False", "DiskTerminating")
    there.remove(DataVolume, DATA)
    b.settle(there)
    assert b.whys(there) == ["create disk data", "create the KubeVirt VM"]


def test_a_disk_that_somebody_deleted_is_not_replaced_by_an_empty_one() -> None:
    there = b.running(b.vm(disks=[b.disk()]))
    there.remove(DataVolume, DATA)
    there.remove(PersistentVolumeClaim, DATA)
    b.settle(there)
    assert there.log == []
    assert b.says(there, "StorageReady")[:2] == ("False", "DiskLost")
    b.edit(there, disks=[])
    b.settle(there)
    b.edit(there, disks=[b.disk()])
    there.log.clear()
    b.settle(there)
    assert "create disk data" in b.whys(there)


def marked_for_deletion(there: World) -> None:
    """kubectl delete dv: the claim stays for as long as a pod uses it."""
    for kind in (DataVolume, PersistentVolumeClaim):
        there.change(kind, DATA, metadata={"deletionTimestamp": "2026-01-02T00:00:00Z"})


PASSING: list[tuple[str, Callable[[World], None], str]] = [
    ("it is being deleted", marked_for_deletion, "DiskTerminating"),
    ("it failed", lambda there: there.change(DataVolume, DATA, status={"phase": "Failed"}), "ImportFailed"),
]


@pytest.mark.parametrize(("meanwhile", "reason"), [p[1:] for p in PASSING], ids=[p[0] for p in PASSING])
def test_a_disk_that_is_lost_step_by_step_is_not_replaced_either(
    meanwhile: Callable[[World], None], reason: str
) -> None:
    there = b.running(b.vm(disks=[b.disk()]))
    meanwhile(there)
    b.settle(there)
    assert b.says(there, "StorageReady")[1] == reason
    there.remove(DataVolume, DATA)
    there.remove(PersistentVolumeClaim, DATA)
    b.settle(there)
    b.settle(there)
    assert b.says(there, "StorageReady")[:2] == ("False", "DiskLost")
    assert "create disk data" not in b.whys(there)


# Whose disk it is


def owners(there: World) -> list[str]:
    return [ref["uid"] for ref in there.tree(DataVolume, DATA)["metadata"].get("ownerReferences", [])]


def test_delete_needs_reference_and_spec() -> None:
    there = b.running(b.vm(disks=[b.disk(deletionPolicy="Delete")]))
    uid = there.tree(b.VM, b.KEY)["metadata"]["uid"]
    assert owners(there) == [uid]
    b.edit(there, disks=[b.disk()])
    b.settle(there)
    assert owners(there) == [], "the spec says Retain now"
    b.edit(there, disks=[b.disk(deletionPolicy="Delete")])
    b.settle(there)
    assert owners(there) == [uid]


@pytest.mark.parametrize(("policy", "left"), [("Retain", []), ("Delete", ["delete"])])
def test_retain_is_honoured_while_the_vm_is_being_deleted(policy: str, left: list[str]) -> None:
    there = b.running(b.vm(disks=[b.disk(deletionPolicy="Delete")]))
    b.edit(there, disks=[b.disk(deletionPolicy=policy)])
    there.change(b.VM, b.KEY, metadata={"deletionTimestamp": "2026-02-01T00:00:00Z"})
    for action in there.plan(b.SERVICE, b.KEY).actions:
        there.carry_out(action)
    assert len(owners(there)) == len(left)
    assert there.plan(b.SERVICE, b.KEY).actions == ()


def meanwhile(there: World, kind: type[Any], **metadata: Any) -> None:
    """What is planned is carried out after somebody else wrote."""
    plan = there.plan(b.SERVICE, b.KEY)
    there.change(kind, DATA, metadata=metadata)
    [action] = plan.actions
    with pytest.raises(Conflict):
        there.carry_out(action)


def test_an_owner_that_somebody_added_meanwhile_stays() -> None:
    there = b.running(b.vm(disks=[b.disk()]))
    b.edit(there, disks=[b.disk(deletionPolicy="Delete")])
    other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "keep", "uid": "z"}
    meanwhile(there, DataVolume, ownerReferences=[other])
    assert owners(there) == ["z"]


def test_annotations_that_somebody_added_meanwhile_stay() -> None:
    there = b.running(b.vm(disks=[b.disk()]))
    there.change(PersistentVolumeClaim, DATA, metadata={"annotations": None})
    b.edit(there, disks=[b.disk("data", "20Gi")])
    meanwhile(there, PersistentVolumeClaim, annotations={"a": "b"})
    assert there.tree(PersistentVolumeClaim, DATA)["metadata"]["annotations"] == {"a": "b"}


def test_growth_waits_for_a_datastore_that_is_gone() -> None:
    there = b.running(b.vm(disks=[b.disk()]))
    there.remove(api.Datastore, Key("", "gold"))
    b.edit(there, disks=[b.disk("data", "20Gi")])
    b.settle(there)
    assert there.log == []
    assert b.says(there, "StorageReady")[:2] == ("False", "DatastoreMissing")


def test_a_disk_taken_out_of_the_spec_is_retained() -> None:
    there = b.running(b.vm(disks=[b.disk(deletionPolicy="Delete")]))
    b.edit(there, disks=[])
    b.settle(there)
    assert owners(there) == []
    assert there.has(DataVolume, DATA)
    assert "disk data is to be retained" in b.whys(there)


def test_a_claim_without_datavolume_is_handed_over_itself() -> None:
    meta = retained()["metadata"]
    there = b.world(b.vm(disks=[b.disk(deletionPolicy="Delete")]))
    there.put({**b.claim({**meta, "uid": "x"}, "10Gi"), "metadata": {**meta, "ownerReferences": [FOREIGN]}})
    b.settle(there)
    uid = there.tree(b.VM, b.KEY)["metadata"]["uid"]
    assert [ref["uid"] for ref in there.tree(PersistentVolumeClaim, DATA)["metadata"]["ownerReferences"]] == ["x", uid]
    b.edit(there, disks=[])
    b.settle(there)
    assert [ref["uid"] for ref in there.tree(PersistentVolumeClaim, DATA)["metadata"]["ownerReferences"]] == ["x"]


def test_a_claim_that_was_handed_over_is_released_although_its_datavolume_is_back() -> None:
    there = b.running(b.vm(disks=[b.disk(deletionPolicy="Delete")]))
    volume = there.tree(DataVolume, DATA)
    there.remove(DataVolume, DATA)
    there.change(PersistentVolumeClaim, DATA, metadata={"ownerReferences": None})
    b.settle(there)
    assert there.tree(PersistentVolumeClaim, DATA)["metadata"]["ownerReferences"]
    volume["metadata"].pop("ownerReferences")
    there.put(volume)
    b.edit(there, disks=[b.disk()])
    b.settle(there)
    assert not there.tree(PersistentVolumeClaim, DATA)["metadata"].get("ownerReferences"), "the spec says Retain now"


FOREIGN: Tree = {"apiVersion": "example.org/v1", "kind": "Backup", "name": "x", "uid": "x"}


def test_a_disk_that_is_being_deleted_is_not_released() -> None:
    there = b.running(b.vm(disks=[b.disk(deletionPolicy="Delete")]))
    deleted(DataVolume, DATA)(there)
    b.edit(there, disks=[])
    b.settle(there)
    assert "disk data is to be retained" not in b.whys(there)


# Growth


def request(there: World) -> str:
    return str(there.tree(PersistentVolumeClaim, DATA)["spec"]["resources"]["requests"]["storage"])


@pytest.mark.parametrize(
    ("reason", "overhead", "size", "want"),
    [
        ("a block device", 1.0, "20Gi", "20Gi"),
        ("a filesystem takes its share", 1.06, "20Gi", str(int(20 * GIB * 1.06) + 1)),
        ("expanded by hand before", 2.0, "15Gi", "20Gi"),
        ("expanded by hand, and more is declared", 2.0, "30Gi", "30Gi"),
    ],
)
def test_growth(reason: str, overhead: float, size: str, want: str) -> None:
    there = b.world(b.vm(disks=[b.disk()]))
    b.settle(there)
    b.fill(there, overhead)
    b.settle(there)
    there.log.clear()
    b.edit(there, disks=[b.disk("data", size)])
    b.settle(there)
    assert b.whys(there) == [f"grow disk data to {size}"]
    got = int(disks.claimed(there.view(b.SERVICE).get(PersistentVolumeClaim, DATA)))  # type: ignore[arg-type]
    wanted = quantity.whole(want)
    assert abs(got - wanted) <= 1, (reason, request(there))
    there.log.clear()
    b.settle(there)
    assert there.log == [], "grown once"


def test_growth_is_told_until_it_is_there() -> None:
    there = b.running(b.vm(disks=[b.disk()]))
    b.edit(there, disks=[b.disk("data", "20Gi")])
    b.settle(there)
    assert b.says(there, "StorageReady")[:2] == ("False", "Expanding")
    assert b.status(there)["disks"][0] == {
        "name": "data",
        "phase": "Expanding",
        "reason": "Expanding",
        "claimName": DATA.name,
        "size": "20Gi",
        "message": "the disk grows to 20Gi",
        "made": True,
    }
    trouble = [{"type": "ControllerResizeError", "status": "True", "message": "pool is full"}]
    there.change(PersistentVolumeClaim, DATA, status={"conditions": trouble})
    b.settle(there)
    assert b.says(there, "StorageReady")[2].endswith(": pool is full")
    there.change(PersistentVolumeClaim, DATA, status={"capacity": {"storage": "20Gi"}, "conditions": []})
    b.settle(there)
    assert b.says(there, "StorageReady")[0] == "True"
    assert b.says(there, "RestartRequired")[0] == "False", "gate ExpandDisks is on"


def test_the_rest_of_a_filesystems_growth_waits_for_the_next_start_of_a_vm_that_is_off() -> None:
    there = b.running(b.vm(disks=[b.disk()]))
    b.edit(there, disks=[b.disk("data", "20Gi")])
    b.settle(there)
    pending = [{"type": "FileSystemResizePending", "status": "True"}]
    there.change(PersistentVolumeClaim, DATA, status={"conditions": pending})
    b.settle(there)
    assert b.says(there, "StorageReady")[1] == "Expanding", "it runs"
    there.remove(VirtualMachineInstance, b.KEY)
    b.notice(there)
    b.edit(there, powerState="PoweredOff")
    b.settle(there)
    assert b.says(there, "StorageReady")[0] == "True"


NO_GATES = {**b.KUBEVIRT, "spec": {}}


def test_growth_that_the_guest_does_not_see_needs_a_restart() -> None:
    there = b.running(b.vm(disks=[b.disk()]), kubevirt_cr=NO_GATES)
    b.edit(there, disks=[b.disk("data", "20Gi")])
    b.settle(there)
    there.change(PersistentVolumeClaim, DATA, status={"capacity": {"storage": "20Gi"}})
    b.settle(there)
    status, _, message = b.says(there, "RestartRequired")
    assert (status, "spec.disks[data].size" in message) == ("True", True)
    assert b.status(there)["restartRequired"] is True
    there.remove(VirtualMachineInstance, b.KEY)
    b.start(there)
    b.settle(there)
    assert b.says(there, "RestartRequired")[0] == "False", "the new instance sees it"


def test_growth_while_off_needs_no_restart() -> None:
    there = b.running(b.vm(disks=[b.disk()]), kubevirt_cr=NO_GATES)
    there.remove(VirtualMachineInstance, b.KEY)
    b.notice(there)
    b.edit(there, powerState="PoweredOff", disks=[b.disk("data", "20Gi")])
    b.settle(there)
    assert disks.GROWN_UNDER not in there.tree(PersistentVolumeClaim, DATA)["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (datastore(capacity="15Gi"), "DatastoreFull"),
        (lambda there: there.put(b.storage_class(expands=False)), "ExpansionUnsupported"),
    ],
)
def test_growth_refused(cause: Callable[[World], Any], reason: str) -> None:
    there = b.running(b.vm(disks=[b.disk()]))
    cause(there)
    b.edit(there, disks=[b.disk("data", "20Gi")])
    b.settle(there)
    assert there.log == []
    assert b.says(there, "StorageReady")[:2] == ("False", reason)
    assert b.status(there)["disks"][0]["size"] == "10Gi"
    assert b.says(there, "Applied")[0] == "True", "the VM goes on"


def test_growth_in_maintenance_is_allowed() -> None:
    there = b.running(b.vm(disks=[b.disk()]))
    datastore(maintenance=True)(there)
    b.edit(there, disks=[b.disk("data", "20Gi")])
    b.settle(there)
    assert b.whys(there) == ["grow disk data to 20Gi"]


def test_growth_is_counted_at_once_and_against_the_ceiling() -> None:
    there = b.running(b.vm(disks=[b.disk()]))
    datastore(capacity="20Gi")(there)
    b.edit(there, disks=[b.disk("data", "20Gi")])
    b.settle(there)
    view = there.view(b.SERVICE)
    assert disks.provisioned(view, "gold") == 20 * GIB
    patch = there.log[0]
    assert isinstance(patch, Patch)
    assumed = patch.assumed
    assert isinstance(assumed, PersistentVolumeClaim)
    assert disks.claimed(assumed) == 20 * GIB
    assert disks.grown_to(assumed.metadata) == 20 * GIB


def test_growth_waits_for_the_import() -> None:
    there = b.world(b.vm(disks=[b.disk(**IMAGE)]))
    b.settle(there)
    b.fill(there)
    volume(phase="ImportInProgress")(there)
    b.edit(there, disks=[b.disk("data", "20Gi", **IMAGE)])
    there.log.clear()
    b.settle(there)
    assert there.log == []


def test_claims_that_say_nothing_count_nothing() -> None:
    there = b.running(b.vm(disks=[b.disk()]))
    there.change(PersistentVolumeClaim, DATA, spec={"resources": {"requests": {"storage": "odd"}}})
    assert disks.provisioned(there.view(b.SERVICE), "gold") == 10 * GIB
    there.change(PersistentVolumeClaim, DATA, status={"capacity": {"storage": "odd"}})
    b.settle(there)
    assert b.says(there, "StorageReady")[0] == "True"


def test_a_claim_without_annotations_can_grow() -> None:
    meta = {"name": DATA.name, "namespace": "shop", "labels": disks.labels("web", "data", "gold")}
    there = b.world(b.vm(disks=[b.disk()]))
    there.put({**b.claim({**meta, "uid": "x"}, "5Gi"), "metadata": meta})
    b.settle(there)
    assert request(there) == "10Gi"
    assert there.tree(PersistentVolumeClaim, DATA)["metadata"]["annotations"] == {disks.SIZE: str(10 * GIB)}


def test_nothing_is_ever_deleted() -> None:
    there = b.running(b.vm(disks=[b.disk(deletionPolicy="Delete")]))
    deleted(api.VirtualMachine, b.KEY)(there)
    assert b.SERVICE.name == "virtualmachine"
    plan = there.plan(b.SERVICE, b.KEY)
    assert plan.actions == ()
    assert not any(isinstance(action, Delete) for action in there.log)
    assert all(isinstance(action, Create) for action in there.log)
