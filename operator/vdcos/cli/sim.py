"""``vdcos sim``: replay a seed or a fault of the simulator with its trace, or run many seeds."""

import argparse
import itertools
import sys
import time
from dataclasses import replace

from vdcos.testing import drivers
from vdcos.testing.faults import API, CRASH, ELSEWHERE, HANGING, LEADER, USER, VIEW, AtWrite
from vdcos.testing.replica import Violation


def main(chosen: argparse.Namespace) -> int:
    """Returns the exit status: 1 when a law was broken."""
    if chosen.scenario:
        return _fault(chosen)
    if chosen.seed is not None:
        return _seed(chosen.seed, shrink=not chosen.whole)
    return _many(chosen.first, chosen.seconds)


def _fault(chosen: argparse.Namespace) -> int:
    """One scenario with one fault at one write, judged as the exhaustive driver does; without a fault, by itself."""
    if not chosen.write and (chosen.api, chosen.view) == ("none", "none"):
        return _run(drivers.Case(chosen.scenario, None, (), (), (), chosen.replicas))
    if problem := _unknown(chosen):
        print(f"vdcos: {problem}", file=sys.stderr)
        return 2
    fault, trace, broken = AtWrite(chosen.write, chosen.api, chosen.view), list[str](), ""
    try:
        scenario = drivers.by_name(chosen.scenario)
        drivers.Explorer(scenario, merge=False, replicas=chosen.replicas).replay(fault, trace)
    except Violation as violation:
        broken = str(violation)
    except LookupError as error:
        print(f"vdcos: {error}", file=sys.stderr)
        return 2
    print("\n".join(trace))
    print(f"fault: {fault}\n{chosen.scenario}: {broken or 'all laws hold'}")
    return 1 if broken else 0


def _unknown(chosen: argparse.Namespace) -> str:
    """What is wrong with a fault that somebody asks for, or ""."""
    apis = (*API, *HANGING, *CRASH, *USER, *ELSEWHERE, *LEADER)
    if not chosen.write:
        return "a fault needs --write, the number of a write of the operator"
    if chosen.api not in apis:
        return f"there is no fault {chosen.api!r} of a request; there are: {', '.join(dict.fromkeys(apis))}"
    if chosen.view not in VIEW:
        return f"there is no fault {chosen.view!r} of the watches; there are: {', '.join(VIEW)}"
    if chosen.api in ("paused", "cut") and chosen.replicas < 2:
        return f"{chosen.api!r} is about who leads: it needs --replicas 2"
    return ""


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
