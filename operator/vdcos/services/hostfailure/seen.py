"""What a HostFailure looks at: the host and its signs of life, what is left of it, and what becomes of its VMs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from vdcos import api
from vdcos.core import failures, hosts, marks
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.kubernetes import NODE_LEASES, Heartbeat, LauncherPod, Lease, Node
from vdcos.core.foreign.kubevirt import Migration, VirtualMachineInstance
from vdcos.core.foreign.medik8s import FenceAgentsRemediation, FenceAgentsRemediationTemplate
from vdcos.core.objects import Index, Key, Own, Unreadable, declared
from vdcos.core.plan import Answer
from vdcos.core.service import Watch
from vdcos.core.snapshot import Snapshot
from vdcos.providers.fencing.fence import MEDIK8S, Confirmation, Signs


class _Toleration(msgspec.Struct, frozen=True):
    key: str = ""


class _TemplateSpec(msgspec.Struct, frozen=True):
    tolerations: tuple[_Toleration, ...] = ()


class _Template(msgspec.Struct, frozen=True):
    spec: _TemplateSpec = _TemplateSpec()


class _Strategy(msgspec.Struct, frozen=True, rename="camel"):
    run_strategy: str = ""
    template: _Template = _Template()


_strategy = msgspec.json.Decoder(_Strategy).decode


@dataclass(frozen=True, slots=True)
class SeenVm:
    """A VM that ran on the host."""

    vm: api.VirtualMachine | None
    """Its VirtualMachine, where it has one that can be read."""
    malformed: bool
    """It has one, and nobody can read it."""
    child: kubevirt.VirtualMachine | None
    strategy: str
    """The child's runStrategy."""
    failover: bool
    """The child may start on hosts that are kept for failover."""
    instance: VirtualMachineInstance | None
    """The instance that there is now."""


@dataclass(frozen=True, slots=True)
class Seen:
    node: Node | Unreadable | None
    host: api.Host | None
    failover: bool
    """There are hosts that are kept for failover."""
    policy: api.HAPolicy | None
    others: tuple[str, ...]
    """When each of the other hosts under the same policy that have failed, and have not booted since, was proved to be
    down; "" for those that are not."""
    failed: tuple[str, ...]
    """When this host has failed, this time and before, false alarms left out; as Kubernetes writes times."""
    signs: Signs
    silent: float
    """For how many seconds its Lease is known not to have been renewed."""
    pods: tuple[LauncherPod, ...]
    """Pods of VMs that are bound to the host."""
    starting: tuple[LauncherPod, ...]
    """Pods of the VMs that restart."""
    connected: frozenset[str]
    """Of the hosts of these pods, those that are well."""
    instances: tuple[VirtualMachineInstance, ...]
    """Instances that run on the host, or have a pod there."""
    migrations: tuple[Migration, ...]
    """Live migrations of these instances that have not ended."""
    vms: Mapping[Key, SeenVm]
    """What there is of the VMs that are counted already, or are to be."""
    answers: Mapping[str, Answer]
    blind: Unreadable | None
    """Why what is left of the host cannot be seen; then nothing is released."""


NEEDED = (Node, LauncherPod, VirtualMachineInstance, Migration, kubevirt.VirtualMachine, api.VirtualMachine)
"""What cannot be read of these is neither there nor gone: then nothing is released, and nothing given up."""


def look(key: Key, world: Snapshot) -> Seen:
    """Gather it."""
    cr = world.get(api.HostFailure, key)
    failure = cr if isinstance(cr, api.HostFailure) else None
    name = failure.spec.host if failure else ""
    node = world.get(Node, Key("", name))
    host, policy = world.get(api.Host, Key("", name)), None
    if failure is not None:
        policy = world.get(api.HAPolicy, Key("", failure.spec.policy))
    instances = tuple(world.by(hosts.INSTANCES_ON, name))
    wanted = {instance.metadata.key for instance in instances}
    if failure is not None:
        wanted |= {Key(each.namespace, each.name) for each in failure.status.machines}
    starting = tuple(pod for each in sorted(wanted) for pod in world.by(PODS_OF, str(each)))
    signs = _signs(failure, node, policy, world)
    since = world.silent_since(Lease, Key(NODE_LEASES, name))
    heard = world.heard_at(Lease)
    return Seen(
        node=node,
        host=host if isinstance(host, api.Host) else None,
        failover=any(marks.has(node, marks.FAILOVER_ONLY) for node in world.all(Node)),
        policy=policy if isinstance(policy, api.HAPolicy) else None,
        others=_others(failure, world) if failure else (),
        failed=_failed(name, world),
        signs=signs,
        silent=heard - since if since is not None else 0.0,
        pods=tuple(world.by(PODS_ON, name)),
        starting=starting,
        connected=frozenset(pod.spec.node_name for pod in starting if _is_connected(pod.spec.node_name, world)),
        instances=instances,
        migrations=tuple(
            migration
            for instance in instances
            for migration in world.by(MIGRATIONS_OF, str(instance.metadata.key))
            if migration.status.phase not in ("Succeeded", "Failed")
        ),
        vms={wanted_key: _vm(wanted_key, world) for wanted_key in sorted(wanted)},
        answers=world.answers(key),
        blind=next((why for kind in NEEDED if (why := world.missing(kind)) is not None), None),
    )


def _is_connected(name: str, world: Snapshot) -> bool:
    host = world.get(api.Host, Key("", name))
    return isinstance(host, api.Host) and host.status.state == "Connected"


def has_booted(failure: api.HostFailure, node: Any) -> bool:
    """The same machine shows another incarnation than the one that failed."""
    if not isinstance(node, Node):
        return False
    info = node.status.node_info
    return info.boot_id not in ("", failure.spec.incarnation) and info.system_uuid == failure.spec.machine != ""


def _others(failure: api.HostFailure, world: Snapshot) -> tuple[str, ...]:
    proved: dict[str, str] = {}
    for key in world.keys(failures.OPEN_UNDER, failure.spec.policy):
        other = world.get(api.HostFailure, key)
        if not isinstance(other, api.HostFailure) or other.spec.host == failure.spec.host:
            continue
        if not has_booted(other, world.get(Node, Key("", other.spec.host))):
            at = other.status.receipt.at if other.status.receipt is not None else ""
            proved[other.spec.host] = min(at, proved.get(other.spec.host, at))
    return tuple(sorted(proved.values()))


def _failed(host: str, world: Snapshot) -> tuple[str, ...]:
    known = (world.get(api.HostFailure, key) for key in world.keys(failures.OF_HOST, host))
    real = [cr for cr in known if isinstance(cr, api.HostFailure) and cr.status.outcome != "FalseAlarm"]
    return tuple(sorted(cr.metadata.creation_timestamp for cr in real))


def _signs(failure: api.HostFailure | None, node: Any, policy: Any, world: Snapshot) -> Signs:
    """What the host shows of itself, and since when it shows nothing."""
    name = failure.spec.host if failure else ""
    found = world.get(Lease, Key(NODE_LEASES, name))
    renewal = found.spec.renew_time if isinstance(found, Lease) else ""
    lease = world.silent_since(Lease, Key(NODE_LEASES, name))
    heart = world.changed_at(Heartbeat, Key("", name))
    word = failure.spec.confirmed_down if failure else None
    template, remediation, since = None, None, 0.0
    fencing = policy.spec.fencing.providers if isinstance(policy, api.HAPolicy) else ()
    if wanted := next((each.template for each in fencing if each.provider == MEDIK8S and each.template), None):
        template = world.get(FenceAgentsRemediationTemplate, Key(wanted.namespace, wanted.name))
        remediation = world.get(FenceAgentsRemediation, Key(wanted.namespace, name))
        since = world.changed_at(FenceAgentsRemediation, Key(wanted.namespace, name)) or 0.0
    info = node.status.node_info if isinstance(node, Node) else None
    heard = world.heard_at(Lease)
    if lease is None:
        # Deleted with its Node, perhaps: a kubelet that lived would make it anew.
        lease = world.gone_since(Lease, Key(NODE_LEASES, name))
    return Signs(
        last_sign=max(heard if lease is None else lease, heart if heart is not None else -float("inf")),
        known_until=heard,
        node="Present" if isinstance(node, Node) else "Unknown" if isinstance(node, Unreadable) else "Gone",
        boot_id=info.boot_id if info else "",
        machine=info.system_uuid if info else "",
        confirmed=Confirmation(word.incarnation, word.by, word.why) if word else None,
        remediation=remediation,
        remediation_since=since,
        template=template,
        renewal=renewal,
    )


def _vm(key: Key, world: Snapshot) -> SeenVm:
    vm = world.get(api.VirtualMachine, key)
    child = world.get(kubevirt.VirtualMachine, key)
    instance = world.get(VirtualMachineInstance, key)
    there = child if isinstance(child, kubevirt.VirtualMachine) else None
    said = _strategy(there.spec) if there is not None else _Strategy()
    return SeenVm(
        vm=vm if isinstance(vm, api.VirtualMachine) else None,
        malformed=isinstance(vm, Unreadable),
        child=there,
        strategy=said.run_strategy,
        failover=any(each.key == hosts.FAILOVER_ONLY for each in said.template.spec.tolerations),
        instance=instance if isinstance(instance, VirtualMachineInstance) else None,
    )


PODS_ON: Index[LauncherPod] = Index(LauncherPod, lambda pod: (pod.spec.node_name,) if pod.spec.node_name else ())
"""Pods of VMs by the nodes that they are bound to."""
PODS_OF: Index[LauncherPod] = Index(LauncherPod, lambda pod: (f"{pod.metadata.namespace}/{pod.vm}",) if pod.vm else ())
"""Pods by ``namespace/name`` of their VMs."""
MIGRATIONS_OF: Index[Migration] = Index(Migration, lambda held: (f"{held.metadata.namespace}/{held.spec.vmi_name}",))
"""Live migrations by ``namespace/name`` of their instance."""


# Who looks again when something changes


def _open_on(name: str, world: Snapshot) -> Iterable[Key]:
    return world.keys(failures.OPEN_ON, name)


def _by_name(held: Any, world: Snapshot) -> Iterable[Key]:
    return _open_on(held.metadata.name, world)


def _by_vm(held: Any, world: Snapshot) -> Iterable[Key]:
    return world.keys(failures.MACHINES, str(held.metadata.key))


def _by_instance(held: VirtualMachineInstance, world: Snapshot) -> Iterable[Key]:
    yield from _by_vm(held, world)
    for name in hosts.INSTANCES_ON.keys(held):
        yield from _open_on(name, world)


def _by_policy(held: Any, world: Snapshot) -> Iterable[Key]:
    return world.keys(failures.OPEN_UNDER, held.metadata.name)


def _siblings(own: Own, world: Snapshot) -> Iterable[Key]:
    return world.keys(failures.OPEN_UNDER, failures.slim(own.raw).spec.policy)


def _remediated(held: FenceAgentsRemediation, world: Snapshot) -> Iterable[Key]:
    return _open_on(held.metadata.name, world)


def _by_template(held: FenceAgentsRemediationTemplate, world: Snapshot) -> Iterable[Key]:
    for policy in hosts.parsed(world, api.HAPolicy):
        templates = [each.template for each in policy.spec.fencing.providers if each.template is not None]
        if any(Key(template.namespace, template.name) == held.metadata.key for template in templates):
            yield from world.keys(failures.OPEN_UNDER, policy.metadata.name)


def _by_migration(held: Migration, world: Snapshot) -> Iterable[Key]:
    return world.keys(failures.MACHINES, f"{held.metadata.namespace}/{held.spec.vmi_name}")


_TOLD = ("Ready", "AgentConnected", "PodScheduled")


def _power(held: VirtualMachineInstance) -> Any:
    status = held.status
    return (
        held.metadata.uid,
        held.metadata.deletion_timestamp,
        status.phase,
        status.node_name,
        status.active_pods,
        [(c.status, c.message if c.type == "PodScheduled" else "") for c in status.conditions if c.type in _TOLD],
    )


PATIENCE = 1.0
"""Seconds by which the next in turn may be late. A look counts every VM of the host, and its status names them all:
with 100 VMs that is written in 40 to 90 ms of the API server's time, which has their restarts to do."""
WATCHES: tuple[Watch[Any], ...] = (
    Watch(Node, _by_name, sees=lambda node: (node.spec, node.status.node_info, node.ready, node.metadata.annotations)),
    Watch(Lease, _by_name, sees=lambda lease: lease.spec.renew_time, dated=True),
    Watch(Heartbeat, _by_name, sees=lambda node: node.metadata.annotations, dated=True),
    Watch(api.Host, _by_name, sees=declared),
    Watch(api.HAPolicy, _by_policy, sees=declared),
    Watch(api.HostFailure, _siblings, sees=lambda own: failures.slim(own.raw).status.phase),
    Watch(LauncherPod, lambda pod, world: _open_on(pod.spec.node_name, world)),
    Watch(VirtualMachineInstance, _by_instance, sees=_power, patience=PATIENCE),
    Watch(
        kubevirt.VirtualMachine, _by_vm, sees=lambda vm: (vm.metadata.uid, _strategy(vm.spec), vm.status.start_failure)
    ),
    Watch(api.VirtualMachine, _by_vm, patience=PATIENCE),
    Watch(Migration, _by_migration, sees=lambda held: held.status.phase),
    Watch(FenceAgentsRemediation, _remediated, dated=True),
    Watch(FenceAgentsRemediationTemplate, _by_template),
)
INDEXES: tuple[Index[Any], ...] = (
    failures.OF_HOST,
    failures.OPEN_ON,
    failures.OPEN_UNDER,
    failures.MACHINES,
    hosts.INSTANCES_ON,
    PODS_ON,
    PODS_OF,
    MIGRATIONS_OF,
)
