"""VMs as placement sees them, from their launcher pods, and what all pods take of their nodes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from vdcos import api
from vdcos.core import hosts
from vdcos.core.amounts import Amounts
from vdcos.core.foreign import workloads
from vdcos.core.foreign.kubernetes import LauncherPod, Node, OtherPod, PersistentVolume
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Index, Key, declared
from vdcos.providers import placement as p

LAUNCHER = "virt-launcher"
"""Label ``kubevirt.io`` of the pod in which a VM runs."""
NOT_KEPT = ".node.kubevirt.io/"
"""In labels by which KubeVirt tells CPUs apart. Nodes have hundreds of them, and they are not kept."""


@dataclass(frozen=True, slots=True)
class Launched:
    """The pod of a VM, on its node."""

    pod: str
    vm: Key
    machine: p.Machine
    """Without priority, depth, and what its disks are bound to."""
    claims: tuple[str, ...]
    """The claims that it mounts, as ``namespace/name``."""


def instance_of(pod: LauncherPod) -> Key | None:
    """The instance that runs, or is to run, in a pod."""
    if pod.metadata.label("kubevirt.io") != LAUNCHER:
        return None
    owners = (ref.name for ref in pod.metadata.owner_references if ref.kind == VirtualMachineInstance.resource.kind)
    name = next(owners, "")
    return Key(pod.metadata.namespace, name) if name else None


def launched(pod: LauncherPod) -> Launched | None:
    """A VM on a node; None for pods that have ended, have no node yet, or are for something else."""
    vm, spec = instance_of(pod), pod.spec
    if vm is None or not pod.counts:
        return None
    machine = p.Machine(
        namespace=vm.namespace,
        name=vm.name,
        requests=spec.requests,
        host=spec.node_name,
        labels=pod.metadata.labels or {},
        selector=_selector(spec),
        tolerations=tuple(p.Toleration(each.key, each.operator, each.value, each.effect) for each in spec.tolerations),
        rules=_rules(spec.affinity),
    )
    return Launched(pod.metadata.name, vm, machine, tuple(f"{vm.namespace}/{claim}" for claim in spec.claims))


_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def _selector(spec: workloads.PlacedWorkload) -> p.Selector:
    """What is asked of nodes, as far as their labels are kept: one term, and no comparison of numbers."""
    found = _with_labels(tuple(sorted(spec.node_selector.items())))
    required = spec.affinity.node_affinity.required
    terms = required.node_selector_terms if required is not None else ()
    return (*found, *_requirements(terms[0])) if len(terms) == 1 else found


@lru_cache(maxsize=1024)
def _with_labels(labels: tuple[tuple[str, str], ...]) -> p.Selector:
    """One value for all VMs that ask for the same."""
    return p.with_labels({key: value for key, value in labels if NOT_KEPT not in key})


def _requirements(selector: workloads.Selector) -> p.Selector:
    expressions = (each for each in selector.match_expressions if each.operator in _OPERATORS)
    found = (p.Requirement(each.key, each.operator, each.values) for each in expressions)  # type: ignore[arg-type]
    return tuple(each for each in (*p.with_labels(selector.match_labels), *found) if NOT_KEPT not in each.key)


def _rules(affinity: workloads.Affinity) -> tuple[p.Rule, ...]:
    if affinity == _ANYWHERE:
        return ()
    sides: tuple[tuple[Any, workloads.PodAffinity], ...] = (
        ("Together", affinity.pod_affinity),
        ("Apart", affinity.pod_anti_affinity),
    )
    found: list[p.Rule] = []
    for kind, side in sides:
        weighted = [(term, True, 1) for term in side.required]
        weighted += [(each.pod_affinity_term, False, each.weight) for each in side.preferred]
        found += [
            p.Rule(kind, _requirements(term.label_selector), term.topology_key, required, weight, term.namespaces)
            for term, required, weight in weighted
            if term.label_selector is not None and term.namespace_selector is None
        ]
    return tuple(found)


_ANYWHERE = workloads.Affinity()


def _node(pod: LauncherPod) -> Iterable[str]:
    return (pod.spec.node_name,) if pod.counts else ()


def _bound(pod: LauncherPod) -> Iterable[str]:
    vm = instance_of(pod)
    return (str(vm),) if vm is not None and pod.counts else ()


def takes(pod: LauncherPod | OtherPod) -> Any:
    """What of a pod is news to whoever counts: what it takes and where, and whether it still does."""
    return pod.spec.node_name, pod.counts, pod.spec.containers


TAKEN: Index[LauncherPod] = Index(LauncherPod, _node, lambda pod: pod.spec.requests, launched)
"""Pods of VMs by node, with what they request."""
TAKEN_BY_OTHERS: Index[OtherPod] = Index(
    OtherPod, lambda pod: (pod.spec.node_name,) if pod.counts else (), lambda pod: pod.spec.requests
)
"""All other pods by node, with what they request."""
PLACED: Index[LauncherPod] = Index(LauncherPod, _bound, lambda pod: pod.spec.requests)
"""Pods of VMs that have a node, by ``namespace/name`` of the VM, with what they request."""


class KeptNode(NamedTuple):
    """A node that runs VMs, as far as placement goes by it."""

    labels: Mapping[str, str]
    taints: tuple[p.Taint, ...]
    schedulable: bool
    allocatable: Amounts


def _kept(node: Node) -> KeptNode | None:
    if not hosts.runs_vms(node):
        return None
    taints = tuple(p.Taint(each.key, each.value, each.effect) for each in node.spec.taints)
    allocatable = workloads.amounts_of(node.status.allocatable)
    return KeptNode(node.metadata.labels or {}, taints, not node.spec.unschedulable, allocatable)


NODES: Index[Node] = Index(Node, value=_kept)
"""Nodes that run VMs."""
POLICIES: Index[Any] = Index(api.HAPolicy, value=declared)
"""HA policies, by what is declared."""


class _HostSpec(msgspec.Struct, frozen=True, rename="camel"):
    failover_only: bool = False


class _Host(msgspec.Struct, frozen=True):
    spec: _HostSpec = _HostSpec()


_host = msgspec.json.Decoder(_Host).decode

KEPT_FREE: Index[Any] = Index(api.Host, value=lambda own: _host(own.raw).spec.failover_only or None)
"""Hosts that are declared to be kept free for restarts."""
RUNS_ON: Index[VirtualMachineInstance] = Index(
    VirtualMachineInstance, value=lambda instance: instance.status.node_name or None
)
"""The node that an instance runs on; while it migrates, the one that it comes from."""


def _tied(volume: PersistentVolume) -> tuple[str, workloads.NodeSelector] | None:
    claim, affinity = volume.spec.claim_ref, volume.spec.node_affinity
    if claim is None or affinity is None or affinity.required is None:
        return None
    return f"{claim.namespace}/{claim.name}", affinity.required


TIED: Index[PersistentVolume] = Index(PersistentVolume, value=_tied)
"""Of volumes that not every node reaches: their claim, and which nodes do."""


def reached_from(wanted: workloads.NodeSelector, nodes: Mapping[str, Mapping[str, str]]) -> frozenset[str]:
    """The nodes, by name with their labels, from which a volume can be reached."""
    terms = [_requirements(term) for term in wanted.node_selector_terms]
    return frozenset(name for name, labels in nodes.items() if any(p.matches(term, labels) for term in terms))
