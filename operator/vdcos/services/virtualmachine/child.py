"""The child: KubeVirt's VM is created, changed, and put right when somebody else changed what we want."""

from collections.abc import Mapping
from typing import Any

from vdcos.core import conditions, ownership
from vdcos.core.drift import drift, stamped
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.kubevirt import VirtualMachine
from vdcos.core.objects import Meta, Unreadable
from vdcos.core.plan import Apply, Instant, Patch
from vdcos.providers.failover import room
from vdcos.services.virtualmachine import adoption, capacity
from vdcos.services.virtualmachine.case import Case, Said
from vdcos.services.virtualmachine.observe import APPLIED

REPAIRED = f"{ownership.GROUP}/repaired"
"""Annotation of the child: the Unix time at which the repairs made so far are forgotten.

It is written by the repair itself, so no crash can lose the count."""

AT_ONCE = 3
"""Repairs one after the other, of whatever fields, after which somebody else evidently means it."""
FORGIVEN = 200
"""Seconds after which one repair is forgotten. People who stop a VM now and then are no opponents, controllers are."""


def converge(case: Case) -> Said:
    """Bring the child to what is wanted, if it is ours to change."""
    if isinstance(case.seen.child, Unreadable):
        return Said(conditions=(conditions.unknown(APPLIED, "KubeVirtUnreadable", case.seen.child.why),))
    if case.adopts is not None:
        return _adopt(case, case.adopts)
    if case.child is not None and not case.mine:
        return _not_mine(case)
    if case.unresolved:
        return _keep(case, case.child)
    assert isinstance(case.wanted, Mapping)
    manifest = stamped(case.wanted)
    if case.child is None:
        # Unforced: a namesake that somebody made a moment ago is a conflict, and not taken over.
        create = Apply(
            VirtualMachine.resource, manifest, "create the KubeVirt VM", force=False, assumed=_assumed(case, manifest)
        )
        return Said((create,), (conditions.false(APPLIED, "Creating", "the KubeVirt VM is being created"),))
    if case.detached:
        why = "take back the KubeVirt VM that was detached from an earlier VirtualMachine of this name"
        take = _apply(case.child, manifest, why, assumed=_assumed(case, manifest))
        return Said((take,), (conditions.false(APPLIED, "Adopting", "the KubeVirt VM is being taken back"),))
    if case.child.metadata.annotation(ownership.APPLIED) != manifest["metadata"]["annotations"][ownership.APPLIED]:
        why = "bring the KubeVirt VM up to date"
        apply = _apply(case.child, manifest, why, assumed=_assumed(case, manifest))
        return Said((apply,), (conditions.false(APPLIED, "Changing", "the KubeVirt VM is being changed"),))
    return _repair(case, case.child, manifest)


def _not_mine(case: Case) -> Said:
    if case.taken:
        return Said(conditions=(conditions.false(APPLIED, "NameTaken", case.taken),))
    message = "the previous KubeVirt VM of this name is being deleted; waiting until it is gone"
    return Said(conditions=(conditions.false(APPLIED, "PreviousTerminating", message),))


def _adopt(case: Case, child: VirtualMachine) -> Said:
    """Take over a KubeVirt VM that was there before: nothing of it changes until it is ours."""
    if case.unresolved:
        message = f"KubeVirt VM {child.metadata.key} is taken over once everything is there ({case.unresolved})"
        return Said(conditions=(conditions.false(APPLIED, "Waiting", message),))
    if left_out := adoption.left_out(case.owner.name, case.cr.spec, case.seen.child_spec):
        message = (
            f"KubeVirt VM {child.metadata.key} has what this object does not declare, and would lose it: "
            f"{', '.join(left_out)}. Declare it; kubectl vdc import makes a manifest that is complete"
        )
        return Said(conditions=(conditions.false(APPLIED, "AdoptionIncomplete", message),))
    held = [each for disk in case.seen.disks.values() for each in disk.held]
    actions = adoption.next_step(case.owner, child, case.seen.child_spec, held)
    message = f"KubeVirt VM {child.metadata.key} is being taken over as it is"
    return Said(actions, (conditions.false(APPLIED, "Adopting", message),))


def _keep(case: Case, child: kubevirt.VirtualMachine | None) -> Said:
    """References do not all resolve: the VM keeps the hardware that it has, and its power state still follows."""
    if child is None:
        message = f"the KubeVirt VM is created once everything it refers to is there ({case.unresolved})"
        return Said(conditions=(conditions.false(APPLIED, "Waiting", message),))
    message = f"the VM keeps the hardware that it has until everything it refers to is there ({case.unresolved})"
    said = (conditions.false(APPLIED, "Waiting", message),)
    if case.unresolved == room.INSUFFICIENT:
        said = (conditions.false(APPLIED, room.INSUFFICIENT, case.power.condition.message),)
    if case.seen.child_spec.get("runStrategy") == case.run_strategy:
        return Said(conditions=said)
    operations = [{"op": "replace", "path": "/spec/runStrategy", "value": case.run_strategy}]
    if case.reserves is not None and child.metadata.annotations:
        operations.append({"op": "add", "path": ownership.ADMITTED_AT, "value": case.reserves})
    patch = Patch(
        child.resource,
        child.metadata.key,
        child.metadata.uid,
        tuple(operations),
        f"set runStrategy to {case.run_strategy}",
        assumed=_assumed(case, {}),
        resource_version=child.metadata.resource_version,
    )
    return Said((patch,), said)


def _assumed(case: Case, manifest: Mapping[str, Any]) -> VirtualMachine | None:
    """What is admitted counts from now on, so that two VMs that are judged at once do not both take the last room."""
    child = case.child if case.mine else None
    if not case.reserves or (child is not None and child.metadata.annotation(ownership.ADMITTED) == case.reserves):
        return None
    return capacity.marked(child, manifest, case.reserves)


def _repair(case: Case, child: kubevirt.VirtualMachine, manifest: Mapping[str, Any]) -> Said:
    """We want what we wanted before: whatever differs was changed by somebody else."""
    live = {
        "metadata": {"labels": child.metadata.labels or {}, "annotations": child.metadata.annotations or {}},
        "spec": case.seen.child_spec,
    }
    metadata = manifest["metadata"]
    compared = {
        "metadata": {"labels": metadata["labels"], "annotations": metadata["annotations"]},
        "spec": manifest["spec"],
    }
    fields = tuple(sorted(drift(compared, live)))
    if not fields:
        return Said(conditions=(conditions.true(APPLIED, "Applied", "the KubeVirt VM is as it should be"),))
    forgotten = _forgotten(child.metadata, case.now) + FORGIVEN
    if (left := forgotten - AT_ONCE * FORGIVEN - case.now.wall) > 0:
        message = (
            f"somebody keeps changing {_listed(fields)} of KubeVirt VM {child.metadata.key}: it was put right too "
            "often and is left as it is for now. Find out who (kubectl get vm -o yaml --show-managed-fields) and stop "
            f"them; it is put right every {FORGIVEN} s at most, and when this object changes"
        )
        return Said(conditions=(conditions.false(APPLIED, "WriteWar", message),), after=max(1.0, left))
    marked = {**metadata, "annotations": {**metadata["annotations"], REPAIRED: str(int(forgotten))}}
    why = f"put right what somebody changed: {_listed(fields)}"
    apply = _apply(child, {**manifest, "metadata": marked}, why, repairs=fields)
    return Said((apply,), (conditions.false(APPLIED, "Repairing", f"{_listed(fields)} is being put right"),))


def _forgotten(child: Meta, now: Instant) -> float:
    """When the repairs made so far are forgotten: a leaky bucket as one point in time (the generic cell rate algorithm,
    ITU-T I.371). Others can write there, too; what repairs cannot have come to counts nothing."""
    text = child.annotation(REPAIRED)
    told = int(text) if text.isascii() and text.isdigit() and len(text) <= len("9999999999") else 0
    return told if now.wall < told <= now.wall + AT_ONCE * FORGIVEN else now.wall


def _apply(
    child: kubevirt.VirtualMachine,
    manifest: Mapping[str, Any],
    why: str,
    repairs: tuple[str, ...] = (),
    assumed: VirtualMachine | None = None,
) -> Apply:
    """The manifest for this very child, not for a namesake that was created since, and not for one that has changed:
    all of them say whether the VM runs, and one that was decided before its host was fenced must not stop, or start,
    what has been restarted since."""
    this = {**manifest, "metadata": {**manifest["metadata"], "uid": child.metadata.uid}}
    version = child.metadata.resource_version
    return Apply(child.resource, this, why, repairs, assumed=assumed, resource_version=version)


def _listed(fields: tuple[str, ...]) -> str:
    more = len(fields) - 3
    return ", ".join(fields[:3]) + (f" and {more} more" if more > 0 else "")
