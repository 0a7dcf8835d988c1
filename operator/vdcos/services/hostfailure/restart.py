"""The restart of a failed host's VMs: who is to run again, whose turn it is, and what became of each."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vdcos.api.availability import ReadyWhen
from vdcos.api.hapolicy import HAPolicySpec
from vdcos.api.hostfailure import FailedVm
from vdcos.core import counts, failures, ownership
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.kubernetes import LauncherPod
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Key
from vdcos.core.plan import Action, Delete, Instant
from vdcos.providers.failover import room
from vdcos.providers.placement import Reason
from vdcos.services.hostfailure import order
from vdcos.services.hostfailure.seen import Seen, SeenVm

OBSERVED_SECONDS = 10.0
"""So long the release waits until held VMs are seen to be held. One that cannot be (its VirtualMachine is refused) must
not keep all others down."""
STARTING = ("Scheduling", "Scheduled")
"""Phases of an instance that has a host and does not run yet."""
_INSUFFICIENT = re.compile(r"Insufficient ([^\s,.]+(?:\.[^\s,.]+)*)")
MOST = 1024
"""As many VMs as a status holds. A host has some hundreds at most."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The machines as they are to be stored, and in how many seconds to look again."""

    machines: tuple[FailedVm, ...]
    after: float | None = None
    actions: tuple[Action, ...] = ()


def count(
    policy: HAPolicySpec, host: str, instances: Iterable[VirtualMachineInstance], seen: Seen, now: Instant
) -> tuple[FailedVm, ...]:
    """The VMs that died with the host: those of these instances that ran or started there, and not those that were
    about to move there. Only the first in turn may start at once."""
    dead = {
        instance.metadata.key: instance.metadata.uid
        for instance in instances
        if instance.status.node_name in ("", host)
        and instance.status.phase not in ("Succeeded", "Failed")
        and not _is_deleted(seen.vms[instance.metadata.key])
        and (instance.metadata.deletion_timestamp is None or _starts_again(seen.vms[instance.metadata.key]))
    }
    turns = order.turns(policy, {key: seen.vms[key].vm for key in dead})
    if len(turns) > MOST:
        # Tenants can create instances that say anything of themselves. Pods were put there by the scheduler.
        launched = {Key(pod.metadata.namespace, pod.vm) for pod in seen.pods}
        kept = {turn.key for turn in sorted(turns, key=lambda turn: turn.key not in launched)[:MOST]}
        turns = [turn for turn in turns if turn.key in kept]
    at = counts.stamp(now)
    machines = []
    for turn in turns:
        vm = seen.vms[turn.key].vm
        free = vm is None or turn.tier == 0
        machines.append(
            FailedVm(
                namespace=turn.key.namespace,
                name=turn.key.name,
                uid=vm.metadata.uid if vm is not None else "",
                instance=dead[turn.key],
                tier=turn.tier,
                state="Released" if free and not turn.disabled else "Held",
                since=at,
                reason="Disabled" if turn.disabled else "",
            )
        )
    return tuple(machines)


def _is_deleted(vm: SeenVm) -> bool:
    """Whether a VM is going for good. One that has its name by now did not run on the host."""
    if vm.child is None or vm.child.metadata.deletion_timestamp is None or vm.malformed:
        return False
    return vm.vm is None or not ownership.is_owned(vm.child.metadata, vm.vm.metadata.uid)


def _starts_again(vm: SeenVm) -> bool:
    """Whether a VM whose instance is being stopped is to run again: it is being restarted, or its KubeVirt VM was
    deleted and is made anew."""
    if vm.child is None or vm.vm is None or vm.vm.spec.power_state == "PoweredOff":
        return False
    if vm.child.metadata.deletion_timestamp is not None:
        return True
    watch = vm.vm.status.monitoring
    asked = any(request.action == "Start" for request in vm.child.status.state_change_requests)
    return vm.strategy == "Always" or (vm.strategy == "RerunOnFailure" and (asked or bool(watch and watch.restarting)))


def are_prepared(host: str, machines: Iterable[FailedVm], failover: bool, seen: Seen) -> bool:
    """Whether KubeVirt has been told of each VM that is held, so that none starts before its turn, and, where there are
    hosts that are kept for ``failover``, that it may start there. Nobody tells it of one that has moved away."""
    return all(
        vm.child is None
        or vm.vm is None
        or vm.vm.metadata.uid != machine.uid
        or _runs_elsewhere(host, vm)
        or ((machine.state != "Held" or vm.strategy == "Halted") and (not failover or vm.failover))
        for machine in machines
        if machine.state in ("Held", "Released")
        for vm in (seen.vms[Key(machine.namespace, machine.name)],)
    )


def go_on(policy: HAPolicySpec, host: str, machines: Sequence[FailedVm], seen: Seen, now: Instant) -> Progress:
    """What became of each VM, and whose turn it is."""
    due: list[float] = []
    told: list[FailedVm] = []
    actions: list[Action] = []
    for machine in machines:
        again, left = _tried(policy, _told(policy, host, machine, seen, now), seen, now)
        told.append(again)
        due += [left] if left is not None else []
        actions += _replaced(machine, seen) if again.state == "Released" else []
    waits = [_Wait.of(policy, machine, seen, now) for machine in told]
    due += [seconds for wait in waits for seconds in (wait.here, wait.elsewhere) if seconds]
    turns = _turns(waits)
    freed = []
    for machine in told:
        if _is_waiting(machine):
            left = policy.restart.longest_hold_seconds - counts.age(machine.since, now)
            if machine.tier <= turns[machine.namespace] or left <= 0:
                machine = _now(machine, "Released", now)
                due.append(0.0)
            else:
                due.append(left)
        freed.append(machine)
    return Progress(tuple(freed), min(due, default=None), tuple(actions))


def begun(machine: FailedVm, now: Instant) -> FailedVm:
    """No wait for it has begun in the future: a clock may have been set back."""
    since = counts.begun(machine.since, now)
    tried = counts.begun(machine.tried_at, now) if machine.tried_at is not None else None
    others = counts.begun(machine.up_for_others, now) if machine.up_for_others is not None else None
    if (since, tried, others) == (machine.since, machine.tried_at, machine.up_for_others):
        return machine
    return machine.model_copy(update={"since": since, "tried_at": tried, "up_for_others": others})


def summary(machines: Sequence[FailedVm]) -> dict[str, Any]:
    """``status.vms``."""
    down = [machine for machine in machines if machine.state == "Down" or machine.reason == "Disabled"]
    waiting = [machine for machine in machines if _is_waiting(machine)]
    return {
        "total": len(machines),
        "running": sum(machine.state == "Up" for machine in machines),
        "starting": sum(machine.state == "Released" for machine in machines),
        "held": len(waiting),
        "failed": len(down),
        "notRestarted": [
            {"namespace": machine.namespace, "name": machine.name, "reason": machine.reason or "Unknown"}
            for machine in down[: counts.NAMED]
        ],
    }


def is_over(machines: Iterable[FailedVm]) -> bool:
    """Whether nothing is left to wait for."""
    return all(machine.state in ("Up", "Down") or machine.reason == "Disabled" for machine in machines)


def is_settled(policy: HAPolicySpec, machines: Iterable[FailedVm], seen: Seen, now: Instant) -> bool:
    """Whether nobody waits for anything here any more, though some may never have come up."""
    return all(
        machine.reason == "Disabled" or (machine.state != "Held" and not _Wait.of(policy, machine, seen, now).here)
        for machine in machines
    )


def _told(policy: HAPolicySpec, host: str, machine: FailedVm, seen: Seen, now: Instant) -> FailedVm:
    vm = seen.vms[Key(machine.namespace, machine.name)]
    if is_given_up(machine) and _is_up(order.ready_when(policy, vm.vm).condition, host, machine, vm):
        return _now(machine, "Up", now)
    if machine.state in ("Up", "Down"):
        return machine
    if reason := _unwanted(machine, vm):
        return _now(machine, "Down", now, reason)
    if machine.state == "Held" and _runs_elsewhere(host, vm):
        return _now(machine, "Up", now)
    if machine.state == "Released" and _is_up(order.ready_when(policy, vm.vm).condition, host, machine, vm):
        return _now(machine, "Up", now)
    if machine.state == "Released":
        reason = "PodHeld" if _is_held(machine, seen, vm) else _fails(vm) or _why_not(vm)
        others = machine.up_for_others
        if others is None and _is_up(order.ready_for_others(policy, vm.vm).condition, host, machine, vm):
            others = counts.stamp(now)
        return machine.model_copy(update={"reason": reason[:64], "up_for_others": others})
    return machine


def _unwanted(machine: FailedVm, vm: SeenVm) -> str:
    """Why a VM does not run again, whatever is done: somebody has decided so meanwhile."""
    gone = machine.uid and not vm.malformed and (vm.vm is None or vm.vm.metadata.uid != machine.uid)
    if gone or (vm.child is None and vm.vm is None):
        return "Deleted"
    if vm.vm is not None and vm.vm.spec.power_state == "PoweredOff":
        return "PoweredOff"
    return "NotRestarted" if vm.vm is None and not vm.malformed and vm.strategy in ("Halted", "Manual", "Once") else ""


def _is_up(condition: str, host: str, machine: FailedVm, vm: SeenVm) -> bool:
    instance = vm.instance
    if instance is None or instance.status.phase != "Running":
        return False
    if failures.died(instance, machine.instance, host):
        return False
    if condition == "GuestAgent":
        return kubevirt.condition(instance.status.conditions, "AgentConnected").status == "True"
    if condition == "Ready" and vm.vm is not None:
        return any(known.type == "Ready" and known.status == "True" for known in vm.vm.status.conditions)
    return kubevirt.condition(instance.status.conditions, "Ready").status == "True"


def _runs_elsewhere(host: str, vm: SeenVm) -> bool:
    """Whether a VM that was taken for dead runs on another host: it had moved there, and that was not seen yet; or it
    could not be held."""
    instance = vm.instance
    return instance is not None and instance.status.phase == "Running" and instance.status.node_name not in ("", host)


def is_given_up(machine: FailedVm) -> bool:
    """Whether it was tried as often as the policy says, in vain. KubeVirt goes on, so it may come up yet."""
    return machine.state == "Down" and machine.tried_at is not None


def _tried(policy: HAPolicySpec, machine: FailedVm, seen: Seen, now: Instant) -> tuple[FailedVm, float | None]:
    """One that is not up in time, or known to fail, is tried again after a pause that doubles, and given up at last.
    Second: in how many seconds to look again."""
    if machine.state != "Released":
        return machine, None
    vm, retries = seen.vms[Key(machine.namespace, machine.name)], policy.restart.retries
    if _lacks_room(vm):
        return _given_up(machine, room.INSUFFICIENT, now), None
    fails = _fails(vm)
    pause = min(retries.longest_seconds, retries.first_seconds * 2.0**machine.tries)
    if not fails:
        pause = max(pause, order.ready_when(policy, vm.vm).timeout_seconds)
    left = pause - counts.age(machine.tried_at or machine.since, now)
    if left > 0:
        return machine, left
    if machine.tries >= retries.limit:
        return _given_up(machine, machine.reason or "NotUp", now), None
    stuck = None if fails else _stuck(machine, seen, vm)
    replaces = stuck.metadata.uid if stuck is not None else ""
    again = {"tries": machine.tries + 1, "tried_at": counts.stamp(now), "replaces": replaces}
    return machine.model_copy(update=again), 0.0


def _given_up(machine: FailedVm, reason: str, now: Instant) -> FailedVm:
    return _now(machine, "Down", now, reason).model_copy(update={"tried_at": counts.stamp(now)})


def _lacks_room(vm: SeenVm) -> bool:
    """Whether failover capacity keeps a VM off. What was admitted for it has gone with its KubeVirt VM, which somebody
    deleted. One that only cannot grow has it still."""
    if vm.child is None or vm.vm is None or vm.instance is not None or vm.vm.status.waits_for is None:
        return False
    return not vm.child.metadata.annotation(ownership.ADMITTED)


def _fails(vm: SeenVm) -> str:
    """Why it cannot start as things are, in one word; empty when it may be on its way."""
    if vm.instance is None or vm.instance.status.phase == "Failed":
        failure = vm.child.status.start_failure if vm.child is not None else None
        return "StartFailed" if failure is not None and failure.consecutive_fail_count else ""
    message = kubevirt.finds_no_host(vm.instance.status.conditions)
    return unplaced(message) if message else ""


def unplaced(message: str) -> Reason | str:
    """What the scheduler's words come to, as failure plans have it; what is hardest to help first."""
    if "volume node affinity conflict" in message or "didn't match PersistentVolume's node affinity" in message:
        return Reason.LOCAL_DISK
    lacking = _INSUFFICIENT.findall(message)
    if any("/" in resource for resource in lacking):
        return Reason.DEVICE
    if lacking or "Too many pods" in message:
        return Reason.NO_CAPACITY
    return "NoHostFits"


def _is_held(machine: FailedVm, seen: Seen, vm: SeenVm) -> bool:
    """Whether the instance that died is still there because somebody's finalizer keeps its pod."""
    instance = vm.instance
    if instance is None or instance.metadata.uid != machine.instance:
        return False
    return any(pod.is_held and pod.metadata.uid in instance.status.active_pods for pod in seen.starting)


def _stuck(machine: FailedVm, seen: Seen, vm: SeenVm) -> LauncherPod | None:
    """The pod of an instance that has a host, and does not come up there. Never that of one that runs, or may run: a
    host that is silent tells of nothing."""
    instance = vm.instance
    if instance is None or instance.metadata.uid == machine.instance or instance.status.phase not in STARTING:
        return None
    mine = (pod for pod in seen.starting if pod.metadata.uid in instance.status.active_pods)
    sound = (pod for pod in mine if pod.spec.node_name in seen.connected)
    return next((pod for pod in sound if pod.metadata.deletion_timestamp is None), None)


def _replaced(machine: FailedVm, seen: Seen) -> list[Action]:
    """A pod that is to be replaced goes, if it is still stuck: KubeVirt makes another one, elsewhere perhaps."""
    vm = seen.vms[Key(machine.namespace, machine.name)]
    pod = _stuck(machine, seen, vm) if machine.replaces else None
    if pod is None or pod.metadata.uid != machine.replaces:
        return []
    meta, why = pod.metadata, "it does not start there: tried again"
    # It is the instance that would say that the guest runs by now.
    version = meta.resource_version
    return [Delete(LauncherPod.resource, meta.key, meta.uid, why, resource_version=version, because=vm.instance)]


def _why_not(vm: SeenVm) -> str:
    """What its own VirtualMachine says."""
    if vm.vm is None:
        return ""
    ready = next((known for known in vm.vm.status.conditions if known.type == "Ready"), None)
    return ready.reason[:64] if ready is not None and ready.status != "True" else ""


def _is_waiting(machine: FailedVm) -> bool:
    """Whether its turn is still to come."""
    return machine.state == "Held" and machine.reason != "Disabled"


@dataclass(frozen=True, slots=True)
class _Wait:
    """For how many seconds more those after a VM wait for it; 0 when they do not."""

    machine: FailedVm
    here: float
    """Those of its namespace."""
    elsewhere: float

    @classmethod
    def of(cls, policy: HAPolicySpec, machine: FailedVm, seen: Seen, now: Instant) -> "_Wait":
        vm = seen.vms[Key(machine.namespace, machine.name)].vm
        here, elsewhere = order.ready_when(policy, vm), order.ready_for_others(policy, vm)
        others = machine
        if machine.up_for_others is not None and machine.state == "Released":
            others = machine.model_copy(update={"state": "Up", "since": machine.up_for_others})
        return cls(machine, _left(here, machine, now), _left(elsewhere, others, now))


def _left(when: ReadyWhen, machine: FailedVm, now: Instant) -> float:
    allowed = {"Released": when.timeout_seconds, "Up": when.delay_seconds}.get(machine.state, 0)
    return max(0.0, allowed - counts.age(machine.since, now))


def _turns(waits: Sequence[_Wait]) -> dict[str, int]:
    """By namespace, the tier up to which its VMs may start: that of the first who is held, or waited for.

    What is held elsewhere only by the words of its neighbours does not count. One that nobody holds may be up before
    its turn, or wait for long: it does not let those before it go together.
    """
    patient: dict[str, int] = {}
    for wait in waits:
        if wait.here and not wait.elsewhere:
            known = patient.get(wait.machine.namespace, wait.machine.tier)
            patient[wait.machine.namespace] = min(known, wait.machine.tier)

    def holds(wait: _Wait, namespace: str) -> bool:
        machine = wait.machine
        mine = machine.namespace == namespace
        if _is_waiting(machine):
            return mine or machine.tier <= patient.get(machine.namespace, machine.tier)
        return bool(wait.here if mine else wait.elsewhere)

    namespaces = {wait.machine.namespace for wait in waits}
    return {
        namespace: min((wait.machine.tier for wait in waits if holds(wait, namespace)), default=0)
        for namespace in namespaces
    }


def _now(machine: FailedVm, state: str, now: Instant, reason: str = "") -> FailedVm:
    return machine.model_copy(update={"state": state, "since": counts.stamp(now), "reason": reason})
