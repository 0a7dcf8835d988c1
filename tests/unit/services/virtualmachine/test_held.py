"""A VM whose host has failed waits for its turn: off as long as the failure holds it, and never stopped elsewhere."""

from typing import Any

import pytest

from tests.unit.services import datacenter as d
from tests.unit.services.virtualmachine import builders as b
from vdcos import api
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Key, Own
from vdcos.core.plan import Patch
from vdcos.testing.world import Conflict, World

Tree = dict[str, Any]

FAILURE = Key("", d.FAILURE)


def strategy(there: World) -> str:
    return str(there.tree(b.CHILD, b.KEY)["spec"]["runStrategy"])


def failure(there: World, state: str = "Held", phase: str = "Restarting", **more: Any) -> Tree:
    """The host of the VM has failed; it is its turn when the state says so."""
    instance = there.tree(VirtualMachineInstance, b.KEY)["metadata"]["uid"]
    machine = {
        "namespace": "shop",
        "name": "web",
        "uid": there.tree(b.VM, b.KEY)["metadata"]["uid"],
        "instance": instance,
        "tier": 1,
        "state": state,
        "since": "2026-01-01T00:00:00Z",
    }
    return d.failure(status={"phase": phase, "machines": [{**machine, **more}]})


def held(machine: Tree | None = None) -> World:
    there = b.running(machine)
    there.put(failure(there))
    there.log.clear()
    b.settle(there)
    return there


def released(there: World) -> None:
    machines = there.tree(api.HostFailure, FAILURE)["status"]["machines"]
    there.change(api.HostFailure, FAILURE, status={"machines": [{**machines[0], "state": "Released"}]})
    b.settle(there)


def test_a_vm_that_died_is_held_off_and_says_for_what_it_waits() -> None:
    there = held()
    assert strategy(there) == "Halted"
    status, reason, message = b.says(there, "PowerStateSynced")
    assert (status, reason) == ("False", "HeldForRestart")
    assert f"kubectl describe hostfailure {d.FAILURE}" in message
    assert b.says(there, "Ready")[:2] == ("False", "HeldForRestart")
    assert b.status(there)["powerState"] == "PoweredOff"
    there.remove(VirtualMachineInstance, b.KEY)
    b.notice(there)
    b.settle(there)
    assert (strategy(there), b.says(there, "PowerStateSynced")[1]) == ("Halted", "HeldForRestart")


@pytest.mark.parametrize(("guest", "want"), [("Restart", "Always"), ("StayOff", "RerunOnFailure")])
def test_it_is_powered_on_when_it_is_its_turn(guest: str, want: str) -> None:
    there = held(b.vm(onGuestShutdown=guest))
    assert strategy(there) == "Halted"
    there.remove(VirtualMachineInstance, b.KEY)
    b.notice(there)
    released(there)
    assert strategy(there) == want
    assert b.says(there, "PowerStateSynced")[1] != "HeldForRestart"


NOT_HELD: list[tuple[str, Tree]] = [
    ("it may start", {"state": "Released"}),
    ("it is up", {"state": "Up"}),
    ("it was given up", {"state": "Down"}),
    ("the failure is over", {"phase": "Completed"}),
    ("another VM of its name is meant", {"uid": "before"}),
    ("nobody is meant", {"uid": ""}),
    ("another instance died, and this one runs elsewhere", {"instance": "before"}),
]


@pytest.mark.parametrize("reason, said", NOT_HELD, ids=[row[0] for row in NOT_HELD])
def test_who_is_not_held(reason: str, said: Tree) -> None:
    there = b.running()
    there.put(failure(there, **said))
    there.log.clear()
    b.settle(there)
    assert (strategy(there), there.log) == ("Always", [])
    assert b.says(there, "PowerStateSynced")[:2] == ("True", "PoweredOn")


def test_one_that_had_moved_away_is_not_stopped_where_it_runs() -> None:
    """A live migration keeps the instance: the failure was told of it by a view from before."""
    there = b.running()
    there.change(VirtualMachineInstance, b.KEY, status={"nodeName": d.OTHER})
    there.put(failure(there))
    b.settle(there)
    assert strategy(there) == "Always"
    assert b.says(there, "PowerStateSynced")[:2] == ("True", "PoweredOn")


def test_one_that_has_no_host_yet_is_held() -> None:
    there = b.running()
    there.change(VirtualMachineInstance, b.KEY, status={"nodeName": "", "phase": "Scheduling"})
    there.put(failure(there))
    b.settle(there)
    assert strategy(there) == "Halted"


def test_of_many_that_are_held_each_is_held_for_its_own_instance() -> None:
    there = b.running()
    known = failure(there)
    [web] = known["status"]["machines"]
    known["status"]["machines"] = [{**web, "name": "db", "uid": "db", "instance": "before"}, web]
    there.put(known)
    b.settle(there)
    assert strategy(there) == "Halted"


def test_a_failure_that_cannot_be_read_holds_nobody() -> None:
    there = b.running()
    there.put({**failure(there), "spec": {"host": d.HOST}})
    b.settle(there)
    assert strategy(there) == "Always"


def test_a_hold_that_comes_too_late_stops_nobody() -> None:
    there = b.running()
    there.put(failure(there))
    there.remove(VirtualMachineInstance, b.KEY)
    b.start(there)
    there.change(VirtualMachineInstance, b.KEY, metadata={"uid": "new"})
    b.settle(there)
    assert strategy(there) == "Always"


def test_one_whose_kubevirt_vm_is_made_anew_waits_for_its_turn_all_the_same() -> None:
    there = held()
    there.remove(VirtualMachineInstance, b.KEY)
    there.remove(b.CHILD, b.KEY)
    b.settle(there)
    assert strategy(there) == "Halted"
    assert b.says(there, "PowerStateSynced")[1] == "HeldForRestart"
    released(there)
    assert strategy(there) == "Always"


def test_a_hold_is_for_the_kubevirt_vm_as_it_was_seen() -> None:
    """One that arrives seconds late must not stop what has been restarted since."""
    there = b.running()
    there.put(failure(there))
    [hold] = there.plan(b.SERVICE, b.KEY).actions
    there.change(b.CHILD, b.KEY, status={"ready": False})
    with pytest.raises(Conflict):
        there.carry_out(hold)
    assert strategy(there) == "Always"


def test_power_alone_is_changed_of_the_kubevirt_vm_as_it_was_seen() -> None:
    """The same where references are missing, and nothing else of the VM is changed."""
    there = b.running()
    b.edit(there, nics=[{"name": "a", "network": "nowhere"}])
    there.put(failure(there))
    [hold] = there.plan(b.SERVICE, b.KEY).actions
    assert isinstance(hold, Patch)
    there.change(b.CHILD, b.KEY, status={"ready": False})
    with pytest.raises(Conflict):
        there.carry_out(hold)
    assert strategy(there) == "Always"


def test_who_is_switched_off_meanwhile_is_off_and_not_held() -> None:
    there = held()
    b.edit(there, powerState="PoweredOff")
    there.remove(VirtualMachineInstance, b.KEY)
    b.notice(there)
    b.settle(there)
    assert strategy(there) == "Halted"
    assert b.says(there, "PowerStateSynced")[:2] == ("True", "PoweredOff")
    released(there)
    assert strategy(there) == "Halted"


def test_when_the_failure_is_deleted_nobody_is_held_any_more() -> None:
    there = held()
    there.remove(VirtualMachineInstance, b.KEY)
    b.notice(there)
    there.remove(api.HostFailure, FAILURE)
    b.settle(there)
    assert strategy(there) == "Always"


def test_somebody_else_s_vm_of_its_name_is_not_halted() -> None:
    there = b.running()
    there.put(failure(there))
    there.change(b.CHILD, b.KEY, metadata={"ownerReferences": None, "labels": None})
    there.log.clear()
    b.settle(there)
    assert strategy(there) == "Always"


def test_only_a_change_of_holds_is_news() -> None:
    there = b.running()
    sees = next(watch.sees for watch in b.SERVICE.watches if watch.kind is api.HostFailure)
    assert sees is not None

    def seen(**said: Any) -> Any:
        there.put(failure(there, **said))
        own = there.held(api.HostFailure, FAILURE)
        assert isinstance(own, Own)
        return sees(own)

    assert seen() == seen(since="2026-01-01T00:00:01Z") == seen(phase="Releasing")
    assert seen() != seen(state="Released")
    assert seen() != seen(phase="Completed")
    assert seen(state="Up") == seen(state="Down")


# Hosts that are kept for failover

KEPT = {"key": "vdcos.dev/failover-only", "operator": "Exists", "effect": "NoSchedule"}


def tolerations(there: World) -> list[Tree]:
    return list(b.template(there).get("tolerations", ()))


def failing_over(there: World, **machine: Any) -> None:
    said = failure(there, **machine)
    there.put({**said, "status": {**said["status"], "failover": True}})
    b.settle(there)


RESTARTS: list[tuple[str, Tree, bool]] = [
    ("it waits for its turn", {"state": "Held"}, True),
    ("it starts", {"state": "Released"}, True),
    ("it was given up, and may start yet", {"state": "Down", "triedAt": "2026-01-01T00:00:00Z"}, True),
    ("it does not restart", {"state": "Down"}, False),
    ("it is up", {"state": "Up"}, False),
    ("another is meant", {"state": "Released", "uid": "another"}, False),
    ("the failure is over", {"state": "Released", "phase": "Completed"}, False),
]


@pytest.mark.parametrize("why, machine, want", RESTARTS, ids=[row[0] for row in RESTARTS])
def test_who_may_start_on_hosts_that_are_kept_for_failover(why: str, machine: Tree, want: bool) -> None:
    there = b.running()
    failing_over(there, **machine)
    assert tolerations(there) == ([KEPT] if want else [])


def test_what_the_vm_tolerates_itself_stays() -> None:
    own = {"key": "dusty", "operator": "Exists", "effect": "NoSchedule"}
    metadata = {"name": "shop", "annotations": {api.ALLOWED_TAINTS: "dusty"}}
    shop = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    there = b.running(b.vm(placement={"tolerations": [own]}), shop)
    failing_over(there, state="Released")
    assert tolerations(there) == [own, KEPT]
    failing_over(there, state="Up")
    assert tolerations(there) == [own]


def test_where_kubevirt_would_ask_for_a_restart_it_is_taken_back_when_the_vm_has_stopped() -> None:
    stage = {**b.KUBEVIRT, "spec": {"configuration": {"vmRolloutStrategy": "Stage"}}}
    there = b.running(kubevirt_cr=stage)
    failing_over(there, state="Released")
    failing_over(there, state="Up")
    assert tolerations(there) == [KEPT]
    there.remove(VirtualMachineInstance, b.KEY)
    b.settle(there)
    assert tolerations(there) == []


def test_nobody_is_let_there_by_a_failure_without_such_hosts() -> None:
    there = b.running()
    there.put(failure(there, "Released"))
    b.settle(there)
    assert tolerations(there) == []
