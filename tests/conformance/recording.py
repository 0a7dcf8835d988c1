"""What a real API server and a real cluster were seen to do, a line per sequence, to hold the models to it."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import astuple
from pathlib import Path

from tests.conformance.play import Outcome, Play
from tests.conformance.traces import Transition
from vdcos.core import ownership

FILE = Path(__file__).parent / "recorded.jsonl"
SCENES = Path(__file__).parent / "scenes.jsonl"


def written(answered: Iterable[tuple[Play, list[Outcome]]]) -> str:
    """The text of a recording."""
    lines = ({"name": sequence.name, "steps": _mark(sequence), "outcomes": outcomes} for sequence, outcomes in answered)
    return "".join(json.dumps(line, separators=(",", ":"), sort_keys=True) + "\n" for line in lines)


def recorded(sequences: Iterable[Play]) -> Iterator[tuple[Play, list[Outcome]]]:
    """Sequences with what was answered to them. Raises LookupError for one that was not recorded as it is now."""
    known = {line["name"]: line for line in map(json.loads, FILE.read_text().splitlines())}
    for sequence in sequences:
        line = known.get(sequence.name)
        if line is None or line["steps"] != _mark(sequence):
            raise LookupError(f"{sequence.name} is not in {FILE.name}")
        yield sequence, line["outcomes"]


def written_scenes(played: Iterable[tuple[Play, list[list[Transition]]]]) -> str:
    """The text of a recording of scenes."""
    lines = (
        {"name": scene.name, "steps": _mark(scene), "happened": [[astuple(each) for each in moment] for moment in run]}
        for scene, run in played
    )
    return "".join(json.dumps(line, separators=(",", ":"), sort_keys=True) + "\n" for line in lines)


def recorded_scene(scene: Play) -> list[list[Transition]]:
    """What has happened in a scene. Raises LookupError for one that was not recorded as it is now."""
    known = {line["name"]: line for line in map(json.loads, SCENES.read_text().splitlines())}
    line = known.get(scene.name)
    if line is None or line["steps"] != _mark(scene):
        raise LookupError(f"{scene.name} is not in {SCENES.name}")
    return [[Transition(*each) for each in moment] for moment in line["happened"]]


def _mark(sequence: Play) -> str:
    return ownership.digest("\n".join(map(str, sequence.steps)), 16)
