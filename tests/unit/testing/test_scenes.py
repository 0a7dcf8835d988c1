"""What a real cluster was seen to do in scenes can happen in the simulator's model of everybody."""

import pytest

from tests.conformance.play import Play
from tests.conformance.recording import recorded_scene
from tests.conformance.scenes import judged, runs, scenes
from tests.conformance.traces import Transition, unlike
from vdcos.testing.cluster import Cluster

SPACE = "c-00000000"
RUNS = 8


@pytest.mark.parametrize("scene", scenes(), ids=lambda scene: scene.name)
def test_what_was_recorded_can_happen(scene: Play) -> None:
    wrong = judged(scene, recorded_scene(scene), SPACE, RUNS)
    assert not wrong, "\n".join(wrong)


def scene(name: str) -> Play:
    return next(each for each in scenes() if each.name == name)


def test_a_model_that_starts_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cluster, "_create_vmi", lambda *_: None)
    switched = scene("a VM with a disk")
    assert any(": extra: vmi a " in line for line in judged(switched, recorded_scene(switched), SPACE, 1))


def test_what_must_happen_what_cannot_and_what_comes_first() -> None:
    one, two, three = (Transition("kv a", "status.phase", str(number)) for number in range(3))
    assert list(unlike([[one], [two]], [[[one], [two]], [[two], [one]]])) == []
    assert list(unlike([[one, two]], [[[one], [two]]])) == []
    assert list(unlike([[one]], [[[one], [two]]])) == [f"missing: {two}"]
    assert list(unlike([[one], [three]], [[[one], [two]], [[one]]])) == [f"extra: {three}"]
    assert list(unlike([[two], [one]], [[[one], [two]], [[one], [two]]])) == [f"order: {two} before {one}"]


def test_the_same_fact_again_is_another_transition() -> None:
    switched = runs(scene("a VM is switched on and off"), SPACE, 0)[-1]
    born = [each.time for moment in switched for each in moment if (each.of, each.value) == ("vmi a", "created")]
    assert born == [1, 2]
