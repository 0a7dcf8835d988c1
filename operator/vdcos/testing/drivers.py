"""Three ways through the same laws: every single fault at every write, seeds, and Hypothesis' rules (in the tests)."""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar

import msgspec

from vdcos.testing.faults import (
    API,
    CRASH,
    ELSEWHERE,
    HANGING,
    LEADER,
    OUTAGES,
    TROUBLES,
    USER,
    VIEW,
    AtWrite,
    AtWrites,
    Several,
    Trouble,
    at_write,
    every,
)
from vdcos.testing.laws import LONGEST, MOST_STEPS, Laws
from vdcos.testing.replica import TICK, Violation
from vdcos.testing.scenarios import Scenario, catalogue
from vdcos.testing.simulator import START, Dice, Do, World, continued, rest

SLACK = 6
"""Writes that one fault may cost: what was half done is done again, and what was said in between is said anew."""
SLACK_OF_EDITS = 16
"""Writes that an edit of each VirtualMachine may cost, with taking it back."""


@dataclass(frozen=True, slots=True)
class End:
    """How the path from a known state goes on: writes until the last rest, a hash of the state there, and what the
    operator goes through on the way (a hash, and of how many events)."""

    writes: int
    essence: int
    story: int = 0
    length: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    scenario: str
    fault: AtWrites
    violation: Violation
    replicas: int = 1

    def __str__(self) -> str:
        first, *more = self.fault.each
        which = f'--scenario "{self.scenario}" --write {first.number}'
        how = f'--api "{first.api}" --view "{first.view}"' + "".join(f' --then "{fault.api}"' for fault in more)
        how += f" --replicas {self.replicas}" if self.replicas > 1 else ""
        return f"{self.scenario}: {self.fault}: {self.violation}\n  replay: vdcos sim {which} {how}"


@dataclass
class Report:
    """``merged`` counts the scenarios that met a state whose remainder was known; ``distinct`` those in which the
    operator went through something else, or at another time, than in all others and without a fault."""

    scenarios: int = 0
    merged: int = 0
    distinct: int = 0
    steps: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    """In how many scenarios each went wrong."""
    failures: list[Failure] = field(default_factory=list)


class Explorer:
    """One scenario of the catalogue, all its single faults.

    A path that comes to a state which is known to end well, with all laws checked on the way, ends there.
    """

    new_laws: Callable[[], Laws] = Laws

    def __init__(self, scenario: Scenario, merge: bool = True, replicas: int = 1) -> None:
        self.scenario = scenario
        self.replicas = replicas
        self.laws = self.new_laws()
        self.known: dict[int, End] = {}
        self.merge = merge
        self.report = Report()
        self.points: list[tuple[World, range]] = []
        """Worlds right before a look that makes writes, and the numbers of those."""
        self.stories: set[int] = set()
        self.reference = self._reference()

    def _reference(self) -> End:
        world = self.scenario.world(self.replicas, laws=self.laws)
        return self._run(world, snapshots=True)

    def explore(self, faults: Sequence[tuple[str, ...]] | None = None, part: tuple[int, int] = (0, 1)) -> Report:
        """Every fault at every write; of several parts, one: at the next write it has the faults that follow. A fault
        is said as ``faults.at_write`` takes it."""
        for world, fault in list(self._cases(faults if faults is not None else every(), *part)):
            self.report.scenarios += 1
            self.report.faults.update({word for each in fault.each for word in (each.api, each.view)} - {"none"})
            try:
                self.run(world, fault)
            except Violation as violation:
                self.report.failures.append(Failure(self.scenario.name, fault, violation, self.replicas))
        self.report.distinct = len(self.stories) - 1
        return self.report

    def _cases(self, faults: Sequence[tuple[str, ...]], part: int, parts: int) -> Iterator[tuple[World, AtWrites]]:
        for world, numbers in self.points:
            for number in numbers:
                for words in faults[(part + number) % parts :: parts]:
                    yield world, at_write(number, *words)

    def replay(self, fault: AtWrites, trace: list[str]) -> End:
        """One path, from right before the look that makes the write; nothing is merged, so it goes to its end. Raises
        Violation, and LookupError when the scenario without a fault has no such write."""
        first = fault.each[0].number
        starts = [world for world, numbers in self.points if first in numbers]
        if not starts:
            raise LookupError(f"{self.scenario.name!r} has no write {first} of the operator")
        return self.run(starts[0], fault, trace)

    def run(self, start: World, fault: AtWrites, trace: list[str] | None = None) -> End:
        """One path: from a world, with a fault. Raises Violation."""
        world = start.fork()
        world.faults = fault.fork()
        world.trace = trace
        first = world.carried_out
        try:
            end = self._run(world)
        finally:
            world.close()
        if self._leads_elsewhere(fault):
            return end
        writes = end.writes - self.reference.writes + first
        if writes > sum(map(self._slack, fault.each)):
            raise Violation("write budget", f"{writes} writes more than without the fault")
        if end.essence != self.reference.essence:
            raise Violation("history independence", "it ends in another state than without the fault")
        return end

    def _leads_elsewhere(self, fault: AtWrites) -> bool:
        return fault.leads_elsewhere

    def _slack(self, fault: AtWrite) -> int:
        """Writes that it may cost."""
        return SLACK_OF_EDITS if fault.api in USER else SLACK

    def _run(self, world: World, snapshots: bool = False) -> End:
        """Go on to the end, or to a known state. With snapshots, keep a fork of the world before each look that writes.
        Returns the writes from here on, and the story from the very beginning."""
        began, first, steps = world.now, world.carried_out, 0
        path: list[tuple[int, int, int, int]] = []
        end: End | None = None
        while end is None:
            due, acting = following = world.next()
            if world.faults.over and (
                due == math.inf or math.floor(due / TICK + 1e-6) > math.floor(world.now / TICK + 1e-6)
            ):
                mark = world.mark() if self.merge else None
                if mark is not None:
                    number = hash(mark)
                    known = self.known.get(number)
                    if known is not None:
                        self.report.merged += 1
                        end = known
                        break
                    path.append((number, world.carried_out, world.story, world.length))
            if due == math.inf:
                essence = self.laws.at_rest(world)
                if world.done == len(world.script):
                    if not world.faults.leads_elsewhere:
                        self.scenario.check(world)
                    end = End(0, essence)
                    break
            attempts, twin = world.attempts, None
            if snapshots and acting is not None and not acting.talking:
                twin = world.fork()
            world.step(following)
            if due == math.inf:
                began = world.now
            if twin is not None and world.attempts > attempts:
                self.points.append((twin, range(attempts + 1, world.attempts + 1)))
            steps += 1
            if steps > MOST_STEPS or world.now - began > LONGEST:
                raise Violation("convergence", f"no rest within {world.now - began:.0f} s and {steps} steps")
        self.report.steps += steps
        writes, length = world.carried_out + end.writes, world.length + end.length
        story = continued(world.story, end.story, end.length)
        for number, before, beginning, events in path:
            left = length - events
            self.known[number] = End(writes - before, end.essence, rest(story, beginning, left), left)
        self.stories.add(story)
        return End(writes - first, end.essence, story, length)


# Seeds


@dataclass(frozen=True)
class Case:
    """One run: a scenario, the dice that order it, when its steps are taken (nothing: at rest), and what goes wrong."""

    words: ClassVar[frozenset[str]] = frozenset(
        (*API, *HANGING, *CRASH, *USER, *ELSEWHERE, *LEADER, *OUTAGES, *VIEW, *TROUBLES)
    )

    scenario: str
    dice: int | None = None
    hurry: tuple[float, ...] = ()
    faults: tuple[tuple[int, str, str], ...] = ()
    troubles: tuple[tuple[float, str, float], ...] = ()
    """When, what (``faults.Trouble``), and for how many seconds."""
    replicas: int = 1

    @classmethod
    def of(cls, seed: int) -> "Case":
        """The run that a seed stands for."""
        rng = random.Random(seed)  # noqa: S311  not for secrets
        scenario = rng.choice(catalogue())
        hurry: list[float] = []
        if rng.random() < 0.5:
            at = START
            for _ in scenario.steps:
                at += rng.choice((0.0, 0.3, 2.0, 10.0)) * rng.random()
                hurry.append(round(at, 3))
        faults = sorted(
            (rng.randrange(1, 30), rng.choice((*API, *HANGING, *CRASH, *USER, *OUTAGES)), rng.choice(VIEW))
            for _ in range(rng.randrange(5))
        )
        troubles = [
            (round(rng.random() * 30, 3), rng.choice(TROUBLES), rng.choice((1.0, 6.0, 20.0)))
            for _ in range(max(0, rng.randrange(5) - 2))
        ]
        replicas = rng.choice((1, 1, 2))
        dice = rng.randrange(1 << 30)
        return cls(scenario.name, dice, tuple(hurry), tuple(faults), tuple(troubles), replicas)

    @classmethod
    def read(cls, text: str) -> "Case":
        """A case as ``text`` gave it. Raises msgspec.MsgspecError, and LookupError for a word that means nothing any
        more: a case whose fault does not happen would pass for ever."""
        case = msgspec.json.decode(text, type=cls)
        words = {*(api for _, api, _ in case.faults), *(view for _, _, view in case.faults)}
        words |= {kind for _, kind, _ in case.troubles}
        if unknown := words - cls.words:
            raise LookupError(f"there is no fault {', '.join(sorted(unknown))}")
        case.find()
        return case

    @property
    def text(self) -> str:
        """Everything that the run depends on, as JSON in one line; what is as usual is left out."""
        said = {each.name: value for each in fields(self) if (value := getattr(self, each.name)) != each.default}
        return msgspec.json.encode(said).decode()

    def find(self) -> Scenario:
        """Its scenario. Raises LookupError."""
        return by_name(self.scenario)

    def world(self, laws: Laws, trace: list[str] | None = None) -> World:
        scenario = by_name(self.scenario)
        chance = None if self.dice is None else Dice(self.dice)
        world = scenario.world(self.replicas, laws=laws, chance=chance, trace=trace)
        world.hurry = self.hurry
        for at, kind, seconds in self.troubles:
            world.at(at, Do(Trouble(kind, seconds)))
        world.faults = Several(tuple(AtWrite(*fault) for fault in self.faults))
        return world

    def run(self, laws: Laws | None = None, trace: list[str] | None = None) -> World:
        """Run it to its end, with all laws. Raises Violation."""
        laws = laws or Laws()
        world = self.world(laws, trace)
        began, steps = world.now, 0
        while True:
            rests = world.next()[0] == math.inf
            if rests and (world.done >= len(world.hurry) or world.hurry[world.done] == math.inf):
                laws.at_rest(world)
                if world.done == len(world.script):
                    break
            world.step()
            if rests:
                began = world.now
            steps += 1
            if steps > MOST_STEPS or world.now - began > LONGEST:
                raise Violation("convergence", f"no rest within {world.now - began:.0f} s and {steps} steps")
        if not self.hurry:
            by_name(self.scenario).check(world)
        return world


def broken(case: Case) -> str:
    """The law that a case breaks, or ""."""
    try:
        case.run()
    except Violation as violation:
        return violation.law
    return ""


def shrink(case: Case) -> Case:
    """A smaller case that breaks the same law: without faults, dice and hurry that it does not need."""
    law, smaller = broken(case), True
    if not law:
        return case
    while smaller:
        smaller = False
        candidates = [replace(case, faults=case.faults[:n] + case.faults[n + 1 :]) for n in range(len(case.faults))]
        for n, (number, api, view) in enumerate(case.faults):
            less = {(number, "none", view), (number, api, "none")} - {case.faults[n], (number, "none", "none")}
            candidates += [replace(case, faults=(*case.faults[:n], each, *case.faults[n + 1 :])) for each in less]
        candidates += [replace(case, dice=None)] if case.dice is not None else []
        candidates += [replace(case, hurry=())] if case.hurry else []
        candidates += [replace(case, replicas=1)] if case.replicas > 1 else []
        without = range(len(case.troubles))
        candidates += [replace(case, troubles=case.troubles[:n] + case.troubles[n + 1 :]) for n in without]
        for candidate in candidates:
            if broken(candidate) == law:
                case, smaller = candidate, True
                break
    return case


def by_name(name: str) -> Scenario:
    """Raises LookupError."""
    for scenario in catalogue():
        if scenario.name == name:
            return scenario
    raise LookupError(f"there is no scenario {name!r}")
