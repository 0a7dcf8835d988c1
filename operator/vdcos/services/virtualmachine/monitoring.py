"""Guest monitoring: a guest that has stopped working is reset, as often as its policy lets, and never in doubt.

A reset is stored before it is done, and done to the very instance that was seen, as it was seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from vdcos.api.availability import GuestReset, GuestWatch, Monitoring
from vdcos.core import availability, conditions, counts
from vdcos.core.conditions import Condition
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.plan import Action, Delete
from vdcos.providers.witnesses.evidence import BLIND_SECONDS
from vdcos.services.virtualmachine.case import Case, Said

HEARTBEAT = "GuestHeartbeat"

AGAIN_SECONDS = 10.0
"""Pause until the next look at a guest that is silent and must not be reset now."""
MOST = 20
"""As many resets as a status holds."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What monitoring comes to: what is said and done, and what is remembered (None: nothing)."""

    said: Said
    watch: Mapping[str, Any] | None


class _Obstacle(NamedTuple):
    """Why a silent guest must not be reset now."""

    reason: str
    message: str
    after: float = AGAIN_SECONDS


def watch(case: Case) -> Outcome:
    """Look after the guest."""
    stored = case.watched.model_copy(update={"restarting": case.owes_start})
    instance = case.instance
    if instance is None or case.cr.spec.power_state == "PoweredOff":
        return _away(case, stored)
    wanted = _wanted(case)
    if wanted is None:
        return Outcome(Said(), _kept(stored))
    if not wanted.enabled:
        return Outcome(Said(), _kept(stored) if stored.restarting else None)
    if case.facts.stopping or not case.facts.up:
        return _away(case, stored)
    return _look(case, instance, wanted, _begun(case, stored, instance, wanted))


def _wanted(case: Case) -> Monitoring | None:
    """How the guest is to be watched; None where the policy of its host is not known."""
    policy = case.seen.guest.policy
    return availability.monitoring(policy.spec, case.cr) if policy is not None else None


def _kept(known: GuestWatch) -> Mapping[str, Any] | None:
    return known.manifest() if known != GuestWatch() else None


def _away(case: Case, stored: GuestWatch) -> Outcome:
    """There is no guest to look at: it is off, starts, or is being stopped."""
    if case.cr.spec.power_state == "PoweredOff":
        stored = GuestWatch(resets=stored.resets)
    if not case.resetting:
        return Outcome(Said(), _kept(stored))
    message = "its guest had stopped working: the VM is being reset"
    return Outcome(Said(conditions=(conditions.false(HEARTBEAT, "Resetting", message),)), _kept(stored))


def _begun(case: Case, stored: GuestWatch, instance: VirtualMachineInstance, wanted: Monitoring) -> GuestWatch:
    """What is known of this instance, which may be another one than before."""
    connected = _connected(instance)
    if stored.instance == instance.metadata.uid:
        return stored.model_copy(update={"seen": stored.seen or connected})
    resets = list(stored.resets)
    panicked = wanted.reset_on_panic and stored.instance in case.seen.guest.panicked
    if panicked and all(reset.instance != stored.instance for reset in resets):
        at = counts.stamp(case.now)
        resets = [*_within(case, wanted, resets), GuestReset(at=at, instance=stored.instance, why="Panicked")]
    return GuestWatch(
        instance=instance.metadata.uid,
        since=counts.stamp(case.now),
        seen=connected,
        resets=tuple(resets[-MOST:]),
    )


def _look(case: Case, instance: VirtualMachineInstance, wanted: Monitoring, known: GuestWatch) -> Outcome:
    pending = bool(known.resets) and _ends(known.resets[-1], instance)
    done = known.resets[:-1] if pending else known.resets
    counted = _within(case, wanted, done)
    if _connected(instance):
        # It has changed since it was to be reset, and so was not: one that is reset ends as it was seen.
        return _beats(case, wanted, known.model_copy(update={"resets": done, "restarting": False}), counted)
    if not known.seen:
        message = (
            "no guest agent has answered since the VM started, so its guest is not watched; install qemu-guest-agent "
            "in the guest"
        )
        return _says(conditions.unknown(HEARTBEAT, "NeverSeen", message + _history(done)), known)
    if (obstacle := _obstacle(case, instance, wanted, known)) is not None:
        message = f"the guest agent does not answer any more; the VM is not reset now: {obstacle.message}"
        said = conditions.false(HEARTBEAT, obstacle.reason, message + _history(done))
        return _says(said, known, after=obstacle.after)
    silent = case.now.mono - case.seen.guest.unchanged_since
    if silent < wanted.failure_interval_seconds:
        message = (
            f"the guest agent does not answer any more; if that is so for {wanted.failure_interval_seconds} s, the VM "
            "is reset"
        )
        said = conditions.false(HEARTBEAT, "Silent", message + _history(done))
        return _says(said, known, after=wanted.failure_interval_seconds - silent)
    if len(counted) >= wanted.max_resets:
        message = (
            f"the guest agent does not answer any more, and the VM was reset {wanted.max_resets} times within "
            f"{wanted.window_seconds} s: it is left alone. Look at it (virtctl console {case.facts.vm}), and restart "
            f"it when you know why: virtctl restart {case.facts.vm}"
        )
        return _limit(case, wanted, known, counted, message)
    said = conditions.false(HEARTBEAT, "Resetting", "the guest agent does not answer any more: the VM is being reset")
    if not pending:
        reset = GuestReset(at=counts.stamp(case.now), instance=instance.metadata.uid, why="Silent")
        restarting = case.cr.spec.on_guest_shutdown == "StayOff"
        told = known.model_copy(update={"resets": (*counted, reset)[-MOST:], "restarting": restarting})
        return _says(said, told, after=0.0)
    why = f"its guest agent was silent for {wanted.failure_interval_seconds} s"
    meta = instance.metadata
    action = Delete(VirtualMachineInstance.resource, meta.key, meta.uid, why, resource_version=meta.resource_version)
    return _says(said, known, actions=(action,))


def _beats(case: Case, wanted: Monitoring, known: GuestWatch, counted: Sequence[GuestReset]) -> Outcome:
    if len(counted) >= wanted.max_resets and counted[-1].why == "Panicked":
        message = (
            f"the guest has panicked, or was reset, {len(counted)} times within {wanted.window_seconds} s, and "
            "KubeVirt restarts it each time: look at its console, or power it off (spec.powerState)"
        )
        return _limit(case, wanted, known, counted, message)
    message = "the guest agent answers" + _history(known.resets)
    return _says(conditions.true(HEARTBEAT, "Beating", message), known)


def _limit(case: Case, wanted: Monitoring, known: GuestWatch, counted: Sequence[GuestReset], message: str) -> Outcome:
    first = counted[len(counted) - wanted.max_resets]
    left = wanted.window_seconds - counts.age(first.at, case.now)
    said = conditions.false(HEARTBEAT, "GuestResetLimit", message + _history(known.resets))
    return _says(said, known, after=max(1.0, left))


def _obstacle(case: Case, instance: VirtualMachineInstance, wanted: Monitoring, known: GuestWatch) -> _Obstacle | None:
    """The first thing that stands against a reset."""
    status, policy, host = instance.status, case.seen.guest.policy, case.seen.guest.host
    if policy is not None and policy.spec.paused is not None:
        return _Obstacle("PolicyPaused", f"HAPolicy {policy.metadata.name} is paused: {policy.spec.paused.reason}")
    if case.waits_for_turn:
        return _Obstacle("HeldForRestart", "its host has failed, and it waits for its turn")
    if case.now.mono - case.seen.guest.heard >= BLIND_SECONDS:
        return _Obstacle("CannotSee", "nothing is heard of the API server")
    if host is None or host.status.state != "Connected" or case.power.state == "Unknown":
        return _Obstacle("HostNotConnected", f"nothing is certain about its host {status.node_name}")
    moves = status.migration_state
    if len(status.active_pods) > 1 or (moves is not None and not moves.completed and not moves.failed):
        return _Obstacle("Migrating", "it is moving to another host")
    if kubevirt.condition(status.conditions, "Paused").status == "True":
        return _Obstacle("Paused", f"it is paused; to let it go on: virtctl unpause vm {case.facts.vm}")
    young = wanted.minimum_uptime_seconds - counts.age(known.since or counts.stamp(case.now), case.now)
    if young > 0:
        return _Obstacle("StartedRecently", f"it has run for less than {wanted.minimum_uptime_seconds} s", young)
    return None


def _connected(instance: VirtualMachineInstance) -> bool:
    return kubevirt.condition(instance.status.conditions, "AgentConnected").status == "True"


def _ends(reset: GuestReset, instance: VirtualMachineInstance) -> bool:
    """Whether this is the reset that is to end the instance."""
    return reset.instance == instance.metadata.uid and reset.why == "Silent"


def _within(case: Case, wanted: Monitoring, resets: Sequence[GuestReset]) -> list[GuestReset]:
    return [reset for reset in resets if counts.age(reset.at, case.now) < wanted.window_seconds]


def _history(resets: Sequence[GuestReset]) -> str:
    """What a message says of resets before. Nothing that changes while time goes by."""
    if not resets:
        return ""
    last = resets[-1]
    return f" ({counts.some(len(resets), 'reset')} before, the last at {last.at}: {last.why})"


def _says(said: Condition, known: GuestWatch, after: float | None = None, actions: tuple[Action, ...] = ()) -> Outcome:
    return Outcome(Said(actions, (said,), after), _kept(known))
