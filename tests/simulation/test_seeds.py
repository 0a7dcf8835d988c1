"""Random runs: other orders, delays, several faults, and steps at any time. And those that broke a law once."""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from vdcos.testing.drivers import Case, Report, shrink
from vdcos.testing.hostdrivers import HostCase, case
from vdcos.testing.replica import Violation

FAILED = Path(__file__).with_name("failed-cases.jsonl")
"""Runs that broke a law once, one a line, with all that they depend on. They run for ever."""
BATCHES = 20
SEEDS = 25
"""Per batch, in `make test`; `make sim` runs as many as there is time for."""

Count = Callable[[Report, float], None]


class Kept(msgspec.Struct, forbid_unknown_fields=True):
    """A line: the law, what was found in words, and the run."""

    law: str
    found: str
    case: msgspec.Raw


KEPT = [msgspec.json.decode(line, type=Kept) for line in FAILED.read_text().splitlines()]


@pytest.mark.parametrize("batch", range(BATCHES))
def test_seeds(batch: int, count: Count) -> None:
    began = time.process_time()
    for seed in range(batch * SEEDS, (batch + 1) * SEEDS):
        try:
            Case.of(seed).run()
        except Violation as violation:
            pytest.fail(f"seed {seed}: {violation}\nto be kept in {FAILED.name}: {shrink(Case.of(seed)).text}")
    count(Report(SEEDS, distinct=SEEDS), time.process_time() - began)


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.found)
def test_what_failed_once(kept: Kept) -> None:
    case(bytes(kept.case).decode()).run()


@pytest.mark.parametrize("kind", [Case, HostCase])
def test_a_case_says_all_that_a_run_depends_on(kind: type[Case]) -> None:
    for seed in range(200):
        known = kind.of(seed)
        assert case(known.text) == known


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"scenario":"create","faults":[[3,"no such thing","none"]]}', "no fault no such thing"),
        ('{"scenario":"create","faults":[[3,"none","no such view"]]}', "no fault no such view"),
        ('{"scenario":"create","troubles":[[1.0,"no such trouble",2.0]]}', "no fault no such trouble"),
        ('{"scenario":"no such scenario"}', "no scenario 'no such scenario'"),
    ],
)
def test_a_case_that_means_nothing_any_more_does_not_pass(text: str, what: str) -> None:
    with pytest.raises(LookupError, match=what):
        case(text)


def test_a_run_is_made_smaller_by_the_law_that_it_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another law that a smaller run breaks is another failure."""

    def run(self: Case) -> None:
        if any(number == 1 for number, *_ in self.faults):
            raise Violation("never two", "with the first fault")
        if self.faults:
            raise Violation("convergence", "without it")

    monkeypatch.setattr(Case, "run", run)
    small = shrink(Case("create", 5, faults=((1, "conflict", "late"), (2, "failed", "none"))))
    assert broken_by(small) == "never two"
    assert [fault[0] for fault in small.faults] == [1]
    assert small.dice is None


def broken_by(run: Case) -> str:
    try:
        run.run()
    except Violation as violation:
        return violation.law
    return ""
