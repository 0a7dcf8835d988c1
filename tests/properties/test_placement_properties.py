"""Placement equals its slow definition, keeps every hard rule on the way, and depends on nothing that it should not."""

import dataclasses
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties import placement_reference as reference
from vdcos.providers import placement as p
from vdcos.providers.placement import engine

SOME = settings(max_examples=300)

Worlds = tuple[list[p.Host], list[p.Machine]]
T = TypeVar("T")

GPU = "nvidia.com/A100"
HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"

# Numbers that fit, numbers that do not, and numbers that no 64-bit integer holds.
GIANTS = [2**53 - 1, 2**53, 2**53 + 1, 2**63, 2**64]
AMOUNTS = [*[0, 1, 1, 2, 2, 3, 4] * 4, *GIANTS]
CAPACITIES = [0, *[4, 8, 8, 16] * 5, *GIANTS]
CORDON = "node.kubernetes.io/unschedulable"
APPS = ["web", "db", "none"]


class Dice:
    """Worlds by chance: made of a seed, since Hypothesis needs long to draw so many values one by one."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.one = self.chance.choice

    def some(self, make: Callable[[], T], most: int) -> tuple[T, ...]:
        return tuple(make() for _ in range(self.chance.randint(0, most)))

    def taint(self) -> p.Taint:
        effect = self.one(["NoSchedule", "PreferNoSchedule", "NoExecute"])
        return p.Taint(self.one(["dedicated", CORDON]), self.one(["", "db"]), effect)

    def toleration(self) -> p.Toleration:
        effect = self.one(["", "NoSchedule", "PreferNoSchedule"])
        operator = self.one(["Equal", "Exists"])
        return p.Toleration(self.one(["", "dedicated", CORDON]), operator, self.one(["", "db"]), effect)

    def requirement(self) -> p.Requirement:
        values = self.some(lambda: self.one(APPS), 2)
        return p.Requirement("app", self.one(["In", "In", "NotIn", "Exists", "DoesNotExist"]), values)

    def rule(self) -> p.Rule:
        return p.Rule(
            kind=self.one(["Apart", "Together"]),
            selector=self.some(self.requirement, 2),
            topology_key=self.one([HOSTNAME, ZONE, "rack"]),
            required=self.one([True, False]),
            weight=self.chance.randint(1, 3),
            namespaces=self.one([(), (), ("a",), ("a", "b")]),
        )

    def host(self, name: str) -> p.Host:
        labels = {HOSTNAME: name, ZONE: self.one(["z1", "z2"]), "rack": self.one(["r1", "r2"])}
        labels.pop(self.one([*labels, "", "", ""]), "")
        has = {"cpu": self.one(CAPACITIES), "memory": self.one(CAPACITIES), "pods": self.one([0, 2, 2, *[110] * 9])}
        if self.one([True, False]):
            has[GPU] = self.chance.randint(0, 2)
        return p.Host(
            name=name,
            allocatable=has,
            used={resource: self.one(AMOUNTS) for resource in has if self.one([True, False, False])},
            labels=labels,
            taints=self.some(self.taint, self.one([0, 0, 1, 2])),
            schedulable=self.one([*[True] * 7, False]),
            failover_only=self.one([False, False, False, True]),
        )

    def machine(self, name: str, places: list[str]) -> p.Machine:
        requests = {"cpu": self.one(AMOUNTS), "memory": self.one(AMOUNTS)}
        if self.one([True, *[False] * 4]):
            requests[GPU] = self.chance.randint(0, 2)
        labels: list[dict[str, str]] = [{}, {"app": "web"}, {"app": "db"}]
        selectors: list[p.Selector] = [
            *([()] * 6),
            p.with_labels({ZONE: "z1"}),
            (p.Requirement(ZONE, "NotIn", ("z1",)),),
            (p.Requirement("rack", "Exists"), p.Requirement(ZONE, "In", ("z1", "z2"))),
        ]
        return p.Machine(
            namespace=self.one("ab"),
            name=name,
            requests=requests,
            host=self.one(places),
            labels=self.one(labels),
            selector=self.one(selectors),
            tolerations=self.some(self.toleration, 2),
            rules=self.some(self.rule, self.one([0, 2])),
            bound_to=self.one([*[None] * 8, frozenset({"host-0", "gone"}), frozenset({"host-1", "host-2"})]),
            priority=self.one([*list(p.Priority)[:5] * 3, p.Priority.DISABLED]),
            depth=self.chance.randint(0, 2),
        )

    def world(self, hosts: int, machines: int) -> Worlds:
        found = [self.host(f"host-{number}") for number in range(hosts)]
        places = ["", "gone", *(host.name for host in found)]
        return found, [self.machine(f"vm-{number}", places) for number in range(machines)]

    def changed(self, hosts: list[p.Host], machines: list[p.Machine]) -> Worlds:
        """One host or machine otherwise, or gone."""
        hosts, machines = list(hosts), list(machines)
        at, other = self.chance.randrange(len(hosts)), self.chance.randrange(len(machines))
        places = ["", *(host.name for host in hosts)]
        match self.one(["host", "used", "no host", "machine", "moved", "no machine", "shuffled"]):
            case "host":
                hosts[at] = self.host(hosts[at].name)
            case "used":
                hosts[at] = dataclasses.replace(hosts[at], used={"cpu": self.one(AMOUNTS), "memory": self.one(AMOUNTS)})
            case "no host" if len(hosts) > 1:
                del hosts[at]
            case "machine":
                machines[other] = self.machine(machines[other].name, places)
            case "moved":
                machines[other] = dataclasses.replace(machines[other], host=self.one(places))
            case "no machine" if len(machines) > 1:
                del machines[other]
            case "shuffled":
                self.chance.shuffle(machines)
        return hosts, machines


dice = st.builds(Dice, st.integers(0, 2**32))
worlds = st.builds(
    lambda dice, hosts, machines: dice.world(hosts, machines), dice, st.integers(0, 6), st.integers(0, 9)
)
peopled = st.builds(
    lambda dice, hosts, machines: dice.world(hosts, machines), dice, st.integers(1, 6), st.integers(1, 9)
)


@contextmanager
def limits(shortlist: int, few: int) -> Iterator[None]:
    """Make small worlds take the ways of large ones."""
    before = engine.SHORTLIST, engine.FEW
    engine.SHORTLIST, engine.FEW = shortlist, few
    try:
        yield
    finally:
        engine.SHORTLIST, engine.FEW = before


sizes = st.sampled_from([(48, 32), (1, 0), (2, 1), (1, 32)])


def said(found: p.Placement) -> reference.Outcome:
    return {**found.placed, **found.unplaced}


def plans(found: p.FailurePlans) -> dict[str, reference.Outcome]:
    return {name: said(each) for name, each in found.by_host.items()}


@SOME
@given(worlds, dice, st.booleans(), sizes)
def test_placement_is_what_the_definition_says(world: Worlds, dice: Dice, restart: bool, size: tuple[int, int]) -> None:
    hosts, machines = world
    order = [machine.key for machine in dice.chance.sample(machines, dice.chance.randint(0, len(machines)))]
    with limits(*size):
        assert said(p.place(hosts, machines, order, restart=restart)) == reference.place(
            hosts, machines, order, restart=restart
        )


@SOME
@given(worlds, sizes)
def test_failure_plans_are_what_the_definition_says(world: Worlds, size: tuple[int, int]) -> None:
    with limits(*size):
        assert plans(p.failure_plans(*world)) == reference.failure_plans(*world)


@SOME
@given(peopled, dice, sizes)
def test_plans_made_from_earlier_ones_are_those_made_afresh(world: Worlds, dice: Dice, size: tuple[int, int]) -> None:
    """Through any change of one host or machine, again and again."""
    hosts, machines = world
    with limits(*size):
        found = p.failure_plans(hosts, machines)
        for _ in range(3):
            hosts, machines = dice.changed(hosts, machines)
            found = p.failure_plans(hosts, machines, previous=found)
            assert found == p.failure_plans(hosts, machines)


@SOME
@given(worlds, dice)
def test_the_order_of_the_input_does_not_matter(world: Worlds, dice: Dice) -> None:
    hosts, machines = world
    shuffled = dice.chance.sample(hosts, len(hosts)), dice.chance.sample(machines, len(machines))
    assert p.failure_plans(*world) == p.failure_plans(*shuffled)


@SOME
@given(worlds, st.booleans())
def test_hard_rules_hold_after_every_step(world: Worlds, restart: bool) -> None:
    """Checked pair by pair on the way, by nothing that the planner uses."""
    hosts, machines = world
    waiting = [machine.key for machine in machines]
    found = p.place(hosts, machines, waiting, restart=restart)
    by_name, by_key = {host.name: host for host in hosts}, {machine.key: machine for machine in machines}
    free = {
        host.name: {name: host.allocatable.get(name, 0) - host.used.get(name, 0) for name in ("cpu", "memory", GPU)}
        for host in hosts
    }
    for one in machines:
        if one.host in free:
            for name in free[one.host]:
                free[one.host][name] += one.requests.get(name, 0)
    running: list[p.Machine] = []
    for key, target in found.placed.items():
        new, host = by_key[key], by_name[target]
        for name in free[target]:
            asked = new.requests.get(name, 0)
            free[target][name] -= asked
            assert not asked or free[target][name] >= 0
        assert new.bound_to is None or target in new.bound_to
        assert restart or not host.failover_only
        for other in running:
            there = by_name[found.placed[other.key]]
            for rule, owner, about in [(r, new, other) for r in new.rules] + [(r, other, new) for r in other.rules]:
                if rule.kind == "Apart" and rule.required and reference.covers(rule, owner, about):
                    domains = host.labels.get(rule.topology_key), there.labels.get(rule.topology_key)
                    assert domains[0] is None or domains[0] != domains[1]
        running.append(new)


@SOME
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=6),
    st.integers(1, 4),
    st.integers(0, 40),
    st.integers(0, 5),
    st.integers(0, 8),
)
def test_more_capacity_never_places_fewer_of_the_same(
    cores: list[int], needs: int, count: int, which: int, more: int
) -> None:
    def placed(has: list[int]) -> int:
        hosts = [
            p.Host(f"host-{number}", {"cpu": cpus, "memory": 1 << 40, "pods": 110}) for number, cpus in enumerate(has)
        ]
        machines = [p.Machine("a", f"vm-{number}", {"cpu": needs}) for number in range(count)]
        return len(p.place(hosts, machines, [machine.key for machine in machines]).placed)

    grown = list(cores)
    grown[which % len(grown)] += more
    assert placed(cores) == min(count, sum(cpus // needs for cpus in cores))
    assert placed(grown) >= placed(cores)
    assert placed([*cores, more]) >= placed(cores)


@SOME
@given(worlds, st.sampled_from(list(p.BUILTIN)))
def test_a_scorer_says_the_same_of_one_host_as_of_many(world: Worlds, name: str) -> None:
    hosts, machines = world
    keys = [machine.key for machine in machines]

    def placed(few: int) -> p.Placement:
        with limits(1, few):
            return p.place(hosts, machines, keys, scorer=p.BUILTIN[name])

    assert placed(0) == placed(100)


policies = st.one_of(
    st.builds(p.HostFailures, st.integers(0, 7)),
    st.builds(p.Percentage, st.integers(0, 100), st.integers(0, 100)),
    st.just(p.DedicatedHosts()),
)


@SOME
@given(worlds, policies)
def test_admission_never_breaks_the_promise_and_holds_nobody_without_need(world: Worlds, policy: p.Policy) -> None:
    hosts, machines = world
    running = [machine for machine in machines if machine.host]
    waiting = [machine for machine in machines if not machine.host]
    found = p.admission(policy, hosts, running, waiting)
    by_key = {machine.key: machine for machine in waiting}
    assert sorted([*found.admitted, *found.held]) == sorted(by_key)
    for name in ("cpu", "memory"):
        taken = sum(by_key[key].requests.get(name, 0) for key in found.admitted)
        if isinstance(policy, p.DedicatedHosts):
            free = sum(host.allocatable.get(name, 0) for host in hosts if not host.failover_only and host.schedulable)
            assert taken <= free
        else:
            assert taken == 0 or found.used[name] + taken + found.promised[name] <= found.capacity[name]
            assert found.missing[name] == max(0, found.used[name] + found.promised[name] - found.capacity[name])
    for key, lacks in found.held.items():
        # Those that were looked at later took only what this one could not use.
        assert all(0 < lacks[name] <= by_key[key].requests.get(name, 0) for name in lacks)
        assert lacks


@SOME
@given(worlds, policies, dice)
def test_admission_does_not_depend_on_the_order_of_the_input(world: Worlds, policy: p.Policy, dice: Dice) -> None:
    hosts, machines = world
    mixed: Callable[[list[T]], list[T]] = lambda items: dice.chance.sample(items, len(items))  # noqa: E731
    assert p.admission(policy, hosts, machines, machines) == p.admission(
        policy, mixed(hosts), mixed(machines), mixed(machines)
    )
