"""Networks: whatever the world looks like, and wherever the operator stopped, the same definitions come out."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from vdcos import api
from vdcos.core import finalizers
from vdcos.core.foreign.kubernetes import Namespace
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.foreign.multus import NetworkAttachmentDefinition
from vdcos.core.objects import Key
from vdcos.services.network import NetworkService
from vdcos.testing import builders
from vdcos.testing.world import World

SOME = settings(max_examples=30)

RED, SPACES = Key("", "red"), ("a", "b", "c")
SERVICE = NetworkService({})
Tree = dict[str, Any]

spaces = st.sampled_from(SPACES)
allowed = st.one_of(
    st.sampled_from(["None", "All"]).map(lambda choice: {"from": choice}),
    st.sets(spaces, min_size=1).map(lambda names: {"from": "Names", "names": sorted(names)}),
    st.just({"from": "Selector", "selector": {"matchLabels": {"net": "yes"}}}),
)
kinds: st.SearchStrategy[Tree] = st.sampled_from(
    [
        {"pod": {}},
        {"bridge": {"name": "br10"}},
        {"ovn": {"topology": "Layer2"}},
        {"sriov": {"resourceName": "a.b/c"}},
        {"plugin": {"provider": "missing"}},
    ]
)
machines = st.dictionaries(st.tuples(spaces, st.sampled_from("xyz")), st.sets(st.sampled_from(["red", "blue"])))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    labels = draw(st.fixed_dictionaries({space: st.sampled_from(["yes", "no"]) for space in SPACES}))
    return World(
        builders.network("red", **draw(kinds), allowedNamespaces=draw(allowed)),
        *(builders.namespace(space, {"net": labels[space]}) for space in SPACES),
        *(
            builders.machine(f"{space}/{name}", networks=sorted(networks))
            for (space, name), networks in draw(machines).items()
        ),
        *(builders.instance(f"{space}/{name}", "red") for space, name in draw(st.sets(st.tuples(spaces, spaces)))),
        *(builders.definition(f"{space}/red", '{"type":"theirs"}') for space in draw(st.sets(spaces))),
    )


def definitions(world: World) -> dict[Key, Tree]:
    return {key: world.tree(NetworkAttachmentDefinition, key) for key in world.keys(NetworkAttachmentDefinition)}


def foreign(world: World) -> dict[Key, Tree]:
    return {key: held for key, held in definitions(world).items() if "ownerReferences" not in held["metadata"]}


def meaning(world: World) -> dict[Key, Tree]:
    """The definitions without what tells one history from another."""
    return {key: {**held, "metadata": held["metadata"].get("labels")} for key, held in definitions(world).items()}


def everything(world: World) -> list[tuple[type[Any], Key, Tree]]:
    kinds = (api.Network, api.VirtualMachine, NetworkAttachmentDefinition, VirtualMachineInstance)
    return [(kind, key, world.tree(kind, key)) for kind in kinds for key in world.keys(kind)]


def users(world: World) -> list[Key]:
    """By brute force: the VMs of allowed namespaces with a NIC on the network."""
    allowed = world.tree(api.Network, RED)["spec"]["allowedNamespaces"]
    labels = {key.name: world.tree(Namespace, key)["metadata"]["labels"] for key in world.keys(Namespace)}

    def may(space: str) -> bool:
        by_selector = allowed["from"] == "Selector" and labels[space]["net"] == "yes"
        return allowed["from"] == "All" or space in allowed.get("names", ()) or by_selector

    return [
        key
        for key in world.keys(api.VirtualMachine)
        if may(key.namespace)
        and any(nic["network"] == "red" for nic in world.tree(api.VirtualMachine, key)["spec"]["nics"])
    ]


@SOME
@given(worlds())
def test_planning_is_pure_and_settles(world: World) -> None:
    before = everything(world)
    first, second = world.plan(SERVICE, RED), world.plan(SERVICE, RED)
    assert first == second
    assert everything(world) == before
    world.settle(SERVICE, RED)
    settled = everything(world)
    assert world.settle(SERVICE, RED).actions == ()
    assert everything(world) == settled, "at rest nothing is written"


@SOME
@given(worlds())
def test_definitions_are_where_vms_use_them(world: World) -> None:
    theirs = foreign(world)
    world.settle(SERVICE, RED)
    assert foreign(world) == theirs, "what somebody else wrote is as it was"
    used = users(world)
    spec = world.tree(api.Network, RED)["spec"]
    places = {key.namespace for key in used} - {key.namespace for key in theirs}
    wanted = set() if {"pod", "plugin"} & set(spec) else places
    assert {key.namespace for key in definitions(world)} - {key.namespace for key in theirs} == wanted
    status = world.tree(api.Network, RED)["status"]
    assert status["virtualMachines"] == {"count": len(used), "names": [str(key) for key in used][:10]}
    held = finalizers.IN_USE in world.tree(api.Network, RED)["metadata"].get("finalizers", ())
    assert held == bool(used)


@SOME
@given(worlds(), st.data())
def test_a_crash_after_any_action_leads_to_the_same_end(world: World, data: st.DataObject) -> None:
    actions = world.plan(SERVICE, RED).actions
    for action in actions[: data.draw(st.integers(0, len(actions)))]:
        world.carry_out(action)
    interrupted = World(*(tree for _, _, tree in everything(world)), *namespaces(world))
    world.settle(SERVICE, RED)
    interrupted.settle(SERVICE, RED)
    assert meaning(interrupted) == meaning(world)


def namespaces(world: World) -> list[Tree]:
    return [world.tree(Namespace, key) for key in world.keys(Namespace)]


@SOME
@given(worlds(), st.lists(st.tuples(spaces, st.sampled_from("xyz"), st.booleans(), st.booleans()), max_size=6))
def test_only_what_is_counts_not_how_it_came(world: World, events: list[tuple[str, str, bool, bool]]) -> None:
    """VMs come and go; looking after each of them, or once at the end, makes no difference once nothing runs."""
    for key in world.keys(VirtualMachineInstance):
        world.remove(VirtualMachineInstance, key)
    patient = World(*(tree for _, _, tree in everything(world)), *namespaces(world))
    for space, name, there, connected in events:
        for given_world in (world, patient):
            if there:
                given_world.put(builders.machine(f"{space}/{name}", networks=["red"] if connected else []))
            elif given_world.has(api.VirtualMachine, Key(space, name)):
                given_world.remove(api.VirtualMachine, Key(space, name))
        world.settle(SERVICE, RED)
    patient.settle(SERVICE, RED)
    world.settle(SERVICE, RED)
    assert meaning(world) == meaning(patient)
