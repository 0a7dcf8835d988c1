"""The simulator itself: it finds what is broken, its short cuts hide nothing, and its runs can be repeated."""

import pytest

from vdcos.core.plan import Instant, Plan
from vdcos.runtime.engine import Outcome
from vdcos.runtime.queue import Item, Queue
from vdcos.testing import replica
from vdcos.testing.drivers import Case, Explorer, by_name, shrink
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


def never_tries_again(queue: Queue, item: Item, outcome: Outcome, now: float) -> None:
    """A bug: what failed is taken for done."""
    queue.done(item, now, outcome.after)


def test_merging_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a bug in place, the same faults fail whether paths are cut short or gone to their ends."""
    monkeypatch.setattr(replica, "land", never_tries_again)
    chosen = [("conflict", "none"), ("lost after", "late"), ("crash after", "none"), ("touched", "rewound")]
    chosen += [("failed", "late"), ("unavailable", "late"), ("gateway", "silent"), ("lost after", "silent")]
    fast = Explorer(by_name("create")).explore(chosen)
    slow = Explorer(by_name("create"), merge=False).explore(chosen)
    assert fast.scenarios == slow.scenarios
    assert fast.merged > slow.merged == 0
    assert fast.failures
    assert [str(failure) for failure in fast.failures] == [str(failure) for failure in slow.failures]


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
    monkeypatch.setattr(replica, "land", never_tries_again)
    case = Case("create", 5, (), ((2, "conflict", "none"), (9, "none", "late"), (12, "none", "repeated")))
    with pytest.raises(Violation):
        case.run()
    small = shrink(case)
    assert small.faults == ((2, "conflict", "none"),)
    assert small.dice is None
