"""The simulator's model of an API server gives the answers that a real one was recorded with."""

import pytest

from tests.conformance.accepted import ACCEPTED, Tally
from tests.conformance.catalogue import catalogue
from tests.conformance.play import Model, Play, differences, play
from tests.conformance.recording import recorded


@pytest.mark.parametrize("sequence", catalogue(), ids=lambda sequence: sequence.name)
def test_answers_are_as_recorded(sequence: Play) -> None:
    tally = Tally()
    for _, outcomes in recorded([sequence]):
        tally.count(sequence, differences(sequence, outcomes, play(sequence, Model("c-00000000"), "c-00000000")))
    assert not tally.wrong, "\n".join(tally.wrong)


def test_what_is_accepted_is_still_there() -> None:
    tally = Tally()
    for sequence, outcomes in recorded(catalogue()):
        tally.count(sequence, differences(sequence, outcomes, play(sequence, Model("c-00000000"), "c-00000000")))
    print(tally)
    assert tally.accepted.keys() == {each.why for each in ACCEPTED}
    assert tally.sequences >= 100
