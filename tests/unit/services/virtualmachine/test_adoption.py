"""Adoption: a KubeVirt VM that was there before becomes ours as it runs, or nothing of it is touched."""

from typing import Any

import pytest

from tests.unit.services.virtualmachine import builders as b
from vdcos import api
from vdcos.core.foreign.cdi import DataVolume
from vdcos.core.foreign.kubernetes import PersistentVolumeClaim
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Key
from vdcos.core.ownership import ADMITTED
from vdcos.core.plan import Apply, Patch
from vdcos.services.datastore import DatastoreService
from vdcos.testing.world import Conflict, World

Tree = dict[str, Any]

ROOT = Key("shop", "web-rootdisk")
BY_KUBEVIRT = {
    "apiVersion": "kubevirt.io/v1",
    "kind": "VirtualMachine",
    "name": "web",
    "uid": "theirs",
    "controller": True,
}
AGREED = {"vdcos.dev/adoptable": "true"}
DECLARED: Tree = {
    "disks": [{"name": "rootdisk", "size": "10Gi", "datastore": "gold", "claimName": "web-rootdisk"}],
    "nics": [{"name": "default", "network": "internet"}],
}


def kubevirt_vm(**metadata: Any) -> Tree:
    """As tutorials write it: a disk by template, running, on the pod network."""
    source = {"source": {"blank": {}}, "storage": {"resources": {"requests": {"storage": "10Gi"}}}}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "web", "namespace": "shop", "uid": "theirs", "annotations": AGREED, **metadata},
        "spec": {
            "running": True,
            "dataVolumeTemplates": [{"metadata": {"name": "web-rootdisk"}, "spec": source}],
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "domain": {
                        "devices": {
                            "disks": [{"name": "rootdisk", "disk": {"bus": "virtio"}}],
                            "interfaces": [{"name": "default", "masquerade": {}}],
                        },
                        "memory": {"guest": "1Gi"},
                    },
                    "networks": [{"name": "default", "pod": {}}],
                    "volumes": [{"name": "rootdisk", "dataVolume": {"name": "web-rootdisk"}}],
                },
            },
        },
    }


def volume() -> Tree:
    return {
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "DataVolume",
        "metadata": {"name": ROOT.name, "namespace": "shop", "uid": "dv", "ownerReferences": [BY_KUBEVIRT]},
        "spec": {"source": {"blank": {}}, "storage": {"resources": {"requests": {"storage": "10Gi"}}}},
        "status": {"phase": "Succeeded"},
    }


def brought(machine: Tree | None = None, **spec: Any) -> World:
    """A KubeVirt VM that runs, with its disk, and our VirtualMachine for it."""
    there = b.world(b.vm(**{**DECLARED, **spec}), machine or kubevirt_vm(), volume())
    there.put(b.claim({"name": ROOT.name, "namespace": "shop", "uid": "dv"}, "10Gi"))
    child = there.tree(b.CHILD, b.KEY)
    there.change(b.CHILD, b.KEY, status={"created": True, "runStrategy": "Always"})
    there.put(
        {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {"name": "web", "namespace": "shop", "uid": "instance", "ownerReferences": [BY_KUBEVIRT]},
            "spec": child["spec"]["template"]["spec"],
            "status": {"phase": "Running", "nodeName": "host-1", "conditions": [{"type": "Ready", "status": "True"}]},
        }
    )
    return there


def test_it_is_taken_over_in_steps_that_may_each_be_the_last() -> None:
    there = brought()
    b.settle(there)
    assert b.whys(there) == [
        "take over the KubeVirt VM: it makes no disks and has a runStrategy",
        "disk web-rootdisk is to be retained",
        "take over the KubeVirt VM",
        "disk rootdisk was taken over",
        "disk rootdisk was taken over",
        "bring the KubeVirt VM up to date",
    ]
    child = there.tree(b.CHILD, b.KEY)
    assert [ref["kind"] for ref in child["metadata"]["ownerReferences"]] == ["VirtualMachine"]
    assert child["metadata"]["ownerReferences"][0]["uid"] == there.tree(b.VM, b.KEY)["metadata"]["uid"]
    assert (child["spec"]["runStrategy"], "running" in child["spec"]) == ("Always", False)
    assert "dataVolumeTemplates" not in child["spec"]
    assert b.says(there, "Applied")[:2] == ("True", "Applied")
    assert b.says(there, "PowerStateSynced")[:2] == ("True", "PoweredOn")
    assert b.says(there, "Ready")[0] == "True"
    there.log.clear()
    b.settle(there)
    assert not there.log, "at rest nothing is written"


def test_who_takes_his_word_back_keeps_his_vm_though_a_step_arrives_late() -> None:
    """With an owner that is gone, garbage collection would delete it."""
    there = brought()
    while not (steps := [a for a in there.plan(b.SERVICE, b.KEY).actions if a.why == "take over the KubeVirt VM"]):
        for action in there.plan(b.SERVICE, b.KEY).actions:
            there.carry_out(action)
    there.change(b.CHILD, b.KEY, metadata={"annotations": {"vdcos.dev/adoptable": None}})
    there.remove(b.VM, b.KEY)
    with pytest.raises(Conflict):
        there.carry_out(steps[0])
    assert "ownerReferences" not in there.tree(b.CHILD, b.KEY)["metadata"]


def test_what_was_admitted_for_it_is_not_taken_over() -> None:
    """KubeVirt copies annotations, and tenants tell it what to write: with an owner it would count."""
    there = brought(kubevirt_vm(annotations={**AGREED, ADMITTED: "9999000m/9999999999999"}))
    for _ in range(12):
        meta = there.tree(b.CHILD, b.KEY)["metadata"]
        assert not (meta.get("ownerReferences") and meta["annotations"].get(ADMITTED))
        for action in there.plan(b.SERVICE, b.KEY).actions[:1]:
            there.carry_out(action)
    assert meta["ownerReferences"]


def test_what_runs_is_not_touched() -> None:
    there = brought()
    before = there.tree(VirtualMachineInstance, b.KEY)
    b.settle(there)
    assert there.tree(VirtualMachineInstance, b.KEY) == before
    child = there.tree(b.CHILD, b.KEY)
    assert child["metadata"]["uid"] == "theirs"
    volumes = child["spec"]["template"]["spec"]["volumes"]
    assert volumes == [{"name": "rootdisk", "dataVolume": {"name": "web-rootdisk"}}], "it refers to the disk as before"
    strategies = [action for action in there.log if isinstance(action, Apply)]
    assert {action.manifest["spec"]["runStrategy"] for action in strategies} == {"Always"}


def test_its_disk_outlives_it_from_the_moment_that_it_is_ours() -> None:
    """When the KubeVirt VM gets an owner, the garbage collector could take the disk along with both."""
    there = brought()
    for _ in range(12):
        child, disk = there.tree(b.CHILD, b.KEY), there.tree(DataVolume, ROOT)
        if child["metadata"].get("ownerReferences"):
            assert not disk["metadata"].get("ownerReferences")
        for action in there.plan(b.SERVICE, b.KEY).actions[:1]:
            there.carry_out(action)
    assert child["metadata"]["ownerReferences"]


def test_a_disk_that_kubevirt_claims_once_more_is_freed_again() -> None:
    there = brought()
    b.settle(there)
    there.change(DataVolume, ROOT, metadata={"ownerReferences": volume()["metadata"]["ownerReferences"]})
    b.settle(there)
    assert not there.tree(DataVolume, ROOT)["metadata"].get("ownerReferences")


def test_the_disk_gets_our_marks_and_counts_on_its_datastore() -> None:
    there = brought()
    b.settle(there)
    for kind in (DataVolume, PersistentVolumeClaim):
        meta = there.tree(kind, ROOT)["metadata"]
        assert meta["labels"]["vdcos.dev/vm"] == "web"
        assert meta["labels"]["vdcos.dev/disk"] == "rootdisk"
        assert meta["annotations"]["vdcos.dev/claim"] == "web-rootdisk"
    there.settle(DatastoreService(), Key("", "gold"))
    status = there.tree(api.Datastore, Key("", "gold"))["status"]
    assert (status["disks"], status["provisioned"]) == (1, "10Gi")
    assert not status.get("retained", {}).get("count")
    disk = b.status(there)["disks"][0]
    assert (disk["claimName"], disk["size"], disk["phase"]) == ("web-rootdisk", "10Gi", "Ready")


@pytest.mark.parametrize("annotations", [None, {}, {"vdcos.dev/adoptable": "false"}])
def test_without_its_owners_word_it_is_left_alone(annotations: Tree | None) -> None:
    there = brought(kubevirt_vm(annotations=annotations))
    before = there.tree(b.CHILD, b.KEY)
    b.settle(there)
    assert (there.log, there.tree(b.CHILD, b.KEY)) == ([], before)
    assert b.says(there, "Stalled")[1] == "NameTaken"
    assert "kubectl vdc import" in b.says(there, "Stalled")[2]


def test_what_somebody_else_controls_is_left_alone() -> None:
    pool = {"apiVersion": "pool.kubevirt.io/v1beta1", "kind": "VirtualMachinePool", "name": "p", "uid": "p"}
    there = brought(kubevirt_vm(ownerReferences=[{**pool, "controller": True}]))
    b.settle(there)
    assert (there.log, b.says(there, "Stalled")[1]) == ([], "NameTaken")


def test_an_owner_that_does_not_control_it_stays() -> None:
    other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "app", "uid": "app"}
    there = brought(kubevirt_vm(ownerReferences=[other]))
    b.settle(there)
    assert [ref["name"] for ref in there.tree(b.CHILD, b.KEY)["metadata"]["ownerReferences"]] == ["app", "web"]


@pytest.mark.parametrize(
    ("declared", "lost"),
    [
        ({"disks": []}, "volume rootdisk (claim web-rootdisk)"),
        ({"nics": []}, "interface default"),
        ({"nics": [{"name": "front", "network": "internet"}]}, "interface default"),
    ],
)
def test_what_would_lose_a_disk_or_a_card_is_not_taken_over(declared: Tree, lost: str) -> None:
    there = brought(**declared)
    before = there.tree(b.CHILD, b.KEY)
    b.settle(there)
    assert (there.log, there.tree(b.CHILD, b.KEY)) == ([], before)
    status, reason, message = b.says(there, "Applied")
    assert (status, reason) == ("False", "AdoptionIncomplete")
    assert lost in message
    assert b.says(there, "PowerStateSynced")[:2] == ("Unknown", "Adopting"), "nobody says that it is off"


def test_a_disk_of_the_same_name_that_is_another_claim_is_not_the_vms() -> None:
    """It would start with an empty disk."""
    there = brought(disks=[b.disk("rootdisk")])
    before = there.tree(b.CHILD, b.KEY)
    b.settle(there)
    assert there.tree(b.CHILD, b.KEY) == before
    status, reason, message = b.says(there, "Applied")
    assert (status, reason) == ("False", "AdoptionIncomplete")
    assert "volume rootdisk (claim web-rootdisk)" in message


def test_a_card_that_nobody_declared_counts_as_well() -> None:
    machine = kubevirt_vm()
    del machine["spec"]["template"]["spec"]["domain"]["devices"]["interfaces"]
    del machine["spec"]["template"]["spec"]["networks"]
    there = brought(machine, nics=[])
    b.settle(there)
    assert "interface default" in b.says(there, "Applied")[2]


def test_a_card_that_is_being_unplugged_need_not_be_declared() -> None:
    machine = kubevirt_vm()
    devices = machine["spec"]["template"]["spec"]["domain"]["devices"]
    devices["interfaces"].append({"name": "gone", "bridge": {}, "state": "absent"})
    there = brought(machine)
    b.settle(there)
    assert b.says(there, "Applied")[:2] == ("True", "Applied")


def test_nothing_is_touched_until_all_that_it_refers_to_is_there() -> None:
    there = brought(nics=[{"name": "default", "network": "missing"}])
    b.settle(there)
    assert not there.log
    assert b.says(there, "Applied")[:2] == ("False", "Waiting")
    assert b.says(there, "Ready")[1] == "NetworkMissing"


def test_a_claim_is_only_taken_over_with_the_vm_that_uses_it() -> None:
    """Whoever may create VirtualMachines names no claims that he could not use before."""
    there = b.world(b.vm(**DECLARED), volume())
    there.put(b.claim({"name": ROOT.name, "namespace": "shop", "uid": "dv"}, "10Gi"))
    b.settle(there)
    assert not there.log
    assert b.says(there, "StorageReady")[:2] == ("False", "DiskNotAdopted")


def test_another_vms_disk_is_never_taken_over() -> None:
    there = brought()
    marks = {"vdcos.dev/vm": "other", "vdcos.dev/disk": "rootdisk", "vdcos.dev/datastore": "gold"}
    for kind in (DataVolume, PersistentVolumeClaim):
        there.change(kind, ROOT, metadata={"labels": marks})
    b.settle(there)
    assert not there.log
    status, reason, message = b.says(there, "StorageReady")
    assert (status, reason) == ("False", "DiskNotAdopted")
    assert "VirtualMachine other" in message


def test_a_datastore_that_the_namespace_may_not_use_takes_no_disk() -> None:
    there = brought()
    there.change(api.Datastore, Key("", "gold"), spec={"allowedNamespaces": {"from": "None"}})
    b.settle(there)
    assert not there.log
    assert b.says(there, "StorageReady")[1] == "NamespaceNotAllowed"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [({"capacity": "9Gi"}, "DatastoreFull"), ({"maintenance": True}, "DatastoreInMaintenance")],
)
def test_a_datastore_that_takes_no_new_disks_takes_none_over(spec: Tree, reason: str) -> None:
    there = brought()
    there.change(api.Datastore, Key("", "gold"), spec=spec)
    b.settle(there)
    assert not there.log
    assert b.says(there, "StorageReady")[1] == reason


def test_a_claim_that_asks_for_more_than_its_datavolume_is_judged_by_what_it_asks_for() -> None:
    there = brought()
    there.change(DataVolume, ROOT, spec={"storage": {"resources": {"requests": {"storage": "1Mi"}}}})
    there.change(PersistentVolumeClaim, ROOT, spec={"resources": {"requests": {"storage": "7Ei"}}})
    there.change(api.Datastore, Key("", "gold"), spec={"capacity": "100Gi"})
    b.settle(there)
    assert not there.log
    assert b.says(there, "StorageReady")[1] == "DatastoreFull"


def test_what_was_taken_over_counts_once() -> None:
    there = brought()
    there.change(api.Datastore, Key("", "gold"), spec={"capacity": "10Gi"})
    b.settle(there)
    assert b.says(there, "Ready")[0] == "True"
    b.settle(there)
    assert b.says(there, "StorageReady")[0] == "True"


def test_a_claim_that_is_not_there_is_not_made() -> None:
    there = b.world(b.vm(**DECLARED))
    b.settle(there)
    assert not there.log
    assert b.says(there, "StorageReady")[:2] == ("False", "ClaimMissing")


def test_what_an_uninstallation_detached_is_ours_again() -> None:
    there = b.running(b.vm(disks=[b.disk()]))
    there.change(b.CHILD, b.KEY, metadata={"ownerReferences": None})
    b.settle(there)
    assert b.whys(there) == ["take back the KubeVirt VM that was detached from an earlier VirtualMachine of this name"]
    assert b.says(there, "Ready")[0] == "True"


def test_a_vm_that_is_off_stays_off() -> None:
    machine = kubevirt_vm()
    machine["spec"]["running"] = False
    there = brought(machine, powerState="PoweredOff")
    there.remove(VirtualMachineInstance, b.KEY)
    b.settle(there)
    assert there.tree(b.CHILD, b.KEY)["spec"]["runStrategy"] == "Halted"
    assert b.says(there, "Ready")[0] == "True"


def test_a_namesake_that_was_made_anew_is_not_meant() -> None:
    there = brought()
    plan = there.plan(b.SERVICE, b.KEY)
    assert all(isinstance(action, Patch) and action.uid == "theirs" for action in plan.actions)
