"""HostFailure: one failure of one life of a host, from suspicion to recovery. It is kept as history."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from vdcos.api.availability import NotRestarted
from vdcos.api.fencing import Bmc
from vdcos.api.host import EvidenceList, Incarnation, MachineId
from vdcos.api.meta import Line, ObjectMeta, ObjectName, Status, Timestamp
from vdcos.api.schema import AGE, ATOMIC, Column, Definition, ListMap, Model, Must, Rule, condition_column

Phase = Literal["Suspect", "Held", "Fencing", "Releasing", "Restarting", "Recovering", "Completed"]
Outcome = Literal["Recovered", "FalseAlarm", "Superseded"]
How = Literal["PoweredOff", "Rebooted", "NodeDeleted", "Confirmed", "StoppedItself", "Remediated"]

LONGEST_HOST = 63
"""Characters of a host's name: KubeVirt labels VMs with it. A failure's name has nine more."""

_FIXED = Rule(
    "self == oldSelf",
    "it says which failure this is, and does not change; only confirmedDown and approved do",
    reason="FieldValueForbidden",
)


Renewal = Annotated[
    str,
    Field(max_length=32, pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z)?$"),
    Must("must be the time of a renewal as Leases have it, such as 2026-01-01T12:00:00.000000Z"),
]


class ConfirmedDown(Model):
    """Somebody's word that a host is down. Its VMs restart elsewhere on it, so be certain: see that it has no power."""

    incarnation: Annotated[Incarnation, Field(min_length=1)]
    """The incarnation that is down, as in `spec.incarnation`."""
    by: Annotated[Line, Field(min_length=1, max_length=128)]
    """Who says so."""
    why: Annotated[Line, Field(min_length=1, max_length=256)]
    """How they know, such as: unplugged."""


class HostFailureSpec(Model):
    """Which failure it is, written by the operator once; and what people say about it."""

    host: Annotated[ObjectName, Field(max_length=LONGEST_HOST), _FIXED]
    """The Host that failed."""
    incarnation: Annotated[Incarnation, Field(min_length=1), _FIXED]
    """The boot id of the life that failed."""
    policy: Annotated[ObjectName, Field(max_length=63), _FIXED]
    """The HAPolicy that covered the host."""
    machine: Annotated[MachineId, _FIXED] = ""
    """The system UUID of the machine."""
    provider_id: Annotated[Line, Field(alias="providerID", max_length=512), _FIXED] = ""
    """What a cloud calls the machine, as in `spec.providerID` of the Node."""
    renewed: Annotated[Renewal, _FIXED] = ""
    """The time in its Lease, as it was. The host lives when that changes; nothing is read from it otherwise."""
    evidence: EvidenceList = ()
    """What witnesses said when the host became suspect."""
    confirmed_down: ConfirmedDown | None = None
    """For people: confirm that the host is down, where no power switch can tell."""
    approved: bool = False
    """For people: go on although more hosts failed at once than the policy's storm brake lets pass, or the policy is
    paused or gone. It counts for this failure only."""

    rules = (
        Rule(
            "has(self.evidence) == has(oldSelf.evidence) && (!has(self.evidence) || self.evidence == oldSelf.evidence)",
            _FIXED.message,
            ".evidence",
            "FieldValueForbidden",
        ),
        Rule(
            "!has(self.confirmedDown) || self.confirmedDown.incarnation == self.incarnation",
            "confirm the incarnation that failed, as spec.incarnation has it",
            ".confirmedDown.incarnation",
        ),
    )


class TriedProvider(Model):
    """A fencing provider whose last attempt failed."""

    provider: Annotated[str, Field(max_length=63)]
    """The provider."""
    why: Annotated[str, Field(max_length=512)]
    """How it failed."""


class FenceReceipt(Model):
    """Proof that an incarnation of the host is down."""

    provider: Annotated[str, Field(max_length=63)]
    """Who proved it: a fencing provider, node (the host has booted again) or manual (somebody's word)."""
    how: How
    """PoweredOff, Rebooted, NodeDeleted, Confirmed, StoppedItself or Remediated."""
    proof: Annotated[str, Field(max_length=512)]
    """What was seen."""
    incarnation: Incarnation
    """The incarnation that is down."""
    at: Timestamp
    """When it was proved."""
    renewed: Renewal = ""
    """The time in the host's Lease, as it was then. The proof was wrong when that changes."""


class StillAlive(Model):
    """The incarnation that was proved to be down has renewed its Lease."""

    word: Annotated[str, Field(max_length=512)] = ""
    """What `spec.confirmedDown` said then; another word confirms that it is down since."""
    renewed: Renewal = ""
    """The time in its Lease when that was confirmed; empty until then."""


class FailedVms(Model):
    """The VMs that ran on the host."""

    total: Annotated[int, Field(ge=0)] = 0
    """All of them."""
    running: Annotated[int, Field(ge=0)] = 0
    """Up again on another host."""
    starting: Annotated[int, Field(ge=0)] = 0
    """Released, and not yet up."""
    held: Annotated[int, Field(ge=0)] = 0
    """Held back for those that restart before them."""
    failed: Annotated[int, Field(ge=0)] = 0
    """Not restarted, for a reason."""
    not_restarted: Annotated[tuple[NotRestarted, ...], Field(max_length=10), ATOMIC] = ()
    """The first ten that are not, and why."""


class FailedVm(Model):
    """A VM that ran on the host when it failed."""

    namespace: Annotated[str, Field(max_length=63)]
    """Its namespace."""
    name: Annotated[str, Field(max_length=63)]
    """Its name."""
    uid: Annotated[str, Field(max_length=36)] = ""
    """The uid of its VirtualMachine: one of the same name that is made anew is not meant. Empty for a KubeVirt VM
    without one: nobody holds it."""
    instance: Annotated[str, Field(max_length=36)]
    """The uid of the instance that died with the host."""
    tier: Annotated[int, Field(ge=0)]
    """Its turn; 0 is first."""
    state: Literal["Held", "Released", "Up", "Down"] = "Held"
    """Held (off until it is its turn), Released (it may start), Up (it runs again), Down (it does not restart, or is
    given up)."""
    since: Timestamp
    """Since when."""
    reason: Annotated[str, Field(max_length=64)] = ""
    """Why it is Down, or not up yet, in one word."""
    tries: Annotated[int, Field(ge=0)] = 0
    """How often its restart was tried again."""
    tried_at: Timestamp | None = None
    """When that was last, or when it was given up."""
    up_for_others: Timestamp | None = None
    """Since when it is up as the policy says, where it says more of itself: VMs of other namespaces wait only for
    that."""
    replaces: Annotated[str, Field(max_length=36)] = ""
    """The uid of the pod in which it did not start in time, and which is replaced."""


class Event(Model):
    """Something that happened in the course of the failure."""

    at: Timestamp
    """When."""
    what: Annotated[str, Field(max_length=256)]
    """What."""


class HostFailureStatus(Status):
    """How far it has come."""

    phase: Phase | None = None
    """Suspect; Held (waits for a person: condition Ready says for what); Fencing (to be proved down); Releasing (what
    keeps VMs from restarting is removed); Restarting; Recovering (the host is expected back); Completed."""
    outcome: Outcome | None = None
    """When Completed: Recovered, FalseAlarm (the host was heard again before it was fenced, and all is put back), or
    Superseded (the host failed again, or its Node is gone)."""
    incarnation: Incarnation = ""
    """The incarnation that all of this is about."""
    bmc: Bmc | None = None
    """The power switches as the Host declared them, so that the Host may go."""
    asked: Annotated[tuple[Annotated[str, Field(max_length=128)], ...], Field(max_length=16), ATOMIC] = ()
    """What was asked of fencing providers, written before it is asked; the present attempt last."""
    tried: Annotated[tuple[TriedProvider, ...], Field(max_length=16), ListMap("provider")] = ()
    """Providers that failed."""
    receipt: FenceReceipt | None = None
    """The proof that the host is down. Nothing restarts without it."""
    still_alive: StillAlive | None = None
    """The host was heard after it was proved to be down: the proof was wrong."""
    storm: Annotated[int, Field(ge=0)] = 0
    """How many hosts seemed to have failed at once when the storm brake stopped this failure, which waits for a person
    since, whatever becomes of the others. 0 when it did not."""
    cordoned: bool = False
    """The Node was cordoned because of this failure, and will be uncordoned."""
    tainted: bool = False
    """The Node has taint `node.kubernetes.io/out-of-service` because of this failure, which will be removed."""
    released: bool = False
    """Nothing of the host keeps its VMs from restarting any more."""
    back_since: Timestamp | None = None
    """Since when the host is back and well, after a boot."""
    failover: bool = False
    """Its VMs may restart on hosts that are kept for failover: there are some."""
    vms: FailedVms | None = None
    """What became of its VMs."""
    machines: Annotated[tuple[FailedVm, ...], Field(max_length=1024), ATOMIC] = ()
    """The VMs that ran on it, in the order in which they restart. Those that are Held stay off."""
    timeline: Annotated[tuple[Event, ...], Field(max_length=50), ATOMIC] = ()
    """What happened, in order; the first and the last when there is too much."""

    @property
    def last_heard(self) -> str:
        """The time in the host's Lease as it was when the host was last proved to be down; empty when it never was."""
        if self.still_alive is not None and self.still_alive.renewed:
            return self.still_alive.renewed
        return self.receipt.renewed if self.receipt is not None else ""


class HostFailure(Model):
    """A failure of a host: why it is believed dead, the proof that it is down, and the restart of its VMs."""

    api_version: Literal["vdcos.dev/v1alpha1"] = "vdcos.dev/v1alpha1"
    kind: Literal["HostFailure"] = "HostFailure"
    metadata: ObjectMeta
    spec: HostFailureSpec
    """Which failure it is, and what people say about it."""
    status: HostFailureStatus = HostFailureStatus()
    """How far it has come. Written by the operator."""

    definition: ClassVar = Definition(
        kind="HostFailure",
        plural="hostfailures",
        scope="Cluster",
        short_names=("vdchf",),
        columns=(
            condition_column("Ready", "Ready"),
            condition_column("Reason", "Ready", "reason"),
            Column("Host", ".spec.host"),
            Column("Phase", ".status.phase"),
            Column("Outcome", ".status.outcome"),
            Column("Fenced-by", ".status.receipt.provider"),
            Column("VMs", ".status.vms.total", "integer"),
            Column("Running", ".status.vms.running", "integer"),
            Column("Failed", ".status.vms.failed", "integer"),
            AGE,
            Column("Held", ".status.vms.held", "integer", wide=True),
            Column("Starting", ".status.vms.starting", "integer", wide=True),
            Column("Policy", ".spec.policy", wide=True),
            Column("Incarnation", ".spec.incarnation", wide=True),
            condition_column("Message", "Ready", "message", wide=True),
        ),
        longest_name=LONGEST_HOST + 9,
        dotted_name=True,
    )
