"""The declarations: who looks again when something changes, what is read and written, and what a look costs."""

import copy
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import pytest

from tests.unit.services.virtualmachine import builders as b
from vdcos import api
from vdcos.core import disks
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.cdi import Cdi, DataVolume
from vdcos.core.foreign.kubernetes import (
    NODE_LEASES,
    FailedMount,
    GuestPanic,
    InvolvedObject,
    Lease,
    Namespace,
    PersistentVolumeClaim,
    StorageClass,
)
from vdcos.core.foreign.kubevirt import KubeVirt, VirtualMachineInstance
from vdcos.core.foreign.multus import NetworkAttachmentDefinition
from vdcos.core.foreign.snapshots import VolumeSnapshot
from vdcos.core.objects import Key, Meta, Object, Own
from vdcos.core.plan import Apply, Create, Delete, Patch
from vdcos.core.snapshot import UndeclaredRead
from vdcos.providers.failover import room
from vdcos.services.virtualmachine import observe
from vdcos.testing.world import World

MACHINE = b.vm(
    disks=[
        b.disk("data"),
        b.disk("copy", source={"pvc": {"name": "golden"}}),
        b.disk("snap", source={"snapshot": {"name": "golden"}}),
    ],
    nics=[{"name": "a", "network": "lan"}],
    preference={"name": "small"},
)
OTHER = b.vm("other")
WEB, BOTH = {b.KEY}, {b.KEY, Key("shop", "other")}


def woken(there: World, kind: type[Any], held: Any) -> set[Key]:
    watch = next(watch for watch in b.SERVICE.watches if watch.kind is kind)
    return set(watch.keys(held, there.view(b.SERVICE)))


def meta(name: str, namespace: str = "", **fields: Any) -> Meta:
    return Meta(name=name, namespace=namespace, **fields)


FAILURE = b'{"spec":{"host":"host-1"},"status":{"machines":[{"namespace":"shop","name":"web","state":"Held"}]}}'
DATA = disks.key("shop", "web", "data")
GUEST = InvolvedObject(uid="guest", name="web")
DISK_LABELS = disks.labels("web", "data", "gold")
WAKES: list[tuple[str, type[Any], Any, set[Key]]] = [
    ("its child", kubevirt.VirtualMachine, kubevirt.VirtualMachine(metadata=meta("web", "shop")), WEB),
    ("its instance", VirtualMachineInstance, VirtualMachineInstance(metadata=meta("web", "shop")), WEB),
    (
        "its disk",
        DataVolume,
        DataVolume(metadata=meta(disks.name("web", "data"), "shop", labels=DISK_LABELS)),
        WEB,
    ),
    (
        "a passing claim with its disk's labels",
        PersistentVolumeClaim,
        PersistentVolumeClaim(metadata=meta("prime-1", "shop", labels=DISK_LABELS)),
        set(),
    ),
    ("somebody's volume", DataVolume, DataVolume(metadata=meta("x", "shop")), set()),
    (
        "a namesake of its claim",
        PersistentVolumeClaim,
        PersistentVolumeClaim(metadata=meta(disks.name("web", "data"), "shop")),
        WEB,
    ),
    ("its source", PersistentVolumeClaim, PersistentVolumeClaim(metadata=meta("golden", "shop")), WEB),
    ("a namesake elsewhere", PersistentVolumeClaim, PersistentVolumeClaim(metadata=meta("golden", "lab")), set()),
    ("its snapshot", VolumeSnapshot, VolumeSnapshot(metadata=meta("golden", "shop")), WEB),
    ("its datastore", api.Datastore, Own(metadata=meta("gold"), raw=b""), WEB),
    ("another datastore", api.Datastore, Own(metadata=meta("silver"), raw=b""), set()),
    ("its network", api.Network, Own(metadata=meta("lan"), raw=b""), WEB),
    (
        "its network's definition",
        NetworkAttachmentDefinition,
        NetworkAttachmentDefinition(metadata=meta("lan", "shop")),
        WEB,
    ),
    (
        "a definition elsewhere",
        NetworkAttachmentDefinition,
        NetworkAttachmentDefinition(metadata=meta("lan", "lab")),
        set(),
    ),
    ("its namespace", Namespace, Namespace(metadata=meta("shop")), BOTH),
    ("another namespace", Namespace, Namespace(metadata=meta("lab")), set()),
    ("its preference", kubevirt.ClusterPreference, kubevirt.ClusterPreference(metadata=meta("small")), WEB),
    ("a preference of the namespace", kubevirt.Preference, kubevirt.Preference(metadata=meta("small", "shop")), set()),
    ("KubeVirt's configuration", KubeVirt, KubeVirt(metadata=meta("kubevirt", "kubevirt")), BOTH),
    ("CDI's version", Cdi, Cdi(metadata=meta("cdi")), BOTH),
    ("a failure of its host", api.HostFailure, Own(metadata=meta("host-1-a"), raw=FAILURE), WEB),
    ("a panic of its guest", GuestPanic, GuestPanic(metadata=meta("web.1", "shop"), involved_object=GUEST), WEB),
    ("a renewal of a Lease", Lease, Lease(metadata=meta("host-1", NODE_LEASES)), set()),
    ("its host", api.Host, Own(metadata=meta("host-1"), raw=b"{}"), set()),
    ("an HAPolicy", api.HAPolicy, Own(metadata=meta("ha"), raw=b"{}"), BOTH),
    ("a storage class that nobody waits for", StorageClass, StorageClass(metadata=meta("block")), set()),
]


@pytest.mark.parametrize(("kind", "held", "keys"), [w[1:] for w in WAKES], ids=[w[0] for w in WAKES])
def test_who_looks_again(kind: type[Any], held: Any, keys: set[Key]) -> None:
    assert woken(b.world(MACHINE, OTHER), kind, held) == keys


def test_every_kind_that_is_watched_is_tested() -> None:
    elsewhere = {FailedMount, kubevirt.ClusterInstancetype, kubevirt.Instancetype, api.VirtualMachine}
    tested = {kind for _, kind, *_ in WAKES} | elsewhere
    tested |= set(room.KINDS)  # they wake nobody
    assert {watch.kind for watch in b.SERVICE.watches} == tested


def test_who_waits_for_room_looks_again_when_a_disk_changes() -> None:
    there = b.world(b.vm(disks=[b.disk()]), OTHER)
    there.change(api.Datastore, Key("", "gold"), spec={"capacity": "1Gi"})
    b.settle(there)
    held = DataVolume(metadata=meta(disks.name("db", "data"), "lab", labels=disks.labels("db", "data", "gold")))
    assert woken(there, DataVolume, held) == {Key("lab", "db"), b.KEY}


def test_who_waits_for_room_is_found_behind_other_complaints_and_by_its_datastore() -> None:
    there = b.running(b.vm(disks=[b.disk("root")]))
    there.change(api.Datastore, Key("", "gold"), spec={"capacity": "11Gi"})
    b.edit(there, disks=[b.disk("root", "1Gi"), b.disk("data")])
    b.settle(there)
    assert b.says(there, "StorageReady")[1] == "DiskLarger", "this complaint comes first"
    for datastore, woken_up in (("gold", WEB), ("silver", set())):
        held = DataVolume(metadata=meta("x", "lab", labels=disks.labels("db", "data", datastore)))
        assert woken(there, DataVolume, held) - {Key("lab", "db")} == woken_up


def test_who_waits_for_expansion_looks_again_when_a_storage_class_changes() -> None:
    there = b.running(b.vm(disks=[b.disk()]))
    there.put(b.storage_class(expands=False))
    b.edit(there, disks=[b.disk("data", "20Gi")])
    b.settle(there)
    assert woken(there, StorageClass, StorageClass(metadata=meta("block"))) == WEB


def test_a_kubelet_s_complaint_reaches_the_vm_of_its_pod() -> None:
    there = b.running()
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "shop"}}
    there.put({**event, "involvedObject": {"uid": "pod-1"}, "message": "m"})
    held = there.held(FailedMount, Key("shop", "e"))
    assert woken(there, FailedMount, held) == WEB


def sees(kind: type[Any]) -> Callable[[Any], Hashable]:
    seen = next(watch for watch in b.SERVICE.watches if watch.kind is kind).sees
    assert seen is not None
    return seen


def test_the_status_of_a_datastore_or_network_wakes_nobody() -> None:
    before = Own(metadata=meta("gold", uid="u", generation=1, resource_version="1"), raw=b"1")
    after = Own(metadata=meta("gold", uid="u", generation=1, resource_version="2"), raw=b"2")
    edited = Own(metadata=meta("gold", uid="u", generation=2, resource_version="3"), raw=b"3")
    for kind in (api.Datastore, api.Network):
        assert sees(kind)(before) == sees(kind)(after) != sees(kind)(edited)


def test_what_matters_of_foreign_kinds() -> None:
    labelled = Namespace(metadata=meta("shop", labels={"a": "b"}))
    assert sees(Namespace)(labelled) != sees(Namespace)(Namespace(metadata=meta("shop")))
    expands = StorageClass(metadata=meta("block"), allow_volume_expansion=True)
    assert sees(StorageClass)(expands) != sees(StorageClass)(StorageClass(metadata=meta("block")))
    version = kubevirt.KubeVirtStatus(observed_kube_virt_version="v1.9.0")
    newer = KubeVirt(metadata=meta("kubevirt"), status=version)
    assert sees(KubeVirt)(newer) != sees(KubeVirt)(KubeVirt(metadata=meta("kubevirt", resource_version="9")))
    old = KubeVirt(metadata=meta("kubevirt", resource_version="1"))
    assert sees(KubeVirt)(old) == sees(KubeVirt)(KubeVirt(metadata=meta("kubevirt", resource_version="9")))
    assert sees(FailedMount)(FailedMount(metadata=meta("e"), message="a")) == "a"
    assert sees(Cdi)(Cdi(metadata=meta("cdi"))) == ""
    for kind in (kubevirt.Instancetype, kubevirt.ClusterInstancetype, kubevirt.Preference, kubevirt.ClusterPreference):
        assert sees(kind)(kind(metadata=meta("small", generation=1))) != sees(kind)(
            kind(metadata=meta("small", generation=2))
        )
    owned = NetworkAttachmentDefinition(metadata=meta("lan", finalizers=("x",)))
    assert sees(NetworkAttachmentDefinition)(owned) == sees(NetworkAttachmentDefinition)(
        NetworkAttachmentDefinition(metadata=meta("lan"))
    )


def leaves(tree: Any, *path: str | int) -> Iterator[tuple[str | int, ...]]:
    """The paths of everything in a tree that is not a collection."""
    if isinstance(tree, dict | list):
        for step, below in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(below, *path, step)
    else:
        yield path


def otherwise(value: Any) -> Any:
    if isinstance(value, bool) or value in ("True", "False"):
        return {True: False, False: True, "True": "False", "False": "True"}[value]
    return value + 1 if isinstance(value, int) else f"{value}x"


def changed(tree: dict[str, Any], path: tuple[str | int, ...]) -> dict[str, Any]:
    new = copy.deepcopy(tree)
    at: Any = new
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = otherwise(at[path[-1]])
    return new


BUSY: dict[str, Any] = {
    "conditions": [
        {"type": kind, "status": "True", "reason": "r", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        for kind in ("AgentConnected", "LiveMigratable", "Ready", "Synchronized")
    ],
    "interfaces": [{"name": "i", "mac": "02:00:00:00:00:01", "ipAddresses": ["10.0.0.1"], "linkState": "up"}],
    "guestOSInfo": {"name": "Debian", "version": "13", "prettyName": "Debian 13"},
    "volumeStatus": [{"name": "data", "phase": "Ready"}],
}
PHASES: dict[type[Any], Sequence[str]] = {
    VirtualMachineInstance: ("", "Pending", "Scheduling", "Scheduled", "Running", "Succeeded", "Failed"),
    DataVolume: ("", "Pending", "ImportScheduled", "ImportInProgress", "CloneInProgress", "WaitForFirstConsumer",
                 "PendingPopulation", "Succeeded", "Failed", "Unknown"),
    PersistentVolumeClaim: ("", "Pending", "Bound", "Lost"),
}  # fmt: skip
PLACES = [(b.CHILD, b.KEY), (VirtualMachineInstance, b.KEY), (DataVolume, DATA), (PersistentVolumeClaim, DATA)]


def variants(kind: type[Any], tree: dict[str, Any]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Every word of an object changed alone, and its phase to every other; with what was changed."""
    for path in leaves(tree):
        if path[0] in ("apiVersion", "kind") or path in (("metadata", "name"), ("metadata", "namespace")):
            continue
        yield path, changed(tree, path)
    status = tree.get("status", {})
    for phase in PHASES.get(kind, ()):
        yield phase, {**tree, "status": {**status, "phase": phase}}
    if "activePods" in status:
        yield "another pod", {**tree, "status": {**status, "activePods": {"pod-2": "host-1"}}}


@pytest.mark.parametrize("copied", ["Pending", "ImportInProgress", "Succeeded"])
@pytest.mark.parametrize("phase", PHASES[VirtualMachineInstance])
@pytest.mark.parametrize(("kind", "key"), PLACES, ids=lambda part: getattr(part, "__name__", None))
def test_whatever_changes_the_plan_wakes_its_vm(kind: type[Any], key: Key, phase: str, copied: str) -> None:
    """Every word of a child, changed alone, at every step of its life: where the plan comes out different, the change
    is seen."""
    source = {"http": {"url": "https://example.org/disk.img"}}
    there = b.running(b.vm(disks=[b.disk(source=source)], nics=[{"name": "i", "network": "internet"}]))
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "shop"}}
    there.put({**event, "involvedObject": {"uid": "pod-1"}, "message": "a volume does not come"})
    there.change(VirtualMachineInstance, b.KEY, status={**BUSY, "phase": phase})
    there.change(DataVolume, DATA, status={"phase": copied, "progress": "20.0%"})
    b.settle(there)
    before, tree = there.plan(b.SERVICE, b.KEY), there.tree(kind, key)
    old, told = there.held(kind, key), 0
    for what, other in variants(kind, tree):
        there.put(other)
        new = there.held(kind, key)
        if there.plan(b.SERVICE, b.KEY) != before:
            told += 1
            assert sees(kind)(old) != sees(kind)(new), what
            assert b.KEY in woken(there, kind, old) | woken(there, kind, new), what
    assert told > 1


def test_what_kubevirt_notes_for_itself_wakes_nobody() -> None:
    there = b.running()
    for kind in (b.CHILD, VirtualMachineInstance):
        old = there.held(kind, b.KEY)
        there.change(
            kind,
            b.KEY,
            metadata={
                "annotations": {"kubevirt.io/latest-observed-api-version": "v1"},
                "finalizers": ["kubevirt.io/x"],
            },
        )
        assert sees(kind)(there.held(kind, b.KEY)) == sees(kind)(old)
    old = there.held(VirtualMachineInstance, b.KEY)
    there.change(VirtualMachineInstance, b.KEY, metadata={"generation": 7})
    assert sees(VirtualMachineInstance)(there.held(VirtualMachineInstance, b.KEY)) == sees(VirtualMachineInstance)(old)


def test_dependencies_of_a_malformed_object_are_none() -> None:
    assert list(observe.dependencies(Own(metadata=meta("x"), raw=b'{"metadata": {"name": 5}}'))) == []


def test_observing_what_is_gone_or_malformed() -> None:
    there = b.world()
    there.remove(b.VM, b.KEY)
    seen = b.SERVICE.observe(b.KEY, there.view(b.SERVICE))
    assert (seen.disks, seen.nics, seen.instancetype, seen.undeclared) == ({}, {}, None, ())


def test_reads_are_declared() -> None:
    there = b.world(MACHINE)
    with pytest.raises(UndeclaredRead):
        there.view(b.SERVICE).get(Object, b.KEY)
    b.SERVICE.observe(b.KEY, there.view(b.SERVICE))


def test_writes_are_declared() -> None:
    """By kind of action, as the engine checks them."""
    there = b.running(b.vm(disks=[b.disk("data", deletionPolicy="Delete")]))
    b.edit(there, disks=[b.disk("data", "20Gi"), b.disk("more")])
    b.settle(there)
    there.change(b.CHILD, b.KEY, spec={"runStrategy": "Halted"})
    b.settle(there)
    declared = {write.resource: set(write.verbs) for write in b.SERVICE.writes}
    needs: dict[type[Any], set[str]] = {
        Create: {"create"},
        Apply: {"create", "patch"},
        Patch: {"patch"},
        Delete: {"delete"},
    }
    assert {type(action) for action in there.log} == {Create, Apply, Patch}
    for action in there.log:
        assert needs[type(action)] <= declared[action.resource], action
    deleted = {write.resource for write in b.SERVICE.writes if "delete" in write.verbs}
    assert deleted == {VirtualMachineInstance.resource}, (
        "this service deletes nothing but the instances of silent guests"
    )


def test_a_look_at_rest_is_cheap() -> None:
    """Counted in calls, which do not depend on how busy the machine is: about 0.25 us each."""
    there = b.running(b.vm(disks=[b.disk("root"), b.disk("data")], nics=[{"name": "i", "network": "internet"}]))
    cr = api.parse(b.VM, there.tree(b.VM, b.KEY))
    seen = b.SERVICE.observe(b.KEY, there.view(b.SERVICE))
    b.SERVICE.plan(cr, seen, there.now)
    calls = 0

    def count(_: Any, event: str, __: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        b.SERVICE.plan(cr, seen, there.now)
    finally:
        sys.setprofile(None)
    assert calls < 1200, calls
