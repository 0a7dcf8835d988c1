"""Guest monitoring: a guest that has stopped working is reset, as often as its policy lets, and never in doubt."""

from typing import Any

import pytest

from tests.unit.services import datacenter as d
from tests.unit.services.virtualmachine import builders as b
from vdcos import api
from vdcos.core import counts
from vdcos.core.foreign.kubernetes import Lease
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Key
from vdcos.core.plan import Delete
from vdcos.testing.world import World

Tree = dict[str, Any]

HOST, POLICY = Key("", d.HOST), Key("", d.POLICY)
MONITORED: Tree = {
    "enabled": True,
    "failureIntervalSeconds": 60,
    "minimumUptimeSeconds": 100,
    "maxResets": 2,
    "windowSeconds": 3600,
}
SPEAKS = [{"type": "Ready", "status": "True"}, {"type": "AgentConnected", "status": "True"}]
SILENT = SPEAKS[:1]
PAUSED = {"type": "Paused", "status": "True", "reason": "PausedByUser"}


def world(machine: Tree | None = None, monitoring: Tree | None = None, **policy: Any) -> World:
    """The VM has run for long enough, and its guest agent answers."""
    there = b.running(machine, d.policy(monitoring=MONITORED if monitoring is None else monitoring, **policy))
    there.put({**d.host(), "status": {"state": "Connected", "policy": d.POLICY}})
    told(there, SPEAKS)
    b.settle(there)
    later(there, 1000)
    return there


def told(there: World, conditions: list[Tree], **status: Any) -> None:
    there.change(VirtualMachineInstance, b.KEY, status={"conditions": conditions, **status})


def later(there: World, seconds: float) -> None:
    there.now = there.now._replace(wall=there.now.wall + seconds, mono=there.now.mono + seconds)


def silent(there: World, seconds: float = 60.0) -> World:
    """The agent falls silent, is seen to be, and so much time goes by."""
    told(there, SILENT)
    b.settle(there)
    there.log.clear()
    later(there, seconds)
    return there


def heartbeat(there: World) -> tuple[str, str]:
    return b.says(there, "GuestHeartbeat")[:2]


def message(there: World) -> str:
    return b.says(there, "GuestHeartbeat")[2]


def instance(there: World) -> str:
    return str(there.tree(VirtualMachineInstance, b.KEY)["metadata"]["uid"])


def watch(there: World) -> Tree:
    return dict(b.status(there).get("monitoring", {}))


def resets(there: World) -> list[tuple[str, str]]:
    return [(reset["instance"], reset["why"]) for reset in watch(there).get("resets", ())]


def look(there: World) -> list[Any]:
    """One look; what it says is stored when it does nothing. Its actions."""
    plan = there.plan(b.SERVICE, b.KEY)
    if not plan.actions:
        there._say(b.SERVICE, b.KEY, plan)
    return list(plan.actions)


def reset(there: World) -> str:
    """The reset is stored, and then done. The instance that it ended."""
    ended = instance(there)
    assert look(there) == []
    assert resets(there)[-1] == (ended, "Silent")
    [action] = look(there)
    assert isinstance(action, Delete)
    return ended


def start_anew(there: World, uid: str, conditions: list[Tree]) -> None:
    """The instance is gone, and KubeVirt has started another one."""
    there.remove(VirtualMachineInstance, b.KEY)
    b.start(there, conditions=conditions)
    there.change(VirtualMachineInstance, b.KEY, metadata={"uid": uid})
    b.settle(there)


def test_a_guest_that_answers_is_well_and_needs_no_look() -> None:
    there = world()
    assert heartbeat(there) == ("True", "Beating")
    plan = there.plan(b.SERVICE, b.KEY)
    assert (plan.actions, plan.after) == ((), None)
    assert watch(there)["seen"]
    assert watch(there)["instance"] == instance(there)


def test_a_guest_that_is_silent_for_a_moment_is_left_alone_and_looked_at_when_it_is_due() -> None:
    there = silent(world(), 59.0)
    plan = there.plan(b.SERVICE, b.KEY)
    assert (plan.actions, plan.after, heartbeat(there)) == ((), 1.0, ("False", "Silent"))
    assert "for 60 s, the VM is reset" in message(there)


def test_a_reset_is_stored_before_it_is_done_and_ends_the_instance_that_was_seen_as_it_was_seen() -> None:
    there = silent(world())
    plan = there.plan(b.SERVICE, b.KEY)
    assert (plan.actions, plan.after) == ((), 0.0)
    assert look(there) == []
    assert heartbeat(there) == ("False", "Resetting")
    [action] = look(there)
    seen = there.tree(VirtualMachineInstance, b.KEY)["metadata"]
    assert isinstance(action, Delete)
    assert (action.resource, action.key, action.uid) == (VirtualMachineInstance.resource, b.KEY, seen["uid"])
    assert action.resource_version == seen["resourceVersion"]


def test_a_reset_that_is_stored_is_called_off_when_the_guest_answers_again() -> None:
    there = silent(world())
    look(there)
    told(there, SPEAKS)
    b.settle(there)
    assert (resets(there), there.log, heartbeat(there)) == ([], [], ("True", "Beating"))


def test_who_does_not_know_for_how_long_it_was_silent_begins_to_count_anew() -> None:
    """As an operator that has just started: what changed before that, it has just heard."""
    there = silent(world())
    look(there)
    there._changed[VirtualMachineInstance, b.KEY] = (*there._changed[VirtualMachineInstance, b.KEY][:1], there.now.mono)
    assert look(there) == []
    assert ([why for _, why in resets(there)], heartbeat(there)) == (["Silent"], ("False", "Silent"))


def test_a_reset_is_not_forgotten_while_nobody_knows_whether_it_was_done() -> None:
    there = silent(world(b.vm(onGuestShutdown="StayOff")))
    ended = reset(there)
    there.silence[Lease] = 10.0
    b.settle(there)
    assert (resets(there), heartbeat(there)) == ([(ended, "Silent")], ("False", "CannotSee"))
    assert watch(there)["restarting"]


def test_what_a_reset_comes_to() -> None:
    there = silent(world())
    ended = reset(there)
    deleting = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["kubevirt.io/x"]}
    there.change(VirtualMachineInstance, b.KEY, metadata=deleting)
    b.settle(there)
    assert heartbeat(there) == ("False", "Resetting")
    assert b.says(there, "PowerStateSynced")[:2] == ("False", "GuestReset")
    there.remove(VirtualMachineInstance, b.KEY)
    b.notice(there)
    b.settle(there)
    assert heartbeat(there) == ("False", "Resetting")
    b.start(there, conditions=SILENT)
    there.change(VirtualMachineInstance, b.KEY, metadata={"uid": "new"})
    b.settle(there)
    assert heartbeat(there) == ("Unknown", "NeverSeen")
    told(there, SPEAKS)
    b.settle(there)
    assert (heartbeat(there), resets(there)) == (("True", "Beating"), [(ended, "Silent")])
    assert "1 reset before" in message(there)


def test_a_vm_that_stays_off_by_itself_is_powered_on_again_once() -> None:
    there = silent(world(b.vm(onGuestShutdown="StayOff")))
    reset(there)
    there.remove(VirtualMachineInstance, b.KEY)
    b.notice(there)
    b.settle(there)
    assert there.tree(b.CHILD, b.KEY)["spec"]["runStrategy"] == "Halted"
    assert b.says(there, "PowerStateSynced")[1] == "PoweringOn"
    b.notice(there)
    b.settle(there)
    assert there.tree(b.CHILD, b.KEY)["spec"]["runStrategy"] == "RerunOnFailure"
    b.notice(there, created=False)
    b.settle(there)
    assert there.tree(b.CHILD, b.KEY)["spec"]["runStrategy"] == "RerunOnFailure"
    assert not watch(there)["restarting"]


def test_who_switches_it_off_meanwhile_has_it_off() -> None:
    there = silent(world(b.vm(onGuestShutdown="StayOff")))
    reset(there)
    b.edit(there, powerState="PoweredOff")
    there.remove(VirtualMachineInstance, b.KEY)
    b.notice(there)
    b.settle(there)
    assert b.says(there, "PowerStateSynced")[:2] == ("True", "PoweredOff")
    assert heartbeat(there) == ("", "")
    assert not watch(there)["restarting"]


OBSTACLES: list[tuple[str, str, Tree]] = [
    ("it moves", "Migrating", {"activePods": {"a": d.HOST, "b": d.OTHER}}),
    ("its memory moves", "Migrating", {"migrationState": {"startTimestamp": "2026-01-01T00:00:00Z"}}),
    (
        "it is paused",
        "Paused",
        {"conditions": [*SILENT, {"type": "Paused", "status": "True", "reason": "PausedByUser"}]},
    ),
]


@pytest.mark.parametrize("why, reason, status", OBSTACLES, ids=[row[0] for row in OBSTACLES])
def test_who_is_not_reset(why: str, reason: str, status: Tree) -> None:
    there = silent(world(), 0.0)
    there.change(VirtualMachineInstance, b.KEY, status=status)
    b.settle(there)
    later(there, 500)
    plan = there.plan(b.SERVICE, b.KEY)
    b.settle(there)
    assert (plan.actions, plan.after, heartbeat(there)) == ((), 10.0, ("False", reason))
    assert resets(there) == []


def test_a_move_that_is_over_is_no_obstacle() -> None:
    there = world()
    told(there, SILENT, migrationState={"completed": True})
    later(there, 60)
    reset(there)


@pytest.mark.parametrize("state", ["Suspect", "Isolated", "Fencing", "Fenced", "Recovering", "Maintenance"])
def test_nobody_is_reset_on_a_host_of_which_nothing_is_certain(state: str) -> None:
    there = silent(world())
    there.change(api.Host, HOST, status={"state": state})
    b.settle(there)
    assert (resets(there), heartbeat(there)) == ([], ("False", "HostNotConnected"))


def test_nobody_is_reset_whose_pod_is_not_ready() -> None:
    there = world()
    told(there, [{"type": "Ready", "status": "False", "reason": "PodTerminating"}])
    later(there, 60)
    b.settle(there)
    assert (resets(there), heartbeat(there)) == ([], ("False", "HostNotConnected"))


def test_nobody_is_reset_by_who_hears_nothing() -> None:
    there = silent(world())
    there.silence[Lease] = 10.0
    b.settle(there)
    assert (resets(there), heartbeat(there)) == ([], ("False", "CannotSee"))


def test_nobody_is_reset_who_has_just_started() -> None:
    there = world()
    start_anew(there, "new", SPEAKS)
    silent(there, 99.0)
    assert there.plan(b.SERVICE, b.KEY).after == 1.0
    assert heartbeat(there) == ("False", "StartedRecently")
    later(there, 1.0)
    reset(there)


def test_a_clock_that_was_set_back_makes_it_wait_once_more_and_no_longer() -> None:
    there = world()
    start_anew(there, "new", SPEAKS)
    there.now = there.now._replace(wall=there.now.wall - 28_800.0)
    silent(there, 99.0)
    assert there.plan(b.SERVICE, b.KEY).after == 1.0
    later(there, 1.0)
    reset(there)
    assert watch(there)["resets"][0]["at"] == counts.stamp(there.now)
    there.now = there.now._replace(wall=there.now.wall - 28_800.0)
    look(there)
    assert watch(there)["resets"][0]["at"] == counts.stamp(there.now)


def test_a_guest_whose_agent_has_never_answered_is_not_watched() -> None:
    there = world()
    start_anew(there, "new", SILENT)
    later(there, 5000)
    b.settle(there)
    assert (heartbeat(there), there.plan(b.SERVICE, b.KEY).after) == (("Unknown", "NeverSeen"), None)


def test_nobody_is_reset_under_a_paused_policy() -> None:
    there = silent(world(paused={"reason": "network works"}))
    b.settle(there)
    assert (resets(there), heartbeat(there)) == ([], ("False", "PolicyPaused"))
    assert "network works" in message(there)


def test_nobody_is_reset_who_waits_for_his_turn() -> None:
    there = silent(world())
    machine = {
        "namespace": "shop",
        "name": "web",
        "uid": there.tree(b.VM, b.KEY)["metadata"]["uid"],
        "instance": instance(there),
        "tier": 1,
        "state": "Held",
        "since": "2026-01-01T00:00:00Z",
    }
    there.put(d.failure(status={"phase": "Releasing", "machines": [machine]}))
    b.settle(there)
    assert (resets(there), heartbeat(there)) == ([], ("False", "HeldForRestart"))


def test_after_the_last_reset_it_is_left_to_people_until_the_first_is_long_ago() -> None:
    there = world()
    began = there.now.wall
    for uid in ("second", "third"):
        silent(there)
        reset(there)
        start_anew(there, uid, SPEAKS)
        later(there, 200)
    silent(there, 60.0)
    assert look(there) == []
    assert heartbeat(there) == ("False", "GuestResetLimit")
    assert "virtctl restart web -n shop" in message(there)
    assert "2 resets before" in message(there)
    assert there.plan(b.SERVICE, b.KEY).after == 3600 - (there.now.wall - (began + 60.0))
    later(there, 3600 - (there.now.wall - (began + 60.0)))
    reset(there)
    assert [ended for ended, _ in resets(there)][-1] == "third"
    assert len(resets(there)) == 2


def test_who_starts_the_operator_anew_knows_of_the_resets_before() -> None:
    there = silent(world())
    ended = reset(there)
    start_anew(there, "second", SPEAKS)
    there.now = there.now._replace(mono=5.0)  # another process: its clock began a moment ago
    b.settle(there)
    assert resets(there) == [(ended, "Silent")]


def panics(there: World, uid: str, name: str = "web") -> None:
    there.put(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{uid}", "namespace": "shop"},
            "involvedObject": {"kind": "VirtualMachineInstance", "name": name, "uid": uid},
            "reason": "GuestPanicked",
        }
    )


def test_a_panic_counts_as_a_reset_once_its_instance_has_ended() -> None:
    there = world()
    first = instance(there)
    panics(there, first)
    panics(there, "another", "db")
    b.settle(there)
    assert resets(there) == []
    start_anew(there, "second", SPEAKS)
    assert resets(there) == [(first, "Panicked")]
    b.settle(there)
    assert (resets(there), heartbeat(there)) == ([(first, "Panicked")], ("True", "Beating"))
    panics(there, "second")
    start_anew(there, "third", SPEAKS)
    assert (heartbeat(there), len(resets(there))) == (("False", "GuestResetLimit"), 2)
    assert "spec.powerState" in message(there)
    later(there, 3600)
    b.settle(there)
    assert heartbeat(there) == ("True", "Beating")


def test_panics_are_not_counted_where_that_is_not_wanted() -> None:
    there = world(monitoring={**MONITORED, "resetOnPanic": False})
    panics(there, instance(there))
    start_anew(there, "second", SPEAKS)
    assert resets(there) == []


WORDS: list[tuple[str, Tree, Tree | None, list[Tree], bool]] = [
    ("the policy does", MONITORED, None, [], True),
    ("the policy does not", {}, None, [], False),
    ("the VM does, the policy does not", {}, {"enabled": True}, [], True),
    ("the VM does not, the policy does", MONITORED, {"enabled": False}, [], False),
    (
        "a rule does",
        {},
        None,
        [{"name": "all", "selector": {"matchExpressions": [{"key": "no", "operator": "DoesNotExist"}]},
          "monitoring": {"enabled": True}}],
        True,
    ),
]  # fmt: skip


@pytest.mark.parametrize("who, policy, own, rules, want", WORDS, ids=[row[0] for row in WORDS])
def test_who_says_that_a_guest_is_monitored(
    who: str, policy: Tree, own: Tree | None, rules: list[Tree], want: bool
) -> None:
    machine = b.vm(availability={"monitoring": own}) if own is not None else None
    there = world(machine, policy, rules=rules)
    assert heartbeat(there) == (("True", "Beating") if want else ("", ""))
    assert bool(watch(there)) is want


def test_without_a_policy_nobody_watches_and_nothing_is_forgotten() -> None:
    there = silent(world())
    ended = reset(there)
    start_anew(there, "second", SPEAKS)
    there.remove(api.HAPolicy, POLICY)
    b.settle(there)
    assert (heartbeat(there), resets(there)) == (("", ""), [(ended, "Silent")])


def test_what_wakes_a_vm() -> None:
    there = world()
    by_kind = {watch.kind: watch for watch in reversed(b.SERVICE.watches)}
    view = there.view(b.SERVICE)
    host, policy, lease = by_kind[api.Host], by_kind[api.HAPolicy], by_kind[Lease]
    held = there.held(api.Host, HOST)
    assert list(host.keys(held, view)) == [b.KEY]
    assert list(lease.keys(None, view)) == []
    assert host.sees is not None
    assert policy.sees is not None
    assert lease.sees is not None
    before = host.sees(held), policy.sees(there.held(api.HAPolicy, POLICY))
    there.change(api.Host, HOST, status={"state": "Suspect"})
    there.change(api.HAPolicy, POLICY, spec={"detection": {"leaseSeconds": 20}})
    assert (host.sees(there.held(api.Host, HOST)), policy.sees(there.held(api.HAPolicy, POLICY))) == before
    there.change(api.Host, HOST, status={"policy": "another"})
    there.change(api.HAPolicy, POLICY, spec={"monitoring": {"maxResets": 5}})
    assert host.sees(there.held(api.Host, HOST)) != before[0]
    assert policy.sees(there.held(api.HAPolicy, POLICY)) != before[1]
