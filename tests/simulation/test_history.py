"""History independence: every edit of the catalogue, taken back at rest or a moment later, leaves what was there."""

import math
from collections.abc import Iterator, Mapping

import pytest

from vdcos.core import kinds
from vdcos.core.objects import Key, Resource
from vdcos.runtime.engine import merge_patch
from vdcos.testing.drivers import by_name
from vdcos.testing.laws import MOST_STEPS, OURS, Laws, essence_of
from vdcos.testing.scenarios import Declare, Edit, catalogue
from vdcos.testing.simulator import World

GROWN = "disks never shrink: the disk stays as large as it was"
RETAINED = "a disk that was there once is retained"
STARTED = "what waited for the edit has begun, and nothing that is there is taken away"
GONE = "what it ended cannot begin again in what it is taken back to"
UNSURE = "nobody can say how a VM is connected that has run through a change"
RESTART = "what was plugged into a running VM leaves it with a restart"
LEAVES: Mapping[tuple[str, int], str] = {
    ("delete with its disk", 1): RETAINED,
    ("delete without a disk of before", 1): RETAINED,
    ("add and remove a disk", 1): RETAINED,
    ("grow a disk", 1): GROWN,
    ("grow a disk of a VM that is off", 2): GROWN,
    ("no room beside a disk that has grown", 1): GROWN,
    ("more CPU and memory", 1): RESTART,
    ("datastore closes", 2): RESTART,
    ("full datastore, then room", 2): STARTED,
    ("datastore in maintenance", 1): STARTED,
    ("namespace not allowed, then allowed", 1): STARTED,
    ("room for one of two disks", 1): STARTED,
    ("two VMs at once, room for one", 1): STARTED,
    ("no host fits, then one does", 1): STARTED,
    ("a running VM loses its NIC", 2): GONE,
    ("powered off without its network", 2): GONE,
    ("network gets another VLAN", 1): UNSURE,
    ("somebody deletes a definition", 1): UNSURE,
    ("what others put on objects stays", 3): UNSURE,
}
"""What some edits leave behind, by scenario and step, and why that must be so."""
AT_REST_ONLY = ("no host fits, then one does",)
"""Half a second is too short for what they leave."""
SOON = 0.5
"""Seconds after which an edit is taken back that nobody waits for."""


def user_edit(step: object) -> tuple[Resource, Key] | None:
    """What a step of the catalogue edits, if it is a user's edit of the spec of one of our kinds."""
    if isinstance(step, Declare):
        resource = kinds.VIRTUAL_MACHINE
    elif isinstance(step, Edit) and step.resource in OURS and "spec" in step.changes:
        resource = step.resource
    else:
        return None
    space, _, name = step.where.rpartition("/")
    return resource, Key(space, name)


def edits() -> Iterator[tuple[str, int]]:
    """What users edit of our kinds: in which scenario, and as which of its steps."""
    for scenario in catalogue():
        for number, step in enumerate(scenario.steps):
            if user_edit(step) is not None:
                yield scenario.name, number


def to_rest(world: World, until: float = math.inf) -> None:
    for _ in range(MOST_STEPS):
        if world.next()[0] > until or world.next()[0] == math.inf:
            return
        world.step()
    pytest.fail("it never comes to rest")


@pytest.mark.parametrize("soon", [True, False], ids=["soon", "at rest"])
@pytest.mark.parametrize(("name", "number"), list(edits()))
def test_an_edit_that_is_taken_back_leaves_nothing(name: str, number: int, soon: bool) -> None:
    laws = Laws()
    world = by_name(name).world(laws=laws)
    while world.done < number or world.next()[0] < math.inf:
        world.step()
    before, edit = essence_of(world), world.script[number]
    world.script = world.script[:number]
    edited = user_edit(edit)
    assert edited is not None
    resource, where = edited
    spec = world.api.read(resource, where).tree["spec"]
    edit(world)
    world.notice()
    to_rest(world, world.now + SOON if soon else math.inf)
    back = merge_patch(world.api.read(resource, where).tree["spec"], spec)
    world.api.merge_patch(resource, where, {"spec": back}, "user")
    world.notice()
    to_rest(world)
    laws.at_rest(world)
    leaves = (name, number) in LEAVES and not (soon and name in AT_REST_ONLY)
    assert (essence_of(world) != before) is leaves
