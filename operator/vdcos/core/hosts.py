"""Hosts, as several vServices see them: which policy covers one, its marks on its Node, and its names."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from vdcos import api
from vdcos.core import ownership, tenancy
from vdcos.core.foreign.kubernetes import Node
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Index
from vdcos.core.snapshot import Snapshot

CORDONED_BY = f"{ownership.GROUP}/cordoned-by"
"""Annotation of a Node: the HostFailure (``failure/<name>``) or Host (``host/<name>``) for which it is cordoned. It is
written together with the cordon, so that only what is ours is ever taken back."""
SCHEDULABLE = "kubevirt.io/schedulable"
"""Label of every Node that virt-handler has ever run on."""
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
"""Taint by which Kubernetes is told that a node is down for certain: volumes are detached by force."""
FAILOVER_ONLY = f"{ownership.GROUP}/failover-only"
"""Taint that keeps a host free for restarts."""
HOST = f"{ownership.GROUP}/host"
"""Label of a HostFailure: the host that failed."""


class _HostStatus(msgspec.Struct, frozen=True):
    policy: str = ""
    state: str = ""


class _Host(msgspec.Struct, frozen=True):
    status: _HostStatus = _HostStatus()


_host = msgspec.json.Decoder(_Host).decode


def policy_of(host: bytes) -> str:
    """The policy that covers a Host, of its JSON; empty when none does."""
    return _host(host).status.policy


def state_of(host: bytes) -> str:
    """The state of a Host, of its JSON; empty while nothing is said of it."""
    return _host(host).status.state


def runs_vms(node: Node) -> bool:
    """Whether KubeVirt knows the node."""
    return bool(node.metadata.label(SCHEDULABLE))


def covering(policies: Iterable[api.HAPolicy], node: Node) -> api.HAPolicy | None:
    """The policy that counts for a node: the oldest that selects it."""
    return covering_labels(policies, node.metadata.labels or {})


def covering_labels(policies: Iterable[api.HAPolicy], labels: Mapping[str, str]) -> api.HAPolicy | None:
    """The policy that counts for a node with these labels."""
    selecting = [policy for policy in policies if _selects(policy, labels)]
    return min(selecting, key=lambda policy: (policy.metadata.creation_timestamp, policy.metadata.name), default=None)


def selects(policy: api.HAPolicy, node: Node) -> bool:
    """Whether a policy means a node, whatever others do."""
    return _selects(policy, node.metadata.labels or {})


def _selects(policy: api.HAPolicy, labels: Mapping[str, str]) -> bool:
    selector = policy.spec.hosts
    return policy.metadata.deletion_timestamp is None and (selector is None or tenancy.selects(selector, labels))


def failure_name(host: str, incarnation: str, number: int) -> str:
    """The name of the n-th failure of one life of a host: the same whoever makes it, and however often."""
    return f"{host}-{ownership.digest(f'{incarnation}/{number}')}"


def parsed(world: Snapshot, kind: type[Any]) -> list[Any]:
    """All objects of a cluster-scoped kind of ours that can be read."""
    found = (world.get(kind, own.metadata.key) for own in world.all(kind))
    return [cr for cr in found if isinstance(cr, kind)]


def _nodes(instance: VirtualMachineInstance) -> Iterable[str]:
    status = instance.status
    return {status.node_name, *status.active_pods.values()} - {""}


INSTANCES_ON: Index[VirtualMachineInstance] = Index(VirtualMachineInstance, _nodes)
"""Instances by the nodes that they run on, or have a pod on: while one migrates there are two."""
