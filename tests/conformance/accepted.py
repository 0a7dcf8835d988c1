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
        "Claims: defaults and the protection finalizer. Only CDI creates claims, and the model of it makes them whole.",
        r": \d+ \w+ pvc/",
    ),
    Accepted(
        "A default of KubeVirt's own schema, printableStatus. KubeVirt always says one, and no plan reads it.",
        ' kv/(object|items/.*)/status/printableStatus: real "Stopped", model null$',
    ),
    Accepted(
        "Who applies to an object that nobody owns anything of makes a manager of what was there before. "
        "Fields of an object are always somebody's, and those of the simulator's own objects nobody fights for.",
        r"/managers/before-first-apply Update: real ",
    ),
    Accepted("Namespaces: spec.finalizers, phase and label; plans read their other labels.", r": \d+ \w+ ns/"),
)


SCENES: tuple[Accepted, ...] = (
    Accepted(
        "Claims have no protection finalizer in the model: one that goes is gone at once.",
        r": extra: pvc \w+ metadata\.deleting=true$",
    ),
    Accepted(
        "KubeVirt goes on to write the status of a VM that is being deleted. Nothing is decided by it any more.",
        r": extra: kv \w+ status\.desiredGeneration=\d+$",
    ),
    Accepted(
        "KubeVirt notes a new generation of a VM in its instance when the template is the same, even as it stops it. "
        "It only spares plans a comparison.",
        r": extra: vmi \w+ metadata\.annotations\.kubevirt\.io/vm-generation=",
    ),
    Accepted(
        "CDI now and then trips over its own writes, says so, and tries again. In the model every import succeeds.",
        r": (extra|missing|order): .*dv \w+ trouble=",
    ),
    Accepted(
        "How many of the steps of an import are seen is chance.",
        r': (missing|extra): dv \w+ stage=("InProgress"|null)$',
    ),
)
"""Differences between what everybody does in the model and in a real cluster; which of them show is chance."""


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
