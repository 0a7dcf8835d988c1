"""Our marks on Nodes: what a patch does to a node as it is by then, and that nobody else's mark is touched."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdcos.core import hosts, marks
from vdcos.core.foreign.kubernetes import Node, Taint
from vdcos.core.plan import Action, Patch
from vdcos.testing import trees

Tree = dict[str, Any]

OURS, OLDER = "failure/host-1-a", "failure/host-1-b"
OTHER = {"key": "example.org/gpu", "effect": "NoSchedule"}
UNREACHABLE = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}
DOWN = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
SPARE = {"key": "vdcos.dev/failover-only", "effect": "NoSchedule"}


def node(taints: Sequence[Tree] | None = None, by: str = "", cordoned: bool = False, **annotations: str) -> Tree:
    """A node; ``by`` is the mark of who cordoned it."""
    notes = {**annotations, **({hosts.CORDONED_BY: by} if by else {})}
    spec: Tree = {**({"unschedulable": True} if cordoned or by else {})}
    if taints is not None:
        spec["taints"] = list(taints)
    metadata: Tree = {"name": "host-1", "uid": "u", **({"annotations": notes} if notes else {})}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec}


def seen(tree: Tree) -> Node:
    return msgspec.convert(tree, Node)


def patched(tree: Tree, actions: Sequence[Action]) -> Tree:
    """The node after what is planned for it."""
    for action in actions:
        assert isinstance(action, Patch)
        assert (action.key.name, action.uid, action.why) == ("host-1", "u", "why")
        for operation in action.operations:
            tree = trees.patched(tree, operation)
    return tree


def taints(tree: Tree) -> list[Tree]:
    return [dict(each) for each in tree["spec"].get("taints", ())]


# Cordons


@pytest.mark.parametrize("there", [node(), node(note="x")], ids=["no annotations", "others"])
def test_a_cordon_says_whose_it_is(there: Tree) -> None:
    after = patched(there, marks.cordon(seen(there), OURS, "why"))
    assert after["spec"]["unschedulable"] is True
    assert after["metadata"]["annotations"] == {**there["metadata"].get("annotations", {}), hosts.CORDONED_BY: OURS}
    assert marks.cordoned_by(seen(after)) == OURS
    assert marks.cordon(seen(after), OURS, "why") == []


def test_what_is_cordoned_already_is_left_alone() -> None:
    there = node(cordoned=True)
    assert marks.cordon(seen(there), OURS, "why") == []
    assert marks.cordoned_by(seen(there)) == ""


def test_a_node_that_somebody_uncordoned_is_not_cordoned_by_us_and_can_be_again() -> None:
    there = trees.merge(node(by=OLDER), {"spec": {"unschedulable": None}})
    assert marks.cordoned_by(seen(there)) == ""
    assert marks.cordoned_by(seen(patched(there, marks.cordon(seen(there), OURS, "why")))) == OURS


def test_the_next_cordon_of_somebody_who_uncordoned_is_not_called_ours() -> None:
    there = trees.merge(node(by=OURS), {"spec": {"unschedulable": None}})
    assert marks.uncordon(seen(there), marks.FAILURE, "why") == []
    there = patched(there, marks.forget(seen(there), "why"))
    there = trees.merge(there, {"spec": {"unschedulable": True}})
    assert marks.forget(seen(there), "why") == []
    assert marks.cordoned_by(seen(there)) == ""
    assert marks.uncordon(seen(there), marks.FAILURE, "why") == []


UNCORDON = [
    ("ours", node(by=OURS, note="x"), marks.FAILURE, True),
    ("of an older failure", node(by=OLDER), marks.FAILURE, True),
    ("of maintenance", node(by="host/host-1"), marks.FAILURE, False),
    ("of maintenance that ends", node(by="host/host-1"), marks.MAINTENANCE, True),
    ("of a failure, when maintenance ends", node(by=OURS), marks.MAINTENANCE, False),
    ("somebody else's", node(cordoned=True), marks.FAILURE, False),
    ("none", node(), marks.FAILURE, False),
]


@pytest.mark.parametrize("reason, there, kind, goes", UNCORDON, ids=[row[0] for row in UNCORDON])
def test_whose_cordon_is_taken_back(reason: str, there: Tree, kind: str, goes: bool) -> None:
    actions = marks.uncordon(seen(there), kind, "why")
    assert bool(actions) is goes
    after = patched(there, actions)
    if goes:
        assert "unschedulable" not in after["spec"]
        assert hosts.CORDONED_BY not in after["metadata"]["annotations"]
        assert after["metadata"]["annotations"].get("note") == there["metadata"]["annotations"].get("note")


def test_a_cordon_that_has_become_another_s_stays() -> None:
    actions = marks.uncordon(seen(node(by=OURS)), marks.FAILURE, "why")
    for meanwhile in (node(by="host/host-1"), node(cordoned=True)):
        with pytest.raises(trees.PatchRefused):
            patched(meanwhile, actions)


# Taints


@pytest.mark.parametrize("before", [None, [OTHER], [OTHER, UNREACHABLE]], ids=["no list", "one", "two"])
@pytest.mark.parametrize(("wanted", "written"), [(marks.DOWN, DOWN), (marks.FAILOVER_ONLY, SPARE)])
def test_a_taint_is_added_and_taken_back(before: list[Tree] | None, wanted: Taint, written: Tree) -> None:
    there = node(before)
    after = patched(there, marks.taint(seen(there), wanted, "why"))
    assert taints(after) == [*(before or []), written]
    assert marks.has(seen(after), wanted)
    assert marks.taint(seen(after), wanted, "why") == []
    assert patched(after, marks.untaint(seen(after), wanted, "why")) == there


def test_a_taint_of_our_key_that_somebody_else_wrote_is_left_alone() -> None:
    theirs = {**DOWN, "value": "by-hand"}
    there = node([theirs])
    assert marks.taint(seen(there), marks.DOWN, "why") == []
    assert not marks.has(seen(there), marks.DOWN)
    assert marks.untaint(seen(there), marks.DOWN, "why") == []


def test_a_taint_between_others_goes_alone() -> None:
    there = node([OTHER, DOWN, UNREACHABLE])
    after = patched(there, marks.untaint(seen(there), marks.DOWN, "why"))
    assert taints(after) == [OTHER, UNREACHABLE], "with the time that we do not read"


MEANWHILE: list[tuple[str, list[Tree] | None]] = [
    ("the list is gone", None),
    ("ours is gone", [OTHER]),
    ("another came before it", [UNREACHABLE, OTHER, DOWN]),
    ("they are in another order", [DOWN, OTHER]),
]


@pytest.mark.parametrize("reason, now", MEANWHILE, ids=[row[0] for row in MEANWHILE])
def test_a_list_that_changed_meanwhile_is_not_patched(reason: str, now: list[Tree] | None) -> None:
    actions = marks.untaint(seen(node([OTHER, DOWN])), marks.DOWN, "why")
    with pytest.raises(trees.PatchRefused):
        patched(node(now), actions)


def test_the_first_taint_is_not_put_over_one_that_came_meanwhile() -> None:
    actions = marks.taint(seen(node()), marks.DOWN, "why")
    with pytest.raises(trees.PatchRefused):
        patched(node([UNREACHABLE]), actions)


def test_the_last_taint_does_not_take_one_with_it_that_came_meanwhile() -> None:
    actions = marks.untaint(seen(node([DOWN])), marks.DOWN, "why")
    with pytest.raises(trees.PatchRefused):
        patched(node([DOWN, UNREACHABLE]), actions)


TAINTS = st.lists(
    st.sampled_from([OTHER, UNREACHABLE, DOWN, SPARE, {**DOWN, "value": "by-hand"}]),
    unique_by=lambda each: str(each["key"]),
    max_size=4,
)


@given(TAINTS, TAINTS, st.sampled_from([marks.DOWN, marks.FAILOVER_ONLY]), st.booleans())
def test_whatever_happens_meanwhile_nobody_else_s_taint_comes_or_goes(
    saw: list[Tree], now: list[Tree], wanted: Taint, on: bool
) -> None:
    there = node(saw or None)
    actions = (marks.taint if on else marks.untaint)(seen(there), wanted, "why")
    try:
        after = taints(patched(node(now or None), actions))
    except trees.PatchRefused:
        return
    assert [each for each in after if each["key"] != wanted.key] == [each for each in now if each["key"] != wanted.key]
