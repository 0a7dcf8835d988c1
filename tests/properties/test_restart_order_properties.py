"""The order of restart: what is found for all VMs of a namespace at once is what asking each about each other finds."""

import sys
from types import FrameType
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties import restart_order_reference as reference
from vdcos.core import availability
from vdcos.core.availability import PRIORITIES
from vdcos.core.objects import Key


class Expression(NamedTuple):
    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()


class Selector(NamedTuple):
    match_labels: dict[str, str]
    match_expressions: tuple[Expression, ...] = ()


class Dependency(NamedTuple):
    name: str | None
    selector: Selector | None = None


class Vm(NamedTuple):
    labels: dict[str, str]
    needs: tuple[Dependency, ...] = ()


KEYS, VALUES, NAMES = st.sampled_from("pqr"), st.sampled_from("xyz"), "abcdefg"
LABELS = st.dictionaries(KEYS, VALUES, max_size=2)
LISTED = st.sampled_from(("In", "NotIn"))
EXPRESSIONS = st.one_of(
    st.builds(Expression, KEYS, LISTED, st.lists(VALUES, min_size=1, max_size=2).map(tuple)),
    st.builds(Expression, KEYS, st.sampled_from(("Exists", "DoesNotExist"))),
)
SELECTORS = st.builds(Selector, LABELS, st.lists(EXPRESSIONS, max_size=2).map(tuple))
DEPENDENCIES = st.one_of(
    st.builds(Dependency, st.sampled_from([*NAMES, "", "nobody"])), st.builds(Dependency, st.none(), SELECTORS)
)
VMS = st.one_of(st.none(), st.builds(Vm, LABELS, st.lists(DEPENDENCIES, max_size=3).map(tuple)))
WHO = st.builds(Key, st.sampled_from(["shop", "bank"]), st.sampled_from(NAMES))
RANKS = st.integers(0, len(PRIORITIES) - 1)


@settings(max_examples=1000)
@given(st.lists(st.tuples(WHO, VMS, RANKS), max_size=14))
def test_the_turns_are_those_that_are_found_by_asking_each_about_each_other(
    known: list[tuple[Key, Vm | None, int]],
) -> None:
    vms = {key: vm for key, vm, _ in known}
    ranks = {key: rank for key, _, rank in known}
    assert availability.turns(ranks, vms) == reference.turns(ranks, vms)


def steps(count: int, *, differ: bool) -> int:
    """Lines of Python for so many VMs of which each depends on all others, by as many selectors as it may have."""

    def vm(number: int) -> Vm:
        own = f"-{number}" if differ else ""
        return Vm(
            {"app": str(number)},
            tuple(
                Dependency(None, Selector({}, tuple(Expression(f"k{j}-{k}{own}", "NotIn", ("x",)) for k in range(8))))
                for j in range(16)
            ),
        )

    vms = {Key("shop", f"v{number}"): vm(number) for number in range(count)}
    taken = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal taken
        taken += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        availability.turns(dict.fromkeys(vms, 2), vms)
    finally:
        sys.settrace(before)
    return taken


@pytest.mark.parametrize("differ", [False, True])
def test_what_a_tenant_may_select_costs_little(differ: bool) -> None:
    """The operator looks at the order of restart in between all else: to ask each VM about each other would be sixteen
    times the work for four times the VMs."""
    assert steps(200, differ=differ) < 8 * steps(50, differ=differ)
