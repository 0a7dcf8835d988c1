"""Differences between the model and a real API server that are known, and why they cannot matter to the operator."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.conformance.play import Play


@dataclass(frozen=True)
class Accepted:
    """A difference whose line matches the pattern."""

    why: str
    pattern: str


ACCEPTED: tuple[Accepted, ...] = (
    Accepted("CEL rules of our definitions are not evaluated.", r"^what is wrong with a VM: "),
    Accepted(
        "Other kinds have no schema: what it lacks is kept, what it demands is not asked for.",
        r"^(applied lists|an empty object is applied|a patch of a path that is not there): ",
    ),
    Accepted(
        "Two controllers of one object are not refused; the operator never writes a second one.", "^two controllers: "
    ),
    Accepted(
        "A deletion time in a patch is ignored and not refused; nobody sends one.", "^identity cannot be patched: "
    ),
    Accepted(
        "The first write to one of our objects stores its default status: a version more, and one look more.",
        r": \d+ (merge|json|apply|put) (net|ds|vm)/version: real \"grew\", model \"same\"",
    ),
    Accepted(
        "Claims: defaults and the protection finalizer. Only CDI creates claims, and the model of it makes them whole.",
        r": \d+ \w+ pvc/",
    ),
    Accepted("Namespaces: spec.finalizers, phase and label; plans read their other labels.", r": \d+ \w+ ns/"),
)


@dataclass
class Tally:
    """What was played and found. ``wrong`` are differences that nobody has accepted."""

    sequences: int = 0
    requests: int = 0
    wrong: list[str] = field(default_factory=list)
    accepted: Counter[str] = field(default_factory=Counter)

    def count(self, sequence: Play, found: Iterable[str]) -> None:
        """A sequence was played; ``found`` are its differences."""
        self.sequences += 1
        self.requests += len(sequence.steps)
        for line in found:
            line = f"{sequence.name}: {line}"
            why = next((each.why for each in ACCEPTED if re.search(each.pattern, line)), None)
            if why is None:
                self.wrong.append(line)
            else:
                self.accepted[why] += 1

    def __str__(self) -> str:
        lines = [f"{self.sequences} sequences, {self.requests} requests, {len(self.wrong)} differences; accepted:"]
        return "\n".join([*lines, *(f"{count:6} {why}" for why, count in sorted(self.accepted.items()))])
