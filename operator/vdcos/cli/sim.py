"""``vdcos sim``: replay a seed or a fault of the simulator with its trace, or run many seeds."""

import argparse
import itertools
import shlex
import sys
import time
from collections.abc import Callable

import msgspec

from vdcos.testing import drivers, hostdrivers
from vdcos.testing.failures import failures
from vdcos.testing.faults import API, CRASH, ELSEWHERE, HANGING, LEADER, OUTAGES, USER, VIEW, AtWrite, at_write
from vdcos.testing.replica import Violation
from vdcos.testing.scenarios import catalogue

Trace = list[str]


def main(chosen: argparse.Namespace) -> int:
    """Returns the exit status: 1 when a law was broken."""
    if chosen.scenario:
        return _scenario(chosen)
    if chosen.case:
        try:
            return _seed(hostdrivers.case(chosen.case), shrink=not chosen.whole)
        except (LookupError, msgspec.MsgspecError) as error:
            return _refused(f"this is no case: {error}")
    kind = hostdrivers.HostCase if chosen.hosts else drivers.Case
    if chosen.seed is not None:
        return _seed(kind.of(chosen.seed), shrink=not chosen.whole)
    return _many(kind, chosen.first, chosen.seconds)


def _scenario(chosen: argparse.Namespace) -> int:
    """One scenario with one fault at one write, judged as the exhaustive driver does; without a fault, by itself."""
    found = {scenario.name: drivers.Explorer for scenario in catalogue()}
    found |= {scenario.name: hostdrivers.HostExplorer for scenario in failures()}
    explorer = found.get(chosen.scenario)
    if explorer is None:
        return _refused(f"there is no scenario {chosen.scenario!r}; there are: {', '.join(found)}")
    hosts = explorer is hostdrivers.HostExplorer
    if not chosen.write and (chosen.api, chosen.view, chosen.then) == ("none", "none", ""):
        kind = hostdrivers.HostCase if hosts else drivers.Case
        alone = kind(chosen.scenario, None, replicas=chosen.replicas)
        return _run(chosen.scenario, lambda trace: alone.run(trace=trace))
    if problem := _unknown(chosen):
        return _refused(problem)
    fault = at_write(chosen.write, chosen.api, chosen.view, chosen.then)
    scenario = (hostdrivers if hosts else drivers).by_name(chosen.scenario)
    explored = explorer(scenario, merge=False, replicas=chosen.replicas)
    try:
        return _run(chosen.scenario, lambda trace: explored.replay(fault, trace), *fault.each)
    except LookupError as error:
        return _refused(str(error))


def _unknown(chosen: argparse.Namespace) -> str:
    """What is wrong with a fault that somebody asks for, or ""."""
    apis = (*API, *HANGING, *CRASH, *OUTAGES, *USER, *ELSEWHERE, *LEADER)
    if not chosen.write:
        return "a fault needs --write, the number of a write of the operator"
    for api in filter(None, (chosen.api, chosen.then)):
        if api not in apis:
            return f"there is no fault {api!r} of a request; there are: {', '.join(dict.fromkeys(apis))}"
    if chosen.view not in VIEW:
        return f"there is no fault {chosen.view!r} of the watches; there are: {', '.join(VIEW)}"
    if chosen.api == "paused" and chosen.replicas < 2:
        return f"{chosen.api!r} is about who leads: it needs --replicas 2"
    return ""


def _seed(case: drivers.Case, shrink: bool) -> int:
    try:
        case.run()
    except Violation:
        case = drivers.shrink(case) if shrink else case
    return _run(case.scenario, lambda trace: case.run(trace=trace), *(AtWrite(*fault) for fault in case.faults))


def _run(name: str, run: Callable[[Trace], object], *faults: AtWrite) -> int:
    """Run it, and print its trace, what went wrong with it, and what came of it. Raises LookupError."""
    trace: Trace = []
    broken = ""
    try:
        run(trace)
    except Violation as violation:
        broken = str(violation)
    print("\n".join(trace))
    for fault in faults:
        print(f"fault: {fault}")
    print(f"{name}: {broken or 'all laws hold'}")
    return 1 if broken else 0


def _many(kind: type[drivers.Case], first: int, seconds: float) -> int:
    """Seeds in order, for so many seconds; the first that breaks a law is shrunk and said how to replay."""
    end = time.monotonic() + seconds
    for seed in itertools.count(first):
        if time.monotonic() > end:
            print(f"seeds {first} to {seed - 1}: all laws hold")
            return 0
        case = kind.of(seed)
        try:
            case.run()
        except Violation as violation:
            print(f"seed {seed}: {violation}\nreplay: vdcos sim --case {shlex.quote(drivers.shrink(case).text)}")
            return 1
    return 0


def _refused(problem: str) -> int:
    print(f"vdcos: {problem}", file=sys.stderr)
    return 2
