"""A Host for every node that runs VMs: its state, and its marks on the node."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.providers.failover import cluster as c
from tests.unit.services import datacenter as d
from vdcos import api
from vdcos.core import hosts, marks
from vdcos.core.foreign.kubernetes import LauncherPod, Node, OtherPod
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Key, Meta, Own
from vdcos.core.plan import Create
from vdcos.services.host import HostService
from vdcos.testing.world import World

Tree = dict[str, Any]

SERVICE = HostService()
KEY = d.NODE
SUSPECTS = ("Suspect", "Dead", "ApiTrouble", "Isolated")


def policy(name: str = d.POLICY, suspect: str = "", whom: str = d.HOST, **spec: Any) -> Tree:
    """A policy that suspects a host, perhaps."""
    said = [{"host": whom, "verdict": suspect, "why": "it does not renew its Lease"}] if suspect else []
    return {**d.policy(name, **spec), "status": {"suspects": said}}


def status(there: World) -> Tree:
    found: Tree = there.tree(api.Host, KEY)["status"]
    return found


def settle(there: World) -> Tree:
    """Look, and see that looking again changes nothing."""
    plan = there.settle(SERVICE, KEY)
    again = there.plan(SERVICE, KEY)
    stored = {name: value for name, value in status(there).items() if name not in ("conditions", "observedGeneration")}
    assert (again.actions, again.status, again.conditions) == ((), stored, plan.conditions)
    return stored


def said(there: World, kind: str) -> tuple[str, str]:
    return next((each["status"], each["reason"]) for each in status(there)["conditions"] if each["type"] == kind)


def message(there: World, kind: str) -> str:
    return next(str(each["message"]) for each in status(there)["conditions"] if each["type"] == kind)


def node(there: World) -> Node:
    found = there.held(Node, KEY)
    assert isinstance(found, Node)
    return found


def found(there: World, key: Key = KEY) -> Any:
    return SERVICE.found(key, SERVICE.observe(key, there.view(SERVICE)))


# Who has a Host


def test_a_node_that_runs_vms_gets_a_host_that_goes_with_it() -> None:
    there = d.world()
    [made] = found(there)
    assert isinstance(made, Create)
    assert made.manifest["spec"] == {}
    there.carry_out(made)
    tree = there.tree(api.Host, KEY)
    assert tree["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "vdcos"}
    [owner] = tree["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Node", d.HOST, there.tree(Node, KEY)["metadata"]["uid"])
    assert settle(there)["state"] == "Unmanaged"


NO_HOST: list[tuple[str, Callable[[World], None]]] = [
    ("no node", lambda there: there.remove(Node, KEY)),
    (
        "KubeVirt never ran there",
        lambda there: there.change(Node, KEY, metadata={"labels": {hosts.SCHEDULABLE: None}}),
    ),
    ("nodes cannot be read", lambda there: there.unavailable(Node, "it is forbidden")),
]


@pytest.mark.parametrize("reason, happens", NO_HOST, ids=[row[0] for row in NO_HOST])
def test_who_gets_none(reason: str, happens: Callable[[World], None]) -> None:
    there = d.world()
    happens(there)
    assert list(found(there)) == []


# What it is


def test_what_is_known_of_a_host() -> None:
    there = d.world(d.host(), policy(), d.instance("web"), d.instance("db"), d.instance("elsewhere", d.OTHER))
    assert settle(there) == {
        "state": "Connected",
        "incarnation": d.BOOT,
        "machine": d.MACHINE,
        "policy": d.POLICY,
        "verdict": "Connected",
        "vms": 2,
        "capacity": {"cpu": "8", "memory": "16Gi", "pods": 110},
        "reserved": {"cpu": "0", "memory": "0", "pods": 0},
        "failurePlan": {"restarts": 0, "stays": 0, "reasons": []},
    }
    assert said(there, "Ready") == ("True", "Ready")


def test_a_vm_that_moves_counts_on_both_hosts() -> None:
    moving = d.instance("web", d.OTHER, activePods={"a": d.OTHER, "b": d.HOST})
    assert settle(d.world(d.host(), moving))["vms"] == 1


@pytest.mark.parametrize("pods", [None, "many"])
def test_a_node_that_does_not_say_what_it_has(pods: str | None) -> None:
    there = d.world(d.host())
    there.change(Node, KEY, status={"allocatable": {"cpu": None, "memory": None, "pods": pods}})
    assert settle(there)["capacity"] == {"cpu": "0", "memory": "0", "pods": 0}


def in_phase(phase: str | None, **more: Any) -> Tree:
    return d.failure(status={**({"phase": phase} if phase else {}), **more})


STATES: list[tuple[str, list[Tree], Tree, tuple[str, str, str]]] = [
    ("nobody watches it", [], {}, ("Unmanaged", "True", "Unmanaged")),
    ("watched", [policy()], {}, ("Connected", "True", "Connected")),
    ("in maintenance", [policy()], {"maintenance": True}, ("Maintenance", "True", "Maintenance")),
    ("in maintenance, and nobody watches it", [], {"maintenance": True}, ("Maintenance", "True", "Maintenance")),
    *(
        (f"suspected: {verdict}", [policy(suspect=verdict)], {"maintenance": True}, (state, "False", verdict))
        for verdict, state in zip(SUSPECTS, ("Suspect", "Suspect", "Suspect", "Isolated"), strict=True)
    ),
    ("another is suspected", [policy(suspect="Dead", whom=d.OTHER)], {}, ("Connected", "True", "Connected")),
    ("declared", [policy(suspect="Dead"), in_phase(None)], {}, ("Suspect", "False", "Dead")),
    ("suspect", [policy(), in_phase("Suspect")], {}, ("Suspect", "False", "Suspect")),
    ("held", [policy(), in_phase("Held")], {"maintenance": True}, ("Suspect", "False", "Suspect")),
    ("fencing", [policy(), in_phase("Fencing")], {}, ("Fencing", "False", "Fencing")),
    ("releasing", [policy(), in_phase("Releasing")], {}, ("Fenced", "False", "Fenced")),
    ("restarting", [policy(), in_phase("Restarting")], {}, ("Fenced", "False", "Fenced")),
    ("down", [policy(), in_phase("Recovering")], {}, ("Fenced", "False", "Fenced")),
    ("over", [policy(), in_phase("Completed", outcome="Recovered")], {}, ("Connected", "True", "Connected")),
]


@pytest.mark.parametrize("reason, more, spec, want", STATES, ids=[row[0] for row in STATES])
def test_its_state(reason: str, more: list[Tree], spec: Tree, want: tuple[str, str, str]) -> None:
    there = d.world(d.host(**spec), *more)
    state = settle(there)["state"]
    assert (state, *said(there, "Connected")) == want
    assert said(there, "Ready")[0] == want[1]


@pytest.mark.parametrize("phase", ["Releasing", "Restarting", "Recovering"])
def test_one_that_has_booted_again_is_recovering(phase: str) -> None:
    there = d.world(d.host(), policy(), in_phase(phase))
    d.boot(there)
    assert settle(there)["state"] == "Recovering"
    assert said(there, "Connected") == ("False", "Recovering")
    assert status(there)["failure"] == d.FAILURE
    assert f"kubectl describe hostfailure {d.FAILURE}" in message(there, "Connected")


def test_one_that_fails_again_and_again_is_quarantined() -> None:
    said_so = {
        "type": "Recovered",
        "status": "False",
        "reason": "Quarantined",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": 1,
    }
    there = d.world(d.host(), policy(), in_phase("Recovering", conditions=[said_so]))
    d.boot(there)
    assert settle(there)["state"] == "Quarantined"
    assert said(there, "Ready") == ("False", "Quarantined")


def test_a_failure_tells_more_than_a_suspicion() -> None:
    there = d.world(d.host(), policy(suspect="Dead"), in_phase("Fencing"))
    assert settle(there)["verdict"] == "Dead"
    assert said(there, "Connected") == ("False", "Fencing")


def test_a_host_without_a_node() -> None:
    there = d.world(d.host(), policy())
    there.remove(Node, KEY)
    assert settle(there) == {"state": "Unmanaged", "vms": 0}
    assert said(there, "Ready") == ("False", "NoNode")


def test_a_host_whose_node_was_deleted_after_it_failed_is_down() -> None:
    there = d.world(d.host(), policy(), in_phase("Restarting"))
    there.remove(Node, KEY)
    assert settle(there)["state"] == "Fenced"


def test_a_host_that_kubevirt_does_not_run_on() -> None:
    there = d.world(d.host(), policy())
    there.change(Node, KEY, metadata={"labels": {hosts.SCHEDULABLE: None}})
    settle(there)
    assert said(there, "Ready") == ("False", "NotAHost")


def test_nodes_that_cannot_be_read_are_not_gone() -> None:
    there = d.world(d.host(), policy())
    there.unavailable(Node, "it is forbidden")
    settle(there)
    assert said(there, "Ready") == ("Unknown", "CannotSee")
    assert "it is forbidden" in message(there, "Ready")


def test_the_policy_that_counts_is_the_oldest() -> None:
    older = {**policy("older"), "metadata": {"name": "older", "creationTimestamp": "2025-01-01T00:00:00Z"}}
    assert settle(d.world(d.host(), policy(), older))["policy"] == "older"


@pytest.mark.parametrize(
    ("more", "want"),
    [
        ([], ("False", "NoPolicy")),
        ([policy()], ("True", "Protected")),
        ([policy(paused={"reason": "new switches"})], ("False", "Paused")),
    ],
)
def test_whether_it_is_protected(more: list[Tree], want: tuple[str, str]) -> None:
    there = d.world(d.host(), *more)
    settle(there)
    assert said(there, "Protected") == want
    assert said(there, "Ready")[0] == "True", "that is not part of Ready"


def test_whether_it_can_be_fenced() -> None:
    there = d.world(d.host())
    settle(there)
    assert said(there, "Fenceable") == ("False", "NoPowerSwitch")
    there.change(api.Host, KEY, spec={"bmc": {**d.REDFISH, "ipmi": {"address": "192.0.2.7", "credentials": "x"}}})
    settle(there)
    assert said(there, "Fenceable") == ("True", "Declared")
    assert message(there, "Fenceable") == "by redfish, ipmi"


# Its marks


def declare(there: World, **spec: Any) -> None:
    there.change(api.Host, KEY, spec=spec)
    settle(there)


def test_maintenance_cordons_and_takes_its_cordon_back() -> None:
    there = d.world(d.host(maintenance=True))
    settle(there)
    assert marks.cordoned_by(node(there)) == f"host/{d.HOST}"
    declare(there, maintenance=False)
    assert not node(there).spec.unschedulable
    assert hosts.CORDONED_BY not in (node(there).metadata.annotations or {})


@pytest.mark.parametrize("annotations", [{}, {hosts.CORDONED_BY: f"failure/{d.FAILURE}"}], ids=["theirs", "a failure"])
def test_a_cordon_of_somebody_else_stays(annotations: dict[str, str]) -> None:
    there = d.world(d.host(maintenance=True), d.failure())
    there.change(Node, KEY, spec={"unschedulable": True}, metadata={"annotations": annotations})
    settle(there)
    declare(there, maintenance=False)
    assert node(there).spec.unschedulable
    assert there.log == []


def test_the_marks_of_a_failure_go_with_it_when_somebody_deletes_it() -> None:
    """Nobody else would take them back: it may have been a false alarm, and its policy may be gone."""
    there = d.world(d.host(), d.failure())
    down = {"key": hosts.OUT_OF_SERVICE, "value": "nodeshutdown", "effect": "NoExecute"}
    marked: Tree = {"unschedulable": True, "taints": [down]}
    there.change(Node, KEY, spec=marked, metadata={"annotations": {hosts.CORDONED_BY: f"failure/{d.FAILURE}"}})
    settle(there)
    assert marks.cordoned_by(node(there)) == f"failure/{d.FAILURE}"
    there.remove(api.HostFailure, Key("", d.FAILURE))
    settle(there)
    assert not node(there).spec.unschedulable
    assert not node(there).spec.taints
    assert hosts.CORDONED_BY not in (node(there).metadata.annotations or {})


def test_failover_only_is_a_taint_that_goes_again() -> None:
    others = {"key": "example.org/gpu", "effect": "NoSchedule"}
    there = d.world(d.host(failoverOnly=True))
    there.change(Node, KEY, spec={"taints": [others]})
    settle(there)
    tainted = [others, {"key": "vdcos.dev/failover-only", "effect": "NoSchedule"}]
    assert there.tree(Node, KEY)["spec"]["taints"] == tainted
    declare(there, failoverOnly=False)
    assert there.tree(Node, KEY)["spec"]["taints"] == [others]


def test_both_marks_at_once() -> None:
    there = d.world(d.host(failoverOnly=True, maintenance=True))
    settle(there)
    assert node(there).spec.unschedulable
    assert marks.has(node(there), marks.FAILOVER_ONLY)
    declare(there, failoverOnly=False, maintenance=False)
    assert there.tree(Node, KEY)["spec"] == {}


# Who looks again


def wakes(there: World, kind: type[Any], held: Any) -> set[str]:
    watch = next(watch for watch in SERVICE.watches if watch.kind is kind)
    return {key.name for key in watch.keys(held, there.view(SERVICE))}


def test_who_looks_again() -> None:
    moving = d.instance("web", d.OTHER, activePods={"a": d.OTHER, "b": d.HOST})
    there = d.world(d.node(d.OTHER), policy(), d.failure(), moving)
    both = {d.HOST, d.OTHER}
    assert wakes(there, Node, there.held(Node, KEY)) == {d.HOST}
    assert wakes(there, api.HAPolicy, there.held(api.HAPolicy, Key("", d.POLICY))) == both
    assert wakes(there, api.HostFailure, there.held(api.HostFailure, Key("", d.FAILURE))) == {d.HOST}
    assert wakes(there, VirtualMachineInstance, there.held(VirtualMachineInstance, Key("shop", "web"))) == both


def test_what_is_news() -> None:
    sees = {watch.kind: watch.sees for watch in SERVICE.watches}
    seen, covers, stage, where = (
        sees[kind] for kind in (Node, api.HAPolicy, api.HostFailure, VirtualMachineInstance)
    )  # fmt: skip
    assert seen is not None
    assert covers is not None
    assert stage is not None
    assert where is not None
    there = d.world(d.instance("web"))
    there.change(Node, KEY, metadata={"annotations": {"vdcos.dev/note": "x"}})
    before = there.held(Node, KEY)
    d.beat(there)
    d.say(there, "False")
    assert seen(before) == seen(there.held(Node, KEY)), "neither its heartbeat nor whether it is ready"
    there.change(Node, KEY, spec={"unschedulable": True})
    assert seen(before) != seen(there.held(Node, KEY))

    def known(raw: bytes, generation: int = 1) -> Own:
        return Own(metadata=Meta(name="x", uid="u", generation=generation), raw=raw)

    assert covers(known(b'{"status":{"connected":1}}')) == covers(known(b"{}"))
    assert covers(known(b'{"status":{"suspects":[{"host":"a"}]}}')) != covers(known(b"{}"))
    assert covers(known(b"{}", 2)) != covers(known(b"{}"))
    assert stage(known(b'{"status":{"phase":"Held"}}')) != stage(known(b'{"status":{"phase":"Fencing"}}'))
    web = there.held(VirtualMachineInstance, Key("shop", "web"))
    there.change(VirtualMachineInstance, Key("shop", "web"), status={"phase": "Failed"})
    assert where(web) == where(there.held(VirtualMachineInstance, Key("shop", "web")))


# What is used of it, and what would become of its VMs


def test_all_pods_are_counted() -> None:
    there = d.world(d.host(), policy(), c.pod("web", cpu="2", memory="4Gi"), c.other("daemon", cpu="500m"))
    assert settle(there)["reserved"] == {"cpu": "2500m", "memory": "5Gi", "pods": 2}


def test_its_failure_plan() -> None:
    there = d.world(d.host(), policy(), c.host("host-2"), c.pod("web"), c.pod("huge", cpu="9"))
    assert settle(there)["failurePlan"] == {
        "restarts": 1,
        "stays": 1,
        "reasons": [{"namespace": "shop", "name": "huge", "reason": "NoCapacity"}],
    }


def test_without_a_policy_there_is_no_plan_and_vms_take_back_what_they_say() -> None:
    said = [{"type": "Protected", "status": "True", "reason": "RestartsElsewhere"}]
    vm = {**d.vm("web"), "status": {"conditions": said, "powerState": "PoweredOn"}}
    there = d.world(d.host(), vm, d.vm("quiet"), d.instance("web"), d.instance("quiet"), c.pod("web"))
    assert "failurePlan" not in settle(there)
    assert there.plan(SERVICE, KEY).wakes == ((api.VirtualMachine, Key("shop", "web")),)
    there.put(policy())
    assert there.plan(SERVICE, KEY).wakes == ()


def test_pods_wake_the_host_that_they_are_on() -> None:
    there = d.world(c.pod("web"), c.other("daemon"), c.pod("pending", on=""))
    for kind, key in ((LauncherPod, c.key("virt-launcher-web")), (OtherPod, Key("kube-system", "daemon"))):
        watch = next(watch for watch in SERVICE.watches if watch.kind is kind)
        assert watch.sees is not None
        assert list(watch.keys(there.held(kind, key), there.view(SERVICE))) == [KEY]
        before = watch.sees(there.held(kind, key))
        there.change(kind, key, status={"phase": "Succeeded"})
        assert watch.sees(there.held(kind, key)) != before
        assert list(watch.keys(there.held(kind, c.key("virt-launcher-pending")), there.view(SERVICE))) == []


def test_evidence_is_that_of_the_policy_and_says_since_when() -> None:
    known = policy(suspect="Suspect")
    told = [{"witness": "lease", "says": "it is not renewed", "since": "2026-01-01T00:00:00Z"}]
    known["status"]["suspects"][0]["evidence"] = told
    there = d.world(d.host(), known)
    assert settle(there)["evidence"] == told
    assert "evidence" not in settle(d.world(d.host(), policy()))


def test_nothing_is_said_of_a_host_while_nothing_is_heard() -> None:
    condition = {
        "type": "HostsVisible",
        "status": "Unknown",
        "reason": "Blind",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": 1,
    }
    there = d.world(d.host(), {**policy(), "status": {"conditions": [condition]}})
    assert settle(there)["verdict"] == "Blind"
    assert said(there, "Connected") == ("Unknown", "Blind")
    watch = next(watch for watch in SERVICE.watches if watch.kind is api.HAPolicy)
    assert watch.sees is not None
    blind = watch.sees(there.held(api.HAPolicy, Key("", d.POLICY)))
    there.put(policy())
    assert watch.sees(there.held(api.HAPolicy, Key("", d.POLICY))) != blind


def test_a_mark_of_ours_goes_when_somebody_has_taken_its_cordon_away() -> None:
    there = d.world(d.host(), policy(), d.failure("host-1-a"))
    mark = {hosts.CORDONED_BY: "failure/host-1-a"}
    there.put(d.node(annotations={**mark, "their": "own"}))
    settle(there)
    assert there.tree(Node, KEY)["metadata"]["annotations"] == {"their": "own"}
    there.put(d.node(annotations=mark, spec={"unschedulable": True}))
    settle(there)
    assert there.tree(Node, KEY)["metadata"]["annotations"] == mark
