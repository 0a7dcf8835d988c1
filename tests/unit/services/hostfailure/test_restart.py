"""The restart of a failed host's VMs: who is counted, whose turn it is, and what becomes of each."""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.unit.services import datacenter as d
from vdcos import api
from vdcos.api.hapolicy import HAPolicySpec
from vdcos.api.hostfailure import FailedVm
from vdcos.core import counts
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.kubernetes import LauncherPod
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Key
from vdcos.core.plan import Delete
from vdcos.services.hostfailure import HostFailureService, restart
from vdcos.services.hostfailure.restart import Progress
from vdcos.services.hostfailure.seen import Seen, look
from vdcos.testing.world import World

Tree = dict[str, Any]

SERVICE = HostFailureService()
KEY = Key("", d.FAILURE)


def rules(**spec: Any) -> HAPolicySpec:
    return api.parse(api.HAPolicy, d.policy(**spec)).spec


DEFAULT = rules()


def see(there: World) -> Seen:
    return look(KEY, there.view(SERVICE))


def counted(there: World, policy: HAPolicySpec = DEFAULT) -> dict[str, tuple[int, str, str]]:
    """Turn, state and reason of each VM that is counted."""
    machines = restart.count(policy, d.HOST, see(there).instances, see(there), there.now)
    return {machine.name: (machine.tier, machine.state, machine.reason) for machine in machines}


HIGH, OFF = {"restartPriority": "High"}, {"restartPriority": "Disabled"}


# Who is counted


def test_the_first_in_turn_may_start_at_once_and_the_others_are_prepared() -> None:
    there = d.world(d.failure(), d.ran("web"), d.ran("db", HIGH), d.ran("old", OFF))
    assert counted(there) == {"db": (0, "Released", ""), "web": (1, "Held", ""), "old": (2, "Held", "Disabled")}
    [db, *_] = restart.count(DEFAULT, d.HOST, see(there).instances, see(there), there.now)
    assert (db.namespace, db.uid, db.instance, db.since) == ("shop", "vm-db", "old-db", counts.stamp(there.now))


def test_a_vm_that_nobody_holds_is_free_whatever_its_turn() -> None:
    there = d.world(d.failure(), d.ran("db", HIGH), d.child("bare"), d.instance("bare"))
    assert counted(there) == {"db": (0, "Released", ""), "bare": (1, "Released", "")}
    machines = restart.count(DEFAULT, d.HOST, see(there).instances, see(there), there.now)
    assert [machine.uid for machine in machines] == ["vm-db", ""]


def test_one_that_does_not_restart_is_held_though_it_is_the_only_one() -> None:
    assert counted(d.world(d.failure(), d.ran("old", OFF))) == {"old": (0, "Held", "Disabled")}


NOT_DEAD: list[tuple[str, Tree]] = [
    ("elsewhere", d.instance("web", d.OTHER)),
    ("about to move here", d.instance("web", d.OTHER, activePods={"a": d.OTHER, "b": d.HOST})),
    ("shut down", d.instance("web", phase="Succeeded")),
    ("failed", d.instance("web", phase="Failed")),
]


@pytest.mark.parametrize("reason, instance", NOT_DEAD, ids=[row[0] for row in NOT_DEAD])
def test_who_is_not_counted(reason: str, instance: Tree) -> None:
    assert counted(d.world(d.failure(), d.vm("web"), d.child("web"), instance)) == {}


GOING: Tree = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["kubevirt.io/x"]}
START: Tree = {"stateChangeRequests": [{"action": "Stop"}, {"action": "Start"}]}
OFF_AND_ON: list[tuple[str, Tree, Tree, bool]] = [
    ("it always runs", d.vm("web"), d.child("web"), True),
    ("it is switched off", d.vm("web", powerState="PoweredOff"), d.child("web"), False),
    ("it is halted", d.vm("web"), d.child("web", "Halted"), False),
    ("somebody stopped it", d.vm("web"), d.child("web", "RerunOnFailure"), False),
    ("somebody restarts it", d.vm("web"), {**d.child("web", "RerunOnFailure"), "status": START}, True),
    (
        "its guest is reset",
        {**d.vm("web"), "status": {"monitoring": {"restarting": True}}},
        d.child("web", "RerunOnFailure"),
        True,
    ),
]


@pytest.mark.parametrize("why, vm, child, want", OFF_AND_ON, ids=[row[0] for row in OFF_AND_ON])
def test_one_that_is_being_stopped_is_counted_if_it_is_to_run_again(
    why: str, vm: Tree, child: Tree, want: bool
) -> None:
    there = d.world(d.failure(), vm, child, d.instance("web", metadata=GOING))
    assert counted(there) == ({"web": (0, "Released", "")} if want else {})


def going() -> Tree:
    """The KubeVirt VM of VirtualMachine web, while it is being deleted."""
    owner = {"apiVersion": api.API_VERSION, "kind": "VirtualMachine", "name": "web", "uid": "vm-web"}
    child = d.child("web", "RerunOnFailure")
    metadata = {**child["metadata"], **GOING, "ownerReferences": [{**owner, "controller": True}]}
    return {**child, "metadata": metadata}


GOES: list[tuple[str, list[Tree], bool]] = [
    ("its VirtualMachine is gone", [], False),
    (
        "another VirtualMachine has its name",
        [{**d.vm("web"), "metadata": {**d.vm("web")["metadata"], "uid": "x"}}],
        False,
    ),
    ("its VirtualMachine makes another KubeVirt VM", [d.vm("web")], True),
    ("its VirtualMachine cannot be read", [{**d.vm("web"), "spec": {"cpu": 1}}], True),
]


@pytest.mark.parametrize("why, vm, want", GOES, ids=[row[0] for row in GOES])
def test_one_that_is_being_deleted_is_not_counted(why: str, vm: list[Tree], want: bool) -> None:
    there = d.world(d.failure(), *vm, going(), d.instance("web"))
    assert (counted(there) != {}) is want


def test_one_whose_kubevirt_vm_is_made_anew_is_counted_while_its_instance_goes() -> None:
    there = d.world(d.failure(), d.vm("web"), going(), d.instance("web", metadata=GOING))
    assert counted(there) == {"web": (0, "Released", "")}


def test_one_that_failover_capacity_keeps_off_is_down_until_there_is_room() -> None:
    """Its KubeVirt VM was made anew, and what was admitted for it went with the one before."""
    stored = failed(machine("web", "Released", 0), machine("db", "Held", 1))
    waits = {**d.vm("web"), "status": {"waitsFor": {"cpu": "1", "memory": "1Gi"}}}
    db = [d.vm("db"), d.child("db", "Halted")]
    there = d.world(stored, waits, d.child("web", "Halted"), *db)
    assert became(there) == {"web": ("Down", "InsufficientFailoverCapacity"), "db": ("Released", "")}
    [web, _] = go_on(there).machines
    assert restart.is_given_up(web), "it may come up yet"
    assert became(d.world(failed(web.manifest()), waits, d.child("web"), NEW)) == {"web": ("Up", "")}


def test_one_that_waits_to_grow_restarts_as_it_is() -> None:
    stored = failed(machine("web", "Released", 0), machine("db", "Held", 1))
    waits = {**d.vm("web"), "status": {"waitsFor": {"cpu": "1", "memory": "1Gi"}}}
    child = d.child("web", "Halted")
    child["metadata"]["annotations"] = {"vdcos.dev/admitted": "100m/1048576"}
    there = d.world(stored, waits, child, d.vm("db"), d.child("db", "Halted"))
    assert became(there) == {"web": ("Released", ""), "db": ("Held", "")}


def test_one_that_was_starting_there_is_counted() -> None:
    there = d.world(
        d.failure(), d.vm("web"), d.child("web"), d.instance("web", "", phase="Scheduling", activePods={"p": d.HOST})
    )
    assert counted(there) == {"web": (0, "Released", "")}


def test_one_that_was_about_to_move_away_is_counted() -> None:
    moving = d.instance("web", activePods={"a": d.HOST, "b": d.OTHER})
    assert counted(d.world(d.failure(), d.vm("web"), d.child("web"), moving)) == {"web": (0, "Released", "")}


def test_no_more_are_counted_than_a_status_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "MOST", 2)
    assert list(counted(d.world(d.failure(), d.ran("a"), d.ran("b"), d.ran("c")))) == ["a", "b"]


def test_those_whose_pods_were_there_come_before_those_that_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instances that tenants create say what they like of themselves."""
    monkeypatch.setattr(restart, "MOST", 2)
    said = [each for name in "ab" for each in (d.vm(name, HIGH), d.child(name), d.instance(name))]
    pod = d.pod("c")
    pod["metadata"]["labels"]["vm.kubevirt.io/name"] = "c"
    assert list(counted(d.world(d.failure(), said, d.vm("c"), d.child("c"), d.instance("c"), pod))) == ["a", "c"]


# Whether they are held


def machine(name: str, state: str = "Held", tier: int = 1, age: float = 0.0, **more: Any) -> Tree:
    """As it is stored; ``age`` is for how long it has been so."""
    since = counts.stamp(World().now._replace(wall=World().now.wall - age))
    known = {"namespace": "shop", "uid": f"vm-{name}", "instance": f"old-{name}", "since": since}
    return {**known, "name": name, "state": state, "tier": tier, **more}


def machines(there: World) -> Sequence[FailedVm]:
    return api.parse(api.HostFailure, there.tree(api.HostFailure, KEY)).status.machines


def failed(*stored: Tree) -> Tree:
    return d.failure(status={"machines": list(stored)})


HELD: list[tuple[str, list[Tree], Tree, bool]] = [
    ("KubeVirt still wants it to run", [d.vm("web"), d.child("web")], machine("web"), False),
    ("KubeVirt knows", [d.vm("web"), d.child("web", "Halted")], machine("web"), True),
    ("it may start", [d.vm("web"), d.child("web")], machine("web", "Released"), True),
    ("it is deleted", [], machine("web"), True),
    ("only its VirtualMachine is deleted", [d.child("web")], machine("web"), True),
    ("another has its name", [d.vm("web"), d.child("web")], machine("web", uid="before"), True),
    ("it does not restart", [d.vm("web"), d.child("web")], machine("web", reason="Disabled"), False),
    ("it died", [d.vm("web"), d.child("web"), d.instance("web")], machine("web"), False),
    ("it had moved away", [d.vm("web"), d.child("web"), d.instance("web", d.OTHER)], machine("web"), True),
    ("its KubeVirt VM is to be made anew", [d.vm("web")], machine("web"), True),
]


@pytest.mark.parametrize("reason, there, stored, want", HELD, ids=[row[0] for row in HELD])
def test_whether_all_are_prepared(reason: str, there: list[Tree], stored: Tree, want: bool) -> None:
    world = d.world(failed(stored), *there)
    assert restart.are_prepared(d.HOST, machines(world), False, see(world)) is want


@pytest.mark.parametrize("state, want", [("Held", False), ("Released", False), ("Up", True), ("Down", True)])
def test_where_hosts_are_kept_for_failover_all_that_restart_must_be_let_there(state: str, want: bool) -> None:
    there = d.world(failed(machine("web", state)), d.vm("web"), d.child("web", "Halted"))
    assert restart.are_prepared(d.HOST, machines(there), True, see(there)) is want
    template = {"spec": {"tolerations": [{"key": "vdcos.dev/failover-only", "operator": "Exists"}]}}
    there.change(kubevirt.VirtualMachine, Key("shop", "web"), spec={"template": template})
    assert restart.are_prepared(d.HOST, machines(there), True, see(there))


# What becomes of each


def go_on(there: World, policy: HAPolicySpec = DEFAULT) -> Progress:
    return restart.go_on(policy, d.HOST, machines(there), see(there), there.now)


def became(there: World, policy: HAPolicySpec = DEFAULT) -> dict[str, tuple[str, str]]:
    return {each.name: (each.state, each.reason) for each in go_on(there, policy).machines}


NEW = d.instance("web", d.OTHER, "new-web")
AGENT: list[Tree] = [{"type": "Ready", "status": "True"}, {"type": "AgentConnected", "status": "True"}]
READY: Tree = {
    "type": "Ready",
    "status": "True",
    "reason": "Ready",
    "message": "",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
    "observedGeneration": 1,
}
NOT_READY: Tree = {**READY, "status": "False", "reason": "NoHostFits"}


def web(*conditions: Tree, **spec: Any) -> Tree:
    return {**d.vm("web", **spec), "status": {"conditions": list(conditions)}}


def until(condition: str) -> HAPolicySpec:
    return rules(restart={"readyWhen": {"condition": condition}})


BECAME: list[tuple[str, list[Tree], Tree, HAPolicySpec, tuple[str, str]]] = [
    ("not created yet", [web(), d.child("web")], machine("web", "Released"), DEFAULT, ("Released", "")),
    ("the dead one", [web(), d.child("web"), d.instance("web")], machine("web", "Released"), DEFAULT, ("Released", "")),
    (
        "it starts",
        [web(), d.child("web"), {**NEW, "status": {"phase": "Scheduled"}}],
        machine("web", "Released"),
        DEFAULT,
        ("Released", ""),
    ),
    ("it runs", [web(), d.child("web"), NEW], machine("web", "Released"), DEFAULT, ("Up", "")),
    (
        "it runs and is not ready",
        [web(), d.child("web"), d.instance("web", d.OTHER, "new", conditions=[])],
        machine("web", "Released"),
        DEFAULT,
        ("Released", ""),
    ),
    (
        "it runs here again",
        [web(), d.child("web"), d.instance("web", uid="new")],
        machine("web", "Released"),
        DEFAULT,
        ("Up", ""),
    ),
    ("no agent yet", [web(), d.child("web"), NEW], machine("web", "Released"), until("GuestAgent"), ("Released", "")),
    (
        "the agent answers",
        [web(), d.child("web"), d.instance("web", d.OTHER, "new", conditions=AGENT)],
        machine("web", "Released"),
        until("GuestAgent"),
        ("Up", ""),
    ),
    (
        "the VM is not ready",
        [web(NOT_READY), d.child("web"), NEW],
        machine("web", "Released"),
        until("Ready"),
        ("Released", "NoHostFits"),
    ),
    ("the VM is ready", [web(READY), d.child("web"), NEW], machine("web", "Released"), until("Ready"), ("Up", "")),
    (
        "ready, and dead",
        [web(READY), d.child("web"), d.instance("web")],
        machine("web", "Released"),
        until("Ready"),
        ("Released", ""),
    ),
    (
        "ready without a VirtualMachine",
        [d.child("web"), NEW],
        machine("web", "Released", uid=""),
        until("Ready"),
        ("Up", ""),
    ),
    ("why not", [web(NOT_READY), d.child("web")], machine("web", "Released"), DEFAULT, ("Released", "NoHostFits")),
    ("it was ready before", [web(READY), d.child("web")], machine("web", "Released"), DEFAULT, ("Released", "")),
    ("deleted", [], machine("web", "Released"), DEFAULT, ("Down", "Deleted")),
    ("deleted while it was held", [], machine("web", "Held", 0), DEFAULT, ("Down", "Deleted")),
    ("only the VirtualMachine", [d.child("web")], machine("web", "Released"), DEFAULT, ("Down", "Deleted")),
    ("only the KubeVirt VM, which is made anew", [web()], machine("web", "Released"), DEFAULT, ("Released", "")),
    ("the same while it is not to restart", [web()], machine("web", reason="Disabled"), DEFAULT, ("Held", "Disabled")),
    (
        "not to restart, and it could not be held",
        [web(), d.child("web"), NEW],
        machine("web", reason="Disabled"),
        DEFAULT,
        ("Up", ""),
    ),
    (
        "not to restart, and it is on the host that failed",
        [web(), d.child("web"), d.instance("web", uid="another")],
        machine("web", reason="Disabled"),
        DEFAULT,
        ("Held", "Disabled"),
    ),
    ("made anew", [web(), d.child("web")], machine("web", uid="before"), DEFAULT, ("Down", "Deleted")),
    (
        "switched off",
        [web(powerState="PoweredOff"), d.child("web", "Halted")],
        machine("web", "Released"),
        DEFAULT,
        ("Down", "PoweredOff"),
    ),
    (
        "switched off while it was held",
        [web(powerState="PoweredOff"), d.child("web", "Halted")],
        machine("web"),
        DEFAULT,
        ("Down", "PoweredOff"),
    ),
    ("its turn, and dead", [web(), d.child("web"), d.instance("web")], machine("web"), DEFAULT, ("Released", "")),
    (
        "held, and it had moved away",
        [web(), d.child("web"), d.instance("web", d.OTHER)],
        machine("web"),
        until("GuestAgent"),
        ("Up", ""),
    ),
    (
        "not to restart, and it had moved away",
        [web(), d.child("web"), d.instance("web", d.OTHER)],
        machine("web", reason="Disabled"),
        DEFAULT,
        ("Up", ""),
    ),
    (
        "nobody would start it",
        [d.child("web", "Manual")],
        machine("web", "Released", uid=""),
        DEFAULT,
        ("Down", "NotRestarted"),
    ),
    ("it is started without us", [d.child("web")], machine("web", "Released", uid=""), DEFAULT, ("Released", "")),
    (
        "once down, always down",
        [web(), d.child("web"), NEW],
        machine("web", "Down", reason="x"),
        DEFAULT,
        ("Down", "x"),
    ),
    ("once up, always up", [], machine("web", "Up"), DEFAULT, ("Up", "")),
    (
        "its VirtualMachine cannot be read",
        [{**web(), "spec": {"cpu": 1}}, d.child("web", "Halted")],
        machine("web", "Released"),
        DEFAULT,
        ("Released", ""),
    ),
]


@pytest.mark.parametrize("reason, there, stored, policy, want", BECAME, ids=[row[0] for row in BECAME])
def test_what_becomes_of_a_vm(
    reason: str, there: list[Tree], stored: Tree, policy: HAPolicySpec, want: tuple[str, str]
) -> None:
    assert became(d.world(failed(stored), *there), policy) == {"web": want}


def test_a_change_has_a_time_and_no_change_has_none() -> None:
    there = d.world(failed(machine("web", "Released", 0, 50)), web(), d.child("web"))
    [before] = go_on(there).machines
    assert before.since == machine("web", age=50)["since"]
    there.put(NEW)
    [after] = go_on(there).machines
    assert after.since == counts.stamp(there.now)


# Whose turn it is


def held_and(*stored: Tree, policy: HAPolicySpec = DEFAULT) -> tuple[dict[str, str], float | None]:
    """The states after one look, and when the next is due. All VMs are there; none runs."""
    names = [each["name"] for each in stored]
    unmanaged = {each["name"] for each in stored if not each["uid"]}
    there = d.world(failed(*stored), *(d.vm(n) for n in names if n not in unmanaged), *(d.child(n) for n in names))
    progress = go_on(there, policy)
    return {each.name: each.state for each in progress.machines}, progress.after


TIMEOUT = 600.0
TURNS: list[tuple[str, list[Tree], dict[str, str], float | None]] = [
    ("they wait", [machine("a", "Released", 0), machine("b")], {"a": "Released", "b": "Held"}, TIMEOUT),
    ("they wait on", [machine("a", "Released", 0, 599), machine("b", age=599)], {"a": "Released", "b": "Held"}, 1.0),
    ("for so long", [machine("a", "Released", 0, 600), machine("b")], {"a": "Released", "b": "Released"}, 0.0),
    ("it is up", [machine("a", "Up", 0), machine("b"), machine("c", tier=2)],
     {"a": "Up", "b": "Released", "c": "Held"}, 0.0),
    ("it is down", [machine("a", "Down", 0), machine("b")], {"a": "Down", "b": "Released"}, 0.0),
    ("one of two is up", [machine("a", "Up", 0), machine("x", "Released", 0), machine("b")],
     {"a": "Up", "x": "Released", "b": "Held"}, TIMEOUT),
    ("a turn at a time", [machine("a", "Released"), machine("b"), machine("c", tier=2)],
     {"a": "Released", "b": "Released", "c": "Held"}, 0.0),
    ("nobody waits for one that does not restart", [machine("a", "Held", 0, reason="Disabled"), machine("b")],
     {"a": "Held", "b": "Released"}, 0.0),
    ("one that does not restart gets no turn", [machine("a", "Held", 0, reason="Disabled")], {"a": "Held"}, None),
    ("no longer than the longest hold", [machine("a", "Released", 0), machine("b", age=3600)],
     {"a": "Released", "b": "Released"}, 0.0),
    ("almost", [machine("a", "Released", 0, 100), machine("b", age=3599)], {"a": "Released", "b": "Held"}, 1.0),
    ("one that nobody holds does not let others go before their turn",
     [machine("a", "Up", 0), machine("b"), machine("c", tier=2), machine("bare", "Released", 2, uid="")],
     {"a": "Up", "b": "Released", "c": "Held", "bare": "Released"}, 0.0),
    ("all are up", [machine("a", "Up", 0)], {"a": "Up"}, None),
]  # fmt: skip


@pytest.mark.parametrize("reason, stored, want, after", TURNS, ids=[row[0] for row in TURNS])
def test_whose_turn_it_is(reason: str, stored: list[Tree], want: dict[str, str], after: float | None) -> None:
    assert held_and(*stored) == (want, after)


SLOW = rules(restart={"readyWhen": {"delaySeconds": 30, "timeoutSeconds": 60}, "longestHoldSeconds": 60})


@pytest.mark.parametrize(
    ("stored", "want", "after"),
    [
        (machine("a", "Up", 0, 10), "Held", 20.0),
        (machine("a", "Up", 0, 30), "Released", 0.0),
        (machine("a", "Released", 0, 59), "Held", 1.0),
        (machine("a", "Down", 0), "Released", 0.0),
    ],
)
def test_those_that_wait_for_it_wait_so_much_longer(stored: Tree, want: str, after: float) -> None:
    assert held_and(stored, machine("b"), policy=SLOW) == ({"a": stored["state"], "b": want}, after)


def test_a_vm_may_say_for_how_long_others_wait_for_it() -> None:
    there = d.world(
        failed(machine("a", "Released", 0, 20), machine("b")),
        d.vm("a", {"readyWhen": {"timeoutSeconds": 20}}),
        d.vm("b"),
        d.child("a"),
        d.child("b"),
    )
    assert became(there)["b"] == ("Released", "")


ELSEWHERE = "bank"


def elsewhere(tree: Tree) -> Tree:
    return {**tree, "metadata": {**tree["metadata"], "namespace": ELSEWHERE}}


@pytest.mark.parametrize(
    ("said", "first", "theirs"),
    [
        ({"timeoutSeconds": 3600}, machine("a", "Released", 0, 599), "Held"),
        ({"timeoutSeconds": 3600}, machine("a", "Released", 0, 600), "Released"),
        ({"delaySeconds": 3600}, machine("a", "Up", 0, 1), "Released"),
        ({"condition": "Ready"}, machine("a", "Released", 0, 1), "Held"),
    ],
)
def test_the_words_of_a_vm_keep_nobody_waiting_in_other_namespaces(said: Tree, first: Tree, theirs: str) -> None:
    """Neither itself, nor those of its namespace that wait for it."""
    there = d.world(
        failed(first, machine("b"), machine("c", tier=2, namespace=ELSEWHERE)),
        d.vm("a", {"readyWhen": said}),
        d.vm("b"),
        elsewhere(d.vm("c")),
        *(d.child(name) for name in "ab"),
        elsewhere(d.child("c")),
    )
    assert {name: state for name, (state, _) in became(there).items()} == {
        "a": first["state"],
        "b": "Held",
        "c": theirs,
    }


NO_AGENT = {"readyWhen": {"condition": "GuestAgent", "timeoutSeconds": 7200}}


@pytest.mark.parametrize(
    ("restart", "theirs", "after"),
    [
        ({}, "Released", 0.0),
        ({"readyWhen": {"delaySeconds": 30}}, "Held", 30.0),
        ({"readyWhen": {"condition": "GuestAgent"}}, "Held", 600.0),
    ],
)
@pytest.mark.parametrize("tiers", [1, 2])
def test_others_wait_for_a_vm_until_it_is_up_as_the_policy_says(
    tiers: int, restart: Tree, theirs: str, after: float
) -> None:
    """And not until its guest's agent answers, which it says and does not have: for itself, and for those behind it."""
    names = "ab"[:tiers]
    there = d.world(
        failed(
            *(machine(name, "Held" if tier else "Released", tier) for tier, name in enumerate(names)),
            machine("c", tier=tiers, namespace=ELSEWHERE),
        ),
        *(d.vm(name, NO_AGENT) for name in names),
        *(d.child(name) for name in names),
        elsewhere(d.vm("c")),
        elsewhere(d.child("c")),
    )
    policy = rules(restart=restart)
    assert became(there, policy)["c"] == ("Held", "")
    there.put(d.instance("a", d.OTHER, "new-a"))
    progress = go_on(there, policy)
    assert {each.name: each.state for each in progress.machines} == {
        "a": "Released",
        **({"b": "Held"} if tiers == 2 else {}),
        "c": theirs,
    }
    assert progress.after == after
    up = counts.stamp(there.now) if restart.get("readyWhen", {}).get("condition") is None else None
    assert progress.machines[0].up_for_others == up
    stored = [each.manifest() for each in progress.machines]
    there.change(api.HostFailure, KEY, status={"machines": stored})
    d.later(there, 10.0)
    assert go_on(there, policy).machines[0].up_for_others == up


# What is said


def parsed(*stored: Tree) -> Sequence[FailedVm]:
    return machines(d.world(failed(*stored)))


def test_the_numbers() -> None:
    down = [machine(f"d{number:02}", "Down", reason="" if number else "Deleted") for number in range(11)]
    some = parsed(
        machine("up", "Up"), machine("a", "Released"), machine("h", "Held"), machine("x", reason="Disabled"), *down
    )
    found = restart.summary(some)
    names = found.pop("notRestarted")
    assert found == {"total": 15, "running": 1, "starting": 1, "held": 1, "failed": 12}
    assert len(names) == 10
    assert names[:2] == [
        {"namespace": "shop", "name": "x", "reason": "Disabled"},
        {"namespace": "shop", "name": "d00", "reason": "Deleted"},
    ]
    assert names[2]["reason"] == "Unknown"


OVER: list[tuple[str, Tree, bool, bool]] = [
    ("up", machine("a", "Up"), True, True),
    ("up, and others wait a little", machine("a", "Up", delay=True), True, False),
    ("down", machine("a", "Down"), True, True),
    ("does not restart", machine("a", reason="Disabled"), True, True),
    ("held", machine("a"), False, False),
    ("starts", machine("a", "Released"), False, False),
    ("has not started in time", machine("a", "Released", age=600), False, True),
]


@pytest.mark.parametrize("reason, stored, over, settled", OVER, ids=[row[0] for row in OVER])
def test_when_it_is_over(reason: str, stored: Tree, over: bool, settled: bool) -> None:
    delay = 30 if stored.pop("delay", False) else 0
    policy = rules(restart={"readyWhen": {"delaySeconds": delay}})
    there = d.world(failed(stored), d.vm("a"), d.child("a"))
    assert restart.is_over(machines(there)) is over
    assert restart.is_settled(policy, machines(there), see(there), there.now) is settled


# What does not come up


def scheduler(message: str, **more: Any) -> Tree:
    """It has an instance for which there is no host."""
    said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return d.instance("web", "", "new-web", phase="Scheduling", conditions=[said], activePods={}, **more)


FULL = "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient memory. preemption: none"
WORDS: list[tuple[str, str]] = [
    (FULL, "NoCapacity"),
    ("0/2 nodes are available: 2 Too many pods.", "NoCapacity"),
    ("0/2 nodes are available: 1 Insufficient cpu, 2 Insufficient nvidia.com/gpu.", "Device"),
    ("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had volume node affinity conflict.", "LocalDisk"),
    ("0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity.", "LocalDisk"),
    ("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.", "NoHostFits"),
    ("0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims.", ""),
]


@pytest.mark.parametrize("message, want", WORDS)
def test_what_the_scheduler_means(message: str, want: str) -> None:
    there = d.world(failed(machine("web", "Released")), web(), d.child("web"), scheduler(message))
    assert became(there) == {"web": ("Released", want)}


CRASHES: Tree = {**d.child("web"), "status": {"startFailure": {"consecutiveFailCount": 2}}}


@pytest.mark.parametrize("instance", [[], [d.instance("web", d.OTHER, "new", phase="Failed")]], ids=["gone", "failed"])
def test_one_that_fails_to_start_says_so(instance: list[Tree]) -> None:
    there = d.world(failed(machine("web", "Released")), web(), CRASHES, *instance)
    assert became(there) == {"web": ("Released", "StartFailed")}


def after(there: World, seconds: float, policy: HAPolicySpec) -> tuple[str, int, float | None]:
    """State and tries so many seconds later, and when to look again."""
    later = there.now._replace(wall=there.now.wall + seconds)
    progress = restart.go_on(policy, d.HOST, machines(there), see(there), later)
    [machine] = progress.machines
    return machine.state, machine.tries, progress.after


def test_one_that_fails_is_tried_again_after_pauses_that_double_and_given_up_at_last() -> None:
    policy = rules(restart={"retries": {"limit": 3, "firstSeconds": 10, "longestSeconds": 30}})

    def tried(tries: int, age: float) -> tuple[str, int, float | None]:
        since = machine("web", age=age)["since"]
        stored = machine("web", "Released", age=900.0, tries=tries, **({"triedAt": since} if tries else {}))
        stored = stored if tries else {**stored, "since": since}
        return after(d.world(failed(stored), web(), d.child("web"), scheduler(FULL)), 0.0, policy)

    assert [tried(0, 9.0), tried(0, 10.0)] == [("Released", 0, 1.0), ("Released", 1, 0.0)]
    assert [tried(1, 19.0), tried(1, 20.0)] == [("Released", 1, 1.0), ("Released", 2, 0.0)]
    assert [tried(2, 29.0), tried(2, 30.0)] == [("Released", 2, 1.0), ("Released", 3, 0.0)]
    assert [tried(3, 29.0), tried(3, 30.0)] == [("Released", 3, 1.0), ("Down", 3, None)]


def test_without_retries_it_is_given_up_after_the_first_pause() -> None:
    policy = rules(restart={"retries": {"limit": 0}})
    there = d.world(failed(machine("web", "Released", age=10.0)), web(), d.child("web"), scheduler(FULL))
    assert became(there, policy) == {"web": ("Down", "NoCapacity")}


def starting(age: float, **more: Any) -> World:
    """It has had a pod on another host for so long, and does not come up."""
    pod = {**d.pod("web", d.OTHER), "metadata": {**d.pod("web", d.OTHER)["metadata"], "uid": "new-pod"}}
    pod["metadata"]["labels"]["vm.kubevirt.io/name"] = "web"
    here = d.instance("web", d.OTHER, "new-web", phase="Scheduled", activePods={"new-pod": d.OTHER})
    well = {**d.host(d.OTHER), "status": {"state": "Connected"}}
    return d.world(failed(machine("web", "Released", age=age, **more)), web(), d.child("web"), here, pod, well)


PATIENT = rules(restart={"readyWhen": {"timeoutSeconds": 60}})


def test_one_that_may_be_on_its_way_has_as_long_as_others_would_wait_for_it() -> None:
    assert after(starting(59.0), 0.0, PATIENT) == ("Released", 0, 1.0)
    [machine] = go_on(starting(60.0), PATIENT).machines
    assert (machine.tries, machine.replaces) == (1, "new-pod")


def test_the_pod_in_which_it_does_not_start_is_replaced_once_that_is_stored() -> None:
    assert go_on(starting(60.0), PATIENT).actions == ()
    [action] = go_on(starting(5.0, replaces="new-pod", tries=1), PATIENT).actions
    assert isinstance(action, Delete)
    assert (action.resource, action.uid, action.now) == (LauncherPod.resource, "new-pod", False)
    assert action.resource_version
    assert action.because == see(starting(5.0)).vms[Key("shop", "web")].instance


KEPT: list[tuple[str, dict[str, Any]]] = [
    ("it runs meanwhile", {"phase": "Running"}),
    ("it is another pod", {"activePods": {"another": d.OTHER}}),
]


@pytest.mark.parametrize("why, status", KEPT, ids=[row[0] for row in KEPT])
def test_which_pod_is_not_replaced(why: str, status: dict[str, Any]) -> None:
    there = starting(5.0, replaces="new-pod", tries=1)
    there.change(VirtualMachineInstance, Key("shop", "web"), status={"activePods": None})
    there.change(VirtualMachineInstance, Key("shop", "web"), status={"activePods": {"new-pod": d.OTHER}, **status})
    if "activePods" in status:
        there.change(VirtualMachineInstance, Key("shop", "web"), status={"activePods": {"new-pod": None}})
    assert go_on(there, PATIENT).actions == ()


@pytest.mark.parametrize("state", ["Suspect", "Fencing"])
def test_no_pod_is_replaced_on_a_host_that_is_silent(state: str) -> None:
    there = starting(60.0)
    there.change(api.Host, Key("", d.OTHER), status={"state": state})
    [machine] = go_on(there, PATIENT).machines
    assert (machine.tries, machine.replaces) == (1, "")


def test_one_that_was_given_up_and_comes_up_is_up() -> None:
    gone = machine("web", "Down", age=60.0, tries=5, triedAt=machine("web")["since"], reason="NoCapacity")
    assert became(d.world(failed(gone), web(), d.child("web"), NEW)) == {"web": ("Up", "")}
    assert became(d.world(failed(gone), web(), d.child("web"))) == {"web": ("Down", "NoCapacity")}


def test_those_after_it_do_not_wait_for_one_that_was_given_up() -> None:
    policy = rules(restart={"retries": {"limit": 0}})
    stored = failed(machine("web", "Released", 0, age=10.0), machine("db", "Held", 1))
    there = d.world(stored, web(), d.child("web"), scheduler(FULL), d.vm("db"), d.child("db"))
    assert became(there, policy) == {"web": ("Down", "NoCapacity"), "db": ("Released", "")}
