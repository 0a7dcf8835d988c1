"""The simulator itself: it finds what is broken, its short cuts hide nothing, and its runs can be repeated."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from vdcos.core.objects import Stored
from vdcos.core.plan import Instant, Plan
from vdcos.runtime.engine import Conversation, Engine
from vdcos.runtime.queue import Item, Queue
from vdcos.runtime.store import Store
from vdcos.testing import replica
from vdcos.testing.drivers import Case, Explorer, by_name, shrink
from vdcos.testing.faults import OUTAGE, AtWrite, outages
from vdcos.testing.laws import Laws
from vdcos.testing.memo import Impure, Memo
from vdcos.testing.replica import Violation


def test_a_run_can_be_repeated() -> None:
    first: list[str] = []
    second: list[str] = []
    Case.of(3).run(trace=first)
    Case.of(3).run(trace=second)
    assert first == second
    assert any("Ready=True" in line for line in first)


def test_a_fork_goes_its_own_way() -> None:
    world = by_name("create").world(laws=Laws())
    while world.carried_out < 5:
        world.step()
    twin = world.fork()
    before = world.api.mark, world.now, world.carried_out
    while twin.step():
        pass
    assert (world.api.mark, world.now, world.carried_out) == before
    while world.step():
        pass
    assert world.api.mark == twin.api.mark


# Bugs that need a fault to show, each in something else that a process remembers


def never_tries_again(patch: pytest.MonkeyPatch) -> None:
    """What failed is taken for done."""
    patch.setattr(replica, "land", lambda queue, item, outcome, now: queue.done(item, now, outcome.after))


def resets_an_index(patch: pytest.MonkeyPatch) -> None:
    """A kind that is listed again begins with empty indexes, and what it has is not entered."""
    replace = Store.replace

    def resetting(store: Store, kind: type[Any], listed: Iterable[Stored], resource_version: str) -> None:
        again = store.known(kind)
        replace(store, kind, listed, resource_version)
        for indexed in store.shelf(kind).indexes if again else ():
            indexed.keys, indexed.amounts, indexed._entered = {}, {}, {}

    patch.setattr(Store, "replace", resetting)


def counts_twice(patch: pytest.MonkeyPatch) -> None:
    """Of a kind that is listed again, all amounts are added once more."""
    replace = Store.replace

    def drifting(store: Store, kind: type[Any], listed: Iterable[Stored], resource_version: str) -> None:
        again = store.known(kind)
        replace(store, kind, listed, resource_version)
        for indexed in store.shelf(kind).indexes if again else ():
            indexed.amounts = {word: amount + amount for word, amount in indexed.amounts.items()}

    patch.setattr(Store, "replace", drifting)


def assumes_for_ever(patch: pytest.MonkeyPatch) -> None:
    """What was assumed of a write that may have happened is never withdrawn."""
    reconcile = Engine.reconcile

    def assuming(engine: Engine, item: Item) -> Conversation:
        engine._unsure.pop(item, None)
        return reconcile(engine, item)

    patch.setattr(Engine, "reconcile", assuming)


def does_not_wake_up(patch: pytest.MonkeyPatch) -> None:
    """What happens to an object that is being looked at is forgotten."""
    add = Queue.add

    def deaf(queue: Queue, item: Item, due: float) -> None:
        if item not in queue._in_flight:
            add(queue, item, due)

    patch.setattr(Queue, "add", deaf)


def loses_a_timer(patch: pytest.MonkeyPatch) -> None:
    """An object that has failed is said to be due, and is not in the heap."""
    failed = Queue.failed

    def losing(queue: Queue, item: Item, now: float, at_least: float = 0.0) -> None:
        failed(queue, item, now, at_least)
        queue._heap = [entry for entry in queue._heap if entry[2] != item]

    patch.setattr(Queue, "failed", losing)


BUGS = (never_tries_again, resets_an_index, counts_twice, assumes_for_ever, does_not_wake_up, loses_a_timer)
FAULTS = [
    ("conflict", "none"), ("lost after", "late"), ("crash after", "none"), ("touched", "rewound"), ("failed", "late"),
    ("none", "expired"), ("gateway", "silent"), ("lost after", "silent"), ("overtaken", "none"),
]  # fmt: skip


PLACES = [("create", bug) for bug in BUGS] + [("delete", resets_an_index), ("delete", loses_a_timer)]


@pytest.mark.parametrize(("name", "bug"), PLACES, ids=lambda value: getattr(value, "__name__", value))
def test_merging_hides_nothing(name: str, bug: Callable[[pytest.MonkeyPatch], None]) -> None:
    """With a bug in place, the same faults fail whether paths are cut short or gone to their ends."""
    with pytest.MonkeyPatch.context() as patch:
        bug(patch)
        fast = Explorer(by_name(name)).explore(FAULTS)
        slow = Explorer(by_name(name), merge=False).explore(FAULTS)
    assert fast.scenarios == slow.scenarios
    assert fast.merged > slow.merged == 0
    assert fast.distinct == slow.distinct
    assert fast.failures
    assert [str(failure) for failure in fast.failures] == [str(failure) for failure in slow.failures]


def test_what_nobody_finds_out_any_more_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is assumed in an outage is booked on an object that nobody looks at."""
    reconcile = Engine.reconcile

    def leaking(engine: Engine, item: Item) -> Conversation:
        if known := engine._unsure.get(item):
            engine._unsure.setdefault(item._replace(service="nobody"), []).extend(known)
        return reconcile(engine, item)

    monkeypatch.setattr(Engine, "reconcile", leaking)
    found = Explorer(by_name("create")).explore(outages())
    assert any("will never know" in failure.violation.what for failure in found.failures)


def test_an_outage_lasts_and_ends() -> None:
    for outage, view in outages():
        trace: list[str] = []
        Explorer(by_name("create")).replay(AtWrite(3, outage, view), trace)
        refused = [float(line[:9]) for line in trace if "refused" in line]
        assert len(refused) > 3, outage
        assert refused[-1] - refused[0] > OUTAGE / 2, outage
        assert any("Ready=True" in line for line in trace), outage


def test_a_plan_that_depends_on_anything_else_is_impure() -> None:
    class Fickle:
        name, resource, kind, needed = "fickle", None, None, ()
        watches, indexes, writes = (), (), ()

        def __init__(self) -> None:
            self.calls = 0

        def observe(self, key: object, world: object) -> str:
            return "nothing"

        def plan(self, cr: object, seen: object, now: object) -> Plan:
            self.calls += 1
            return Plan(after=float(self.calls))

    memo = Memo(Fickle())  # type: ignore[arg-type]
    node = memo.observe(None, None)  # type: ignore[arg-type]
    with pytest.raises(Impure):
        memo.plan(None, node, Instant(0.0, 0.0))


def test_a_broken_law_is_found_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    never_tries_again(monkeypatch)
    case = Case("create", 5, (), ((2, "conflict", "none"), (9, "none", "late"), (12, "none", "repeated")))
    with pytest.raises(Violation):
        case.run()
    small = shrink(case)
    assert small.faults == ((2, "conflict", "none"),)
    assert small.dice is None
