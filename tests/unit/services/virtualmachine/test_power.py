"""Power: what is declared becomes a runStrategy, and what is there becomes a state with a reason."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.services.virtualmachine import builders as b
from vdcos import api
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.kubernetes import Namespace
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Key
from vdcos.testing.world import World

Tree = dict[str, Any]


def strategy(there: World) -> str:
    return str(there.tree(b.CHILD, b.KEY)["spec"]["runStrategy"])


@pytest.mark.parametrize(
    ("declared", "want"),
    [
        ({}, "Always"),
        ({"powerState": "PoweredOff"}, "Halted"),
        ({"onGuestShutdown": "StayOff"}, "RerunOnFailure"),
        ({"powerState": "PoweredOff", "onGuestShutdown": "StayOff"}, "Halted"),
    ],
)
def test_declared_power_becomes_a_run_strategy(declared: Tree, want: str) -> None:
    there = b.world(b.vm(**declared))
    b.settle(there)
    assert strategy(there) == want


def test_off_ends_before_on_begins() -> None:
    """KubeVirt would not start a RerunOnFailure VM that it never saw halted and without an instance."""
    there = b.running(b.vm(onGuestShutdown="StayOff"))
    b.edit(there, powerState="PoweredOff")
    b.settle(there)
    b.edit(there, powerState="PoweredOn")
    b.settle(there)
    assert strategy(there) == "Halted", "the instance is still there"
    b.notice(there)
    there.change(VirtualMachineInstance, b.KEY, status={"phase": "Succeeded"})
    b.settle(there)
    assert strategy(there) == "Halted", "it has stopped, and is still there"
    there.remove(VirtualMachineInstance, b.KEY)
    b.settle(there)
    assert strategy(there) == "Halted", "KubeVirt has not noticed that it is gone"
    b.notice(there)
    b.settle(there)
    assert strategy(there) == "RerunOnFailure"


def test_off_that_kubevirt_has_not_seen_is_waited_for() -> None:
    there = b.running(b.vm(onGuestShutdown="StayOff"))
    there.remove(VirtualMachineInstance, b.KEY)
    b.notice(there)
    b.edit(there, powerState="PoweredOff")
    b.settle(there)
    b.edit(there, powerState="PoweredOn")
    b.settle(there)
    assert strategy(there) == "Halted", "KubeVirt knows it as RerunOnFailure and would not start it"
    b.notice(there)
    b.settle(there)
    assert strategy(there) == "RerunOnFailure"


def test_a_vm_that_never_ran_is_powered_on_at_once() -> None:
    there = b.world(b.vm(powerState="PoweredOff", onGuestShutdown="StayOff"))
    b.settle(there)
    b.edit(there, powerState="PoweredOn")
    b.settle(there)
    assert strategy(there) == "RerunOnFailure"


def test_restart_does_not_wait() -> None:
    there = b.running()
    b.edit(there, powerState="PoweredOff")
    b.settle(there)
    b.edit(there, powerState="PoweredOn")
    b.settle(there)
    assert strategy(there) == "Always"


def deleting(there: World) -> None:
    meta = there.tree(VirtualMachineInstance, b.KEY)["metadata"]
    there.change(VirtualMachineInstance, b.KEY, metadata={**meta, "deletionTimestamp": "2026-01-03T00:00:00Z"})


def gone(there: World) -> None:
    there.remove(VirtualMachineInstance, b.KEY)
    b.notice(there)


def conditions(*said: Tree) -> Callable[[World], None]:
    return lambda there: there.change(VirtualMachineInstance, b.KEY, status={"conditions": list(said)})


def phase(name: str) -> Callable[[World], None]:
    return lambda there: there.change(VirtualMachineInstance, b.KEY, status={"phase": name})


def starting(*said: Tree) -> Callable[[World], None]:
    return lambda there: there.change(
        VirtualMachineInstance, b.KEY, status={"phase": "Scheduling", "conditions": list(said)}
    )


def together(*happenings: Callable[[World], None]) -> Callable[[World], None]:
    def happen(there: World) -> None:
        for each in happenings:
            each(there)

    return happen


def child_status(**said: Any) -> Callable[[World], None]:
    return lambda there: there.change(b.CHILD, b.KEY, status=said)


def switched_off(there: World) -> None:
    b.edit(there, powerState="PoweredOff")


STAY_OFF = {"onGuestShutdown": "StayOff"}
READY_NO: Tree = {"type": "Ready", "status": "False"}

CASES: list[tuple[str, Tree, Callable[[World], None], str, str, str, str]] = [
    ("it runs", {}, lambda _: None, "PoweredOn", "True", "PoweredOn", "True"),
    (
        "the hand-over of a migration is no failure",
        {},
        conditions({**READY_NO, "reason": "ReadinessGatesNotReady"}),
        "PoweredOn",
        "True",
        "PoweredOn",
        "True",
    ),
    ("the host is silent", {}, conditions(READY_NO), "Unknown", "Unknown", "HostNotResponding", "Unknown"),
    ("the guest boots", {}, starting(), "PoweringOn", "False", "PoweringOn", "False"),
    (
        "running by its phase, and not up yet",
        {},
        conditions({**READY_NO, "reason": "GuestNotRunning"}),
        "PoweringOn",
        "False",
        "PoweringOn",
        "False",
    ),
    ("between two instances", {}, gone, "PoweringOn", "False", "PoweringOn", "False"),
    ("virtctl stop, restarting", {}, deleting, "PoweringOff", "False", "Restarting", "False"),
    ("powered off, still up", {}, switched_off, "PoweringOff", "False", "PoweringOff", "False"),
    ("powered off, going down", {}, together(switched_off, deleting), "PoweringOff", "False", "PoweringOff", "False"),
    ("powered off, down", {}, together(switched_off, gone), "PoweredOff", "True", "PoweredOff", "True"),
    (
        "powered off, the last instance is a corpse",
        {},
        together(switched_off, phase("Failed")),
        "PoweredOff",
        "True",
        "PoweredOff",
        "True",
    ),
    ("stays off: stopping by request", STAY_OFF, deleting, "PoweringOff", "False", "StopRequested", "False"),
    ("stays off: guest shut down", STAY_OFF, phase("Succeeded"), "PoweredOff", "True", "GuestShutdown", "True"),
    ("stays off: nobody saw why", STAY_OFF, gone, "PoweredOff", "True", "StayedOff", "True"),
    (
        "stays off: failed, so KubeVirt restarts it",
        STAY_OFF,
        phase("Failed"),
        "PoweringOn",
        "False",
        "PoweringOn",
        "False",
    ),
    (
        "stays off: virtctl start",
        STAY_OFF,
        together(gone, child_status(stateChangeRequests=[{"action": "Start"}])),
        "PoweringOn",
        "False",
        "PoweringOn",
        "False",
    ),
    (
        "paused by a person",
        {},
        conditions({"type": "Paused", "status": "True", "reason": "PausedByUser"}, READY_NO),
        "Paused",
        "False",
        "Paused",
        "False",
    ),
    (
        "paused by a broken disk",
        {},
        conditions({"type": "Paused", "status": "True", "reason": "PausedIOError"}),
        "Paused",
        "False",
        "PausedIOError",
        "False",
    ),
    (
        "paused by a migration",
        {},
        conditions({"type": "Paused", "status": "True", "reason": "PausedByMigrationMonitor"}),
        "Paused",
        "False",
        "PausedForMigration",
        "False",
    ),
    (
        "crash loop",
        {},
        together(gone, child_status(startFailure={"consecutiveFailCount": 2})),
        "PoweringOn",
        "False",
        "CrashLoop",
        "False",
    ),
    (
        "no host fits",
        {},
        starting({"type": "PodScheduled", "status": "False", "message": "0/4 nodes are available: 4 Too many pods."}),
        "PoweringOn",
        "False",
        "NoHostFits",
        "False",
    ),
    (
        "image cannot be pulled",
        {},
        starting({"type": "Synchronized", "status": "False", "reason": "ErrImagePull", "message": "no such image"}),
        "PoweringOn",
        "False",
        "ErrImagePull",
        "False",
    ),
    (
        "the state of the TPM has no claim yet",
        {},
        starting(
            {"type": "Synchronized", "status": "False", "reason": "BackendStorageNotReady", "message": "PVC pending"}
        ),
        "PoweringOn",
        "False",
        "BackendStorageNotReady",
        "False",
    ),
    (
        "KubeVirt cannot make an instance",
        {},
        together(
            gone,
            child_status(conditions=[{"type": "Failure", "status": "True", "reason": "FailedCreate", "message": "no"}]),
        ),
        "PoweringOn",
        "False",
        "FailedCreate",
        "False",
    ),
]


@pytest.mark.parametrize(
    ("declared", "happening", "state", "synced", "reason", "ready"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_power_state(
    declared: Tree, happening: Callable[[World], None], state: str, synced: str, reason: str, ready: str
) -> None:
    there = b.running(b.vm(**declared))
    happening(there)
    b.settle(there)
    assert (b.status(there)["powerState"], *b.says(there, "PowerStateSynced")[:2]) == (state, synced, reason)
    assert b.says(there, "Ready")[0] == ready
    if ready != "True":
        assert b.says(there, "Ready")[1] == reason, "Ready gives the most telling reason"


def test_why_it_stays_off_is_remembered() -> None:
    there = b.running(b.vm(onGuestShutdown="StayOff"))
    deleting(there)
    b.settle(there)
    gone(there)
    b.settle(there)
    _, reason, message = b.says(there, "PowerStateSynced")
    assert reason == "StopRequested"
    assert "virtctl start web -n shop" in message
    assert "PoweredOff and, when that is done, to PoweredOn" in message


def test_a_stop_that_was_over_at_once_is_still_known() -> None:
    """The instance had stopped before anybody saw it stopping: the request stands until it is gone."""
    there = b.running(b.vm(onGuestShutdown="StayOff"))
    together(deleting, phase("Succeeded"), child_status(stateChangeRequests=[{"action": "Stop"}]))(there)
    b.settle(there)
    child_status(stateChangeRequests=[])(there)
    gone(there)
    b.settle(there)
    assert b.says(there, "PowerStateSynced")[1] == "StopRequested"


def test_guest_shutdown_is_remembered() -> None:
    there = b.running(b.vm(onGuestShutdown="StayOff"))
    phase("Succeeded")(there)
    b.settle(there)
    gone(there)
    b.settle(there)
    assert b.says(there, "PowerStateSynced")[1] == "GuestShutdown"


def test_messages_name_what_to_do() -> None:
    there = b.running()
    conditions({"type": "Paused", "status": "True", "reason": "PausedIOError"})(there)
    b.settle(there)
    assert b.says(there, "PowerStateSynced")[2].endswith("virtctl unpause vm web -n shop")
    conditions({**READY_NO, "reason": "PodTerminating", "message": "it goes"})(there)
    b.settle(there)
    assert "host-1 is not ready (PodTerminating: it goes)" in b.says(there, "PowerStateSynced")[2]


def test_kubevirt_missing() -> None:
    there = b.world()
    there.unavailable(kubevirt.VirtualMachine, "KubeVirt is not installed")
    there.unavailable(VirtualMachineInstance, "KubeVirt is not installed")
    b.settle(there)
    assert there.log == []
    assert b.says(there, "PowerStateSynced")[:2] == ("Unknown", "KubeVirtUnreadable")
    assert b.says(there, "Applied")[:2] == ("Unknown", "KubeVirtUnreadable")
    assert b.says(there, "Ready")[0] == "Unknown"
    assert b.status(there)["powerState"] == "Unknown"


def test_off_and_not_created_yet_is_off() -> None:
    there = b.world(b.vm(powerState="PoweredOff", nics=[{"name": "a", "network": "nowhere"}]))
    b.settle(there)
    assert b.status(there)["powerState"] == "PoweredOff"
    assert b.says(there, "PowerStateSynced")[0] == "True"
    assert b.says(there, "Ready")[:2] == ("False", "NetworkMissing")


def test_instance_of_another_owner_is_not_ours() -> None:
    there = b.running()
    owner = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "name": "web",
        "uid": "other",
        "controller": True,
    }
    there.change(VirtualMachineInstance, b.KEY, metadata={"ownerReferences": [owner]})
    b.settle(there)
    assert "host" not in b.status(there)
    assert b.says(there, "PowerStateSynced")[1] == "PoweringOn"


@pytest.mark.parametrize(("declared", "again"), [({}, "Always"), (STAY_OFF, "RerunOnFailure")])
@pytest.mark.parametrize("edit", [{"memory": {"size": "2Gi"}}, {"placement": {"nodeSelector": {"zone": "b"}}}])
def test_an_instance_that_never_found_a_host_makes_room_for_what_is_declared_now(
    declared: Tree, again: str, edit: Tree
) -> None:
    """Even where KubeVirt calls for no restart: it changes an instance's placement, but its pod keeps the old one."""
    there = b.running(b.vm(**declared))
    starting({"type": "PodScheduled", "status": "False", "message": "0/4 nodes are available: 4 Insufficient memory."})(
        there
    )
    b.settle(there)
    assert strategy(there) == again, "it is what is declared"
    b.edit(there, **edit)
    b.settle(there)
    assert strategy(there) == "Halted"
    b.settle(there)
    assert strategy(there) == "Halted", "it is still there"
    there.remove(VirtualMachineInstance, b.KEY)
    b.notice(there, conditions=[])
    b.settle(there)
    assert strategy(there) == again


def test_a_running_vm_is_never_restarted_by_us() -> None:
    there = b.running()
    b.edit(there, memory={"size": "2Gi"})
    b.settle(there)
    b.notice(there, conditions=[{"type": "RestartRequired", "status": "True"}])
    b.settle(there)
    assert strategy(there) == "Always"


def test_a_pending_claim_for_the_state_of_the_tpm_is_named() -> None:
    there = b.running()
    pending = {"type": "Synchronized", "status": "False", "reason": "BackendStorageNotReady", "message": "PVC pending"}
    starting(pending)(there)
    b.settle(there)
    assert "kubectl annotate vmi web -n shop look=again" in b.says(there, "PowerStateSynced")[2]


def no_device(there: World) -> None:
    there.change(Namespace, Key("", "shop"), metadata={"annotations": {api.ALLOWED_DEVICES: ""}})


def no_network(there: World) -> None:
    there.change(api.Network, Key("", "lan"), spec={"allowedNamespaces": {"from": "None"}})


@pytest.mark.parametrize(
    ("withdrawn", "reason"), [(no_device, "DeviceNotAllowed"), (no_network, "NamespaceNotAllowed")]
)
def test_what_was_withdrawn_cannot_be_powered_on_again(withdrawn: Callable[[World], None], reason: str) -> None:
    device = {"name": "n", "resourceName": "example.org/nvme"}
    there = b.world(b.vm(devices=[device], nics=[{"name": "a", "network": "lan"}], powerState="PoweredOff"))
    b.bridged(there)
    there.change(Namespace, Key("", "shop"), metadata={"annotations": {api.ALLOWED_DEVICES: "example.org/nvme"}})
    b.settle(there)
    withdrawn(there)
    b.edit(there, powerState="PoweredOn")
    b.settle(there)
    assert there.tree(b.CHILD, b.KEY)["spec"]["runStrategy"] == "Halted"
    status, told, message = b.says(there, "PowerStateSynced")
    assert (status, told) == ("False", "NotAllowed")
    assert reason in message
    assert b.status(there)["powerState"] == "PoweredOff"


@pytest.mark.parametrize("withdrawn", [no_device, no_network])
def test_nothing_that_runs_is_stopped_because_something_was_withdrawn(withdrawn: Callable[[World], None]) -> None:
    device = {"name": "n", "resourceName": "example.org/nvme"}
    there = b.world(b.vm(devices=[device], nics=[{"name": "a", "network": "lan"}]))
    b.bridged(there)
    there.change(Namespace, Key("", "shop"), metadata={"annotations": {api.ALLOWED_DEVICES: "example.org/nvme"}})
    b.settle(there)
    b.start(there)
    withdrawn(there)
    b.settle(there)
    assert there.tree(b.CHILD, b.KEY)["spec"]["runStrategy"] == "Always"
    assert b.says(there, "PowerStateSynced")[:2] == ("True", "PoweredOn")
