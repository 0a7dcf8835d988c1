"""Placement by example: what it says, of whom, and in which words."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from vdcos.providers import placement as p
from vdcos.providers.placement import engine
from vdcos.providers.placement.labels import matches
from vdcos.providers.placement.scoring import Column

GIB = 1 << 30
GPU = "nvidia.com/A100"
HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


def host(name: str, cpu: int = 8, memory: int = 32, *, zone: str = "z1", **fields: Any) -> p.Host:
    has = {"cpu": cpu * 1000, "memory": memory * GIB, "pods": 110, **fields.pop("devices", {})}
    return p.Host(name, has, labels={HOSTNAME: name, ZONE: zone}, **fields)


def machine(name: str, cpu: int = 2, memory: int = 4, on: str = "", **fields: Any) -> p.Machine:
    requests = {"cpu": cpu * 1000, "memory": memory * GIB, **fields.pop("devices", {})}
    return p.Machine("a", name, requests, on, **fields)


def why(hosts: Sequence[p.Host], wanted: p.Machine, *others: p.Machine, restart: bool = False) -> p.Unplaced:
    found = p.place(hosts, [wanted, *others], [wanted.key], restart=restart)
    assert not found.placed
    return found.unplaced[wanted.key]


APART = p.Rule("Apart", p.with_labels({"app": "web"}))
WEB = {"app": "web"}


@pytest.mark.parametrize(
    "hosts, wanted, others, message",
    [
        ([], machine("vm"), [], "there is no host"),
        (
            [host("h1"), host("h2")],
            machine("vm", bound_to=frozenset({"h3"})),
            [],
            "0 of 2 hosts can reach its disks",
        ),
        (
            [host("h1")],
            machine("vm", selector=p.with_labels({ZONE: "z2"})),
            [],
            "0 of 1 host have the node labels that it asks for",
        ),
        (
            [host("h1", schedulable=False), host("h2", failover_only=True), host("h3", taints=(p.Taint("dedicated"),))],
            machine("vm"),
            [],
            "0 of 3 hosts are open to it: cordoned, tainted, or kept for failover",
        ),
        (
            [host("h1"), host("h2", devices={GPU: 1})],
            machine("vm", devices={GPU: 2}),
            [],
            f"0 of 2 hosts have its devices free: 2 lack {GPU} (2 needed, at most 1 free)",
        ),
        (
            [host("h1", zone="z1"), host("h2", zone="z2")],
            machine("vm", rules=(p.Rule("Together", p.with_labels(WEB), ZONE),)),
            [],
            "0 of 2 hosts are where the VMs run that it must be together with",
        ),
        (
            [host("h1"), host("h2")],
            machine("vm", rules=(APART._replace(topology_key=ZONE),)),
            [machine("other", on="h1", labels=WEB)],
            "0 of 2 hosts are free of VMs that it must be apart from",
        ),
        (
            [host("h1", cpu=1, memory=64), host("h2", cpu=16, memory=8)],
            machine("vm", cpu=2, memory=16),
            [],
            "0 of 2 hosts have enough free: 1 lack cpu (2 needed, at most 16 free), "
            "1 lack memory (16Gi needed, at most 64Gi free)",
        ),
        (
            [host("h1", used={"memory": 31 * GIB + 1})],
            machine("vm", memory=1),
            [],
            "0 of 1 host have enough free: 1 lack memory (1Gi needed, at most 1023Mi free)",
        ),
        (
            [replace(host("h1"), used={"pods": 110})],
            machine("vm"),
            [],
            "0 of 1 host have enough free: 1 lack pods (1 needed, at most 0 free)",
        ),
    ],
)
def test_the_reason_is_named_with_numbers(
    hosts: list[p.Host], wanted: p.Machine, others: list[p.Machine], message: str
) -> None:
    assert why(hosts, wanted, *others).message() == message


def test_a_machine_that_is_not_to_be_restarted_may_still_be_placed() -> None:
    never = machine("vm", priority=p.Priority.DISABLED)
    assert why([host("h1")], never, restart=True).message() == "its restart priority is Disabled"
    assert p.place([host("h1")], [never], ["a/vm"]).placed == {"a/vm": "h1"}


def test_failover_hosts_are_for_restarts() -> None:
    hosts = [host("h1"), host("spare", failover_only=True)]
    plans = p.failure_plans(hosts, [machine("vm", on="h1")])
    assert plans.by_host["h1"].placed == {"a/vm": "spare"}
    assert plans.by_host["spare"] == p.Placement({}, {})


def test_restarts_go_by_tier_then_depth_then_size() -> None:
    machines = [
        machine("small", memory=1),
        machine("app", memory=32, depth=1),
        machine("large", memory=16),
        machine("first", memory=1, priority=p.Priority.HIGHEST, depth=3),
        machine("last", memory=64, priority=p.Priority.LOWEST),
        machine("wide", cpu=4, memory=1),
    ]
    order = [each.name for each in sorted(machines, key=p.restart_rank)]
    assert order == ["first", "large", "wide", "small", "app", "last"]


def test_the_important_one_gets_the_last_place() -> None:
    hosts = [host("h1"), host("h2", cpu=2)]
    low, high = machine("low", on="h1", priority=p.Priority.LOW), machine("zzz", on="h1", priority=p.Priority.HIGH)
    plan = p.failure_plans(hosts, [low, high]).by_host["h1"]
    assert plan.placed == {"a/zzz": "h2"}
    assert plan.unplaced["a/low"].reason == p.Reason.NO_CAPACITY


def test_what_dies_with_the_host_is_in_nobodys_way() -> None:
    """The second of two that must be apart ran on the host that died; both find the one place that is left."""
    hosts = [host("h1"), host("h2")]
    pair = [machine(name, on="h1", labels=WEB, rules=(APART,)) for name in ("one", "two")]
    plan = p.failure_plans(hosts, pair).by_host["h1"]
    assert (plan.placed, list(plan.unplaced)) == ({"a/one": "h2"}, ["a/two"])


def test_rules_of_those_that_run_bind_those_that_come() -> None:
    guarded = machine("guard", on="h1", rules=(APART,))
    assert why([host("h1")], machine("vm", labels=WEB), guarded).reason == p.Reason.ANTI_AFFINITY


def test_the_first_of_a_group_may_start_anywhere_and_the_rest_follows() -> None:
    hosts = [host("h1", cpu=4), host("h2"), host("h3", cpu=7, zone="z2")]
    together = p.Rule("Together", p.with_labels(WEB), ZONE)
    group = [machine(f"vm-{number}", labels=WEB, rules=(together,)) for number in range(3)]
    loose = [replace(each, rules=()) for each in group]
    order = [each.key for each in group]
    assert set(p.place(hosts, group, order).placed.values()) == {"h1", "h2"}
    assert "h3" in p.place(hosts, loose, order).placed.values()


def test_preferences_come_before_scores_and_after_rules() -> None:
    hosts = [host("h1", cpu=64, taints=(p.Taint("slow", effect="PreferNoSchedule"),)), host("h2")]
    wanted = machine("vm")
    assert p.place(hosts, [wanted], ["a/vm"]).placed == {"a/vm": "h2"}
    full = replace(hosts[1], used={"cpu": 7000})
    assert p.place([hosts[0], full], [wanted], ["a/vm"]).placed == {"a/vm": "h1"}


def test_balance_tells_two_equally_empty_hosts_apart() -> None:
    hosts = [host("h1", used={"cpu": 4000}), host("h2", used={"cpu": 2000, "memory": 8 * GIB})]
    assert p.place(hosts, [machine("vm")], ["a/vm"]).placed == {"a/vm": "h2"}
    least = p.BUILTIN["least-allocated"]
    assert p.place(hosts, [machine("vm")], ["a/vm"], scorer=least).placed == {"a/vm": "h1"}


def test_moving_frees_what_was_held() -> None:
    full = host("h1", cpu=4, used={"cpu": 4000, "memory": 8 * GIB, "pods": 2})
    moving = [machine("one", on="h1"), machine("two", on="h1")]
    assert p.place([full], moving, ["a/one", "a/two"]).placed == {"a/one": "h1", "a/two": "h1"}
    assert why([full], machine("new"), *moving).reason == p.Reason.NO_CAPACITY


@pytest.mark.parametrize(
    "hosts, machines, order, message",
    [
        ([host("h1"), host("h1")], [], [], "host h1 is there twice"),
        ([host("h1")], [machine("vm"), machine("vm")], [], "a machine is there twice"),
        ([host("h1")], [machine("vm")], ["a/vm", "a/vm"], "order names a machine twice"),
        ([host("h1")], [machine("vm")], ["a/other"], "order names a/other, which is no machine"),
    ],
)
def test_ambiguous_input_is_refused(
    hosts: list[p.Host], machines: list[p.Machine], order: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        p.place(hosts, machines, order)


def test_a_plan_that_explains_by_taints_is_made_again_when_taints_change() -> None:
    """It placed nobody and looked at no shortlist to its end, yet says how many hosts were tainted."""
    hosts = [host("h1"), host("h2", taints=(p.Taint("dedicated"),)), host("h3")]
    bound = machine("vm", on="h1", bound_to=frozenset({"h2"}))
    before = p.failure_plans(hosts, [bound])
    hosts[1] = host("h2", cpu=1)
    after = p.failure_plans(hosts, [bound], previous=before)
    assert before.by_host["h1"].unplaced["a/vm"].reason == p.Reason.TAINT
    assert after.by_host["h1"].unplaced["a/vm"].reason == p.Reason.NO_CAPACITY


def test_a_plan_is_made_again_when_a_target_has_room_for_fewer() -> None:
    """The first machine still goes where it went, by the same score; the second does not find room beside it."""
    hosts = [host("h1"), host("h2", cpu=64), host("h3", cpu=4)]
    pair = [machine("one", on="h1"), machine("two", on="h1")]
    before = p.failure_plans(hosts, pair)
    assert before.by_host["h1"].placed == {"a/one": "h2", "a/two": "h2"}
    hosts[1] = replace(hosts[1], used={"pods": 109})
    assert p.failure_plans(hosts, pair, previous=before).by_host["h1"].placed == {"a/one": "h2", "a/two": "h3"}


def test_a_plan_is_made_again_when_those_it_must_avoid_have_moved() -> None:
    hosts = [host("h1"), host("h2", cpu=64), host("h3", cpu=32), host("h4", cpu=4)]
    alone = machine("vm", on="h1", rules=(APART,))
    before = p.failure_plans(hosts, [alone, machine("web", on="h3", labels=WEB)])
    assert before.by_host["h1"].placed == {"a/vm": "h2"}
    moved = [alone, machine("web", on="h2", labels=WEB)]
    assert p.failure_plans(hosts, moved, previous=before).by_host["h1"].placed == {"a/vm": "h3"}


def test_a_plan_is_made_again_when_those_that_avoid_its_machines_have_moved() -> None:
    hosts = [host("h1"), host("h2", cpu=64), host("h3", cpu=32)]
    web = machine("vm", on="h1", labels=WEB)
    before = p.failure_plans(hosts, [web, machine("guard", on="h3", rules=(APART,))])
    assert before.by_host["h1"].placed == {"a/vm": "h2"}
    moved = [web, machine("guard", on="h2", rules=(APART,))]
    assert p.failure_plans(hosts, moved, previous=before).by_host["h1"].placed == {"a/vm": "h3"}


@pytest.mark.parametrize(
    "reason, closed",
    [
        ("cordoned", {"schedulable": False}),
        ("tainted", {"taints": (p.Taint("dedicated"),)}),
        ("label gone", {"labels": {HOSTNAME: "h2"}}),
    ],
)
def test_a_plan_is_made_again_when_its_target_is_closed(reason: str, closed: dict[str, Any]) -> None:
    hosts = [host("h1"), host("h2", cpu=64), host("h3")]
    machines = [machine("vm", on="h1", selector=p.with_labels({ZONE: "z1"}))]
    before = p.failure_plans(hosts, machines)
    assert before.by_host["h1"].placed == {"a/vm": "h2"}
    hosts[1] = replace(hosts[1], **closed)
    assert p.failure_plans(hosts, machines, previous=before).by_host["h1"].placed == {"a/vm": "h3"}


def test_a_plan_is_made_again_when_another_host_beside_its_friends_is_better() -> None:
    hosts = [host("h1"), host("h2", cpu=16), host("h3")]
    follower = machine("vm", on="h1", rules=(p.Rule("Together", p.with_labels(WEB), ZONE),))
    machines = [follower, machine("web", on="h3", labels=WEB)]
    before = p.failure_plans(hosts, machines)
    assert before.by_host["h1"].placed == {"a/vm": "h2"}
    hosts[2] = host("h3", cpu=64, memory=128)
    assert p.failure_plans(hosts, machines, previous=before).by_host["h1"].placed == {"a/vm": "h3"}


def test_a_plan_that_came_to_the_end_is_made_again_when_it_is_no_longer_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The best of the shortlist is dead and the second disturbed; a third is free now, and on no shortlist."""
    monkeypatch.setattr(engine, "SHORTLIST", 2)
    hosts = [host("h1", cpu=64), host("h2", cpu=32), host("h3", cpu=31, used={"cpu": 31000})]
    pair = [machine("one", on="h1"), machine("two", on="h1")]
    before = p.failure_plans(hosts, pair)
    assert before.by_host["h1"].placed == {"a/one": "h2", "a/two": "h2"}
    hosts[2] = host("h3", cpu=31)
    assert p.failure_plans(hosts, pair, previous=before).by_host["h1"].placed == {"a/one": "h2", "a/two": "h3"}


def test_a_plan_is_made_again_when_a_domain_has_changed() -> None:
    rule = APART._replace(topology_key=ZONE)
    hosts = [host("h1"), host("h2", cpu=64, zone="z2"), host("h3", cpu=32, zone="z3")]
    machines = [machine("vm", on="h1", rules=(rule,)), machine("web", on="h3", labels=WEB)]
    before = p.failure_plans(hosts, machines)
    assert before.by_host["h1"].placed == {"a/vm": "h2"}
    hosts[1] = host("h2", cpu=64, zone="z3")
    after = p.failure_plans(hosts, machines, previous=before)
    assert after.by_host["h1"].unplaced["a/vm"].reason == p.Reason.ANTI_AFFINITY


def test_a_label_that_no_rule_names_changes_no_plan() -> None:
    hosts = [host("h1"), host("h2")]
    machines = [machine("vm", on="h1", rules=(APART,))]
    before = p.failure_plans(hosts, machines)
    hosts[0] = replace(hosts[0], labels={**hosts[0].labels, "rack": "new"})
    after = p.failure_plans(hosts, machines, previous=before)
    assert after.by_host["h1"] is before.by_host["h1"]


def test_what_has_not_changed_is_not_planned_again() -> None:
    hosts = [host(f"h{number}", cpu=8 + number) for number in range(6)]
    machines = [machine(f"vm-{number}", on=f"h{number}") for number in range(4)]
    before = p.failure_plans(hosts, machines)
    machines[0] = machine("vm-0", cpu=3, on="h0")
    after = p.failure_plans(hosts, machines, previous=before)
    again = [name for name in after.by_host if after.by_host[name] is not before.by_host[name]]
    assert again == ["h0"]


def test_numpy_is_not_imported_before_it_is_needed() -> None:
    code = (
        "import sys; from vdcos.providers import placement as p; import vdcos.runtime.providers, vdcos.app\n"
        "p.admission(p.HostFailures(1), [], [], []); assert 'numpy' not in sys.modules\n"
        "p.place([], [], []); assert 'numpy' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    "labels, requirement, holds",
    [
        ({"app": "web"}, p.Requirement("app", "In", ("web", "db")), True),
        ({}, p.Requirement("app", "In", ("web",)), False),
        ({}, p.Requirement("app", "NotIn", ("web",)), True),
        ({"app": "web"}, p.Requirement("app", "NotIn", ("web",)), False),
        ({"app": ""}, p.Requirement("app", "Exists"), True),
        ({}, p.Requirement("app", "DoesNotExist"), True),
        ({"app": "web"}, p.Requirement("app", "DoesNotExist"), False),
    ],
)
def test_selectors_hold_as_in_kubernetes(labels: dict[str, str], requirement: p.Requirement, holds: bool) -> None:
    assert matches((requirement,), labels) is holds
    node = replace(host("h1"), labels=labels)
    assert bool(p.place([node], [machine("vm", selector=(requirement,))], ["a/vm"]).placed) is holds


@dataclass(frozen=True)
class Odd:
    """A third party's scorer that answers what it is told to."""

    answer: Any
    contract: int = 1

    def score(self, asked: Sequence[float], free: Sequence[Column], allocatable: Sequence[Column]) -> Column:
        if isinstance(self.answer, Exception):
            raise self.answer
        answer: Column = self.answer(free[0]) if callable(self.answer) else self.answer
        return answer


@pytest.mark.parametrize(
    "scorer, problem",
    [
        (Odd(KeyError("secret")), "the scorer failed with KeyError"),
        (Odd(lambda free: free * float("nan")), "the scorer answered a number that is not finite"),
        (Odd("high"), "the scorer answered str instead of one number for each host"),
        (Odd(1.0), "the scorer answered float instead of one number for each host"),
        (Odd(lambda free: free > 1), "the scorer answered ndarray instead of one number for each host"),
        (Odd(lambda free: free, contract=2), "the scorer speaks version 2 of the contract, this operator version 1"),
        (p.Broken("acme 1.0 cannot be loaded"), "acme 1.0 cannot be loaded"),
    ],
)
def test_a_scorer_that_fails_stops_nobody(scorer: p.Scorer, problem: str) -> None:
    hosts = [host("h1"), host("h2", cpu=16)]
    found = p.place(hosts, [machine("vm")], ["a/vm"], scorer=scorer)
    assert (found.placed, found.problem) == ({"a/vm": "h2"}, problem)
    plans = p.failure_plans(hosts, [machine("vm", on="h1")], scorer=scorer)
    assert (plans.by_host["h1"].placed, plans.problem) == ({"a/vm": "h2"}, problem)


@pytest.mark.parametrize(
    "answer, problem",
    [
        (lambda free: free / 0, "the scorer failed with ZeroDivisionError"),
        (lambda free: float("inf"), "the scorer answered float instead of a finite number"),
        (lambda free: None, "the scorer answered NoneType instead of a finite number"),
    ],
)
def test_a_scorer_that_fails_at_one_host_stops_nobody(answer: Any, problem: str) -> None:
    """The second machine meets a host that the first has disturbed, and is scored on it by numbers, not arrays."""
    picky = Odd(lambda free: answer(free) if isinstance(free, float) else free)
    machines = [machine("one"), machine("two")]
    found = p.place([host("h1")], machines, ["a/one", "a/two"], scorer=picky)
    assert (found.placed, found.problem) == ({"a/one": "h1", "a/two": "h1"}, problem)


def test_a_third_partys_scorer_decides() -> None:
    fullest = Odd(lambda free: -free)
    hosts = [host("h1", cpu=16), host("h2"), host("h3", cpu=12)]
    found = p.place(hosts, [machine("vm")], ["a/vm"], scorer=fullest)
    assert (found.placed, found.problem) == ({"a/vm": "h2"}, "")
