"""What a real API server answered to the catalogue, a line per sequence, to hold the model to it without one."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.conformance.play import Outcome, Play
from vdcos.core import ownership

FILE = Path(__file__).parent / "recorded.jsonl"


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


def _mark(sequence: Play) -> str:
    return ownership.digest("\n".join(map(str, sequence.steps)), 16)
