"""A Datastore: what its storage can do, what it holds for whom, and when it takes no more."""

from collections.abc import Sequence
from typing import Any

import pytest

from vdcos import api
from vdcos.api.datastore import DatastoreSpec
from vdcos.core import disks, finalizers
from vdcos.core.conditions import Condition
from vdcos.core.foreign.cdi import ClaimPropertySet, DataVolume, StorageProfile
from vdcos.core.foreign.kubernetes import PersistentVolumeClaim, StorageClass
from vdcos.core.foreign.snapshots import VolumeSnapshotClass
from vdcos.core.objects import Key
from vdcos.core.plan import Instant, Plan
from vdcos.services.datastore import DatastoreService
from vdcos.services.datastore.service import claim_properties, rounded
from vdcos.testing import builders
from vdcos.testing.world import World

GOLD = Key("", "gold")
SERVICE = DatastoreService()
CLASS = builders.storage_class("block")
PROFILE = builders.storage_profile("block", ("Block", ["ReadWriteMany", "ReadWriteOnce"]), clone="snapshot")


def world(*manifests: Any, **spec: Any) -> World:
    """A Datastore on storage that CDI knows; ``manifests`` may be tuples of them (disks)."""
    flat: list[dict[str, Any]] = []
    for manifest in manifests:
        flat += manifest if isinstance(manifest, tuple) else [manifest]
    return World(builders.datastore("gold", **spec), CLASS, PROFILE, *flat)


def said(plan: Plan) -> dict[str, Condition]:
    return {c.type: c for c in plan.conditions}


def settle(given: World) -> dict[str, Condition]:
    return said(given.settle(SERVICE, GOLD))


def status(given: World) -> dict[str, Any]:
    held: dict[str, Any] = given.tree(api.Datastore, GOLD)["status"]
    return held


def later(given: World, seconds: float) -> None:
    given.now = Instant(given.now.wall + seconds, given.now.mono + seconds)


RWX, RWO, POD = "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"
MODES: list[tuple[str, dict[str, str], Sequence[tuple[str, tuple[str, ...]]], tuple[str, str]]] = [
    ("nobody says", {}, [], ("", "")),
    ("the profile says", {}, [("Block", (RWX, RWO))], ("Block", RWX)),
    ("the best of a set", {}, [("Filesystem", (RWO, RWX))], ("Filesystem", RWX)),
    ("no better than it is", {}, [("Filesystem", (POD, RWO))], ("Filesystem", POD)),
    ("the first set counts", {}, [("Filesystem", (RWO,)), ("Block", (RWX,))], ("Filesystem", RWO)),
    ("even if it is empty", {}, [("Filesystem", ()), ("Block", (RWX,))], ("", "")),
    ("declared mode chooses", {"volumeMode": "Block"}, [("Filesystem", (RWX,)), ("Block", (RWO,))], ("Block", RWO)),
    ("declared mode nobody offers", {"volumeMode": "Block"}, [("Filesystem", (RWX,))], ("Block", "")),
    ("declared access chooses", {"accessMode": RWO}, [("Block", (RWX,)), ("Filesystem", (RWO,))], ("Filesystem", RWO)),
    ("declared access nobody offers", {"accessMode": RWO}, [("Block", (RWX,))], ("Filesystem", RWO)),
    ("both declared", {"volumeMode": "Block", "accessMode": RWO}, [("Filesystem", (RWX,))], ("Block", RWO)),
]


@pytest.mark.parametrize("reason, spec, sets, want", MODES, ids=[case[0] for case in MODES])
def test_how_a_disk_is_claimed(
    reason: str, spec: dict[str, str], sets: Sequence[tuple[str, tuple[str, ...]]], want: tuple[str, str]
) -> None:
    parsed = DatastoreSpec.model_validate({"storageClassName": "block", **spec})
    assert claim_properties(parsed, [ClaimPropertySet(access, mode) for mode, access in sets]) == want


def test_capabilities_are_found() -> None:
    there = world(builders.snapshot_class("snap"))
    assert settle(there)["StorageClassReady"].status == "True"
    assert status(there)["capabilities"] == {
        "snapshots": True,
        "clones": "CopyOnWrite",
        "expansion": True,
        "liveMigration": True,
        "volumeMode": "Block",
        "accessMode": "ReadWriteMany",
    }


CAPABILITIES: list[tuple[str, list[dict[str, Any]], dict[str, Any]]] = [
    ("another driver's snapshots are no matter", [builders.snapshot_class("s", "other")], {"snapshots": False}),
    ("without snapshots CDI copies", [], {"clones": "Copy"}),
    ("the driver clones", [builders.storage_profile("block", ("Block", [RWX]), clone="csi-clone")], {"clones": "Csi"}),
    ("bytes are copied", [builders.storage_profile("block", ("Block", [RWX]), clone="copy")], {"clones": "Copy"}),
    ("nobody said yet", [builders.storage_profile("block", ("Block", [RWX]))], {"clones": None}),
    ("fixed size", [builders.storage_class("block", expansion=False)], {"expansion": False}),
    (
        "one host at a time",
        [builders.storage_profile("block", ("Filesystem", [RWO]))],
        {"liveMigration": False, "accessMode": RWO, "volumeMode": "Filesystem"},
    ),
]


@pytest.mark.parametrize("reason, manifests, want", CAPABILITIES, ids=[case[0] for case in CAPABILITIES])
def test_capabilities(reason: str, manifests: list[dict[str, Any]], want: dict[str, Any]) -> None:
    there = world()
    for manifest in manifests:
        there.put(manifest)
    settle(there)
    found = status(there)["capabilities"]
    assert {name: found.get(name) for name in want} == want


READY: list[tuple[str, dict[str, Any], list[dict[str, Any]], str, tuple[str, str]]] = [
    ("declared", {"volumeMode": "Block", "accessMode": RWO}, [CLASS], "ModesKnown", ("True", "Declared")),
    ("profiled", {}, [CLASS, PROFILE], "ModesKnown", ("True", "Profiled")),
    ("no profile", {}, [CLASS], "ModesKnown", ("False", "ProfileIncomplete")),
    (
        "empty profile",
        {},
        [CLASS, builders.storage_profile("block")],
        "ModesKnown",
        ("False", "ProfileIncomplete"),
    ),
    (
        "a mode that is not offered",
        {"volumeMode": "Filesystem"},
        [CLASS, PROFILE],
        "ModesKnown",
        ("False", "ModesNotOffered"),
    ),
    ("no storage class", {}, [PROFILE], "StorageClassReady", ("False", "StorageClassMissing")),
    ("all there", {}, [CLASS, PROFILE], "StorageClassReady", ("True", "Found")),
]


@pytest.mark.parametrize("reason, spec, manifests, condition, want", READY, ids=[case[0] for case in READY])
def test_what_is_missing(
    reason: str, spec: dict[str, Any], manifests: list[dict[str, Any]], condition: str, want: tuple[str, str]
) -> None:
    there = World(builders.datastore("gold", **spec), *manifests)
    found = settle(there)[condition]
    assert (found.status, found.reason) == want
    assert ("capabilities" in status(there)) == (CLASS in manifests)


def test_a_storage_class_that_comes_later() -> None:
    there = World(builders.datastore("gold"))
    assert settle(there)["StorageClassReady"].message.startswith("There is no StorageClass block: create it")
    there.put(CLASS)
    there.put(PROFILE)
    settle(there)
    assert status(there)["conditions"][0]["status"] == "True"


def test_what_cannot_be_read() -> None:
    there = world()
    there.unavailable(StorageProfile, "the API cdi.kubevirt.io/v1beta1 is not installed")
    there.unavailable(StorageClass, "it is forbidden")
    found = settle(there)
    assert (found["ModesKnown"].status, found["ModesKnown"].reason) == ("False", "CdiMissing")
    assert (found["StorageClassReady"].status, found["StorageClassReady"].reason) == ("Unknown", "CannotSee")


def test_accounts() -> None:
    there = world(
        builders.machine("a/web", stores={"root": "gold", "data": "gold"}),
        builders.machine("b/db", stores={"root": "silver"}),
        builders.disk("a", "web", "root", "gold", "10Gi"),
        builders.disk("a", "web", "data", "gold", "1Gi", claim="3Gi"),
        builders.disk("b", "old", "root", "gold", "5Gi"),
        builders.disk("b", "db", "root", "silver", "7Gi"),
        builders.disk("c", "web", "root", "gold", "1Gi")[:1],
    )
    settle(there)
    held = status(there)
    assert (held["provisioned"], held["disks"]) == ("19Gi", 4)
    assert held["tenants"] == {"count": 3, "names": ["a", "b", "c"]}
    retained = [f"b/{disks.name('old', 'root')}", f"c/{disks.name('web', 'root')}"]
    assert held["retained"] == {"count": 2, "names": retained}


def test_a_disk_that_its_vm_no_longer_declares_is_retained() -> None:
    there = world(builders.machine("a/web", stores={"root": "gold"}), builders.disk("a", "web", "data", "gold"))
    settle(there)
    assert status(there)["retained"]["count"] == 1


def test_a_claim_without_its_data_volume_is_a_disk_too() -> None:
    there = world(builders.disk("a", "web", "root", "gold", claim="1Gi")[1])
    settle(there)
    assert status(there)["disks"] == 1


def test_a_malformed_vm_disturbs_nobody() -> None:
    there = world(
        {**builders.machine("a/bad"), "spec": {"disks": 7}},
        builders.disk("a", "bad", "root", "gold"),
    )
    settle(there)
    assert status(there)["retained"]["count"] == 1


def test_only_the_first_ten_are_named() -> None:
    there = world(*(builders.disk("a", f"vm{n:02}", "root", "gold") for n in range(12)))
    settle(there)
    assert status(there)["retained"]["count"] == 12
    assert len(status(there)["retained"]["names"]) == 10


ACCEPTS: list[tuple[str, dict[str, Any], tuple[str, str]]] = [
    ("no ceiling", {}, ("True", "Unlimited")),
    ("below the ceiling", {"capacity": "11Gi"}, ("True", "BelowCeiling")),
    ("at the ceiling", {"capacity": "10Gi"}, ("False", "Full")),
    ("a ceiling that was lowered", {"capacity": "1Gi"}, ("False", "Full")),
    ("maintenance", {"capacity": "11Gi", "maintenance": True}, ("False", "Maintenance")),
]


@pytest.mark.parametrize("reason, spec, want", ACCEPTS, ids=[case[0] for case in ACCEPTS])
def test_whether_it_takes_disks(reason: str, spec: dict[str, Any], want: tuple[str, str]) -> None:
    there = world(builders.disk("a", "web", "root", "gold", "10Gi"), **spec)
    found = settle(there)["AcceptsDisks"]
    assert (found.status, found.reason) == want
    assert status(there)["conditions"][0]["status"] == "True", "full or in maintenance, it is what was declared"


def going(given: World) -> None:
    held = given.tree(api.Datastore, GOLD)
    held["metadata"]["deletionTimestamp"] = "2026-02-01T00:00:00Z"
    given.put(held)


def test_deletion_waits_for_disks_and_names_them() -> None:
    there = world(builders.disk("a", "web", "root", "gold"))
    settle(there)
    assert there.tree(api.Datastore, GOLD)["metadata"]["finalizers"] == [finalizers.IN_USE]
    going(there)
    found = settle(there)
    assert found["AcceptsDisks"].reason == "Deleting"
    assert (found["Deleting"].status, found["Deleting"].reason) == ("True", "InUse")
    assert f"Waits for 1 disk: a/{disks.name('web', 'root')}. Delete their VMs" in found["Deleting"].message
    there.remove(DataVolume, Key("a", disks.name("web", "root")))
    assert settle(there)["Deleting"].reason == "Released"
    assert not there.has(api.Datastore, GOLD)


def test_an_empty_datastore_goes_at_once() -> None:
    there = world()
    settle(there)
    assert "finalizers" not in there.tree(api.Datastore, GOLD)["metadata"]


@pytest.mark.parametrize("kind", [DataVolume, PersistentVolumeClaim, api.VirtualMachine])
def test_it_is_not_let_go_while_its_disks_cannot_be_seen(kind: type[Any]) -> None:
    there = world(builders.disk("a", "web", "root", "gold"))
    settle(there)
    there.remove(DataVolume, Key("a", disks.name("web", "root")))
    going(there)
    there.unavailable(kind, "it is forbidden")
    plan = there.plan(SERVICE, GOLD)
    assert plan.actions == ()
    assert said(plan)["Deleting"].message == "Waits until it is known which disks there are: it is forbidden."


def test_counts_are_written_at_most_every_five_seconds_and_not_at_rest() -> None:
    there = world(builders.disk("a", "web", "root", "gold", "1Gi"))
    settle(there)
    before = there.tree(api.Datastore, GOLD)
    later(there, 3600)
    settle(there)
    assert there.tree(api.Datastore, GOLD) == before, "nothing changed, nothing is written"
    for manifest in builders.disk("a", "web", "data", "gold", "2Gi"):
        there.put(manifest)
    settle(there)
    assert status(there)["provisioned"] == "3Gi"
    for manifest in builders.disk("a", "web", "more", "gold", "2Gi"):
        there.put(manifest)
    later(there, 1)
    assert there.settle(SERVICE, GOLD).after == pytest.approx(4)
    assert status(there)["provisioned"] == "3Gi"
    later(there, 4)
    assert there.settle(SERVICE, GOLD).after is None
    assert status(there)["provisioned"] == "5Gi"


def wakes(given: World, kind: type[Any], key: Key) -> set[str]:
    watches = [watch for watch in SERVICE.watches if watch.kind is kind]
    return {found.name for watch in watches for found in watch.keys(given.held(kind, key), given.view(SERVICE))}


def test_who_is_woken() -> None:
    there = world(
        builders.datastore("other", "nfs"),
        {**builders.datastore("bad"), "spec": {}},
        builders.machine("a/web", stores={"root": "gold", "data": "silver"}),
        builders.disk("a", "web", "root", "gold", claim="1Gi"),
        builders.snapshot_class("snap"),
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "x", "namespace": "a"}},
    )
    disk = Key("a", disks.name("web", "root"))
    assert wakes(there, StorageClass, Key("", "block")) == {"gold"}
    assert wakes(there, StorageProfile, Key("", "block")) == {"gold"}
    assert wakes(there, VolumeSnapshotClass, Key("", "snap")) == {"gold", "other", "bad"}
    assert wakes(there, DataVolume, disk) == {"gold"}
    assert wakes(there, PersistentVolumeClaim, disk) == {"gold"}
    assert wakes(there, PersistentVolumeClaim, Key("a", "x")) == set()
    assert wakes(there, api.VirtualMachine, Key("a", "web")) == {"gold", "silver"}


def test_only_what_matters_of_a_change_wakes_anybody() -> None:
    there = world(builders.disk("a", "web", "root", "gold", claim="1Gi"))
    disk = Key("a", disks.name("web", "root"))
    sees = {watch.kind: watch.sees for watch in SERVICE.watches}
    of_volume, of_claim = sees[DataVolume], sees[PersistentVolumeClaim]
    assert of_volume is not None
    assert of_claim is not None
    volume, claim = of_volume(there.held(DataVolume, disk)), of_claim(there.held(PersistentVolumeClaim, disk))
    there.change(DataVolume, disk, status={"phase": "ImportInProgress", "progress": "7%"})
    there.change(PersistentVolumeClaim, disk, status={"phase": "Bound"})
    assert of_volume(there.held(DataVolume, disk)) == volume
    assert of_claim(there.held(PersistentVolumeClaim, disk)) == claim
    there.change(PersistentVolumeClaim, disk, spec={"resources": {"requests": {"storage": "2Gi"}}})
    assert of_claim(there.held(PersistentVolumeClaim, disk)) != claim


def test_the_first_and_the_last_disk_are_seen_at_once_and_the_others_counted_in_time() -> None:
    there = world(builders.disk("a", "web", "root", "gold"))
    urgent = [watch for watch in SERVICE.watches if watch.kind is DataVolume and not watch.patience]
    first = there.held(DataVolume, Key("a", disks.name("web", "root")))
    assert [list(watch.keys(first, there.view(SERVICE))) for watch in urgent] == [[GOLD]]
    there.put(builders.disk("a", "web", "data", "gold")[0])
    assert [list(watch.keys(first, there.view(SERVICE))) for watch in urgent] == [[]]


def test_what_cdi_uses_while_it_makes_a_disk_is_not_counted() -> None:
    """CDI copies our labels to its own passing claims (prime-..., scratch space)."""
    volume, claim = builders.disk("a", "web", "root", "gold", "1Gi", claim="1Gi")
    prime = {**claim, "metadata": {**claim["metadata"], "name": "prime-1b2c"}}
    there = world((volume, claim, prime))
    settle(there)
    assert (status(there)["provisioned"], status(there)["disks"]) == ("1Gi", 1)


@pytest.mark.parametrize(
    "size, want",
    [
        (0, "0"),
        (1 << 30, "1Gi"),
        (331 << 30, "331Gi"),
        (2 << 40, "2Ti"),
        (193_488_276_685, "180.3Gi"),
        (1 << 20, "0.1Gi"),
    ],
)
def test_provisioned_is_written_for_people(size: int, want: str) -> None:
    assert rounded(size) == want


@pytest.mark.parametrize("kind", (DataVolume, PersistentVolumeClaim, api.VirtualMachine))
def test_counts_stand_while_disks_cannot_be_seen(kind: type[Any]) -> None:
    there = world(builders.disk("a", "web", "root", "gold", "10Gi"), capacity="1Ti")
    settle(there)
    before = status(there)
    assert (before["provisioned"], before["disks"]) == ("10Gi", 1)
    there.unavailable(kind, "the API is not installed")
    there.remove(DataVolume, disks.key("a", "web", "root"))
    later(there, 60)
    accepts = settle(there)["AcceptsDisks"]
    assert (accepts.status, accepts.reason) == ("Unknown", "CannotCount")
    assert "the API is not installed" in accepts.message
    counts = ("provisioned", "disks", "tenants", "retained", "countedAt")
    assert {field: status(there).get(field) for field in counts} == {field: before.get(field) for field in counts}
