"""HAPolicy: how the failure of a host is found, proved and answered, for a set of hosts and the VMs on them."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from vdcos.api.availability import Monitoring, MonitoringOverride, ReadyWhen, ReadyWhenOverride, RestartPriority
from vdcos.api.fencing import Fencing, ProviderName
from vdcos.api.host import EvidenceList, Verdict
from vdcos.api.meta import Amounts, DnsLabel, LabelSelector, Line, ObjectMeta, Parameters, Status, Timestamp, Usage
from vdcos.api.schema import AGE, ATOMIC, Column, Definition, ListMap, Model, Rule, condition_column

_ASKED_IN_TIME = Rule(
    "self.timeoutSeconds <= self.intervalSeconds",
    "one question ends before the next begins: at most intervalSeconds",
    ".timeoutSeconds",
)


class Probe(Model):
    """A connection to the kubelet's port, tried again and again while the host is silent elsewhere."""

    port: Annotated[int, Field(ge=1, le=65535)] = 10250
    """The TCP port of the kubelet."""
    interval_seconds: Annotated[int, Field(ge=1, le=60)] = 2
    """From one attempt to the next."""
    timeout_seconds: Annotated[int, Field(ge=1, le=60)] = 1
    """An attempt that has no answer by then has failed."""
    failures: Annotated[int, Field(ge=1, le=20)] = 3
    """So many failed attempts in a row mean that the host is silent."""

    rules = (_ASKED_IN_TIME,)


class Witness(Model):
    """A third party's word on whether a host lives."""

    provider: ProviderName
    """The name under which it is installed in the operator."""
    parameters: Parameters = Field(default_factory=dict)
    """What it wants to know; it says what it takes. No secrets."""
    interval_seconds: Annotated[int, Field(ge=1, le=300)] = 5
    """From one question to the next."""
    timeout_seconds: Annotated[int, Field(ge=1, le=300)] = 5
    """Without an answer by then it knows nothing."""

    rules = (
        _ASKED_IN_TIME,
        Rule(
            "!(self.provider in ['lease', 'node', 'heartbeat', 'probe', 'bmc'])",
            "lease, node, heartbeat, probe and bmc are heard in any case: leave it out",
            ".provider",
        ),
    )


class Detection(Model):
    """When a host is dead: its Lease is stale, and enough other witnesses agree."""

    lease_seconds: Annotated[int, Field(ge=2, le=600)] = 15
    """The host is suspect when its Lease was not renewed for so long. Kubelets renew it every 10 s unless configured
    otherwise; leave them half as much again."""
    probe: Probe = Probe()
    """The direct probe of the kubelet."""
    power_off_seconds: Annotated[int, Field(ge=1, le=600)] | None = None
    """A silence of the Lease that is long enough when the BMC says Off and the probe is silent, too. Left out, the BMC
    counts like any other witness; less than kubelets' pause between renewals (10 s) means that hosts are asked all the
    time."""
    heartbeat_seconds: Annotated[int, Field(ge=10, le=3600)] = 180
    """KubeVirt's heartbeat is old after so long; virt-handler sends one every 60 to 132 s."""
    witnesses: Annotated[tuple[Witness, ...], Field(max_length=8), ListMap("provider")] = ()
    """Witnesses of third parties. One that says Alive keeps the host from being fenced."""
    agree: Annotated[int, Field(ge=1, le=12)] = 1
    """How many must agree with the stale Lease: the probe is silent, the Node is not Ready, KubeVirt's heartbeat is
    old, the BMC says Off, a third party's witness says Dead."""

    rules = (
        Rule(
            "self.agree <= 4 + (has(self.witnesses) ? self.witnesses.size() : 0)",
            "beside the Lease there are four witnesses and those of third parties (witnesses): no more can agree",
            ".agree",
        ),
    )


class Retries(Model):
    """What happens to a VM whose restart fails."""

    limit: Annotated[int, Field(ge=0, le=20)] = 5
    """It is restarted so often again; after that it is given up, and the failure's status says why."""
    first_seconds: Annotated[int, Field(ge=1, le=3600)] = 10
    """Pause before the first time; it doubles each time."""
    longest_seconds: Annotated[int, Field(ge=1, le=3600)] = 300
    """The longest pause."""

    rules = (
        Rule(
            "self.longestSeconds >= self.firstSeconds",
            "the longest pause is no shorter than the first (firstSeconds)",
            ".longestSeconds",
        ),
    )


class Restart(Model):
    """How VMs of a failed host restart, unless a rule or the VM says otherwise."""

    priority: RestartPriority = "Medium"
    """Highest restarts first; Disabled does not restart."""
    ready_when: ReadyWhen = ReadyWhen()
    """When a VM counts as up, so that those of the next priority, and those that depend on it, may start."""
    retries: Retries = Retries()
    """When a restart fails."""
    longest_hold_seconds: Annotated[int, Field(ge=60, le=86400)] = 3600
    """No VM is held back for others for longer than this, whatever they do."""


class VmRule(Model):
    """What holds for some of the VMs. VirtualMachines may say otherwise in `spec.availability`."""

    name: DnsLabel
    """Name of this rule."""
    selector: LabelSelector
    """The VMs, by labels of their VirtualMachine objects."""
    priority: RestartPriority | None = None
    """Their restart priority."""
    ready_when: ReadyWhenOverride | None = None
    """When they count as up."""
    monitoring: MonitoringOverride | None = None
    """Their guest monitoring."""

    rules = (
        Rule(
            "has(self.priority) || has(self.readyWhen) || has(self.monitoring)",
            "it says nothing about these VMs: set priority, readyWhen or monitoring",
            reason="FieldValueRequired",
        ),
    )


class HostFailures(Model):
    """Any so many hosts may fail: of CPU and of memory, as much is kept free as the largest hosts have."""

    tolerated: Annotated[int, Field(ge=1, le=100)] = 1
    """How many."""


class Percentage(Model):
    """A share of all hosts' capacity is kept free, in percent."""

    cpu: Annotated[int, Field(ge=1, le=100)]
    """Of the CPU."""
    memory: Annotated[int, Field(ge=1, le=100)]
    """Of the memory."""


class DedicatedHosts(Model):
    """The hosts that say `failoverOnly` are kept free."""


_ONE_PROMISE = "set at most one of hostFailures, percentage, dedicatedHosts"


class AdmissionControl(Model):
    """The failover capacity that is kept free. Set at most one of hostFailures, percentage and dedicatedHosts; without
    any, one host may fail."""

    mode: Literal["Enforce", "Warn", "Disabled"] = "Enforce"
    """Enforce: VMs that would use failover capacity wait. Warn: they start, and conditions say so. Disabled: nothing is
    kept. What runs is never stopped."""
    host_failures: HostFailures | None = None
    """Enough for so many hosts."""
    percentage: Percentage | None = None
    """A share of the capacity."""
    dedicated_hosts: DedicatedHosts | None = None
    """The hosts that are kept for it."""

    # No default is stored for what is kept, or changing it by kubectl apply would leave the default beside it.
    rules = (
        Rule(
            "[has(self.hostFailures), has(self.percentage), has(self.dedicatedHosts)].filter(x, x).size() <= 1",
            _ONE_PROMISE,
        ),
    )

    @model_validator(mode="after")
    def _one_promise(self) -> Self:
        if sum(each is not None for each in (self.host_failures, self.percentage, self.dedicated_hosts)) > 1:
            raise ValueError(_ONE_PROMISE)
        return self

    @property
    def promise(self) -> HostFailures | Percentage | DedicatedHosts:
        """What is kept free."""
        return self.host_failures or self.percentage or self.dedicated_hosts or HostFailures()


class StormBrake(Model):
    """When so many hosts seem to fail at once that people shall look first: the network may be to blame."""

    max_hosts: Annotated[int, Field(ge=1, le=1000)] = 2
    """At most so many hosts are fenced at once, which is: within an hour, and not back yet."""
    max_percent: Annotated[int, Field(ge=1, le=100)] = 50
    """And at most this share of the policy's hosts, in percent, rounded down; one host in any case."""

    def most(self, hosts: int) -> int:
        """How many of so many hosts may be fenced at once."""
        return min(self.max_hosts, max(1, hosts * self.max_percent // 100))


class Recovery(Model):
    """When a host that is back may run VMs again."""

    quiet_seconds: Annotated[int, Field(ge=0, le=3600)] = 60
    """It must have been well for so long."""
    quarantine_after: Annotated[int, Field(ge=2, le=20)] = 3
    """After so many failures within the window it stays cordoned, until the window has passed."""
    window_seconds: Annotated[int, Field(ge=600, le=2592000)] = 86400
    """Length of the window."""


class Paused(Model):
    """Nothing is fenced or restarted."""

    reason: Annotated[Line, Field(min_length=1, max_length=256)]
    """Why, for those who wonder."""


class HAPolicySpec(Model):
    """What shall be done about failures."""

    hosts: LabelSelector | None = None
    """The hosts, by labels of their Nodes; all hosts when left out. Of two policies for one host the older counts."""
    detection: Detection = Detection()
    """When a host is dead."""
    fencing: Fencing = Fencing()
    """How it is proved to be down."""
    restart: Restart = Restart()
    """How its VMs restart."""
    vm_rules: Annotated[tuple[VmRule, ...], Field(alias="rules", max_length=32), ListMap("name")] = ()
    """What is otherwise for some VMs; the first rule that selects a VM counts."""
    admission_control: AdmissionControl = AdmissionControl()
    """What is kept free for restarts."""
    storm_brake: StormBrake = StormBrake()
    """When people shall look first."""
    monitoring: Monitoring = Monitoring()
    """What is done about guests that have stopped working."""
    recovery: Recovery = Recovery()
    """When a host that is back is used again."""
    paused: Paused | None = None
    """Stop all of this for a while, as for work on the network. What was fenced already is brought to its end."""


class FailoverCapacity(Model):
    """What is kept free for restarts, in numbers."""

    promised: Amounts
    """What shall be free."""
    available: Amounts
    """What VMs may still use beside it."""
    missing: Amounts
    """What is not free of what was promised; nothing that needs more of it starts."""


class FailurePlanSum(Model):
    """The failure plans of all hosts together, each of which supposes that one host dies."""

    hosts: Annotated[int, Field(ge=0)] = 0
    """Hosts with a plan."""
    incomplete: Annotated[int, Field(ge=0)] = 0
    """Hosts whose death would leave VMs down."""
    worst_host: Annotated[str, Field(max_length=253)] = ""
    """The host whose death would leave the most VMs down; empty when all would restart."""
    restarts: Annotated[int, Field(ge=0)] = 0
    """VMs that would restart if their host died."""
    stays: Annotated[int, Field(ge=0)] = 0
    """VMs that would not."""


class Waiting(Model):
    """VMs that wait for failover capacity."""

    count: Annotated[int, Field(ge=0)] = 0
    """How many wait."""
    names: Annotated[tuple[Annotated[str, Field(max_length=127)], ...], Field(max_length=100), ATOMIC] = ()
    """The first hundred as namespace/name, in the order in which they will start."""


class Suspect(Model):
    """A host that does not renew its Lease."""

    host: Annotated[str, Field(max_length=253)]
    """Its name."""
    verdict: Verdict
    """What the evidence amounts to."""
    why: Annotated[str, Field(max_length=256)]
    """The evidence, in words."""
    evidence: EvidenceList = ()
    """What each witness says, and since when."""


class HAPolicyStatus(Status):
    """What the policy means now."""

    hosts: Usage | None = None
    """The hosts that it covers."""
    connected: Annotated[int, Field(ge=0)] | None = None
    """Hosts that are connected."""
    failed: Annotated[int, Field(ge=0)] | None = None
    """Hosts with a failure that is not completed."""
    suspects: Annotated[tuple[Suspect, ...], Field(max_length=100), ListMap("host")] = ()
    """Hosts that are silent, the first hundred."""
    failover_capacity: FailoverCapacity | None = None
    """What is kept free for restarts."""
    failure_plan: FailurePlanSum | None = None
    """What would happen if a host died now."""
    waiting: Waiting | None = None
    """VMs that wait for failover capacity."""
    counted_at: Timestamp | None = None
    """When the counts last changed; they are written at most every five seconds."""


class HAPolicy(Model):
    """High availability for a set of hosts: detection, fencing, restart order, admission control, guest monitoring."""

    api_version: Literal["vdcos.dev/v1alpha1"] = "vdcos.dev/v1alpha1"
    kind: Literal["HAPolicy"] = "HAPolicy"
    metadata: ObjectMeta
    spec: HAPolicySpec
    """What shall be done about failures."""
    status: HAPolicyStatus = HAPolicyStatus()
    """What the policy means now. Written by the operator."""

    rules = (
        Rule(
            "self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')",
            "a policy's name has at most 63 characters and no dots",
            ".metadata.name",
        ),
    )

    definition: ClassVar = Definition(
        kind="HAPolicy",
        plural="hapolicies",
        scope="Cluster",
        short_names=("vdcha",),
        columns=(
            condition_column("Ready", "Ready"),
            condition_column("Reason", "Ready", "reason"),
            Column("Hosts", ".status.hosts.count", "integer"),
            Column("Connected", ".status.connected", "integer"),
            Column("Failed", ".status.failed", "integer"),
            Column("Admission", ".spec.admissionControl.mode"),
            Column("Waiting", ".status.waiting.count", "integer"),
            AGE,
            Column("CPU-missing", ".status.failoverCapacity.missing.cpu", wide=True),
            Column("Memory-missing", ".status.failoverCapacity.missing.memory", wide=True),
            Column("Stay-down", ".status.failurePlan.stays", "integer", wide=True),
            Column("Worst-host", ".status.failurePlan.worstHost", wide=True),
            Column("Paused", ".spec.paused.reason", wide=True),
            condition_column("Message", "Ready", "message", wide=True),
        ),
    )
