"""The order of restart that is foretold is the one in which VMs are released."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.services import datacenter as d
from vdcos import api
from vdcos.core.availability import PRIORITIES
from vdcos.core.objects import Key, Own
from vdcos.providers.failover import order
from vdcos.services.hostfailure import order as release
from vdcos.testing.world import World, decode

Tree = dict[str, Any]

NAMES = ("a", "b", "c", "d", "e")
PRIORITY = st.sampled_from(["", *PRIORITIES])
NEED = (
    st.sampled_from(NAMES).map(lambda name: {"name": name})
    | st.sampled_from(["x", "y"]).map(lambda tier: {"selector": {"matchLabels": {"tier": tier}}})
    | st.just({"selector": {"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["x"]}]}})
)
MACHINE = st.tuples(PRIORITY, st.lists(NEED, max_size=2), st.sampled_from(["", "x", "y"]))
RULES = st.lists(
    st.tuples(st.sampled_from(["x", "y"]), st.sampled_from(["High", "Disabled", ""])),
    max_size=2,
    unique_by=lambda r: r[0],
)


def machine(name: str, priority: str, needs: list[Tree], tier: str) -> Tree:
    availability: Tree = {"restartPriority": priority} if priority else {}
    if needs:
        availability["dependsOn"] = needs
    labels = {"tier": tier} if tier else {}
    return {**(tree := d.vm(name, availability or None)), "metadata": {**tree["metadata"], "labels": labels}}


def policy(rules: list[tuple[str, str]]) -> Any:
    said = [
        {
            "name": f"rule-{tier}",
            "selector": {"matchLabels": {"tier": tier}},
            **({"priority": priority} if priority else {"readyWhen": {"condition": "Ready"}}),
        }
        for tier, priority in rules
    ]
    return api.parse(
        api.HAPolicy, World(tree := d.policy(rules=said)).tree(api.HAPolicy, Key("", tree["metadata"]["name"]))
    ).spec


def held(there: World, name: str) -> Own:
    found = there.held(api.VirtualMachine, Key("shop", name))
    assert isinstance(found, Own)
    return found


@given(st.dictionaries(st.sampled_from(NAMES), MACHINE, min_size=1), RULES)
def test_it_is_the_order_of_release(machines: dict[str, Any], rules: list[tuple[str, str]]) -> None:
    there = World(*(machine(name, *said) for name, said in machines.items()))
    spec = policy(rules)
    keys = [Key("shop", name) for name in machines]
    wishes = {key: order.wish(held(there, key.name)) for key in keys}
    parsed = {key: api.parse(api.VirtualMachine, held(there, key.name).raw) for key in keys}
    found = order.turns(spec, wishes)
    released = release.turns(spec, parsed)
    tiers = {turn.key: turn.tier for turn in released if not turn.disabled}
    assert {key for key, turn in found.items() if turn.priority != 5} >= set(tiers)
    for one in tiers:
        for other in tiers:
            assert (found[one] < found[other]) == (tiers[one] < tiers[other])


def test_a_vm_that_is_none_of_ours_is_as_the_policy_says() -> None:
    spec = policy([])
    assert order.turns(spec, {Key("shop", "foreign"): None}) == {Key("shop", "foreign"): (2, 0)}


def test_a_word_of_another_version_is_medium() -> None:
    there = World(d.vm("a"))
    wish = order.wish(held(there, "a"))._replace(priority="Urgent")
    assert order.priority(policy([]), wish) == 2


STATUS: Tree = {"waitsFor": {"cpu": "1100m", "memory": "2Gi"}}
STALLED = {"type": "Stalled", "status": "True", "reason": "Refused"}


@pytest.mark.parametrize(
    ("tree", "waits"),
    [
        ({"status": STATUS}, True),
        ({"status": {}}, False),
        ({}, False),
        ({"status": STATUS, "spec": {"powerState": "PoweredOff"}}, False),
        ({"status": {**STATUS, "conditions": [STALLED]}}, True),
        ({"status": STATUS, "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, False),
    ],
)
def test_who_waits_for_room(tree: Tree, waits: bool) -> None:
    meta = {"name": "a", "namespace": "shop", **tree.get("metadata", {})}
    own = decode(api.VirtualMachine, json.dumps({**tree, "metadata": meta}).encode())
    assert isinstance(own, Own)
    wish = order.wish(own)
    assert (wish.waits_for == {"cpu": 1100, "memory": 2 << 30}) is waits
    assert list(order.WAITING.keys(own)) == ([""] if waits else [])
