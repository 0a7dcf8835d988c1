"""A VM starts and grows when failover capacity lets it; what runs is never stopped, and what restarts never waits."""

from typing import Any

import pytest

from tests.unit.providers.failover import cluster as c
from tests.unit.services import datacenter as d
from tests.unit.services.virtualmachine import builders as b
from tests.unit.services.virtualmachine.test_held import failure
from vdcos import api
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.kubernetes import LauncherPod
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Key
from vdcos.core.ownership import ADMITTED
from vdcos.core.plan import Apply
from vdcos.providers.failover.room import INSUFFICIENT
from vdcos.services.virtualmachine import capacity
from vdcos.testing.world import World

Tree = dict[str, Any]
POLICY = Key("", d.POLICY)
FULL = c.other("full", "host-1", "7", "15Gi")
"""Of two hosts of 8 CPUs and 16Gi one is kept free, and this takes the rest, but for a CPU and 1Gi."""


LAUNCHED = c.pod("web", "host-1", cpu="105m", memory="1389760192")
"""What KubeVirt makes of the VM."""


def crowded(machine: Tree, *more: Tree, full: bool = True, **control: Any) -> World:
    policy = d.policy(admissionControl=control)
    return b.world(machine, c.host("host-1"), c.host("host-2"), policy, *([FULL] if full else []), *more)


def strategy(there: World) -> str:
    return str(there.tree(b.CHILD, b.KEY)["spec"]["runStrategy"])


def admitted(there: World) -> str | None:
    found = there.tree(b.CHILD, b.KEY)["metadata"].get("annotations", {}).get(ADMITTED)
    return None if found is None else str(found)


def freed(there: World) -> None:
    there.change(LauncherPod, Key("kube-system", "full"), status={"phase": "Succeeded"})
    b.settle(there)


def test_a_new_vm_waits_until_there_is_room() -> None:
    there = crowded(b.vm())
    b.settle(there)
    assert (strategy(there), admitted(there)) == ("Halted", None)
    status, reason, message = b.says(there, "PowerStateSynced")
    assert (status, reason) == ("False", INSUFFICIENT)
    assert "0.105 CPUs and 1326Mi of memory are needed" in message
    assert d.POLICY in message
    assert b.status(there)["powerState"] == "PoweredOff"
    assert b.status(there)["waitsFor"] == {"cpu": "105m", "memory": "1389760192"}
    assert b.says(there, "Ready")[:2] == ("False", INSUFFICIENT)
    freed(there)
    assert (strategy(there), admitted(there)) == ("Always", "105m/1389760192")
    assert "waitsFor" not in b.status(there)


def test_a_vm_that_is_powered_on_waits_and_one_that_is_off_takes_nothing() -> None:
    there = crowded(b.vm(powerState="PoweredOff"))
    b.settle(there)
    assert (strategy(there), b.says(there, "Ready")[0]) == ("Halted", "True")
    b.edit(there, powerState="PoweredOn")
    b.settle(there)
    assert (strategy(there), b.says(there, "Ready")[1]) == ("Halted", INSUFFICIENT)
    b.edit(there, powerState="PoweredOff")
    b.settle(there)
    assert b.says(there, "Ready")[0] == "True"
    assert "waitsFor" not in b.status(there)


def test_what_is_powered_off_gives_its_room_back() -> None:
    there = crowded(b.vm(), full=False)
    b.settle(there)
    assert admitted(there) == "105m/1389760192"
    b.edit(there, powerState="PoweredOff")
    b.settle(there)
    assert (strategy(there), admitted(there)) == ("Halted", "")


FORGED = "9999000m/9999999999999"
"""More than all hosts have."""


def test_an_admission_that_somebody_took_away_is_put_back() -> None:
    there = crowded(b.vm(), full=False)
    b.settle(there)
    there.change(b.CHILD, b.KEY, metadata={"annotations": {ADMITTED: None}})
    assert admitted(there) is None
    b.settle(there)
    assert admitted(there) == "105m/1389760192"
    assert b.says(there, "Applied")[:2] == ("True", "Applied")


def test_nobody_admits_his_vm_by_its_child() -> None:
    there = crowded(b.vm())
    b.settle(there)
    assert strategy(there) == "Halted"
    there.change(b.CHILD, b.KEY, spec={"runStrategy": "Always"})
    b.settle(there)
    assert (strategy(there), admitted(there)) == ("Halted", None)
    assert b.says(there, "PowerStateSynced")[1] == INSUFFICIENT


@pytest.mark.parametrize("full", [False, True], ids=["there is room", "there is none"])
@pytest.mark.parametrize("policy", [True, False])
def test_what_a_detached_vm_says_was_admitted_counts_for_nothing(policy: bool, full: bool) -> None:
    """Nobody owned it, so anybody who may have KubeVirt copy annotations can have written it."""
    there = crowded(b.vm(), full=full) if policy else b.world(b.vm())
    b.settle(there)
    there.change(b.CHILD, b.KEY, metadata={"ownerReferences": None, "annotations": {ADMITTED: FORGED}})
    b.settle(there)
    assert there.tree(b.CHILD, b.KEY)["metadata"]["ownerReferences"]
    assert admitted(there) == ("105m/1389760192" if policy and not full else "")
    if policy:
        assert strategy(there) == ("Halted" if full else "Always")


def test_what_is_admitted_counts_before_it_is_written() -> None:
    """Two VMs that are judged at once do not both take the last room."""
    there = crowded(b.vm(), full=False)
    [create] = [action for action in there.plan(b.SERVICE, b.KEY).actions if isinstance(action, Apply)]
    assert isinstance(create.assumed, kubevirt.VirtualMachine)
    assert create.assumed.metadata.annotation(ADMITTED) == "105m/1389760192"
    b.edit(there, powerState="PoweredOff")
    b.settle(there)
    b.edit(there, powerState="PoweredOn")
    [start] = [action for action in there.plan(b.SERVICE, b.KEY).actions if isinstance(action, Apply)]
    assert isinstance(start.assumed, kubevirt.VirtualMachine)
    assert start.assumed.metadata.annotation(ADMITTED) == "105m/1389760192"
    b.settle(there)
    b.edit(there, onGuestShutdown="StayOff")
    [other] = [action for action in there.plan(b.SERVICE, b.KEY).actions if isinstance(action, Apply)]
    assert other.assumed is None, "nothing more is admitted"


@pytest.mark.parametrize("mode", ["Warn", "Disabled"])
def test_a_policy_that_does_not_enforce_holds_nobody(mode: str) -> None:
    there = crowded(b.vm(), mode=mode)
    b.settle(there)
    assert (strategy(there), admitted(there)) == ("Always", "105m/1389760192")


def test_without_a_policy_nothing_is_noted() -> None:
    there = b.world(b.vm())
    b.settle(there)
    assert (strategy(there), admitted(there)) == ("Always", None)


def test_a_new_policy_stops_nothing_and_notes_what_runs() -> None:
    there = b.running(b.vm())
    for tree in (
        c.host("host-1"),
        c.host("host-2"),
        FULL,
        d.policy(admissionControl={"percentage": {"cpu": 100, "memory": 100}}),
    ):
        there.put(tree)
    b.settle(there)
    assert (strategy(there), b.says(there, "PowerStateSynced")[1]) == ("Always", "PoweredOn")
    assert admitted(there) is None, "no pod of it is seen"
    there.put(LAUNCHED)
    b.settle(there)
    assert (strategy(there), b.says(there, "PowerStateSynced")[1]) == ("Always", "PoweredOn")
    assert admitted(there) == "105m/1389760192"


def grown(**control: Any) -> World:
    there = b.running(b.vm())
    for tree in (c.host("host-1"), c.host("host-2"), FULL, LAUNCHED, d.policy(admissionControl=control)):
        there.put(tree)
    b.settle(there)
    b.edit(there, memory={"size": "3Gi"}, onGuestShutdown="StayOff")
    b.settle(there)
    return there


def memory(there: World) -> str:
    return str(there.tree(b.CHILD, b.KEY)["spec"]["template"]["spec"]["domain"]["memory"]["guest"])


def test_a_vm_that_grows_keeps_what_it_has_until_there_is_room() -> None:
    there = grown()
    assert (memory(there), admitted(there), strategy(there)) == ("1Gi", "105m/1389760192", "RerunOnFailure")
    assert b.status(there)["powerState"] == "PoweredOn"
    assert b.status(there)["waitsFor"] == {"cpu": "0", "memory": "2Gi"}
    for kind in ("Ready", "Applied", "PowerStateSynced"):
        assert b.says(there, kind)[:2] == ("False", INSUFFICIENT)
    assert "grows when failover capacity lets it" in b.says(there, "PowerStateSynced")[2]
    freed(there)
    assert (memory(there), admitted(there)) == ("3Gi", f"105m/{1389760192 + (2 << 30)}")
    assert "waitsFor" not in b.status(there)


def test_growth_that_was_refused_is_judged_again() -> None:
    """The API server refused it, and the generation counts as seen: it must not slip through afterwards."""
    there = grown()
    tree = there.tree(b.VM, b.KEY)
    assert tree["status"]["observedGeneration"] == tree["metadata"]["generation"]
    del tree["status"]["waitsFor"]
    there._place(there._resource_of(b.VM), tree, "test")
    b.settle(there)
    assert memory(there) == "1Gi"


def test_a_vm_that_waits_to_grow_can_be_powered_off() -> None:
    there = grown()
    b.edit(there, powerState="PoweredOff")
    b.settle(there)
    assert (strategy(there), memory(there), admitted(there)) == ("Halted", "3Gi", "")


def test_only_warned_about_it_grows() -> None:
    there = grown(mode="Warn")
    assert (memory(there), b.says(there, "PowerStateSynced")[0]) == ("3Gi", "True")


def dead(there: World) -> World:
    there.put(failure(there))
    b.settle(there)
    return there


def released(there: World) -> None:
    key = Key("", d.FAILURE)
    machines = there.tree(api.HostFailure, key)["status"]["machines"]
    there.change(api.HostFailure, key, status={"machines": [{**machines[0], "state": "Released"}]})
    there.remove(VirtualMachineInstance, b.KEY)
    b.settle(there)


@pytest.mark.parametrize("noted", [True, False], ids=["admitted before", "it ran before there was a policy"])
def test_a_restart_after_a_failure_does_not_wait(noted: bool) -> None:
    there = b.running(b.vm())
    there.put(c.host("host-1"))
    if noted:
        there.put(d.policy(admissionControl={"mode": "Warn"}))
        b.settle(there)
        there.change(api.HAPolicy, POLICY, spec={"admissionControl": {"mode": "Enforce"}})
    else:
        there.put(d.policy())
    there.put(FULL)
    dead(there)
    assert (strategy(there), admitted(there)) == ("Halted", "105m/1389760192"), "its place is kept"
    released(there)
    assert (strategy(there), b.says(there, "PowerStateSynced")[1]) == ("Always", "PoweringOn")


def test_a_vm_that_waits_does_not_hold_up_what_it_refers_to() -> None:
    """A reference that does not resolve is told first, and takes nobody's place."""
    there = crowded(b.vm(nics=[{"name": "nic0", "network": "missing"}]))
    b.settle(there)
    assert not there.has(b.CHILD, b.KEY)
    assert "waitsFor" not in b.status(there)


def test_a_vm_with_broken_references_is_powered_on_with_the_hardware_that_it_has_when_there_is_room() -> None:
    there = crowded(b.vm(powerState="PoweredOff"))
    b.settle(there)
    b.edit(there, powerState="PoweredOn", nics=[{"name": "nic0", "network": "missing"}])
    b.settle(there)
    assert (strategy(there), b.says(there, "PowerStateSynced")[1]) == ("Halted", INSUFFICIENT)
    freed(there)
    assert (strategy(there), admitted(there)) == ("Always", "105m/1389760192")


def test_an_instance_type_says_how_large_it_is() -> None:
    small = {
        "apiVersion": "instancetype.kubevirt.io/v1beta1",
        "kind": "VirtualMachineClusterInstancetype",
        "metadata": {"name": "small"},
        "spec": {"cpu": {"guest": 4}, "memory": {"guest": "8Gi"}},
    }
    machine = b.own("VirtualMachine", "web", {"instancetype": {"name": "small"}}, "shop", creationTimestamp=b.CREATED)
    there = crowded(machine, small)
    b.settle(there)
    assert b.status(there)["waitsFor"] == {"cpu": "405m", "memory": "8931118784"}


def test_what_is_no_quantity_needs_nothing() -> None:
    seen = b.SERVICE.observe(b.KEY, b.world(b.vm()).view(b.SERVICE))
    for guest in ("much", ["1Gi"]):
        spec = {"template": {"spec": {"domain": {"memory": {"guest": guest}}}}}
        assert capacity.needs(spec, seen) == {}


# Protected


def test_a_running_vm_says_whether_it_would_restart() -> None:
    there = b.running(b.vm())
    for tree in (c.host("host-1"), c.host("host-2"), d.policy(), c.pod("web")):
        there.put(tree)
    b.settle(there)
    assert b.says(there, "Protected")[:2] == ("True", "RestartsElsewhere")
    there.put(c.other("full", "host-2", "8", "16Gi"))
    b.settle(there)
    assert b.says(there, "Protected")[:2] == ("False", "NoCapacity")
    there.remove(api.HAPolicy, POLICY)
    b.settle(there)
    assert "Protected" not in {each["type"] for each in b.status(there)["conditions"]}


def ran() -> World:
    """It runs, and there is room for nothing more."""
    there = crowded(b.vm(), full=False)
    b.settle(there)
    b.fill(there)
    b.start(there)
    b.settle(there)
    there.put(FULL)
    return there


def test_one_that_grows_while_it_waits_for_its_turn_restarts_as_it_was() -> None:
    there = dead(ran())
    before = memory(there)
    b.edit(there, memory={"size": "400Gi"})
    b.settle(there)
    assert (strategy(there), admitted(there), memory(there)) == ("Halted", "105m/1389760192", before)
    released(there)
    assert (strategy(there), admitted(there), memory(there)) == ("Always", "105m/1389760192", before)


def test_what_was_admitted_goes_with_the_kubevirt_vm() -> None:
    """Who deletes that while it waits is judged anew, for what is declared by then."""
    there = dead(ran())
    b.edit(there, memory={"size": "400Gi"})
    there.remove(b.CHILD, b.KEY)
    b.settle(there)
    assert (strategy(there), admitted(there)) == ("Halted", None)
    released(there)
    assert (strategy(there), b.says(there, "PowerStateSynced")[1]) == ("Halted", INSUFFICIENT)


def test_one_that_nothing_was_noted_for_keeps_what_it_ran_with() -> None:
    there = ran()
    there.change(b.CHILD, b.KEY, metadata={"annotations": {ADMITTED: None}})
    there.put(failure(there))
    b.edit(there, memory={"size": "400Gi"})
    b.settle(there)
    assert (strategy(there), admitted(there)) == ("Halted", "105m/1389760192")
