"""Objects at rest come back as they were, and take little room."""

from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdcos.core.foreign.kubevirt import VirtualMachine
from vdcos.core.objects import Key, Meta, Object, Own, Resource, Stored
from vdcos.runtime import packing
from vdcos.runtime.packing import Packed
from vdcos.runtime.store import decoder


class Box(Object, frozen=True):
    resource: ClassVar[Resource] = Resource("example.org", "v1", "boxes", "Box")
    words: str = ""


def box(name: str, words: str = "", namespace: str = "shop") -> Box:
    return Box(metadata=Meta(name=name, namespace=namespace), words=words)


def packed() -> Packed:
    return Packed(msgspec.json.Decoder(Box).decode)


def size(table: Packed) -> int:
    """Bytes of what is at rest."""
    return sum(len(held) for held in table._held.values() if isinstance(held, bytes))


keys = st.integers(0, 12).map(lambda number: Key("shop" if number % 4 else "", f"box-{number}"))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), keys, st.text(max_size=30)),
        st.tuples(st.just("get"), keys, st.just("")),
        st.tuples(st.just("drop"), keys, st.just("")),
    ),
    max_size=60,
)


@given(steps)
def test_it_is_a_dictionary(story: list[tuple[str, Key, str]]) -> None:
    table, model = packed(), dict[Key, Stored]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "SAMPLES", 2)
        patch.setattr(packing, "IN_USE", 2)
        for what, key, words in story:
            if what == "put":
                table[key] = model[key] = box(key.name, words, key.namespace)
            elif what == "drop":
                assert table.pop(key, None) == model.pop(key, None)
            else:
                assert table.get(key) == model.get(key)
            assert (key in table) == (key in model)
        assert dict(table) == model
        assert len(table) == len(model)


def test_what_is_alike_takes_little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "IN_USE", 4)
    table = packed()
    words = " ".join(f"word-{number}" for number in range(300))
    for number in range(100):
        table[Key("shop", f"box-{number}")] = box(f"box-{number}", words)
    assert sum(isinstance(held, bytes) for held in table._held.values()) == 100 - packing.SAMPLES - 4
    assert size(table) < 100 * len(words) / 10
    assert len(table._in_use) <= packing.IN_USE
    for number in range(100):
        assert table[Key("shop", f"box-{number}")] == box(f"box-{number}", words)


def test_what_is_larger_than_the_window_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "IN_USE", 1)
    table = packed()
    for number in range(20):
        table[Key("shop", f"box-{number}")] = box(f"box-{number}", f"{number}" * 50_000)
    assert isinstance(table._held[Key("shop", "box-18")], bytes)
    assert table[Key("shop", "box-18")] == box("box-18", "18" * 50_000)


def test_what_changes_again_and_again_is_deflated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "SAMPLES", 1)
    monkeypatch.setattr(packing, "IN_USE", 1)
    deflated: list[bytes] = []
    deflate = Packed._deflated

    def noted(table: Packed, text: bytes) -> bytes:
        deflated.append(text)
        return deflate(table, text)

    monkeypatch.setattr(Packed, "_deflated", noted)
    table = packed()
    for name, words in (("sample", ""), ("busy", "one"), ("busy", "two"), ("busy", "three"), ("next", "")):
        table[Key("shop", name)] = box(name, words)
    assert deflated == [packing.encoded(box("busy", "three"))]


def test_what_is_in_use_is_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "SAMPLES", 1)
    monkeypatch.setattr(packing, "IN_USE", 2)
    table = packed()
    one, two, three = (Key("shop", name) for name in ("one", "two", "three"))
    table[Key("shop", "sample")] = box("sample")
    for key in (one, two):
        table[key] = box(key.name)
    first = table[one]
    table[three] = box("three")
    assert table[one] is first, "the one that was touched last stays"
    assert table[two] is table[two]


def test_what_plans_look_at_all_at_once_stays_as_it_is() -> None:
    table = packed()
    hosts = [box(f"host-{number}", namespace="") for number in range(packing.SAMPLES * 2)]
    for host in hosts:
        table[host.metadata.key] = host
    assert all(table[host.metadata.key] is host for host in hosts)


@pytest.mark.parametrize("own", [True, False])
def test_real_kinds_come_back_as_they_were(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from vdcos import api
    from vdcos.runtime.store import Store

    monkeypatch.setattr(packing, "SAMPLES", 1)
    monkeypatch.setattr(packing, "IN_USE", 1)
    kind: type[Any] = api.VirtualMachine if own else VirtualMachine
    tree = {
        "apiVersion": "x/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "web", "namespace": "shop", "resourceVersion": "3", "labels": {"a": "b"}},
        "spec": {"runStrategy": "Always", "nothing": None},
        "status": {"created": True},
    }
    decode, store = decoder(kind), Store([kind])
    held = {}
    for name in ("sample", "web", "db"):
        tree["metadata"]["name"] = name  # type: ignore[index]
        held[name] = decode(msgspec.json.encode(tree))
        store.put(kind, held[name])
    objects = store.shelf(kind).objects
    assert isinstance(objects, Packed)
    found = objects[Key("shop", "web")]
    assert found is not held["web"]
    assert found == held["web"]
    assert isinstance(found, Own) == own
