"""When a change takes effect: the table of the guide, in numbers."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from vdcos import api
from vdcos.api import virtualmachine as words
from vdcos.services.virtualmachine.changes import Change, Running, changes, differences

Tree = dict[str, Any]

GUIDE = Path(__file__).resolve().parents[4] / "docs" / "guide" / "changing-a-vm.md"

SPEC: Tree = {
    "cpu": {"sockets": 2},
    "memory": {"size": "2Gi"},
    "disks": [{"name": name, "size": "10Gi", "datastore": "gold"} for name in ("root", "hot")],
    "nics": [{"name": "front", "network": "lan"}],
    "guest": {"cloudInit": {"userData": "password: secret"}},
}
UP = Running(
    up=True,
    migrates=True,
    migratable=True,
    most_sockets=8,
    most_memory=8 * 2**30,
    booted_memory=2 * 2**30,
    hotplugs_disks=True,
    expands_disks=True,
    hot_disks=frozenset({"hot"}),
    switches={"lan": "bridge", "internet": "pod", "fast": "sriov"},
)


def spec(**changes: Any) -> words.VirtualMachineSpec:
    tree = {"apiVersion": api.API_VERSION, "kind": "VirtualMachine", "metadata": {"name": "web", "namespace": "shop"}}
    return api.parse(api.VirtualMachine, {**tree, "spec": {**SPEC, **changes}}).spec


def told(running: Running = UP, **edit: Any) -> list[Change]:
    return list(changes(spec(), spec(**edit), running))


def only(running: Running = UP, **edit: Any) -> tuple[str, str]:
    """The field and when, of an edit that changes one."""
    (change,) = told(running, **edit)
    return change.field, change.when


DISKS, NICS = SPEC["disks"], SPEC["nics"]


@pytest.mark.parametrize(
    ("edit", "field", "when"),
    [
        ({"powerState": "PoweredOff"}, "powerState", "at once"),
        ({"onGuestShutdown": "StayOff"}, "onGuestShutdown", "at once"),
        ({"availability": {"restartPriority": "High"}}, "availability.restartPriority", "at once"),
        ({"cpu": {"sockets": 8}}, "cpu.sockets", "by live migration"),
        ({"cpu": {"sockets": 9}}, "cpu.sockets", "at the next start"),
        ({"cpu": {"sockets": 1}}, "cpu.sockets", "at the next start"),
        ({"cpu": {"sockets": 2, "cores": 2}}, "cpu.cores", "at the next start"),
        ({"memory": {"size": "8Gi"}}, "memory.size", "by live migration"),
        ({"memory": {"size": "9Gi"}}, "memory.size", "at the next start"),
        ({"memory": {"size": "1Gi"}}, "memory.size", "at the next start"),
        ({"memory": {"size": "2147483649"}}, "memory.size", "at the next start"),
        ({"memory": {"size": "2Gi", "hugepages": "2Mi"}}, "memory.hugepages", "at the next start"),
        ({"reservations": {"memory": "1Gi"}}, "reservations.memory", "at the next start"),
        ({"disks": [*DISKS, {"name": "new", "size": "1Gi", "datastore": "gold"}]}, "disks[new]", "live"),
        (
            {"disks": [*DISKS, {"name": "new", "size": "1Gi", "datastore": "gold", "bus": "sata"}]},
            "disks[new]",
            "at the next start",
        ),
        (
            {"disks": [*DISKS, {"name": "new", "size": "1Gi", "datastore": "gold", "bootOrder": 1}]},
            "disks[new]",
            "at the next start",
        ),
        ({"disks": DISKS[:1]}, "disks[hot]", "live"),
        ({"disks": DISKS[1:]}, "disks[root]", "at the next start"),
        ({"disks": [{**DISKS[0], "size": "20Gi"}, DISKS[1]]}, "disks[root].size", "at once"),
        ({"disks": [{**DISKS[0], "bus": "scsi"}, DISKS[1]]}, "disks[root].bus", "at the next start"),
        ({"disks": [{**DISKS[0], "deletionPolicy": "Delete"}, DISKS[1]]}, "disks[root].deletionPolicy", "at once"),
        ({"nics": [*NICS, {"name": "new", "network": "lan"}]}, "nics[new]", "by live migration"),
        ({"nics": [*NICS, {"name": "new", "network": "internet"}]}, "nics[new]", "at the next start"),
        ({"nics": []}, "nics[front]", "live"),
        ({"nics": [{**NICS[0], "linkState": "Down"}]}, "nics[front].linkState", "live"),
        ({"nics": [{**NICS[0], "network": "internet"}]}, "nics[front].network", "at the next start"),
        ({"nics": [{**NICS[0], "model": "e1000e"}]}, "nics[front].model", "at the next start"),
        ({"nics": [{**NICS[0], "macAddress": "02:00:00:00:00:01"}]}, "nics[front].macAddress", "at the next start"),
        ({"placement": {"nodeSelector": {"a": "b"}}}, "placement.nodeSelector.a", "at the next move or start"),
        ({"guest": {"hostname": "a", **SPEC["guest"]}}, "guest.hostname", "at the next start"),
        ({"firmware": {"serial": "A-1"}}, "firmware.serial", "at the next start"),
    ],
)
def test_a_running_vm(edit: Tree, field: str, when: str) -> None:
    found = told(**edit)
    assert [(change.field, change.when) for change in found] == [(f"spec.{field}", when)]


@pytest.mark.parametrize(
    "edit",
    [
        {"cpu": {"sockets": 3}},
        {"memory": {"size": "3Gi"}},
        {"disks": [*DISKS, {"name": "new", "size": "1Gi", "datastore": "gold"}]},
        {"disks": DISKS[:1]},
        {"nics": []},
        {"nics": [{**NICS[0], "linkState": "Down"}]},
        {"placement": {"nodeSelector": {"a": "b"}}},
    ],
)
def test_a_vm_that_is_off_waits_for_its_start(edit: Tree) -> None:
    assert only(dataclasses.replace(UP, up=False), **edit)[1] == "at the next start"


@pytest.mark.parametrize(
    ("fact", "edit", "why"),
    [
        ({"staged": True}, {"cpu": {"sockets": 3}}, "vmRolloutStrategy is Stage"),
        ({"restart_pending": True}, {"memory": {"size": "3Gi"}}, "waits for a restart"),
        ({"migratable": False}, {"cpu": {"sockets": 3}}, "condition Migratable"),
        ({"most_memory": None}, {"memory": {"size": "3Gi"}}, "does not plug memory"),
        (
            {"hotplugs_disks": False},
            {"disks": [*DISKS, {**DISKS[0], "name": "new"}]},
            "DeclarativeHotplugVolumes is off",
        ),
    ],
)
def test_what_keeps_a_change_from_being_live_is_said(fact: Tree, edit: Tree, why: str) -> None:
    (change,) = told(dataclasses.replace(UP, **fact), **edit)
    assert change.when == "at the next start"
    assert why in change.why


def test_what_nobody_knows_is_said() -> None:
    """A tenant reads neither KubeVirt's configuration nor Networks."""
    blind = Running(up=True, most_sockets=8)
    assert told(blind, cpu={"sockets": 3})[0].why == "if KubeVirt's workloadUpdateMethods have LiveMigrate"
    assert "if Network lan is of kind" in told(blind, nics=[])[0].why
    assert "may be off" in told(blind, disks=[{**DISKS[0], "size": "20Gi"}, DISKS[1]])[0].why


def test_what_comes_with_something_that_waits_for_a_restart_waits_as_well() -> None:
    """KubeVirt changes neither CPU nor memory live once it has said that a restart is required; NICs it still does."""
    edit: Tree = {"cpu": {"sockets": 3}, "nics": [{**NICS[0], "linkState": "Down"}], "firmware": {"serial": "A-1"}}
    assert [(change.field, change.when) for change in told(**edit)] == [
        ("spec.cpu.sockets", "at the next start"),
        ("spec.nics[front].linkState", "live"),
        ("spec.firmware.serial", "at the next start"),
    ]


def test_nobody_starts_migrations() -> None:
    (change,) = told(dataclasses.replace(UP, migrates=False), cpu={"sockets": 3})
    assert (change.when, "virtctl migrate" in change.why) == ("by live migration", True)


def test_what_is_the_same_in_other_words_is_no_change() -> None:
    assert told(memory={"size": "2048Mi"}, disks=DISKS[::-1], nics=list(NICS)) == []


def test_what_a_guest_is_given_is_a_secret() -> None:
    (change,) = told(guest={"cloudInit": {"userData": "password: other"}})
    assert (change.field, change.secret) == ("spec.guest.cloudInit.userData", True)


def test_differences_of_lists_without_names_are_of_the_whole() -> None:
    assert list(differences({"a": [1, 2]}, {"a": [2, 1]})) == [("a", [1, 2], [2, 1])]
    assert list(differences({"a": []}, {})) == []
    assert list(differences({"a": {"b": 1}}, {})) == [("a.b", 1, None)]


def test_the_guide_tells_of_every_field_that_changes_live() -> None:
    page = GUIDE.read_text()
    for field in ("cpu.sockets", "memory.size", "disks[].size", "nics[].linkState", "placement"):
        assert re.search(rf"^\| .*`{re.escape(field)}`", page, re.MULTILINE), field
