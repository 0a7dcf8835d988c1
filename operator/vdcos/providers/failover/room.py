"""Admission control: how much room policies leave for VMs that are to start or grow, and who goes first."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from vdcos import api
from vdcos.api import hapolicy as words
from vdcos.core import amounts, counts, hosts, kinds, ownership, quantity
from vdcos.core.amounts import Amounts
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.kubernetes import LauncherPod, Node, OtherPod
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Index, Key, Without
from vdcos.core.snapshot import Derived, Snapshot
from vdcos.providers import placement as p
from vdcos.providers.failover import order
from vdcos.providers.failover.machines import KEPT_FREE, NODES, PLACED, POLICIES, TAKEN, TAKEN_BY_OTHERS
from vdcos.providers.failover.order import WAITING, WISHES, Wish

INSUFFICIENT = "InsufficientFailoverCapacity"


def admitted(child: kubevirt.VirtualMachine | None) -> Amounts | None:
    """What was admitted for a VM; None when nothing was. Others can write annotations, too, so it must be a child of
    ours, and staying: what is left of one that goes is its pods, which count by themselves."""
    if child is None or child.metadata.deletion_timestamp is not None:
        return None
    if ownership.owner_name(child.metadata, kinds.VIRTUAL_MACHINE) != child.metadata.name:
        return None
    return amounts.read(child.metadata.annotation(ownership.ADMITTED))


def is_stuck(instance: VirtualMachineInstance) -> bool:
    """Whether no host fits, or KubeVirt may not make its pod: such a VM takes no room, for as long as it may be."""
    said = instance.status.conditions
    if kubevirt.condition(said, "Synchronized").reason == "FailedCreate":
        return True
    # In the scheduler's words: KubeVirt says the same of a VM whose claim is not there yet.
    return kubevirt.finds_no_host(said).startswith("0/")


ALLOWED: Index[kubevirt.VirtualMachine] = Index(
    kubevirt.VirtualMachine,
    lambda child: (str(child.metadata.key),) if admitted(child) is not None else (),
    lambda child: admitted(child) or amounts.NOTHING,
)
"""VMs that were admitted, by ``namespace/name``."""
STUCK: Index[VirtualMachineInstance] = Index(
    VirtualMachineInstance, lambda instance: (str(instance.metadata.key),) if is_stuck(instance) else ()
)
"""Instances that get no host, by ``namespace/name``."""
UNDERWAY = Without(ALLOWED, (PLACED, STUCK))
"""Those that are about to get a host: they count for every policy, since nobody knows where they will start."""


class Ground(NamedTuple):
    """A host as it counts."""

    name: str
    has: tuple[int, int]
    schedulable: bool
    failover_only: bool
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Grounds:
    """A policy, and the hosts that it covers."""

    name: str
    spec: words.HAPolicySpec
    hosts: tuple[Ground, ...]

    def __hash__(self) -> int:
        return hash((self.name, tuple(host.name for host in self.hosts)))

    def allow(self, node_selector: Mapping[str, str]) -> bool:
        """Whether a VM may start on any of them."""
        if not node_selector:
            return bool(self.hosts)
        return any(node_selector.items() <= host.labels.items() for host in self.hosts)


def _grounds(world: Snapshot, _: tuple[Grounds, ...] | None) -> tuple[Grounds, ...]:
    policies = [cr for key in world.values(POLICIES) if isinstance(cr := world.get(api.HAPolicy, key), api.HAPolicy)]
    found: dict[str, list[Ground]] = {cr.metadata.name: [] for cr in policies}
    spare = world.values(KEPT_FREE)
    for key, node in sorted(world.values(NODES).items()) if policies else ():
        policy = hosts.covering_labels(policies, node.labels)
        if policy is not None:
            has = node.allocatable.cpu, node.allocatable.memory
            ground = Ground(key.name, has, node.schedulable, key in spare, node.labels)
            found[policy.metadata.name].append(ground)
    return tuple(
        Grounds(name, cr.spec, tuple(found[name]))
        for name, cr in sorted({cr.metadata.name: cr for cr in policies}.items())
    )


GROUNDS: Derived[tuple[Grounds, ...]] = Derived(
    "admission control", (POLICIES, NODES, KEPT_FREE), _grounds, (api.HAPolicy,)
)
"""Policies by name, with their hosts."""
DERIVES = (GROUNDS,)
KINDS = (Node, LauncherPod, OtherPod)
INDEXES: tuple[Index[Any] | Without, ...] = (TAKEN, TAKEN_BY_OTHERS, ALLOWED, PLACED, STUCK, UNDERWAY, WISHES, WAITING)
"""What whoever reads an account declares: what it derives from, watches, and looks up."""


@dataclass(frozen=True, slots=True)
class Room:
    """What a policy leaves."""

    grounds: Grounds
    promise: p.Promise

    @property
    def name(self) -> str:
        return self.grounds.name

    @property
    def mode(self) -> str:
        return self.grounds.spec.admission_control.mode


class Asking(NamedTuple):
    """A VM that is to start, or to grow."""

    need: Amounts
    """What it needs beyond what was admitted for it."""
    wish: Wish | None
    node_selector: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Lack:
    """Why a VM may not start or grow."""

    policy: str
    need: Amounts
    blind: str = ""
    """Why nobody knows what is left, or empty."""

    def message(self) -> str:
        """For people, without what is held. What is left changes all the time, and stands in the policy's status."""
        if self.blind:
            return f"{_pair(self.need)} needed, and what HAPolicy {self.policy} has left cannot be seen: {self.blind}"
        return (
            f"{_pair(self.need)} needed, and HAPolicy {self.policy} has less left beside its failover capacity and "
            f"those that go first (kubectl get vdcha {self.policy} -o yaml: failoverCapacity, waiting)"
        )


@dataclass(frozen=True, slots=True)
class Account:
    """All that decides who may start."""

    rooms: tuple[Room, ...]
    waiting: Mapping[Key, Asking]
    """Who waits already."""
    blind: str = ""
    """Why it cannot be seen what is used; then nothing is taken to be free."""

    def lack(self, key: Key, asking: Asking) -> Lack | None:
        """What one VM lacks, when all that wait and come before it have taken what they need; None: it may go."""
        return self.judged({**self.waiting, key: asking})[key]

    def judged(self, waiting: Mapping[Key, Asking]) -> dict[Key, Lack | None]:
        """In the order of restart (priority, dependencies, the larger first, name), who may go, and what the others
        lack. One that does not fit does not hold up those after it; one that is stalled comes last."""
        left = {room.name: Amounts(room.promise.available) for room in self.rooms if room.mode == "Enforce"}
        grounds = {room.name: room.grounds for room in self.rooms}
        found: dict[Key, Lack | None] = {}
        for key in self.order(waiting):
            asking = waiting[key]
            where = [name for name in left if grounds[name].allow(asking.node_selector)]
            short = next((name for name in where if self.blind or asking.need.beyond(left[name])), None)
            found[key] = Lack(short, asking.need, self.blind) if short is not None else None
            if short is None:
                for name in where:
                    left[name] = left[name] - asking.need
        return found

    def order(self, waiting: Mapping[Key, Asking]) -> list[Key]:
        """In which order they are looked at."""
        spec = next((room.grounds.spec for room in self.rooms if room.mode == "Enforce"), None)
        if spec is None:
            return sorted(waiting)
        turns = order.turns(spec, {key: asking.wish for key, asking in waiting.items()})

        def rank(key: Key) -> tuple[Any, ...]:
            asking = waiting[key]
            stalled = asking.wish is not None and asking.wish.stalled
            return (stalled, *turns[key], -asking.need.memory, -asking.need.cpu, key)

        return sorted(waiting, key=rank)


def account(world: Snapshot) -> Account | None:
    """What there is to decide by; None when there is no policy."""
    grounds = world.derived(GROUNDS)
    if not grounds:
        return None
    underway = world.without(UNDERWAY).amount or amounts.NOTHING
    wishes = world.values(WISHES)
    waiting = {
        key: Asking(wish.waits_for, wish, wish.node_selector)
        for key in world.keys(WAITING, "")
        if (wish := wishes.get(key)) is not None and wish.waits_for is not None
    }
    unseen = (world.missing(kind) for kind in KINDS)
    blind = next((why.why for why in unseen if why is not None), "")
    return Account(tuple(_room(each, underway, world) for each in grounds), waiting, blind)


def _room(grounds: Grounds, underway: Amounts, world: Snapshot) -> Room:
    dedicated = grounds.spec.admission_control.dedicated_hosts is not None
    return Room(grounds, p.promise(promised(grounds.spec), _shares(grounds.hosts, dedicated, world), underway))


def _shares(grounds: Iterable[Ground], dedicated: bool, world: Snapshot) -> Iterable[p.Share]:
    for host in grounds:
        taken, others = world.total(TAKEN, host.name).amount or {}, world.total(TAKEN_BY_OTHERS, host.name).amount or {}
        by_machines = taken.get(p.CPU, 0), taken.get(p.MEMORY, 0)
        used = by_machines[0] + others.get(p.CPU, 0), by_machines[1] + others.get(p.MEMORY, 0)
        yield p.Share(host.has, used, by_machines, host.schedulable, dedicated and host.failover_only)


def promised(spec: words.HAPolicySpec) -> p.Policy:
    """What a policy keeps, in the words of placement."""
    match spec.admission_control.promise:
        case words.Percentage(cpu=cpu, memory=memory):
            return p.Percentage(cpu, memory)
        case words.DedicatedHosts():
            return p.DedicatedHosts()
        case words.HostFailures(tolerated=tolerated):
            return p.HostFailures(tolerated)


def status(found: Mapping[str, int]) -> dict[str, str]:
    """As ``api.meta.Amounts``: exact."""
    milli, memory = found.get(p.CPU, 0), found.get(p.MEMORY, 0)
    return {"cpu": str(milli // 1000) if milli % 1000 == 0 else f"{milli}m", "memory": quantity.human(memory)}


def _pair(found: Mapping[str, int]) -> str:
    cpu, mib = found.get(p.CPU, 0) / 1000, -(-found.get(p.MEMORY, 0) >> 20)
    return f"{counts.some(1, 'CPU') if cpu == 1 else f'{cpu:g} CPUs'} and {quantity.human(mib << 20)} of memory are"
