"""HostFailure: one failure of one life of a host, step by step. Each step is stored before the next one begins."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from vdcos import api
from vdcos.api.hapolicy import HAPolicySpec
from vdcos.api.hostfailure import FailedVm, Outcome
from vdcos.core import conditions, counts, kinds, marks
from vdcos.core.conditions import Condition
from vdcos.core.foreign.kubernetes import LauncherPod, Node
from vdcos.core.foreign.kubevirt import Migration
from vdcos.core.foreign.medik8s import FenceAgentsRemediation
from vdcos.core.objects import Key, Object
from vdcos.core.plan import Action, Ask, Create, Delete, Instant, Patch, Plan
from vdcos.core.service import Write
from vdcos.core.snapshot import Snapshot
from vdcos.providers.fencing import fence
from vdcos.services.hostfailure import restart
from vdcos.services.hostfailure.seen import INDEXES, WATCHES, Seen, has_booted, look

FENCED = "Fenced"
RESTARTED = "Restarted"
RECOVERED = "Recovered"

MOST_EVENTS = 50
STORM_SECONDS = 3600.0
"""Hosts that are proved to be down within so many seconds have failed at once, unless they have booted since."""
SETTLED_SECONDS = 1.0
"""After a renewal of a silent host's Lease, until its Node must have been heard, too."""

WHAT_TO_DO = (
    "NoCapacity: free CPU or memory, or add a host. LocalDisk: its disks are on the host that failed, so repair that. "
    "Device: free one, or add a host that has it. PodHeld: remove the finalizers of its pod. Others: kubectl describe "
    "the VM."
)

RELEASED = "nothing of the host keeps VMs from restarting"

FALSE_ALARM = (
    conditions.true(FENCED, "FalseAlarm", "the host was heard again before it was fenced"),
    conditions.true(RESTARTED, "FalseAlarm"),
    conditions.true(RECOVERED, "FalseAlarm"),
)


@dataclass(frozen=True)
class Case:
    """One look: what is stored, what is seen, and what follows."""

    cr: api.HostFailure
    seen: Seen
    now: Instant

    @property
    def policy(self) -> HAPolicySpec:
        """The rules; without a policy, those that hold by default: a failure that has begun comes to its end."""
        return self.seen.policy.spec if self.seen.policy is not None else HAPolicySpec()

    @property
    def node(self) -> Node | None:
        return self.seen.node if isinstance(self.seen.node, Node) else None

    @property
    def is_same_life(self) -> bool:
        """The Node shows the incarnation that failed."""
        return self.node is not None and self.node.status.node_info.boot_id == self.cr.spec.incarnation

    @property
    def was_heard(self) -> bool:
        """The incarnation that failed has renewed its Lease since it was found to be silent, or proved to be down."""
        receipt = self.cr.status.receipt
        known = self.cr.spec.renewed if receipt is None else self.cr.status.last_heard
        return self.is_same_life and self.seen.signs.renewal not in ("", known)

    @property
    def has_booted(self) -> bool:
        """The same machine shows another incarnation: nothing has to be done to it, and nobody has to be asked."""
        return has_booted(self.cr, self.seen.node)

    def was_made_since(self, held: Object) -> bool:
        """Whether something was made after the failure was noted, by the API server's clock alone. If the host has
        booted since, it is of its next life, and cannot have died with the host."""
        return held.metadata.creation_timestamp > self.cr.metadata.creation_timestamp

    @property
    def lives(self) -> bool:
        """It renews its Lease again, and goes on with it."""
        return self.was_heard and self.seen.silent < self.policy.detection.lease_seconds

    @property
    def settles_in(self) -> float:
        """For how many seconds more a renewal says nothing: a host that has booted is heard by its Lease and by its
        Node, and nobody knows by which first."""
        return max(0.0, SETTLED_SECONDS - self.seen.silent) if self.lives else 0.0

    @property
    def mark(self) -> str:
        return marks.FAILURE + self.cr.metadata.name


@dataclass(frozen=True)
class Step:
    """What one look comes to."""

    phase: str
    said: tuple[Condition, ...]
    actions: tuple[Action, ...] = ()
    asks: tuple[Ask, ...] = ()
    after: float | None = None
    status: dict[str, Any] = field(default_factory=dict)
    """Fields that change; None takes one away."""
    event: str = ""
    """What happened, for the timeline."""


class HostFailureService:
    """Suspect, fence, release, restart, recover."""

    name = "hostfailure"
    resource = kinds.HOST_FAILURE
    kind = api.HostFailure
    needed = (FENCED, RESTARTED, RECOVERED)
    watches = WATCHES
    indexes = INDEXES
    writes = (
        Write(Node.resource, ("patch",)),
        Write(LauncherPod.resource, ("delete",)),
        Write(Migration.resource, ("delete",)),
        Write(FenceAgentsRemediation.resource, ("create", "delete")),
    )

    def observe(self, key: Key, world: Snapshot) -> Seen:
        return look(key, world)

    def plan(self, cr: api.HostFailure, seen: Seen, now: Instant) -> Plan:
        cr = _begun(cr, now)
        case = Case(cr, seen, now)
        step = next(step for rule in RULES if (step := rule(case)) is not None)
        stored = cr.status.manifest()
        stored.pop("conditions", None)
        stored.pop("observedGeneration", None)
        status = {**stored, **_kept(case), "phase": step.phase, **step.status}
        events = [*stored.get("timeline", ())]
        if step.event:
            events.append({"at": counts.stamp(now), "what": step.event[:256]})
        status["timeline"] = events if len(events) <= MOST_EVENTS else [events[0], *events[1 - MOST_EVENTS :]]
        return Plan(
            actions=step.actions,
            conditions=step.said,
            status={name: value for name, value in status.items() if value not in (None, False, [], "")},
            after=step.after,
            asks=step.asks,
        )


def _begun(cr: api.HostFailure, now: Instant) -> api.HostFailure:
    """No wait of a failure that is open has begun in the future."""
    status = cr.status
    if status.phase == "Completed":
        return cr
    back = counts.begun(status.back_since, now) if status.back_since is not None else None
    machines = tuple(restart.begun(machine, now) for machine in status.machines)
    if back == status.back_since and machines == status.machines:
        return cr
    return cr.model_copy(update={"status": status.model_copy(update={"back_since": back, "machines": machines})})


def _kept(case: Case) -> dict[str, Any]:
    """What a failure notes in the beginning, so that the Host may go."""
    host = case.seen.host
    kept: dict[str, Any] = {"incarnation": case.cr.spec.incarnation}
    if host is not None and host.spec.bmc is not None:
        kept["bmc"] = host.spec.bmc.manifest()
    return kept


# The steps, the latest first: the first that applies is the one that the failure has come to.


def _completed(case: Case) -> Step | None:
    """It is history."""
    if case.cr.status.phase != "Completed":
        return None
    if case.cr.status.receipt is None:
        return Step("Completed", FALSE_ALARM)
    machines = case.cr.status.machines
    restarted = _restarted(restart.summary(machines), machines, over=True)
    return Step("Completed", (_proof(case), restarted, _recovered(case.cr.status.outcome or "Recovered")))


def _unsettled(case: Case) -> Step | None:
    """Heard a moment ago: nothing is done, asked or said before it is known which life of the host that was."""
    status = case.cr.status
    if not case.settles_in or (status.receipt is None and status.asked):
        return None
    known = {each.type: each for each in status.conditions}
    if status.phase is None or not {FENCED, RESTARTED, RECOVERED} <= known.keys():
        return None
    said = (known[each] for each in (FENCED, RESTARTED, RECOVERED))
    kept = tuple(Condition(each.type, each.status, each.reason, each.message) for each in said)
    return Step(status.phase, kept, after=case.settles_in)


def _still_alive(case: Case) -> Step | None:
    """Proved to be down, and yet it renews its Lease: the proof was wrong. Nothing more is released until somebody
    confirms anew that it is down, and it is silent."""
    if case.cr.status.receipt is None or not case.was_heard:
        return None
    proof, known = case.cr.status.receipt.proof, case.cr.status.still_alive
    word = case.cr.spec.confirmed_down
    says = f"{word.by}: {word.why}" if word is not None else ""
    told = says if known is None or known.renewed else known.word
    fields = {"stillAlive": {"word": told, "renewed": ""}}
    message = (
        f"{case.cr.spec.host} was proved to be down ({proof}), and renews its Lease all the same. "
        "Nothing more is restarted. Cut its power by hand, find out why the proof was wrong (a BMC that is wired to "
        "another host?), and look for VMs that run twice. When it has no power, say so in spec.confirmedDown, in other "
        "words than before"
    )
    after = None
    if says and says != told:
        after = case.policy.fencing.quiet_seconds - (case.seen.signs.known_until - case.seen.signs.last_sign)
        if after <= 0:
            fields = {"stillAlive": {"word": told, "renewed": case.seen.signs.renewal}}
            known_said = tuple(
                Condition(each.type, each.status, each.reason, each.message)
                for each in case.cr.status.conditions
                if each.type in (FENCED, RESTARTED, RECOVERED)
            )
            return Step(
                case.cr.status.phase or "Fencing", known_said, after=0.0, status=fields, event=f"it is down now: {says}"
            )
    said = (
        conditions.false(FENCED, "HostStillAlive", message),
        conditions.unknown(RESTARTED, "HostStillAlive", "nothing is restarted"),
        conditions.unknown(RECOVERED, "HostStillAlive", "it is not known what runs"),
    )
    event = "" if _has(case, "HostStillAlive") else "the host renews its Lease although it was proved to be down"
    return Step(case.cr.status.phase or "Fencing", said, after=after, status=fields, event=event)


def _recovering(case: Case) -> Step | None:
    """Released: VMs restart in order, and the host is expected back."""
    status = case.cr.status
    if status.receipt is None or not status.released:
        return None
    if case.seen.blind:
        message = f"what became of its VMs cannot be seen: {case.seen.blind.why}"
        blind = conditions.unknown(RESTARTED, "CannotSee", message)
        return Step(
            status.phase or "Restarting", (_proof(case), blind, conditions.unknown(RECOVERED, "CannotSee", message))
        )
    progress = restart.go_on(case.policy, case.cr.spec.host, status.machines, case.seen, case.now)
    fields: dict[str, Any] = {
        "machines": [machine.manifest() for machine in progress.machines],
        "vms": restart.summary(progress.machines),
    }
    actions, recovered, after, back = _back(case)
    gone, later = _later(case)
    actions += gone
    fields["backSince"] = back
    fields["tainted"] = status.tainted or (_is_tainted(case) if case.is_same_life else None)
    over = restart.is_over(progress.machines)
    settled = recovered.status == "True" and restart.is_settled(case.policy, progress.machines, case.seen, case.now)
    withdrawn = _withdrawn(case) if settled else []
    actions += withdrawn
    if settled and not withdrawn:
        machines = [
            machine.model_copy(update={"state": "Down"}) if machine.state in ("Held", "Released") else machine
            for machine in progress.machines
        ]
        fields["machines"] = [machine.manifest() for machine in machines]
        fields["vms"] = restart.summary(machines)
        outcome: Outcome = "Recovered" if case.node is not None else "Superseded"
        fields["outcome"] = outcome
        said = (_proof(case), _restarted(fields["vms"], machines, over=True), _recovered(outcome))
        return Step("Completed", said, tuple(actions), status=fields, event="the failure is over")
    phase = "Recovering" if over else "Restarting"
    due = [seconds for seconds in (progress.after, after, later) if seconds is not None]
    event = ""
    if over and status.phase != "Recovering":
        event = f"{fields['vms']['running']} of {fields['vms']['total']} VMs run again"
    said = (_proof(case), _restarted(fields["vms"], progress.machines), recovered)
    return Step(phase, said, (*actions, *progress.actions), after=min(due, default=None), status=fields, event=event)


def _releasing(case: Case) -> Step | None:
    """Down for certain: what keeps its VMs from restarting is removed, after those that have to wait are held."""
    status, seen, now = case.cr.status, case.seen, case.now
    if status.receipt is None:
        return None
    waiting = conditions.false(RECOVERED, "Releasing", "its VMs come first")
    if seen.blind:
        message = f"what is left of the host cannot be seen: {seen.blind.why}"
        return Step("Releasing", (_proof(case), conditions.unknown(RESTARTED, "CannotSee", message), waiting))
    if status.vms is None:
        there = [each for each in seen.instances if not (case.has_booted and case.was_made_since(each))]
        machines = restart.count(case.policy, case.cr.spec.host, there, seen, now)
        counted = restart.summary(machines)
        fields: dict[str, Any] = {
            "machines": [machine.manifest() for machine in machines],
            "vms": counted,
            "failover": seen.failover,
        }
        said = (_proof(case), _restarted(counted), waiting)
        event = f"{counts.some(len(machines), 'VM')} ran on the host"
        return Step("Releasing", said, status=fields, after=0.0, event=event)
    said = (_proof(case), _restarted(restart.summary(status.machines)), waiting)
    age = max((counts.age(machine.since, now) for machine in status.machines), default=0.0)
    ready = restart.are_prepared(case.cr.spec.host, status.machines, status.failover, seen)
    if not ready and age < restart.OBSERVED_SECONDS:
        return Step("Releasing", said, after=restart.OBSERVED_SECONDS - age)
    actions, wait = _release(case), 2 * restart.OBSERVED_SECONDS - age
    if actions and wait > 0:
        return Step("Releasing", said, tuple(actions), after=wait)
    event = "what is left of the host is still being removed" if actions else RELEASED
    fields = {"released": True, "tainted": _is_tainted(case)}
    return Step("Restarting", said, after=0.0, status=fields, event=event)


def _release(case: Case) -> list[Action]:
    """What keeps VMs from restarting: only what was there when the failure was noted, which comes to an end. Whoever
    makes pods anew, or holds one of his own up with a finalizer, holds up nobody else."""
    actions: list[Action] = [_gone(case, held) for held in _left_of(case) if not case.was_made_since(held)]
    if case.node is not None and case.is_same_life:
        # Last, for it makes Kubernetes evict the very same pods, with four writes each.
        actions += marks.taint(case.node, marks.DOWN, "the host is down for certain: its volumes are free")
    return actions


def _later(case: Case) -> tuple[list[Action], float | None]:
    """What the release did not wait for goes while the host is down; and in how many seconds to look again. What was
    made since has some seconds to live, or we would do nothing else where it is made anew again and again."""
    if not (case.seen.node is None or case.is_same_life):
        return [], None
    actions = [action for action in _release(case) if not (case.cr.status.tainted and isinstance(action, Patch))]
    due: list[float] = []
    for held in _left_of(case):
        if case.was_made_since(held):
            wait = restart.OBSERVED_SECONDS - counts.age(held.metadata.creation_timestamp, case.now)
            actions += [_gone(case, held)] if wait <= 0 else []
            due += [wait] if wait > 0 else []
    return actions, min(due, default=None)


def _left_of(case: Case) -> list[LauncherPod | Migration]:
    """What there is of VMs on the host, and is not going for good."""
    pods = [pod for pod in case.seen.pods if not pod.is_held]
    return [*pods, *(each for each in case.seen.migrations if each.metadata.deletion_timestamp is None)]


def _gone(case: Case, held: LauncherPod | Migration) -> Delete:
    key, uid, host = held.metadata.key, held.metadata.uid, case.cr.spec.host
    if isinstance(held, Migration):
        return Delete(Migration.resource, key, uid, f"host {host} is down: the migration cannot end")
    return Delete(LauncherPod.resource, key, uid, f"host {host} is down for certain: its VMs may restart", now=True)


def _is_tainted(case: Case) -> bool | None:
    return (case.node is not None and marks.has(case.node, marks.DOWN)) or None


def _false_alarm(case: Case) -> Step | None:
    """Heard again before it was proved to be down: all is put back. If it was to be powered off, that may still happen:
    it must stay well for a while first."""
    if case.cr.status.receipt is not None or not case.lives:
        return None
    if case.cr.status.asked and (left := _left(case, since := case.cr.status.back_since or counts.stamp(case.now))) > 0:
        message = (
            f"it renews its Lease again; if it still does in {case.policy.recovery.quiet_seconds} s, all is put back"
        )
        said = (
            conditions.false(FENCED, "HeardAgain", message),
            conditions.false(RESTARTED, "HeardAgain", "nothing restarts: its VMs run"),
            conditions.false(RECOVERED, "HeardAgain", message),
        )
        event = "" if _has(case, "HeardAgain") else "the host is heard again"
        return Step("Fencing", said, after=left, status={"backSince": since}, event=event)
    actions = marks.uncordon(case.node, marks.FAILURE, "it was a false alarm") if case.node is not None else []
    actions += _withdrawn(case)
    if actions:
        # Completed only when that is done: what is over is not looked after any more.
        back = conditions.false(RECOVERED, "FalseAlarm", "what was done to it is being taken back")
        return Step(case.cr.status.phase or "Suspect", (*FALSE_ALARM[:2], back), tuple(actions))
    fields = {"outcome": "FalseAlarm", "cordoned": None, "backSince": None}
    return Step("Completed", FALSE_ALARM, tuple(actions), status=fields, event="the host is heard again: a false alarm")


def _held(case: Case) -> Step | None:
    """A person is to look first. What the storm brake has stopped goes on by a person's word, whatever becomes of other
    failures meanwhile, or when its host shows that it lives, or has booted."""
    cr, seen = case.cr, case.seen
    if cr.status.asked or cr.spec.approved or cr.spec.confirmed_down is not None or case.has_booted:
        return None
    command = f"kubectl patch hostfailure {cr.metadata.name} --type merge -p"
    approve = f"To go on all the same: {command} " + """'{"spec":{"approved":true}}'"""
    if seen.policy is None:
        return _waits(case, "PolicyGone", f"HAPolicy {cr.spec.policy} does not exist any more. {approve}")
    if seen.policy.spec.paused is not None:
        reason = seen.policy.spec.paused.reason
        return _waits(case, "Paused", f"HAPolicy {cr.spec.policy} is paused: {reason}. Remove spec.paused. {approve}")
    watched = seen.policy.status.hosts.count if seen.policy.status.hosts is not None else 1
    if (storm := cr.status.storm or _storm(case, watched)) > 0:
        return _waits(
            case,
            "StormBrake",
            f"{storm} of {watched} hosts seemed to have failed at once, more than the storm brake of HAPolicy "
            f"{cr.spec.policy} lets pass: the network may be to blame. This one waits until you have looked. {approve}",
            storm,
        )
    return None


def _storm(case: Case, watched: int) -> int:
    """How many hosts have failed at once, if that is more than the storm brake lets pass; 0 if it is not. It may be us
    who have cut the power of those that are proved to be down."""
    assert case.seen.policy is not None
    proved = [counts.age(at, case.now) for at in case.seen.others if at]
    failed = 1 + case.seen.others.count("") + sum(age < STORM_SECONDS for age in proved)
    return failed if failed > case.seen.policy.spec.storm_brake.most(watched) else 0


def _waits(case: Case, reason: str, message: str, storm: int = 0) -> Step:
    said = (
        conditions.false(FENCED, reason, message),
        conditions.false(RESTARTED, reason, "nothing restarts before the host is proved to be down"),
        conditions.false(RECOVERED, reason, "nothing was done to it"),
    )
    fields: dict[str, Any] = {"cordoned": _is_cordoned(case), **({"storm": storm} if storm else {})}
    event = "" if _has(case, reason) else f"held: {reason}"
    return Step("Held", said, tuple(_cordon(case)), status=fields, event=event)


def _fencing(case: Case) -> Step:
    """Ask for proof that the host is down."""
    cr, seen = case.cr, case.seen
    bmc = seen.host.spec.bmc if seen.host is not None else cr.status.bmc
    host = fence.Host(cr.spec.host, cr.spec.incarnation, cr.spec.machine, cr.metadata.uid, bmc, cr.spec.provider_id)
    progress = fence.Progress(cr.status.asked, tuple(fence.Tried(each.provider, each.why) for each in cr.status.tried))
    found = fence.fence(host, seen.signs, case.policy.fencing, progress, seen.answers, case.now)
    fields: dict[str, Any] = {
        "asked": list(found.progress.asked) or None,
        "tried": [{"provider": each.provider, "why": each.why[:512]} for each in found.progress.tried] or None,
        "cordoned": _is_cordoned(case),
        "backSince": None,
    }
    actions = _cordon(case)
    if found.remediation is not None:
        why = f"medik8s is asked to fence {cr.spec.host}"
        actions.append(Create(FenceAgentsRemediation.resource, found.remediation, why))
    if found.withdrawn is not None:
        # Not one that has changed since: it may have succeeded.
        meta, why = found.withdrawn.metadata, "it is not about this failure, or the host was heard since"
        resource = FenceAgentsRemediation.resource
        actions.append(Delete(resource, meta.key, meta.uid, why, resource_version=meta.resource_version))
    waiting = conditions.false(RESTARTED, "NotFenced", "nothing restarts before the host is proved to be down")
    recovered = conditions.false(RECOVERED, "NotFenced", "the host is to be fenced first")
    if found.receipt is not None:
        receipt = found.receipt
        fields["receipt"] = {
            "provider": receipt.provider,
            "how": receipt.how,
            "proof": receipt.proof[:512],
            "incarnation": receipt.incarnation,
            "at": counts.stamp(case.now),
            "renewed": seen.signs.renewal,
        }
        said = (conditions.true(FENCED, receipt.how, receipt.proof), waiting, recovered)
        event = f"{receipt.provider}: {receipt.proof}"
        return Step("Releasing", said, tuple(actions), after=0.0, status=fields, event=event)
    reason = "Fencing" if found.progress.asked else "NoProof"
    word = json.dumps({"spec": {"confirmedDown": {"incarnation": cr.spec.incarnation, "by": "YOU", "why": "WHY"}}})
    command = f"kubectl patch hostfailure {cr.metadata.name} --type merge -p '{word}'"
    why = found.why[: conditions.MESSAGE_LIMIT - len(command) - len(" ()")]  # providers may have much to say
    said = (conditions.false(FENCED, reason, f"{why} ({command})"), waiting, recovered)
    event = ""
    if not cr.status.phase:
        event = "declared dead: " + "; ".join(f"{each.witness}: {each.says}" for each in cr.spec.evidence)
    elif new := [each for each in found.progress.asked if each not in cr.status.asked]:
        event = f"asked: {', '.join(new)}"
    return Step("Fencing", said, tuple(actions), found.asks, found.after, fields, event)


Rule = Callable[[Case], Step | None]

RULES: tuple[Rule, ...] = (_completed, _unsettled, _still_alive, _recovering, _releasing, _false_alarm, _held, _fencing)


# Parts


def _cordon(case: Case) -> list[Action]:
    if case.node is None or not case.is_same_life:
        return []
    return marks.cordon(case.node, case.mark, "the host may be dead: nothing new shall land on it")


def _is_cordoned(case: Case) -> bool | None:
    return (case.node is not None and marks.cordoned_by(case.node) == case.mark) or None


def _withdrawn(case: Case) -> list[Action]:
    """The remediation that was made for this failure goes when the failure is over, and medik8s takes its taint off the
    Node then: the next failure is in need of one of its own."""
    found = case.seen.signs.remediation
    if not isinstance(found, FenceAgentsRemediation) or found.metadata.deletion_timestamp is not None:
        return []
    if fence.made_for(found) != case.cr.metadata.uid:
        return []
    meta = found.metadata
    return [Delete(FenceAgentsRemediation.resource, meta.key, meta.uid, f"the failure of {case.cr.spec.host} is over")]


def _back(case: Case) -> tuple[list[Action], Condition, float | None, str | None]:
    """Whether the host is back and well for long enough: then it is used again."""
    node, recovery = case.node, case.policy.recovery
    if node is None:
        return [], conditions.true(RECOVERED, "NodeGone", "its Node was deleted"), None, None
    if case.is_same_life:
        message = f"{case.cr.spec.host} is down; repair it, or delete its Node. It is used again when it has booted"
        return [], conditions.false(RECOVERED, "HostDown", message), None, None
    if node.ready != "True" or case.seen.silent >= case.policy.detection.lease_seconds:
        return [], conditions.false(RECOVERED, "Booting", "it has booted, and is not ready yet"), None, None
    since = case.cr.status.back_since or counts.stamp(case.now)
    left = _left(case, since)
    # The taint would keep its own daemons away, virt-handler among them: it goes at once.
    actions = marks.untaint(node, marks.DOWN, "the host is back")
    if (quarantine := _quarantine(case)) > 0:
        message = (
            f"it is back, and has failed {recovery.quarantine_after} times within {recovery.window_seconds} s or more "
            "often: it stays cordoned until that is longer ago. Find out why; to use it before: kubectl uncordon "
            f"{case.cr.spec.host}"
        )
        return actions, conditions.false(RECOVERED, "Quarantined", message), quarantine, since
    if left <= 0 and not actions:
        actions = marks.uncordon(node, marks.FAILURE, "the host is back, and well")
    if left > 0:
        message = f"it is back; used again after {recovery.quiet_seconds} s in which it stays well"
        return actions, conditions.false(RECOVERED, "Quiet", message), left, since
    if actions:
        return actions, conditions.false(RECOVERED, "Quiet", "its marks are being taken back"), None, since
    return [], conditions.true(RECOVERED, "Recovered", "it is back"), None, since


def _quarantine(case: Case) -> float:
    """For how many seconds more a host that fails again and again is not trusted. Whoever uncordons it trusts it."""
    recovery, node = case.policy.recovery, case.node
    failed = case.seen.failed
    if len(failed) < recovery.quarantine_after or node is None or marks.cordoned_by(node) == "":
        return 0.0
    return recovery.window_seconds - counts.age(failed[-recovery.quarantine_after], case.now)


def _left(case: Case, since: str) -> float:
    """How many seconds more the host must be well before it is trusted."""
    return case.policy.recovery.quiet_seconds - counts.age(since, case.now)


def _proof(case: Case) -> Condition:
    receipt = case.cr.status.receipt
    assert receipt is not None
    return conditions.true(FENCED, receipt.how, receipt.proof)


def _recovered(outcome: Outcome) -> Condition:
    return conditions.true(RECOVERED, outcome, "it is back" if outcome == "Recovered" else "its Node was deleted")


def _restarted(vms: dict[str, Any], machines: Iterable[FailedVm] = (), over: bool = False) -> Condition:
    down = vms["notRestarted"]
    named = counts.listed(vms["failed"], (f"{each['namespace']}/{each['name']} ({each['reason']})" for each in down))
    if vms["starting"] or vms["held"]:
        message = (
            f"{vms['running']} of {vms['total']} VMs run again; {vms['starting']} start, "
            f"{vms['held']} wait for their turn"
        )
        return conditions.false(RESTARTED, "Restarting", message + (f"; not restarted: {named}" if named else ""))
    if any(restart.is_given_up(machine) for machine in machines):
        message = (
            f"tried again and again in vain, or not to restart: {named}. {WHAT_TO_DO} KubeVirt starts them as soon as "
            "it can"
        )
        return Condition(RESTARTED, "True" if over else "False", "GivenUp", message)
    if named:
        return conditions.true(RESTARTED, "Restarted", f"not restarted: {named}")
    return conditions.true(RESTARTED, "Restarted", f"{counts.some(vms['running'], 'VM', 'run')} again")


def _has(case: Case, reason: str) -> bool:
    """Whether the stored status says so already."""
    return any(known.type == FENCED and known.reason == reason for known in case.cr.status.conditions)
