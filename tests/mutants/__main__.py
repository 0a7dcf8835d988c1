"""`make mutants`: break the operator on purpose, one bug at a time, and see that the simulator's laws find each.

Usage: python -m tests.mutants [--write FILE] [WORD ...]; words choose the mutants whose bug or place has one of them.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.mutants.catalogue import MUTANTS, Mutant
from tests.mutants.probe import ALL_GOES_WELL, Order, Run, Verdict
from vdcos.testing import faults

ROOT = Path(__file__).resolve().parents[2]
BOUND = 60.0
"""Seconds of processor time for which a mutant may hide."""
AT_A_TIME = 2


class Outdated(Exception):
    """The text that a mutant replaces does not occur exactly once: the mutant needs a look."""


@dataclass(frozen=True)
class Found:
    mutant: Mutant
    line: int
    verdict: Verdict

    @property
    def caught(self) -> bool:
        return bool(self.verdict.law)

    @property
    def place(self) -> str:
        return f"{self.mutant.file}:{self.line}"

    @property
    def by(self) -> str:
        if self.verdict.error:
            return f"NOT CAUGHT, the simulator fell over it: {self.verdict.error}"
        return self.verdict.law or f"NOT CAUGHT in {self.verdict.scenarios} scenarios"

    @property
    def where(self) -> str:
        if not self.caught:
            return ""
        fault = "" if self.verdict.fault == ALL_GOES_WELL else f", {self.verdict.fault}"
        return f"{self.verdict.scenario}{fault}"


def copy(target: Path) -> None:
    """The package, and the schemas that its simulator reads. Time stamps stay, so that compiled files count."""
    shutil.copytree(ROOT / "operator" / "vdcos", target / "operator" / "vdcos")
    shutil.copytree(ROOT / "crds", target / "crds")


def mutate(package: Path, mutant: Mutant) -> int:
    """Put a bug into a copy. Returns the line. Raises Outdated."""
    file = package / mutant.file
    text = file.read_text()
    if text.count(mutant.old) != 1:
        raise Outdated(f"{mutant.file} has {text.count(mutant.old)} times, and not once: {mutant.old!r} ({mutant.bug})")
    file.write_text(text.replace(mutant.old, mutant.new))
    for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
        compiled.unlink()
    return text[: text.index(mutant.old)].count("\n") + 1


def probe(source_root: Path, order: Order) -> Verdict:
    """Run the simulator of the package below a source root, in a process of its own."""
    completed = subprocess.run(
        [sys.executable, "-m", "tests.mutants.probe"],
        cwd=ROOT,
        env={"PYTHONPATH": str(source_root), "PYTHONHASHSEED": "0"},
        input=msgspec.json.encode(order),
        stdout=subprocess.PIPE,
        check=True,
    )
    verdict = msgspec.json.decode(completed.stdout, type=Verdict)
    assert Path(verdict.package).is_relative_to(source_root), f"{verdict.package} was run instead"
    return verdict


def hunt(mutant: Mutant, seconds: float = BOUND) -> Found:
    """Run a mutant until a law is broken, in a temporary copy. Raises Outdated."""
    with tempfile.TemporaryDirectory(prefix="vdcos-mutant-") as folder:
        copy(Path(folder))
        source_root = Path(folder) / "operator"
        line = mutate(source_root / "vdcos", mutant)
        return Found(mutant, line, probe(source_root, Order(mutant.look, seconds)))


def unmutated(runs: Iterable[Run]) -> list[Verdict]:
    """The same runs with nothing changed, in two halves: they must break no law, or the table says nothing."""
    wanted = sorted(_merged(runs), key=lambda run: (run.scenario, run.seed))
    with tempfile.TemporaryDirectory(prefix="vdcos-mutant-") as folder:
        copy(Path(folder))
        names = sorted({run.scenario for run in wanted})
        halves = [tuple(run for run in wanted if names.index(run.scenario) % AT_A_TIME == n) for n in range(AT_A_TIME)]
        orders = [Order(half) for half in halves]
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            return list(pool.map(lambda order: probe(Path(folder) / "operator", order), orders))


def _merged(runs: Iterable[Run]) -> list[Run]:
    """Each once, until the latest of the writes at which it ended."""
    longest: dict[Run, int] = {}
    for run in runs:
        same = msgspec.structs.replace(run, until=0)
        before = longest.get(same, run.until)
        longest[same] = max(before, run.until) if before and run.until else 0
    return [msgspec.structs.replace(run, until=until) for run, until in longest.items()]


def table(found: Sequence[Found]) -> str:
    """For `docs/mutants.md`: what was found, without what differs from run to run."""
    lines = ["| bug | in | broken law | scenario, fault |", "|---|---|---|---|"]
    lines += [f"| {each.mutant.bug} | `{each.mutant.file}` | {each.by} | {each.where} |" for each in found]
    return "\n".join(lines)


WENT_WRONG = (
    "nothing",
    "a request",
    "a watch",
    "both",
    "the process",
    "somebody",
    "an outage",
    "a seed's",
    "a quiet day",
)
"""What goes wrong beside the bug, as columns of the second table."""


def went_wrong(run: Run) -> str:
    """Which of ``WENT_WRONG`` a run stands for."""
    if run.day >= 0:
        return "a quiet day"
    if run.seed >= 0:
        return "a seed's"
    if run.view != "none":
        return "a watch" if run.api == "none" else "both"
    kinds = {
        "nothing": ("", "none"),
        "the process": (*faults.CRASH, *faults.LEADER),
        "somebody": (*faults.USER, *faults.ELSEWHERE, "touched"),
        "an outage": tuple(faults.OUTAGES),
    }
    return next((kind for kind, words in kinds.items() if run.api in words), "a request")


def matrix(found: Sequence[Found]) -> str:
    """How many bugs each law found, by what went wrong beside them."""
    counted = Counter((each.verdict.law, went_wrong(each.verdict.runs[-1])) for each in found)
    lines = [f"| law | {' | '.join(WENT_WRONG)} |", f"|---|{'---:|' * len(WENT_WRONG)}"]
    lines += [
        f"| {law} | {' | '.join(str(counted[law, kind] or '') for kind in WENT_WRONG)} |"
        for law in sorted({law for law, _ in counted})
    ]
    return "\n".join(lines)


HEAD = """# Mutants

Deliberate bugs, and the law of the [simulator](simulator.md) that finds each first. Written by `make mutants`.

"""
MATRIX = "How many each law found first, by what went wrong beside the bug:"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--seconds", type=float, default=BOUND)
    chosen = parser.parse_args(arguments)
    mutants = [m for m in MUTANTS if not chosen.words or any(word in f"{m.file} {m.bug}" for word in chosen.words)]
    began = time.monotonic()
    found: list[Found] = []
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for each in pool.map(lambda mutant: hunt(mutant, chosen.seconds), mutants):
            found.append(each)
            print(
                f"{len(found):>3} {each.mutant.bug}\n    {each.place}\n    {each.by}: {each.where}  "
                f"({each.verdict.seconds:.1f} s)",
                flush=True,
            )
    clean = unmutated(run for each in found if each.caught for run in each.verdict.runs)
    for verdict in clean:
        if verdict.law or verdict.error:
            print(
                f"with nothing changed, {verdict.scenario}, {verdict.fault} breaks: {verdict.law}{verdict.error}: "
                f"{verdict.what}"
            )
    caught = sum(each.caught for each in found)
    well = caught == len(found) > 0 and not any(verdict.law or verdict.error for verdict in clean)
    if chosen.write and well:
        told = f"{caught} of {len(found)} caught"
        chosen.write.write_text(f"{HEAD}{table(found)}\n\n{told}. {MATRIX}\n\n{matrix(found)}\n")
    print(
        f"the same {sum(v.scenarios for v in clean):,} scenarios with nothing changed: "
        f"{'all laws hold' if not any(v.law or v.error for v in clean) else 'BROKEN'}"
    )
    print(f"{time.monotonic() - began:.0f} s")
    print(f"{caught} of {len(found)} caught")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
