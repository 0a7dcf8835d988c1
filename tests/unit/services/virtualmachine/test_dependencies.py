"""RestartOrder: circles of dependencies and priorities that contradict them are told to every VM involved."""

from typing import Any

import pytest

from tests.unit.services import datacenter as d
from tests.unit.services.virtualmachine import builders as b
from vdcos import api
from vdcos.core.objects import Key
from vdcos.services.virtualmachine.dependencies import MOST
from vdcos.testing.world import World

Tree = dict[str, Any]


def vm(name: str, *needs: str | Tree, priority: str = "", labels: Tree | None = None) -> Tree:
    said: Tree = {"dependsOn": [{"name": each} if isinstance(each, str) else {"selector": each} for each in needs]}
    if priority:
        said["restartPriority"] = priority
    tree = b.vm(name, powerState="PoweredOff", availability=said)
    tree["metadata"]["labels"] = labels or {}
    return tree


def labelled(**labels: str) -> Tree:
    return {"matchLabels": labels}


def says(there: World, name: str) -> tuple[str, str, str]:
    there.settle(b.SERVICE, Key("shop", name))
    for known in there.tree(b.VM, Key("shop", name))["status"]["conditions"]:
        if known["type"] == "RestartOrder":
            return known["status"], known["reason"], known["message"]
    return "", "", ""


def world(*machines: Tree) -> World:
    return b.world(machines[0], *machines[1:])


def test_who_depends_on_nobody_is_told_nothing() -> None:
    there = world(vm("web"), vm("db"))
    assert says(there, "web") == ("", "", "")


def test_who_depends_on_others_in_order_is_in_order() -> None:
    there = world(vm("web", "db", "gone"), vm("db"))
    assert says(there, "web")[:2] == ("True", "InOrder")
    assert says(there, "db") == ("", "", "")


def test_each_of_a_circle_is_told_the_circle() -> None:
    there = world(vm("a", "b"), vm("b", "c"), vm("c", "a"), vm("d", "a"))
    assert says(there, "a")[:2] == ("False", "DependencyCircle")
    assert "a → b → c → a" in says(there, "a")[2]
    assert "b → c → a → b" in says(there, "b")[2]
    assert "c → a → b → c" in says(there, "c")[2]
    assert says(there, "d")[:2] == ("True", "InOrder")


def test_a_circle_by_labels() -> None:
    there = world(vm("a", labelled(tier="db"), labels={"tier": "web"}), vm("b", "a", labels={"tier": "db"}))
    assert "a → b → a" in says(there, "a")[2]
    assert "b → a → b" in says(there, "b")[2]


def test_the_shortest_circle_is_told() -> None:
    there = world(vm("a", "b", "c"), vm("b", "c"), vm("c", "a"))
    assert "a → c → a" in says(there, "a")[2]


INVERSIONS: list[tuple[str, list[Tree], bool]] = [
    ("the same priority", [vm("web", "db"), vm("db")], False),
    ("who is needed is first", [vm("web", "db", priority="Low"), vm("db", priority="High")], False),
    ("who is needed is last", [vm("web", "db", priority="High"), vm("db", priority="Low")], True),
    ("who is needed does not restart", [vm("web", "db"), vm("db", priority="Disabled")], True),
    ("who is needed says nothing", [vm("web", "db", priority="High"), b.vm("db", powerState="PoweredOff")], True),
    (
        "by labels",
        [vm("web", labelled(tier="db"), priority="High", labels={"tier": "db"}), vm("db", labels={"tier": "db"})],
        True,
    ),
    ("another namespace's", [vm("web", "db", priority="High")], False),
]  # fmt: skip


@pytest.mark.parametrize("case, machines, want", INVERSIONS, ids=[row[0] for row in INVERSIONS])
def test_both_are_told_of_priorities_that_contradict_a_dependency(case: str, machines: list[Tree], want: bool) -> None:
    there = world(*machines)
    if not want:
        assert says(there, "web")[:2] == ("True", "InOrder")
        return
    assert says(there, "web")[:2] == says(there, "db")[:2] == ("False", "PriorityInversion")
    assert "depends on db" in says(there, "web")[2]
    assert says(there, "db")[2].startswith("web, of an earlier")


def test_priorities_are_those_that_the_policy_of_the_host_gives() -> None:
    rules = [{"name": "web", "selector": labelled(tier="web"), "priority": "High"}]
    machine = vm("web", "db", labels={"tier": "web"})
    machine["spec"]["powerState"] = "PoweredOn"
    there = b.running(machine, vm("db"), d.policy(rules=rules))
    assert says(there, "web")[:2] == ("True", "InOrder")
    there.put({**d.host(), "status": {"state": "Connected", "policy": d.POLICY}})
    assert says(there, "web")[:2] == ("False", "PriorityInversion")


def test_whom_a_change_concerns() -> None:
    there = world(
        vm("a", "b"), vm("b"), vm("c", labelled(tier="db")), vm("d", labels={"tier": "db"}), vm("e", labels={"x": "y"})
    )
    watch = next(watch for watch in b.SERVICE.watches if watch.kind is api.VirtualMachine)
    assert watch.sees is not None

    def woken(name: str) -> set[str]:
        keys = watch.keys(there.held(b.VM, Key("shop", name)), there.view(b.SERVICE))
        return {key.name for key in keys} - {name}

    assert [woken(name) for name in "bde"] == [{"a"}, {"c"}, set()]
    assert woken("a") == {"b", "c"}
    assert woken("c") == {"a", "b", "d", "e"}
    held = there.held(b.VM, Key("shop", "a"))
    there.change(b.VM, Key("shop", "a"), status={"host": "host-1"})
    assert watch.sees(held) == watch.sees(there.held(b.VM, Key("shop", "a")))
    there.change(b.VM, Key("shop", "a"), metadata={"labels": {"tier": "db"}})
    assert watch.sees(held) != watch.sees(there.held(b.VM, Key("shop", "a")))


def test_who_declares_very_many_keeps_nobody_waiting() -> None:
    """Each looks at so many others, and a change wakes so many, whatever the number of those that all need all."""
    all_need_all = [vm(f"v{n:04}", labelled(tier="all"), labels={"tier": "all"}) for n in range(2 * MOST)]
    there = world(*all_need_all)
    last = f"v{2 * MOST - 1:04}"
    assert says(there, last)[1] == "DependencyCircle"
    watch = next(watch for watch in b.SERVICE.watches if watch.kind is api.VirtualMachine)
    woken = list(watch.keys(there.held(b.VM, Key("shop", last)), there.view(b.SERVICE)))
    assert len(woken) <= 4 * MOST
    around = [vm(f"v{n:04}", f"v{(n + 1) % (3 * MOST):04}") for n in range(3 * MOST)]
    assert says(world(*around), "v0000")[1] == "InOrder", "a circle of more VMs than are looked at"


def test_one_that_is_malformed_is_left_out() -> None:
    there = world(vm("a", "b"), {**vm("b", "a"), "spec": {"availability": {"dependsOn": [{"name": "a"}]}}})
    assert says(there, "a")[:2] == ("True", "InOrder")
    watch = next(watch for watch in b.SERVICE.watches if watch.kind is api.VirtualMachine)
    assert list(watch.keys(there.held(b.VM, Key("shop", "b")), there.view(b.SERVICE))) == []
