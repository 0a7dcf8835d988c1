"""A policy watches over its hosts, and declares each death once."""

from typing import Any

import pytest

from tests.unit.services import datacenter as d
from vdcos import api
from vdcos.core import counts, failures, hosts
from vdcos.core.foreign.kubernetes import Heartbeat, Lease, Node
from vdcos.core.objects import Key, Meta, Own
from vdcos.core.plan import Create, Delete, Plan
from vdcos.services.hapolicy import HAPolicyService
from vdcos.services.hapolicy.judge import asked_after
from vdcos.services.hapolicy.service import KEPT
from vdcos.testing.world import World

Tree = dict[str, Any]

SERVICE = HAPolicyService()
KEY = Key("", d.POLICY)
NAMES = ("host-2", "host-3", "host-4")


def quiet(*more: Tree, policy: Tree | None = None, **detection: Any) -> World:
    """Four hosts that are well."""
    others = [each for name in NAMES for each in (d.node(name), d.lease(name))]
    return d.world(*others, d.host(bmc=d.REDFISH), policy or d.policy(detection=detection), *more)


def silent(there: World, seconds: float = 20.0) -> World:
    """The first host falls silent; the others go on."""
    d.later(there, seconds)
    for name in NAMES:
        d.renew(there, name)
    return there


def proved(there: World) -> World:
    """Its kubelet was asked in vain."""
    there.answers[KEY] = {"probe/host-1": d.ok(there, 1.0, answered=False)}
    return there


def dead(*more: Tree, policy: Tree | None = None, **detection: Any) -> World:
    return proved(silent(quiet(*more, policy=policy, **detection)))


def status(there: World) -> Tree:
    found: Tree = there.tree(api.HAPolicy, KEY)["status"]
    return found


def settle(there: World) -> Plan:
    """Look, and see that looking again changes nothing."""
    plan = there.settle(SERVICE, KEY)
    again = there.plan(SERVICE, KEY)
    stored = {name: value for name, value in status(there).items() if name not in ("conditions", "observedGeneration")}
    assert (again.actions, again.status, again.conditions) == ((), stored, plan.conditions)
    return plan


def declared(there: World) -> list[api.HostFailure]:
    found = [api.parse(api.HostFailure, there.tree(api.HostFailure, key)) for key in there.keys(api.HostFailure)]
    return [each for each in found if each.metadata.name != d.FAILURE]


def reasons(there: World) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in status(there)["conditions"]}


def message(there: World, kind: str) -> str:
    return next(str(each["message"]) for each in status(there)["conditions"] if each["type"] == kind)


# Hosts that are well


def test_all_is_well() -> None:
    there = quiet()
    plan = settle(there)
    assert (plan.asks, plan.after, there.log) == ((), None, [])
    early = asked_after(api.HAPolicy.model_validate(d.policy()).spec.detection)
    assert {(silence.key.name, silence.seconds) for silence in plan.silences} == {
        (name, early) for name in (d.HOST, *NAMES)
    }
    assert status(there)["hosts"] == {"count": 4, "names": [d.HOST, *NAMES]}
    assert (status(there)["connected"], status(there)["failed"], status(there)["suspects"]) == (4, 0, [])
    assert reasons(there)["Ready"] == ("True", "Ready")
    assert message(there, "HostsVisible") == "4 hosts watched."
    assert reasons(there)["Active"] == ("True", "Watching")


def test_a_host_that_is_late_is_asked_about_and_told_of_by_nobody() -> None:
    there = silent(quiet(), 11.0)
    plan = settle(there)
    assert [ask.id for ask in plan.asks] == ["probe/host-1", "power/host-1"]
    assert plan.after == 4.0
    assert {silence.key.name for silence in plan.silences} == set(NAMES)
    assert status(there)["suspects"] == []


def test_a_suspect_is_named_and_not_declared_dead() -> None:
    there = silent(quiet())
    settle(there)
    [suspect] = status(there)["suspects"]
    evidence = {each["witness"]: each["says"] for each in suspect.pop("evidence")}
    why = "it does not renew its Lease; no witness says more; 1 must agree"
    assert suspect == {"host": d.HOST, "verdict": "Suspect", "why": why}
    assert evidence["lease"] == "it is not renewed"
    assert evidence["heartbeat"] == "Unknown: virt-handler is not due yet"
    assert status(there)["connected"] == 3
    assert declared(there) == []
    raw = there.held(api.HAPolicy, KEY)
    assert isinstance(raw, Own)
    assert set(failures.SUSPECTING.keys(raw)) == {d.HOST}, "its next sign of life is news"


def test_evidence_says_since_when_and_changes_only_with_what_is_said() -> None:
    there = silent(quiet())
    settle(there)

    def evidence() -> dict[str, tuple[str, str]]:
        return {each["witness"]: (each["says"], each["since"]) for each in status(there)["suspects"][0]["evidence"]}

    before = evidence()
    d.later(there, 7.0)
    there.silence.clear()
    settle(there)
    assert evidence() == before
    there.answers[KEY] = {"power/host-1": d.bad(there, "no route", 1.0)}
    settle(there)
    changed = {witness for witness, said in evidence().items() if said != before[witness]}
    assert changed == {"bmc"}
    assert evidence()["bmc"][1] > before["bmc"][1]


def test_who_hears_nothing_says_so_and_looks_again() -> None:
    there = quiet()
    there.silence[Lease] = 10.0
    plan = settle(there)
    assert (plan.after, reasons(there)["HostsVisible"]) == (1.0, ("Unknown", "Blind"))
    assert status(there)["suspects"] == []
    assert declared(there) == []


def test_what_is_said_of_a_suspect_is_bounded() -> None:
    there = silent(quiet())
    there.answers[KEY] = {"power/host-1": d.bad(there, "x" * 300, 1.0)}
    d.say(there, "Unknown")
    long = [{"provider": f"witness-{n}", "intervalSeconds": 9} for n in range(8)]
    there.change(api.HAPolicy, KEY, spec={"detection": {"witnesses": long, "agree": 12}})
    there.answers[KEY] = {f"witness/witness-{n}/host-1": d.ok(there, 1.0, says="Dead") for n in range(8)}
    settle(there)
    assert len(status(there)["suspects"][0]["why"]) == 256


# Hosts that die


def test_a_dead_host_is_declared_once() -> None:
    there = dead()
    settle(there)
    [failure] = declared(there)
    assert failure.metadata.name == hosts.failure_name(d.HOST, d.BOOT, 0)
    assert failure.metadata.labels == {"app.kubernetes.io/managed-by": "vdcos", hosts.HOST: d.HOST}
    spec = failure.spec
    assert (spec.host, spec.incarnation, spec.policy, spec.machine) == (d.HOST, d.BOOT, d.POLICY, d.MACHINE)
    assert (spec.renewed, spec.provider_id) == (d.RENEWED, "")
    assert [(each.witness, each.says) for each in spec.evidence] == [
        ("lease", "it is not renewed"),
        ("probe", "the port of its kubelet does not answer"),
    ]
    assert {each.since for each in spec.evidence} == {counts.stamp(there.now)}
    assert status(there)["suspects"][0]["verdict"] == "Dead"
    d.later(there, 10.0)
    proved(silent(there, 0.0))
    settle(there)
    assert len(declared(there)) == 1
    assert status(there)["failed"] == 1
    assert len(there.log) == 1


def test_what_a_cloud_calls_the_machine_is_kept() -> None:
    there = dead()
    there.change(Node, d.NODE, spec={"providerID": "cloud:///1"})
    settle(there)
    assert declared(there)[0].spec.provider_id == "cloud:///1"


def test_the_words_of_a_witness_fit_into_a_line() -> None:
    there = silent(quiet(witnesses=[{"provider": "ping"}]))
    there.answers[KEY] = {"witness/ping/host-1": d.ok(there, 1.0, says="Dead")}
    settle(there)
    assert [each.says for each in declared(there)[0].spec.evidence] == ["it is not renewed", "says Dead"]


def test_a_node_that_does_not_say_which_life_it_lives_is_not_declared_dead() -> None:
    there = dead()
    there.change(Node, d.NODE, status={"nodeInfo": {"bootID": None}})
    settle(there)
    assert declared(there) == []


def test_a_node_without_a_machine_id_is() -> None:
    there = dead()
    there.change(Node, d.NODE, status={"nodeInfo": {"systemUUID": None}})
    settle(there)
    assert declared(there)[0].spec.machine == ""


def over(outcome: str, renewed: str = d.RENEWED, **more: Any) -> Tree:
    """A failure that is over, and when its host was heard last before it was proved to be down."""
    proof = {"provider": "cloud", "how": "NodeDeleted", "proof": "x", "incarnation": "x", "at": "2026-01-01T00:00:00Z"}
    return {"phase": "Completed", "outcome": outcome, "receipt": {**proof, "renewed": renewed}, **more}


EARLIER = "2026-01-01T11:00:00.000000Z"
CONFIRMED: Tree = {"stillAlive": {"word": "", "renewed": d.RENEWED}}
BEFORE: list[tuple[str, Tree, str, bool]] = [
    ("its failure goes on", {"phase": "Fencing"}, d.BOOT, False),
    (
        "its failure goes on, and it was heard",
        {**over("", EARLIER), "phase": "Restarting", "outcome": None},
        d.BOOT,
        False,
    ),
    ("its failure has just been declared", {}, d.BOOT, False),
    ("a failure of this life is over", over("Recovered"), d.BOOT, False),
    ("and its node was deleted, and made anew by hand", over("Superseded"), d.BOOT, False),
    ("and its node was made anew by itself: it was heard since", over("Superseded", EARLIER), d.BOOT, True),
    ("and it was heard, and confirmed, and not heard since", over("Superseded", EARLIER, **CONFIRMED), d.BOOT, False),
    ("its Lease went with its node, and is there again", over("Superseded", ""), d.BOOT, True),
    ("it was a false alarm", {"phase": "Completed", "outcome": "FalseAlarm"}, d.BOOT, True),
    ("a failure of another life is over", over("Recovered"), "boot-0", True),
    ("a failure of another life goes on", {"phase": "Recovering"}, "boot-0", True),
]


@pytest.mark.parametrize("reason, known, life, again", BEFORE, ids=[row[0] for row in BEFORE])
def test_one_failure_of_one_life(reason: str, known: Tree, life: str, again: bool) -> None:
    there = dead(d.failure(status=known, incarnation=life))
    settle(there)
    assert bool(declared(there)) is again


def test_a_second_failure_of_one_life_has_another_name() -> None:
    first = hosts.failure_name(d.HOST, d.BOOT, 0)
    there = dead(d.failure(first, {"phase": "Completed", "outcome": "FalseAlarm"}))
    settle(there)
    assert [each.metadata.name for each in declared(there) if each.metadata.name != first] == [
        hosts.failure_name(d.HOST, d.BOOT, 1)
    ]


def test_a_failure_that_is_there_already_is_not_made_twice() -> None:
    there = dead()
    plan = there.plan(SERVICE, KEY)
    [made] = plan.actions
    assert isinstance(made, Create)
    assert made.why.startswith("host-1 is dead: it does not renew its Lease; probe: ")
    assert there.plan(SERVICE, KEY).actions == plan.actions, "the same by whomever it is planned"


def test_many_die_at_once() -> None:
    there = quiet(agree=1)
    d.later(there, 20.0)
    there.answers[KEY] = {f"probe/{name}": d.ok(there, 1.0, answered=False) for name in (d.HOST, *NAMES)}
    settle(there)
    assert {each.spec.host for each in declared(there)} == {d.HOST, *NAMES}


def test_a_paused_policy_declares_and_the_failure_waits() -> None:
    there = dead(policy=d.policy(paused={"reason": "new switches"}))
    settle(there)
    assert reasons(there)["Active"] == ("False", "Paused")
    assert reasons(there)["Ready"] == ("True", "Ready")
    assert "new switches" in message(there, "Active")
    assert len(declared(there)) == 1


def test_who_is_deaf_declares_nobody_dead() -> None:
    there = dead()
    there.silence[Lease] = 10.0
    plan = settle(there)
    assert (declared(there), plan.asks, plan.after) == ([], (), 1.0)
    assert status(there)["suspects"] == []


@pytest.mark.parametrize("kind", [Node, Lease, api.HostFailure])
def test_who_sees_nothing_declares_nobody_dead_and_forgets_nothing(kind: type[Any]) -> None:
    there = silent(quiet())
    settle(there)
    before = status(there)
    proved(there).unavailable(kind, "it is forbidden")
    plan = there.settle(SERVICE, KEY)
    assert (plan.actions, plan.asks, declared(there)) == ((), (), [])
    assert reasons(there)["Ready"] == ("Unknown", "CannotSee")
    assert {**status(there), "conditions": []} == {**before, "conditions": []}


# Its hosts


def test_a_policy_that_covers_no_host_is_ready_and_says_so() -> None:
    there = quiet(policy=d.policy(hosts={"matchLabels": {"stage": "production"}}))
    settle(there)
    assert reasons(there)["HostsVisible"] == ("True", "NoMatches")
    assert reasons(there)["Ready"] == ("True", "Ready")
    assert status(there)["hosts"]["count"] == 0


def test_hosts_are_selected_by_labels_that_people_choose() -> None:
    there = quiet(policy=d.policy(hosts={"matchLabels": {"stage": "production"}}))
    there.change(Node, Key("", "host-2"), metadata={"labels": {"stage": "production"}})
    there.put(d.node("node-5", labels={"stage": "production"}))
    there.change(Node, Key("", "node-5"), metadata={"labels": {hosts.SCHEDULABLE: None}})
    settle(there)
    assert status(there)["hosts"] == {"count": 1, "names": ["host-2"]}


def test_of_two_policies_the_older_counts() -> None:
    older = d.policy("older", {"creationTimestamp": "2025-01-01T00:00:00Z"}, hosts={"matchLabels": {"rack": "1"}})
    there = dead(older)
    there.change(Node, d.NODE, metadata={"labels": {"rack": "1"}})
    settle(there)
    assert status(there)["hosts"] == {"count": 3, "names": list(NAMES)}
    assert declared(there) == []
    assert reasons(there)["Ready"] == ("False", "Overlap")
    assert "host-1 (older)" in message(there, "HostsExclusive")


def test_whether_hosts_can_be_proved_down_without_a_person() -> None:
    there = quiet()
    settle(there)
    assert reasons(there)["HostsFenceable"] == ("False", "NoFenceDevice")
    assert "host-2, host-3, host-4." in message(there, "HostsFenceable")
    assert reasons(there)["Ready"] == ("True", "Ready")
    for name in NAMES:
        there.put(d.host(name, bmc=d.REDFISH))
    settle(there)
    assert reasons(there)["HostsFenceable"] == ("True", "Declared")
    there = quiet(policy=d.policy(fencing={"providers": [{"provider": "cloud"}]}))
    settle(there)
    assert reasons(there)["HostsFenceable"] == ("True", "Declared")


# History


def past(number: int, **status_: Any) -> Tree:
    known = {"phase": "Completed", "outcome": "Recovered", **status_}
    return d.failure(f"past-{99 - number}", known, f"2026-01-{number + 1:02}T00:00:00Z", incarnation=f"boot--{number}")


def test_the_last_failures_are_kept() -> None:
    there = quiet(*(past(number) for number in range(KEPT + 2)), d.failure(status={"phase": "Fencing"}))
    plan = there.plan(SERVICE, KEY)
    assert [(type(each), each.key.name) for each in plan.actions if isinstance(each, Delete)] == [
        (Delete, "past-99"),
        (Delete, "past-98"),
    ]
    uid = there.tree(api.HostFailure, Key("", "past-99"))["metadata"]["uid"]
    assert isinstance(plan.actions[0], Delete)
    assert plan.actions[0].uid == uid
    settle(there)
    assert len(there.keys(api.HostFailure)) == KEPT + 1


def test_what_goes_on_is_no_history() -> None:
    there = quiet(past(0, phase="Recovering", outcome=None), *(past(number) for number in range(1, KEPT + 1)))
    settle(there)
    assert len(there.keys(api.HostFailure)) == KEPT + 1
    assert status(there)["failed"] == 1


def test_a_policy_on_its_way_out_does_nothing() -> None:
    there = dead()
    there.change(
        api.HAPolicy, KEY, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.org/x"]}
    )
    plan = there.plan(SERVICE, KEY)
    assert (plan.actions, plan.asks, plan.status) == ((), (), {})


def test_counts_are_written_at_most_every_five_seconds() -> None:
    there = quiet()
    settle(there)
    d.later(there, 1.0)
    there.put(d.node("host-5"))
    plan = settle(there)
    assert (plan.after, status(there)["hosts"]["count"]) == (4.0, 4)
    d.later(there, 4.0)
    settle(there)
    assert status(there)["hosts"]["count"] == 5


# Who looks again


def wakes(there: World, kind: type[Any], held: Any) -> set[str]:
    watch = next(watch for watch in SERVICE.watches if watch.kind is kind)
    return {key.name for key in watch.keys(held, there.view(SERVICE))}


def test_a_lease_wakes_only_those_who_suspect_its_host() -> None:
    there = silent(quiet(d.policy("test")))
    settle(there)
    for name, want in ((d.HOST, {d.POLICY}), ("host-2", set())):
        held = there.held(Lease, Key(d.LEASE.namespace, name))
        assert wakes(there, Lease, held) == want
        assert wakes(there, Heartbeat, there.held(Heartbeat, Key("", name))) == want
    assert wakes(there, Node, there.held(Node, d.NODE)) == {d.POLICY, "test"}
    assert wakes(there, api.Host, there.held(api.Host, d.NODE)) == {d.POLICY, "test"}
    raw = b'{"spec":{"policy":"test"}}'
    assert wakes(there, api.HostFailure, Own(metadata=Meta(name="f"), raw=raw)) == {"test"}


def test_of_a_node_its_life_is_news_and_its_load_is_not() -> None:
    there = quiet()
    sees = {watch.kind: watch.sees for watch in SERVICE.watches if not watch.patience}
    node, beat, lease, host = sees[Node], sees[Heartbeat], sees[Lease], sees[api.Host]
    assert node is not None
    assert beat is not None
    assert lease is not None
    assert host is not None
    before = [there.held(Node, d.NODE), there.held(Heartbeat, d.NODE), there.held(Lease, d.LEASE)]
    there.change(Node, d.NODE, status={"allocatable": {"cpu": "1"}})
    d.beat(there)
    assert node(before[0]) == node(there.held(Node, d.NODE))
    assert beat(before[1]) != beat(there.held(Heartbeat, d.NODE))
    d.boot(there)
    assert node(before[0]) != node(there.held(Node, d.NODE))
    assert lease(before[2]) != lease(there.held(Lease, d.LEASE))
    known = Own(metadata=Meta(name="h", uid="u", generation=1), raw=b"1")
    assert host(known) == host(Own(metadata=Meta(name="h", uid="u", generation=1), raw=b"2"))
    assert host(known) != host(Own(metadata=Meta(name="h", uid="u", generation=2), raw=b"1"))
