"""The child: created once everything is there, changed with the spec, put right, and left alone when it is not ours."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.services.virtualmachine import builders as b
from vdcos import api
from vdcos.core import disks, ownership
from vdcos.core.foreign.cdi import DataVolume
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Key
from vdcos.core.plan import Apply, Patch
from vdcos.services.virtualmachine import child
from vdcos.testing.world import Conflict, World

Tree = dict[str, Any]


def wait(there: World, seconds: float) -> None:
    there.now = there.now._replace(wall=there.now.wall + seconds, mono=there.now.mono + seconds)


def test_two_writes_and_one_per_disk() -> None:
    there = b.world(b.vm(disks=[b.disk("a"), b.disk("b")]))
    plan = b.settle(there)
    assert b.whys(there) == ["create disk a", "create disk b", "create the KubeVirt VM"]
    assert plan.actions == ()
    there.log.clear()
    before = there.tree(b.VM, b.KEY)
    b.settle(there)
    assert (there.log, there.tree(b.VM, b.KEY)) == ([], before), "at rest nothing is written, not even a status"


def test_the_child_is_ours() -> None:
    there = b.world()
    b.settle(there)
    meta = there.tree(b.CHILD, b.KEY)["metadata"]
    assert meta["ownerReferences"] == [
        {
            "apiVersion": "vdcos.dev/v1alpha1",
            "kind": "VirtualMachine",
            "name": "web",
            "uid": there.tree(b.VM, b.KEY)["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": False,
        }
    ]
    assert b.status(there)["virtualMachine"] == {"uid": meta["uid"], "generation": 1}


def test_the_user_s_object_is_never_written() -> None:
    there = b.running(b.vm(disks=[b.disk()]))
    spec = there.tree(b.VM, b.KEY)["spec"]
    b.edit(there, cpu={"sockets": 2})
    b.settle(there)
    assert there.tree(b.VM, b.KEY)["spec"] == {**spec, "cpu": {"sockets": 2}}
    assert all(action.resource != b.SERVICE.resource for action in there.log)


def test_an_edit_is_one_apply_and_removes_what_is_gone() -> None:
    there = b.running(b.vm(placement={"nodeSelector": {"zone": "a"}}))
    there.change(b.VM, b.KEY, spec={"placement": None, "cpu": {"sockets": 2}})
    b.settle(there)
    assert b.whys(there) == ["bring the KubeVirt VM up to date"]
    assert "nodeSelector" not in b.template(there)
    assert b.template(there)["domain"]["cpu"]["sockets"] == 2
    assert b.status(there)["virtualMachine"]["generation"] == 2


def test_a_tpm_can_be_made_to_forget() -> None:
    """No object of the child may become empty by an apply: a real API server refuses that."""
    there = b.world(b.vm(firmware={"tpm": "Persistent"}))
    b.settle(there)
    b.edit(there, firmware={"tpm": "Ephemeral"})
    b.settle(there)
    assert b.template(there)["domain"]["devices"]["tpm"] == {"persistent": False}


def test_what_kubevirt_adds_is_left_alone() -> None:
    there = b.running()
    spec = {"template": {"spec": {"architecture": "amd64", "domain": {"machine": {"type": "q35"}}}}}
    there.change(b.CHILD, b.KEY, spec=spec)
    b.settle(there)
    assert there.log == []


def stopped_by_hand(there: World) -> None:
    there.change(b.CHILD, b.KEY, spec={"runStrategy": "Halted"})


def test_drift_is_put_right_and_counted() -> None:
    there = b.running()
    stopped_by_hand(there)
    b.settle(there)
    [repair] = there.log
    assert isinstance(repair, Apply)
    assert (repair.repairs, repair.force) == (("spec.runStrategy",), True)
    assert there.tree(b.CHILD, b.KEY)["spec"]["runStrategy"] == "Always"
    assert b.says(there, "Applied")[0] == "True"


def test_only_a_zero_that_go_keeps_can_drift() -> None:
    """A controller that writes the VM back drops the one; where the other is gone, KubeVirt takes it for true."""
    path = "/spec/template/spec/"
    overrides = [
        {"op": "add", "path": f"{path}subdomain", "value": ""},
        {"op": "add", "path": f"{path}domain/devices/autoattachMemBalloon", "value": False},
    ]
    there = b.running(b.vm(overrides=overrides))
    assert "subdomain" not in b.template(there)
    there.change(b.CHILD, b.KEY, spec={"template": {"spec": {"domain": {"devices": {"autoattachMemBalloon": None}}}}})
    b.settle(there)
    assert [action.repairs for action in there.log if isinstance(action, Apply)] == [
        ("spec.template.spec.domain.devices.autoattachMemBalloon",)
    ]


def test_labels_are_put_right() -> None:
    there = b.running()
    there.change(b.CHILD, b.KEY, metadata={"labels": {"vdcos.dev/vm": "other"}})
    b.settle(there)
    assert there.tree(b.CHILD, b.KEY)["metadata"]["labels"]["vdcos.dev/vm"] == "web"


def test_a_write_war_is_left_after_three_rounds_and_joined_again_later() -> None:
    there = b.running()
    for _ in range(child.AT_ONCE):
        stopped_by_hand(there)
        b.settle(there)
    wait(there, 50)
    stopped_by_hand(there)
    there.log.clear()
    plan = b.settle(there)
    assert there.log == []
    status, reason, message = b.says(there, "Applied")
    assert (status, reason) == ("False", "WriteWar")
    assert "spec.runStrategy" in message
    assert "managed-fields" in message
    assert b.says(there, "Ready")[1] == "WriteWar"
    assert plan.after == child.FORGIVEN - 50, "looked at again when a repair is forgotten"
    wait(there, child.FORGIVEN - 51)
    b.settle(there)
    assert there.log == []
    wait(there, 1)
    b.settle(there)
    assert [action.repairs for action in there.log if isinstance(action, Apply)] == [("spec.runStrategy",)]
    assert b.says(there, "Applied")[0] == "True"


def test_fields_that_take_turns_are_a_war_too() -> None:
    there = b.running()
    for n in range(child.AT_ONCE + 1):
        if n % 2:
            stopped_by_hand(there)
        else:
            there.change(b.CHILD, b.KEY, spec={"template": {"spec": {"terminationGracePeriodSeconds": n}}})
        b.settle(there)
    assert b.says(there, "Applied")[1] == "WriteWar"
    assert len(there.log) == child.AT_ONCE


@pytest.mark.parametrize(
    ("pauses", "repairs"),
    [
        ([child.FORGIVEN] * 20, 21),
        ([0, 0, child.FORGIVEN, child.FORGIVEN], 5),
        ([100, 100, 100, 100], 5),
        ([0, 0, 3 * child.FORGIVEN, 0, 0], 6),
        ([0, 0, 100], 3),
    ],
    ids=["now and then", "a burst, and then now and then", "a few in ten minutes", "two bursts", "too many"],
)
def test_people_who_stop_a_vm_a_few_times_are_no_war(pauses: list[int], repairs: int) -> None:
    there = b.running()
    stopped_by_hand(there)
    b.settle(there)
    for pause in pauses:
        wait(there, pause)
        stopped_by_hand(there)
        b.settle(there)
    assert len(there.log) == repairs
    assert (b.says(there, "Applied")[0] == "True") == (repairs == len(pauses) + 1)


def test_a_new_intent_ends_a_write_war() -> None:
    there = b.running()
    for _ in range(child.AT_ONCE + 1):
        stopped_by_hand(there)
        b.settle(there)
    assert b.says(there, "Applied")[1] == "WriteWar"
    b.edit(there, cpu={"sockets": 2})
    b.settle(there)
    assert b.says(there, "Applied")[0] == "True"
    assert child.REPAIRED not in there.tree(b.CHILD, b.KEY)["metadata"]["annotations"]


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "\u0661", "9" * 10, "9" * 5000])
def test_a_spoilt_counter_counts_nothing(text: str) -> None:
    there = b.running()
    there.change(b.CHILD, b.KEY, metadata={"annotations": {child.REPAIRED: text}})
    stopped_by_hand(there)
    b.settle(there)
    counted = there.tree(b.CHILD, b.KEY)["metadata"]["annotations"][child.REPAIRED]
    assert int(counted) == int(there.now.wall) + child.FORGIVEN


def test_many_fields_are_named_by_three() -> None:
    there = b.running(b.vm(cpu={"sockets": 2, "cores": 2, "threads": 2, "model": "host-model"}))
    there.change(b.CHILD, b.KEY, spec={"template": {"spec": {"domain": {"cpu": None}}}, "runStrategy": "Halted"})
    there.change(b.CHILD, b.KEY, spec={"template": {"spec": {"domain": {"memory": None, "firmware": None}}}})
    b.settle(there)
    assert b.whys(there)[0].endswith(" and 1 more")


# Names and owners


def foreign(**metadata: Any) -> Tree:
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "web", "namespace": "shop", **metadata},
        "spec": {"runStrategy": "Halted", "template": {"spec": {"domain": {}}}},
    }


def test_a_namesake_is_never_touched() -> None:
    there = b.world(b.vm(), foreign(labels={ownership.MANAGED_BY: ownership.MANAGER}))
    before = there.tree(b.CHILD, b.KEY)
    b.settle(there)
    assert (there.log, there.tree(b.CHILD, b.KEY)) == ([], before)
    assert b.says(there, "Stalled")[1] == "NameTaken"
    assert b.says(there, "Applied")[1] == "NameTaken"
    assert "virtualMachine" not in b.status(there)
    there.remove(b.CHILD, b.KEY)
    b.settle(there)
    assert b.says(there, "Applied")[0] == "True"
    assert b.says(there, "Stalled") == ("", "", "")


def test_a_namesake_made_a_moment_ago_is_a_conflict() -> None:
    """We have not heard of it yet: the first apply goes without force."""
    there = b.world()
    [create] = there.plan(b.SERVICE, b.KEY).actions
    there.put(foreign())
    with pytest.raises(Conflict):
        there.carry_out(create)


def test_a_creation_that_arrives_late_changes_nothing() -> None:
    there = b.world()
    creates = [action for action in there.plan(b.SERVICE, b.KEY).actions if isinstance(action, Apply)]
    b.settle(there)
    b.edit(there, powerState="PoweredOff")
    b.settle(there)
    [create] = creates
    with pytest.raises(Conflict):
        there.carry_out(create, "vdcos/virtualmachine")
    assert there.tree(b.CHILD, b.KEY)["spec"]["runStrategy"] == "Halted"


def test_a_namesake_in_place_of_the_child_is_a_conflict() -> None:
    there = b.running()
    b.edit(there, cpu={"sockets": 2})
    [apply] = there.plan(b.SERVICE, b.KEY).actions
    there.remove(b.CHILD, b.KEY)
    there.put(foreign())
    with pytest.raises(Conflict):
        there.carry_out(apply)


@pytest.mark.parametrize("deleting", [True, False])
def test_the_vm_before_is_waited_for(deleting: bool) -> None:
    owner = {"apiVersion": api.API_VERSION, "kind": "VirtualMachine", "name": "web", "uid": "old", "controller": True}
    meta = {"ownerReferences": [owner]} | ({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleting else {})
    there = b.world(b.vm(), foreign(**meta))
    b.settle(there)
    assert there.log == []
    assert b.says(there, "Applied")[:2] == ("False", "PreviousTerminating")
    assert b.says(there, "Stalled") == ("", "", "")


def test_our_own_child_on_its_way_out_is_waited_for() -> None:
    there = b.running()
    meta = there.tree(b.CHILD, b.KEY)["metadata"]
    there.change(b.CHILD, b.KEY, metadata={**meta, "deletionTimestamp": "2026-01-01T00:00:00Z"})
    b.settle(there)
    assert there.log == []
    assert b.says(there, "Applied")[1] == "PreviousTerminating"
    there.remove(b.CHILD, b.KEY)
    there.remove(VirtualMachineInstance, b.KEY)
    b.settle(there)
    assert b.whys(there) == ["create the KubeVirt VM"]


# References that do not resolve


def test_a_new_vm_waits_for_what_it_refers_to() -> None:
    there = b.world(b.vm(nics=[{"name": "a", "network": "lan"}]))
    b.settle(there)
    assert there.log == []
    assert b.says(there, "Applied")[:2] == ("False", "Waiting")
    assert "NIC a: NetworkMissing" in b.says(there, "Applied")[2]
    assert b.says(there, "Ready")[1] == "NetworkMissing"
    b.bridged(there)
    b.settle(there)
    assert b.whys(there) == ["create the KubeVirt VM"]


def test_a_vm_keeps_its_hardware_while_a_reference_is_missing() -> None:
    there = b.running()
    before = b.template(there)
    b.edit(there, nics=[{"name": "a", "network": "lan"}], cpu={"sockets": 2})
    b.settle(there)
    assert (there.log, b.template(there)) == ([], before)
    assert b.says(there, "Applied")[1] == "Waiting"
    assert b.status(there)["powerState"] == "PoweredOn"


def test_power_follows_while_a_reference_is_missing() -> None:
    there = b.running()
    b.edit(there, nics=[{"name": "a", "network": "lan"}], powerState="PoweredOff")
    b.settle(there)
    [patch] = there.log
    assert isinstance(patch, Patch)
    assert patch.uid == there.tree(b.CHILD, b.KEY)["metadata"]["uid"]
    assert there.tree(b.CHILD, b.KEY)["spec"]["runStrategy"] == "Halted"


def test_an_override_that_does_not_fit_stalls_the_vm() -> None:
    there = b.running()
    path = "/spec/template/spec/domain/devices/disks/nope/cache"
    b.edit(there, overrides=[{"op": "replace", "path": path, "value": "none"}])
    b.settle(there)
    assert there.log == []
    status, reason, message = b.says(there, "Stalled")
    assert (status, reason, path in message) == ("True", "OverrideConflict", True)
    assert b.says(there, "Reconciling") == ("", "", ""), "no retry helps"
    b.edit(there, overrides=[])
    b.settle(there)
    assert b.says(there, "Stalled") == ("", "", "")


def test_the_overrides_of_the_reference_page_fit() -> None:
    example = yaml.safe_load((Path(__file__).parents[4] / "docs/reference/examples/virtualmachine.yaml").read_text())
    there = b.running(b.vm(disks=[b.disk(each["name"]) for each in example["spec"]["disks"]]))
    b.edit(there, overrides=example["spec"]["overrides"])
    b.settle(there)
    assert b.says(there, "Stalled") == ("", "", "")


def test_deleted_with_everything_it_needs_nothing_from_us() -> None:
    there = b.running(b.vm(disks=[b.disk(deletionPolicy="Delete")]))
    meta = there.tree(b.VM, b.KEY)["metadata"]
    there.change(b.VM, b.KEY, metadata={**meta, "deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert there.plan(b.SERVICE, b.KEY).actions == ()


def test_what_it_is_is_said_for_as_long_as_others_hold_it() -> None:
    there = b.running()
    b.settle(there)
    assert b.says(there, "Deleting") == ("", "", "")
    held = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/keep"], "generation": 7}
    there.change(b.VM, b.KEY, metadata=held)
    there.remove(VirtualMachineInstance, b.KEY)
    there.change(b.VM, b.KEY, spec={"cpu": {"sockets": 7}})
    assert there.plan(b.SERVICE, b.KEY).actions == ()
    b.settle(there)
    status, reason, message = b.says(there, "Deleting")
    assert (status, reason) == ("True", "FinalizersRemain")
    assert "example.com/keep" in message
    assert there.tree(b.VM, b.KEY)["status"]["powerState"] != "PoweredOn"
    assert b.says(there, "Applied")[:2] == ("False", "Changing")


def test_malformed_datastore_disturbs_only_who_needs_it() -> None:
    there = b.world(b.vm(disks=[b.disk()]))
    there.change(api.Datastore, Key("", "gold"), spec={"storageClassName": None})
    b.settle(there)
    assert b.says(there, "StorageReady")[:2] == ("Unknown", "DatastoreUnreadable")


# Taking back what was detached


def detach(there: World) -> None:
    """As an uninstallation does."""
    there.change(b.CHILD, b.KEY, metadata={"ownerReferences": None})


def renewed(there: World) -> None:
    """The VirtualMachine was deleted with its definition, and the same is declared again."""
    there.remove(b.VM, b.KEY)
    there.put(b.vm())


@pytest.mark.parametrize("again", [False, True], ids=["the same object", "a new object of the name"])
def test_a_child_that_was_detached_is_taken_back_as_it_is(again: bool) -> None:
    there = b.running()
    before = there.tree(b.CHILD, b.KEY)
    detach(there)
    if again:
        renewed(there)
    b.settle(there)
    [why] = b.whys(there)
    assert "take back the KubeVirt VM" in why
    now = there.tree(b.CHILD, b.KEY)
    assert now["spec"] == before["spec"], "nothing that would take a restart"
    assert now["metadata"]["uid"] == before["metadata"]["uid"]
    [owner] = now["metadata"]["ownerReferences"]
    assert owner["uid"] == there.tree(b.VM, b.KEY)["metadata"]["uid"]
    assert b.says(there, "Applied")[0] == "True"
    assert b.says(there, "Ready")[0] == "True"


def test_what_changed_while_nobody_looked_is_made_up_for() -> None:
    there = b.running()
    detach(there)
    there.remove(b.VM, b.KEY)
    there.put(b.vm(memory={"size": "2Gi"}))
    b.settle(there)
    assert there.tree(b.CHILD, b.KEY)["spec"]["template"]["spec"]["domain"]["memory"]["guest"] == "2Gi"


def test_a_disk_that_went_with_its_vm_goes_with_the_new_one() -> None:
    there = b.running(b.vm(disks=[b.disk(deletionPolicy="Delete")]))
    [volume] = there.keys(DataVolume)
    detach(there)
    there.change(DataVolume, volume, metadata={"ownerReferences": None})
    there.remove(b.VM, b.KEY)
    there.put(b.vm(disks=[b.disk(deletionPolicy="Delete")]))
    b.settle(there)
    [owner] = there.tree(DataVolume, volume)["metadata"]["ownerReferences"]
    assert owner["uid"] == there.tree(b.VM, b.KEY)["metadata"]["uid"]


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {disks.VM: "other"}},
        {"labels": {ownership.MANAGED_BY: "helm"}},
        {"ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "x", "controller": True}]},
    ],
    ids=["of another name", "managed by others", "controlled by others"],
)
def test_what_is_not_ours_is_not_taken_back(change: Tree) -> None:
    there = b.running()
    detach(there)
    renewed(there)
    there.change(b.CHILD, b.KEY, metadata=change)
    before = there.tree(b.CHILD, b.KEY)
    b.settle(there)
    assert there.tree(b.CHILD, b.KEY) == before
    assert b.says(there, "Stalled")[1] == "NameTaken"


def test_a_detached_child_that_is_being_deleted_is_waited_for() -> None:
    there = b.running()
    detach(there)
    there.change(b.CHILD, b.KEY, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x"]})
    b.settle(there)
    assert b.says(there, "Applied")[1] == "PreviousTerminating"
    assert b.says(there, "Stalled") == ("", "", "")
