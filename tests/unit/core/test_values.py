"""Quantities, names, drift and resources."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdcos.core import drift, kinds, ownership, quantity
from vdcos.core.objects import Key, Meta, OwnerReference, Resource


@pytest.mark.parametrize(
    "text, value",
    [
        ("1", "1"), ("250m", "0.25"), ("1.5Gi", "1610612736"), ("10k", "10000"), ("2Ki", "2048"), ("3M", "3000000"),
        ("1Ti", "1099511627776"), ("1E", "1000000000000000000"), (7, "7"),
    ],
)  # fmt: skip
def test_quantities_have_values(text: str | int, value: str) -> None:
    assert quantity.parse(text) == Decimal(value)


@pytest.mark.parametrize(
    "text",
    ["", "Gi", "1 Gi", " 1Gi", "1gi", "-1", "+1", "1e3", "NaN", "Infinity", "1_000", "١", "1.", ".5", "1Gi\n", "0x1"],
)
def test_what_is_not_a_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity: write for example"):
        quantity.parse(text)


@pytest.mark.parametrize(
    "text, pieces", [("1500m", 2), ("2", 2), ("0.1Ki", 103), ("1Ki", 1024), ("9" * 15 + "P", 999999999999999 * 10**15)]
)
def test_whole_rounds_up(text: str, pieces: int) -> None:
    assert quantity.whole(text) == pieces


@given(st.integers(0, 2**63))
def test_bytes_survive_being_written_for_people(size: int) -> None:
    assert quantity.whole(quantity.human(size)) == size


@pytest.mark.parametrize(
    "size, text", [(0, "0"), (1023, "1023"), (1024, "1Ki"), (10 << 30, "10Gi"), (1536 << 20, "1536Mi")]
)
def test_bytes_are_written_in_the_largest_unit_that_is_exact(size: int, text: str) -> None:
    assert quantity.human(size) == text


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("1Gi", "1024Mi", True),
        ("1", 1, True),
        ("1000m", 1, True),
        ("1Gi", "1G", False),
        ("a", "a", False),
        (True, 1, False),
        (1, True, False),
        ({}, "1", False),
    ],
)
def test_quantities_are_the_same_by_value(one: Any, other: Any, same: bool) -> None:
    assert quantity.same(one, other) is same


@pytest.mark.parametrize(
    "reason, wanted, live, paths",
    [
        ("equal", {"a": 1}, {"a": 1}, []),
        ("others may add fields", {"a": 1}, {"a": 1, "b": 2}, []),
        ("a changed value", {"a": {"b": 1}}, {"a": {"b": 2}}, ["a.b"]),
        ("a missing value", {"a": {"b": 1}}, {"a": {}}, ["a.b"]),
        ("a missing parent", {"a": {"b": 1}}, {}, ["a"]),
        ("a quantity in another unit", {"m": "1Gi"}, {"m": "1024Mi"}, []),
        ("named items by name", {"d": [{"name": "x", "v": 1}]}, {"d": [{"name": "y"}, {"name": "x", "v": 1}]}, []),
        ("a named item's field", {"d": [{"name": "x", "v": 1}]}, {"d": [{"name": "x", "v": 2}]}, ["d[x].v"]),
        ("a named item that is missing", {"d": [{"name": "x", "v": 1}]}, {"d": []}, ["d[x]"]),
        ("an empty object that is not there", {"bridge": {}}, {"masquerade": {}}, ["bridge"]),
        ("an empty object that is there", {"bridge": {}}, {"bridge": {}}, []),
        ("plain lists as wholes", {"k": ["a", "b"]}, {"k": ["a"]}, ["k"]),
        ("plain lists in order", {"k": ["a", "b"]}, {"k": ["b", "a"]}, ["k"]),
        ("lists of quantities", {"k": ["1Gi"]}, {"k": ["1024Mi"]}, []),
        ("a list that is none", {"k": ["a"]}, {"k": "a"}, ["k"]),
        ("an empty list", {"k": []}, {"k": []}, []),
        ("a boolean is no number", {"k": True}, {"k": False}, ["k"]),
        ("several", {"a": 1, "b": 2}, {"a": 0, "b": 0}, ["a", "b"]),
    ],
)  # fmt: skip
def test_drift(reason: str, wanted: Any, live: Any, paths: list[str]) -> None:
    assert list(drift.drift(wanted, live)) == paths, reason


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(json_values)
def test_nothing_drifts_from_itself(value: Any) -> None:
    unique_names = not _has_twins(value)
    assert not unique_names or list(drift.drift(value, value)) == []


def _has_twins(value: Any) -> bool:
    """Whether a list holds two different items of one name, which no API server would store."""
    if isinstance(value, dict):
        return any(_has_twins(v) for v in value.values())
    if isinstance(value, list):
        names = [str(v.get("name")) for v in value if isinstance(v, dict) and "name" in v]
        return len(names) != len(set(names)) or any(_has_twins(v) for v in value)
    return False


names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)


@given(names, names, names, names)
def test_joined_names_are_labels_and_never_clash(a: str, b: str, c: str, d: str) -> None:
    one, other = ownership.joined_name(a, b), ownership.joined_name(c, d)
    assert len(one) <= 63
    assert one == one.lower()
    assert "--" not in one[-9:]
    assert (one == other) == ((a, b) == (c, d))


def test_the_classic_clash() -> None:
    assert ownership.joined_name("a", "b-c") != ownership.joined_name("a-b", "c")


def test_owner_references_are_recognised() -> None:
    reference = ownership.owner_reference(kinds.VIRTUAL_MACHINE, Meta(name="vm", namespace="ns", uid="u1"))
    assert reference["apiVersion"] == "vdcos.dev/v1alpha1"
    assert reference["controller"] is True
    child = Meta(name="c", owner_references=(OwnerReference("vdcos.dev/v1alpha1", "VirtualMachine", "vm", "u1", True),))
    assert child.owned_by("u1")
    assert not child.owned_by("u2")
    follower = Meta(name="c", owner_references=(OwnerReference("v1", "Pod", "p", "u1", False),))
    assert not follower.owned_by("u1"), "only the controller owns"


@pytest.mark.parametrize(
    "resource, args, path",
    [
        (Resource("", "v1", "nodes", "Node", False), ("", "n1"), "/api/v1/nodes/n1"),
        (Resource("", "v1", "pods", "Pod"), (), "/api/v1/pods"),
        (
            kinds.VIRTUAL_MACHINE,
            ("ns", "a", "status"),
            "/apis/vdcos.dev/v1alpha1/namespaces/ns/virtualmachines/a/status",
        ),
        (kinds.NETWORK, ("", "prod"), "/apis/vdcos.dev/v1alpha1/networks/prod"),
    ],
)
def test_paths(resource: Resource, args: tuple[str, ...], path: str) -> None:
    assert resource.path(*args) == path


def test_keys_read_as_people_write_them() -> None:
    assert (str(Key("ns", "a")), str(Key("", "a"))) == ("ns/a", "a")


def test_children_say_who_manages_them() -> None:
    assert ownership.metadata(Key("ns", "a"), {"x": "y"}) == {
        "name": "a",
        "namespace": "ns",
        "labels": {"app.kubernetes.io/managed-by": "vdcos", "x": "y"},
    }
    assert "namespace" not in ownership.metadata(Key("", "a"))
