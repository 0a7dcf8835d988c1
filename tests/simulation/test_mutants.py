"""The mutation table's machinery on a few mutants; `make mutants` runs all of them."""

import pytest

from tests.mutants.__main__ import ROOT, Outdated, hunt
from tests.mutants.catalogue import MUTANTS, Mutant
from tests.mutants.probe import Run

SAMPLE = (
    "The failure of an action is taken for success",
    "A write begins without the right to it",
    "The status is written although it says the same",
    "A namesake that was made a moment ago is taken over",
    "All NICs are on the first network",
    "Addresses stay when a VM is powered off",
    "Others' finalizers go with ours",
    "A back-off grows up to 25 minutes",
)


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.bug in SAMPLE], ids=lambda mutant: mutant.bug)
def test_a_mutant_is_caught(mutant: Mutant) -> None:
    found = hunt(mutant)
    assert found.caught, found.by


def test_the_sample_is_in_the_table() -> None:
    assert {mutant.bug for mutant in MUTANTS} >= set(SAMPLE)


def test_a_change_that_breaks_no_law_is_not_caught() -> None:
    harmless = Mutant("No bug", "core/conditions.py", "# A message is cut", "# A word is cut", (Run("create"),))
    found = hunt(harmless, seconds=0.0)
    assert found.verdict.scenarios > 0
    assert not found.caught


def test_a_simulator_that_falls_over_has_caught_nothing() -> None:
    broken = Mutant("No syntax", "testing/laws.py", "RESYNCS = 10", "RESYNCS = None", (Run("create"),))
    found = hunt(broken, seconds=0.0)
    assert "TypeError" in found.verdict.error
    assert not found.caught


@pytest.mark.parametrize("text", ["no such text", "import"])
def test_a_mutant_whose_text_does_not_occur_once_is_an_error(text: str) -> None:
    with pytest.raises(Outdated):
        hunt(Mutant("Outdated", "core/conditions.py", text, ""))


def test_every_mutant_has_its_place() -> None:
    for mutant in MUTANTS:
        text = (ROOT / "operator" / "vdcos" / mutant.file).read_text()
        assert text.count(mutant.old) == 1, f"{mutant.bug}: {mutant.file} changed there; adapt the mutant, or drop it"
        assert mutant.new != mutant.old


def test_the_table_is_long_and_each_bug_is_told_once() -> None:
    assert len({mutant.bug for mutant in MUTANTS}) == len(MUTANTS) >= 30
