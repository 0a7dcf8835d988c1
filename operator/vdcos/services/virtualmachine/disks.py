"""Disks: which DataVolume each one gets, when it grows, whom it belongs to, and what is to be said about it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from vdcos import api
from vdcos.api import virtualmachine as words
from vdcos.core import disks, quantity, tenancy
from vdcos.core.foreign.cdi import Cdi, DataVolume
from vdcos.core.foreign.kubernetes import Namespace, PersistentVolumeClaim, StorageClass
from vdcos.core.objects import Meta, Unreadable
from vdcos.core.plan import Action
from vdcos.services.virtualmachine import data_volumes
from vdcos.services.virtualmachine.observe import DATASTORE_FULL, EXPANSION_UNSUPPORTED, SeenDisk

Phase = Literal["Pending", "Importing", "Ready", "Expanding", "Failed"]
MADE: frozenset[Phase] = frozenset({"Ready", "Expanding"})
"""Phases of a disk with something on it."""

HOT_BUSES = ("virtio", "scsi")
"""Buses whose disks come and go while a VM runs."""

FIRST_POWER_ON = "FirstPowerOn"
NOT_OURS = "DiskNotOurs"
NOT_ADOPTED = "DiskNotAdopted"
LOST = "DiskLost"


@dataclass(frozen=True)
class Look:
    """One declared disk, and what decides about it."""

    owner: Meta
    created: str
    """When the VirtualMachine was created."""
    disk: words.Disk
    seen: SeenDisk
    namespace: Namespace | Unreadable | None
    made: bool
    """The stored status says that the disk was ready once."""
    pledged: int
    """Bytes that this plan has promised to other disks of the same datastore."""
    instance: str
    """Uid of the running instance, or ""."""
    grows_live: bool
    cdi: Cdi | None
    child: Meta | None = None
    """The KubeVirt VM, once it is ours."""
    lent: bool = False
    """The KubeVirt VM uses the claim that is declared as this disk."""

    @cached_property
    def volume(self) -> DataVolume | None:
        return self.seen.volume if isinstance(self.seen.volume, DataVolume) else None

    @cached_property
    def claim(self) -> PersistentVolumeClaim | None:
        return self.seen.claim if isinstance(self.seen.claim, PersistentVolumeClaim) else None

    @cached_property
    def datastore(self) -> api.Datastore | None:
        return self.seen.datastore if isinstance(self.seen.datastore, api.Datastore) else None

    @cached_property
    def held(self) -> tuple[DataVolume | PersistentVolumeClaim, ...]:
        """What exists of the disk."""
        return self.seen.held

    @cached_property
    def size(self) -> int:
        """Declared bytes."""
        return quantity.whole(self.disk.size)

    @cached_property
    def recorded(self) -> int:
        """Bytes of a disk that exists: as declared when it was created or last grew, else what its claim requests."""
        grown = disks.grown_to(self.claim.metadata) if self.claim else 0
        created = max(disks.requested(held.metadata) for held in self.held)
        if not created and self.disk.claim_name and self.volume is not None:
            created = disks.asked(self.volume)
        return grown or created or (disks.claimed(self.claim) if self.claim else 0)

    @cached_property
    def is_new(self) -> bool:
        """Nothing of the disk counts on its Datastore yet."""
        return not any(disks.is_disk(held.metadata, self.owner.name, self.disk.name) for held in self.held)


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one disk. ``reason`` is "" when there is nothing to complain about."""

    disk: words.Disk
    attachable: bool
    """There is something to attach, or will be once the actions are done."""
    reason: str = ""
    message: str = ""
    note: str = ""
    """What is worth knowing although all is well."""
    phase: Phase = "Ready"
    progress: str = ""
    size: int = 0
    reused: bool = False
    actions: tuple[Action, ...] = ()
    promised: int = 0
    """Bytes by which the actions add to the datastore."""
    has_volume: bool = True
    """There is a DataVolume, or will be."""
    restart: bool = False
    """The running VM does not see the disk's new size."""


Rule = Callable[[Look], Decision | None]
Refusal = Callable[[Look], tuple[str, str] | None]
"""A reason and a message, if it refuses."""


def decide(look: Look) -> Decision:
    """The first rule that applies decides."""
    return next(decision for rule in RULES if (decision := rule(look)) is not None)


def _unreadable(look: Look) -> Decision | None:
    for found in (look.seen.volume, look.seen.claim):
        if isinstance(found, Unreadable):
            return Decision(look.disk, False, "Unreadable", found.why, phase="Pending")
    return None


def _not_ours(look: Look) -> Decision | None:
    for held in look.held:
        if not disks.is_disk(held.metadata, look.owner.name, look.disk.name):
            if look.disk.claim_name:
                return _not_lent(look, held)
            message = (
                f"{held.resource.kind} {held.metadata.name} exists and is not this disk (it lacks the labels "
                f"{disks.VM} and {disks.DISK}); it is left alone. Rename the disk, or remove that object"
            )
            return Decision(look.disk, False, NOT_OURS, message, phase="Failed")
    return None


def _not_lent(look: Look, held: DataVolume | PersistentVolumeClaim) -> Decision | None:
    """A claim that was not taken over yet: only what its KubeVirt VM uses is, and never another VM's disk."""
    other = held.metadata.label(disks.VM)
    if other:
        message = f"{held.resource.kind} {held.metadata.name} is a disk of VirtualMachine {other}; it is left alone"
        return Decision(look.disk, False, NOT_ADOPTED, message, phase="Failed")
    if not look.lent:
        message = (
            f"claim {look.disk.claim_name} is taken over only together with a KubeVirt VM {look.owner.name} that uses "
            f"it as volume {look.disk.name}, and there is none that may be; kubectl vdc import tells how"
        )
        return Decision(look.disk, False, NOT_ADOPTED, message, phase="Failed")
    return _first((*PLACE_REFUSALS, *(ADOPTION_REFUSALS if look.is_new else ())), look)


def _claim_missing(look: Look) -> Decision | None:
    if look.held or not look.disk.claim_name:
        return None
    message = f"there is no claim {look.disk.claim_name} in namespace {look.owner.namespace}; correct claimName"
    return Decision(look.disk, False, "ClaimMissing", message, phase="Pending")


def _leaving(look: Look) -> Decision | None:
    """The disk of a VM of the same name that was deleted with it, and is not gone yet. A claim goes with the DataVolume
    that owned it, unless somebody else owns it, too."""
    for held in look.held:
        owners = held.metadata.owner_references
        follows = look.volume is None and bool(owners) and all(ref.kind == DataVolume.resource.kind for ref in owners)
        if follows or held.metadata.deletion_timestamp is not None or data_volumes.is_former(held.metadata, look.owner):
            message = f"{held.resource.kind} {held.metadata.name} of before is being deleted; waiting until it is gone"
            return Decision(look.disk, False, "DiskTerminating", message, phase="Pending")
    return None


def _lost(look: Look) -> Decision | None:
    if look.held or not look.made:
        return None
    name = disks.claim(look.owner.name, look.disk.name, look.disk.claim_name)
    message = (
        f"DataVolume {name} was deleted by somebody, with the data. It is not replaced by an empty one silently: "
        "restore it under its name, or remove the disk from spec.disks and add it again to get a new one"
    )
    return Decision(look.disk, False, LOST, message, phase="Failed")


def _refused(look: Look) -> Decision | None:
    """A new disk that its datastore or its source does not allow."""
    return None if look.held else _first(REFUSALS, look)


def _first(refusals: Sequence[Refusal], look: Look) -> Decision | None:
    """The first refusal that applies."""
    for refusal in refusals:
        if said := refusal(look):
            reason, message = said
            return Decision(look.disk, False, reason, message, phase="Pending")
    return None


def _new(look: Look) -> Decision | None:
    if look.held or look.datastore is None:
        return None
    create = data_volumes.create(look.owner, look.disk, look.datastore, look.cdi)
    return Decision(
        look.disk,
        True,
        "Creating",
        "the disk is being created",
        phase="Pending",
        size=look.size,
        actions=(create,),
        promised=look.size,
    )


def _existing(look: Look) -> Decision:
    """A disk that is there: kept in the right hands, grown, and described."""
    older = "" < look.held[0].metadata.creation_timestamp < look.created
    size, reused = look.recorded, older and not look.disk.claim_name
    decision = Decision(
        look.disk,
        True,
        size=size,
        reused=reused,
        actions=_taken_over(look) or data_volumes.hand_over(look.held, look.owner, look.disk),
        has_volume=look.volume is not None,
        restart=bool(look.instance)
        and look.claim is not None
        and look.claim.metadata.annotation(disks.GROWN_UNDER) == look.instance,
        note=_reuse_note(look) if reused else _checksum_note(look),
        promised=size if look.disk.claim_name and look.is_new else 0,
    )
    for stage in STAGES:
        if (changed := stage(look, decision)) is not None:
            return changed
    return decision


def _taken_over(look: Look) -> tuple[Action, ...]:
    """A disk that its KubeVirt VM brought along becomes ours: it has our marks, and KubeVirt's VM does not own it. That
    VM may claim it once more before it notices that it is not to any more; so this is looked at for ever."""
    if not look.disk.claim_name or look.child is None:
        return ()
    freed = [
        data_volumes.release(held, look.child) for held in look.held if disks.is_held_by(held.metadata, look.child)
    ]
    new = [held for held in look.held if not disks.is_disk(held.metadata, look.owner.name, look.disk.name)]
    return (*freed, *(data_volumes.mark(held, look.owner, look.disk, look.volume) for held in new))


RULES: tuple[Rule, ...] = (_unreadable, _not_ours, _leaving, _lost, _claim_missing, _refused, _new, _existing)


# Why a new disk may not be made


def _namespace_unknown(look: Look) -> tuple[str, str] | None:
    if isinstance(look.namespace, Namespace):
        return None
    return "NamespaceUnknown", f"namespace {look.owner.namespace} cannot be read"


def _datastore_unreadable(look: Look) -> tuple[str, str] | None:
    if isinstance(look.seen.datastore, Unreadable):
        return "DatastoreUnreadable", look.seen.datastore.why
    return None


def _datastore_missing(look: Look) -> tuple[str, str] | None:
    if look.seen.datastore is not None:
        return None
    return (
        "DatastoreMissing",
        f"there is no Datastore {look.disk.datastore}; correct the name, or have an administrator create it",
    )


def _datastore_deleting(look: Look) -> tuple[str, str] | None:
    if look.datastore is None or look.datastore.metadata.deletion_timestamp is None:
        return None
    return "DatastoreDeleting", f"Datastore {look.disk.datastore} is being deleted and takes no new disks"


def _datastore_forbidden(look: Look) -> tuple[str, str] | None:
    if look.datastore is None or not isinstance(look.namespace, Namespace):
        return None
    allowed = look.datastore.spec.allowed_namespaces
    if tenancy.allows(allowed, look.namespace.metadata):
        return None
    return (
        "NamespaceNotAllowed",
        tenancy.refusal("Datastore", look.disk.datastore, allowed, look.namespace.metadata),
    )


def _datastore_in_maintenance(look: Look) -> tuple[str, str] | None:
    if look.datastore is None or not look.datastore.spec.maintenance:
        return None
    return (
        "DatastoreInMaintenance",
        f"Datastore {look.disk.datastore} is in maintenance and takes no new disks until its spec.maintenance is false",
    )


def _datastore_full(look: Look) -> tuple[str, str] | None:
    return _beyond_ceiling(look, look.size)


def _datastore_too_full(look: Look) -> tuple[str, str] | None:
    # The claim counts, whatever the DataVolume of its name asks for.
    return _beyond_ceiling(look, max(look.recorded, disks.claimed(look.claim) if look.claim else 0))


def _source_missing(look: Look) -> tuple[str, str] | None:
    kind = {"pvc": "PersistentVolumeClaim", "snapshot": "VolumeSnapshot"}.get(look.disk.source.choice)
    if kind is None or isinstance(look.seen.source, Meta):
        return None
    if isinstance(look.seen.source, Unreadable):
        return "SourceUnreadable", look.seen.source.why
    name = getattr(look.disk.source, look.disk.source.choice).name
    return "SourceMissing", f"there is no {kind} {name} in namespace {look.owner.namespace} to copy from; create it"


PLACE_REFUSALS: tuple[Refusal, ...] = (
    _namespace_unknown,
    _datastore_unreadable,
    _datastore_missing,
    _datastore_deleting,
    _datastore_forbidden,
)
"""Why a disk may not be on its Datastore, whether it is new or taken over."""
REFUSALS: tuple[Refusal, ...] = (*PLACE_REFUSALS, _datastore_in_maintenance, _datastore_full, _source_missing)
ADOPTION_REFUSALS: tuple[Refusal, ...] = (_datastore_in_maintenance, _datastore_too_full)
"""Why one that exists may not come to its Datastore."""


def _beyond_ceiling(look: Look, more: int) -> tuple[str, str] | None:
    """Whether the datastore has no room for so many bytes more."""
    if look.datastore is None or look.datastore.spec.capacity is None:
        return None
    capacity = quantity.whole(look.datastore.spec.capacity)
    if look.seen.provisioned + look.pledged + more <= capacity:
        return None
    return (
        DATASTORE_FULL,
        f"Datastore {look.disk.datastore} has not the needed {quantity.human(more)} left of its "
        f"{look.datastore.spec.capacity}; delete disks that nobody needs (its status.retained names some), or raise "
        "its spec.capacity",
    )


# What happens to a disk that exists

Stage = Callable[[Look, Decision], Decision | None]


def _failed(look: Look, decision: Decision) -> Decision | None:
    if look.volume is None:
        if look.claim is not None and look.claim.status.phase == "Lost":
            return replace(
                decision,
                reason="VolumeLost",
                message="the PersistentVolume behind the claim is gone; restore it",
                phase="Failed",
            )
        return None
    status = look.volume.status
    if status.phase in ("Failed", "Unknown"):
        return replace(
            decision,
            reason="ImportFailed",
            message=trouble(look.volume) or f"DataVolume is {status.phase}",
            phase="Failed",
        )
    return None


def _waiting(look: Look, decision: Decision) -> Decision | None:
    """Storage that is made where the VM first runs."""
    if look.volume is None or look.volume.status.phase not in ("WaitForFirstConsumer", "PendingPopulation"):
        return None
    return replace(decision, reason=FIRST_POWER_ON, message="the disk is made where the VM first runs", phase="Pending")


def _filling(look: Look, decision: Decision) -> Decision | None:
    if look.volume is None:
        if look.claim is not None and look.claim.status.phase == "Bound":
            return None
        return replace(decision, reason="ClaimPending", message="the claim is not bound yet", phase="Pending")
    status = look.volume.status
    if status.phase == "Succeeded" and (look.claim is None or look.claim.status.phase != "Pending"):
        return None  # CDI fills another claim, says Succeeded, and only then hands its volume on to this one
    words = trouble(look.volume)
    if look.disk.source.choice == "blank" or not status.phase.endswith(("InProgress", "Succeeded")):
        message = words or "storage is being provisioned"
        return replace(decision, reason="Provisioning", message=message, phase="Pending")
    message = words or "the source is being copied"
    return replace(decision, reason="Importing", message=message, phase="Importing", progress=progress(look.volume))


def _elsewhere(look: Look, decision: Decision) -> Decision | None:
    there = look.held[0].metadata.label(disks.DATASTORE)
    if there in ("", look.disk.datastore):
        return None
    message = f"the disk is on Datastore {there}, and {look.disk.datastore} is declared; disks stay: declare {there}"
    return replace(decision, reason="DiskElsewhere", message=message)


def _too_small(look: Look, decision: Decision) -> Decision | None:
    if look.size >= look.recorded:
        return None
    has = quantity.human(look.recorded)
    message = f"the disk has {has}, and {look.disk.size} are declared; disks never shrink: declare {has}"
    return replace(decision, reason="DiskLarger", message=message, phase="Ready")


def _growing(look: Look, decision: Decision) -> Decision | None:
    """A larger size is declared than the disk has: its claim asks for more, where that is possible."""
    if look.claim is None or look.size <= look.recorded:
        return None
    claimed = disks.claimed(look.claim)
    target = data_volumes.claim_size(look.size, look.recorded, claimed)
    # Without its datastore nobody knows the ceiling.
    unknown = _datastore_unreadable(look) or _datastore_missing(look)
    if (refusal := unknown or _beyond_ceiling(look, target - claimed)) is not None:
        return replace(decision, reason=refusal[0], message=refusal[1])
    storage_class = look.seen.storage_class
    if isinstance(storage_class, StorageClass) and not storage_class.allow_volume_expansion and target > claimed:
        message = (
            f"storage class {storage_class.metadata.name} cannot expand volumes (allowVolumeExpansion), so the disk "
            f"stays at {quantity.human(look.recorded)}; set the size back, or let an admin change the storage class"
        )
        return replace(decision, reason=EXPANSION_UNSUPPORTED, message=message)
    unseen_by = "" if look.grows_live else look.instance
    return replace(
        decision,
        reason="Expanding",
        message=f"the disk grows to {look.disk.size}",
        phase="Expanding",
        actions=(*decision.actions, data_volumes.grow(look.disk, look.claim, target, unseen_by)),
        promised=target - claimed,
        restart=bool(unseen_by),
    )


def _expanding(look: Look, decision: Decision) -> Decision | None:
    """The claim asks for more than there is."""
    if look.claim is None or look.claim.status.phase != "Bound":
        return None
    status = look.claim.status
    try:
        done = quantity.whole(status.capacity.storage) >= disks.claimed(look.claim)
    except ValueError:
        done = True
    pending = {c.type: c.message for c in status.conditions if c.status == "True"}
    if done or ("FileSystemResizePending" in pending and not look.instance):
        # The rest of a filesystem's growth happens at the next start, and a VM that is off is as it should be.
        return None
    trouble = pending.get("ControllerResizeError") or pending.get("NodeResizeError") or ""
    message = f"the disk grows to {look.disk.size}" + (f": {trouble}" if trouble else "")
    return replace(decision, reason="Expanding", message=message, phase="Expanding")


STAGES: tuple[Stage, ...] = (_failed, _waiting, _filling, _elsewhere, _too_small, _growing, _expanding)


def stage(volume: DataVolume) -> str:
    """Its phase, where a stage of the decision asks for it; "" for all other steps on the way."""
    phase = volume.status.phase
    if phase.endswith("InProgress"):
        return "InProgress"
    return phase if phase in ("Failed", "PendingPopulation", "Succeeded", "Unknown", "WaitForFirstConsumer") else ""


def progress(volume: DataVolume) -> str:
    """How much has been copied, in steps of ten per cent ("30%"), or "" where CDI does not say."""
    done = volume.status.progress.partition(".")[0].rstrip("%")
    return f"{int(done) // 10 * 10}%" if done.isascii() and done.isdigit() else ""


def trouble(volume: DataVolume) -> str:
    """What CDI says about a DataVolume that is in trouble, or "". What it says on the way changes too often."""
    for kind in ("Running", "Bound"):
        condition = volume.status.condition(kind)
        if condition.reason.startswith(("Err", "err")) or condition.reason.endswith(("Failed", "Error", "BackOff")):
            return condition.message[:400]
    return ""


def _reuse_note(look: Look) -> str:
    held = look.held[0].metadata
    source = look.disk.source.choice
    ignored = f"; the declared source ({source}) was not used" if source != "blank" else ""
    return f"retained disk of {quantity.human(look.recorded)} from {held.creation_timestamp} is used again{ignored}"


def _checksum_note(look: Look) -> str:
    http = look.disk.source.http
    if http is None or http.checksum is None or look.cdi is None or data_volumes.checks_sums(look.cdi):
        return ""
    return f"the checksum was not verified: CDI {look.cdi.status.observed_version} cannot (1.65 can)"
