"""Whatever is declared and whatever happens: plans are pure, come to rest, lose no disk and touch no user's object."""

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.services.virtualmachine import builders as b
from vdcos import api
from vdcos.core import disks
from vdcos.core.foreign.cdi import DataVolume
from vdcos.core.foreign.kubernetes import PersistentVolumeClaim
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Key
from vdcos.core.plan import Delete
from vdcos.testing.world import World

Tree = dict[str, Any]

names = st.sampled_from(["a", "b", "a-b", "b-c", "c", "data", "root"])


def each_once(items: Any, most: int) -> Any:
    return st.lists(items, max_size=most, unique_by=lambda item: item["name"])


disk = st.fixed_dictionaries(
    {
        "name": names,
        "size": st.sampled_from(["1Gi", "2Gi", "5Gi"]),
        "datastore": st.sampled_from(["gold", "gold", "nowhere"]),
        "bus": st.sampled_from(["virtio", "sata"]),
        "deletionPolicy": st.sampled_from(["Retain", "Delete"]),
    }
)
nic = st.fixed_dictionaries(
    {
        "name": names,
        "network": st.sampled_from(["internet", "lan", "lan", "nowhere"]),
        "linkState": st.sampled_from(["Up", "Down"]),
    }
)
specs = st.fixed_dictionaries(
    {
        "powerState": st.sampled_from(["PoweredOn", "PoweredOff"]),
        "onGuestShutdown": st.sampled_from(["Restart", "StayOff"]),
        "cpu": st.fixed_dictionaries({"sockets": st.integers(1, 4)}),
        "memory": st.just({"size": "1Gi"}),
        "disks": each_once(disk, 3),
        "nics": each_once(nic, 2),
        "placement": st.sampled_from([{}, {"nodeSelector": {"zone": "a"}}]),
    }
)

# What happens between two looks: an edit, or something that other controllers, people or hosts do.


def edit(there: World, spec: Tree) -> None:
    tree = there.tree(b.VM, b.KEY)
    tree["metadata"]["generation"] += 1
    there.put({**tree, "spec": copy.deepcopy(spec)})


def start(there: World, _: Tree) -> None:
    if there.has(b.CHILD, b.KEY) and not there.has(VirtualMachineInstance, b.KEY):
        b.start(there, interfaces=[{"name": nic["name"]} for nic in b.template(there).get("networks", [])])


def stop(there: World, _: Tree) -> None:
    if there.has(VirtualMachineInstance, b.KEY):
        there.remove(VirtualMachineInstance, b.KEY)


def notice(there: World, _: Tree) -> None:
    if there.has(b.CHILD, b.KEY):
        b.notice(there)


def flag(there: World, _: Tree) -> None:
    if there.has(b.CHILD, b.KEY):
        b.notice(there, conditions=[{"type": "RestartRequired", "status": "True"}])


def meddle(there: World, _: Tree) -> None:
    if there.has(b.CHILD, b.KEY):
        there.change(b.CHILD, b.KEY, spec={"runStrategy": "Manual"})


def fill(there: World, _: Tree) -> None:
    b.fill(there)


def vanish(there: World, _: Tree) -> None:
    for key in there.keys(DataVolume)[:1]:
        there.remove(DataVolume, key)


def unschedulable(there: World, _: Tree) -> None:
    if there.has(VirtualMachineInstance, b.KEY):
        conditions = [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 x."}]
        there.change(VirtualMachineInstance, b.KEY, status={"phase": "Scheduling", "conditions": conditions})


def forbid(there: World, _: Tree) -> None:
    there.change(api.Datastore, Key("", "gold"), spec={"maintenance": True})


happenings = st.lists(
    st.tuples(st.sampled_from([edit, start, stop, notice, flag, meddle, fill, vanish, unschedulable, forbid]), specs),
    max_size=8,
)

EXAMPLES = settings(max_examples=60)


def lived(spec: Tree, story: list[Any]) -> World:
    """A world after a story, with a look after each happening. Every one of them comes to rest (``settle`` says so)."""
    there = b.world(b.own("VirtualMachine", "web", spec, "shop", creationTimestamp=b.CREATED))
    b.bridged(there)
    b.settle(there)
    for happen, changed in story:
        happen(there, changed)
        b.settle(there)
    return there


@EXAMPLES
@given(specs, happenings)
def test_plans_are_pure_and_come_to_rest(spec: Tree, story: list[Any]) -> None:
    there = lived(spec, story)
    stored = there.tree(b.VM, b.KEY)
    cr = api.parse(b.VM, stored)
    view = there.view(b.SERVICE)
    seen = b.SERVICE.observe(b.KEY, view)
    kept = copy.deepcopy(seen)
    first, second = b.SERVICE.plan(cr, seen, there.now), b.SERVICE.plan(cr, seen, there.now)
    assert first == second
    assert seen == kept, "what was observed is not changed"
    assert first.actions == (), "at rest nothing is left to do"
    b.settle(there)
    assert there.tree(b.VM, b.KEY) == stored, "and nothing new to say"


@EXAMPLES
@given(specs, happenings)
def test_no_disk_is_lost_and_nobody_s_object_is_touched(spec: Tree, story: list[Any]) -> None:
    there = b.world(b.own("VirtualMachine", "web", spec, "shop", creationTimestamp=b.CREATED))
    b.bridged(there)
    theirs = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": "shop"}}
    taken = there.put({**theirs, "metadata": {"namespace": "shop", "name": disks.name("web", "root")}})
    b.settle(there)
    for happen, changed in story:
        happen(there, changed)
        declared = there.tree(b.VM, b.KEY)["spec"]
        held = set(there.keys(DataVolume))
        b.settle(there)
        assert held <= set(there.keys(DataVolume)), "no disk is deleted"
        assert there.tree(b.VM, b.KEY)["spec"] == declared, "what was declared is not rewritten"
        uid = there.tree(b.VM, b.KEY)["metadata"]["uid"]
        goes = {disk["name"] for disk in declared["disks"] if disk["deletionPolicy"] == "Delete"}
        for key in there.keys(DataVolume):
            meta = there.tree(DataVolume, key)["metadata"]
            owned = any(ref["uid"] == uid for ref in meta.get("ownerReferences", []))
            assert owned == (meta["labels"][disks.DISK] in goes), "reference and spec agree"
    assert not any(isinstance(action, Delete) for action in there.log)
    assert there.tree(PersistentVolumeClaim, Key("shop", taken["metadata"]["name"])) == taken


@given(st.lists(st.tuples(names, names), unique=True))
def test_names_of_disks_never_clash(pairs: list[tuple[str, str]]) -> None:
    made = {disks.name(vm, disk) for vm, disk in pairs}
    assert len(made) == len(pairs)
    assert all(len(name) <= 63 for name in made)
    long = "x" * 63
    assert disks.name(long, "a") != disks.name(long, "b")
    assert len(disks.name(long, long)) <= 63


@EXAMPLES
@given(specs, st.integers(0, 5))
def test_a_crash_after_any_action_changes_nothing_in_the_end(spec: Tree, survived: int) -> None:
    """The same end state, whether all actions of the first plan were done before the next look or only some."""
    machine = b.own("VirtualMachine", "web", spec, "shop", creationTimestamp=b.CREATED, uid="vm")
    whole, broken = b.world(machine), b.world(machine)
    for there in (whole, broken):
        b.bridged(there)
    for action in broken.plan(b.SERVICE, b.KEY).actions[:survived]:
        broken.carry_out(action)
    b.settle(whole)
    b.settle(broken)
    assert shape(whole) == shape(broken)


def shape(there: World) -> Any:
    """Everything that the service made, without what the API server makes up."""
    made = []
    for kind in (b.CHILD, DataVolume):
        for key in there.keys(kind):
            tree = there.tree(kind, key)
            made.append((key, tree["spec"], tree["metadata"].get("labels"), tree["metadata"].get("ownerReferences")))
    return made, [(c["type"], c["status"], c["reason"]) for c in there.tree(b.VM, b.KEY)["status"]["conditions"]]
