"""Admission control over what the store holds: how much room there is, who waits, and who goes first."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.providers.failover import cluster as c
from tests.unit.services import datacenter as d
from vdcos import api
from vdcos.core import amounts, ownership
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.kubernetes import LauncherPod, Node
from vdcos.core.objects import Key
from vdcos.providers.failover import room
from vdcos.testing.world import World

Tree = dict[str, Any]
GI = 1 << 30


def three(*more: Tree, **control: Any) -> World:
    """Three hosts of 8 CPUs and 16Gi."""
    return World(c.host("host-1"), c.host("host-2"), c.host("host-3"), d.policy(admissionControl=control), *more)


def account(there: World) -> room.Account:
    found = room.account(c.view(there))
    assert found is not None
    return found


def left(there: World, number: int = 0) -> tuple[int, int]:
    available = account(there).rooms[number].promise.available
    return available["cpu"], available["memory"] // GI


def asking(cpu: int = 0, gi: int = 0, on: str = "") -> room.Asking:
    selector = {"kubernetes.io/hostname": on} if on else {}
    return room.Asking(amounts.of(cpu * 1000, gi * GI), None, selector)


def test_without_a_policy_nobody_is_judged() -> None:
    assert room.account(c.view(World(c.host("host-1")))) is None


@pytest.mark.parametrize(
    ("control", "want"),
    [
        ({}, (16000, 32)),
        ({"hostFailures": {"tolerated": 2}}, (8000, 16)),
        ({"percentage": {"cpu": 50, "memory": 25}}, (12000, 36)),
        ({"dedicatedHosts": {}}, (16000, 32)),
        ({"mode": "Warn"}, (16000, 32)),
    ],
)
def test_what_is_left_beside_the_promise(control: Tree, want: tuple[int, int]) -> None:
    assert left(three(d.host("host-3", failoverOnly=True), **control)) == want


def test_what_is_used_and_what_is_underway_count_once() -> None:
    there = three(c.pod("web", cpu="2", memory="4Gi"), c.other("daemon", cpu="1", memory="1Gi"))
    assert left(there) == (13000, 27)
    there.put(c.child("web", f"2000m/{4 * GI}"))
    assert left(there) == (13000, 27), "it runs: its pod counts"
    there.put(c.child("db", f"3000m/{2 * GI}"))
    assert left(there) == (10000, 25), "it was admitted, and has no pod"
    there.put(c.pod("db", on="", cpu="3", memory="2Gi"))
    assert left(there) == (10000, 25), "its pod has no host yet"
    there.change(LauncherPod, c.key("virt-launcher-db"), spec={"nodeName": "host-2"})
    assert left(there) == (10000, 25)
    there.change(LauncherPod, c.key("virt-launcher-db"), status={"phase": "Failed"})
    assert left(there) == (10000, 25), "it starts again"
    there.change(kubevirt.VirtualMachine, c.key("db"), metadata={"annotations": {ownership.ADMITTED: ""}})
    assert left(there) == (13000, 27), "it is off"


NO_HOST = {
    "unschedulable": {
        "type": "PodScheduled",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 too small",
    },
    "beyond a quota": {"type": "Synchronized", "reason": "FailedCreate", "message": "exceeded quota"},
}


@pytest.mark.parametrize("why", NO_HOST)
def test_what_gets_no_host_takes_no_room(why: str) -> None:
    there = three(c.child("huge", f"3000m/{2 * GI}"), c.pod("huge", on="", cpu="3", memory="2Gi"))
    assert left(there) == (13000, 30)
    said = [{**NO_HOST[why], "status": "False"}]
    there.put(d.instance("huge", "", phase="Scheduling", conditions=said, activePods={}))
    assert left(there) == (16000, 32)


@pytest.mark.parametrize(
    "message",
    [
        "0/3 nodes are available: 3 pod has unbound immediate PersistentVolumeClaims.",
        "PVC shop/root does not exist, waiting for it to appear",
    ],
)
def test_who_waits_for_storage_keeps_his_room(message: str) -> None:
    there = three(c.child("web", f"3000m/{2 * GI}"))
    said = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]
    there.put(d.instance("web", "", phase="Scheduling", conditions=said, activePods={}))
    assert left(there) == (13000, 30)


@pytest.mark.parametrize(
    "owner",
    [
        {},
        {"apiVersion": "kubevirt.io/v1"},
        {"apiVersion": api.GROUP},
        {"kind": "Network"},
        {"name": "other"},
        {"controller": False},
    ],
)
def test_what_others_say_was_admitted_does_not_count(owner: Tree) -> None:
    forged = c.child("web", f"3000m/{2 * GI}")
    owners = [{**forged["metadata"]["ownerReferences"][0], **owner}] if owner else []
    there = three({**forged, "metadata": {**forged["metadata"], "ownerReferences": owners}})
    assert left(there) == (16000, 32)


def test_what_is_left_of_a_vm_that_goes_is_its_pod() -> None:
    """Somebody's finalizer keeps it, for as long as he likes."""
    going = c.child("web", f"3000m/{2 * GI}")
    going["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["somebody.example/holds"]}
    there = three(going)
    assert left(there) == (16000, 32)
    there.put(c.pod("web", "host-1", cpu="3", memory="2Gi"))
    assert left(there) == (13000, 30)


def test_a_cordoned_host_counts_with_what_is_used_of_it() -> None:
    there = three(c.pod("web", "host-3", cpu="2", memory="4Gi"))
    there.change(Node, Key("", "host-3"), spec={"unschedulable": True})
    assert left(there) == (8000, 16)


def test_policies_that_share_the_hosts() -> None:
    def labelled(name: str) -> Tree:
        return {"matchLabels": {"kubernetes.io/hostname": name}}

    hosts = [c.host(name) for name in ("host-1", "host-2")]
    there = World(*hosts, *(d.policy(name, hosts=labelled(f"host-{n}"), admissionControl={
        "percentage": {"cpu": 50, "memory": 50}}) for n, name in ((1, "a"), (2, "b"))))  # fmt: skip
    there.put(c.pod("web", "host-1", cpu="4", memory="1Gi"))
    assert (left(there, 0), left(there, 1)) == ((0, 7), (4000, 8))
    found = account(there)
    lack = found.lack(c.key("new"), asking(cpu=1))
    assert lack is not None
    assert lack.policy == "a", "it might start there"
    assert found.lack(c.key("new"), asking(cpu=1, on="host-2")) is None
    assert found.lack(c.key("new"), asking(cpu=9, on="host-3")) is None, "on no host of theirs"


def test_only_a_policy_that_enforces_holds_anybody() -> None:
    for mode, held in (("Enforce", True), ("Warn", False), ("Disabled", False)):
        assert (account(three(mode=mode)).lack(c.key("new"), asking(cpu=17)) is not None) is held


def waiting(name: str, gi: int, **spec: Any) -> Tree:
    tree = d.vm(name, spec.pop("availability", None), **spec)
    return {**tree, "status": {"waitsFor": {"cpu": "1", "memory": f"{gi}Gi"}}}


def test_who_waits_goes_in_the_order_of_restart_and_holds_up_nobody_that_fits() -> None:
    there = three(
        waiting("huge", 33, availability={"restartPriority": "Highest"}),
        waiting("low", 20, availability={"restartPriority": "Low"}),
        waiting("base", 10),
        waiting("top", 12, availability={"dependsOn": [{"name": "base"}]}),
        waiting("small", 11),
        waiting("web", 10),
    )
    found = account(there)
    judged = found.judged(found.waiting)
    assert [key.name for key in judged] == ["huge", "small", "base", "web", "top", "low"]
    assert {key.name for key, lack in judged.items() if lack is None} == {"small", "base", "web"}
    assert found.lack(c.key("z"), asking(cpu=1, gi=10)) is not None, "those that wait come before it"
    assert found.lack(c.key("a"), asking(cpu=1, gi=11)) is None, "by name, it comes before small"


def test_who_is_stalled_comes_after_all_others_and_does_not_wait_in_vain() -> None:
    stalled = waiting("stalled", 20, availability={"restartPriority": "Highest"})
    stalled["status"]["conditions"] = [{"type": "Stalled", "status": "True", "reason": "DiskNotOurs"}]
    found = account(three(stalled, waiting("low", 20)))
    judged = found.judged(found.waiting)
    assert [(key.name, lack is None) for key, lack in judged.items()] == [("low", True), ("stalled", False)]
    found = account(three(stalled))
    assert list(found.judged(found.waiting).values()) == [None]


def test_what_is_said_of_it() -> None:
    lack = account(three()).lack(c.key("new"), room.Asking(amounts.of(1000, 33 * GI + 1), None, {}))
    assert lack is not None
    assert "1 CPU and 33793Mi of memory are needed" in lack.message()
    assert d.POLICY in lack.message()
    assert room.status({"cpu": 1500, "memory": 3 * GI}) == {"cpu": "1500m", "memory": "3Gi"}
    assert room.status({}) == {"cpu": "0", "memory": "0"}


NEEDS = st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.integers(0, 9), st.integers(0, 20)))


@given(NEEDS)
def test_nobody_takes_more_than_there_is_and_nobody_waits_in_vain(needs: dict[str, tuple[int, int]]) -> None:
    found = account(three())
    available = found.rooms[0].promise.available
    asked = {c.key(name): asking(*need) for name, need in needs.items()}
    judged = found.judged(asked)
    taken = sum((asked[key].need for key, lack in judged.items() if lack is None), start=amounts.NOTHING)
    assert not taken.beyond(available)
    before = amounts.NOTHING
    for key in judged:
        if judged[key] is None:
            before = before + asked[key].need
        else:
            assert (before + asked[key].need).beyond(available), "it would have fitted"
    for key, one in asked.items():
        others = {other: each for other, each in asked.items() if other != key}
        alone = room.Account(found.rooms, others).lack(key, one)
        assert alone == judged[key], "each finds for itself what is found for all"


@pytest.mark.parametrize("text", ["", "x"])
def test_what_others_write_admits_nothing(text: str) -> None:
    there = World(c.child("web", text or "y"))
    held = there.held(kubevirt.VirtualMachine, c.key("web"))
    assert isinstance(held, kubevirt.VirtualMachine)
    assert room.admitted(held) is None
    assert room.admitted(None) is None
    assert list(room.ALLOWED.keys(held)) == []


def test_a_policy_that_cannot_be_read_is_none() -> None:
    there = three()
    there.change(api.HAPolicy, Key("", d.POLICY), spec={"stormBrake": {"maxHosts": "many"}})
    assert room.account(c.view(there)) is None


def test_nothing_is_free_that_cannot_be_seen() -> None:
    there = three()
    there.unavailable(LauncherPod, "pods may not be listed")
    lack = account(there).lack(c.key("new"), asking(cpu=1))
    assert lack is not None
    assert "pods may not be listed" in lack.message()
    assert account(there).lack(c.key("new"), asking(cpu=1, on="host-9")) is None
