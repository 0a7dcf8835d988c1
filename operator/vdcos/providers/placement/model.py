"""What placement is told, and what it answers: hosts, machines and their rules as plain immutable values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Literal, NamedTuple

from vdcos.core import quantity
from vdcos.core.counts import some

CPU, MEMORY, PODS = "cpu", "memory", "pods"

Amounts = Mapping[str, int]
"""Quantities by resource name as Nodes have them: ``cpu`` in thousandths of a core, ``memory``, ``ephemeral-storage``
and ``hugepages-*`` in bytes, everything else in pieces. What is absent is 0."""

LIMIT = 1 << 53
"""More than any quantity in use (8 PiB), and exact in floating point. A host has at most this much free, whatever it
says; a machine that asks for more fits nowhere."""


class Priority(IntEnum):
    """``spec.availability`` restart priority; lower values restart first."""

    HIGHEST = 0
    HIGH = 1
    MEDIUM = 2
    LOW = 3
    LOWEST = 4
    DISABLED = 5


class Taint(NamedTuple):
    """A taint of a Node."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"


class Toleration(NamedTuple):
    """A toleration of a pod; an empty key with Exists tolerates everything, an empty effect means all of them."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def tolerates(self, taint: Taint) -> bool:
        """Whether the taint is put up with, as in Kubernetes."""
        if self.effect not in ("", taint.effect):
            return False
        if self.operator == "Exists":
            return self.key in ("", taint.key)
        return (self.key, self.value) == (taint.key, taint.value)


class Requirement(NamedTuple):
    """One expression about a label. NotIn and DoesNotExist hold where the label is absent, as in Kubernetes."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = "In"
    values: tuple[str, ...] = ()


Selector = tuple[Requirement, ...]
"""All must hold; an empty one selects everything."""


def with_labels(labels: Mapping[str, str]) -> Selector:
    """The selector that ``matchLabels`` or a ``nodeSelector`` means."""
    return tuple(Requirement(key, "In", (value,)) for key, value in sorted(labels.items()))


class Rule(NamedTuple):
    """Together with or apart from other machines, within the hosts that share a value of a label."""

    kind: Literal["Together", "Apart"]
    selector: Selector
    """The other machines, by their labels."""
    topology_key: str = "kubernetes.io/hostname"
    required: bool = True
    """False: preferred, and ``weight`` says how much against other preferences."""
    weight: int = 1
    namespaces: tuple[str, ...] = ()
    """Where the others are; the machine's own namespace when empty."""


@dataclass(frozen=True, slots=True)
class Host:
    """A node that runs machines."""

    name: str
    allocatable: Amounts
    used: Amounts = field(default_factory=dict)
    """What all pods on it request together: machines and everything else, ``pods`` being their number."""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    """Without the taint that ``failover_only`` stands for."""
    schedulable: bool = True
    """False: cordoned."""
    failover_only: bool = False
    """Kept free for restarts after a failure."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A VM as the scheduler sees its launcher pod."""

    namespace: str
    name: str
    requests: Amounts
    """What its launcher pod requests, KubeVirt's overhead included; the pod itself is counted without being named."""
    host: str = ""
    """Name of the host that it runs on; empty: none."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of its launcher pod."""
    selector: Selector = ()
    """The hosts that it may run on, by their labels."""
    tolerations: tuple[Toleration, ...] = ()
    rules: tuple[Rule, ...] = ()
    bound_to: frozenset[str] | None = None
    """Names of the only hosts that can reach its disks; None: any host can."""
    priority: Priority = Priority.MEDIUM
    depth: int = 0
    """How many machines in a row must be up before this one."""

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"


class Reason(StrEnum):
    """Why a machine has no host: the filter that left none, in the order in which filters are applied."""

    DISABLED = "Disabled"
    LOCAL_DISK = "LocalDisk"
    SELECTOR = "Selector"
    TAINT = "Taint"
    DEVICE = "Device"
    AFFINITY = "Affinity"
    ANTI_AFFINITY = "AntiAffinity"
    NO_CAPACITY = "NoCapacity"


class Shortage(NamedTuple):
    """What hosts lack of one resource, in its unit."""

    resource: str
    needed: int
    most_free: int
    """The most that any host in question has free."""
    hosts: int
    """How many hosts in question have less than needed."""

    def message(self) -> str:
        """For people: ``2 lack cpu (4 needed, at most 2.5 free)``."""
        needed, free = (_written(self.resource, amount, up) for amount, up in ((self.needed, 1), (self.most_free, 0)))
        return f"{self.hosts} lack {self.resource} ({needed} needed, at most {free} free)"


@dataclass(frozen=True, slots=True)
class Unplaced:
    """Why no host takes a machine."""

    reason: Reason
    hosts: int = 0
    """How many hosts had passed all filters before this one."""
    shortages: tuple[Shortage, ...] = ()
    """For Device and NoCapacity: every resource that at least one of these hosts lacks."""

    def message(self) -> str:
        """For people, without the machine's name: ``0 of 3 hosts can reach its disks``."""
        if self.reason == Reason.DISABLED:
            return "its restart priority is Disabled"
        if not self.hosts:
            return "there is no host"
        lacking = ", ".join(shortage.message() for shortage in self.shortages)
        return f"0 of {some(self.hosts, 'host')} {_WORDS[self.reason]}" + (f": {lacking}" if lacking else "")


_WORDS = {
    Reason.LOCAL_DISK: "can reach its disks",
    Reason.SELECTOR: "have the node labels that it asks for",
    Reason.TAINT: "are open to it: cordoned, tainted, or kept for failover",
    Reason.DEVICE: "have its devices free",
    Reason.AFFINITY: "are where the VMs run that it must be together with",
    Reason.ANTI_AFFINITY: "are free of VMs that it must be apart from",
    Reason.NO_CAPACITY: "have enough free",
}


def _written(resource: str, amount: int, up: int) -> str:
    """An amount for people; bytes in whole MiB, rounded so that a shortage never looks like none."""
    if resource == CPU:
        return f"{amount / 1000:g}"
    if resource in (MEMORY, "ephemeral-storage") or resource.startswith("hugepages-"):
        mib = 1 << 20
        return quantity.human((amount + up * (mib - 1)) // mib * mib)
    return str(amount)


@dataclass(frozen=True, slots=True)
class Placement:
    """A host, or the reason why there is none, for each machine by ``namespace/name``, in the order of placing."""

    placed: Mapping[str, str]
    unplaced: Mapping[str, Unplaced]
    problem: str = ""
    """Why the scorer that was asked for was not used, or empty."""


def restart_rank(machine: Machine) -> tuple[int, int, int, int, str]:
    """Sorts machines in the order of restart: tier, dependency depth, then size (memory, then CPU), largest first.

    First fit decreasing: large machines go first because small ones still find room in what is left.
    """
    requests = machine.requests
    return (machine.priority, machine.depth, -requests.get(MEMORY, 0), -requests.get(CPU, 0), machine.key)
