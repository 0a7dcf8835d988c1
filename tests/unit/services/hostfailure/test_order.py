"""In which order VMs restart: priority, dependencies, size; and that it is an order, whatever is declared."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdcos import api
from vdcos.api.availability import ReadyWhen
from vdcos.api.hapolicy import HAPolicySpec
from vdcos.core.availability import PRIORITIES
from vdcos.core.objects import Key
from vdcos.services.hostfailure.order import priority, ready_when, turns

Tree = dict[str, Any]
Vms = Mapping[Key, api.VirtualMachine | None]


def vm(
    name: str,
    *needs: str | Mapping[str, str],
    size: str | None = "1Gi",
    namespace: str = "shop",
    labels: Mapping[str, str] | None = None,
    **said: Any,
) -> api.VirtualMachine:
    """A VM that depends on others by name, or by labels."""
    depends = [{"name": need} if isinstance(need, str) else {"selector": {"matchLabels": dict(need)}} for need in needs]
    availability = {**said, **({"dependsOn": depends} if depends else {})}
    spec: Tree = {"cpu": {}, "memory": {"size": size}} if size else {"instancetype": {"name": "small"}}
    if availability:
        spec["availability"] = availability
    metadata = {"name": name, "namespace": namespace, "labels": dict(labels or {})}
    manifest = {"apiVersion": api.API_VERSION, "kind": "VirtualMachine", "metadata": metadata, "spec": spec}
    return api.parse(api.VirtualMachine, manifest)


def policy(**spec: Any) -> HAPolicySpec:
    manifest = {"apiVersion": api.API_VERSION, "kind": "HAPolicy", "metadata": {"name": "p"}, "spec": spec}
    return api.parse(api.HAPolicy, manifest).spec


def named(*vms: api.VirtualMachine) -> Vms:
    return {Key(vm.metadata.namespace, vm.metadata.name): vm for vm in vms}


def tiers(found: Iterable[Any]) -> list[tuple[str, int]]:
    return [(turn.key.name, turn.tier) for turn in found]


DEFAULT = policy()
RULES = policy(
    rules=[
        {"name": "slow", "selector": {"matchLabels": {"app": "db"}}, "readyWhen": {"condition": "GuestAgent"}},
        {"name": "db", "selector": {"matchLabels": {"app": "db"}}, "priority": "High"},
        {"name": "all", "selector": {"matchLabels": {"tier": "1"}}, "priority": "Highest"},
    ],
    restart={"priority": "Low", "readyWhen": {"timeoutSeconds": 60}},
)
DB = {"app": "db", "tier": "1"}


@pytest.mark.parametrize(
    ("said", "machine", "want"),
    [
        (DEFAULT, vm("a"), "Medium"),
        (RULES, vm("a"), "Low"),
        (RULES, None, "Low"),
        (RULES, vm("a", labels={"tier": "1"}), "Highest"),
        (RULES, vm("a", labels=DB), "Low"),
        (RULES, vm("a", labels={"tier": "1"}, restartPriority="Lowest"), "Lowest"),
        (RULES, vm("a", readyWhen={"delaySeconds": 1}), "Low"),
    ],
    ids=[
        "nobody says",
        "the policy",
        "no VirtualMachine",
        "a rule",
        "the first rule is silent",
        "the VM",
        "the VM not",
    ],
)
def test_who_says_the_priority(said: HAPolicySpec, machine: api.VirtualMachine | None, want: str) -> None:
    assert priority(said, machine) == want


@pytest.mark.parametrize(
    ("machine", "want"),
    [
        (None, ReadyWhen(timeout_seconds=60)),
        (vm("a"), ReadyWhen(timeout_seconds=60)),
        (vm("a", labels=DB), ReadyWhen(condition="GuestAgent", timeout_seconds=60)),
        (
            vm("a", labels=DB, readyWhen={"delaySeconds": 5}),
            ReadyWhen(condition="GuestAgent", timeout_seconds=60, delay_seconds=5),
        ),
        (vm("a", readyWhen={"condition": "Ready"}), ReadyWhen(condition="Ready", timeout_seconds=60)),
    ],
    ids=["no VirtualMachine", "the policy", "a rule", "rule and VM", "the VM"],
)
def test_who_says_when_it_is_up(machine: api.VirtualMachine | None, want: ReadyWhen) -> None:
    assert ready_when(RULES, machine) == want


ORDERS: list[tuple[str, Sequence[api.VirtualMachine], list[tuple[str, int]]]] = [
    ("nobody", [], []),
    ("all alike", [vm("b"), vm("a")], [("a", 0), ("b", 0)]),
    ("the larger first, in one turn", [vm("a"), vm("b", size="2Gi")], [("b", 0), ("a", 0)]),
    ("sizes are numbers", [vm("a", size="9Gi"), vm("b", size="10Gi")], [("b", 0), ("a", 0)]),
    ("one without a size comes last", [vm("a", size=None), vm("b")], [("b", 0), ("a", 0)]),
    (
        "by priority",
        [vm(name, restartPriority=name) for name in reversed(PRIORITIES[:-1])],
        [(name, tier) for tier, name in enumerate(PRIORITIES[:-1])],
    ),
    (
        "turns have no gaps",
        [vm("a", restartPriority="Lowest"), vm("b", restartPriority="Highest")],
        [("b", 0), ("a", 1)],
    ),
    ("by name", [vm("a", "b"), vm("b", "c"), vm("c")], [("c", 0), ("b", 1), ("a", 2)]),
    ("by label", [vm("a", DB), vm("b", labels=DB), vm("c", labels=DB)], [("b", 0), ("c", 0), ("a", 1)]),
    ("by a label that it has itself", [vm("a", DB, labels=DB), vm("b", labels=DB)], [("b", 0), ("a", 1)]),
    ("on one that did not fail", [vm("a", "elsewhere")], [("a", 0)]),
    ("on one of another namespace", [vm("a", "b"), vm("b", namespace="lab")], [("b", 0), ("a", 0)]),
    ("by label, in another namespace", [vm("a", DB), vm("b", namespace="lab", labels=DB)], [("b", 0), ("a", 0)]),
    (
        "what a VM needs comes with it",
        [vm("a", "b", restartPriority="Highest"), vm("b", "c", restartPriority="Low"), vm("c"), vm("d")],
        [("c", 0), ("b", 1), ("a", 2), ("d", 3)],
    ),
    ("a dependency does not make later", [vm("a", "b"), vm("b", restartPriority="High")], [("b", 0), ("a", 1)]),
    ("a circle", [vm("a", "b"), vm("b", "a")], [("b", 0), ("a", 1)]),
    ("a circle and who needs it", [vm("x", "a"), vm("a", "b"), vm("b", "a")], [("b", 0), ("a", 1), ("x", 2)]),
    (
        "a circle hurries nobody who closes it",
        [vm("a", "b", restartPriority="Low"), vm("b", "a", restartPriority="Highest"), vm("c")],
        [("b", 0), ("c", 1), ("a", 2)],
    ),
    ("twice the same", [vm("a", "b", DB), vm("b", labels=DB)], [("b", 0), ("a", 1)]),
]


@pytest.mark.parametrize("reason, vms, want", ORDERS, ids=[row[0] for row in ORDERS])
def test_the_order(reason: str, vms: Sequence[api.VirtualMachine], want: list[tuple[str, int]]) -> None:
    assert tiers(turns(DEFAULT, named(*vms))) == want


def test_disabled_ones_come_last_and_nobody_waits_for_them() -> None:
    vms = named(vm("a", restartPriority="Disabled"), vm("b", "a"), vm("c", "b"), vm("d"))
    found = turns(DEFAULT, vms)
    assert tiers(found) == [("b", 0), ("d", 0), ("c", 1), ("a", 2)]
    assert [turn.disabled for turn in found] == [False, False, False, True]


def test_what_a_disabled_one_needs_is_not_hurried() -> None:
    vms = named(vm("a", "b", restartPriority="Disabled"), vm("b", restartPriority="Lowest"), vm("c"))
    assert tiers(turns(DEFAULT, vms)) == [("c", 0), ("b", 1), ("a", 2)]


def test_one_without_a_virtual_machine_has_the_policy_s_priority_and_may_be_needed_by_name() -> None:
    vms: Vms = {**named(vm("a", "bare", DB)), Key("shop", "bare"): None}
    assert tiers(turns(DEFAULT, vms)) == [("bare", 0), ("a", 1)]


# Properties

NAMES = ("a", "b", "c", "d", "e", "f")
NEEDS = st.sets(st.sampled_from(NAMES), max_size=3)
SOME = st.dictionaries(
    st.sampled_from(NAMES), st.tuples(NEEDS, st.sampled_from([*PRIORITIES, None]), st.integers(1, 3)), max_size=6
)


def declared(said: Mapping[str, tuple[set[str], str | None, int]]) -> Vms:
    found = []
    for name, (needs, rank, size) in said.items():
        words: dict[str, Any] = {"restartPriority": rank} if rank else {}
        found.append(vm(name, *sorted(needs - {name}), size=f"{size}Gi", **words))
    return named(*found)


def reached(needs: Mapping[str, set[str]], start: str) -> set[str]:
    """All that a VM needs, and that those need."""
    found: set[str] = set()
    todo = [start]
    while todo:
        new = needs[todo.pop()] - found
        found |= new
        todo += new
    return found


@given(SOME)
def test_every_order_is_a_permutation_with_turns_from_0_without_gaps(said: Any) -> None:
    vms = declared(said)
    found = turns(DEFAULT, vms)
    assert sorted(turn.key for turn in found) == sorted(vms)
    places = [turn.tier for turn in found]
    assert places == sorted(places)
    assert set(places) == set(range(len(set(places))))
    assert {turn.key.name for turn in found if turn.disabled} == {
        name for name, (_, rank, _) in said.items() if rank == "Disabled"
    }


@given(SOME)
def test_no_vm_comes_before_what_it_depends_on_outside_of_circles(said: Any) -> None:
    on = {name for name, (_, rank, _) in said.items() if rank != "Disabled"}
    needs = {name: (said[name][0] - {name}) & on for name in on}
    tier = {turn.key.name: turn.tier for turn in turns(DEFAULT, declared(said))}
    for name in on:
        for other in needs[name]:
            if name not in reached(needs, other):
                assert tier[other] < tier[name]


def tree(said: Mapping[str, tuple[set[str], str | None, int]]) -> dict[str, tuple[set[str], str | None, int]]:
    """The same without circles."""
    return {
        name: ({other for other in needs if other in said and other > name}, rank, size)
        for name, (needs, rank, size) in said.items()
    }


@given(SOME.map(tree))
def test_nobody_comes_before_one_of_higher_priority_unless_somebody_needs_it(said: Any) -> None:
    on = {name: PRIORITIES.index(rank or "Medium") for name, (_, rank, _) in said.items() if rank != "Disabled"}
    needs = {name: said[name][0] & set(on) for name in on}
    wanted = {name: min([on[name], *(on[other] for other in on if name in reached(needs, other))]) for name in on}
    tier = {turn.key.name: turn.tier for turn in turns(DEFAULT, declared(said))}
    for name in on:
        assert all(tier[name] < tier[other] for other in on if wanted[name] < wanted[other])


@given(SOME.map(tree), st.randoms())
def test_the_order_without_circles_does_not_depend_on_who_is_listed_first(said: Any, chance: Any) -> None:
    vms = declared(said)
    shuffled = list(vms.items())
    chance.shuffle(shuffled)
    assert turns(DEFAULT, dict(shuffled)) == turns(DEFAULT, vms)
