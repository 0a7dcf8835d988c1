"""The store: the newer version stands, whatever path it came by, and indexes always tell the truth."""

from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdcos import api
from vdcos.core.objects import Index, Key, Meta, Object, Own, Resource, Total, Unreadable
from vdcos.core.service import Watch
from vdcos.core.snapshot import UndeclaredRead
from vdcos.runtime.answers import NOBODY, Answers
from vdcos.runtime.store import Store, View, decoder, version


class Box(Object, frozen=True, kw_only=True):
    resource: ClassVar[Resource] = Resource("test.dev", "v1", "boxes", "Box")
    shelf: str = ""
    weight: int = 0


BY_SHELF: Index[Box] = Index(Box, lambda box: [box.shelf] if box.shelf else [], lambda box: box.weight)


def box(name: str, rv: int, shelf: str = "", weight: int = 0, uid: str = "u") -> Box:
    return Box(metadata=Meta(name=name, namespace="ns", uid=uid, resource_version=str(rv)), shelf=shelf, weight=weight)


class Recorder:
    def __init__(self, store: Store) -> None:
        self.told: list[tuple[str, str]] = []
        store.subscribe(self)

    def __call__(self, kind: type[Any], old: Any, new: Any) -> None:
        self.told.append((old.metadata.resource_version if old else "-", new.metadata.resource_version if new else "-"))


@pytest.fixture
def store() -> Store:
    return Store([Box], [BY_SHELF])


def test_an_older_version_changes_nothing_and_tells_nobody(store: Store) -> None:
    recorder = Recorder(store)
    store.put(Box, box("a", 5, "top"))
    store.put(Box, box("a", 4, "bottom"))
    store.put(Box, box("a", 5, "bottom"))
    assert store.heard(Box, Key("ns", "a")) == box("a", 5, "top")
    assert recorder.told == [("-", "5")]


def test_a_late_answer_does_not_bring_a_deleted_object_back(store: Store) -> None:
    store.put(Box, box("a", 5))
    store.remove(Box, Key("ns", "a"), "7")
    store.put(Box, box("a", 6))
    assert store.heard(Box, Key("ns", "a")) is None
    store.put(Box, box("a", 8, uid="other"))
    assert store.heard(Box, Key("ns", "a")) is not None


def test_a_late_deletion_does_not_remove_the_namesake_that_came_after(store: Store) -> None:
    store.put(Box, box("a", 9, uid="second"))
    store.remove(Box, Key("ns", "a"), "7")
    assert store.heard(Box, Key("ns", "a")) is not None


def test_a_list_removes_what_it_lacks_but_not_what_is_newer_than_itself(store: Store) -> None:
    recorder = Recorder(store)
    store.put(Box, box("deleted-unseen", 3))
    store.put(Box, box("created-after-the-list", 12))
    store.replace(Box, [box("kept", 4)], "10")
    assert store.heard(Box, Key("ns", "deleted-unseen")) is None
    assert store.heard(Box, Key("ns", "created-after-the-list")) is not None
    assert store.heard(Box, Key("ns", "kept")) is not None
    assert ("3", "-") in recorder.told


def test_a_kind_is_known_when_listed_or_unavailable(store: Store) -> None:
    recorder = Recorder(store)
    assert not store.known(Box)
    store.unavailable(Box, "not installed")
    assert store.known(Box)
    assert store.shelf(Box).why == Unreadable("not installed")
    store.unavailable(Box, "not installed")
    store.replace(Box, [], "1")
    assert store.known(Box)
    assert store.shelf(Box).why is None
    assert recorder.told == [("-", "-"), ("-", "-")], "told once when it went and once when it came"


def test_an_assumed_write_counts_until_it_is_withdrawn(store: Store) -> None:
    store.put(Box, box("a", 1, "top", 10))
    store.assume(Box, box("b", 0, "top", 5))
    assert store.indexed(BY_SHELF).amounts == {"top": 15}
    assert store.heard(Box, Key("ns", "b")) is None, "heard is what the API server said"
    store.withdraw(Box, Key("ns", "b"))
    assert store.indexed(BY_SHELF).amounts == {"top": 10}


def test_an_assumption_ends_when_the_write_is_heard_of(store: Store) -> None:
    store.assume(Box, box("b", 0, "top", 5))
    store.put(Box, box("b", 3, "top", 6))
    store.withdraw(Box, Key("ns", "b"))
    assert store.indexed(BY_SHELF).amounts == {"top": 6}


@pytest.mark.parametrize("text, number", [("17", 17), ("", 0), ("assumed", 0)])
def test_versions_are_numbers(text: str, number: int) -> None:
    assert version(text) == number


step = st.tuples(
    st.sampled_from(["put", "remove", "assume", "withdraw", "replace"]),
    st.sampled_from("abc"),
    st.integers(1, 30),
    st.sampled_from(["", "top", "bottom"]),
    st.integers(0, 9),
)


@given(st.lists(step, max_size=40))
def test_totals_equal_a_count_by_hand(steps: list[tuple[str, str, int, str, int]]) -> None:
    store = Store([Box], [BY_SHELF])
    for what, name, rv, shelf, weight in steps:
        match what:
            case "put":
                store.put(Box, box(name, rv, shelf, weight))
            case "remove":
                store.remove(Box, Key("ns", name), str(rv))
            case "assume":
                store.assume(Box, box(name, 0, shelf, weight))
            case "withdraw":
                store.withdraw(Box, Key("ns", name))
            case "replace":
                store.replace(Box, [box(name, rv, shelf, weight)], str(rv))
        held = store.shelf(Box)
        seen = [box_ for name in "abc" if isinstance(box_ := held.view(Key("ns", name)), Box)]
        indexed = store.indexed(BY_SHELF)
        for value in ("top", "bottom"):
            inside = [each for each in seen if each.shelf == value]
            total = Total(len(indexed.keys.get(value, {})), indexed.amounts.get(value, 0))
            assert total == Total(len(inside), sum(each.weight for each in inside))


def test_a_struct_keeps_only_the_fields_it_names(store: Store) -> None:
    raw = msgspec.json.encode(
        {"metadata": {"name": "a", "managedFields": [{"manager": "x"}]}, "shelf": "top", "other": [1, 2]}
    )
    assert store.decoder(Box)(raw) == Box(metadata=Meta(name="a"), shelf="top")


def test_our_own_objects_are_kept_whole_but_for_what_nobody_reads() -> None:
    declared = {
        "apiVersion": "vdcos.dev/v1alpha1",
        "kind": "Network",
        "metadata": {
            "name": "front",
            "resourceVersion": "3",
            "managedFields": [{"manager": "kubectl"}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
            "labels": {"a": "b"},
        },
        "spec": {"pod": {}, "later": [1, {"x": None}]},
        "status": {"observedGeneration": -1},
    }
    own = decoder(api.Network)(msgspec.json.encode(declared))
    assert isinstance(own, Own)
    assert own.metadata == Meta(name="front", resource_version="3", labels={})
    for unread in ("managedFields", "annotations"):
        del declared["metadata"][unread]  # type: ignore[attr-defined]
    assert msgspec.json.decode(own.raw) == declared


def test_an_object_that_an_index_cannot_read_is_found_under_nothing() -> None:
    def strict(box: Box) -> list[str]:
        if box.weight > 5:
            raise msgspec.ValidationError("weight: too heavy")
        return [box.shelf]

    index: Index[Box] = Index(Box, strict)
    store = Store([Box], [index])
    store.put(Box, box("a", 1, "top"))
    store.put(Box, box("a", 2, "top", weight=9))
    assert store.indexed(index).keys == {}
    store.put(Box, box("a", 3, "bottom"))
    assert list(store.indexed(index).keys) == ["bottom"]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_notes_when_what_is_kept_of_an_object_changed() -> None:
    clock = Clock()
    store, key = Store([Box], [], [Box], clock), Key("ns", "a")
    assert store.changed_at(Box, key) is None
    store.put(Box, box("a", 5, "top"))
    clock.now = 110.0
    store.put(Box, box("a", 6, "top"))
    store.replace(Box, [box("a", 7, "top")], "8")
    assert store.changed_at(Box, key) == 100.0, "another version of the same"
    store.replace(Box, [box("a", 9, "bottom")], "10")
    assert store.changed_at(Box, key) == 110.0
    clock.now = 120.0
    store.put(Box, box("a", 4, "top"))
    assert store.changed_at(Box, key) == 110.0, "an older version is no news"
    store.remove(Box, key, "11")
    assert store.changed_at(Box, key) is None
    store.put(Box, box("a", 12, "bottom", uid="other"))
    assert store.changed_at(Box, key) == 120.0
    store.unavailable(Box, "forbidden")
    assert store.changed_at(Box, key) is None


@dataclass
class Reader:
    """Just enough of a service for a View."""

    watches: tuple[Watch[Any], ...]
    name: str = "reader"
    kind: type[Any] = Box
    indexes: tuple[Index[Any], ...] = ()


def view(store: Store, *watches: Watch[Any]) -> View:
    return View(store, Reader(watches), Answers(NOBODY, lambda item: None, lambda: 0.0))  # type: ignore[arg-type]


def test_only_who_declares_it_may_ask_when_something_changed() -> None:
    store, key = Store([Box], [], [Box], Clock()), Key("ns", "a")
    store.put(Box, box("a", 5, "top"))
    assert view(store, Watch(Box, lambda box, world: [], dated=True)).changed_at(Box, key) == 100.0
    with pytest.raises(UndeclaredRead, match="dated"):
        view(store, Watch(Box, lambda box, world: [])).changed_at(Box, key)


def test_a_source_tells_when_it_was_last_told_anything() -> None:
    store = Store([Box])
    reader = view(store, Watch(Box, lambda box, world: []))
    assert reader.heard_at(Box) == -float("inf"), "nobody tells of it"
    store.source(Box, lambda: 42.0, lambda: 0.0)
    assert reader.heard_at(Box) == 42.0


def test_a_silence_begins_no_earlier_than_its_source_was_heard() -> None:
    store, key = Store([Box], [], [Box], Clock()), Key("ns", "a")
    store.put(Box, box("a", 5, "top"))
    seen = view(store, Watch(Box, lambda box, world: [], dated=True))
    assert seen.silent_since(Box, key) == 100.0, "nobody tells of it"
    store.source(Box, lambda: 160.0, lambda: 90.0)
    assert seen.silent_since(Box, key) == 100.0
    store.source(Box, lambda: 160.0, lambda: 150.0)
    assert seen.silent_since(Box, key) == 150.0
    assert seen.changed_at(Box, key) == 100.0


def test_it_notes_since_when_an_object_is_gone() -> None:
    clock = Clock()
    store, key = Store([Box], [], [Box], clock), Key("ns", "a")
    store.source(Box, lambda: clock.now, lambda: 90.0)
    seen = view(store, Watch(Box, lambda box, world: [], dated=True))
    assert seen.gone_since(Box, key) == 90.0, "it was never there while it could have been heard"
    store.put(Box, box("a", 5, "top"))
    assert seen.gone_since(Box, key) is None
    clock.now = 110.0
    store.remove(Box, key, "6")
    clock.now = 120.0
    assert seen.gone_since(Box, key) == 110.0
    store.source(Box, lambda: clock.now, lambda: 115.0)
    assert seen.gone_since(Box, key) == 115.0, "in a long pause it may have been there again"
