"""The outlook: for every host, what would become of its VMs if it died now."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from vdcos import api
from vdcos.api.hapolicy import HAPolicySpec
from vdcos.core import counts, hosts
from vdcos.core.conditions import Condition
from vdcos.core.objects import Index, Key, Own, Total
from vdcos.core.snapshot import Derived, Snapshot
from vdcos.providers import placement as p
from vdcos.providers.failover import machines as vms
from vdcos.providers.failover import order
from vdcos.providers.failover.machines import (
    KEPT_FREE,
    NODES,
    POLICIES,
    RUNS_ON,
    TAKEN,
    TAKEN_BY_OTHERS,
    TIED,
    KeptNode,
    Launched,
)
from vdcos.providers.failover.order import PROTECTED, WISHES, Turn

SECONDS_BETWEEN = 5.0
"""The outlook is made at most this often, however much changes."""

RESTARTS = "RestartsElsewhere"


class Fate(NamedTuple):
    """What would become of one VM if its host died now."""

    host: str
    policy: str
    reason: str = RESTARTS
    """Why it would not restart, in one word, or that it would."""


class HostOutlook(NamedTuple):
    """What would become of the VMs of one host."""

    restarts: int
    stays: int
    reasons: tuple[tuple[Key, str], ...]
    """The first ten that would not restart, in the order of restart, and why."""

    def status(self) -> dict[str, Any]:
        """As ``Host.status.failurePlan``."""
        named = [{"namespace": key.namespace, "name": key.name, "reason": why} for key, why in self.reasons]
        return {"restarts": self.restarts, "stays": self.stays, "reasons": named}


class _Named(msgspec.Struct, frozen=True):
    namespace: str = ""
    name: str = ""
    reason: str = ""


class _Plan(msgspec.Struct, frozen=True):
    restarts: int = 0
    stays: int = 0
    reasons: tuple[_Named, ...] = ()


class _HostStatus(msgspec.Struct, frozen=True, rename="camel"):
    failure_plan: _Plan | None = None


class _StoredHost(msgspec.Struct, frozen=True):
    status: _HostStatus = _HostStatus()


_stored_host = msgspec.json.Decoder(_StoredHost).decode


def _told(own: Own) -> HostOutlook | None:
    plan = _stored_host(own.raw).status.failure_plan
    if plan is None:
        return None
    reasons = tuple((Key(each.namespace, each.name), each.reason) for each in plan.reasons)
    return HostOutlook(plan.restarts, plan.stays, reasons)


TOLD: Index[Any] = Index(api.Host, value=_told)
"""What Hosts say of their failure plans."""


class _Machine(NamedTuple):
    """A machine, and what it was made from."""

    launched: Launched
    turn: Turn
    bound: frozenset[str] | None
    machine: p.Machine


class _Host(NamedTuple):
    """A host, and what it was made from."""

    node: KeptNode
    taken: Total
    by_others: Total
    failover_only: bool
    host: p.Host


@dataclass(frozen=True, slots=True)
class _Basis:
    """What the next outlook need not make anew."""

    plans: p.FailurePlans
    machines: Mapping[Key, _Machine]
    hosts: Mapping[str, _Host]


@dataclass(frozen=True)
class Outlook:
    """What would become of all VMs, of the hosts that a policy covers."""

    hosts: Mapping[str, HostOutlook] = field(default_factory=dict)
    vms: Mapping[Key, Fate] = field(default_factory=dict)
    basis: _Basis | None = field(default=None, compare=False, repr=False)

    said: Mapping[Key, str] = field(default_factory=dict, compare=False, repr=False)
    """What the conditions Protected of VMs are to say, in short, as ``Wish.protected``."""

    def __hash__(self) -> int:
        return hash((frozenset(self.hosts.items()), frozenset(self.vms.items())))

    @property
    def plans(self) -> Mapping[str, p.Placement]:
        """Host by host, where each VM would restart, or why not."""
        return self.basis.plans.by_host if self.basis is not None else {}

    def sum(self, names: Iterable[str]) -> dict[str, Any]:
        """As ``HAPolicy.status.failurePlan``, of some hosts."""
        known = {name: self.hosts[name] for name in names if name in self.hosts}
        worst = min(known, key=lambda name: (-known[name].stays, name), default="")
        return {
            "hosts": len(known),
            "worstHost": worst if worst and known[worst].stays else "",
            "incomplete": sum(plan.stays > 0 for plan in known.values()),
            "restarts": sum(plan.restarts for plan in known.values()),
            "stays": sum(plan.stays for plan in known.values()),
        }


NO_OUTLOOK = Outlook()
"""Where there is no policy."""


def outdated(found: Outlook, world: Snapshot) -> tuple[tuple[type[Any], Key], ...]:
    """The Hosts and VirtualMachines that say otherwise, by kind."""
    told, wishes = world.values(TOLD), world.values(WISHES)
    hosts_known = [(name, Key("", name)) for name in found.hosts]
    late = [(api.Host, key) for name, key in hosts_known if told.get(key) != found.hosts[name]]
    late += [(api.Host, key) for key in told if key.name not in found.hosts]
    up = {key: wish.protected for key, wish in wishes.items() if wish.protected is not None}
    vms = [key for key, protected in up.items() if protected != found.said.get(key, "")]
    return (*sorted(late, key=lambda each: each[1]), *((api.VirtualMachine, key) for key in sorted(vms)))


def protected(found: Outlook, key: Key) -> Condition | None:
    """The condition of a VM; None while it is on no host that a policy covers."""
    fate = found.vms.get(key)
    if fate is None:
        return None
    if fate.reason == RESTARTS:
        return Condition(PROTECTED, "True", RESTARTS, "if its host dies, it restarts on another")
    message = f"if its host dies, it does not restart: {_WHY.get(fate.reason, fate.reason)}"
    if fate.reason not in ("Paused", "Disabled"):
        message += f". The numbers: vdcos ha drill {fate.host}"
    return Condition(PROTECTED, "False", fate.reason, message)


_WHY = {
    "Paused": "the HAPolicy of its host is paused; remove its spec.paused",
    "Disabled": "its restart priority is Disabled, as declared",
    "LocalDisk": "no other host can reach its disks; move them to a datastore that more hosts reach",
    "Selector": "no other host has the labels that it asks for; change its placement, or label more nodes",
    "Taint": "all other hosts that it may run on are cordoned or tainted",
    "Device": "no other host has its devices free",
    "Affinity": "no other host is where the VMs run that it must be together with",
    "AntiAffinity": "on all other hosts run VMs that it must be apart from",
    "NoCapacity": "no other host has enough CPU, memory or pods free; free some, add hosts, or promise more failover "
    "capacity (spec.admissionControl of the HAPolicy)",
}


def make(world: Snapshot, before: Outlook | None) -> Outlook:
    """What would become of all VMs."""
    policies = [cr for key in world.values(POLICIES) if isinstance(cr := world.get(api.HAPolicy, key), api.HAPolicy)]
    if not policies:
        return NO_OUTLOOK
    old = before.basis if before is not None else None
    nodes = {key.name: node for key, node in sorted(world.values(NODES).items())}
    covering = {name: hosts.covering_labels(policies, node.labels) for name, node in nodes.items()}
    known = _hosts(nodes, world, old.hosts if old is not None else {})
    there = _machines(nodes, covering, world, old.machines if old is not None else {})
    plans = p.failure_plans(
        (each.host for each in known.values()),
        (each.machine for each in there.values()),
        previous=old.plans if old is not None else None,
    )
    found, fates = {}, {}
    for name, plan in plans.by_host.items():
        policy = covering[name]
        if policy is None:
            continue
        paused = policy.spec.paused is not None
        stays: list[tuple[Key, str]] = []
        for text in plan.placed:
            key = _key(text)
            fates[key] = Fate(name, policy.metadata.name, "Paused" if paused else RESTARTS)
            stays += [(key, "Paused")] if paused else []
        for text, why in plan.unplaced.items():
            key = _key(text)
            fates[key] = Fate(name, policy.metadata.name, "Paused" if paused else str(why.reason))
            stays.append((key, fates[key].reason))
        found[name] = HostOutlook(0 if paused else len(plan.placed), len(stays), tuple(stays[: counts.NAMED]))
    said = {key: f"{'True' if fate.reason == RESTARTS else 'False'}/{fate.reason}" for key, fate in fates.items()}
    return Outlook(found, fates, _Basis(plans, there, known), said)


def _key(text: str) -> Key:
    namespace, _, name = text.partition("/")
    return Key(namespace, name)


def _hosts(nodes: Mapping[str, KeptNode], world: Snapshot, before: Mapping[str, _Host]) -> dict[str, _Host]:
    found = {}
    kept = world.values(KEPT_FREE)
    for name, node in nodes.items():
        taken, others = world.total(TAKEN, name), world.total(TAKEN_BY_OTHERS, name)
        spare = Key("", name) in kept
        old = before.get(name)
        if old is not None and old[:4] == (node, taken, others, spare):
            found[name] = old
            continue
        used = {**(taken.amount or {})}
        for resource, amount in (others.amount or {}).items():
            used[resource] = used.get(resource, 0) + amount
        used[p.PODS] = taken.count + others.count
        host = p.Host(
            name=name,
            allocatable=node.allocatable,
            used=used,
            labels=node.labels,
            taints=tuple(each for each in node.taints if each.key not in (hosts.FAILOVER_ONLY, _CORDONED)),
            schedulable=node.schedulable,
            failover_only=spare,
        )
        found[name] = _Host(node, taken, others, spare, host)
    return found


_CORDONED = "node.kubernetes.io/unschedulable"
"""The taint that Kubernetes puts on a cordoned node."""


def _machines(
    nodes: Mapping[str, KeptNode],
    covering: Mapping[str, api.HAPolicy | None],
    world: Snapshot,
    before: Mapping[Key, _Machine],
) -> dict[Key, _Machine]:
    """All VMs that run, with their turn among those of their host and the hosts that reach their disks."""
    chosen = _chosen(world)
    wishes = world.values(WISHES)
    labels = {name: node.labels for name, node in nodes.items()}
    tied = {claim: vms.reached_from(wanted, labels) for claim, wanted in world.values(TIED).values()}
    on: dict[str, dict[Key, order.Wish | None]] = {}
    for key, each in chosen.items():
        on.setdefault(each.machine.host, {})[key] = wishes.get(key)
    turns: dict[Key, Turn] = {}
    for name, group in on.items():
        policy = covering.get(name)
        turns |= order.turns(policy.spec if policy is not None else _DEFAULTS, group)
    found = {}
    for key, each in sorted(chosen.items()):
        bound = _bound(each, tied, labels) if tied else None
        old = before.get(key)
        if old is not None and old.launched is each and old.turn == turns[key] and old.bound == bound:
            found[key] = old
        else:
            turn, plain = turns[key], each.machine
            machine = p.Machine(
                plain.namespace, plain.name, plain.requests, plain.host, plain.labels, plain.selector,
                plain.tolerations, plain.rules, bound, turn.priority, turn.depth,
            )  # fmt: skip
            found[key] = _Machine(each, turn, bound, machine)
    return found


_DEFAULTS = HAPolicySpec()


def _chosen(world: Snapshot) -> dict[Key, Launched]:
    """One pod for each VM: while it migrates it has two, and runs in the one on the instance's node."""
    chosen: dict[Key, Launched] = {}
    runs_on = world.values(RUNS_ON)

    def rank(each: Launched) -> tuple[bool, str]:
        return runs_on.get(each.vm) != each.machine.host, each.pod

    for each in world.values(TAKEN).values():
        other = chosen.get(each.vm)
        if other is None or rank(each) < rank(other):
            chosen[each.vm] = each
    return chosen


def _bound(
    each: Launched, tied: Mapping[str, frozenset[str]], labels: Mapping[str, Mapping[str, str]]
) -> frozenset[str] | None:
    reached = [tied[claim] for claim in each.claims if claim in tied]
    if not reached:
        return None
    common = frozenset.intersection(*reached)
    return None if len(common) == len(labels) else common


OUTLOOK: Derived[Outlook] = Derived(
    "the outlook",
    (POLICIES, NODES, KEPT_FREE, TAKEN, TAKEN_BY_OTHERS, RUNS_ON, TIED, WISHES),
    make,
    (api.HAPolicy,),
    SECONDS_BETWEEN,
)
"""What would become of all VMs if their hosts died."""
