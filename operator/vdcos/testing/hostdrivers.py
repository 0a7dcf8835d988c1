"""The ways through failures of hosts: every single fault at every write, and seeds with troubles on hosts."""

import math
import random
from dataclasses import dataclass

from vdcos.core import kinds
from vdcos.core.objects import Key
from vdcos.testing.cluster import NODE, Tell
from vdcos.testing.drivers import Case, Explorer
from vdcos.testing.failures import HostScenario, failures
from vdcos.testing.faults import (
    API,
    CRASH,
    HANGING,
    HOST_FAULTS,
    OUTAGES,
    VIEW,
    AtWrite,
    AtWrites,
    Several,
    Trouble,
    combined,
    single,
)
from vdcos.testing.hostlaws import HostLaws, is_down
from vdcos.testing.hypervisor.values import BMC_FAULTS, ClearFault, Fault, Partition, PowerOff, Recover, SetFault
from vdcos.testing.laws import LONGEST, Laws
from vdcos.testing.replica import Violation
from vdcos.testing.simulator import Chance, Dice, Do, World
from vdcos.testing.trees import Tree

SLACK = 30
"""Writes that one fault may cost: what was half done is done again, and the host is fenced once more."""


def every() -> list[tuple[str, str]]:
    """All faults of requests and watches at one write, and the crashes."""
    return [*single((*HANGING, *CRASH)), *combined()]


class HostExplorer(Explorer):
    """One scenario of hosts, all its single faults. It ends as without the fault, unless it depends on times."""

    new_laws = HostLaws
    scenario: HostScenario

    def _leads_elsewhere(self, fault: AtWrites) -> bool:
        deleted = self.scenario.unwatched and any(each.api == "taken" for each in fault.each)
        return self.scenario.timed or deleted or super()._leads_elsewhere(fault)

    def _slack(self, fault: AtWrite) -> int:
        return SLACK


# Seeds

NAMES = ("host-1", "host-1", "host-2", "host-3")
KINDS = (*HOST_FAULTS, *HOST_FAULTS, *BMC_FAULTS, "pause", "cut", "crash", "clock")
CARE_AFTER, CARE_EVERY, CARES = 300.0, 150.0, 4
"""Seconds after which somebody cares for what is still wrong, and from then on; how often at least."""
PATIENT = 1500.0
"""Seconds after which somebody cares once more, where it comes to no rest."""
MOST = 30_000
"""Steps between two cares. Two replicas renew their Lease every second, which is most of what happens in an hour."""


@dataclass(frozen=True)
class Care:
    """People mend what is broken, one thing after the other: BMCs, storage, hosts, and what waits for their word."""

    def __call__(self, world: World) -> None:
        world.cluster.near = frozenset()
        for name, host in world.cluster.hosts.items():
            for fault in (*BMC_FAULTS, Fault.NO_STORAGE):
                world.cluster.happens(Tell(name, ClearFault(fault)))
            if not host.writing:
                world.cluster.happens(Tell(name, Recover()))
        for policy in world.api.all(kinds.HA_POLICY):
            world.api.merge_patch(kinds.HA_POLICY, policy.key, {"spec": {"paused": None}}, "user")
        for failure in world.api.all(kinds.HOST_FAILURE):
            if failure.tree.get("status", {}).get("phase") == "Completed":
                continue
            world.api.merge_patch(kinds.HOST_FAILURE, failure.key, {"spec": {"approved": True}}, "user")
            if any(c["reason"] == "Quarantined" for c in failure.tree.get("status", {}).get("conditions", ())):
                # It waits for a day, or until somebody trusts the host again.
                uncordoned: Tree = {"spec": {"unschedulable": None}}
                world.api.merge_patch(NODE, Key("", failure.tree["spec"]["host"]), uncordoned, "admin")
            if failure.tree.get("status", {}).get("receipt") and not is_down(world, failure):
                # It was proved to be down by a lie: its power is cut by hand, as the condition says.
                world.cluster.happens(Tell(failure.tree["spec"]["host"], PowerOff()))
        world.notice()


@dataclass(frozen=True)
class BmcTrouble:
    """A BMC is broken for a while."""

    fault: Fault
    host: str
    seconds: float

    def __call__(self, world: World) -> None:
        world.cluster.happens(Tell(self.host, SetFault(self.fault, seconds=4.0)))
        world.at(self.seconds * 10, Do(_Mended(self.fault, self.host)))


@dataclass(frozen=True)
class _Mended:
    fault: Fault
    host: str

    def __call__(self, world: World) -> None:
        world.cluster.happens(Tell(self.host, ClearFault(self.fault)))


@dataclass(frozen=True)
class HostCase(Case):
    """One run of a scenario of hosts, with other troubles beside its own. At last people care for what is left."""

    words = Case.words | {*KINDS, *(f"{kind} {name}" for kind in (*HOST_FAULTS, *BMC_FAULTS) for name in NAMES)}

    @classmethod
    def of(cls, seed: int) -> "HostCase":
        rng = random.Random(seed)  # noqa: S311  not for secrets
        scenario = rng.choice(failures())
        faults = sorted(
            (rng.randrange(1, 50), rng.choice((*API, *HANGING, *CRASH, *OUTAGES)), rng.choice(VIEW))
            for _ in range(max(0, rng.randrange(5) - 1))
        )
        troubles = []
        for _ in range(rng.randrange(4)):
            kind = rng.choice(KINDS)
            what = f"{kind} {rng.choice(NAMES)}" if kind in (*HOST_FAULTS, *BMC_FAULTS) else kind
            troubles.append(
                (round(rng.random() * rng.choice((20, 60, 150)), 3), what, rng.choice((1.0, 2.0, 6.0, 20.0)))
            )
        replicas = rng.choice((1, 1, 2))
        return cls(scenario.name, rng.randrange(1 << 30), (), tuple(faults), tuple(troubles), replicas)

    def find(self) -> HostScenario:
        return by_name(self.scenario)

    def world(self, laws: Laws, trace: list[str] | None = None) -> World:
        chance = Chance() if self.dice is None else Dice(self.dice)
        world = by_name(self.scenario).world(self.replicas, laws=laws, chance=chance, trace=trace)
        last = 0.0
        for at, what, seconds in self.troubles:
            kind, _, host = what.partition(" ")
            bmc = kind in BMC_FAULTS
            world.at(at, Do(BmcTrouble(Fault(kind), host, seconds) if bmc else Trouble(what, seconds)))
            last = max(last, at + seconds * 10)
        for number in range(CARES):
            world.at(last + CARE_AFTER + number * CARE_EVERY, Do(Care()))
        beside = bool(self.troubles) or self.dice is not None
        world.faults = Several(tuple(AtWrite(*fault) for fault in self.faults), beside)
        return world

    def run(self, laws: Laws | None = None, trace: list[str] | None = None) -> World:
        """Run it to its end, with all laws. Raises Violation."""
        laws = laws or HostLaws()
        world = self.world(laws, trace)
        began, steps, cares, patient = world.now, 0, 0, world.now + PATIENT
        while True:
            due = world.next()[0]
            if patient < due < math.inf and not _is_well(world):
                # It waits for longer than people do: for the end of a quarantine, which takes a day.
                world.at(1.0, Do(Care()))
                patient = world.now + PATIENT
            if due == math.inf:
                laws.at_rest(world)
                began = world.now
                if world.done == len(world.script):
                    if cares == CARES or _is_well(world):
                        break
                    cares += 1
                    world.at(1.0, Do(Care()))
            world.step()
            steps += 1
            if steps > MOST * cares + MOST or world.now - began > LONGEST:
                raise Violation("convergence", f"no rest within {world.now - began:.0f} s and {steps} steps")
        _ends_well(world)
        return world


def _is_well(world: World) -> bool:
    over = all(f.tree.get("status", {}).get("phase") == "Completed" for f in world.api.all(kinds.HOST_FAILURE))
    return over and all(host.writing for host in world.cluster.hosts.values())


def _ends_well(world: World) -> None:
    """Everything is mended: every failure is over, no mark of ours is left, and every VM is as declared, or waits for
    failover capacity (not in vain, says a law)."""
    for failure in world.api.all(kinds.HOST_FAILURE):
        if (phase := failure.tree.get("status", {}).get("phase")) != "Completed":
            raise Violation("convergence", f"{failure.key} ends in {phase}")
    for vm in world.api.all(kinds.VIRTUAL_MACHINE):
        ready = next(c for c in vm.tree["status"]["conditions"] if c["type"] == "Ready")
        if ready["status"] != "True" and "waitsFor" not in vm.tree["status"]:
            raise Violation("convergence", f"{vm.key} ends as {ready['reason']}: {ready['message']}")


# A day on which nothing fails

DAY = 24 * 3600.0
LATE_EVERY, LONGEST_LATE = 180.0, 25.0
"""Seconds: a kubelet comes late with a renewal so often, and by so much at most."""
RESTARTS_EVERY, LONGEST_RESTART, BACK_WITHIN = 1800.0, 60.0, 7.0
"""The API server is away so often, and so long at most; kubelets try again after so much at most."""


@dataclass(frozen=True)
class Late:
    """A host that lives does not renew its Lease for a while; its port answers, as far as packets arrive."""

    host: str
    seconds: float

    def __call__(self, world: World) -> None:
        if world.cluster.hosts[self.host].writing:
            world.cluster.near |= {self.host}
            world.cluster.happens(Tell(self.host, Partition()))
            world.at(self.seconds, Do(_Renews(self.host)))


@dataclass(frozen=True)
class _Renews:
    host: str

    def __call__(self, world: World) -> None:
        world.cluster.near -= {self.host}
        world.cluster.happens(Tell(self.host, Recover()))


@dataclass(frozen=True)
class ApiRestart:
    """The API server is away: for the operator, and for the hosts, which are heard again one after the other."""

    seconds: float
    late: tuple[float, ...]

    def __call__(self, world: World) -> None:
        world.cut(self.seconds)
        for host, late in zip(world.cluster.hosts, self.late, strict=True):
            Late(host, self.seconds + late)(world)


def uneventful_day(seed: int) -> World:
    """24 hours of hosts that live, under a policy with default settings: renewals come late, the API server restarts,
    and one packet of a hundred is lost. Raises Violation when a host is called dead, or any law is broken."""
    rng = random.Random(seed)  # noqa: S311  not for secrets
    scenario = by_name("host dies")
    world = scenario.world(laws=HostLaws(), chance=Dice(rng.randrange(1 << 30)))
    world.script = ()
    names, at, end = tuple(world.cluster.hosts), 0.0, world.now + DAY
    while (at := at + rng.expovariate(1 / LATE_EVERY)) < DAY:
        world.at(at, Do(Late(rng.choice(names), rng.uniform(0.0, LONGEST_LATE))))
    at = 0.0
    while (at := at + rng.expovariate(1 / RESTARTS_EVERY)) < DAY:
        late = tuple(rng.uniform(0.0, BACK_WITHIN) for _ in names)
        world.at(at, Do(ApiRestart(rng.uniform(1.0, LONGEST_RESTART), late)))
    while world.next()[0] < end:
        world.step()
        if declared := world.api.all(kinds.HOST_FAILURE):
            said = [each["says"] for each in declared[0].tree["spec"]["evidence"]]
            raise Violation("no false alarm", f"{declared[0].key}, whose host lives: {said}")
    return world


def case(text: str) -> Case:
    """A case of either kind from its JSON. Raises as ``Case.read``."""
    try:
        return Case.read(text)
    except LookupError:
        return HostCase.read(text)


def by_name(name: str) -> HostScenario:
    """Raises LookupError."""
    for scenario in failures():
        if scenario.name == name:
            return scenario
    raise LookupError(f"there is no scenario {name!r} of hosts")
