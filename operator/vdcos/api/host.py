"""Host: a KubeVirt node as the datacenter sees it, with the power switches that fence it."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from vdcos.api.availability import NotRestarted
from vdcos.api.fencing import Bmc
from vdcos.api.meta import Amounts, Line, Moment, ObjectMeta, Status
from vdcos.api.schema import AGE, ATOMIC, Column, Definition, ListMap, Model, condition_column

HostState = Literal[
    "Connected",
    "Suspect",
    "Isolated",
    "Fencing",
    "Fenced",
    "Recovering",
    "Maintenance",
    "Unmanaged",
    "Quarantined",
]
Verdict = Literal["Blind", "Connected", "ApiTrouble", "Isolated", "Dead", "Suspect"]

Incarnation = Annotated[Line, Field(max_length=64)]
"""One life of a host: its boot id, as in `status.nodeInfo.bootID` of its Node."""

MachineId = Annotated[Line, Field(max_length=64)]
"""The system UUID of a machine, as in `status.nodeInfo.systemUUID` of its Node."""


class HostSpec(Model):
    """What the host shall be."""

    bmc: Bmc | None = None
    """Its power switches. Without one, its VMs restart elsewhere only when something else proves that it is down."""
    failover_only: bool = False
    """Keep it free for restarts after a failure: nothing else is placed on it."""
    maintenance: bool = False
    """Cordon it: no VM starts or moves here. What runs stays."""


class Evidence(Model):
    """What one witness says of a host."""

    witness: Annotated[Line, Field(max_length=63)]
    """lease, node, heartbeat, probe, bmc, or the name of a third party's witness."""
    says: Annotated[Line, Field(max_length=256)]
    """What it says, such as Renewed, Silent or Off."""
    since: Moment
    """Since when it has said so."""


EvidenceList = Annotated[tuple[Evidence, ...], Field(max_length=16), ListMap("witness")]


class Capacity(Amounts):
    """CPU, memory and pods."""

    pods: Annotated[int, Field(ge=0)] = 0
    """Number of pods."""


class FailurePlan(Model):
    """What would become of the VMs of this host if it died now."""

    restarts: Annotated[int, Field(ge=0)] = 0
    """How many would restart on another host."""
    stays: Annotated[int, Field(ge=0)] = 0
    """How many would not."""
    reasons: Annotated[tuple[NotRestarted, ...], Field(max_length=10), ATOMIC] = ()
    """The first ten that would not, and why; `vdcos ha drill` lists them all."""


class HostStatus(Status):
    """What the host is."""

    state: HostState | None = None
    """Connected; Suspect (silent, not yet known to be dead); Isolated (alive, cut off from the API server); Fencing (to
    be proved down); Fenced (proved down); Recovering (back, not yet trusted); Maintenance; Unmanaged (no HAPolicy
    covers it); Quarantined (failed too often to be trusted)."""
    incarnation: Incarnation = ""
    """The boot id of its present life, or of its last one."""
    machine: MachineId = ""
    """The system UUID of the machine."""
    policy: Annotated[str, Field(max_length=63)] = ""
    """The HAPolicy that covers it: the oldest whose selector matches its Node."""
    evidence: EvidenceList = ()
    """What each witness says of a host that is not connected, and since when."""
    verdict: Verdict | None = None
    """What the evidence amounts to; Blind when our own view of the host is too old to say."""
    vms: Annotated[int, Field(ge=0)] | None = None
    """VMs on it."""
    capacity: Capacity | None = None
    """What pods can have of it in all."""
    reserved: Capacity | None = None
    """What its pods request, whether they are VMs or not."""
    failure_plan: FailurePlan | None = None
    """If it died now."""
    failure: Annotated[str, Field(max_length=253)] = ""
    """The HostFailure that is not completed; empty when there is none."""


class Host(Model):
    """A host that runs VMs: a KubeVirt node, its power switches, its state, and what would happen if it died now."""

    api_version: Literal["vdcos.dev/v1alpha1"] = "vdcos.dev/v1alpha1"
    kind: Literal["Host"] = "Host"
    metadata: ObjectMeta
    spec: HostSpec
    """What the host shall be."""
    status: HostStatus = HostStatus()
    """What the host is. Written by the operator."""

    definition: ClassVar = Definition(
        kind="Host",
        plural="hosts",
        scope="Cluster",
        short_names=("vdch",),
        columns=(
            condition_column("Ready", "Ready"),
            condition_column("Reason", "Ready", "reason"),
            Column("State", ".status.state"),
            Column("Policy", ".status.policy"),
            Column("VMs", ".status.vms", "integer"),
            Column("Stay-down", ".status.failurePlan.stays", "integer"),
            AGE,
            Column("CPU", ".status.capacity.cpu", wide=True),
            Column("CPU-reserved", ".status.reserved.cpu", wide=True),
            Column("Memory", ".status.capacity.memory", wide=True),
            Column("Memory-reserved", ".status.reserved.memory", wide=True),
            Column("Failure", ".status.failure", wide=True),
            condition_column("Message", "Ready", "message", wide=True),
        ),
        dotted_name=True,
    )
