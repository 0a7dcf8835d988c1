"""The simulator's model of an API server answers as a real one does: the same requests are played to both.

The real one is of its own, without controllers: nobody but the player writes. ``VDCOS_RECORD=1`` writes down what it
answers to the catalogue; the unit tests play the model against that.
"""

import contextlib
import os
from collections.abc import Iterator

import pytest

from devcluster.cluster import Cluster
from tests.conformance import recording
from tests.conformance.accepted import ACCEPTED, Tally
from tests.conformance.catalogue import catalogue
from tests.conformance.generated import generated
from tests.conformance.play import Model, Outcome, Play, differences, play
from tests.conformance.real import Real, connected, some_space

SPACE = "c-00000000"
SEEDS = int(os.environ.get("VDCOS_SEEDS", "100"))
BATCH = 25


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    directory = tmp_path_factory.mktemp("bare")
    with (
        Cluster.running(hosts=0, directory=directory, bare=True) as cluster,
        contextlib.closing(connected(cluster)) as connection,
    ):
        yield connection


@pytest.fixture(scope="module")
def answered(real: Real) -> list[tuple[Play, list[Outcome]]]:
    """What the API server says to the catalogue."""
    return [(sequence, played(sequence, real)) for sequence in catalogue()]


def played(sequence: Play, real: Real) -> list[Outcome]:
    space = some_space()
    real.namespace(space)
    return play(sequence, real, space)


def test_the_recording_is_what_the_api_server_answers(answered: list[tuple[Play, list[Outcome]]]) -> None:
    if os.environ.get("VDCOS_RECORD"):
        recording.FILE.write_text(recording.written(answered))
    recorded = recording.recorded(sequence for sequence, _ in answered)
    for (sequence, outcomes), (_, before) in zip(answered, recorded, strict=True):
        drifted = list(differences(sequence, outcomes, before))
        assert not drifted, f"{sequence.name}: VDCOS_RECORD=1 writes it down:\n" + "\n".join(drifted)


def test_the_model_answers_the_catalogue_as_the_api_server(answered: list[tuple[Play, list[Outcome]]]) -> None:
    tally = Tally()
    for sequence, outcomes in answered:
        tally.count(sequence, differences(sequence, outcomes, play(sequence, Model(SPACE), SPACE)))
    print(tally)
    assert not tally.wrong, "\n".join(tally.wrong)
    assert tally.accepted.keys() == {each.why for each in ACCEPTED}, "what is accepted must still be there"


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_the_model_answers_generated_sequences_as_the_api_server(real: Real, first: int) -> None:
    """``VDCOS_SEEDS=5000`` plays more of them."""
    tally = Tally()
    for sequence in generated(range(first, min(first + BATCH, SEEDS))):
        tally.count(sequence, differences(sequence, played(sequence, real), play(sequence, Model(SPACE), SPACE)))
    print(tally)
    assert not tally.wrong, "\n".join(tally.wrong)
