"""Failures of hosts: what people do and what happens to hosts, under HA policies, and how it ends."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from vdcos.core import hosts, kinds
from vdcos.core.foreign.kubernetes import NODE_LEASES, Lease
from vdcos.core.objects import Key
from vdcos.providers.failover.room import INSUFFICIENT
from vdcos.testing import builders
from vdcos.testing.apiserver import KUBELET, Held
from vdcos.testing.cluster import NODE, POD, Tell
from vdcos.testing.hypervisor.values import (
    ClearFault,
    Command,
    Fault,
    Hang,
    Happening,
    Partition,
    PowerOff,
    Recover,
    SetFault,
)
from vdcos.testing.laws import MOST_STEPS
from vdcos.testing.replica import SIGNS, TICK, Violation
from vdcos.testing.scenarios import (
    GOLD,
    VDCOS_VM,
    Create,
    Declare,
    Delete,
    Edit,
    Later,
    Restart,
    Scenario,
    Together,
    ToGuest,
    ToHost,
    machine,
)
from vdcos.testing.simulator import START, Chance, Do, Faults, World, bring
from vdcos.testing.trees import Tree, merge


def policy(name: str = "all", **spec: Any) -> Tree:
    """An HAPolicy that covers every host."""
    kind = kinds.HA_POLICY
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "spec": spec}


def host(name: str, bmc: bool = True, **spec: Any) -> Tree:
    """A Host, with a power switch."""
    if bmc:
        spec["bmc"] = {"redfish": {"address": f"https://{name}.bmc.example", "credentials": "bmc"}}
    kind = kinds.HOST
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "spec": spec}


def vm(name: str, priority: str = "", needs: str = "", memory: str = "1Gi") -> Tree:
    """A VM with a disk, and its place in the order of restart. A host has 64Gi."""
    said: Tree = {**({"restartPriority": priority} if priority else {})}
    if needs:
        said["dependsOn"] = [{"name": needs}]
    tree = machine(name if "/" in name else f"shop/{name}", nics=(), memory={"size": memory})
    return {**tree, "spec": {**tree["spec"], **({"availability": said} if said else {})}}


HOSTS = tuple(host(f"host-{number}") for number in (1, 2, 3))
BARE = tuple(host(f"host-{number}", bmc=False) for number in (1, 2, 3))
VICTIM = "host-1"
OTHERS = ("host-2", "host-3")
EIGHT = tuple(f"host-{number}" for number in range(1, 9))
HELD = EIGHT[:3]


def _cordon(value: bool | None, *names: str) -> Together:
    changes = {"spec": {"unschedulable": value}}
    return Together(tuple(Edit(NODE, name, changes, "admin") for name in names))


def _closed(closed: bool, *names: str) -> Together:
    """Hosts that take no pods for a while, and count as what they are all the same."""
    taints = [{"key": "example.com/later", "effect": "NoSchedule"}] if closed else None
    return Together(tuple(Edit(NODE, name, {"spec": {"taints": taints}}, "admin") for name in names))


@dataclass(frozen=True)
class HostScenario(Scenario):
    """One in which hosts say who they are and that they live. Before its first step its VMs run, all on one host.

    ``timed``: how it ends depends on when things happen, so that a fault may change it.
    """

    hosts: int = 3
    vms: Sequence[Tree] = ()
    timed: bool = False
    outcomes: Sequence[str] = ("Recovered",)
    """How its failures end."""
    cordoned: Sequence[str] = ()
    """Hosts that somebody keeps cordoned."""
    runs: Mapping[str, int] = field(default_factory=dict)
    """How often a VM starts at most, by ``namespace/name``, whatever else goes wrong."""
    marks: Mapping[str, Tree] = field(default_factory=dict)
    """What other people's marks leave in the specs of nodes."""
    unwatched: bool = False
    """Its policy goes: a failure that somebody deletes is not declared anew."""

    def world(self, replicas: int = 1, **options: Any) -> World:
        world = _prepared(self, replicas).fork()
        world.chance = options.get("chance") or Chance()
        world.faults = options.get("faults") or Faults()
        world.trace, world.laws = options.get("trace"), options.get("laws")
        world.script, world.done, world.tried, world.carried_out = self.steps, 0, [], 0
        return world

    def prepare(self, world: World) -> None:
        bring(world, (builders.namespace(NODE_LEASES),))

    def check(self, world: World) -> None:
        super().check(world)
        for where, most in self.runs.items():
            times = sum(
                entry.what is Happening.STARTED and f"{entry.namespace}/{entry.name}" == where
                for entry in world.cluster.entries
            )
            if times > most:
                raise Violation("resets", f"{where} has started {times} times, and not {most}")
        found = sorted(str(f.tree["status"].get("outcome")) for f in world.api.all(kinds.HOST_FAILURE))
        if found != sorted(self.outcomes) and not self.timed and not (self.unwatched and not found):
            raise Violation("convergence", f"failures end as {found} and not as {sorted(self.outcomes)}")
        for node in world.api.all(NODE):
            spec = {name: value for name, value in node.tree.get("spec", {}).items() if value}
            if spec != self.marks.get(node.key.name, {}):
                raise Violation("no trace", f"{node.key} ends with {spec}")


def _prepared(scenario: HostScenario, replicas: int) -> World:
    known = _PREPARED.get((scenario.name, replicas))
    if known is None:
        known = _PREPARED[scenario.name, replicas] = _installation(scenario, replicas)
    return known


_PREPARED: dict[tuple[str, int], World] = {}


def _installation(scenario: HostScenario, replicas: int) -> World:
    """All VMs run on one host, because the others were closed for that long."""
    world = Scenario.world(scenario, replicas, lively=True)
    others = [name for name in world.cluster.hosts if name != VICTIM]
    opened = Together((_closed(False, *others), _cordon(True, *scenario.cordoned)))
    world.script = (_closed(True, *others), Together(tuple(map(Create, scenario.vms))), opened)
    steps = 0
    while world.step():
        steps += 1
        if steps > MOST_STEPS:
            raise Violation("convergence", f"no rest before anything has happened, after {steps} steps")
    # The seconds of a scenario count from a renewal of the Leases, however long it took until all was at rest.
    every = SIGNS[Lease]
    world.now = world.api.now = START + math.ceil((world.now - START) / every - 1e-6) * every
    return world


# What people do about failures, and when


def _patch_failures(world: World, host: str, changes: Callable[[Held], Tree]) -> None:
    for failure in world.api.all(kinds.HOST_FAILURE):
        if failure.tree["spec"]["host"] == host and failure.tree.get("status", {}).get("phase") != "Completed":
            world.api.merge_patch(kinds.HOST_FAILURE, failure.key, {"spec": changes(failure)}, "user")


@dataclass(frozen=True)
class Unplug:
    """Somebody takes the power away by hand, and says so."""

    host: str = VICTIM

    def __call__(self, world: World) -> None:
        world.cluster.happens(Tell(self.host, PowerOff()))
        word = {"by": "Ada", "why": "unplugged"}
        _patch_failures(
            world,
            self.host,
            lambda failure: {"confirmedDown": {"incarnation": failure.tree["spec"]["incarnation"], **word}},
        )


@dataclass(frozen=True)
class UnplugAgain(Unplug):
    """Somebody takes the power away from a host that was proved to be down and was not, and says so."""

    why: str = "unplugged both cords"

    def __call__(self, world: World) -> None:
        world.cluster.happens(Tell(self.host, PowerOff()))
        _patch_failures(
            world,
            self.host,
            lambda failure: {
                "confirmedDown": {"incarnation": failure.tree["spec"]["incarnation"], "by": "Ada", "why": self.why}
            },
        )


@dataclass(frozen=True)
class SayDown:
    """Somebody says that a host is down, and is wrong."""

    host: str = VICTIM

    def __call__(self, world: World) -> None:
        word = {"by": "Bob", "why": "it does not answer"}
        _patch_failures(
            world,
            self.host,
            lambda failure: {"confirmedDown": {"incarnation": failure.tree["spec"]["incarnation"], **word}},
        )


@dataclass(frozen=True)
class Counted:
    """So many VMs ran on the host, as its failure has it, where nothing else has gone wrong. Raises Violation."""

    total: int

    def __call__(self, world: World) -> None:
        found = [len(failure.tree["status"].get("machines", ())) for failure in world.api.all(kinds.HOST_FAILURE)]
        if world.faults.harmless and found != [self.total]:
            raise Violation("order of restart", f"{found} VMs are counted, and not {self.total}")


@dataclass(frozen=True)
class Approve:
    """Somebody has looked, and lets a failure that is held go on."""

    host: str = VICTIM

    def __call__(self, world: World) -> None:
        _patch_failures(world, self.host, lambda _: {"approved": True})


@dataclass(frozen=True)
class SayAnother:
    """Somebody says that a host is down, and means another life of it."""

    host: str = VICTIM

    def __call__(self, world: World) -> None:
        word = {"incarnation": "another-life", "by": "Bob", "why": "it was down last week"}
        _patch_failures(world, self.host, lambda _: {"confirmedDown": word})


@dataclass(frozen=True)
class TakeName:
    """Another machine calls itself by the host's name."""

    host: str = VICTIM

    def __call__(self, world: World) -> None:
        info = {"bootID": "another-boot", "systemUUID": "another-machine"}
        world.api.merge_patch(NODE, Key("", self.host), {"status": {"nodeInfo": info}})


@dataclass(frozen=True)
class Hasty:
    """The host's BMC says Off as soon as it has accepted a power-off, for a moment."""

    host: str = VICTIM

    def __call__(self, world: World) -> None:
        world.cluster.hasty = frozenset({self.host})


@dataclass(frozen=True)
class Stays:
    """A VM does not run anywhere. Where something else has gone wrong, it may have moved to another host before its own
    died, or another one may have its name; or it could not be held, and its failure says that it is up. Raises
    Violation."""

    where: str

    def __call__(self, world: World) -> None:
        said = (failure.tree.get("status", {}) for failure in world.api.all(kinds.HOST_FAILURE))
        counted = (each for status in said if "outcome" not in status for each in status.get("machines", ()))
        down = {each["uid"] for each in counted if each["state"] != "Up"}
        namespace, _, name = self.where.partition("/")
        vm = world.api.get(kinds.VIRTUAL_MACHINE, Key(namespace, name))
        if not world.faults.harmless and (vm is None or vm.meta["uid"] not in down):
            return
        for name, each in world.cluster.hosts.items():
            if any(process.active and process.key == self.where for process in each.processes.values()):
                raise Violation("status truth", f"{self.where} runs on {name}, and is not to restart")


@dataclass(frozen=True)
class Runs:
    """A VM runs on another host than the one that failed, where nothing else has gone wrong. Raises Violation."""

    where: str

    def __call__(self, world: World) -> None:
        others = [host for name, host in world.cluster.hosts.items() if name != VICTIM]
        found = any(each.active and each.key == self.where for host in others for each in host.processes.values())
        if world.faults.harmless and not found:
            raise Violation("convergence", f"{self.where} runs nowhere but on {VICTIM}")


HOLDER = "example.com/hold"
"""A finalizer of somebody who may change pods of his namespace."""


@dataclass(frozen=True)
class HoldPods:
    """Somebody puts a finalizer on the pods of a VM, or takes it off."""

    where: str
    held: bool = True

    def __call__(self, world: World) -> None:
        for pod in world.api.all(POD):
            if f"{pod.key.namespace}/{pod.meta['labels'].get('vm.kubevirt.io/name')}" == self.where:
                others = [each for each in pod.meta.get("finalizers", ()) if each != HOLDER]
                wanted = [*others, *([HOLDER] if self.held else [])]
                world.api.merge_patch(POD, pod.key, {"metadata": {"finalizers": wanted or None}}, "user")


@dataclass(frozen=True)
class MakeAnew:
    """A controller of a tenant has a pod that calls itself a VM's, on a node of its choice, and makes it anew at once
    when it is gone; or it is told to stop."""

    host: str = VICTIM
    wanted: bool = True

    def __call__(self, world: World) -> None:
        key = Key("shop", "decoy")
        if not self.wanted:
            world.cluster.anew, world.cluster.slow = {}, 0.0
            if world.api.get(POD, key) is not None:
                world.api.delete(POD, key)
            return
        labels = {"kubevirt.io": "virt-launcher", "vm.kubevirt.io/name": "decoy"}
        compute = {"name": "compute", "image": "pause", "resources": {"requests": {"cpu": "1m", "memory": "1"}}}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": key.name, "namespace": key.namespace, "labels": labels, "finalizers": [KUBELET]},
            "spec": {"nodeName": self.host, "containers": [compute], "volumes": []},
            "status": {"phase": "Pending", "conditions": []},
        }
        world.cluster.anew, world.cluster.slow = {key: pod}, 0.02  # or nobody could be as fast as the operator
        world.api.create(POD, pod)


@dataclass(frozen=True)
class Everywhere:
    """Something happens to all hosts."""

    event: Any

    def __call__(self, world: World) -> None:
        for name in world.cluster.hosts:
            world.cluster.happens(Tell(name, self.event))


@dataclass(frozen=True)
class CutFromApi:
    """A host does not reach the API server, and is reached by everybody else; or it does again."""

    near: bool = True
    host: str = VICTIM

    def __call__(self, world: World) -> None:
        world.cluster.near = frozenset({self.host}) if self.near else frozenset()
        world.cluster.happens(Tell(self.host, Partition() if self.near else Recover()))


@dataclass(frozen=True)
class When:
    """A step at the first moment at which a failure of the host is in one of these phases."""

    phases: tuple[str, ...]
    step: Any
    host: str = VICTIM
    until: float = math.inf
    patience: float = 900.0
    """Seconds for which it waits: no longer than a fault may delay it."""

    def __call__(self, world: World) -> None:
        found = {
            failure.tree.get("status", {}).get("phase")
            for failure in world.api.all(kinds.HOST_FAILURE)
            if failure.tree["spec"]["host"] == self.host
        }
        until = world.now + self.patience if self.until == math.inf else self.until
        if found & set(self.phases):
            self.step(world)
            world.notice()
        elif world.now < until:
            world.at(TICK, Do(replace(self, until=until)))


@dataclass(frozen=True)
class SetClock:
    """The operator's clock goes ahead by so many seconds, or is set right."""

    ahead: float = 0.0

    def __call__(self, world: World) -> None:
        world.skew = self.ahead


@dataclass(frozen=True)
class Told:
    """A person is told what to do: a condition of the host's failure says so, where nothing else has gone wrong, which
    takes its time. Raises Violation."""

    words: str
    host: str = VICTIM

    def __call__(self, world: World) -> None:
        if not world.faults.harmless:
            return
        said = [
            condition.get("message", "")
            for failure in world.api.all(kinds.HOST_FAILURE)
            if failure.tree["spec"]["host"] == self.host
            for condition in failure.tree.get("status", {}).get("conditions", ())
        ]
        if not any(self.words in message for message in said):
            raise Violation("a person is told", f"no condition says {self.words!r}: {said}")


@dataclass(frozen=True)
class Says:
    """A condition of a VM has this reason, where nothing else has gone wrong. Raises Violation."""

    where: str
    condition: str
    reason: str

    def __call__(self, world: World) -> None:
        if not world.faults.harmless:
            return
        space, _, name = self.where.partition("/")
        vm = world.api.get(VDCOS_VM, Key(space, name))
        said = [c["reason"] for c in vm.tree["status"]["conditions"] if c["type"] == self.condition] if vm else []
        if said != [self.reason]:
            raise Violation("a person is told", f"{self.condition} of {self.where} says {said}, not {self.reason}")


@dataclass(frozen=True)
class RunsOn:
    """A VM runs on a host, where nothing else has gone wrong. Raises Violation."""

    where: str
    host: str

    def __call__(self, world: World) -> None:
        processes = world.cluster.hosts[self.host].processes.values()
        if world.faults.harmless and not any(each.active and each.key == self.where for each in processes):
            raise Violation("convergence", f"{self.where} does not run on {self.host}")


@dataclass(frozen=True)
class Waits:
    """A VM waits for failover capacity, or does not (any more). Raises Violation."""

    where: str
    waits: bool = True

    def __call__(self, world: World) -> None:
        namespace, _, name = self.where.partition("/")
        held = world.api.get(VDCOS_VM, Key(namespace, name))
        said = [c["reason"] for c in held.tree["status"]["conditions"] if c["type"] == "Ready"] if held else []
        if (said == [INSUFFICIENT]) is not self.waits and world.faults.harmless:
            raise Violation("convergence", f"{self.where} says {said}")


RELEASED = ("Restarting", "Recovering")
OPEN = ("Held", "Fencing")
UNPLUGGED, APPROVED = When(OPEN, Unplug(), patience=60.0), When(OPEN, Approve(), patience=60.0)
BEGUN = ("Fencing", "Releasing", *RELEASED)


def dies(host: str = VICTIM) -> ToHost:
    return ToHost(PowerOff(), host=host)


def cut(host: str = VICTIM) -> ToHost:
    return ToHost(Partition(), host=host)


def hangs(host: str = VICTIM) -> ToHost:
    return ToHost(Hang(), host=host)


def back(host: str = VICTIM) -> ToHost:
    return ToHost(Recover(), host=host)


def _faulty(fault: Fault, seconds: float = 30.0) -> ToHost:
    return ToHost(SetFault(fault, seconds=seconds), host=VICTIM)


def silent(vm: str = "shop/web") -> Everywhere:
    """The guest's agent does not answer any more."""
    return Everywhere(SetFault(Fault.AGENT_OFF, vm=vm))


def speaks(vm: str = "shop/web") -> Everywhere:
    """It would answer again."""
    return Everywhere(ClearFault(Fault.AGENT_OFF, vm=vm))


def _mended(fault: Fault) -> ToHost:
    return ToHost(ClearFault(fault), host=VICTIM)


def at_once(*steps: Any) -> Together:
    return Together(steps)


def watchful(seconds: int = 20) -> Tree:
    """A policy that has guests reset when they are silent for so long."""
    often = {"maxResets": 2, "windowSeconds": 600}
    return policy(monitoring={"enabled": True, "failureIntervalSeconds": seconds, "minimumUptimeSeconds": 10, **often})


HEARTBEAT = "GuestHeartbeat"


def guest(**spec: Any) -> tuple[Tree]:
    """A VM with a disk and words of its own."""
    tree = vm("web")
    return ({**tree, "spec": {**tree["spec"], **spec}},)


THREE = (vm("db", "High"), vm("web", needs="db"), vm("batch", "Low"))
WELL = {"shop/db": "Ready", "shop/web": "Ready", "shop/batch": "Ready"}
ONE, FINE = (vm("web"),), {"shop/web": "Ready"}
TWO, BOTH = (vm("db", "High"), vm("web", "Low")), {"shop/db": "Ready", "shop/web": "Ready"}
LARGE, LATE = (vm("db", "High", memory="60Gi"), vm("web", "Low", memory="60Gi")), {"shop/late": "Ready"}
SLOWLY = {"condition": "GuestAgent", "timeoutSeconds": 3600}
WORDY = merge(vm("db", "High"), {"spec": {"availability": {"readyWhen": SLOWLY}}})
"""One that would keep others waiting for an hour: its guest's agent does not answer."""
HUGE = (vm("db", memory="90Gi"), vm("web", memory="90Gi"))
NOWHERE = merge(vm("nowhere", memory="120Gi"), {"spec": {"placement": {"nodeSelector": {"zone": "moon"}}}})
DAY = 86400.0
BY_HAND = "confirm it: spec.confirmedDown with incarnation"
ADMINS = {"unschedulable": True}
KEPT = {"key": hosts.FAILOVER_ONLY, "effect": "NoSchedule"}
THEIRS = {"taints": [{"key": "example.com/dusty", "effect": "NoSchedule"}]}


@lru_cache(maxsize=1)
def failures() -> tuple[HostScenario, ...]:
    """Every scenario, by what it is about."""
    base = (GOLD, policy(), *HOSTS)
    bare = (GOLD, policy(), *BARE)
    watched = (GOLD, watchful(), *HOSTS)
    policies = kinds.HA_POLICY
    return (
        HostScenario("host dies", (dies(), back()), WELL, base, vms=THREE),
        HostScenario("a VM whose guest is silent keeps others of its namespace waiting",
                     (at_once(silent("shop/db"), dies(), Later(100.0, Runs("bank/web")), Later(600.0, Together((
                         Says("shop/web", "Ready", "HeldForRestart"), Says("bank/web", "Ready", "Ready"),
                         speaks("shop/db")))), Later(900.0, back())),), {**BOTH, "bank/web": "Ready"},
                     (builders.namespace("bank"), *base), vms=(WORDY, vm("web", "Medium"), vm("bank/web", "Low"))),
        HostScenario("host is cut off, its VMs go on writing", (cut(), back()), BOTH, base, vms=TWO),
        HostScenario("host hangs", (hangs(), back()), FINE, base, vms=ONE),
        HostScenario("host is cut off from the API server only",
                     (at_once(CutFromApi(), Later(200.0, CutFromApi(near=False))),), BOTH, base, vms=TWO, outcomes=()),
        HostScenario("host is cut off, nothing can fence it",
                     (at_once(cut(), Later(100.0, Told(BY_HAND)), Later(120.0, UNPLUGGED)), back()), BOTH, bare,
                     vms=TWO, timed=True),
        HostScenario("host dies, nothing can fence it, and it boots again",
                     (at_once(dies(), Later(100.0, Told(BY_HAND)), Later(120.0, back())),), BOTH, bare, vms=TWO,
                     timed=True),
        # The other one is not held, unless something goes wrong and both are found dead at once.
        HostScenario("two hosts die, one is approved",
                     (at_once(dies(), dies("host-2"), Later(100.0, Told('"approved":true')), Later(120.0, APPROVED),
                              Later(240.0, When(("Held",), Approve("host-2"), "host-2", patience=1.0))),
                      at_once(back(), back("host-2"))), BOTH, base, vms=TWO, outcomes=("Recovered", "Recovered"),
                     timed=True),
        HostScenario("all hosts die",
                     (at_once(dies(), dies("host-2"), dies("host-3"), Later(100.0, APPROVED),
                              Later(150.0, at_once(back(), back("host-2"), back("host-3")))),),
                     BOTH, base, vms=TWO, outcomes=("Recovered", "Recovered", "Recovered"), timed=True),
        # Each host gives signs of life at a time of its own: they are found dead one after the other.
        HostScenario("eight hosts are cut off together",
                     (at_once(*map(cut, EIGHT), Later(60.0, Told('"approved":true')),
                              Later(70.0, at_once(*map(back, EIGHT)))),),
                     FINE, (GOLD, policy(), *map(host, EIGHT)), vms=ONE, hosts=8, timed=True),
        HostScenario("three hosts are held, one is approved, and one is back",
                     (at_once(*map(cut, HELD), Later(30.0, Edit(policies, "all", {"spec": {"paused": None}})),
                              Later(40.0, at_once(*(Told('"approved":true', name) for name in HELD))),
                              Later(50.0, APPROVED), Later(80.0, back("host-2")),
                              Later(140.0, at_once(Runs("shop/web"), Told('"approved":true', "host-3"))),
                              Later(150.0, at_once(back(), back("host-3")))),), BOTH,
                     (GOLD, policy(paused={"reason": "network works"}), *map(host, EIGHT[:5])), vms=TWO, hosts=5,
                     timed=True),
        *(HostScenario(f"host reboots by itself in {seconds} s",
                       (at_once(dies(), Later(seconds, back())), back()), BOTH, base, vms=TWO, timed=True)
          for seconds in (1.0, 3.0, 16.0, 17.0)),
        HostScenario("the BMC lies, and the host is dead",
                     (at_once(_faulty(Fault.LIAR), dies()), _mended(Fault.LIAR), back()), BOTH, base, vms=TWO),
        *(HostScenario(f"the BMC lies, and the host is heard after {seconds} s",
                       (at_once(_faulty(Fault.LIAR), cut(), Later(seconds, back()),
                                Later(200.0, at_once(_mended(Fault.LIAR), dies())), Later(230.0, back())), back()),
                       FINE, base, vms=ONE, timed=True)
          for seconds in (15.2, 15.9, 16.4, 30.0)),
        HostScenario("the BMC lies, and the host is heard before it was silent for long enough",
                     (at_once(_faulty(Fault.LIAR), cut(), Later(24.0, back())), _mended(Fault.LIAR)), FINE,
                     (GOLD, policy(fencing={"quietSeconds": 40}), *HOSTS), vms=ONE, outcomes=("FalseAlarm",),
                     timed=True),
        HostScenario("the BMC lies, the host is heard, and then unplugged",
                     (at_once(_faulty(Fault.LIAR), cut(), Later(30.0, back()),
                              Later(60.0, Told("in other words than before")),
                              Later(90.0, When(("Releasing", *RELEASED), UnplugAgain(), patience=60.0)),
                              Later(300.0, UnplugAgain(why="it is in the workshop"))),
                      RunsOn("shop/web", "host-2"), _mended(Fault.LIAR), back()),
                     FINE, base, vms=ONE, timed=True),
        HostScenario("the BMC does not answer",
                     (at_once(_faulty(Fault.BMC_TIMEOUT), dies(), Later(100.0, Told(BY_HAND)),
                              Later(120.0, UNPLUGGED)), _mended(Fault.BMC_TIMEOUT), back()), BOTH, base, vms=TWO,
                     timed=True),
        HostScenario("the BMC answers late",
                     (at_once(_faulty(Fault.BMC_TIMEOUT), cut(), Later(100.0, _mended(Fault.BMC_TIMEOUT))), back()),
                     BOTH, base, vms=TWO),
        HostScenario("the BMC dies with its host",
                     (at_once(_faulty(Fault.BMC_DEAD), dies(), Later(100.0, Told(BY_HAND)), Later(120.0, UNPLUGGED)),
                      back()), BOTH, base, vms=TWO, timed=True),
        HostScenario("the BMC is slow", (at_once(_faulty(Fault.BMC_SLOW, 4.0), dies()), back()), BOTH, base, vms=TWO),
        HostScenario("host flaps",
                     (at_once(cut(), Later(14.0, back()), Later(16.0, cut()), Later(33.0, back()), Later(34.0, cut()),
                              Later(80.0, back())), back()), BOTH, base, vms=TWO, timed=True),
        HostScenario("a false alarm", (at_once(cut(), Later(60.0, back())),), BOTH, bare, vms=TWO,
                     outcomes=("FalseAlarm",), timed=True),
        HostScenario("cut off for 20 s", (at_once(cut(), Later(20.0, back())), back()), BOTH, base, vms=TWO,
                     timed=True),
        HostScenario("cut off for 20 s, nothing can fence it", (at_once(cut(), Later(20.0, back())),), BOTH, bare,
                     vms=TWO, outcomes=("FalseAlarm",), timed=True),
        HostScenario("a VM is deleted before its host is fenced",
                     (at_once(dies(), When(BEGUN, Delete(VDCOS_VM, "shop/db"))), back()),
                     FINE, base, vms=TWO),
        HostScenario("a VM is deleted while it restarts",
                     (at_once(dies(), When(RELEASED, Delete(VDCOS_VM, "shop/db"))), back()),
                     FINE, base, vms=TWO),
        HostScenario("a VM that is held is deleted",
                     (at_once(dies(), When(RELEASED, Delete(VDCOS_VM, "shop/web"))), back()),
                     {"shop/db": "Ready"}, base, vms=TWO),
        HostScenario("a VM is switched off before its host is fenced",
                     (at_once(dies(), When(BEGUN, _off("shop/db"))), back()), BOTH, base, vms=TWO),
        HostScenario("a VM that is held is switched off",
                     (at_once(dies(), When(RELEASED, _off("shop/web"))), back()), BOTH, base,
                     vms=TWO),
        HostScenario("the policy is deleted while the host is fenced",
                     (at_once(dies(), When(BEGUN, Delete(policies, "all"))), Approve(), back()), BOTH, base,
                     vms=TWO, unwatched=True),
        HostScenario("the policy is deleted while VMs restart",
                     (at_once(dies(), When(RELEASED, Delete(policies, "all"))), back()), BOTH,
                     base, vms=TWO, unwatched=True),
        HostScenario("the policy is paused",
                     (at_once(dies(), Later(60.0, Told("is paused: network works")),
                              Later(80.0, Edit(policies, "all", {"spec": {"paused": None}}))), back()), BOTH,
                     (GOLD, policy(paused={"reason": "network works"}), *HOSTS), vms=TWO, timed=True),
        HostScenario("the policy is paused, and the host is heard again",
                     (at_once(cut(), Later(60.0, back())),), BOTH,
                     (GOLD, policy(paused={"reason": "network works"}), *HOSTS), vms=TWO, outcomes=("FalseAlarm",),
                     timed=True),
        HostScenario("the node is deleted while the host is fenced",
                     (at_once(dies(), When(BEGUN, Delete(NODE, VICTIM))), back()), BOTH, base,
                     vms=TWO, outcomes=("Superseded",), timed=True),
        HostScenario("the node is deleted after the restart", (dies(), Delete(NODE, VICTIM), back()), BOTH, base,
                     vms=TWO, outcomes=("Superseded",)),
        HostScenario("a host that was taken for dead, and whose node was deleted, dies",
                     (at_once(cut(), Later(40.0, When(OPEN, SayDown(), patience=150.0))), Delete(NODE, VICTIM), back(),
                      _closed(True, *OTHERS), Create(vm("late")), _closed(False, *OTHERS),
                      at_once(RunsOn("shop/late", VICTIM), dies(), Later(60.0, Told(BY_HAND)), Later(80.0, UNPLUGGED)),
                      Runs("shop/late"), back()), LATE, bare,
                     outcomes=("Superseded", "Recovered"), timed=True),
        HostScenario("priorities and dependencies", (dies(), back()),
                     {f"shop/{name}": "Ready" for name in ("a", "b", "c", "d")}, base,
                     vms=(vm("a", "Highest", needs="d"), vm("b", "Low"), vm("c", "High"), vm("d", "Lowest"))),
        HostScenario("the BMC is hasty, and the host is cut off", (at_once(Hasty(), cut()), back()), BOTH, base,
                     vms=TWO),
        HostScenario("somebody confirms another life",
                     (at_once(cut(), Later(40.0, SayAnother()), Later(100.0, back())),), FINE, bare, vms=ONE,
                     outcomes=("FalseAlarm",), timed=True),
        HostScenario("another machine takes the name",
                     (at_once(cut(), Later(40.0, TakeName()), Later(100.0, UNPLUGGED), Later(300.0, Unplug())),
                      back()), FINE, bare,
                     vms=ONE, timed=True),
        HostScenario("a VM that does not restart", (dies(), Stays("shop/web"), back()), BOTH, base,
                     vms=(vm("db"), vm("web", "Disabled"))),
        HostScenario("somebody has cordoned the host",
                     (at_once(Edit(NODE, VICTIM, {"spec": {**ADMINS, **THEIRS}}, "admin"), dies()), back()), FINE,
                     base, vms=ONE, marks={VICTIM: {**ADMINS, **THEIRS}}),
        HostScenario("somebody uncordons the host, and cordons it again",
                     (at_once(dies(), When(RELEASED, _cordon(None, VICTIM))), back(), _cordon(True, VICTIM),
                      dies(), back()), FINE, base, vms=ONE, outcomes=("Recovered", "Recovered"),
                     marks={VICTIM: ADMINS}),
        HostScenario("somebody cordons the host while it is down",
                     (at_once(dies(), When(RELEASED, at_once(
                         Edit(NODE, VICTIM, {"spec": {"unschedulable": None}}, "admin"),
                         Later(320.0, Edit(NODE, VICTIM, {"spec": ADMINS}, "admin"))))), back()), FINE, base,
                     vms=ONE, timed=True, marks={VICTIM: ADMINS}),
        HostScenario("somebody's finalizer holds a pod of the host",
                     (at_once(HoldPods("shop/db"), dies(), Later(150.0, Runs("shop/web")),
                              Later(200.0, HoldPods("shop/db", held=False))), back()), BOTH,
                     (GOLD, policy(restart={"readyWhen": {"timeoutSeconds": 60}}), *HOSTS), vms=TWO, timed=True),
        HostScenario("a pod on the host is made anew again and again",
                     (at_once(dies(), Later(5.0, MakeAnew()), Later(80.0, at_once(Runs("shop/db"), Runs("shop/web"))),
                              Later(90.0, MakeAnew(wanted=False))), back()), BOTH, base, vms=TWO, timed=True),
        HostScenario("VMs restart as their host dies",
                     (at_once(silent("shop/web"), Everywhere(SetFault(Fault.IGNORE_ACPI)), Later(25.0, dies()),
                              Later(60.0, speaks())), Counted(2), back()), BOTH, watched, vms=TWO, timed=True),
        HostScenario("somebody taints the host meanwhile",
                     (at_once(dies(), When(RELEASED, Edit(NODE, VICTIM, {"spec": {"taints": [
                         {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"},
                         *THEIRS["taints"]]}}, "admin"))), back()), FINE, base, vms=ONE, marks={VICTIM: THEIRS}),
        HostScenario("the operator restarts meanwhile",
                     (at_once(dies(), Later(12.0, Restart()), Later(30.0, Restart()), Later(45.0, Restart())), back()),
                     BOTH, base, vms=TWO, timed=True),
        HostScenario("a clock that was a day ahead is set right meanwhile",
                     (at_once(SetClock(DAY), silent("shop/db"), dies(), When(RELEASED, SetClock()),
                              Later(250.0, Runs("shop/web")), Later(300.0, speaks("shop/db"))),
                      at_once(SetClock(DAY), back(), Later(30.0, SetClock()))), BOTH,
                     (GOLD, policy(restart={"readyWhen": {"condition": "GuestAgent", "timeoutSeconds": 120}}), *HOSTS),
                     vms=TWO, timed=True),
        HostScenario("only a host that is kept for failover is left",
                     (dies(), at_once(RunsOn("shop/web", "host-3"), Says("shop/web", "RestartRequired", "UpToDate")),
                      back(), at_once(_off("shop/web"), _cordon(True, VICTIM)),
                      Declare("shop/web", {"powerState": "PoweredOn"}),
                      Says("shop/web", "PlacementReady", "NoHostFits"), _cordon(None, VICTIM)), BOTH,
                     (GOLD, policy(admissionControl={"mode": "Disabled"}), *HOSTS[:2],
                      host("host-3", failoverOnly=True)), vms=TWO, timed=True,
                     cordoned=("host-2",), marks={"host-2": ADMINS, "host-3": {"taints": [KEPT]}}),
        HostScenario("no other host fits a VM",
                     (at_once(dies(), Later(80.0, Told("shop/web (NoHostFits)"))), back()), BOTH,
                     (GOLD, policy(restart={"retries": {"limit": 2, "firstSeconds": 5}}), *HOSTS), timed=True,
                     vms=(vm("db", "High"), *guest(placement={"nodeSelector": {"zone": "zone-1"}}))),
        HostScenario("a VM does not start on its new host",
                     (at_once(*(ToHost(SetFault(Fault.SLOW_START, seconds=300.0), host=name) for name in OTHERS),
                              dies(), Later(150.0, at_once(*(ToHost(ClearFault(Fault.SLOW_START), host=name)
                                                             for name in OTHERS))),
                              Later(250.0, Says("shop/web", "PowerStateSynced", "PoweredOn"))), back()), FINE,
                     (GOLD, policy(restart={"readyWhen": {"timeoutSeconds": 30}}), *HOSTS), vms=ONE, timed=True),
        HostScenario("a guest does not answer after its restart",
                     (at_once(silent(), dies(), Later(150.0, speaks())), back()), FINE,
                     (GOLD, policy(restart={"readyWhen": {"condition": "GuestAgent", "timeoutSeconds": 30}}), *HOSTS),
                     vms=ONE, timed=True, runs={"shop/web": 2}),
        HostScenario("a guest falls silent",
                     (at_once(silent(), Later(15.0, Says("shop/web", HEARTBEAT, "Silent")),
                              Later(40.0, speaks())),
                      Says("shop/web", HEARTBEAT, "Beating")), FINE, watched, vms=ONE, outcomes=(), timed=True,
                     runs={"shop/web": 2}),
        HostScenario("a guest falls silent that stays off by itself",
                     (at_once(silent(), Later(40.0, speaks())),), FINE, watched, vms=guest(onGuestShutdown="StayOff"),
                     outcomes=(), timed=True, on=("shop/web",), runs={"shop/web": 2}),
        HostScenario("a guest hangs",
                     (at_once(silent(), Everywhere(SetFault(Fault.IGNORE_ACPI, vm="shop/web")), Later(40.0, speaks())),
                      Says("shop/web", HEARTBEAT, "Beating")), FINE, watched, vms=ONE, outcomes=(), timed=True,
                     runs={"shop/web": 2}),
        HostScenario("a guest is silent for a moment",
                     (at_once(silent(), Later(18.0, speaks()), Later(25.0, silent()), Later(40.0, speaks())),),
                     FINE, watched, vms=ONE, outcomes=(), timed=True, runs={"shop/web": 1}),
        HostScenario("a guest answers again as it is to be reset",
                     (at_once(silent(), Later(20.5, speaks())),), FINE, watched, vms=ONE, outcomes=(), timed=True,
                     runs={"shop/web": 2}),
        HostScenario("a guest falls silent again and again",
                     (at_once(silent(), Later(45.0, speaks())), at_once(silent(), Later(45.0, speaks())),
                      at_once(silent(), Later(60.0, Says("shop/web", HEARTBEAT, "GuestResetLimit")),
                              Later(70.0, speaks()))),
                     FINE, watched, vms=ONE, outcomes=(), timed=True, runs={"shop/web": 3}),
        HostScenario("a guest that is paused is silent",
                     (at_once(silent(), ToGuest("shop/web", Command.PAUSE),
                              Later(60.0, Says("shop/web", HEARTBEAT, "Paused")), Later(61.0, speaks()),
                              Later(62.0, ToGuest("shop/web", Command.UNPAUSE))),), FINE, watched, vms=ONE,
                     outcomes=(), timed=True, runs={"shop/web": 1}),
        HostScenario("a guest is silent, and its host dies",
                     (at_once(silent(), Later(12.0, dies()), Later(15.0, speaks())), back()), FINE, watched, vms=ONE,
                     timed=True, runs={"shop/web": 2}),
        HostScenario("a host dies while a guest is reset",
                     (at_once(silent(), Later(20.5, dies()), Later(25.0, speaks())), back()), FINE, watched, vms=ONE,
                     timed=True),
        HostScenario("a guest is silent on a host that is cut off",
                     (at_once(silent(), Later(1.0, cut()), Later(45.0, Says("shop/web", HEARTBEAT, "HostNotConnected")),
                              Later(90.0, speaks()), Later(100.0, back())),), FINE, (GOLD, watchful(40), *BARE),
                     vms=ONE, outcomes=("FalseAlarm",), timed=True, runs={"shop/web": 1}),
        HostScenario("VMs depend on each other in a circle",
                     (Says("shop/a", "RestartOrder", "DependencyCircle"), dies(), back()),
                     {"shop/a": "Ready", "shop/b": "Ready"}, base, vms=(vm("a", needs="b"), vm("b", needs="a"))),
        HostScenario("a guest panics",
                     (at_once(ToGuest("shop/web", Command.PANIC), Later(40.0, Says("shop/web", HEARTBEAT, "Beating"))),
                      at_once(ToGuest("shop/web", Command.PANIC),
                              Later(40.0, Says("shop/web", HEARTBEAT, "GuestResetLimit")))), FINE,
                     watched, vms=ONE, outcomes=(), timed=True, runs={"shop/web": 3}),
        # Three hosts of 64Gi, of which one is kept free: 128Gi may be used.
        HostScenario("no room, then a VM is powered off",
                     (Create(vm("late", memory="20Gi")), Waits("shop/late"), _off("shop/db")), {**BOTH, **LATE}, base,
                     vms=LARGE, outcomes=()),
        HostScenario("a VM that no host fits takes no room from others",
                     (Create(NOWHERE), Create(vm("late", memory="20Gi")), Waits("shop/late", False),
                      _off("shop/nowhere")), {**FINE, **LATE, "shop/nowhere": "Ready"}, base, vms=ONE, outcomes=()),
        HostScenario("no room, then a host is open again",
                     (_cordon(True, "host-3"), Create(vm("late", memory="20Gi")), Waits("shop/late"),
                      _cordon(None, "host-3")), {**FINE, **LATE}, base, vms=(LARGE[1],), outcomes=()),
        HostScenario("two VMs at once, room for one, then for both",
                     (at_once(Create(vm("one", memory="60Gi")), Create(vm("two", memory="60Gi"))), _off("shop/web")),
                     {**FINE, "shop/one": "Ready", "shop/two": "Ready"}, base, vms=(LARGE[1],), outcomes=()),
        HostScenario("room for one of two that wait, then for both",
                     (Create(vm("batch", "Low", memory="62Gi")), Create(vm("urgent", "High", memory="62Gi")),
                      Waits("shop/batch"), Waits("shop/urgent"), _off("shop/db"), Waits("shop/urgent", False),
                      Waits("shop/batch"), _off("shop/web")),
                     {**BOTH, "shop/urgent": "Ready", "shop/batch": "Ready"}, base, vms=LARGE, outcomes=()),
        HostScenario("a VM grows beyond what is left, and then less",
                     (_sized("shop/web", "130Gi"), Waits("shop/web"), _sized("shop/web", "100Gi")), FINE, base,
                     vms=(LARGE[1],), outcomes=()),
        HostScenario("those who wait for room wait until after a failure",
                     (at_once(dies(), When(BEGUN, Create(vm("late", memory="5Gi")))), back()), {**BOTH, **LATE}, base,
                     vms=LARGE),
        HostScenario("a new policy stops nothing, and holds what comes",
                     (Create(policy()), Create(vm("late"))), {**BOTH, "shop/late": INSUFFICIENT}, (GOLD, *HOSTS),
                     vms=HUGE, outcomes=()),
        HostScenario("a policy that only warns", (Create(vm("late", memory="20Gi")),), {**BOTH, **LATE},
                     (GOLD, policy(admissionControl={"mode": "Warn"}), *HOSTS), vms=LARGE, outcomes=()),
        HostScenario("a policy that holds VMs is deleted",
                     (Create(vm("late", memory="20Gi")), Waits("shop/late"), Delete(policies, "all")),
                     {**BOTH, **LATE}, base, vms=LARGE, outcomes=()),
        HostScenario("a policy promises less",
                     (Create(vm("late", memory="20Gi")), Waits("shop/late"),
                      Edit(policies, "all", {"spec": {"admissionControl": {"percentage": {"cpu": 10, "memory": 10}}}})),
                     {**BOTH, **LATE}, base, vms=LARGE, outcomes=()),
    )  # fmt: skip


def _sized(where: str, memory: str) -> Declare:
    return Declare(where, {"memory": {"size": memory}})


def _off(where: str) -> Declare:
    return Declare(where, {"powerState": "PoweredOff"})
