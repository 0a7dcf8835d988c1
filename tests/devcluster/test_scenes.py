"""KubeVirt, CDI, the scheduler, storage and garbage collection do what the simulator's model of them does.

All scenes are played at once, each in a namespace of its own. ``VDCOS_RECORD=1`` writes down what has happened, against
which the unit tests hold the model.
"""

import contextlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from devcluster.cluster import Cluster
from tests.conformance import recording
from tests.conformance.play import Play, play
from tests.conformance.real import Real, Watcher, some_space
from tests.conformance.scenes import judged, modelled, scenes
from tests.conformance.traces import Facts, Transition, state, transitions

LONG = 120.0
QUIET = 1.0
"""Seconds in which nothing may change any more at the end of a scene."""
RUNS = 8
SPACE = "c-00000000"


def test_everybody_does_as_the_model_says(cluster: Cluster) -> None:
    """Each step of a scene ends where it ends in the model, and what happened until then can happen in the model."""
    # Models first, and alone: msgspec looks at its structs when they are first used, and not for two threads at once.
    wanted = {scene.name: _expected(scene) for scene in scenes()}
    with (
        contextlib.closing(_connected(cluster)) as watching,
        Watcher(watching) as watcher,
        ThreadPoolExecutor(len(wanted)) as pool,
    ):
        played = {scene.name: pool.submit(_played, scene, *wanted[scene.name], cluster, watcher) for scene in scenes()}
    found = {name: future.result() for name, future in played.items()}
    if os.environ.get("VDCOS_RECORD"):
        recording.SCENES.write_text(recording.written_scenes((scene, found[scene.name]) for scene in scenes()))
    wrong = [line for scene in scenes() for line in judged(scene, found[scene.name], SPACE, RUNS)]
    assert not wrong, "\n".join(wrong)


def _connected(cluster: Cluster) -> Real:
    return Real(cluster.server, cluster.token, cluster.ca)


def _expected(scene: Play) -> tuple[list[int], list[Mapping[str, Facts]]]:
    """The codes of the answers, and what is true after each step."""
    answers, happened = modelled(scene, SPACE)
    return [answer["code"] for answer in answers], [state(events) for events in happened]


def _played(
    scene: Play, codes: list[int], states: list[Mapping[str, Facts]], cluster: Cluster, watcher: Watcher
) -> list[list[Transition]]:
    space = some_space()

    def rest(number: int) -> None:
        if not watcher.until(space, lambda events: state(events) == states[number], LONG):
            there = state(watcher.events(space))
            pytest.fail(f"{scene.name}, step {number}: " + "; ".join(_differ(there, states[number])))

    with contextlib.closing(_connected(cluster)) as real:
        real.namespace(space)
        answers = play(scene, real, space, rest)
        assert [answer["code"] for answer in answers] == codes
        moved = watcher.until(space, lambda events: state(events) != states[-1], QUIET)
        assert not moved, f"{scene.name}: something changes at rest"
        events = watcher.events(space)
        real.forget(space)
    return transitions(events)


def _differ(real: Mapping[str, Facts], model: Mapping[str, Facts]) -> list[str]:
    """What is not so in both, an object each."""
    return [
        f"{name}: real {real.get(name)}, model {model.get(name)}"
        for name in sorted(real.keys() | model.keys())
        if real.get(name) != model.get(name)
    ]
