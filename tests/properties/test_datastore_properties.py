"""Datastores: accounts equal a count by hand, and are kept at a pace that follows from what is stored."""

import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from vdcos import api
from vdcos.core import counts, disks, quantity
from vdcos.core.foreign.cdi import DataVolume
from vdcos.core.objects import Key
from vdcos.core.plan import Instant
from vdcos.services.datastore import DatastoreService
from vdcos.testing import builders
from vdcos.testing.world import START, World

SOME = settings(max_examples=30)

GOLD, SERVICE = Key("", "gold"), DatastoreService()
Tree = dict[str, Any]
Disk = tuple[str, str, str, str, int, int]

places = st.tuples(st.sampled_from("ab"), st.sampled_from(["web", "db"]), st.sampled_from(["root", "data"]))
sizes = st.integers(1, 8)
stores = st.sampled_from(["gold", "silver"])


@st.composite
def disk_lists(draw: st.DrawFn) -> list[Disk]:
    """Namespace, VM, disk, datastore, GiB created, and GiB claimed (0 for no claim yet)."""
    found = draw(st.sets(places, max_size=8))
    return [(*place, draw(stores), draw(sizes), draw(st.integers(0, 8))) for place in sorted(found)]


def world(found: list[Disk], declared: set[tuple[str, str, str]]) -> World:
    manifests: list[Tree] = []
    for space, vm, name, datastore, size, claim in found:
        manifests += builders.disk(space, vm, name, datastore, f"{size}Gi", f"{claim}Gi" if claim else "")
    for space, vm in sorted({(space, vm) for space, vm, _ in declared}):
        named = {name: "gold" for where, machine, name in declared if (where, machine) == (space, vm)}
        manifests.append(builders.machine(f"{space}/{vm}", stores=named))
    return World(builders.datastore("gold"), *manifests)


@SOME
@given(disk_lists(), st.sets(places, max_size=6))
def test_accounts_equal_a_count_by_hand(found: list[Disk], declared: set[tuple[str, str, str]]) -> None:
    there = world(found, declared)
    there.settle(SERVICE, GOLD)
    status = there.tree(api.Datastore, GOLD)["status"]
    here = [disk for disk in found if disk[3] == "gold"]
    names = sorted((disk[0], disks.name(disk[1], disk[2]), disk) for disk in here)
    kept = [f"{space}/{name}" for space, name, disk in names if disk[:3] not in declared]
    assert status["provisioned"] == quantity.human(sum(max(disk[4], disk[5]) for disk in here) << 30)
    assert status["disks"] == len(here)
    assert status["tenants"]["names"] == sorted({disk[0] for disk in here})
    assert status["retained"] == {"count": len(kept), "names": kept[:10]}
    assert bool(there.tree(api.Datastore, GOLD)["metadata"].get("finalizers")) == bool(here)


@SOME
@given(disk_lists(), st.sets(places, max_size=6))
def test_planning_is_pure_and_at_rest_nothing_is_written(
    found: list[Disk], declared: set[tuple[str, str, str]]
) -> None:
    there = world(found, declared)
    assert there.plan(SERVICE, GOLD) == there.plan(SERVICE, GOLD)
    there.settle(SERVICE, GOLD)
    before = there.tree(api.Datastore, GOLD)
    there.now = Instant(START.wall + 86_400, START.mono + 86_400)
    assert there.settle(SERVICE, GOLD).actions == ()
    assert there.tree(api.Datastore, GOLD) == before


@SOME
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 7)), max_size=12))
def test_counts_are_paced_and_none_is_lost(events: list[tuple[bool, float]]) -> None:
    """Disks come and go at any moment; a look follows each change, and again when the plan asked for it."""
    there = world([], set())
    there.settle(SERVICE, GOLD)
    written = [there.now.wall]
    due: float | None = None

    def look(moment: float) -> None:
        nonlocal due
        there.now = Instant(moment, moment)
        before = there.tree(api.Datastore, GOLD)["status"]["disks"]
        after = there.settle(SERVICE, GOLD).after
        due = None if after is None else moment + after
        if there.tree(api.Datastore, GOLD)["status"]["disks"] != before:
            written.append(moment)

    moment = there.now.wall
    for number, (comes, pause) in enumerate(events):
        moment += pause
        while due is not None and due <= moment:
            look(due)
        present = there.keys(DataVolume)
        if comes or not present:
            there.put(builders.disk("a", "vm", f"d{number}", "gold")[0])
        else:
            there.remove(DataVolume, present[0])
        look(moment)
    while due is not None:
        look(due)
    status = there.tree(api.Datastore, GOLD)["status"]
    assert status["disks"] == len(there.keys(DataVolume))
    # Kubernetes' time stamps have whole seconds: a write may come by that much early.
    pauses = [late - early for early, late in itertools.pairwise(written)]
    assert all(pause > counts.SECONDS_BETWEEN - 1 for pause in pauses)
