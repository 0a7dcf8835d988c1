"""What the store keeps beside objects, adds up over two indexes, and derives from many objects at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdcos.core.amounts import NOTHING, Amounts
from vdcos.core.objects import Index, Key, Meta, Object, Resource, Total, Without
from vdcos.core.service import Watch
from vdcos.core.snapshot import Derived, Snapshot, UndeclaredRead
from vdcos.runtime.answers import NOBODY, Answers
from vdcos.runtime.store import Store, View


class Order(Object, frozen=True, kw_only=True):
    resource: ClassVar[Resource] = Resource("test.dev", "v1", "orders", "Order")
    of: str = ""
    weight: int = 0


class Parcel(Object, frozen=True, kw_only=True):
    resource: ClassVar[Resource] = Resource("test.dev", "v1", "parcels", "Parcel")
    of: str = ""


ORDERED: Index[Order] = Index(Order, lambda held: [held.of] if held.of else [], lambda held: Amounts(cpu=held.weight))
SENT: Index[Parcel] = Index(Parcel, lambda held: [held.of] if held.of else [])
OPEN = Without(ORDERED, (SENT,))
WEIGHTS: Index[Order] = Index(Order, value=lambda held: held.weight or None)


def made(world: Snapshot, before: int | None) -> int:
    return sum(world.values(WEIGHTS).values())


SUM: Derived[int] = Derived("the sum", (WEIGHTS,), made, every=5.0)


@dataclass
class Reader:
    name: str = "reader"
    kind: type[Any] = Order
    watches: tuple[Watch[Any], ...] = ()
    indexes: tuple[Any, ...] = (ORDERED, SENT, OPEN, WEIGHTS)
    derives: tuple[Any, ...] = (SUM,)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Store:
    return Store([Order, Parcel], [ORDERED, SENT, OPEN, WEIGHTS], clock=clock)


def view(store: Store, **said: Any) -> View:
    answers = Answers(NOBODY, lambda item: None, lambda: 0.0)
    return View(store, Reader(**said), answers)  # type: ignore[arg-type]


_versions = iter(range(1, 10**9))


def order(store: Store, name: str, of: str = "", weight: int = 0) -> None:
    meta = Meta(name=name, namespace="ns", uid=name, resource_version=str(next(_versions)))
    store.put(Order, Order(metadata=meta, of=of, weight=weight))


def parcel(store: Store, name: str, of: str = "") -> None:
    meta = Meta(name=name, namespace="ns", uid=name, resource_version=str(next(_versions)))
    store.put(Parcel, Parcel(metadata=meta, of=of))


def gone(store: Store, kind: type[Any], name: str) -> None:
    store.remove(kind, Key("ns", name), str(next(_versions)))


def test_values_are_kept_of_those_that_have_one(store: Store) -> None:
    order(store, "a", weight=3)
    order(store, "b")
    assert view(store).values(WEIGHTS) == {Key("ns", "a"): 3}
    order(store, "a")
    order(store, "b", weight=4)
    assert view(store).values(WEIGHTS) == {Key("ns", "b"): 4}
    gone(store, Order, "b")
    assert view(store).values(WEIGHTS) == {}


def test_an_object_that_cannot_be_read_has_no_value() -> None:
    def value(held: Order) -> int:
        raise ValueError

    bad: Index[Order] = Index(Order, value=value)
    store = Store([Order], [bad])
    order(store, "a", weight=1)
    assert store.indexed(bad).values == {}


def test_what_is_promised_and_not_there_yet(store: Store) -> None:
    assert view(store).without(OPEN) == Total(0, 0)
    order(store, "a", "x", 3)
    order(store, "b", "y", 4)
    assert view(store).without(OPEN) == Total(2, Amounts(cpu=7))
    parcel(store, "p", "x")
    parcel(store, "q", "x")
    assert view(store).without(OPEN) == Total(1, Amounts(cpu=4))
    gone(store, Parcel, "p")
    assert view(store).without(OPEN) == Total(1, Amounts(cpu=4)), "there is another"
    gone(store, Parcel, "q")
    assert view(store).without(OPEN) == Total(2, Amounts(cpu=7))


def test_an_assumed_write_counts_at_once(store: Store) -> None:
    meta = Meta(name="a", namespace="ns")
    store.assume(Order, Order(metadata=meta, of="x", weight=9))
    assert view(store).without(OPEN) == Total(1, Amounts(cpu=9))
    store.withdraw(Order, Key("ns", "a"))
    assert view(store).without(OPEN) == Total(0, NOTHING)


Change = tuple[str, str, str, int]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["order", "parcel", "no order", "no parcel"]),
            st.sampled_from("abc"),
            st.sampled_from(["", "x", "y"]),
            st.integers(0, 3),
        )
    )
)
def test_it_is_what_the_definition_says(changes: list[Change]) -> None:
    store = Store([Order, Parcel], [ORDERED, SENT, OPEN, WEIGHTS])
    orders: dict[str, tuple[str, int]] = {}
    parcels: dict[str, str] = {}
    for what, name, of, weight in changes:
        match what:
            case "order":
                order(store, name, of, weight)
                orders[name] = of, weight
            case "parcel":
                parcel(store, name, of)
                parcels[name] = of
            case "no order":
                gone(store, Order, name)
                orders.pop(name, None)
            case _:
                gone(store, Parcel, name)
                parcels.pop(name, None)
        open_words = {of for of, _ in orders.values() if of} - set(parcels.values())
        weights = [weight for of, weight in orders.values() if of in open_words]
        total = view(store).without(OPEN)
        assert total.count == len(open_words)
        assert (total.amount or {}).get("cpu", 0) == sum(weights)


def test_it_is_made_once_and_anew_only_when_something_has_changed(store: Store, clock: Clock) -> None:
    seen = view(store)
    order(store, "a", weight=3)
    assert (seen.derived(SUM), seen.derived_in(SUM)) == (3, None)
    clock.now += 60
    order(store, "a", "elsewhere", weight=3)
    assert seen.derived_in(SUM) is None, "what it is made from has not changed"
    order(store, "b", weight=4)
    assert seen.derived_in(SUM) == 0.0
    assert (seen.derived(SUM), seen.derived_in(SUM)) == (7, None)


def test_it_is_not_made_more_often_than_it_may_be(store: Store, clock: Clock) -> None:
    seen = view(store)
    assert seen.derived_in(SUM) is None, "nobody has asked yet"
    assert seen.derived(SUM) == 0
    order(store, "a", weight=3)
    clock.now += 2
    assert (seen.derived(SUM), seen.derived_in(SUM)) == (0, 3.0)
    clock.now += 3
    assert (seen.derived(SUM), seen.derived_in(SUM)) == (3, None)


def test_what_comes_out_the_same_is_the_same_object(store: Store, clock: Clock) -> None:
    def names(world: Snapshot, before: Mapping[str, int] | None) -> Mapping[str, int]:
        return {"heavy": sum(weight > 2 for weight in world.values(WEIGHTS).values())}

    heavy: Derived[Mapping[str, int]] = Derived("the heavy", (WEIGHTS,), names)
    seen = view(store, derives=(heavy,))
    first = seen.derived(heavy)
    order(store, "a", weight=1)
    assert seen.derived(heavy) is first
    order(store, "a", weight=5)
    assert seen.derived(heavy) == {"heavy": 1}


def test_it_reads_only_what_it_is_declared_to_be_made_from(store: Store) -> None:
    def reads(world: Snapshot, before: None) -> None:
        world.total(ORDERED, "x")

    curious: Derived[None] = Derived("the curious", (WEIGHTS,), reads)
    with pytest.raises(UndeclaredRead, match="the curious"):
        view(store, derives=(curious,)).derived(curious)


def test_who_does_not_declare_it_does_not_read_it(store: Store) -> None:
    stranger = view(store, indexes=(), derives=())
    for read in (
        lambda: stranger.derived(SUM),
        lambda: stranger.derived_in(SUM),
        lambda: stranger.without(OPEN),
        lambda: stranger.values(WEIGHTS),
    ):
        with pytest.raises(UndeclaredRead):
            read()
