"""Power: which runStrategy says what is declared, and what the VM's state is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from vdcos.api import virtualmachine as words
from vdcos.core import conditions, disks
from vdcos.core.conditions import Condition
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Unreadable
from vdcos.providers.failover import room
from vdcos.services.virtualmachine.kubevirt_vm import RunStrategy

SYNCED = "PowerStateSynced"
FINAL = ("Succeeded", "Failed")
UNPLACED = ("", "Pending", "Scheduling")
"""Phases of an instance that has no host yet."""
WHILE_RUNNING = frozenset({"AgentConnected", "Ready"})
"""Conditions of an instance that mean something only once its phase is Running."""

State = Literal["PoweredOn", "PoweredOff", "PoweringOn", "PoweringOff", "Paused", "Unknown"]

GUEST_SHUTDOWN = "GuestShutdown"
STOP_REQUESTED = "StopRequested"
STAYED_OFF = "StayedOff"

# What virt-controller says of a VM whose guest has not come up yet, and of one at the hand-over of a migration.
_NOT_UP_YET = ("GuestNotRunning", "VMIConditionMissing")
_HANDING_OVER = "ReadinessGatesNotReady"

# What it says while the claim of a persistent TPM or EFI is pending; it adds "PVC pending", and nothing of whose.
_STATE_PENDING = "BackendStorageNotReady"


def run_strategy(
    spec: words.VirtualMachineSpec,
    declared: str,
    child: kubevirt.VirtualMachine | None,
    instance: VirtualMachineInstance | Unreadable | None,
    changing: Callable[[], bool],
) -> RunStrategy:
    """What KubeVirt's VM is to say. ``declared`` is what it says now, ``instance`` what there is, in any phase;
    ``changing`` tells whether the VM is about to be changed in anything but its power.

    KubeVirt starts a RerunOnFailure VM only when it comes from another strategy and has no instance, as its controller
    sees it. So a power-off is brought to its end before a power-on begins, however soon that is declared.
    """
    if spec.power_state == "PoweredOff":
        return "Halted"
    if child is not None and isinstance(instance, VirtualMachineInstance) and _finds_no_host(instance):
        # A new instance is due when this one is not what is declared any more. KubeVirt changes its placement in place,
        # but not its pod; and what is to end must be gone before the next one begins.
        restart = kubevirt.condition(child.status.conditions, "RestartRequired").status == "True"
        if restart or declared == "Halted" or changing():
            return "Halted"
    if spec.on_guest_shutdown == "Restart":
        return "Always"
    if declared == "Halted" and child is not None:
        stopped = instance is None and not child.status.created and child.status.run_strategy in ("", "Halted")
        return "RerunOnFailure" if stopped else "Halted"
    return "RerunOnFailure"


def _finds_no_host(instance: VirtualMachineInstance) -> bool:
    """Whether an instance never ran, and the scheduler has no host for it."""
    return (
        instance.status.phase in UNPLACED
        and kubevirt.condition(instance.status.conditions, "PodScheduled").status == "False"
    )


@dataclass(frozen=True, slots=True)
class Facts:
    """What power depends on."""

    vm: str
    """The VM as it is named to virtctl and kubectl: ``web -n shop``."""
    spec: words.VirtualMachineSpec
    unreadable: str
    """Why KubeVirt's objects cannot be read, or ""."""
    child: kubevirt.VirtualMachine | None
    """Our child, if it is there."""
    strategy: str
    """The child's runStrategy."""
    instance: VirtualMachineInstance | None
    """The instance, as long as its phase is not final."""
    final: VirtualMachineInstance | None
    """The last instance, when it has stopped and is still there."""
    held_off: str
    """What the VM may not use, so that it is not powered on, or ""."""
    turn: str
    """The HostFailure for whose order of restart it waits, or ""."""
    resetting: bool
    """Its guest had stopped working, and it is being reset."""
    waits_for: str
    """What the creation of the child waits for, or ""."""
    before: str
    """The reason of the condition as it is stored."""
    unplaced: str
    """Why there is no host for the VM, or ""."""
    trouble: str
    """What keeps the VM's pod from starting, as a kubelet says it, or ""."""
    lack: str = ""
    """Why there is no room to start it, or ""."""
    growth: str = ""
    """Why there is no room for it to grow, or ""."""
    adopts: bool = False
    """A KubeVirt VM that is not ours yet is to be taken over: whether it runs is not ours to say."""

    @property
    def on(self) -> bool:
        return self.spec.power_state == "PoweredOn"

    @property
    def phase(self) -> str:
        return self.instance.status.phase if self.instance else ""

    def condition(self, kind: str) -> kubevirt.Condition:
        return kubevirt.condition(self.instance.status.conditions if self.instance else (), kind)

    @property
    def stopping(self) -> bool:
        return self.instance is not None and self.instance.metadata.deletion_timestamp is not None

    @property
    def up(self) -> bool:
        """The guest runs, as far as anybody knows."""
        return self.phase == "Running" and self.condition("Ready").reason not in _NOT_UP_YET

    @property
    def stays_off(self) -> bool:
        """It was shut down from inside or by virtctl, and is declared to stay off then."""
        child = self.child
        return (
            self.on
            and self.spec.on_guest_shutdown == "StayOff"
            and child is not None
            and self.instance is None
            and (self.final is None or self.final.status.phase == "Succeeded")
            and self.strategy == child.status.run_strategy == "RerunOnFailure"
            and not self.asked("Start")
            and not self.resetting
        )

    def asked(self, action: str) -> bool:
        """Somebody asked for this by virtctl, and KubeVirt has not done with it: a stop ends with the instance."""
        return self.child is not None and any(each.action == action for each in self.child.status.state_change_requests)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the power state is, and whether it is the declared one."""

    state: State
    condition: Condition


Rule = Callable[[Facts], Outcome | None]


def outcome(facts: Facts) -> Outcome:
    """The first rule that applies."""
    return next(outcome for rule in RULES if (outcome := rule(facts)) is not None)


def _unreadable(facts: Facts) -> Outcome | None:
    if not facts.unreadable:
        return None
    message = f"{facts.unreadable}. Install KubeVirt, or give vdcos the right to read it"
    return Outcome("Unknown", conditions.unknown(SYNCED, "KubeVirtUnreadable", message))


def _not_created(facts: Facts) -> Outcome | None:
    if facts.child is not None or facts.instance is not None:
        return None
    if not facts.on:
        return Outcome("PoweredOff", conditions.true(SYNCED, "PoweredOff", "off, as declared"))
    message = f"the VM is powered on once everything it refers to is there ({facts.waits_for or 'being created'})"
    return Outcome("PoweredOff", conditions.false(SYNCED, "Waiting", message))


def _stopping(facts: Facts) -> Outcome | None:
    if not facts.stopping:
        return None
    if not facts.on:
        message = "the guest is shutting down"
        return Outcome("PoweringOff", conditions.false(SYNCED, "PoweringOff", message))
    if facts.resetting:
        message = "the guest had stopped working: the VM is shut down, by force if need be, and started again"
        return Outcome("PoweringOff", conditions.false(SYNCED, "GuestReset", message))
    if facts.spec.on_guest_shutdown == "StayOff" and facts.strategy == "RerunOnFailure":
        message = "somebody stopped the VM (virtctl stop or restart, or a deleted instance); the guest is shutting down"
        return Outcome("PoweringOff", conditions.false(SYNCED, STOP_REQUESTED, message))
    message = "the VM is being stopped, and started again after that"
    return Outcome("PoweringOff", conditions.false(SYNCED, "Restarting", message))


def _off(facts: Facts) -> Outcome | None:
    if facts.on:
        return None
    if facts.instance is None:
        return Outcome("PoweredOff", conditions.true(SYNCED, "PoweredOff", "off, as declared"))
    return Outcome("PoweringOff", conditions.false(SYNCED, "PoweringOff", "the guest is about to be shut down"))


def _held_off(facts: Facts) -> Outcome | None:
    if not facts.held_off or facts.instance is not None:
        return None
    message = f"the VM is powered on once it may use what it refers to ({facts.held_off})"
    return Outcome("PoweredOff", conditions.false(SYNCED, "NotAllowed", message))


def _adopts(facts: Facts) -> Outcome | None:
    if not facts.adopts:
        return None
    message = "the KubeVirt VM goes on as it is until it is taken over"
    return Outcome("Unknown", conditions.unknown(SYNCED, "Adopting", message))


def _waits_for_turn(facts: Facts) -> Outcome | None:
    if not facts.turn or not facts.on:
        return None
    message = (
        "the VM's host has failed, and VMs that restart before it are not up yet; it is powered on when it is its turn "
        f"(kubectl describe hostfailure {facts.turn})"
    )
    return Outcome("PoweredOff", conditions.false(SYNCED, "HeldForRestart", message))


def _waits_for_room(facts: Facts) -> Outcome | None:
    if not facts.lack or facts.instance is not None:
        return None
    message = f"the VM is powered on when failover capacity lets it: {facts.lack}. {_MORE_ROOM}"
    return Outcome("PoweredOff", conditions.false(SYNCED, room.INSUFFICIENT, message))


_MORE_ROOM = "It goes by itself when VMs are powered off, hosts are added, or spec.admissionControl promises less"


def _stays_off(facts: Facts) -> Outcome | None:
    if not facts.stays_off:
        return None
    reason = facts.before if facts.before in (GUEST_SHUTDOWN, STOP_REQUESTED) else STAYED_OFF
    if facts.asked("Stop"):
        reason = STOP_REQUESTED
    elif facts.final is not None and facts.final.metadata.deletion_timestamp is None:
        reason = GUEST_SHUTDOWN
    who = {
        GUEST_SHUTDOWN: "the guest shut itself down",
        STOP_REQUESTED: "somebody stopped the VM (virtctl stop, or a deleted instance)",
        STAYED_OFF: "the guest shut itself down, or somebody stopped the VM",
    }[reason]
    message = (
        f"{who}, and onGuestShutdown is StayOff. To power it on: set powerState to PoweredOff and, when that is done, "
        f"to PoweredOn; or virtctl start {facts.vm}"
    )
    return Outcome("PoweredOff", conditions.true(SYNCED, reason, message))


def _paused(facts: Facts) -> Outcome | None:
    paused = facts.condition("Paused")
    if paused.status != "True" or facts.phase != "Running":
        return None
    if paused.reason == "PausedIOError":
        message = "KubeVirt paused the VM because a disk reports errors; repair the storage, then virtctl unpause vm "
        return Outcome("Paused", conditions.false(SYNCED, "PausedIOError", message + facts.vm))
    if paused.reason == "PausedByMigrationMonitor":
        message = "KubeVirt paused the VM to let its migration finish"
        return Outcome("Paused", conditions.false(SYNCED, "PausedForMigration", message))
    message = f"somebody paused the VM; to let it go on: virtctl unpause vm {facts.vm}"
    return Outcome("Paused", conditions.false(SYNCED, "Paused", message))


def _running(facts: Facts) -> Outcome | None:
    if not facts.up:
        return None
    ready = facts.condition("Ready")
    if ready.status == "True" or ready.reason == _HANDING_OVER:
        if facts.growth:
            message = f"the VM runs with what it has, and grows when failover capacity lets it: {facts.growth}. "
            return Outcome("PoweredOn", conditions.false(SYNCED, room.INSUFFICIENT, message + _MORE_ROOM))
        return Outcome("PoweredOn", conditions.true(SYNCED, "PoweredOn", "on, as declared"))
    assert facts.instance is not None
    said = f" ({ready.reason}: {ready.message})" if ready.reason else ""
    message = (
        f"the VM's pod on host {facts.instance.status.node_name} is not ready{said}; if the host is down, KubeVirt "
        "does not start the VM elsewhere before somebody proves it and removes the host or its pods"
    )
    return Outcome("Unknown", conditions.unknown(SYNCED, "HostNotResponding", message))


def _crashing(facts: Facts) -> Outcome | None:
    failure = facts.child.status.start_failure if facts.child else None
    if facts.instance is not None or failure is None or failure.consecutive_fail_count == 0:
        return None
    message = (
        "the VM fails to start again and again; KubeVirt retries with growing pauses. See kubectl get events and the "
        f"log of its pods: kubectl logs -l {disks.VM}={facts.vm}"
    )
    return Outcome("PoweringOn", conditions.false(SYNCED, "CrashLoop", message))


def _refused(facts: Facts) -> Outcome | None:
    """KubeVirt says why it cannot go on with the instance, or cannot make one."""
    synchronized = facts.condition("Synchronized")
    if synchronized.status == "False" and not facts.up:
        message = f"KubeVirt cannot start the VM: {synchronized.message}"
        if synchronized.reason == _STATE_PENDING:
            message = (
                "the claim for the state of the VM's TPM and firmware was not bound when KubeVirt looked last, and it "
                f"looks again after pauses of up to minutes. See kubectl get pvc -l persistent-state-for={facts.vm}; "
                f"if it is Bound, this makes KubeVirt look: kubectl annotate vmi {facts.vm} look=again --overwrite"
            )
        return Outcome("PoweringOn", conditions.false(SYNCED, synchronized.reason or "StartFailed", message))
    failure = kubevirt.condition(facts.child.status.conditions if facts.child else (), "Failure")
    if facts.instance is None and failure.status == "True":
        message = f"KubeVirt cannot start the VM: {failure.message}"
        return Outcome("PoweringOn", conditions.false(SYNCED, failure.reason or "StartFailed", message))
    return None


def _unplaced(facts: Facts) -> Outcome | None:
    if not facts.unplaced or facts.up:
        return None
    return Outcome("PoweringOn", conditions.false(SYNCED, "NoHostFits", facts.unplaced))


def _starting(facts: Facts) -> Outcome:
    if facts.trouble:
        message = f"the VM's pod cannot start: {facts.trouble}"
        return Outcome("PoweringOn", conditions.false(SYNCED, "VolumeMountFailed", message))
    return Outcome("PoweringOn", conditions.false(SYNCED, "PoweringOn", "the VM is being started"))


RULES: tuple[Rule, ...] = (
    _unreadable,
    _adopts,
    _not_created,
    _waits_for_turn,
    _stopping,
    _off,
    _held_off,
    _waits_for_room,
    _stays_off,
    _paused,
    _running,
    _crashing,
    _unplaced,
    _refused,
    _starting,
)
