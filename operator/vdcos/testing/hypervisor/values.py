"""The vocabulary of the hypervisor model: a host's state, what happens to it, and what it does about it.

Times are seconds since the epoch, durations are seconds. Every value is immutable.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Self

from vdcos.testing.hypervisor.objects import Claim, Pod, Vmi


def stamp(at: float) -> str:
    """`at` as Kubernetes writes a metav1.Time: RFC 3339, whole seconds, UTC."""
    return _stamp(int(at))


@lru_cache(maxsize=1024)
def _stamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_stamp(at: float) -> str:
    """`at` as Kubernetes writes a metav1.MicroTime."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# --- What a host does -------------------------------------------------------------------------------------------------


class Verb(StrEnum):
    CREATE = "create"
    JSON_PATCH = "json-patch"
    MERGE_PATCH = "merge-patch"
    STRATEGIC_PATCH = "strategic-patch"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Ref:
    """Where an object lives. `resource` is the plural name, which is unique among those that a host writes."""

    resource: str
    name: str
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Write:
    """One request to the API server. Preconditions (uid, JSON-patch tests) are part of the body."""

    ref: Ref
    verb: Verb
    body: Any
    subresource: str = ""
    otherwise: "Write | None" = None
    """What to do instead if the object does not exist."""


@dataclass(frozen=True, slots=True)
class Due:
    """A timer went off. `token` tells a timer of an earlier attempt from the present one."""

    what: str
    uid: str = ""
    token: str = ""


@dataclass(frozen=True, slots=True)
class Timer:
    at: float
    due: Due


@dataclass(frozen=True, slots=True)
class Message:
    """What one host tells another over the data network, which a partition from the API server does not cut.

    `to` is a host's name, or empty for every host. A message to a host without power, or that hangs, comes back to its
    sender as `Undelivered`.
    """

    to: str
    event: "Switchover | PeerLost | Transferred"


class Happening(StrEnum):
    """What a ledger entry records about a process."""

    STARTED = "started"
    DISKS = "disks"
    PAUSED = "paused"
    RESUMED = "resumed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of truth about a VM process: from `at` on it runs on `host` and can write to `disks`, or no longer.

    A paused process still holds its disks. `disks` are uids of PersistentVolumeClaims.
    """

    at: float
    what: Happening
    host: str
    vmi: str
    vm: str
    namespace: str
    name: str
    disks: frozenset[str]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """The outcome of one event."""

    host: "Host"
    writes: tuple[Write, ...] = ()
    timers: tuple[Timer, ...] = ()
    entries: tuple[Entry, ...] = ()
    messages: tuple[Message, ...] = ()
    lists: bool = False
    """The host asks for all that the API server holds for it: the caller answers with `Up`."""


# --- What happens to a host -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PodSeen:
    pod: Pod
    claims: Mapping[str, Claim] = field(default_factory=dict)
    """The pod's PersistentVolumeClaims by name."""
    missing: Sequence[tuple[str, str]] = ()
    """Secrets and ConfigMaps that the pod mounts and that do not exist, as (kind, name)."""


@dataclass(frozen=True, slots=True)
class PodGone:
    uid: str


@dataclass(frozen=True, slots=True)
class VmiSeen:
    vmi: Vmi
    claims: Mapping[str, Claim] = field(default_factory=dict)
    """The VMI's PersistentVolumeClaims by name."""


@dataclass(frozen=True, slots=True)
class VmiGone:
    uid: str


@dataclass(frozen=True, slots=True)
class Resources:
    """Extended resources which network attachments ask for, to be offered by every host."""

    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Up:
    """The host sees the API server, with all that it holds for the host: at first start, or because it listed.

    `adopt` is true for a simulator that starts on an existing cluster: containers that the API calls running, run.
    """

    pods: tuple[PodSeen, ...] = ()
    vmis: tuple[VmiSeen, ...] = ()
    adopt: bool = False


@dataclass(frozen=True, slots=True)
class PowerOff:
    """Everything stops at once and nothing is written."""


@dataclass(frozen=True, slots=True)
class Partition:
    """The host is cut from the API server; its VMs run on and keep writing to their disks."""


@dataclass(frozen=True, slots=True)
class Hang:
    """Nothing moves on the host. Its VMs still hold their disks, because the host may come back at any time."""


@dataclass(frozen=True, slots=True)
class Recover:
    """End of a power failure (the host boots), partition or hang."""


class Fault(StrEnum):
    """What can be wrong with a host or one of its VMs, until it is cleared."""

    SLOW_START = "slow-start"
    FAIL_MIGRATION = "fail-migration"
    STALL_MIGRATION = "stall-migration"
    FULL_DISK = "full-disk"
    NO_STORAGE = "no-storage"
    AGENT_OFF = "agent-off"
    IGNORE_ACPI = "ignore-acpi"
    LIAR = "liar"
    BMC_TIMEOUT = "bmc-timeout"
    BMC_DEAD = "bmc-dead"
    BMC_SLOW = "bmc-slow"


BMC_FAULTS = (Fault.LIAR, Fault.BMC_TIMEOUT, Fault.BMC_DEAD, Fault.BMC_SLOW)
"""Faults of a host's BMC, whatever becomes of the host: see `bmc`."""


@dataclass(frozen=True, slots=True)
class SetFault:
    """`vm` is "namespace/name", or empty for every VM of the host."""

    fault: Fault
    vm: str = ""
    seconds: float = 30.0
    """How much longer a start (`slow-start`) or an answer (`bmc-slow`) takes."""


@dataclass(frozen=True, slots=True)
class ClearFault:
    fault: Fault
    vm: str = ""


class Command(StrEnum):
    """What a hypervisor is told about one VM: by virt-api, or by the guest itself."""

    PAUSE = "pause"
    UNPAUSE = "unpause"
    RESET = "reset"
    SOFT_REBOOT = "softreboot"
    FREEZE = "freeze"
    UNFREEZE = "unfreeze"
    CRASH = "guest-crash"
    PANIC = "guest-panic"
    SHUTDOWN = "guest-shutdown"


@dataclass(frozen=True, slots=True)
class Control:
    command: Command
    vmi: str


@dataclass(frozen=True, slots=True)
class Switchover:
    """The source has handed the guest's last state over: it is stopped there, and runs here from now on."""

    vmi: str
    migration: str
    source: str
    paused: str = ""
    agent: bool = False


@dataclass(frozen=True, slots=True)
class PeerLost:
    """The other end of a migration has died."""

    vmi: str
    migration: str


@dataclass(frozen=True, slots=True)
class Transferred:
    """A clone source has sent its data to the upload server in pod `namespace/name`."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Undelivered:
    message: Message


Event = (
    PodSeen
    | PodGone
    | VmiSeen
    | VmiGone
    | Resources
    | Up
    | PowerOff
    | Partition
    | Hang
    | Recover
    | SetFault
    | ClearFault
    | Control
    | Switchover
    | PeerLost
    | Transferred
    | Undelivered
    | Due
)


# --- What a host is ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Timings:
    """How long things take, in seconds, as recorded on real hosts (KubeVirt 1.8.2, guests in emulation)."""

    pod_start: float = 2.0
    guest_boot: float = 2.0
    agent_connect: float = 2.0
    guest_shutdown: float = 0.6
    launcher_exit: float = 8.0
    migration_prepare: float = 0.5
    migration_detect: float = 0.6
    migration_copy: float = 1.2
    hotplug: float = 0.05
    container_stop: float = 0.5
    import_: float = 2.0
    import_error: float = 2.0
    import_backoff: float = 10.0
    host_boot: float = 14.0
    handler_start: float = 15.0
    device_plugins: float = 0.5
    provision: float = 0.5
    # The following keep real time whatever the scale, because real controllers measure them, or must not miss them.
    gate_sync: float = 1.5
    lease: float = 3.0
    heartbeat: float = 60.0
    node_status: float = 60.0

    def scaled(self, scale: float) -> Self:
        """All durations times `scale` (0 = at once), except those that real controllers watch."""
        real = ("gate_sync", "lease", "heartbeat", "node_status")
        return replace(self, **{f.name: getattr(self, f.name) * scale for f in fields(self) if f.name not in real})


class Stage(StrEnum):
    """How far the kubelet is with a pod."""

    BLOCKED = "blocked"  # a mount is missing
    STARTING = "starting"
    RUNNING = "running"
    CRASHED = "crashed"  # its container ended with an error and will be restarted
    BACKOFF = "backoff"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Run:
    """The containers of one pod on this host."""

    pod: str
    stage: Stage
    ip: str
    started: float
    gates: bool = False
    """Whether the kubelet has seen all readiness gates True."""
    gates_pending: bool = False
    stopping: bool = False
    exit_code: int = 0
    message: str = ""
    restarts: int = 0
    finished: float = 0.0


class Life(StrEnum):
    """What a VM process does."""

    BOOTING = "booting"
    RUNNING = "running"
    INCOMING = "incoming"  # waits for a migration: has no guest yet and writes nothing
    OFF = "off"


class Exit(StrEnum):
    """How a VM process ended."""

    SHUTDOWN = "shutdown"
    DESTROYED = "destroyed"
    CRASHED = "crashed"
    MIGRATED = "migrated"


class Direction(StrEnum):
    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class Migration:
    """One end of a live migration, as the process knows it."""

    uid: str
    direction: Direction
    peer: str
    """The host at the other end."""
    ready: bool = False
    """Target: it listens. Source: the copy has begun."""
    started: float = 0.0
    detected: bool = False
    ended: float = 0.0
    failure: str = ""
    aborted: bool = False


@dataclass(frozen=True, slots=True)
class Process:
    """A VM process. It belongs to the host, not to the API: it can outlive its pod and its VMI."""

    vmi: str
    vm: str
    namespace: str
    name: str
    pod: str
    disks: frozenset[str]
    nics: frozenset[str]
    """The interfaces that the guest has. One that is added later comes with the next process: by migration."""
    life: Life
    since: float
    paused: str = ""
    """Why the guest is paused (the reason of condition Paused), or nothing."""
    agent: bool = False
    quiet_since: float = 0.0
    """When its agent last fell silent."""
    frozen: bool = False
    """Whether its file systems are frozen for a snapshot."""
    stopping: bool = False
    exit: Exit | None = None
    plugged: frozenset[str] = frozenset()
    """Hot-plugged volumes that are mounted into the launcher."""
    attached: frozenset[str] = frozenset()
    """Hot-plugged volumes that the guest has."""
    migration: Migration | None = None

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def active(self) -> bool:
        """Whether it can write to its disks."""
        return self.life in (Life.BOOTING, Life.RUNNING)


@dataclass(frozen=True, slots=True)
class Host:
    """Everything that is true of one host, whether the API server knows it or not."""

    name: str
    index: int
    """Counts from 1; addresses and devices derive from it."""
    timings: Timings = Timings()
    port: int = 0
    """Where virt-handler's server listens, for the migration address."""
    address: str = ""
    """Where it can be reached; if nowhere, it makes an address up."""
    kubelet_port: int = 10250
    powered: bool = True
    connected: bool = False
    hung: bool = False
    boots: int = 1
    session: int = 0
    """Counts how often the host has come to see the API server; timers of an earlier session are void."""
    up_since: float = 0.0
    """When it last came up (for the lastTransitionTime of its Node's conditions)."""
    disk_since: float = 0.0
    """When its disk last became full, or no longer so."""
    handler: bool = True
    """Whether virt-handler and its device plugins run (not yet, right after a boot)."""
    pods: Mapping[str, PodSeen] = field(default_factory=dict)
    vmis: Mapping[str, VmiSeen] = field(default_factory=dict)
    runs: Mapping[str, Run] = field(default_factory=dict)
    processes: Mapping[str, Process] = field(default_factory=dict)
    """By the uid of the launcher pod they live in."""
    faults: Mapping[tuple[Fault, str], float] = field(default_factory=dict)
    resources: frozenset[str] = frozenset()
    transferred: frozenset[Transferred] = frozenset()
    deferred: tuple[Due, ...] = ()
    """Timers that went off while the host hung."""
    addresses: int = 0
    """How many pod addresses have been given out."""

    @property
    def writing(self) -> bool:
        """Whether anything on the host can reach the API server."""
        return self.powered and self.connected and not self.hung

    def faulty(self, fault: Fault, vm: str) -> bool:
        return (fault, "") in self.faults or (fault, vm) in self.faults

    def process(self, vmi: str) -> Process | None:
        """The VMI's process: the living one, else the last."""
        found = None
        for process in self.processes.values():
            if process.vmi == vmi and (found is None or process.life is not Life.OFF):
                found = process
        return found
