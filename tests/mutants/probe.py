"""Run the simulator until a law is broken: `python -m tests.mutants.probe`, with JSON on standard input and output.

It runs the package that `PYTHONPATH` names first, which may be a mutated copy. In is an ``Order``, out a ``Verdict``.
"""

import itertools
import sys
import time
from collections.abc import Iterator, Sequence

import msgspec

import vdcos
from tests.simulation.test_budget import BUDGETS
from tests.simulation.test_hosts import BUDGETS as HOST_BUDGETS
from vdcos.testing import hostdrivers
from vdcos.testing.drivers import Case, Explorer, by_name
from vdcos.testing.failures import failures
from vdcos.testing.faults import AtWrite, every
from vdcos.testing.replica import Violation
from vdcos.testing.scenarios import catalogue

ALL_GOES_WELL = "all goes well"


class Run(msgspec.Struct, frozen=True, omit_defaults=True):
    """A scenario with one fault at each of its writes in turn; by itself without a fault; a seed; or a day."""

    scenario: str = ""
    api: str = ""
    view: str = "none"
    replicas: int = 1
    seed: int = -1
    hosts: bool = False
    """Whether the seed is one of failures of hosts."""
    day: int = -1
    """The seed of a day on which nothing fails."""
    until: int = 0
    """The last write at which the fault strikes; 0: every one has its turn."""


class Verdict(msgspec.Struct):
    """``law`` is "" when none was broken in the time. ``runs`` are those that came to their end, and the last one until
    the write at which it broke a law."""

    package: str
    law: str = ""
    what: str = ""
    scenario: str = ""
    fault: str = ""
    scenarios: int = 0
    runs: list[Run] = []
    error: str = ""
    seconds: float = 0.0
    """Of processor time."""


class Order(msgspec.Struct):
    """What to run; and with ``seconds``, then everything else, until so much processor time is spent."""

    runs: tuple[Run, ...]
    seconds: float | None = None


def everything(first: Sequence[Run]) -> Iterator[Run]:
    """Without end, the cheapest first: every scenario, every fault (in the scenarios of ``first``, or all), seeds."""
    yield from first
    hinted = list(dict.fromkeys(run.scenario for run in first if run.scenario))
    hosts = any(run.day >= 0 for run in first) or bool(set(hinted) & HOST_BUDGETS.keys())
    names = [scenario.name for scenario in (failures() if hosts else catalogue())]
    yield from (Run(name) for name in names)
    faults = hostdrivers.every() if hosts else every()
    yield from (Run(name, api, view) for api, view in faults for name in hinted or names)
    yield from (Run(seed=seed, hosts=hosts) for seed in itertools.count())


class Prober:
    """Runs one after the other, until a law is broken."""

    def __init__(self) -> None:
        self.verdict = Verdict(vdcos.__file__)
        self._explorers: dict[tuple[str, int], Explorer] = {}
        self._write = 0
        """At which write the fault strikes that is played."""

    def probe(self, order: Order) -> Verdict:
        for run in order.runs if order.seconds is None else everything(order.runs):
            self.verdict.runs.append(run)
            try:
                self._run(run)
            except Violation as violation:
                self.verdict.law, self.verdict.what = violation.law, violation.what
                self.verdict.runs[-1] = msgspec.structs.replace(run, until=self._write)
            if self.verdict.law or (order.seconds is not None and time.process_time() > order.seconds):
                break
        self.verdict.seconds = time.process_time()
        return self.verdict

    def _run(self, run: Run) -> None:
        """Raises Violation."""
        self._write = 0
        if run.day >= 0:
            self._begin(f"day {run.day}", ALL_GOES_WELL)
            hostdrivers.uneventful_day(run.day)
            return
        if run.seed >= 0:
            case = hostdrivers.HostCase.of(run.seed) if run.hosts else Case.of(run.seed)
            self._begin(case.scenario, f"seed {run.seed}")
            case.run()
            return
        self._begin(run.scenario, ALL_GOES_WELL)
        explorer = self._explorer(run.scenario, run.replicas)
        if not run.api:
            return
        for world, numbers in explorer.points:
            for number in numbers:
                if run.until and number > run.until:
                    return
                self._write = number
                fault = AtWrite(number, run.api, run.view)
                self._begin(run.scenario, str(fault))
                explorer.run(world, fault)

    def _begin(self, scenario: str, fault: str) -> None:
        self.verdict.scenarios += 1
        self.verdict.scenario, self.verdict.fault = scenario, fault

    def _explorer(self, scenario: str, replicas: int) -> Explorer:
        """Its reference run checks the laws, and the write budget. Raises Violation."""
        found = self._explorers.get((scenario, replicas))
        if found is None:
            if scenario in HOST_BUDGETS:
                found = hostdrivers.HostExplorer(hostdrivers.by_name(scenario), replicas=replicas)
            else:
                found = Explorer(by_name(scenario), replicas=replicas)
            self._explorers[scenario, replicas] = found
            needed = HOST_BUDGETS[scenario] if scenario in HOST_BUDGETS else BUDGETS[scenario]
            if found.reference.writes > needed:
                raise Violation("write budget", f"{found.reference.writes} writes, and {needed} are needed")
        return found


def main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    prober = Prober()
    try:
        prober.probe(order)
    except Exception as error:  # noqa: BLE001  the simulator itself fell over what was changed: told, and not caught
        prober.verdict.error = f"{type(error).__name__}: {error}"
    sys.stdout.buffer.write(msgspec.json.encode(prober.verdict))


if __name__ == "__main__":
    main()
