"""What an HAPolicy looks at: its hosts, what is known of each, and their failures."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vdcos import api
from vdcos.core import failures, hosts
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.kubernetes import (
    NODE_LEASES,
    Heartbeat,
    LauncherPod,
    Lease,
    Node,
    OtherPod,
    PersistentVolume,
)
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Index, Key, Own, Unreadable, Without, declared
from vdcos.core.plan import Answer
from vdcos.core.service import Watch
from vdcos.core.snapshot import Snapshot
from vdcos.providers.failover import room
from vdcos.providers.failover.machines import NODES, RUNS_ON, TIED, takes
from vdcos.providers.failover.order import WISHES
from vdcos.providers.failover.outlook import NO_OUTLOOK, OUTLOOK, TOLD, Outlook, outdated


@dataclass(frozen=True, slots=True)
class SeenHost:
    """One host. Times are monotonic seconds; None for what is not there."""

    node: Node
    host: api.Host | None
    renewal: str
    """The time in its Lease."""
    renewed: float | None
    """When its Lease was last seen to change."""
    silent_since: float | None
    """When the silence of its Lease began."""
    beaten: float | None
    """When virt-handler last gave a sign of life."""
    heart_silent: float
    """For how many seconds virt-handler is known to have been silent."""
    failures: tuple[api.HostFailure, ...]
    """All that are known of it."""

    @property
    def is_proved_down(self) -> bool:
        """Whether this life of the host is proved to be over, and its Lease was not renewed since: there is nothing
        more to find out, for as long as it stays down."""
        return any(
            failure.status.receipt is not None
            and failure.spec.incarnation == self.node.status.node_info.boot_id
            and failure.status.last_heard == self.renewal
            for failure in self.failures
        )


@dataclass(frozen=True, slots=True)
class Seen:
    hosts: tuple[SeenHost, ...]
    """Those that the policy counts for, by name."""
    overlaps: Mapping[str, str]
    """Nodes that it selects, and the older policies that count for them."""
    heard: float
    """When the API server last said anything about Leases."""
    answers: Mapping[str, Answer]
    blind: Unreadable | None
    """Why hosts or their Leases cannot be seen."""
    account: room.Account | None = None
    outlook: Outlook = NO_OUTLOOK
    outdated: tuple[tuple[type[Any], Key], ...] = ()
    """Objects that do not say (any more) what the outlook is."""
    behind: float | None = None
    """In how many seconds the outlook is made anew, if it is behind."""


def look(key: Key, world: Snapshot) -> Seen:
    """Gather it."""
    policies = hosts.parsed(world, api.HAPolicy)
    own = world.get(api.HAPolicy, key)
    mine, overlaps = [], {}
    if isinstance(own, api.HAPolicy):
        for node in sorted(world.all(Node), key=lambda node: node.metadata.name):
            if not hosts.runs_vms(node) or not hosts.selects(own, node):
                continue
            covering = hosts.covering(policies, node)
            if covering is not None and covering.metadata.name == key.name:
                mine.append(_host(node, world))
            elif covering is not None:
                overlaps[node.metadata.name] = covering.metadata.name
    blind = world.missing(Node) or world.missing(Lease) or world.missing(api.HostFailure)
    found = world.derived(OUTLOOK)
    return Seen(
        hosts=tuple(mine),
        overlaps=overlaps,
        heard=world.heard_at(Lease),
        answers=world.answers(key),
        blind=blind,
        account=room.account(world),
        outlook=found,
        outdated=outdated(found, world),
        behind=world.derived_in(OUTLOOK),
    )


def _host(node: Node, world: Snapshot) -> SeenHost:
    name = node.metadata.name
    host = world.get(api.Host, Key("", name))
    heart = world.silent_since(Heartbeat, Key("", name))
    known_failures = (world.get(api.HostFailure, known) for known in world.keys(failures.OF_HOST, name))
    lease = world.get(Lease, Key(NODE_LEASES, name))
    return SeenHost(
        node=node,
        renewal=lease.spec.renew_time if isinstance(lease, Lease) else "",
        host=host if isinstance(host, api.Host) else None,
        renewed=world.changed_at(Lease, Key(NODE_LEASES, name)),
        silent_since=world.silent_since(Lease, Key(NODE_LEASES, name)),
        beaten=world.changed_at(Heartbeat, Key("", name)),
        heart_silent=world.heard_at(Heartbeat) - heart if heart is not None else 0.0,
        failures=tuple(cr for cr in known_failures if isinstance(cr, api.HostFailure)),
    )


# Who looks again when something changes


def _everyone(_: Any, world: Snapshot) -> Iterable[Key]:
    return [own.metadata.key for own in world.all(api.HAPolicy)]


def _suspecting(held: Any, world: Snapshot) -> Iterable[Key]:
    return world.keys(failures.SUSPECTING, held.metadata.name)


def _policy_of(own: Own, _: Snapshot) -> Iterable[Key]:
    return (Key("", failures.slim(own.raw).spec.policy),)


def _as_host(node: Node) -> Any:
    """What decides who watches it, and who it is."""
    status = node.status
    return (
        node.metadata.labels,
        node.ready,
        status.node_info,
        node.address,
        status.daemon_endpoints,
        node.spec.provider_id,
    )


def _as_instance(instance: VirtualMachineInstance) -> tuple[str | None, bool]:
    return RUNS_ON.value(instance), room.is_stuck(instance)


PATIENCE = 2.0
"""Seconds that what is counted may be behind. Nothing waits for it but VMs that wait for room."""

WATCHES: tuple[Watch[Any], ...] = (
    Watch(Node, _everyone, sees=_as_host),
    Watch(Node, _everyone, sees=NODES.value, patience=PATIENCE),
    Watch(LauncherPod, _everyone, sees=takes, patience=PATIENCE),
    Watch(OtherPod, _everyone, sees=takes, patience=PATIENCE),
    Watch(PersistentVolume, _everyone, sees=TIED.value, patience=PATIENCE),
    Watch(VirtualMachineInstance, _everyone, sees=_as_instance, patience=PATIENCE),
    Watch(kubevirt.VirtualMachine, _everyone, sees=room.admitted, patience=PATIENCE),
    Watch(api.VirtualMachine, _everyone, sees=WISHES.value, patience=PATIENCE),
    Watch(api.Host, _everyone, sees=TOLD.value, patience=PATIENCE),
    Watch(Heartbeat, _suspecting, sees=lambda node: node.metadata.annotations, dated=True),
    Watch(Lease, _suspecting, sees=lambda lease: lease.spec.renew_time, dated=True),
    Watch(api.Host, _everyone, sees=declared),
    Watch(api.HostFailure, _policy_of),
)
INDEXES: tuple[Index[Any] | Without, ...] = (failures.OF_HOST, failures.SUSPECTING, TOLD, *room.INDEXES)
DERIVES = (OUTLOOK, *room.DERIVES)
