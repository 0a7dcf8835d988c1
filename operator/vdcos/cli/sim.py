"""``vdcos sim``: replay a seed or a fault of the simulator with its trace, or run many seeds."""

import argparse
import itertools
import sys
import time
from dataclasses import replace

from vdcos.testing import drivers
from vdcos.testing.faults import AtWrite
from vdcos.testing.replica import Violation


def main(chosen: argparse.Namespace) -> int:
    """Returns the exit status: 1 when a law was broken."""
    if chosen.scenario:
        return _fault(chosen)
    if chosen.seed is not None:
        return _seed(chosen.seed, shrink=not chosen.whole)
    return _many(chosen.first, chosen.seconds)


def _fault(chosen: argparse.Namespace) -> int:
    """One scenario with one fault at one write; without a fault, the scenario by itself."""
    faults = ((chosen.write, chosen.api, chosen.view),) if chosen.write else ()
    return _run(drivers.Case(chosen.scenario, None, (), faults))


def _seed(seed: int, shrink: bool) -> int:
    case = drivers.Case.of(seed)
    try:
        case.run()
    except Violation:
        case = drivers.shrink(case) if shrink else case
    return _run(case)


def _run(case: drivers.Case) -> int:
    trace: list[str] = []
    broken = ""
    try:
        case.run(trace=trace)
    except Violation as violation:
        broken = str(violation)
    except LookupError as error:
        print(f"vdcos: {error}", file=sys.stderr)
        return 2
    print("\n".join(trace))
    for fault in case.faults:
        print(f"fault: {AtWrite(*fault)}")
    print(f"{case.scenario}: {broken or 'all laws hold'}")
    return 1 if broken else 0


def _many(first: int, seconds: float) -> int:
    """Seeds in order, for so many seconds; the first that breaks a law is shrunk and said how to replay."""
    end = time.monotonic() + seconds
    for seed in itertools.count(first):
        if time.monotonic() > end:
            print(f"seeds {first} to {seed - 1}: all laws hold")
            return 0
        case = drivers.Case.of(seed)
        try:
            case.run()
        except Violation as violation:
            small = replace(drivers.shrink(case))
            print(f"seed {seed}: {violation}\n{small}\nreplay: vdcos sim --seed {seed}")
            return 1
    return 0
