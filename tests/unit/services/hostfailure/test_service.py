"""A failure of a host from its declaration to its end, step by step, and all that may come between."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from tests.unit.services import datacenter as d
from vdcos import api
from vdcos.core import counts, hosts, kinds, marks
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.kubernetes import NODE_LEASES, LauncherPod, Lease, Node
from vdcos.core.foreign.kubevirt import Migration, VirtualMachineInstance
from vdcos.core.foreign.medik8s import FenceAgentsRemediation, FenceAgentsRemediationTemplate
from vdcos.core.objects import Key, Meta, Own
from vdcos.core.plan import Action, Create, Delete, Patch, Plan
from vdcos.services.hostfailure import HostFailureService
from vdcos.services.hostfailure import service as module
from vdcos.testing import builders
from vdcos.testing.world import World

Tree = dict[str, Any]

SERVICE = HostFailureService()
KEY = Key("", d.FAILURE)
OFF = "power-off/redfish/1"
MARK = f"failure/{d.FAILURE}"
CONFIRMED = {"incarnation": d.BOOT, "by": "Ada", "why": "unplugged"}


def dead(*more: Tree | Sequence[Tree], bmc: Tree | None = d.REDFISH, policy: Tree | None = None, **spec: Any) -> World:
    """A host that has been silent for 20 s, declared dead a moment ago."""
    evidence = [{"witness": "probe", "says": "no answer", "since": "2026-01-01T12:00:00Z"}]
    declared = d.failure(**{"evidence": evidence, **spec})
    there = d.world(declared, d.host(bmc=bmc), policy or d.policy(), *more)
    d.later(there, 20)
    return there


def status(there: World, key: Key = KEY) -> Tree:
    found: Tree = there.tree(api.HostFailure, key).get("status", {})
    return found


def said(there: World) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in status(there)["conditions"]}


def message(there: World, kind: str) -> str:
    return next(str(each["message"]) for each in status(there)["conditions"] if each["type"] == kind)


def happened(there: World) -> list[str]:
    return [each["what"] for each in status(there).get("timeline", ())]


def look(there: World, key: Key = KEY) -> Plan:
    """One look with its consequences. Looking again at what is there then changes nothing, unless that is announced."""
    plan = there.settle(SERVICE, key)
    for ask in plan.asks:
        assert not ask.effect or ask.id in status(there, key)["asked"], "an effect is stated before it is asked"
    if plan.after != 0.0:
        again = there.plan(SERVICE, key)
        stored = {
            name: value
            for name, value in status(there, key).items()
            if name not in ("conditions", "observedGeneration")
        }
        assert (again.actions, again.status) == ((), stored)
        assert again.conditions == plan.conditions
        assert (again.asks, again.after) == (plan.asks, plan.after)
    return plan


def settle(there: World, key: Key = KEY) -> Plan:
    """As many looks as follow each other at once."""
    for _ in range(10):
        plan = look(there, key)
        if plan.after != 0.0:
            return plan
    raise AssertionError("it never comes to rest")


def answered(there: World) -> None:
    """Its BMC has powered it off, and was asked twice whether it has."""
    there.answers[KEY] = {
        OFF: d.ok(there, 4.0),
        "power/redfish/1/1": d.ok(there, 3.0, power="Off"),
        "power/redfish/1/2": d.ok(there, 2.0, power="Off"),
    }


def fenced(there: World) -> World:
    """It is proved to be down; nothing has been done about its VMs yet."""
    settle(there)
    answered(there)
    look(there)
    assert status(there)["receipt"]["provider"] == "redfish"
    return there


def restarting(there: World) -> World:
    """What is left of the host is gone, and the first VMs may start."""
    fenced(there)
    look(there)
    for name, state in states(there).items():
        if state == "Held":
            there.change(kubevirt.VirtualMachine, Key("shop", name), spec={"runStrategy": "Halted"})
    settle(there)
    assert status(there)["released"] is True
    for name in states(there):
        there.remove(VirtualMachineInstance, Key("shop", name))
    return there


def up(there: World, *names: str) -> None:
    for name in names:
        d.start(there, name)


def node(there: World) -> Node:
    found = there.held(Node, d.NODE)
    assert isinstance(found, Node)
    return found


def whats(actions: Sequence[Action]) -> list[str]:
    return [f"{type(action).__name__} {action.resource.kind}" for action in actions]


def states(there: World) -> dict[str, str]:
    return {machine["name"]: machine["state"] for machine in status(there).get("machines", ())}


HIGH = {"restartPriority": "High"}


# The whole life


def test_a_failure_from_beginning_to_end() -> None:
    there = dead(d.ran("web"), d.ran("db", HIGH), d.migration("web"))
    plan = look(there)
    assert whats(there.log) == ["Patch Node"], "the cordon comes first"
    assert marks.cordoned_by(node(there)) == MARK
    assert [ask.id for ask in plan.asks] == [OFF]
    assert status(there)["asked"] == [OFF]
    assert (status(there)["phase"], status(there)["cordoned"]) == ("Fencing", True)
    assert said(there)["Ready"] == ("False", "Fencing")
    assert said(there)["Restarted"] == said(there)["Recovered"] == ("False", "NotFenced")
    assert happened(there) == ["declared dead: probe: no answer"]

    answered(there)
    plan = look(there)
    assert (plan.after, plan.asks) == (0.0, ())
    assert status(there)["receipt"] == {
        "provider": "redfish",
        "how": "PoweredOff",
        "proof": "redfish accepted a power-off, and then its power was read as Off twice",
        "incarnation": d.BOOT,
        "renewed": d.RENEWED,
        "at": counts.stamp(there.now),
    }
    assert whats(there.log) == ["Patch Node"], "the receipt is stored before anything is released"
    assert said(there)["Fenced"] == ("True", "PoweredOff")

    plan = look(there)
    assert plan.after == 0.0
    assert states(there) == {"db": "Released", "web": "Held"}
    assert status(there)["vms"] == {
        "total": 2, "running": 0, "starting": 1, "held": 1, "failed": 0, "notRestarted": [],
    }  # fmt: skip
    assert whats(there.log) == ["Patch Node"], "who is held is stored before anything is released"

    plan = look(there)
    assert plan.after == 10.0
    assert whats(there.log) == ["Patch Node"], "KubeVirt knows of the hold before anything is released"

    there.change(kubevirt.VirtualMachine, Key("shop", "web"), spec={"runStrategy": "Halted"})
    plan = look(there)
    assert plan.after == 0.0
    assert whats(there.log[1:]) == [
        "Delete Pod", "Delete Pod", "Delete VirtualMachineInstanceMigration", "Patch Node"
    ]  # fmt: skip
    for gone in there.log[1:3]:
        assert isinstance(gone, Delete)
        assert (gone.now, gone.uid) == (True, f"pod-{gone.key.name.removeprefix('virt-launcher-')}")
    move = there.log[3]
    assert isinstance(move, Delete)
    assert (move.now, move.uid) == (False, "move-web")
    assert marks.has(node(there), marks.DOWN)
    assert (status(there)["phase"], status(there)["released"], status(there)["tainted"]) == ("Restarting", True, True)

    there.remove(VirtualMachineInstance, Key("shop", "web"))
    there.remove(VirtualMachineInstance, Key("shop", "db"))
    plan = settle(there)
    assert plan.after == 600.0
    assert states(there) == {"db": "Released", "web": "Held"}
    assert said(there)["Restarted"] == ("False", "Restarting")
    assert message(there, "Restarted") == "0 of 2 VMs run again; 1 start, 1 wait for their turn"
    assert said(there)["Recovered"] == ("False", "HostDown")

    up(there, "db")
    settle(there)
    assert states(there) == {"db": "Up", "web": "Released"}
    up(there, "web")
    settle(there)
    assert states(there) == {"db": "Up", "web": "Up"}
    assert status(there)["phase"] == "Recovering"
    assert said(there)["Restarted"] == ("True", "Restarted")
    assert message(there, "Restarted") == "2 VMs run again"

    log = len(there.log)
    there.change(Node, d.NODE, status={"nodeInfo": {"bootID": d.NEXT_BOOT}})
    assert look(there).after is None
    assert said(there)["Recovered"] == ("False", "Booting")
    d.renew(there)
    plan = look(there)
    assert whats(there.log[log:]) == ["Patch Node"]
    assert not marks.has(node(there), marks.DOWN), "the taint keeps its own daemons away"
    assert node(there).spec.unschedulable
    assert (plan.after, said(there)["Recovered"]) == (60.0, ("False", "Quiet"))
    assert status(there)["backSince"] == counts.stamp(there.now)

    d.later(there, 59.0)
    d.renew(there)
    assert look(there).after == 1.0
    d.later(there, 1.0)
    d.renew(there)
    settle(there)
    assert whats(there.log[log:]) == ["Patch Node", "Patch Node"]
    assert not node(there).spec.unschedulable
    assert node(there).metadata.annotation(hosts.CORDONED_BY) == ""
    assert (status(there)["phase"], status(there)["outcome"]) == ("Completed", "Recovered")
    assert said(there)["Ready"] == ("True", "Ready")
    assert happened(there) == [
        "declared dead: probe: no answer",
        "redfish: redfish accepted a power-off, and then its power was read as Off twice",
        "2 VMs ran on the host",
        "nothing of the host keeps VMs from restarting",
        "2 of 2 VMs run again",
        "the failure is over",
    ]

    d.later(there, 3600.0)
    before = status(there)
    plan = settle(there)
    assert (plan.actions, plan.asks, plan.after) == ((), (), None)
    assert status(there) == before, "history does not change"


def test_all_that_it_does_is_declared() -> None:
    there = restarting(dead(d.ran("web"), d.migration("web")))
    verbs = {Patch: "patch", Delete: "delete", Create: "create"}
    declared = {(write.resource, verb) for write in SERVICE.writes for verb in write.verbs}
    assert {(action.resource, verbs[type(action)]) for action in there.log if type(action) in verbs} <= declared


# Fencing


def test_who_asked_in_vain_says_so_and_asks_again() -> None:
    there = dead()
    settle(there)
    there.answers[KEY] = {OFF: d.bad(there, "no route"), "power/redfish/1/1": d.bad(there, "no route")}
    plan = settle(there)
    assert status(there)["tried"] == [
        {"provider": "redfish", "why": "no route; and its power cannot be read: no route"}
    ]
    assert plan.after == pytest.approx(30.0, abs=0.1)
    assert said(there)["Fenced"] == ("False", "Fencing")
    d.later(there, 31.0)
    plan = settle(there)
    assert status(there)["asked"] == ["power-off/redfish/2"]
    assert [ask.id for ask in plan.asks] == ["power-off/redfish/2"]
    assert happened(there)[-1] == "asked: power-off/redfish/2"


def test_the_switches_are_kept_when_the_host_s_declaration_goes() -> None:
    there = dead()
    settle(there)
    there.remove(api.Host, d.NODE)
    answered(there)
    look(there)
    assert status(there)["bmc"]["redfish"]["address"] == "https://bmc-1.test"
    assert status(there)["receipt"]["provider"] == "redfish"


def test_nothing_is_asked_of_a_host_without_switches_and_a_person_is_told_what_to_do() -> None:
    there = dead(bmc=None)
    plan = settle(there)
    assert plan.asks == ()
    assert "asked" not in status(there)
    assert said(there)["Ready"] == ("False", "NoProof")
    assert f"spec.confirmedDown with incarnation {d.BOOT}" in message(there, "Ready")
    assert node(there).spec.unschedulable
    word = json.loads(message(there, "Ready").partition("-p '")[2].rpartition("'")[0])
    there.change(api.HostFailure, KEY, **word)
    settle(there)
    assert status(there)["receipt"]["how"] == "Confirmed", "the command that it was told"


def test_somebody_s_word_is_a_proof() -> None:
    there = dead(d.ran("web"), bmc=None, confirmedDown=CONFIRMED)
    settle(there)
    assert status(there)["receipt"]["how"] == "Confirmed"
    assert states(there) == {"web": "Released"}
    assert not there.has(LauncherPod, Key("shop", "virt-launcher-web"))


def test_somebody_s_word_counts_after_the_quiet_time_only() -> None:
    there = dead(d.ran("web"), bmc=None, confirmedDown=CONFIRMED, policy=d.policy(fencing={"quietSeconds": 30}))
    settle(there)
    assert "receipt" not in status(there)
    d.later(there, 10.0)
    settle(there)
    assert status(there)["receipt"]["how"] == "Confirmed"


def test_a_heartbeat_is_a_sign_of_life() -> None:
    there = dead(bmc=None, confirmedDown=CONFIRMED)
    d.beat(there)
    settle(there)
    assert "receipt" not in status(there)


def test_silence_that_was_not_listened_to_is_no_silence() -> None:
    there = dead(bmc=None, confirmedDown=CONFIRMED)
    there.silence[Lease] = 15.0
    settle(there)
    assert "receipt" not in status(there)


def test_a_host_that_boots_again_was_down() -> None:
    there = dead(d.ran("web"))
    d.boot(there)
    settle(there)
    assert status(there)["receipt"]["how"] == "Rebooted"
    assert not there.has(LauncherPod, Key("shop", "virt-launcher-web"))
    assert not marks.has(node(there), marks.DOWN), "it is up: volumes are detached as ever"
    assert "tainted" not in status(there)
    assert not any(isinstance(action, Patch) for action in there.log), "nor is it cordoned"


def test_a_node_that_was_deleted_is_proof_for_a_cloud() -> None:
    cloud = d.policy(fencing={"providers": [{"provider": "cloud"}]})
    there = dead(d.ran("web"), policy=cloud, providerID="cloud:///1")
    settle(there)
    assert "receipt" not in status(there)
    there.remove(Node, d.NODE)
    settle(there)
    assert status(there)["receipt"]["how"] == "NodeDeleted"


def test_a_lease_that_is_gone_is_silent_since_then() -> None:
    there = dead(bmc=None, confirmedDown=CONFIRMED)
    there.remove(Lease, d.LEASE)
    there.change(api.HostFailure, KEY, spec={"approved": True})
    assert settle(there).after is not None or "receipt" not in status(there)
    assert "receipt" not in status(there)
    d.later(there, 12.0)
    settle(there)
    assert status(there)["receipt"]["how"] == "Confirmed"


TEMPLATE: Tree = {
    "apiVersion": "fence-agents-remediation.medik8s.io/v1alpha1",
    "kind": "FenceAgentsRemediationTemplate",
    "metadata": {"name": "ipmi", "namespace": "fencing"},
    "spec": {"template": {"spec": {"agent": "fence_ipmilan"}}},
}
MEDIK8S = d.policy(
    fencing={"providers": [{"provider": "medik8s", "template": {"namespace": "fencing", "name": "ipmi"}}]}
)


def test_medik8s_is_asked_by_an_object_that_is_created_after_it_was_stated() -> None:
    there = dead(d.ran("web"), builders.namespace("fencing"), TEMPLATE, policy=MEDIK8S)
    look(there)
    assert not any(isinstance(action, Create) for action in there.log)
    assert status(there)["asked"] == ["remediate/medik8s/1"]
    settle(there)
    [made] = [action for action in there.log if isinstance(action, Create)]
    assert made.resource is FenceAgentsRemediation.resource
    done = {"type": "FenceAgentActionSucceeded", "status": "True"}
    there.change(FenceAgentsRemediation, Key("fencing", d.HOST), status={"conditions": [done]})
    settle(there)
    assert status(there)["receipt"]["how"] == "Remediated"


FAR = Key("fencing", d.HOST)


def remediated(there: World) -> Tree:
    """medik8s is asked, and says that it has fenced the host."""
    settle(there)
    done = {"type": "FenceAgentActionSucceeded", "status": "True"}
    there.change(FenceAgentsRemediation, FAR, status={"conditions": [done]})
    return there.tree(FenceAgentsRemediation, FAR)


def test_after_a_false_alarm_its_remediation_goes_and_the_next_failure_of_the_same_life_asks_anew() -> None:
    """A fence agent that is wired to another host says that it has succeeded."""
    there = dead(d.ran("web"), builders.namespace("fencing"), TEMPLATE, policy=MEDIK8S)
    left = remediated(there)
    for _ in range(2):
        d.renew(there)
        settle(there)
        assert there.has(FenceAgentsRemediation, FAR) == (status(there)["phase"] != "Completed")
        d.later(there, 60.0)
    assert status(there)["outcome"] == "FalseAlarm"
    there.put(left)
    again = "failure-of-the-same-life"
    there.put(d.failure(again))
    settle(there, Key("", again))
    assert "receipt" not in status(there, Key("", again)), "what the first came to proves nothing"
    [deleted, made] = [action for action in there.log if isinstance(action, Create | Delete)][-2:]
    assert isinstance(deleted, Delete)
    assert isinstance(made, Create)
    assert (deleted.uid, made.manifest["metadata"]["name"]) == (left["metadata"]["uid"], d.HOST)
    assert there.has(FenceAgentsRemediation, FAR)


def test_a_success_from_before_the_host_was_heard_proves_nothing_when_it_is_silent_again() -> None:
    there = dead(d.ran("web"), builders.namespace("fencing"), TEMPLATE, policy=MEDIK8S)
    remediated(there)
    d.renew(there)
    settle(there)
    assert said(there)["Ready"] == ("False", "HeardAgain")
    d.later(there, 20.0)
    settle(there)
    assert "receipt" not in status(there)
    remediated(there)
    settle(there)
    assert status(there)["receipt"]["how"] == "Remediated", "one that was made since does"


def test_its_remediation_stays_until_the_host_is_back_and_that_of_others_stays() -> None:
    there = dead(d.ran("web"), builders.namespace("fencing"), TEMPLATE, policy=MEDIK8S)
    remediated(there)
    settle(there)
    there.remove(VirtualMachineInstance, Key("shop", "web"))
    up(there, "web")
    settle(there)
    assert status(there)["phase"] == "Recovering"
    assert there.has(FenceAgentsRemediation, FAR)
    d.boot(there)
    d.say(there, "True")
    d.renew(there)
    settle(there)
    assert there.has(FenceAgentsRemediation, FAR)
    d.later(there, 60.0)
    d.renew(there)
    settle(there)
    assert status(there)["outcome"] == "Recovered"
    assert not there.has(FenceAgentsRemediation, FAR)


def test_one_that_somebody_else_made_stays() -> None:
    theirs = {"apiVersion": TEMPLATE["apiVersion"], "kind": "FenceAgentsRemediation"}
    there = dead(builders.namespace("fencing"), TEMPLATE, policy=MEDIK8S)
    there.put({**theirs, "metadata": {"name": d.HOST, "namespace": "fencing"}})
    settle(there)
    assert said(there)["Ready"] == ("False", "NoProof")
    assert "kubectl delete fenceagentsremediations -n fencing host-1" in message(there, "Ready")
    d.renew(there)
    d.later(there, module.SETTLED_SECONDS)
    settle(there)
    assert status(there)["outcome"] == "FalseAlarm"
    assert there.has(FenceAgentsRemediation, FAR)


# Who waits for a person


def test_a_paused_policy_cordons_and_waits() -> None:
    there = dead(d.ran("web"), policy=d.policy(paused={"reason": "new switches"}))
    plan = settle(there)
    assert (plan.asks, plan.after) == ((), None)
    assert status(there)["phase"] == "Held"
    assert said(there)["Ready"] == ("False", "Paused")
    assert "new switches" in message(there, "Ready")
    assert """--type merge -p '{"spec":{"approved":true}}'""" in message(there, "Ready")
    assert happened(there) == ["held: Paused"]
    assert (node(there).spec.unschedulable, status(there)["cordoned"]) == (True, True)
    there.change(api.HAPolicy, Key("", d.POLICY), spec={"paused": None})
    assert [ask.id for ask in settle(there).asks] == [OFF]


def test_without_its_policy_it_waits() -> None:
    there = dead()
    there.remove(api.HAPolicy, Key("", d.POLICY))
    assert settle(there).asks == ()
    assert said(there)["Ready"] == ("False", "PolicyGone")
    assert happened(there) == ["held: PolicyGone"]


def ago(seconds: float) -> str:
    """So long before the failure is looked at."""
    return counts.stamp(World().now._replace(wall=World().now.wall + 20.0 - seconds))


def others(*proved: str, booted: Sequence[int] = (), phase: str = "Fencing", **spec: Any) -> list[Tree]:
    """Other hosts that have failed, when each was proved to be down, and which of them have booted since."""
    proof = {"provider": "manual", "how": "Confirmed", "proof": "x", "incarnation": "x"}
    found = []
    for n, at in enumerate(proved, 2):
        known = {"phase": phase, **({"receipt": {**proof, "at": at}} if at else {})}
        found.append(d.failure(f"other-{n}", known, **{"host": f"host-{n}", **spec}))
        found.append(d.node(f"host-{n}", d.NEXT_BOOT if n in booted else d.BOOT))
    return found


def covering(count: int, **spec: Any) -> Tree:
    return {**d.policy(**spec), "status": {"hosts": {"count": count, "names": []}}}


NOT_YET, NOW, LONG_AGO = "", ago(5.0), ago(3600.0)

STORMS: list[tuple[str, list[Tree], Tree, int]] = [
    ("it alone", [], covering(4), 0),
    ("two of four", others(NOT_YET), covering(4), 0),
    ("three of four", others(NOT_YET, NOT_YET), covering(4), 3),
    ("three, and one is proved to be down", others(NOT_YET, NOW), covering(4), 3),
    ("three, and two are proved to be down", others(NOW, NOW, phase="Recovering"), covering(4), 3),
    ("by a clock that was set back", others(NOW, ago(-60.0)), covering(4), 3),
    ("almost an hour ago", others(NOT_YET, ago(3599.0)), covering(4), 3),
    ("an hour ago", others(NOT_YET, LONG_AGO), covering(4), 0),
    ("longer than that ago, and two now", others(NOT_YET, LONG_AGO, NOW), covering(4), 3),
    ("one has booted since", others(NOT_YET, NOW, booted=[3]), covering(4), 0),
    ("one has booted by itself", others(NOT_YET, NOT_YET, booted=[2]), covering(4), 0),
    ("another machine has the name", others(NOT_YET, NOW, booted=[3], machine="another"), covering(4), 3),
    ("the node is gone", [each for each in others(NOT_YET, NOW) if each["kind"] != "Node"], covering(4), 3),
    ("two of three", others(NOT_YET), covering(3), 2),
    ("as many as are let pass", others(NOT_YET, NOT_YET), covering(10, stormBrake={"maxHosts": 3}), 0),
    ("of another policy", others(NOT_YET, NOT_YET, policy="test"), covering(4), 0),
    ("the policy has not counted yet", [], d.policy(), 0),
    ("two, and the policy has not counted yet", others(NOT_YET), d.policy(), 2),
    ("over already", others(NOT_YET, NOW, phase="Completed"), covering(4), 0),
    ("the same host", others(NOT_YET, NOT_YET, host=d.HOST), covering(4), 0),
]


@pytest.mark.parametrize("reason, more, policy, storm", STORMS, ids=[row[0] for row in STORMS])
def test_the_storm_brake(reason: str, more: list[Tree], policy: Tree, storm: int) -> None:
    there = dead(*more, policy=policy)
    settle(there)
    assert status(there).get("storm", 0) == storm
    assert (status(there)["phase"] == "Held") is (storm > 0)
    if storm:
        assert said(there)["Ready"] == ("False", "StormBrake")
        assert f"{storm} of " in message(there, "Ready")
        assert happened(there) == ["held: StormBrake"]


def over(there: World, *names: str) -> None:
    for name in names:
        there.change(api.HostFailure, Key("", name), status={"phase": "Completed", "outcome": "FalseAlarm"})


def gone(there: World) -> None:
    for name in ("other-2", "other-3"):
        there.remove(api.HostFailure, Key("", name))


def lifted(there: World) -> None:
    there.change(api.HAPolicy, Key("", d.POLICY), spec={"stormBrake": {"maxHosts": 4, "maxPercent": 100}})


LESS: list[tuple[str, Callable[[World], None]]] = [
    ("others are back", lambda there: over(there, "other-2", "other-3")),
    ("others have failed for long", lambda there: d.later(there, 7200.0)),
    ("others are gone", gone),
    ("the brake lets more pass", lifted),
]


@pytest.mark.parametrize("reason, happens", LESS, ids=[row[0] for row in LESS])
def test_what_the_storm_brake_has_stopped_waits_for_a_person(reason: str, happens: Callable[[World], None]) -> None:
    """Whatever becomes of the others: the words say so of each failure."""
    there = dead(*others(NOT_YET, NOW), policy=covering(4))
    settle(there)
    happens(there)
    plan = settle(there)
    assert (plan.actions, plan.asks) == ((), ())
    assert said(there)["Ready"] == ("False", "StormBrake")
    assert "3 of " in message(there, "Ready")
    assert happened(there) == ["held: StormBrake"]
    there.change(api.HostFailure, KEY, spec={"approved": True})
    assert [ask.id for ask in settle(there).asks] == [OFF]


def test_it_waits_though_its_policy_was_paused_meanwhile() -> None:
    there = dead(*others(NOT_YET, NOW), policy=covering(4))
    settle(there)
    there.change(api.HAPolicy, Key("", d.POLICY), spec={"paused": {"reason": "x"}})
    settle(there)
    assert said(there)["Ready"] == ("False", "Paused")
    over(there, "other-2")
    there.change(api.HAPolicy, Key("", d.POLICY), spec={"paused": None})
    settle(there)
    assert said(there)["Ready"] == ("False", "StormBrake")


BACK: list[tuple[str, Callable[[World], None], str]] = [
    ("it is heard again", d.renew, "Completed"),
    ("it has booted", d.boot, "Recovering"),
]


@pytest.mark.parametrize("reason, happens, phase", BACK, ids=[row[0] for row in BACK])
def test_what_the_storm_brake_has_stopped_goes_on_when_the_host_is_back(
    reason: str, happens: Callable[[World], None], phase: str
) -> None:
    there = dead(*others(NOT_YET, NOW), policy=covering(4))
    settle(there)
    happens(there)
    d.later(there, module.SETTLED_SECONDS)
    settle(there)
    assert status(there)["phase"] == phase
    assert "asked" not in status(there)


def test_a_failure_that_cannot_be_read_does_not_count() -> None:
    known = [each for each in others(NOT_YET, NOT_YET) if each["kind"] != "Node"]
    more = [{**each, "spec": {**each["spec"], "approved": 1}} for each in known]
    there = dead(*more, policy=covering(4))
    settle(there)
    assert status(there)["phase"] == "Fencing"


GO_ON: list[tuple[str, Callable[[World], None]]] = [
    ("approved", lambda there: there.change(api.HostFailure, KEY, spec={"approved": True})),
    ("confirmed", lambda there: there.change(api.HostFailure, KEY, spec={"confirmedDown": CONFIRMED})),
]


@pytest.mark.parametrize("policy", [d.policy(paused={"reason": "x"}), covering(1)], ids=["paused", "a storm"])
@pytest.mark.parametrize("reason, act", GO_ON, ids=[row[0] for row in GO_ON])
def test_a_person_lets_it_go_on(reason: str, act: Callable[[World], None], policy: Tree) -> None:
    there = dead(*others(NOT_YET), policy=policy)
    settle(there)
    assert status(there)["phase"] == "Held"
    act(there)
    settle(there)
    assert status(there)["phase"] != "Held"


MEANWHILE: list[tuple[str, Callable[[World], None]]] = [
    ("paused", lambda there: there.change(api.HAPolicy, Key("", d.POLICY), spec={"paused": {"reason": "x"}})),
    ("gone", lambda there: there.remove(api.HAPolicy, Key("", d.POLICY))),
]


@pytest.mark.parametrize("reason, happens", MEANWHILE, ids=[row[0] for row in MEANWHILE])
def test_what_has_begun_comes_to_its_end(reason: str, happens: Callable[[World], None]) -> None:
    there = dead(d.ran("web"))
    settle(there)
    happens(there)
    restarting(there)
    up(there, "web")
    settle(there)
    d.boot(there)
    settle(there)
    d.later(there, 60.0)
    d.renew(there)
    settle(there)
    assert status(there)["outcome"] == "Recovered"


# Heard again


def test_a_host_that_is_heard_again_before_it_was_asked_about_was_a_false_alarm() -> None:
    there = dead(d.ran("web"), bmc=None)
    settle(there)
    assert node(there).spec.unschedulable
    assert node(there).metadata.annotations == {hosts.CORDONED_BY: MARK}
    d.renew(there)
    d.later(there, module.SETTLED_SECONDS)
    settle(there)
    assert (status(there)["phase"], status(there)["outcome"]) == ("Completed", "FalseAlarm")
    assert said(there)["Ready"] == ("True", "Ready")
    assert not node(there).spec.unschedulable
    assert not node(there).metadata.annotations
    assert "cordoned" not in status(there)
    assert there.has(LauncherPod, Key("shop", "virt-launcher-web"))
    assert happened(there)[-1] == "the host is heard again: a false alarm"
    plan = settle(there)
    assert (plan.actions, plan.asks, plan.after) == ((), (), None)


def test_a_renewal_says_nothing_before_the_node_must_have_been_heard_too() -> None:
    """A host that has booted is heard by its Lease and by its Node, and nobody knows by which first."""
    there = dead(d.ran("web"), bmc=None)
    settle(there)
    before = said(there)
    d.renew(there)
    plan = settle(there)
    assert (plan.actions, plan.asks, plan.after) == ((), (), module.SETTLED_SECONDS)
    assert said(there) == before
    d.boot(there)
    settle(there)
    assert status(there)["receipt"]["how"] == "Rebooted"


def test_a_cordon_of_somebody_else_stays_after_a_false_alarm() -> None:
    there = dead(bmc=None)
    there.change(Node, d.NODE, spec={"unschedulable": True})
    settle(there)
    assert "cordoned" not in status(there)
    d.renew(there)
    d.later(there, module.SETTLED_SECONDS)
    settle(there)
    assert status(there)["outcome"] == "FalseAlarm"
    assert node(there).spec.unschedulable


def test_one_that_was_held_and_is_heard_again_was_a_false_alarm() -> None:
    there = dead(policy=d.policy(paused={"reason": "x"}))
    settle(there)
    d.renew(there)
    d.later(there, module.SETTLED_SECONDS)
    settle(there)
    assert status(there)["outcome"] == "FalseAlarm"
    assert not node(there).spec.unschedulable


def test_one_that_was_to_be_powered_off_must_stay_well_for_a_while_first() -> None:
    there = dead(d.ran("web"))
    settle(there)
    d.renew(there)
    plan = settle(there)
    assert (plan.asks, plan.after) == ((), 60.0)
    assert status(there)["phase"] == "Fencing"
    assert said(there)["Ready"] == ("False", "HeardAgain")
    assert happened(there)[-1] == "the host is heard again"
    d.later(there, 50.0)
    d.renew(there)
    assert settle(there).after == 10.0
    assert happened(there).count("the host is heard again") == 1
    d.later(there, 10.0)
    d.renew(there)
    settle(there)
    assert status(there)["outcome"] == "FalseAlarm"
    assert "backSince" not in status(there)
    assert there.has(LauncherPod, Key("shop", "virt-launcher-web"))


def test_one_that_falls_silent_again_is_fenced_and_must_begin_its_quiet_time_anew() -> None:
    there = dead()
    settle(there)
    d.renew(there)
    settle(there)
    assert "backSince" in status(there)
    d.later(there, 20.0)
    plan = settle(there)
    assert [ask.id for ask in plan.asks] == [OFF]
    assert "backSince" not in status(there)


def test_a_lease_of_another_boot_is_no_sign_of_the_life_that_failed() -> None:
    there = dead()
    settle(there)
    d.boot(there)
    settle(there)
    assert status(there)["receipt"]["how"] == "Rebooted"


@pytest.mark.parametrize("then", [fenced, restarting], ids=["before anything is released", "after"])
def test_a_host_that_lives_though_it_was_proved_to_be_down_stops_everything(then: Callable[[World], World]) -> None:
    there = then(dead(d.ran("web"), d.ran("db", HIGH)))
    phase, before, log = status(there)["phase"], states(there), len(there.log)
    d.renew(there)
    d.later(there, module.SETTLED_SECONDS)
    plan = settle(there)
    assert (plan.actions, plan.asks, len(there.log)) == ((), (), log)
    assert (status(there)["phase"], states(there)) == (phase, before)
    assert said(there) == {
        "Ready": ("False", "HostStillAlive"),
        "Reconciling": ("True", "HostStillAlive"),
        "Fenced": ("False", "HostStillAlive"),
        "Restarted": ("Unknown", "HostStillAlive"),
        "Recovered": ("Unknown", "HostStillAlive"),
    }
    told = "the host renews its Lease although it was proved to be down"
    d.later(there, 600.0)
    settle(there)
    assert happened(there).count(told) == 1
    assert said(there)["Ready"] == ("False", "HostStillAlive"), "that it falls silent again proves nothing"


def says(there: World, why: str) -> None:
    there.change(api.HostFailure, KEY, spec={"confirmedDown": {"incarnation": d.BOOT, "by": "Ada", "why": why}})


def heard_after_all(*more: Any) -> World:
    """Proved to be down by a lie, and heard after that."""
    there = fenced(dead(d.ran("web"), *more))
    d.renew(there)
    d.later(there, module.SETTLED_SECONDS)
    settle(there)
    return there


def test_a_host_that_was_heard_goes_on_when_somebody_confirms_anew_that_it_is_down() -> None:
    there = heard_after_all()
    assert "in other words than before" in message(there, "Fenced")
    says(there, "unplugged")
    assert settle(there).after == 11.0, "it was heard a second ago"
    assert said(there)["Fenced"] == ("False", "HostStillAlive")
    d.later(there, 11.0)
    settle(there)
    assert said(there)["Fenced"] == ("True", "PoweredOff")
    assert states(there) == {"web": "Released"}
    assert "it is down now: Ada: unplugged" in happened(there)


def test_the_same_word_does_not_confirm_it_twice() -> None:
    there = heard_after_all()
    says(there, "unplugged")
    d.later(there, 20.0)
    settle(there)
    d.renew(there)
    d.later(there, 20.0)
    settle(there)
    assert said(there)["Fenced"] == ("False", "HostStillAlive")
    says(there, "unplugged both cords")
    settle(there)
    assert said(there)["Fenced"] == ("True", "PoweredOff")


def test_a_word_of_before_it_was_heard_confirms_nothing() -> None:
    there = fenced(dead(d.ran("web")))
    says(there, "looked at it")
    d.renew(there)
    d.later(there, 60.0)
    settle(there)
    assert said(there)["Fenced"] == ("False", "HostStillAlive")


# Release


def test_nothing_is_released_while_what_is_left_cannot_be_seen() -> None:
    there = fenced(dead(d.ran("web")))
    there.unavailable(LauncherPod, "pods may not be listed")
    plan = settle(there)
    assert plan.actions == ()
    assert said(there)["Restarted"] == ("Unknown", "CannotSee")
    assert "pods may not be listed" in message(there, "Restarted")
    assert "machines" not in status(there)


@pytest.mark.parametrize("kind", [Node, VirtualMachineInstance, kubevirt.VirtualMachine, api.VirtualMachine])
def test_nobody_is_given_up_while_vms_cannot_be_seen(kind: type[Any]) -> None:
    there = restarting(dead(d.ran("web")))
    there.unavailable(kind, "the API is gone")
    plan = settle(there)
    assert (plan.actions, plan.asks) == ((), ())
    assert states(there) == {"web": "Released"}
    assert status(there)["phase"] == "Restarting"
    assert said(there)["Restarted"] == said(there)["Recovered"] == ("Unknown", "CannotSee")


def test_a_hold_that_kubevirt_does_not_take_up_is_not_waited_for_for_ever() -> None:
    there = fenced(dead(d.ran("web"), d.ran("db", HIGH)))
    assert settle(there).after == 10.0
    d.later(there, 9.0)
    assert settle(there).after == 1.0
    assert there.has(LauncherPod, Key("shop", "virt-launcher-web"))
    d.later(there, 1.0)
    settle(there)
    assert not there.has(LauncherPod, Key("shop", "virt-launcher-web"))


def set_back(there: World, hours: float = 8.0) -> None:
    there.now = there.now._replace(wall=there.now.wall - hours * 3600.0)


def test_a_clock_that_was_set_back_makes_the_release_wait_once_more_and_no_longer() -> None:
    there = fenced(dead(d.ran("web"), d.ran("db", HIGH)))
    look(there)
    d.later(there, 8.0)
    set_back(there)
    assert settle(there).after == 10.0
    d.later(there, 10.0)
    settle(there)
    assert status(there)["released"] is True


def test_a_clock_that_was_set_back_makes_restarts_wait_once_more_and_no_longer() -> None:
    there = restarting(dead(d.ran("web"), d.ran("db", HIGH), policy=d.policy(restart={"longestHoldSeconds": 60})))
    before = status(there)["receipt"]
    set_back(there)
    assert settle(there).after == 60.0
    assert {each["since"] for each in status(there)["machines"]} == {counts.stamp(there.now)}
    d.later(there, 60.0)
    settle(there)
    assert states(there) == {"db": "Released", "web": "Released"}
    assert status(there)["receipt"] == before, "what is history stays as it is"
    d.later(there, 600.0)
    settle(there)
    assert [each["tries"] for each in status(there)["machines"]] == [1, 1]
    set_back(there)
    settle(there)
    d.later(there, 600.0)
    settle(there)
    assert [each["tries"] for each in status(there)["machines"]] == [2, 2]


def test_a_clock_that_was_set_back_makes_a_host_that_is_back_wait_once_more_and_no_longer() -> None:
    there = restarting(dead(d.ran("web")))
    up(there, "web")
    d.boot(there)
    d.renew(there)
    settle(there)
    d.later(there, 50.0)
    set_back(there)
    d.renew(there)
    assert settle(there).after == 60.0
    d.later(there, 60.0)
    d.renew(there)
    settle(there)
    assert status(there)["outcome"] == "Recovered"
    done = status(there)
    set_back(there)
    settle(there)
    assert status(there) == done, "what is over stays as it is"


def test_only_what_is_on_the_host_is_deleted() -> None:
    hotplug = d.pod("disk", kind="hotplug-disk")
    there = dead(
        d.ran("web"), hotplug, d.pod("elsewhere", d.OTHER), d.migration("web", "Failed"), d.migration("elsewhere")
    )
    restarting(there)
    assert there.keys(LauncherPod) == [Key("shop", "virt-launcher-elsewhere")]
    assert there.keys(Migration) == [Key("shop", "move-elsewhere"), Key("shop", "move-web")]


def test_a_migration_that_is_on_its_way_out_is_not_waited_for() -> None:
    going = d.migration("web", deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["kubevirt.io/x"])
    restarting(dead(d.ran("web"), going))


def test_a_vm_that_was_to_move_to_the_host_is_released_and_not_restarted() -> None:
    moving = d.instance("web", d.OTHER, activePods={"a": d.OTHER, "b": d.HOST})
    there = fenced(dead(d.vm("web"), d.child("web"), moving, d.migration("web"), d.pod("web")))
    settle(there)
    assert there.keys(LauncherPod) == there.keys(Migration) == []
    assert states(there) == {}


def test_a_taint_that_somebody_set_by_hand_is_left_as_it_is() -> None:
    by_hand = {"key": hosts.OUT_OF_SERVICE, "value": "by-hand", "effect": "NoExecute"}
    there = dead(d.ran("web"))
    there.change(Node, d.NODE, spec={"taints": [by_hand]})
    restarting(there)
    assert "tainted" not in status(there)
    d.boot(there)
    settle(there)
    d.later(there, 60.0)
    d.renew(there)
    up(there, "web")
    settle(there)
    assert status(there)["outcome"] == "Recovered"
    assert [each["value"] for each in there.tree(Node, d.NODE)["spec"]["taints"]] == ["by-hand"]


# Restart and recovery


def test_a_failure_knows_whether_hosts_are_kept_for_it() -> None:
    there = restarting(dead(d.ran("web")))
    assert "failover" not in status(there)
    kept = d.node("host-3", spec={"taints": [{"key": "vdcos.dev/failover-only", "effect": "NoSchedule"}]})
    there = fenced(dead(d.ran("web"), kept))
    look(there)
    assert status(there)["failover"]
    there.now = there.now._replace(wall=there.now.wall + 9.0)
    assert look(there).actions == (), "nothing goes before KubeVirt knows where it may start"


def test_who_was_tried_in_vain_is_given_up_with_what_to_do_and_the_failure_ends() -> None:
    there = restarting(dead(d.ran("web"), d.ran("db"), policy=d.policy(restart={"retries": {"limit": 0}})))
    settle(there)
    up(there, "web")
    full = [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available: 1 Insufficient memory."}]
    there.put(d.instance("db", "", "new-db", phase="Scheduling", activePods={}, conditions=full))
    d.later(there, 10.0)
    settle(there)
    assert states(there) == {"web": "Up", "db": "Down"}
    assert said(there)["Restarted"] == ("False", "GivenUp")
    assert "shop/db (NoCapacity)" in message(there, "Restarted")
    assert "add a host" in message(there, "Restarted")
    assert status(there)["phase"] == "Recovering"
    assert status(there)["vms"]["notRestarted"] == [{"namespace": "shop", "name": "db", "reason": "NoCapacity"}]
    d.boot(there)
    settle(there)
    d.later(there, 60.0)
    d.renew(there)
    settle(there)
    assert (status(there)["phase"], said(there)["Restarted"]) == ("Completed", ("True", "GivenUp"))


def test_who_does_not_restart_is_named() -> None:
    there = restarting(dead(d.ran("web"), d.ran("old", {"restartPriority": "Disabled"})))
    settle(there)
    assert message(there, "Restarted") == (
        "0 of 2 VMs run again; 1 start, 0 wait for their turn; not restarted: shop/old (Disabled)"
    )
    up(there, "web")
    settle(there)
    assert said(there)["Restarted"] == ("True", "Restarted")
    assert message(there, "Restarted") == "not restarted: shop/old (Disabled)"
    assert happened(there)[-1] == "1 of 2 VMs run again"
    assert states(there) == {"web": "Up", "old": "Held"}, "it stays off as long as the failure lasts"


def test_a_host_without_vms_is_only_waited_for() -> None:
    there = restarting(dead())
    settle(there)
    assert status(there)["phase"] == "Recovering"
    assert message(there, "Restarted") == "0 VMs run again"


def test_a_failure_does_not_end_before_its_vms_are_up() -> None:
    there = restarting(dead(d.ran("web"), d.ran("db", HIGH), d.ran("old", {"restartPriority": "Disabled"})))
    there.remove(Node, d.NODE)
    settle(there)
    assert said(there)["Recovered"] == ("True", "NodeGone")
    assert status(there)["phase"] == "Restarting"
    up(there, "db")
    settle(there)
    assert states(there) == {"db": "Up", "web": "Released", "old": "Held"}
    up(there, "web")
    settle(there)
    assert (status(there)["phase"], status(there)["outcome"]) == ("Completed", "Superseded")
    assert states(there) == {"db": "Up", "web": "Up", "old": "Down"}
    assert status(there)["vms"]["notRestarted"] == [{"namespace": "shop", "name": "old", "reason": "Disabled"}]


def test_one_that_never_comes_up_does_not_keep_a_failure_open_for_ever() -> None:
    there = restarting(dead(d.ran("web")))
    there.remove(Node, d.NODE)
    assert settle(there).after == 600.0
    d.later(there, 600.0)
    settle(there)
    assert status(there)["phase"] == "Completed"
    assert states(there) == {"web": "Down"}
    assert status(there)["vms"]["notRestarted"] == [{"namespace": "shop", "name": "web", "reason": "Unknown"}]


NOT_WELL: list[tuple[str, Callable[[World], None]]] = [
    ("not ready", lambda there: d.say(there, "False")),
    ("silent", lambda there: d.later(there, 15.0)),
]


@pytest.mark.parametrize("reason, happens", NOT_WELL, ids=[row[0] for row in NOT_WELL])
def test_a_host_that_falls_ill_again_begins_its_quiet_time_anew(reason: str, happens: Callable[[World], None]) -> None:
    there = restarting(dead())
    d.boot(there)
    settle(there)
    d.later(there, 40.0)
    d.renew(there)
    happens(there)
    settle(there)
    assert "backSince" not in status(there)
    assert said(there)["Recovered"] == ("False", "Booting")
    d.say(there, "True")
    d.renew(there)
    assert settle(there).after == 60.0
    assert node(there).spec.unschedulable


def test_without_a_quiet_time_marks_are_taken_back_at_once() -> None:
    there = restarting(dead(policy=d.policy(recovery={"quietSeconds": 0})))
    d.boot(there)
    settle(there)
    assert status(there)["outcome"] == "Recovered"
    assert not node(there).spec.unschedulable
    assert node(there).spec.taints == ()


def test_a_cordon_of_maintenance_stays() -> None:
    there = dead()
    there.change(Node, d.NODE, spec={"unschedulable": True})
    there.change(Node, d.NODE, metadata={"annotations": {hosts.CORDONED_BY: "host/host-1"}})
    restarting(there)
    d.boot(there)
    settle(there)
    d.later(there, 60.0)
    d.renew(there)
    settle(there)
    assert status(there)["outcome"] == "Recovered"
    assert marks.cordoned_by(node(there)) == "host/host-1"


def test_the_timeline_keeps_its_beginning_and_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_EVENTS", 3)
    there = restarting(dead(d.ran("web")))
    up(there, "web")
    settle(there)
    assert happened(there) == [
        "declared dead: probe: no answer",
        "nothing of the host keeps VMs from restarting",
        "1 of 1 VMs run again",
    ]
    assert status(there)["timeline"][0]["at"] == counts.stamp(World().now._replace(wall=World().now.wall + 20))


# Who looks again


def wakes(there: World, kind: type[Any], held: Any) -> set[str]:
    watch = next(watch for watch in SERVICE.watches if watch.kind is kind)
    return {key.name for key in watch.keys(held, there.view(SERVICE))}


def test_whatever_belongs_to_it_wakes_it() -> None:
    there = fenced(dead(d.ran("web"), d.migration("web"), TEMPLATE, *others(NOT_YET), policy=covering(4)))
    settle(there)
    web, name = Key("shop", "web"), {d.FAILURE}
    woken: Mapping[type[Any], Key] = {
        Node: d.NODE,
        Lease: d.LEASE,
        api.Host: d.NODE,
        VirtualMachineInstance: web,
        kubevirt.VirtualMachine: web,
        api.VirtualMachine: web,
    }
    for kind, key in woken.items():
        assert wakes(there, kind, there.held(kind, key)) == name, kind.__name__
    assert wakes(there, api.HAPolicy, there.held(api.HAPolicy, Key("", d.POLICY))) == {d.FAILURE, "other-2"}
    assert wakes(there, api.HostFailure, there.held(api.HostFailure, Key("", "other-2"))) == {d.FAILURE, "other-2"}
    fresh = World(d.pod("web"), d.migration("web"), d.lease(d.OTHER))
    assert wakes(there, LauncherPod, fresh.held(LauncherPod, Key("shop", "virt-launcher-web"))) == name
    assert wakes(there, Migration, fresh.held(Migration, Key("shop", "move-web"))) == name
    assert wakes(there, Lease, fresh.held(Lease, Key(NODE_LEASES, d.OTHER))) == {"other-2"}


def test_the_template_of_its_remediation_wakes_it_and_another_does_not() -> None:
    """Who waits for a template that does not exist has nothing else to look again for."""
    there = dead(TEMPLATE, policy=MEDIK8S)
    for name, woken in (("ipmi", {d.FAILURE}), ("other", set())):
        template = FenceAgentsRemediationTemplate(metadata=Meta(name=name, namespace="fencing"))
        assert wakes(there, FenceAgentsRemediationTemplate, template) == woken


def test_a_renewal_of_the_lease_and_a_sign_on_the_node_are_news_and_other_words_are_not() -> None:
    there = d.world(d.failure())
    sees = {watch.kind: watch.sees for watch in SERVICE.watches}
    renewed, changed = sees[Lease], sees[Node]
    assert renewed is not None
    assert changed is not None
    before = there.held(Lease, d.LEASE), there.held(Node, d.NODE)
    d.renew(there)
    there.change(Node, d.NODE, status={"allocatable": {"cpu": "1"}})
    assert renewed(before[0]) != renewed(there.held(Lease, d.LEASE))
    assert changed(before[1]) == changed(there.held(Node, d.NODE))
    d.say(there, "Unknown")
    assert changed(before[1]) != changed(there.held(Node, d.NODE))


def test_a_remediation_of_its_host_wakes_it() -> None:
    there = dead()
    made = FenceAgentsRemediation(metadata=Meta(name=d.HOST, namespace="fencing"))
    assert wakes(there, FenceAgentsRemediation, made) == {d.FAILURE}
    template = FenceAgentsRemediationTemplate(metadata=Meta(name="ipmi", namespace="fencing"))
    assert wakes(there, FenceAgentsRemediationTemplate, template) == set()


def test_of_an_instance_only_its_power_is_news() -> None:
    sees = next(watch.sees for watch in SERVICE.watches if watch.kind is VirtualMachineInstance)
    assert sees is not None

    def seen(**status: Any) -> Any:
        there = World(d.instance("web", **status))
        return sees(there.held(VirtualMachineInstance, Key("shop", "web")))

    agent = [{"type": "Ready", "status": "True"}, {"type": "AgentConnected", "status": "True"}]
    paused = [{"type": "Ready", "status": "True"}, {"type": "Paused", "status": "True"}]
    assert seen() == seen(interfaces=[]) == seen(conditions=paused)
    assert seen() != seen(phase="Failed")
    assert seen() != seen(conditions=agent)
    assert seen() != seen(nodeName=d.OTHER)
    assert seen() != seen(activePods={})


def test_of_our_kinds_what_people_declare_is_news() -> None:
    sees = next(watch.sees for watch in SERVICE.watches if watch.kind is api.HAPolicy)
    assert sees is not None
    known = Own(metadata=Meta(name="p", uid="u", generation=1, resource_version="1"), raw=b"1")
    assert sees(known) == sees(Own(metadata=Meta(name="p", uid="u", generation=1, resource_version="2"), raw=b"2"))
    assert sees(known) != sees(Own(metadata=Meta(name="p", uid="u", generation=2, resource_version="2"), raw=b"2"))
    phase = next(watch.sees for watch in SERVICE.watches if watch.kind is api.HostFailure)
    child = next(watch.sees for watch in SERVICE.watches if watch.kind is kubevirt.VirtualMachine)
    assert phase is not None
    assert child is not None
    assert phase(Own(metadata=Meta(name="f"), raw=b'{"status":{"phase":"Held"}}')) == "Held"
    on, off = (World(d.child("web", strategy)) for strategy in ("Always", "Halted"))
    uid = {"uid": "u"}
    for there in (on, off):
        there.change(kubevirt.VirtualMachine, Key("shop", "web"), metadata=uid)
    states = [child(there.held(kubevirt.VirtualMachine, Key("shop", "web"))) for there in (on, off)]
    assert states[0] != states[1]


def test_its_kind_is_known() -> None:
    assert SERVICE.resource == kinds.HOST_FAILURE
    assert SERVICE.needed == ("Fenced", "Restarted", "Recovered")


# Quarantine

QUARANTINE = {"quarantineAfter": 2, "windowSeconds": 600}


def failed_before(ago: float, outcome: str = "Recovered", **spec: Any) -> Tree:
    at = counts.stamp(World().now._replace(wall=World().now.wall + 20.0 - ago))
    return d.failure("before", {"phase": "Completed", "outcome": outcome}, at, **{"incarnation": "boot-0", **spec})


def again_and_again(before: Tree, **more: Any) -> World:
    """The host is back from a failure that was declared when the clock was at 0 s, after one before."""
    there = dead(before, policy=d.policy(recovery={**QUARANTINE, "quietSeconds": 60, **more}))
    there.change(api.HostFailure, KEY, metadata={"creationTimestamp": counts.stamp(there.now)})
    restarting(there)
    d.boot(there)
    settle(there)
    d.later(there, 60.0)
    d.renew(there)
    settle(there)
    return there


def test_a_host_that_fails_again_and_again_stays_cordoned_for_the_window() -> None:
    there = again_and_again(failed_before(100.0))
    assert said(there)["Ready"] == ("False", "Quarantined")
    assert (status(there)["phase"], node(there).spec.unschedulable) == ("Recovering", True)
    assert not marks.has(node(there), marks.DOWN)
    d.later(there, 439.0)
    d.renew(there)
    assert settle(there).after == 1.0
    assert said(there)["Ready"] == ("False", "Quarantined")
    d.later(there, 1.0)
    d.renew(there)
    settle(there)
    assert (status(there)["outcome"], node(there).spec.unschedulable) == ("Recovered", False)


def test_whoever_uncordons_it_trusts_it() -> None:
    there = again_and_again(failed_before(100.0))
    there.change(Node, d.NODE, spec={"unschedulable": None})
    settle(there)
    assert status(there)["outcome"] == "Recovered"


TRUSTED: list[tuple[str, Tree, Tree]] = [
    ("it was longer ago", failed_before(600.0), {}),
    ("it was a false alarm", failed_before(100.0, "FalseAlarm"), {}),
    ("it was another host", failed_before(100.0, host=d.OTHER), {}),
    ("not often enough", failed_before(100.0), {"quarantineAfter": 3}),
]


@pytest.mark.parametrize("reason, before, more", TRUSTED, ids=[row[0] for row in TRUSTED])
def test_who_is_trusted_again(reason: str, before: Tree, more: Tree) -> None:
    there = again_and_again(before, **more)
    assert (status(there)["outcome"], node(there).spec.unschedulable) == ("Recovered", False)


def test_one_that_somebody_else_cordoned_is_not_kept_in_quarantine() -> None:
    there = dead(failed_before(100.0), policy=d.policy(recovery={**QUARANTINE, "quietSeconds": 0}))
    there.change(Node, d.NODE, spec={"unschedulable": True})
    there.change(api.HostFailure, KEY, metadata={"creationTimestamp": counts.stamp(there.now)})
    restarting(there)
    d.boot(there)
    settle(there)
    assert status(there)["outcome"] == "Recovered"
    assert node(there).spec.unschedulable, "that is theirs"


def made(there: World, manifest: Tree) -> None:
    """By the clock of the API server, which is ours."""
    there.put({**manifest, "metadata": {**manifest["metadata"], "creationTimestamp": counts.stamp(there.now)}})


def noted(*more: Tree | Sequence[Tree]) -> World:
    """A failure that was noted a moment ago, of a host with all that was there before."""
    there = dead(*more)
    there.change(api.HostFailure, KEY, metadata={"creationTimestamp": counts.stamp(there.now)})
    for kind in (LauncherPod, Migration):
        for key in there.keys(kind):
            there.change(kind, key, metadata={"creationTimestamp": "2023-11-14T22:00:00Z"})
    return fenced(there)


DECOY = Key("shop", "virt-launcher-decoy")


def test_a_pod_that_is_made_anew_holds_up_nobody() -> None:
    """Whoever may make pods can name their node: they go, and nothing waits for them."""
    there = noted(d.ran("web"))
    d.later(there, 1.0)
    made(there, d.pod("decoy"))
    made(there, d.migration("web"))
    plan = settle(there)
    assert status(there)["released"] is True
    assert there.keys(LauncherPod) == [DECOY], "it has a few seconds to live"
    assert plan.after == 10.0
    d.later(there, 10.0)
    settle(there)
    assert there.keys(LauncherPod) == there.keys(Migration) == []
    made(there, d.pod("decoy"))
    d.later(there, 9.0)
    assert settle(there).after == 1.0
    assert there.has(LauncherPod, DECOY)


def test_what_runs_in_the_next_life_of_a_host_has_not_died_with_it() -> None:
    there = dead(d.ran("web"), d.vm("new"), d.child("new"))
    there.change(api.HostFailure, KEY, metadata={"creationTimestamp": counts.stamp(there.now)})
    there.change(VirtualMachineInstance, Key("shop", "web"), metadata={"creationTimestamp": "2023-11-14T22:00:00Z"})
    d.boot(there)
    d.later(there, 1.0)
    made(there, d.instance("new"))
    made(there, d.pod("new"))
    settle(there)
    assert states(there) == {"web": "Released"}
    assert there.has(LauncherPod, Key("shop", "virt-launcher-new"))


def test_what_is_made_on_a_host_that_has_booted_stays() -> None:
    there = noted(d.ran("web"))
    settle(there)
    d.boot(there)
    d.later(there, 1.0)
    made(there, d.pod("decoy"))
    d.later(there, 60.0)
    settle(there)
    assert there.has(LauncherPod, DECOY)


def test_what_is_made_on_another_machine_of_the_name_stays() -> None:
    there = noted(d.ran("web"))
    settle(there)
    there.change(Node, d.NODE, status={"nodeInfo": {"bootID": d.NEXT_BOOT, "systemUUID": "another"}})
    made(there, d.pod("decoy"))
    d.later(there, 60.0)
    settle(there)
    assert there.has(LauncherPod, DECOY)


@pytest.mark.parametrize("seconds, released", [(19.0, False), (20.0, True)])
def test_what_does_not_go_holds_nobody_up_for_ever(seconds: float, released: bool) -> None:
    """A server that takes its time for a deletion, or for the taint, is not waited for any longer."""
    there = noted(d.ran("web"))
    look(there)
    d.later(there, seconds)
    step = there.plan(SERVICE, KEY)
    assert (step.status or {}).get("released", False) is released
    if not released:
        assert (whats(step.actions), step.after) == (["Delete Pod", "Patch Node"], 1.0)
        return
    assert step.actions == ()
    look(there)
    assert happened(there)[-1] == "what is left of the host is still being removed"
    assert "tainted" not in status(there)
    settle(there)
    assert there.keys(LauncherPod) == [], "it goes all the same"
    assert marks.has(node(there), marks.DOWN)
    assert status(there)["tainted"] is True


def test_a_taint_that_somebody_takes_away_by_hand_is_not_put_back() -> None:
    there = restarting(dead(d.ran("web")))
    there.change(Node, d.NODE, spec={"taints": None})
    settle(there)
    assert not marks.has(node(there), marks.DOWN)


def test_a_pod_that_somebody_holds_by_a_finalizer_holds_up_nobody_else() -> None:
    """Whoever may change pods of his namespace can put a finalizer on one: the others restart all the same."""
    there = fenced(dead(d.ran("db", HIGH), d.ran("web")))
    look(there)
    there.change(kubevirt.VirtualMachine, Key("shop", "web"), spec={"runStrategy": "Halted"})
    held = Key("shop", "virt-launcher-db")
    named = {"labels": {"vm.kubevirt.io/name": "db"}}
    there.change(LauncherPod, held, metadata={"finalizers": ["example.com/hold"], **named})
    plan = there.plan(SERVICE, KEY)
    assert held in [action.key for action in plan.actions if isinstance(action, Delete)], "it is made to end first"
    there.change(LauncherPod, held, metadata={"deletionTimestamp": "2026-01-01T12:01:00Z"})
    there.change(LauncherPod, held, metadata={"deletionGracePeriodSeconds": 30})
    plan = there.plan(SERVICE, KEY)
    assert held in [action.key for action in plan.actions if isinstance(action, Delete)], "its kubelet is dead"
    there.change(LauncherPod, held, metadata={"deletionGracePeriodSeconds": 0})
    settle(there)
    assert status(there)["released"] is True
    assert {each["name"]: each["reason"] for each in status(there)["machines"]} == {"db": "PodHeld", "web": ""}
