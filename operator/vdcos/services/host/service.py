"""Host: a KubeVirt node as the datacenter sees it. What is known of it, who covers it, and its marks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vdcos import api
from vdcos.core import amounts, conditions, counts, failures, hosts, kinds, marks, ownership
from vdcos.core.conditions import Condition
from vdcos.core.foreign.kubernetes import LauncherPod, Node, OtherPod
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Index, Key, Meta, Own, Total, Unreadable, declared
from vdcos.core.plan import Action, Create, Instant, Plan
from vdcos.core.service import Watch, Write
from vdcos.core.snapshot import Snapshot
from vdcos.providers.failover import room
from vdcos.providers.failover.machines import TAKEN, TAKEN_BY_OTHERS, takes
from vdcos.providers.failover.order import WISHES
from vdcos.providers.failover.outlook import OUTLOOK, HostOutlook
from vdcos.providers.fencing import fence

CONNECTED = "Connected"
PROTECTED = "Protected"
FENCEABLE = "Fenceable"

PATIENCE = 2.0
"""Seconds that the number of VMs may be behind."""


@dataclass(frozen=True, slots=True)
class Seen:
    node: Node | Unreadable | None
    policy: api.HAPolicy | None
    """The policy that covers it."""
    failure: api.HostFailure | None
    """Its failure that is not completed."""
    vms: int
    taken: Total
    """By pods of VMs."""
    by_others: Total
    """By all other pods."""
    plan: HostOutlook | None
    """What would become of its VMs."""
    unprotected: tuple[Key, ...]
    """VMs on it that say something about their protection, though no policy covers it."""
    stray: bool = False
    """It is cordoned for a failure that is not there: somebody has deleted it."""


# Who looks again when something changes


def _same_name(held: Any, _: Snapshot) -> Iterable[Key]:
    return (Key("", held.metadata.name),)


def _everyone(_: Any, world: Snapshot) -> Iterable[Key]:
    return [node.metadata.key for node in world.all(Node)]


def _host_of(own: Own, _: Snapshot) -> Iterable[Key]:
    return (Key("", failures.slim(own.raw).spec.host),)


def _hosts_of(held: VirtualMachineInstance, _: Snapshot) -> Iterable[Key]:
    return [Key("", name) for name in hosts.INSTANCES_ON.keys(held)]


def _as_node(node: Node) -> Any:
    return (
        node.metadata.uid,
        node.metadata.labels,
        node.metadata.annotations,
        node.spec,
        node.status.node_info,
        node.status.allocatable,
    )


def _covers(own: Own) -> Any:
    """What of a policy matters to hosts: whom it covers, whom it suspects, and whether it sees anything."""
    return declared(own), failures.suspects(own.raw), failures.is_blind(own.raw)


def _stage(own: Own) -> Any:
    failure = failures.slim(own.raw)
    return failure.status.phase, failure.waits_for == "Quarantined"


def _node_of(pod: LauncherPod | OtherPod, _: Snapshot) -> Iterable[Key]:
    return (Key("", pod.spec.node_name),) if pod.spec.node_name else ()


WATCHES: tuple[Watch[Any], ...] = (
    Watch(Node, _same_name, sees=_as_node),
    Watch(api.HAPolicy, _everyone, sees=_covers),
    Watch(api.HostFailure, _host_of, sees=_stage),
    Watch(LauncherPod, _node_of, sees=takes, patience=PATIENCE),
    Watch(OtherPod, _node_of, sees=takes, patience=counts.SECONDS_BETWEEN),
    Watch(
        VirtualMachineInstance, _hosts_of, sees=lambda held: frozenset(hosts.INSTANCES_ON.keys(held)), patience=PATIENCE
    ),
)


class HostService:
    """A Host exists for every node that runs VMs; it says what the node's state is and what would come of its death."""

    name = "host"
    resource = kinds.HOST
    kind = api.Host
    needed = (CONNECTED,)
    watches = WATCHES
    indexes: tuple[Index[Any], ...] = (hosts.INSTANCES_ON, failures.OPEN_ON, TAKEN, TAKEN_BY_OTHERS, WISHES)
    derives = (OUTLOOK,)
    writes = (Write(kinds.HOST, ("create",)), Write(Node.resource, ("patch",)))

    def observe(self, key: Key, world: Snapshot) -> Seen:
        node = world.get(Node, key)
        policy = hosts.covering(hosts.parsed(world, api.HAPolicy), node) if isinstance(node, Node) else None
        open_ones = (world.get(api.HostFailure, known) for known in world.keys(failures.OPEN_ON, key.name))
        return Seen(
            node=node,
            policy=policy,
            failure=next((failure for failure in open_ones if isinstance(failure, api.HostFailure)), None),
            vms=world.total(hosts.INSTANCES_ON, key.name).count,
            taken=world.total(TAKEN, key.name),
            by_others=world.total(TAKEN_BY_OTHERS, key.name),
            plan=world.derived(OUTLOOK).hosts.get(key.name),
            unprotected=tuple(_protected_on(key.name, world)) if policy is None else (),
            stray=isinstance(node, Node) and _is_stray(marks.cordoned_by(node), world),
        )

    def found(self, key: Key, seen: Seen) -> Sequence[Action]:
        """A Host for a node that has none, which goes with its node. Whoever declares one later declares that one."""
        if not isinstance(seen.node, Node) or not hosts.runs_vms(seen.node):
            return ()
        owner = Meta(name=seen.node.metadata.name, uid=seen.node.metadata.uid)
        metadata = ownership.metadata(key)
        metadata["ownerReferences"] = [ownership.owner_reference(Node.resource, owner)]
        manifest = {"apiVersion": kinds.HOST.api_version, "kind": "Host", "metadata": metadata, "spec": {}}
        return (Create(kinds.HOST, manifest, "KubeVirt runs on this node"),)

    def plan(self, cr: api.Host, seen: Seen, now: Instant) -> Plan:
        node = seen.node if isinstance(seen.node, Node) else None
        state, connected = _state(cr, seen, node)
        status: dict[str, Any] = {"state": state, "vms": seen.vms}
        if node is not None:
            status["incarnation"] = node.status.node_info.boot_id
            status["machine"] = node.status.node_info.system_uuid
            status["capacity"] = _capacity(node)
            status["reserved"] = _reserved(seen)
        if seen.failure is not None:
            status["failure"] = seen.failure.metadata.name
        if seen.policy is not None:
            status["policy"] = seen.policy.metadata.name
            suspect = _suspicion(cr, seen)
            if seen.plan is not None:
                status["failurePlan"] = seen.plan.status()
            status["verdict"] = suspect.verdict if suspect is not None else "Blind" if _is_blind(seen) else "Connected"
            if suspect is not None and suspect.evidence:
                status["evidence"] = [each.manifest() for each in suspect.evidence]
        status = {name: value for name, value in status.items() if value not in ("", None)}
        return Plan(
            actions=tuple(_marks(cr, node, seen.stray)) if node is not None else (),
            conditions=(connected, _protected(seen), _fenceable(cr)),
            status=status,
            wakes=tuple((api.VirtualMachine, key) for key in seen.unprotected),
        )


def _protected_on(name: str, world: Snapshot) -> Iterable[Key]:
    wishes = world.values(WISHES)
    return (
        key for key in world.keys(hosts.INSTANCES_ON, name) if (wish := wishes.get(key)) is not None and wish.protected
    )


def _suspicion(cr: api.Host, seen: Seen) -> Any:
    suspects = seen.policy.status.suspects if seen.policy is not None else ()
    return next((each for each in suspects if each.host == cr.metadata.name), None)


def _is_blind(seen: Seen) -> bool:
    """Whether nothing is heard of hosts."""
    return seen.policy is not None and any(known.reason == "Blind" for known in seen.policy.status.conditions)


def _state(cr: api.Host, seen: Seen, node: Node | None) -> tuple[str, Condition]:
    """The first that applies."""
    name, failure, suspect = cr.metadata.name, seen.failure, _suspicion(cr, seen)
    if failure is not None and failure.status.phase not in (None, "Completed"):
        see = f"see kubectl describe hostfailure {failure.metadata.name}"
        match failure.status.phase:
            case "Suspect" | "Held":
                return "Suspect", conditions.false(CONNECTED, "Suspect", f"it may be dead; {see}")
            case "Fencing":
                return "Fencing", conditions.false(CONNECTED, "Fencing", f"it is to be proved down; {see}")
            case _ if node is None or node.status.node_info.boot_id == failure.spec.incarnation:
                return "Fenced", conditions.false(CONNECTED, "Fenced", f"it is proved to be down; {see}")
        if any(known.reason == "Quarantined" for known in failure.status.conditions):
            return "Quarantined", conditions.false(CONNECTED, "Quarantined", f"it fails again and again; {see}")
        return "Recovering", conditions.false(CONNECTED, "Recovering", f"it is back, and not used yet; {see}")
    if isinstance(seen.node, Unreadable):
        return "Unmanaged", conditions.unknown(CONNECTED, "CannotSee", f"nodes cannot be read: {seen.node.why}")
    if node is None:
        message = f"there is no node {name}: add it to the cluster, or delete this Host"
        return "Unmanaged", conditions.false(CONNECTED, "NoNode", message)
    if not hosts.runs_vms(node):
        message = f"KubeVirt does not run on node {name} (it has no label {hosts.SCHEDULABLE})"
        return "Unmanaged", conditions.false(CONNECTED, "NotAHost", message)
    if suspect is not None and suspect.verdict == "Isolated":
        return "Isolated", conditions.false(CONNECTED, "Isolated", f"{suspect.why}. Its VMs run and are left alone")
    if suspect is not None and suspect.verdict in ("Suspect", "Dead", "ApiTrouble"):
        return "Suspect", conditions.false(CONNECTED, suspect.verdict, suspect.why)
    if cr.spec.maintenance:
        return "Maintenance", conditions.true(CONNECTED, "Maintenance", "cordoned, as declared")
    if seen.policy is None:
        return "Unmanaged", conditions.true(CONNECTED, "Unmanaged", "no HAPolicy covers it: nobody watches over it")
    if _is_blind(seen):
        message = "nothing is heard of the API server, and so of no host; passes by itself"
        return "Connected", conditions.unknown(CONNECTED, "Blind", message)
    return "Connected", conditions.true(CONNECTED, "Connected", "it renews its Lease")


def _protected(seen: Seen) -> Condition:
    if seen.policy is None:
        message = "no HAPolicy covers this host: if it dies, its VMs stay down. Make one, or widen its spec.hosts"
        return conditions.false(PROTECTED, "NoPolicy", message)
    if seen.policy.spec.paused is not None:
        message = f"HAPolicy {seen.policy.metadata.name} is paused: {seen.policy.spec.paused.reason}"
        return conditions.false(PROTECTED, "Paused", message)
    return conditions.true(PROTECTED, "Protected", f"by HAPolicy {seen.policy.metadata.name}")


def _fenceable(cr: api.Host) -> Condition:
    if switches := fence.switches(cr.spec.bmc):
        return conditions.true(FENCEABLE, "Declared", f"by {', '.join(switches)}")
    message = "no power switch is declared: set spec.bmc, or nothing but the policy's own providers proves it down"
    return conditions.false(FENCEABLE, "NoPowerSwitch", message)


def _is_stray(mark: str, world: Snapshot) -> bool:
    name = mark.removeprefix(marks.FAILURE)
    return name != mark and world.get(api.HostFailure, Key("", name)) is None


def _marks(cr: api.Host, node: Node, stray: bool) -> list[Action]:
    """The cordon of maintenance, and the taint of a host that is kept for failover. A mark of ours without its cordon
    goes: somebody has taken that away, and the next one may be theirs. So do the marks of a failure that was deleted:
    nobody else would take them back, and a host that is still dead gets them anew, with its next failure."""
    mark = marks.MAINTENANCE + cr.metadata.name
    actions: list[Action] = marks.forget(node, "somebody has taken its cordon away")
    if stray:
        actions += marks.uncordon(node, marks.FAILURE, "the HostFailure that it was cordoned for was deleted")
        actions += marks.untaint(node, marks.DOWN, "the HostFailure that said so was deleted")
    if cr.spec.maintenance:
        actions += marks.cordon(node, mark, "the host is in maintenance")
    else:
        actions += marks.uncordon(node, marks.MAINTENANCE, "the host is not in maintenance any more")
    if cr.spec.failover_only:
        actions += marks.taint(node, marks.FAILOVER_ONLY, "the host is kept free for restarts")
    else:
        actions += marks.untaint(node, marks.FAILOVER_ONLY, "the host is not kept free any more")
    return actions


def _reserved(seen: Seen) -> dict[str, Any]:
    both = amounts.NOTHING + seen.taken.amount + seen.by_others.amount
    return {**room.status(both), "pods": seen.taken.count + seen.by_others.count}


def _capacity(node: Node) -> dict[str, Any]:
    found = node.status.allocatable
    pods = found.get("pods", "0")
    return {
        "cpu": found.get("cpu", "0"),
        "memory": found.get("memory", "0"),
        "pods": int(pods) if pods.isdigit() else 0,
    }
